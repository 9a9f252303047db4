"""What the page accepts, said beforehand and checked before anything is decoded.

A visitor's file is looked at by its first bytes, its size and its headers, in this order. Only kinds of file that hold
their pictures themselves are let through: nothing that names other files ever reaches a decoder.
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
from elysium.processing.structures import check_box_xyxy_px
from elysium.processing.video_io import VideoError, VideoInfo, probe_video

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
PICTURE_FORMATS = ("PNG", "JPEG", "WEBP")
# ISO media (mp4, m4v, mov), Matroska (mkv, webm), AVI: offset and bytes.
_VIDEO_SIGNATURES = ((4, b"ftyp"), (0, b"\x1a\x45\xdf\xa3"), (8, b"AVI "))
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class RefusedError(ValueError):
    """What a visitor gave cannot be used; the message is for the visitor and holds no path."""


@dataclass(frozen=True)
class Limits:
    """The most that one request may ask for.

    Args:
        video_mb: size of a video file, in millions of bytes.
        picture_mb: size of a picture file, in millions of bytes.
        video_s: length of a video in seconds.
        video_frames: frames of a video.
        video_side_px: longer side of a video.
        picture_side_px: longer side of a picture.
        objects: objects that are tracked at once.
        words: characters of the words for one object.
        question: characters of a question.
        compute_s: seconds that the model works on one request.
        waiting: requests that wait in the queue.
        waiting_of_session: of them, those of one visitor.
        waiting_of_address: of them, those from one network address (which several visitors may share).
        listen_s: seconds after which a request is dropped that nobody listens for.
        kept_mb: all uploads and results that are kept at one time, in millions of bytes.
        kept_s: seconds that an upload or result is kept.
    """

    video_mb: int = 50
    picture_mb: int = 10
    video_s: float = 30.0
    video_frames: int = 900
    video_side_px: int = 1920
    picture_side_px: int = 4096
    objects: int = 5
    words: int = 120
    question: int = 300
    compute_s: int = 60
    waiting: int = 40
    waiting_of_session: int = 5
    waiting_of_address: int = 20
    listen_s: float = 10.0
    kept_mb: int = 2000
    kept_s: int = 1800

    def sentence(self) -> str:
        """The limits for people."""
        return (
            f"Videos: at most {self.video_s:g} s, {self.video_frames} frames, {self.video_mb} MB, sides of "
            f"{self.video_side_px} px. Pictures: {self.picture_mb} MB, sides of {self.picture_side_px} px. "
            f"Up to {self.objects} objects of {self.words} letters; questions of {self.question} letters. The model "
            f"works on a request for {self.compute_s} s at most. Files are removed after {self.kept_s // 60} minutes."
        )


@dataclass(frozen=True)
class Media:
    """A video or picture that passed the checks.

    Args:
        path: where it lies.
        info: size and length.
        is_video: whether it is a video rather than a picture.
    """

    path: Path
    info: VideoInfo
    is_video: bool

    @property
    def name(self) -> str:
        """The visitor's name for it."""
        return self.path.name


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors about a file, with its name in place of its path.

    Raises:
        RefusedError: in place of a `ValueError`, `VideoError` included.
    """
    try:
        yield
    except RefusedError:
        raise
    except ValueError as error:
        raise RefusedError(str(error).replace(str(path), path.name)) from error


def check_media(video: str | None, picture: str | None, limits: Limits) -> Media:
    """The one file of a request.

    Raises:
        RefusedError: no file, both kinds, or a file that `check_video` or `check_picture` refuses.
    """
    if video and picture:
        raise RefusedError("give a video or a picture, got both; clear one of them")
    if video:
        return check_video(Path(video), limits)
    if picture:
        return check_picture(Path(picture), limits)
    raise RefusedError("there must be a video or a picture, got none; upload one, or take an example")


def check_video(path: Path, limits: Limits) -> Media:
    """A video within the limits.

    Raises:
        RefusedError: too large, too long, or no video.
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


def check_picture(path: Path, limits: Limits) -> Media:
    """A picture within the limits.

    Raises:
        RefusedError: too large, an animation, or no picture.
    """
    _check_size(path, limits.picture_mb, "a picture")
    refusal = f"a picture must be {', '.join(PICTURE_SUFFIXES)}, got {path.name}, which is another kind of file"
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise RefusedError(f"{refusal}; save it as PNG")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=PICTURE_FORMATS) as image:
                size, frames = image.size, getattr(image, "n_frames", 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise RefusedError(f"{refusal}, too large or broken; save it as PNG") from error
    _check_side(*size, limits.picture_side_px, "a picture")
    if frames > 1:
        raise RefusedError(f"a picture must be one picture, got {frames} in {path.name}; save it as mp4")
    with naming(path):
        return Media(path, probe_video(path), is_video=False)


def check_words(text: str | None, limits: Limits) -> list[str]:
    """Words for objects, a line for each.

    Raises:
        RefusedError: too many lines, or a line that is too long.

    >>> check_words("the red cross\\n\\n the yellow ring ", Limits())
    ['the red cross', 'the yellow ring']
    """
    text = text or ""
    _check_length(text, limits.objects * (limits.words + 2), "the words")
    lines = [line.strip() for line in _CONTROL.sub(" ", text).split("\n") if line.strip()]
    if len(lines) > limits.objects:
        raise RefusedError(f"there must be at most {limits.objects} objects, got {len(lines)} lines; leave some out")
    for line in lines:
        _check_length(line, limits.words, "the words for one object")
    return lines


def check_question(text: str | None, limits: Limits) -> str:
    """A question.

    Raises:
        RefusedError: none, or too long.
    """
    question = _CONTROL.sub(" ", text or "").strip()
    if not question:
        raise RefusedError("there must be a question, got none; type one")
    _check_length(question, limits.question, "a question")
    return question


def check_boxes(boxes: Any, info: VideoInfo, limits: Limits) -> list[Box]:
    """Boxes as they were drawn, each inside the picture.

    Raises:
        RefusedError: no list of boxes, too many, or a box that is not inside the picture.
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
        raise RefusedError(f"{what} must still be here, got {path.name}, which was removed; upload it again")
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
        raise RefusedError(f"{what} must have at most {limit} letters, got {len(text)}; say it shorter")


def _declared_size(path: Path) -> tuple[int, int]:
    """The largest width and height that the streams declare, before any frame is decoded.

    Raises:
        VideoError: it cannot be opened.
    """
    try:
        with av.open(f"file:{path}", options={"protocol_whitelist": "file"}) as container:
            sizes = [(s.codec_context.width, s.codec_context.height) for s in container.streams.video]
    except (av.FFmpegError, OSError) as error:
        raise VideoError(
            f"a video must be a file that opens, got {path}, which is broken; get the original"
        ) from error
    return max((width for width, _ in sizes), default=0), max((height for _, height in sizes), default=0)
