"""`elysium serve`: answer chat requests with images and videos over HTTP, in the form of OpenAI's API."""

import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elysium.tracking.checkpoints import DEFAULT_MODEL

from .arguments import DeviceOption, HostOption, ModelOption, PortOption
from .console import load_tracker, require, say

if TYPE_CHECKING:
    from fastapi import FastAPI

    from elysium.tracking.tracker import Tracker

KEY_VARIABLE = "ELYSIUM_API_KEY"
# Python's threads hand over after 5 ms by default; the event loop waits for its turn several times in each answer.
SWITCH_S = 0.001


def serve(
    model: ModelOption = DEFAULT_MODEL,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    num_frames: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=256,
            metavar="T",
            help="Number of frames sampled evenly from a video, unless a request sets it. Default: the checkpoint's.",
        ),
    ] = None,
    cors: Annotated[bool, typer.Option("--cors", help="Accept requests from web pages of other origins.")] = False,
    allow_path: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Folder whose files requests may name by path; repeat it for several. Default: none.",
        ),
    ] = None,
    allow_url: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="Host whose images and videos requests may name by address (HOST or HOST:PORT); repeat it for "
            "several. Private and loopback addresses are never fetched. Default: none.",
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar=KEY_VARIABLE, metavar="KEY", help="Key that requests must send as 'Authorization: Bearer'."
        ),
    ] = None,
    device: DeviceOption = None,
) -> None:
    """Answer chat requests with images and videos over HTTP, in the form of OpenAI's API.

    Needs the extra `serve`.
    """
    for module in ("fastapi", "uvicorn"):
        require(module, extra="serve")
    _check_port(host, port)
    if api_key is not None and not (api_key and api_key.isascii() and api_key.isprintable()):
        raise typer.BadParameter("an API key must be printable ASCII, got something else", param_hint="--api-key")
    import uvicorn

    app = build_app(
        load_tracker(model, device),
        model,
        num_frames=num_frames,
        cors=cors,
        allow_paths=tuple(allow_path or ()),
        allow_urls=tuple(allow_url or ()),
        api_key=api_key,
    )
    sys.setswitchinterval(SWITCH_S)
    say(f"Answering for {model} at http://{host}:{port}/v1 (stop with Ctrl+C)")
    uvicorn.run(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=5)


def _check_port(host: str, port: int) -> None:
    """Check that the address is free, before a large model is loaded for nothing.

    Raises:
        typer.BadParameter: it is not, or not of this machine.
    """
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise typer.BadParameter(
            f"host and port must be free on this machine, got {host}:{port} ({error.strerror}); choose others",
            param_hint="--port",
        ) from error


def build_app(tracker: "Tracker", name: str, **options: Any) -> "FastAPI":
    """Return the application; the options are those of `elysium.serving.chat_app.build_app`."""
    from elysium.serving.chat_app import build_app as build

    return build(tracker, name, **options)
