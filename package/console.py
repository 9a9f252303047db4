"""Helpers of the commands: arguments that are checked before the work, errors in one line, progress."""

import gc
import importlib.util
import math
import os
import re
import sys
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from elysium.processing.boxes_elysium import Box

if TYPE_CHECKING:
    from elysium.processing.video_io import VideoInfo
    from elysium.tracking.answering import Decoding
    from elysium.tracking.tracker import Tracker


ProgressMode = Literal["auto", "plain", "none"]

INTERRUPTED = 130
DEVICES = ("cpu", "cuda", "mps", "xpu", "hpu", "npu", "mlu", "musa", "sdaa")  # that transformers knows
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


def require(module: str, *, extra: str) -> None:
    """Stop a command whose packages come with an extra that is not installed."""
    if importlib.util.find_spec(module) is None:
        from elysium.processing.extras import install_command

        raise ValueError(f"this command needs {module}, got no such package; {install_command(extra)}")


def check_boxes(texts: Sequence[str], info: "VideoInfo") -> list[Box]:
    """Return the typed boxes, each inside the image.

    Raises:
        typer.BadParameter: not four numbers, not inside the image, or in shares of it instead of pixels.
    """
    from elysium.processing.pixel_boxes import check_box_xyxy_px

    checked = []
    try:
        with said_warnings():
            warnings.simplefilter("always")
            for text in texts:
                numbers = text.split(",")
                if len(numbers) != 4 or not all(map(_is_number, numbers)):
                    rule = f"a box must be four numbers x1,y1,x2,y2 in pixels, got {text!r}"
                    raise ValueError(f"{rule}; type it like 307,124,414,383")
                checked.append(check_box_xyxy_px(tuple(map(float, numbers)), info.width, info.height))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--box") from None
    warnings.filterwarnings("ignore", message="box_xyxy_px .* less than one pixel")  # said; the tracker checks again
    return checked


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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
    from elysium.processing.atomic_files import longest_name

    limit = longest_name(path.absolute().parent)
    longest = max(path.parts, key=lambda part: len(os.fsencode(part)))
    fault = None
    if (length := len(os.fsencode(longest))) > limit:
        fault = f"a name must have at most {limit} bytes here, got {length} in {longest[:40]}…; choose a shorter name"
    elif path.suffix.lower() not in suffixes:
        fault = f"the file must end in {', '.join(suffixes)}, got {path}; change the suffix"
    elif path.is_dir():
        fault = f"the output must be a file name, got the folder {path}; add a file name"
    elif path.exists() and path.samefile(source):
        fault = f"the output must be another file than the input, got {path} for both; choose another name"
    elif source.is_dir() and path.suffix.lower() == ".png" and path.resolve().parent == source.resolve():
        fault = f"the output must not be a frame of the input, got {path} in {source}; choose another folder"
    if fault is not None:
        raise typer.BadParameter(fault, param_hint=option)
    check_folder(path.absolute().parent)


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
            f"fps must be a number above 0, got {fps}; type frames per second", param_hint="--fps"
        )
    if path.is_file():
        rule = f"fps is for a folder of images, got {fps:g} for a file, which has its own times"
        own = f"{probe_video(path).fps:g} frames per second"
        raise typer.BadParameter(f"{rule} ({own}); leave --fps out", param_hint="--fps")
    with VideoReader(path, folder_fps=fps) as reader:
        return reader.info


def quiet_transformers() -> None:
    """Silence the bars and notes of transformers; to be called before it is imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def check_model(model: str, device: str | None) -> None:
    """Check the name of a model and of a device, before torch is imported.

    Raises:
        CheckpointError: no checkpoint.
        ValueError: no kind of device.
    """
    from elysium.tracking.checkpoints import check_checkpoint

    if device is not None and not re.fullmatch(rf"({'|'.join(DEVICES)})(:\d+)?", device):
        raise ValueError(f"device must be cpu, cuda, cuda:1 or the like, got {device!r}; leave it out")
    check_checkpoint(model)


def load_tracker(model: str, device: str | None, decoding: "Decoding" = "fast") -> "Tracker":
    """Load the model of a command, after the cheap checks; a decoding that it cannot do is reported on stderr.

    Raises:
        CheckpointError: no checkpoint that can be loaded.
        ValueError: no such device.
    """
    check_model(model, device)
    quiet_transformers()
    with stderr.status(f"Loading {model}"), collection_paused():
        from transformers.utils import logging

        from elysium.tracking.tracker import Tracker

        logging.disable_progress_bar()
        with said_warnings():
            tracker = Tracker.from_pretrained(model, device=device, decoding=decoding)
    if "synthetic" in tracker.trained_on.lower():
        say(f"Note on {model}: {tracker.trained_on}.")
    return tracker


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause garbage collection while torch and transformers are first imported; then exempt what they made from it.

    The collector would go through their hundreds of thousands of lasting objects again and again (docs/speed.md).
    """
    if "transformers" in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


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
def frame_progress(
    label: str, total: int | None, *, shown: ProgressMode = "auto", unit: str = ""
) -> Iterator[Callable[..., None]]:
    """Show on stderr how far work is, its rate and the time left: a bar that is removed when done, or lines.

    Args:
        label: name of the work.
        total: frames or clips, None where their number is not known.
        shown: "auto" is a bar on a terminal and lines elsewhere; "plain" is lines; "none" is nothing.
        unit: what is counted, in the plural.

    Yields:
        A function that takes how many frames or clips are done, and a total that may only be known now.
    """
    if shown == "plain" or (shown == "auto" and not stderr.is_terminal):
        yield ProgressLines(label, total, unit).update
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    rest = (_RateColumn(unit), TimeRemainingColumn())
    with Progress(*columns, *rest, console=stderr, transient=True, disable=shown == "none") as progress:
        task = progress.add_task(label, total=total)
        yield lambda done, total=None: progress.update(task, completed=done, total=total)


class _RateColumn(ProgressColumn):
    """Show how many frames or clips are done in a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Return the rate of the last half minute."""
        return Text("" if task.speed is None else rate_text(task.speed, self._unit))


def rate_text(per_s: float, unit: str) -> str:
    """Return a rate in words.

    >>> rate_text(3.14159, "frames"), rate_text(120, "")
    ('3.1 frames/s', '120/s')
    """
    number = f"{per_s:.2g}" if per_s < 1 else f"{per_s:.1f}" if per_s < 10 else f"{per_s:.0f}"
    return f"{number} {unit}/s".replace(" /s", "/s")


class ProgressLines:
    """Print a line at the start, where the total is known, and at most every ten seconds, for logs.

    Rate and time left are measured from the first update on: what is done first takes longer (warm-up, the search by
    text).

    Args:
        label: name of the work.
        total: frames or clips, None where their number is not known.
        unit: what is counted, in the plural.
    """

    EVERY_S, WINDOW_S = 10.0, 30.0

    def __init__(self, label: str, total: int | None, unit: str) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._recent: deque[tuple[float, int]] = deque()
        self._said_s = monotonic()
        if total is not None:
            say(self._line(0))

    def update(self, done: int, total: int | None = None) -> None:
        """Take how many are done, and print a line if it is time."""
        now, self._total = monotonic(), total or self._total
        if done == 0:
            return
        self._recent.append((now, done))
        if now - self._said_s < self.EVERY_S:
            return
        while len(self._recent) > 2 and now - self._recent[1][0] >= self.WINDOW_S:
            self._recent.popleft()
        (since, before), self._said_s = self._recent[0], now
        line = self._line(done)
        if done > before:
            rate = (done - before) / (now - since)
            line += f", {rate_text(rate, self._unit)}"
            if self._total is not None:
                line += f", {timedelta(seconds=round((self._total - done) / rate))} left"
        say(line)

    def _line(self, done: int) -> str:
        of = "" if self._total is None else f" of {self._total}"
        return f"{self._label}: {done}{of}{self._unit and ' ' + self._unit}"
