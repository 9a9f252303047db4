"""Command line of Elysium.

Its commands: track, ground, describe, ask, serve, demo, synth, data, curate, train, evaluate, convert, assemble,
publish.

Importing this module loads neither torch nor transformers; commands import what they need when they run.

Exit codes: 0 done, 1 something could not be read, loaded or written, 2 a mistyped argument, 130 interrupted by Ctrl-C,
143 by SIGTERM, 129 by SIGHUP. Errors are one line on stderr that says the rule, the value and the remedy; results go
to stdout.
"""

import io
import math
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from elysium import __version__
from elysium.tracking.checkpoints import DEFAULT_MODEL

from .arguments import (
    Command,
    DeviceOption,
    EitherArgument,
    Group,
    ImageArgument,
    JsonOption,
    ModelOption,
    with_tracking_flags,
)
from .console import (
    INTERRUPTED,
    check_boxes,
    check_new_folder,
    check_output,
    check_words,
    explain,
    frame_progress,
    load_tracker,
    open_info,
    print_json,
    require,
    said_warnings,
    say,
)
from .convert_command import assemble, convert
from .curate_command import curate
from .data_command import data_app
from .demo_command import demo
from .evaluate_command import evaluate
from .interruptions import terminations_interrupt
from .publish_command import publish
from .serve_command import serve
from .track_command import track
from .train_command import FIELDS, train

app = typer.Typer(
    name="elysium",
    help="Track, ground and describe objects in videos and images, from a text prompt or a box.",
    add_completion=False,
    pretty_exceptions_enable=False,
    cls=Group,
)
# Panels of the help.
use, prepare, weights = (
    partial(app.command, cls=Command, rich_help_panel=panel)
    for panel in ("Use a model", "Data, training, evaluation", "Checkpoints and the Hub")
)


def _show_version(wanted: bool) -> None:
    """Print name and version and end, where that is wanted."""
    if wanted:
        print(f"elysium-vlm {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show Python's traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the options of all commands; `run` reads --debug from the arguments: errors may come before this."""


use()(with_tracking_flags(track))


@use()
def ground(
    image: ImageArgument,
    text: Annotated[list[str], typer.Option(metavar="TEXT", help="Text prompt of an object; repeat it for several.")],
    model: ModelOption = DEFAULT_MODEL,
    output: Annotated[Path | None, typer.Option(metavar="OUT.png", help="Annotated image to write.")] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Locate objects in an image from text prompts."""
    open_info(image)
    words = check_words(text, "--text")
    if output is not None:
        check_output(output, (".png",), option="--output", source=image)
    tracker = load_tracker(model, device)
    groundings = tracker.ground_many([(image, phrase) for phrase in words])
    if output is not None:
        _draw_groundings(image, groundings, output)
    if as_json:
        record = {"image": str(image), "model": model, "groundings": [found.to_dict() for found in groundings]}
        print_json(record)
        return
    for found in groundings:
        if found.box_xyxy_px is None:
            print(f"{found.text}: none ({found.reason})")
        else:
            score = "" if math.isnan(found.score) else f" (score {found.score:.2f})"
            print(f"{found.text}: {','.join(f'{value:g}' for value in found.box_xyxy_px)}{score}")


@use()
def describe(
    video: EitherArgument,
    box: Annotated[
        str, typer.Option(metavar="x1,y1,x2,y2", help="Box of the object in pixels, of a video in frame 0.")
    ],
    model: ModelOption = DEFAULT_MODEL,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Describe the object in a box of an image or video."""
    (box_xyxy_px,) = check_boxes([box], open_info(video))
    description = load_tracker(model, device).describe(video, box_xyxy_px)
    record = {"video": str(video), "model": model, "box_xyxy_px": box_xyxy_px, "description": description}
    print_json(record) if as_json else print(description)


@use()
def ask(
    video: EitherArgument,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="Question to answer.")],
    model: ModelOption = DEFAULT_MODEL,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a question about an image or video."""
    open_info(video)
    (question,) = check_words([question], "QUESTION")
    answer = load_tracker(model, device).ask(video, question)
    record = {"video": str(video), "model": model, "question": question, "answer": answer}
    print_json(record) if as_json else print(answer)


use()(serve)
use()(demo)


@prepare()
def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder for the clips.")],
    count: Annotated[int, typer.Option(min=1, metavar="N", help="Number of clips.")] = 100,
    seed: Annotated[
        int, typer.Option(min=0, metavar="S", help="Random seed; the same seed gives the same clips.")
    ] = 0,
    frames: Annotated[int, typer.Option(min=1, metavar="T", help="Number of frames in a clip.")] = 16,
    size: Annotated[str, typer.Option(metavar="WxH", help="Size of a frame in pixels.")] = "320x240",
    fps: Annotated[float, typer.Option(min=0.1, help="Frames per second.")] = 10.0,
    form: Annotated[
        Literal["rows", "trl"],
        typer.Option(
            "--as", help="Format: rows (JSONL, one per object) or trl (conversations for `trl sft`, Parquet)."
        ),
    ] = "rows",
    embed: Annotated[
        bool,
        typer.Option(
            "--embed", help="Store the videos inside the files of --as trl, so that the folder can be moved."
        ),
    ] = False,
) -> None:
    """Write synthetic clips with exact boxes: mp4 files and their frames, and samples or conversations about them.

    Needs the extra `synth`, with --as trl `train`.
    """
    width, by, height = size.lower().partition("x")
    if not (by and width.isdecimal() and height.isdecimal()):
        raise typer.BadParameter(
            f"a size must be two whole numbers WxH in pixels, got {size!r}; type it like 320x240", param_hint="--size"
        )
    if embed and form != "trl":
        raise typer.BadParameter("--embed goes with --as trl alone; leave it out", param_hint="--embed")
    check_new_folder(out)
    require("cv2", extra="synth")
    from elysium.processing.atomic_files import atomic_folder
    from elysium.training.synthetic.dataset import ClipShape, write_dataset

    shape = ClipShape(num_frames=frames, width=int(width), height=int(height), fps=fps)
    write: Callable[..., int] = write_dataset
    if form == "trl":
        require("datasets", extra="train")
        from elysium.training.synthetic.trl_dataset import write_trl_dataset

        write = partial(write_trl_dataset, embed=embed, home=out)
    with atomic_folder(out) as unfinished, frame_progress("Writing clips", count) as progress:
        num_rows = write(unfinished, count=count, seed=seed, shape=shape, progress=progress)
    print(f"Clips: {out} ({count} videos, {num_rows} {'conversations' if form == 'trl' else 'rows'})")


app.add_typer(data_app, name="data", rich_help_panel="Data, training, evaluation")
prepare()(curate)
prepare(context_settings=FIELDS)(train)
prepare()(with_tracking_flags(evaluate))
weights()(convert)
weights()(assemble)
weights()(publish)


def _draw_groundings(image: Path, groundings: list[Any], output: Path) -> None:
    """Save the image with the boxes that were found."""
    from PIL import Image

    from elysium.processing.atomic_files import atomic_path
    from elysium.tracking.streams import read_image
    from elysium.visualization.annotate import annotate_frame

    boxes, labels = [found.box_xyxy_px for found in groundings], [found.text for found in groundings]
    scores = [found.score if found.valid else None for found in groundings]
    with said_warnings():
        drawn = annotate_frame(read_image(image), boxes, labels, scores=scores)
    with atomic_path(output) as temporary:
        Image.fromarray(drawn).save(temporary)


def run(args: list[str]) -> int:
    """Run a command line and return its exit code; errors are printed as one line."""
    _print_with_replacements()
    try:
        with terminations_interrupt() as came:
            code = int(app(args=args or ["--help"], prog_name="elysium", standalone_mode=False) or 0)
            if sys.stdout is not None:
                sys.stdout.flush()
        return 128 + came[0] if came and code == INTERRUPTED else code
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:  # as typer ends where nobody reads what is printed, and trainers with a message
        if isinstance(end.code, str):
            say(end.code)
            return 1
        return int(end.code or 0)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python flushes once more at its end
        return 1
    except Exception as error:
        if "--debug" in args:
            traceback.print_exc()
        say(explain(error))
        return error.exit_code if isinstance(error, typer.TyperException) else 1


def _print_with_replacements() -> None:
    """Print what a terminal has no letters for as escapes, such as Chinese on one of cp1252."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run the command line of this process."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
