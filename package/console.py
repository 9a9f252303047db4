"""Helpers of the commands: arguments that are checked before the work, errors in one line, progress."""

import importlib.util
import math
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from elysium.processing.boxes_elysium import Box

if TYPE_CHECKING:
    from elysium.processing.structures import TrackingResult
    from elysium.processing.video_io import VideoInfo
    from elysium.tracking.answering import Decoding
    from elysium.tracking.tracker import Tracker


INTERRUPTED = 130
IMAGE_OUTPUTS = (".png", ".jpg", ".jpeg", ".webp")
MAX_IMAGE_SIDES_PX = {".webp": 16383, ".jpg": 65500, ".jpeg": 65500}
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """Print one line to the user on stderr, so that stdout holds results alone; a closed stderr is no error."""
    with suppress(OSError):
        print(" ".join(message.split()), file=sys.stderr)


def print_json(record: Any) -> None:
    """Print JSON on stdout, with escapes for letters that stdout's encoding does not have."""
    from elysium.processing.track_files import json_text

    print(json_text(record, encoding=getattr(sys.stdout, "encoding", None) or "utf-8"))


def explain(error: Exception) -> str:
    """Return an error as one line: the package's own as they are; any other is named as unexpected."""
    if isinstance(error, typer.TyperException):
        return f"Error: {error.format_message()}"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"Error: {error.filename} must be a file that can be used here, got: {error.strerror}; check the path"
    if isinstance(error, ValueError | OSError):
        return f"Error: {error}"
    return (
        f"Error: unexpected {type(error).__name__}: {error}; this should not happen, "
        "please report it with what `elysium --debug …` prints"
    )


def parse_box(text: str) -> Box:
    """Return a typed box: four numbers with commas, in pixels.

    Raises:
        typer.BadParameter: other than four numbers.

    >>> parse_box("307,124,414.5,383")
    (307.0, 124.0, 414.5, 383.0)
    """
    try:
        x1, y1, x2, y2 = (float(number) for number in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"a box must be four numbers x1,y1,x2,y2 in pixels, got {text!r}; type it like 307,124,414,383",
            param_hint="--box",
        ) from None
    return x1, y1, x2, y2


def parse_pairs(texts: Sequence[str], option: str, *, form: str = "NAME=VALUE") -> dict[str, str]:
    """Return typed ``NAME=VALUE`` as a dictionary.

    Raises:
        typer.BadParameter: what is no pair, or a name that comes twice.

    >>> parse_pairs(["split=train", "path=a=b"], "--option")
    {'split': 'train', 'path': 'a=b'}
    """
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise typer.BadParameter(f"{option} must be {form}, got {text!r}", param_hint=option)
        if name in pairs:
            raise typer.BadParameter(f"{option} must have different names, got {name} twice", param_hint=option)
        pairs[name] = value
    return pairs


def parse_size(text: str) -> tuple[int, int]:
    """Return a typed width and height.

    Raises:
        typer.BadParameter: other than two whole numbers.

    >>> parse_size("320x240")
    (320, 240)
    """
    try:
        width, height = (int(number) for number in text.lower().split("x"))
    except ValueError:
        raise typer.BadParameter(
            f"a size must be two whole numbers WxH in pixels, got {text!r}; type it like 320x240", param_hint="--size"
        ) from None
    return width, height


def require(module: str, *, extra: str) -> None:
    """Stop a command whose packages come with an extra that is not installed."""
    if importlib.util.find_spec(module) is None:
        raise ValueError(f"this command needs {module}, got no such package; pip install 'elysium-vlm[{extra}]'")


def check_boxes(texts: Sequence[str], info: "VideoInfo") -> list[Box]:
    """Return the typed boxes, each inside the image.

    Raises:
        typer.BadParameter: not a box, not inside the image, or in shares of it instead of pixels.
    """
    from elysium.processing.pixel_boxes import check_box_xyxy_px

    boxes = [parse_box(text) for text in texts]
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            checked = [check_box_xyxy_px(box, info.width, info.height) for box in boxes]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--box") from None
    for warning in caught:
        say(f"Warning: {warning.message}")
    warnings.filterwarnings("ignore", message="box_xyxy_px .* less than one pixel")  # said; the tracker checks again
    return checked


def check_words(texts: Sequence[str], name: str) -> list[str]:
    """Return texts without blanks at their ends.

    Raises:
        typer.BadParameter: an empty text.
    """
    from elysium.tracking.session import check_text

    try:
        return [check_text(text, name=name.strip("-").lower()) for text in texts]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=name) from None


def check_output(path: Path, suffixes: Sequence[str], *, option: str, source: Path) -> None:
    """Make sure, before the work, that a file can be written; make no folder and leave nothing behind.

    Raises:
        typer.BadParameter: another suffix, a name that cannot be, a folder, the input itself, or a frame of it.
        OutputError: the folder cannot be made or written.
    """
    _check_name(path, option)
    if path.suffix.lower() not in suffixes:
        raise typer.BadParameter(
            f"the file must end in {', '.join(suffixes)}, got {path}; change the suffix", param_hint=option
        )
    if path.is_dir():
        raise typer.BadParameter(f"the output must be a file name, got the folder {path}", param_hint=option)
    if path.exists() and path.samefile(source):
        raise typer.BadParameter(
            f"the output must be another file than the input, got {path} for both; choose another name",
            param_hint=option,
        )
    if source.is_dir() and path.suffix.lower() in IMAGE_OUTPUTS and path.resolve().parent == source.resolve():
        raise typer.BadParameter(
            f"the output must not be a frame of the input, got {path} in the folder of frames {source}; choose "
            "another folder",
            param_hint=option,
        )
    check_folder(path.absolute().parent)


def _check_name(path: Path, option: str) -> None:
    """Check that a file of this name can exist.

    Raises:
        typer.BadParameter: the name, or one of a folder that is to be made, is too long.
    """
    from elysium.processing.atomic_files import longest_name

    limit = longest_name(path.absolute().parent)
    for part in path.parts:
        length = len(os.fsencode(part))
        if length > limit:
            raise typer.BadParameter(
                f"a name must have at most {limit} bytes here, got {length} in {part[:40]}…; choose a shorter name",
                param_hint=option,
            )


def check_image_size(path: Path, info: "VideoInfo") -> None:
    """Make sure, before the work, that the format of an image file holds an image as large as the input.

    Raises:
        typer.BadParameter: it does not.
    """
    limit = MAX_IMAGE_SIDES_PX.get(path.suffix.lower())
    if limit is not None and max(info.width, info.height) > limit:
        raise typer.BadParameter(
            f"an image in {path.suffix} must have at most {limit} pixels a side, got {info.width}x{info.height}; "
            "save it as .png",
            param_hint="--output",
        )


def check_folder(folder: Path) -> None:
    """Make sure that a folder can be written, or made, without making it.

    Raises:
        OutputError: it cannot.
    """
    from elysium.processing.video_io import OutputError

    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise OutputError(
            f"the folder of an output must be writable, got {folder} ({error.strerror}); choose another path"
        ) from error


def check_new_folder(folder: Path) -> None:
    """Make sure that a folder can be made; an empty one may exist.

    Raises:
        typer.BadParameter: something is there already.
        OutputError: it cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise typer.BadParameter(
            f"the output must be a new or empty folder, got {folder} with something in it; choose another name",
            param_hint="OUT",
        )
    check_folder(folder.absolute().parent)


def open_info(path: Path, fps: float | None = None) -> "VideoInfo":
    """Return size and length of a video or image.

    Args:
        path: of the video, image or folder of images.
        fps: frames per second of a folder of images; None leaves the default.

    Raises:
        typer.BadParameter: ``fps`` for a file, or a rate that is none.
        VideoError: it cannot be read.
    """
    from elysium.processing.video_io import VideoReader, probe_video

    if fps is None:
        return probe_video(path)
    if not (math.isfinite(fps) and fps > 0):
        raise typer.BadParameter(
            f"fps must be a number above 0, got {fps}; give frames per second", param_hint="--fps"
        )
    if path.exists() and not path.is_dir():
        own = probe_video(path).fps
        raise typer.BadParameter(
            f"fps is for a folder of images, got {fps:g} for a file, which has its own times ({own:g} frames per "
            "second); leave --fps out",
            param_hint="--fps",
        )
    with VideoReader(path, folder_fps=fps) as reader:
        return reader.info


def quiet_transformers() -> None:
    """Silence the bars and notes of transformers; to be called before it is imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def load_tracker(model: str, device: str | None, decoding: "Decoding" = "fast") -> "Tracker":
    """Load the model of a command, after the cheap checks; a decoding that it cannot do is reported on stderr.

    Raises:
        CheckpointError: no checkpoint that can be loaded.
        ValueError: no such device.
    """
    quiet_transformers()
    with stderr.status(f"Loading {model}"):
        from transformers.utils import logging

        from elysium.tracking.tracker import Tracker

        logging.disable_progress_bar()
        with warnings.catch_warnings(record=True) as caught:
            tracker = Tracker.from_pretrained(model, device=device, decoding=decoding)
    for warning in caught:
        say(f"Warning: {warning.message}")
    if "synthetic" in tracker.trained_on.lower():
        say(f"Note on {model}: {tracker.trained_on}.")
    return tracker


@contextmanager
def said_warnings() -> Iterator[None]:
    """Say Python's warnings of the block as lines on stderr, each once."""
    with warnings.catch_warnings(record=True) as caught:
        try:
            yield
        finally:
            for message in dict.fromkeys(str(warning.message) for warning in caught):
                say(f"Warning: {message}")


@contextmanager
def frame_progress(label: str, total: int | None) -> Iterator["FrameProgress"]:
    """Show a progress bar that counts frames or clips, on stderr if that is a terminal, removed when done."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    off = not stderr.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=stderr, transient=True, disable=off) as progress:
        task = progress.add_task(label, total=total)
        yield FrameProgress(progress, task)


class FrameProgress:
    """Update the bar of `frame_progress`."""

    def __init__(self, progress: Progress, task: object) -> None:
        self._progress, self._task = progress, task

    def __call__(self, done: int, total: int | None = None) -> None:
        """Show how many are done, of a total that may only be known now."""
        self._progress.update(self._task, completed=done, total=total)  # type: ignore[arg-type]


def summary(result: "TrackingResult") -> list[str]:
    """Return one line for each object: frames with a box, frames without by reason, mean score."""
    lines = []
    for track in result.tracks:
        scores = track.scores[track.valid]
        reasons = [reason for reason in track.reasons if reason is not None]
        missing = [f"{reasons.count(reason)} {reason}" for reason in sorted(set(reasons))]
        mean = f", mean score {scores.mean():.2f}" if len(scores) else ""
        lines.append(f"{track.label}: a box in {len(scores)} of {len(track)} frames{mean}")
        if missing:
            lines[-1] += f" ({', '.join(missing)})"
    return lines
