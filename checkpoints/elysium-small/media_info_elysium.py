# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Types of the decoder: encoded files, facts about a video, and decoded frames."""

import base64
import binascii
import stat
import urllib.request
from collections.abc import Callable, Generator
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class VideoError(ValueError):
    """A file cannot be read as video or image; the message says why and what to do."""


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video before it is decoded.

    Args:
        path: of the video, or a name for one that is in memory.
        width: in pixels, after rotation.
        height: in pixels, after rotation.
        fps: frames per second; the average where the frame rate varies.
        num_frames: as the file declares it, None where it does not (a truncated file decodes fewer).
        duration_s: seconds, None where the file does not say.
        pixel_aspect: width of a pixel over its height (the sample aspect ratio), after rotation.
    """

    path: str
    width: int
    height: int
    fps: float
    num_frames: int | None
    duration_s: float | None
    pixel_aspect: Fraction = Fraction(1)


@dataclass
class DecodedFrame:
    """A decoded frame before its conversion to RGB, which unwanted frames never pay for.

    Args:
        time_s: seconds after the first frame, never falling; None where frames follow at the video's rate.
        duration_s: seconds that it stands, None where the file does not say.
        to_rgb: makes the image, uint8 RGB `(H, W, 3)`.
    """

    time_s: float | None
    duration_s: float | None
    to_rgb: Callable[[], NDArray[np.uint8]]


class Source(Protocol):
    """One kind of input: a container, an image, a folder of images."""

    info: VideoInfo

    def decode(self, warnings: list[str]) -> Generator[DecodedFrame]:
        """Decode from the first frame on; append to ``warnings`` what could not be decoded."""


@dataclass(frozen=True)
class MediaFile:
    """An encoded file on disk or in memory.

    Args:
        name: what messages call it.
        content: path, or the bytes themselves.
    """

    name: str
    content: Path | bytes

    @property
    def suffix(self) -> str:
        """Return the lower-case suffix of the name, empty for bytes."""
        return "" if isinstance(self.content, bytes) else self.content.suffix.lower()

    def opened(self) -> Path | BytesIO:
        """Return what a decoder opens; bytes are wrapped anew each time."""
        return BytesIO(self.content) if isinstance(self.content, bytes) else self.content

    def read(self) -> bytes:
        """Return the whole content."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


def media_file(media: Any) -> MediaFile:
    """Return the file that a path, bytes, a binary file object or a base64 ``data:`` URL stands for.

    Raises:
        VideoError: there is no such file, it is empty or a pipe, or the URL is not base64.
        TypeError: another kind of value.
    """
    if isinstance(media, str) and media.startswith("data:"):
        return _in_memory(_data_url_bytes(media), "a data: URL")
    if isinstance(media, bytes | bytearray | memoryview):
        return _in_memory(bytes(media), "the bytes")
    if isinstance(media, str | Path):
        path = Path(media)
        _check_regular(path)
        return MediaFile(str(path), path)
    if hasattr(media, "read"):
        name = getattr(media, "name", None)
        return _in_memory(media.read(), name if isinstance(name, str) else "the file object")
    raise TypeError(
        f"a video or image must be a path, bytes, a binary file or a data: URL, got {type(media).__name__}; "
        "pass one of these"
    )


def downloaded(media: Any) -> Any:
    """Return the bytes that an http or https URL gives; anything else as it is.

    Raises:
        OSError: the server cannot be reached or does not give it.
    """
    if not isinstance(media, str) or not media.startswith(("http://", "https://")):
        return media
    request = urllib.request.Request(media, headers={"User-Agent": "Mozilla/5.0"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def _in_memory(data: bytes, name: str) -> MediaFile:
    if not data:
        raise VideoError(f"a video or image must have content, got {name} with 0 bytes; was the file read before?")
    return MediaFile(f"{name} ({len(data)} bytes)", data)


def _data_url_bytes(url: str) -> bytes:
    head, _, payload = url.partition(",")
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise VideoError(
            f"a video or image in a data: URL must be base64 after the comma, got {head[:40]!r} and {len(payload)} "
            f"characters ({error}); encode the file with base64"
        ) from error


def _check_regular(path: Path) -> None:
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(
            f"a video or image must be an existing file or folder, got {str(path)[:300]} ({reason}); check the path"
        ) from error
    if stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode) or stat.S_ISCHR(status.st_mode):
        raise VideoError(
            f"a video must be a file that can be read twice, got the pipe or device {path}; save it to a file first "
            "(cat > video.mp4)"
        )
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise VideoError(f"a video must have content, got {path} with 0 bytes; copy or download it again")
