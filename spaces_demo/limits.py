"""Limits of the page and the checks of a visitor's inputs."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from elysium.processing.boxes_elysium import Box
from elysium.processing.pixel_boxes import check_box_xyxy_px
from elysium.processing.untrusted_media import check_untrusted
from elysium.processing.video_io import VideoInfo

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_BOXES = TypeAdapter(list[Annotated[list[float], Field(min_length=4, max_length=4)]])


class RefusedError(ValueError):
    """An input cannot be used; the message is for the visitor and contains no path."""


@dataclass(frozen=True)
class Limits:
    """Maximum values for one request and for the server; the defaults are those of a public page.

    Args:
        file_mb: size of an uploaded file in MB (10^6 bytes).
        video_frames: number of frames of a video.
        video_s: length of a video in seconds.
        video_pixels: width times height of a video.
        image_pixels: width times height of an image.
        objects: number of objects tracked at once.
        prompt: characters of the text prompt for one object.
        question: characters of a question.
        compute_s: seconds of model time for one request.
        waiting: requests waiting in the queue.
        waiting_of_session: waiting requests of one visitor.
        waiting_of_address: waiting requests from one network address, which several visitors may share.
        listen_s: seconds after which a request without a listener is dropped.
        kept_mb: total size of uploads and results on disk in MB.
        kept_s: seconds for which an upload or result is kept.
    """

    file_mb: int = 50
    video_frames: int = 900
    video_s: float = 30.0
    video_pixels: int = 1920 * 1920
    image_pixels: int = 4096 * 4096
    objects: int = 5
    prompt: int = 120
    question: int = 300
    compute_s: int = 60
    waiting: int = 40
    waiting_of_session: int = 5
    waiting_of_address: int = 20
    listen_s: float = 10.0
    kept_mb: int = 2000
    kept_s: int = 1800

    @property
    def public(self) -> bool:
        """Return whether visitors have to know the limits."""
        return self != OWN_MACHINE

    def track_sentence(self) -> str:
        """Return what becomes of a track that takes too long."""
        return f"Tracking ends after {self.compute_s} s of computation, with the frames finished by then."

    def sentence(self) -> str:
        """Return the limits as text for visitors."""
        return (
            f"Files: at most {self.file_mb} MB. Videos: {self.video_s:g} s, {self.video_frames} frames, "
            f"{self.video_pixels / 1e6:.1f} megapixels. Images: {self.image_pixels / 1e6:.1f} megapixels. Up to "
            f"{self.objects} objects, text prompts of {self.prompt} and questions of {self.question} characters. "
            f"A request gets {self.compute_s} s of computation. Files are removed after {self.kept_s // 60} minutes."
        )


_NONE = 10**9  # more than any file has
OWN_MACHINE = Limits(
    file_mb=_NONE,
    video_frames=_NONE,
    video_s=_NONE,
    video_pixels=_NONE,
    image_pixels=_NONE,
    compute_s=_NONE,
    kept_mb=_NONE,
    kept_s=24 * 3600,
)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Replace the path by the file's name in the errors of the block.

    Raises:
        RefusedError: for every `ValueError` of the block, including `VideoError`.
    """
    try:
        yield
    except RefusedError:
        raise
    except ValueError as error:
        raise RefusedError(str(error).replace(str(path), path.name)) from error


def check_media(video: str | None, image: str | None, limits: Limits) -> tuple[Path, VideoInfo]:
    """Return the file of a request, with its size and length.

    Raises:
        RefusedError: no file, both kinds, a file of another kind, or one beyond the limits.
    """
    if video and image:
        raise RefusedError("there must be one video or image, got both; clear one of them")
    if not (given := video or image):
        raise RefusedError("there must be a video or an image, got none; upload one, or choose an example")
    path = Path(given)
    if not path.is_file():
        raise RefusedError(f"a file must be on the server, got {path.name}, which was removed; upload it again")
    max_pixels = limits.video_pixels if video else limits.image_pixels
    with naming(path):
        info = check_untrusted(path, is_video=bool(video), max_pixels=max_pixels)
    for unit, most, value in (
        ("frames", limits.video_frames, info.num_frames),
        ("s", limits.video_s, info.duration_s),
    ):
        if (value or 0) > most:
            raise RefusedError(f"a video must have at most {most:g} {unit}, got {value:.5g} in {path.name}; cut it")
    return path, info


def check_prompts(text: str | None, limits: Limits) -> list[str]:
    """Split text into one text prompt per line.

    Raises:
        RefusedError: too many lines, or a line that is too long.

    >>> check_prompts("the red cross\\n\\n the yellow ring ", Limits())
    ['the red cross', 'the yellow ring']
    """
    text = text or ""
    _check_length(text, limits.objects * (limits.prompt + 2), "the text prompts")
    lines = [line.strip() for line in _CONTROL.sub(" ", text).split("\n") if line.strip()]
    if len(lines) > limits.objects:
        raise RefusedError(f"there must be at most {limits.objects} objects, got {len(lines)} lines; leave some out")
    for line in lines:
        _check_length(line, limits.prompt, "a text prompt")
    return lines


def check_targets(prompts: list[str], boxes: list[Box]) -> None:
    """Check that text prompts and boxes name the objects to track.

    Raises:
        RefusedError: there is none of both, or their numbers differ.
    """
    if not prompts and not boxes:
        raise RefusedError("there must be an object to track, got none; draw a box, or type a text prompt")
    if prompts and boxes and len(prompts) != len(boxes):
        raise RefusedError(
            "text prompts and boxes given together must describe the same objects, got "
            f"{len(prompts)} lines and {len(boxes)} boxes; draw a box for each line, or clear one of the two"
        )


def check_question(text: str | None, limits: Limits) -> str:
    """Return a question without control characters.

    Raises:
        RefusedError: it is empty or too long.
    """
    question = _CONTROL.sub(" ", text or "").strip()
    if not question:
        raise RefusedError("there must be a question, got none; type one")
    _check_length(question, limits.question, "a question")
    return question


def check_boxes(boxes: Any, info: VideoInfo, limits: Limits) -> list[Box]:
    """Return the drawn boxes, each inside the frame.

    Raises:
        RefusedError: not a list of boxes, too many, or a box outside the frame.
    """
    try:
        numbers = _BOXES.validate_python(boxes or [], strict=True)
    except ValidationError:
        reason = "boxes must be lists of four numbers x1,y1,x2,y2, got something else; draw them again"
        raise RefusedError(reason) from None
    if len(numbers) > limits.objects:
        raise RefusedError(f"there must be at most {limits.objects} objects, got {len(numbers)} boxes; remove some")
    try:
        return [check_box_xyxy_px(tuple(box), info.width, info.height) for box in numbers]
    except ValueError as error:
        raise RefusedError(str(error)) from error


def _check_length(text: str, limit: int, what: str) -> None:
    if len(text) > limit:
        raise RefusedError(f"{what} must have at most {limit} characters, got {len(text)}; shorten it")
