"""Arguments that several commands share, and the flags of `TrackingOptions`."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from elysium.tracking.checkpoints import DEFAULT_MODEL
from elysium.tracking.options import TrackingOptions

TRACKING, RUNNING = "Tracking options", "Running"  # panels of the help

VideoArgument = Annotated[Path, typer.Argument(metavar="VIDEO", help="Video, image, GIF or folder of frames.")]
EitherArgument = Annotated[Path, typer.Argument(metavar="VIDEO_OR_IMAGE", help="Video or image.")]
ImageArgument = Annotated[Path, typer.Argument(metavar="IMAGE", help="Image file.")]
NewFolderArgument = Annotated[Path, typer.Argument(metavar="OUT", help="New folder for the checkpoint.")]
ModelOption = Annotated[
    str,
    typer.Option(
        metavar="DIR_OR_ID",
        help=f"Checkpoint: a folder, a Hub id, or {DEFAULT_MODEL}.",
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Device: cpu, cuda, cuda:1 …. Default: a GPU where there is one.")
]
DecodingOption = Annotated[
    Literal["fast", "reference", "plain"],
    typer.Option(
        metavar="METHOD",
        rich_help_panel=RUNNING,
        help="Decoding method: fast; reference (the same boxes by generate of transformers); plain (no grammar).",
    ),
]
DtypeOption = Annotated[
    Literal["float32", "bfloat16", "float16"] | None,
    typer.Option(metavar="NAME", help="Data type: float32, bfloat16 or float16. Default: that of the weights."),
]
ProgressOption = Annotated[
    Literal["auto", "plain", "none"],
    typer.Option(
        metavar="HOW",
        help="Progress on stderr: auto (a bar on a terminal, else lines), plain (a line at the start and at most "
        "every ten seconds), none.",
        rich_help_panel=RUNNING,
    ),
]
HostOption = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 accepts other machines.")]
PortOption = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for other programs on stdout.")]

_METAVARS = {int: "N", float: "X", bool: None}


class _PlainHelp:
    """Show a flag in the help by its name alone, without ``<bool>``, and paragraphs without the source's line ends."""

    def __init__(self, *args: Any, help: str | None = None, **options: Any) -> None:
        paragraphs = inspect.cleandoc(help or "").split("\n\n")
        text = "\n\n".join(" ".join(each.split()) for each in paragraphs)
        super().__init__(*args, help=text, **options)  # type: ignore[call-arg]

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, with an empty metavar for flags."""
        params = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params


class Command(_PlainHelp, TyperCommand):
    """Hold a command."""


class Group(_PlainHelp, TyperGroup):
    """Hold a group of commands."""


def with_tracking_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command with a flag for each field of `TrackingOptions` that has one, for its parameter ``options``.

    A flag that is not given leaves its field open, so that the checkpoint decides.
    """
    fields = [field for field in dataclasses.fields(TrackingOptions) if field.metadata["flag"]]

    @functools.wraps(command)
    def with_flags(**typed: Any) -> Any:
        given = {field.name: typed.pop(field.name) for field in fields}
        try:
            options = TrackingOptions(**given)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        return command(**typed, options=options)

    signature = inspect.signature(command)
    own = [parameter for name, parameter in signature.parameters.items() if name != "options"]
    with_flags.__signature__ = signature.replace(parameters=[*own, *map(_flag, fields)])  # type: ignore[attr-defined]
    return with_flags


def _flag(field: "dataclasses.Field[Any]") -> inspect.Parameter:
    """Return the flag of a field; its default is None, for which `TrackingOptions` takes the checkpoint's value."""
    name, default = "--" + field.name.replace("_", "-"), field.metadata["default"]
    text = f"{field.metadata['help']} Default: {'off' if default is False else f'{default:g}'}, or the checkpoint's."
    option = typer.Option(name, metavar=_METAVARS[field.type], help=text, rich_help_panel=TRACKING)  # type: ignore[index]
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(field.name, kind, default=None, annotation=Annotated[field.type | None, option])  # type: ignore[operator]
