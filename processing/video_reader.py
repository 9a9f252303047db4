"""Streaming video input: one frame at a time, upright, with its own time, so that memory does not grow with length."""

import math
from collections.abc import Collection, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .container_source import ContainerSource
from .picture_source import IMAGE_SUFFIXES, FolderSource, ImageSource
from .video_info import Source, VideoError, VideoInfo


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video.

    Args:
        index: 0-based place in the video.
        timestamp_s: seconds after the first frame; never falls.
        image (`np.ndarray` of shape `(H, W, 3)`): uint8 RGB, after rotation.
    """

    index: int
    timestamp_s: float
    image: NDArray[np.uint8]


class VideoReader:
    """Iterates over the frames of a video, a picture, an animated GIF or a folder of frames in natural order.

    Every ``for`` starts again from the first frame.

    Args:
        path: video file, picture file or folder of pictures.
        folder_fps: frames per second that a folder of pictures is taken to have; files carry their own.

    Attributes:
        info (`VideoInfo`): size and declared length.
        num_decoded: frames decoded by the last iteration.
        warnings: what the last iteration met: frames that are missing or damaged, with counts.

    Raises:
        VideoError: no such file, no video inside, or nothing that decodes.
    """

    def __init__(self, path: str | Path, *, folder_fps: float = 10.0) -> None:
        self._source = _open_source(Path(path), folder_fps)
        self.info = self._source.info
        self.num_decoded = 0
        self.warnings: list[str] = []
        self._running: list[Generator[Frame]] = []

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends iterations that were left early and closes their files."""
        while self._running:
            self._running.pop().close()

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def frames(self, wanted: Collection[int] | None = None) -> Iterator[Frame]:
        """The frames whose index is in ``wanted`` (all by default); decoding stops after the last of them."""
        self.close()
        self.num_decoded, self.warnings = 0, []
        iterator = self._frames(wanted)
        self._running.append(iterator)
        return iterator

    def count(self) -> int:
        """Decodes everything without keeping anything, and says how many frames there are."""
        for _ in self.frames(wanted=()):
            pass
        return self.num_decoded

    def _frames(self, wanted: Collection[int] | None) -> Generator[Frame]:
        last = max(wanted) if wanted else math.inf
        start_s, time_s = None, 0.0
        with closing(self._source.moments(self.warnings)) as moments:
            for index, moment in enumerate(moments):
                self.num_decoded = index + 1
                now_s = index / self.info.fps if moment.time_s is None else moment.time_s
                start_s = now_s if start_s is None else start_s
                time_s = max(time_s, now_s - start_s)
                if wanted is None or index in wanted:
                    yield Frame(index, time_s, moment.to_rgb())
                if index >= last:
                    return


def probe_video(path: str | Path) -> VideoInfo:
    """Size after rotation, frame rate and declared length of a video, picture or folder of frames.

    Raises:
        VideoError: as `VideoReader`.
    """
    return _open_source(Path(path), 10.0).info


def _open_source(path: Path, folder_fps: float) -> Source:
    if not path.exists():
        raise VideoError(f"a video must be an existing file or folder, got {path}; check the path")
    if path.is_dir():
        return FolderSource(path, folder_fps)
    if path.stat().st_size == 0:
        raise VideoError(f"a video must have content, got {path} with 0 bytes; copy or download it again")
    return ImageSource(path) if path.suffix.lower() in IMAGE_SUFFIXES else ContainerSource(path)
