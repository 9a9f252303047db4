"""Limits of the page and the checks of a visitor's inputs.

A file is checked by its size, its first bytes and its headers before any frame is decoded. Only formats that contain
their own frames are accepted; files that refer to other files (playlists) never reach a decoder.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from PIL import Image

from elysium.processing.boxes_elysium import Box
from elysium.processing.pixel_boxes import check_box_xyxy_px
from elysium.processing.video_io import VideoError, VideoInfo, probe_video

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP")
# ISO media (mp4, m4v, mov), Matroska (mkv, webm), AVI: offset and bytes.
_VIDEO_SIGNATURES = ((4, b"ftyp"), (0, b"\x1a\x45\xdf\xa3"), (8, b"AVI "))
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class RefusedError(ValueError):
    """An input cannot be used; the message is for the visitor and contains no path."""


@dataclass(frozen=True)
class Limits:
    """Maximum values for one request and for the server.

    Args:
        video_mb: size of a video file in MB (10^6 bytes).
        image_mb: size of an image file in MB.
        video_s: length of a video in seconds.
        video_frames: number of frames of a video.
        video_side_px: longer side of a video.
        image_side_px: longer side of an image.
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

    video_mb: int = 50
    image_mb: int = 10
    video_s: float = 30.0
    video_frames: int = 900
    video_side_px: int = 1920
    image_side_px: int = 4096
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

    def sentence(self) -> str:
        """Return the limits as text for visitors."""
        return (
            f"Videos: at most {self.video_s:g} s, {self.video_frames} frames, {self.video_mb} MB, sides of "
            f"{self.video_side_px} px. Images: {self.image_mb} MB, sides of {self.image_side_px} px. Up to "
            f"{self.objects} objects, text prompts of {self.prompt} and questions of {self.question} characters. "
            f"A request gets {self.compute_s} s of computation. Files are removed after {self.kept_s // 60} minutes."
        )


@dataclass(frozen=True)
class Media:
    """Video or image that passed the checks.

    Args:
        path: the uploaded file.
        info: size and length.
        is_video: whether it is a video rather than an image.
    """

    path: Path
    info: VideoInfo
    is_video: bool

    @property
    def name(self) -> str:
        """File name as uploaded."""
        return self.path.name


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


def check_media(video: str | None, image: str | None, limits: Limits) -> Media:
    """Return the checked file of a request.

    Raises:
        RefusedError: no file, both kinds, or a file that `check_video` or `check_image` refuses.
    """
    if video and image:
        raise RefusedError("there must be one video or image, got both; clear one of them")
    if video:
        return check_video(Path(video), limits)
    if image:
        return check_image(Path(image), limits)
    raise RefusedError("there must be a video or an image, got none; upload one, or choose an example")


def check_video(path: Path, limits: Limits) -> Media:
    """Check a video against the limits.

    Raises:
        RefusedError: too large, too long, or not a video.
    """
    _check_size(path, limits.video_mb, "a video")
    with path.open("rb") as file:
        head = file.read(16)
    if path.suffix.lower() not in VIDEO_SUFFIXES or not any(head[at:].startswith(b) for at, b in _VIDEO_SIGNATURES):
        raise RefusedError(
            f"a video must be {', '.join(VIDEO_SUFFIXES)}, got {path.name}, which is another kind of file; "
            "convert it to mp4"
        )
    with naming(path):
        _check_side(*_declared_size(path), limits.video_side_px, "a video")
        info = probe_video(path)
        _check_side(info.width, info.height, limits.video_side_px, "a video")
    if (info.num_frames or 0) > limits.video_frames:
        raise RefusedError(
            f"a video must have at most {limits.video_frames} frames, got {info.num_frames} in {path.name}; cut it"
        )
    if (info.duration_s or 0.0) > limits.video_s:
        raise RefusedError(
            f"a video must last at most {limits.video_s:g} s, got {info.duration_s:.1f} s in {path.name}; cut it"
        )
    return Media(path, info, is_video=True)


def check_image(path: Path, limits: Limits) -> Media:
    """Check an image against the limits.

    Raises:
        RefusedError: too large, an animation, or not an image.
    """
    _check_size(path, limits.image_mb, "an image")
    refusal = f"an image must be {', '.join(IMAGE_SUFFIXES)}, got {path.name}, which is another kind of file"
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise RefusedError(f"{refusal}; save it as PNG")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=IMAGE_FORMATS) as opened:
                size, frames = opened.size, getattr(opened, "n_frames", 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise RefusedError(f"{refusal}, too large or broken; save it as PNG") from error
    _check_side(*size, limits.image_side_px, "an image")
    if frames > 1:
        raise RefusedError(f"an image must have one frame, got {frames} in {path.name}; save it as mp4")
    with naming(path):
        return Media(path, probe_video(path), is_video=False)


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
    boxes = boxes or []
    numbers = [box for box in boxes if _is_box(box)] if isinstance(boxes, Sequence) else []
    if not isinstance(boxes, Sequence) or len(numbers) != len(boxes):
        raise RefusedError("boxes must be lists of four numbers x1,y1,x2,y2, got something else; draw them again")
    if len(boxes) > limits.objects:
        raise RefusedError(f"there must be at most {limits.objects} objects, got {len(boxes)} boxes; remove some")
    try:
        return [check_box_xyxy_px(box, info.width, info.height) for box in numbers]
    except ValueError as error:
        raise RefusedError(str(error)) from error


def _is_box(box: Any) -> bool:
    if not isinstance(box, Sequence) or len(box) != 4:
        return False
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in box)


def _check_size(path: Path, limit_mb: int, what: str) -> None:
    if not path.is_file():
        raise RefusedError(f"{what} must be an uploaded file, got {path.name}, which was removed; upload it again")
    size_mb = path.stat().st_size / 1e6
    if size_mb > limit_mb:
        raise RefusedError(
            f"{what} must have at most {limit_mb} MB, got {size_mb:.1f} in {path.name}; make it smaller"
        )


def _check_side(width: int, height: int, limit_px: int, what: str) -> None:
    if max(width, height) > limit_px:
        raise RefusedError(
            f"{what} must have sides of at most {limit_px} px, got {width}x{height}; scale it down first"
        )


def _check_length(text: str, limit: int, what: str) -> None:
    if len(text) > limit:
        raise RefusedError(f"{what} must have at most {limit} characters, got {len(text)}; shorten it")


def _declared_size(path: Path) -> tuple[int, int]:
    """Return the largest width and height that the video streams declare, without decoding a frame.

    Raises:
        VideoError: the file cannot be opened.
    """
    try:
        with av.open(f"file:{path}", options={"protocol_whitelist": "file"}) as container:
            sizes = [(s.codec_context.width, s.codec_context.height) for s in container.streams.video]
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"a video must be readable, got {path}, which is broken; get the original") from error
    return max((width for width, _ in sizes), default=0), max((height for _, height in sizes), default=0)
