"""What is known of a video, and how the kinds of input hand over their frames."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class VideoError(ValueError):
    """A file cannot be read as video or picture; the message says why and what to do."""


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before it is decoded.

    Args:
        path: of the video.
        width: in pixels, after rotation.
        height: in pixels, after rotation.
        fps: frames per second; the average where the frame rate varies.
        num_frames: as the file declares it, None where it does not (a truncated file decodes fewer).
        duration_s: seconds, None where the file does not say.
    """

    path: str
    width: int
    height: int
    fps: float
    num_frames: int | None
    duration_s: float | None


@dataclass
class Moment:
    """A decoded frame before its conversion to RGB, which unwanted frames never pay for."""

    time_s: float | None
    to_rgb: Callable[[], NDArray[np.uint8]]


class Source(Protocol):
    """One kind of input: a container, a picture, a folder of pictures."""

    info: VideoInfo

    def moments(self, warnings: list[str]) -> Generator[Moment]:
        """Decodes from the first frame on; appends to ``warnings`` what could not be decoded."""
