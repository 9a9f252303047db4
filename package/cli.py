"""The command line: ``elysium track | ground | describe | ask | evaluate | serve | demo | synth | data |
curate | convert | assemble | publish``.

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

from .arguments import DeviceOption, EitherArgument, ImageArgument, JsonOption, ModelOption, with_tracking_flags
from .console import (
    IMAGE_OUTPUTS,
    INTERRUPTED,
    check_boxes,
    check_image_size,
    check_new_folder,
    check_output,
    check_words,
    explain,
    frame_progress,
    load_tracker,
    open_info,
    parse_size,
    print_json,
    require,
    said_warnings,
    say,
)
from .convert_command import run_assemble, run_convert
from .curate_command import curate
from .data_command import run_data_check
from .demo_command import run_demo
from .evaluate_command import evaluate
from .interruptions import terminations_interrupt
from .publish_command import run_publish
from .serve_command import KEY_VARIABLE, run_serve
from .track_command import track

app = typer.Typer(
    name="elysium",
    help="Point at an object in a video, by words or by a box, and get its box in every frame.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

data_app = typer.Typer(help="Look at data before training with it.")
app.add_typer(data_app, name="data")


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show Python's traceback of an error.")] = False,
) -> None:
    """Options of all commands; `run` reads --debug from the arguments, since errors may come before this."""


app.command()(with_tracking_flags(track))


@app.command()
def ground(
    image: ImageArgument,
    text: Annotated[list[str], typer.Option(metavar="WORDS", help="An object in words; once for each.")],
    model: ModelOption = "elysium-tiny",
    output: Annotated[Path | None, typer.Option(metavar="OUT.png", help="Annotated picture.")] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find what words point at in a picture."""
    info = open_info(image)
    words = check_words(text, "--text")
    if output is not None:
        check_output(output, IMAGE_OUTPUTS, option="--output", source=image)
        check_image_size(output, info)
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


@app.command()
def describe(
    video: EitherArgument,
    box: Annotated[str, typer.Option(metavar="x1,y1,x2,y2", help="The object's box, of a video in frame 1, pixels.")],
    model: ModelOption = "elysium-tiny",
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is in a box of a picture or video."""
    (box_xyxy_px,) = check_boxes([box], open_info(video))
    description = load_tracker(model, device).describe(video, box_xyxy_px)
    record = {"video": str(video), "model": model, "box_xyxy_px": box_xyxy_px, "description": description}
    print_json(record) if as_json else print(description)


@app.command()
def ask(
    video: EitherArgument,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="In words.")],
    model: ModelOption = "elysium-tiny",
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a question about a picture or video."""
    open_info(video)
    (question,) = check_words([question], "QUESTION")
    answer = load_tracker(model, device).ask(video, question)
    record = {"video": str(video), "model": model, "question": question, "answer": answer}
    print_json(record) if as_json else print(answer)


app.command()(with_tracking_flags(evaluate))


@app.command()
def serve(
    model: ModelOption = "elysium-tiny",
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines ask.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 8000,
    num_frames: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=256,
            metavar="T",
            help="Frames sampled evenly from a video where a request does not say. By default what the checkpoint "
            "was trained on.",
        ),
    ] = None,
    cors: Annotated[bool, typer.Option("--cors", help="Let web pages of other origins ask.")] = False,
    allow_path: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Folder whose files requests may name by path; once for each. By default none.",
        ),
    ] = None,
    allow_url: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="Host whose images and videos requests may name by address (HOST or HOST:PORT); once for each. By "
            "default none; private and loopback addresses are never fetched.",
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
    """Answer chat requests with images and videos over HTTP, in the form of OpenAI's API."""
    run_serve(
        model,
        host=host,
        port=port,
        device=device,
        num_frames=num_frames,
        cors=cors,
        allow_paths=allow_path or [],
        allow_urls=allow_url or [],
        api_key=api_key,
    )


@app.command()
def demo(
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR_OR_ID", help="Checkpoint to choose from; once for each. By default elysium-tiny."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines visit.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 7860,
    browser: Annotated[bool, typer.Option("--browser", help="Open the page.")] = False,
    device: DeviceOption = None,
) -> None:
    """Open the web page to track, ground, describe and ask with the mouse, on this machine."""
    run_demo(model or ["elysium-tiny"], host=host, port=port, device=device, open_browser=browser)


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make.")],
    count: Annotated[int, typer.Option(min=1, metavar="N", help="How many clips.")] = 100,
    seed: Annotated[int, typer.Option(min=0, metavar="S", help="The same seed gives the same clips.")] = 0,
    frames: Annotated[int, typer.Option(min=1, metavar="T", help="Frames of a clip.")] = 16,
    size: Annotated[str, typer.Option(metavar="WxH", help="Pixels of a frame.")] = "320x240",
    fps: Annotated[float, typer.Option(min=0.1, help="Frames per second.")] = 10.0,
    form: Annotated[
        Literal["rows", "trl"],
        typer.Option("--as", help="rows: JSONL, one for each object; trl: conversations for `trl sft` (Parquet)."),
    ] = "rows",
    embed: Annotated[
        bool, typer.Option("--embed", help="With --as trl: videos inside the rows, for a folder that is to be moved.")
    ] = False,
    bank: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="Cut-outs with names instead of shapes; fetch_sprites writes it."),
    ] = None,
    part: Annotated[
        Literal["train", "seen_classes", "held_out_classes"], typer.Option(help="With --bank: which of its cut-outs.")
    ] = "train",
) -> None:
    """Write synthetic clips with exact boxes: mp4 files and their frames, and rows or conversations about them."""
    width, height = parse_size(size)
    if embed and form != "trl":
        raise typer.BadParameter("--embed goes with --as trl alone; leave it out", param_hint="--embed")
    check_new_folder(out)
    require("cv2", extra="train")
    from elysium.processing.atomic_files import atomic_folder
    from elysium.training.synthetic.dataset import ClipShape, write_dataset

    shape = ClipShape(num_frames=frames, width=width, height=height, fps=fps)
    world = None
    if bank is not None:
        from elysium.training.synthetic.sprite_bank import SpriteBank
        from elysium.training.synthetic.sprite_world import SpriteWorld

        world = SpriteWorld(SpriteBank.load(bank), seed, part=part)
    write: Callable[..., int] = write_dataset
    if form == "trl":
        require("datasets", extra="train")
        from elysium.training.synthetic.trl_dataset import write_trl_dataset

        write = partial(write_trl_dataset, embed=embed, home=out)
    with atomic_folder(out) as unfinished, frame_progress("Writing clips", count) as progress:
        num_rows = write(
            unfinished, count=count, seed=seed, shape=shape, world=world, progress=lambda done, _: progress(done)
        )
    print(f"Clips: {out} ({count} videos, {num_rows} {'conversations' if form == 'trl' else 'rows'})")


app.command()(curate)


@app.command()
def convert(
    released: Annotated[Path, typer.Argument(metavar="RELEASED", help="Folder of the public release.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder for the checkpoint.")],
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Its language model's tokenizer, where RELEASED has none.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(metavar="NAME", help="float32, bfloat16 or float16; RELEASED's own by default.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Convert weights of the public code's release, shard by shard."""
    run_convert(released, out, tokenizer=tokenizer, dtype=dtype, as_json=as_json)


@app.command()
def assemble(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder for the checkpoint.")],
    vision: Annotated[str, typer.Option(metavar="DIR_OR_ID", help="CLIP, SigLIP, SigLIP 2, DINOv2 or DINOv3.")],
    llm: Annotated[str, typer.Option(metavar="DIR_OR_ID", help="Causal language model with its tokenizer.")],
    kept: Annotated[
        int | None, typer.Option(metavar="K", help="Tokens kept per frame; 0.1875 of the patches by default.", min=1)
    ] = None,
    projector: Annotated[str, typer.Option(metavar="NAME", help="mlp2x_gelu, linear or identity.")] = "mlp2x_gelu",
    dtype: Annotated[
        str | None, typer.Option(metavar="NAME", help="float32, bfloat16 or float16; the language model's by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the new selector and projector.")] = 0,
) -> None:
    """Join a pretrained vision tower and language model to a fresh Elysium, ready to be trained."""
    run_assemble(vision, llm, out, kept=kept, projector=projector, dtype=dtype, seed=seed)


@app.command()
def publish(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A checkpoint, a data set or a Space.")],
    repo_id: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the Hub.")],
    kind: Annotated[
        Literal["model", "dataset", "space"] | None,
        typer.Option("--type", help="Of the repository; by default what the folder holds."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="A new repository that only you can see.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go; no network.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check that a folder is complete and safe, and upload it to the Hub; again, it goes on where it stopped."""
    run_publish(folder, repo_id, kind=kind, private=private, dry_run=dry_run, as_json=as_json)


@data_app.command("check")
def data_check(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The data, in the layout of its source.")],
    source: Annotated[
        str, typer.Option(metavar="NAME", help="folder (videos and boxes of your own), elysium-track, lasot …")
    ] = "folder",
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of the source, such as split=train.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="OVERLAYS", help="Folder for a picture of some rows and a summary.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N rows.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Read every row of a data set: what it holds, what is broken, and some of its boxes drawn.

    The exit code is 1 where a row cannot be read.
    """
    return run_data_check(folder, source=source, options=option or [], output=output, limit=limit, as_json=as_json)


def _draw_groundings(image: Path, groundings: list[Any], output: Path) -> None:
    """The picture with the boxes that were found."""
    from PIL import Image

    from elysium.processing.atomic_files import atomic_path
    from elysium.tracking.streams import load_picture
    from elysium.visualization.annotate import annotate_frame

    boxes, labels = [found.box_xyxy_px for found in groundings], [found.text for found in groundings]
    scores = [found.score if found.valid else None for found in groundings]
    with said_warnings():
        picture = annotate_frame(load_picture(image), boxes, labels, scores=scores)
    with atomic_path(output) as temporary:
        Image.fromarray(picture).save(temporary)


def run(args: list[str]) -> int:
    """Runs a command line and returns its exit code; errors are printed as one line."""
    _print_with_replacements()
    try:
        with terminations_interrupt() as came:
            code = int(app(args=args or ["--help"], prog_name="elysium", standalone_mode=False) or 0)
            if sys.stdout is not None:
                sys.stdout.flush()
        return 128 + came[0] if came and code == INTERRUPTED else code
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:  # as typer ends where nobody reads what is printed
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
    """What the console script calls."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
