# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Decoder of videos and images: one frame at a time, upright, with its own time, or chosen frames at once.

Chat, pipelines, training and tracking all read through this file, so that they see the same arrays.
"""

import math
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .containers_elysium import ContainerSource, count_packets
from .images_elysium import IMAGE_SUFFIXES, FolderSource, ImageSource, image_to_rgb, not_an_image, open_image
from .media_info_elysium import Source, VideoError, VideoInfo, media_file

# Indices of the wanted frames, in rising order, of a video of so many frames at so many frames per second.
Choice = Callable[[int, float], Sequence[int]]


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a video.

    Args:
        index: 0-based place in the video.
        timestamp_s: seconds after the first frame; never falls.
        image (`np.ndarray` of shape `(H, W, 3)`): uint8 RGB, after rotation.
        duration_s: seconds that it stands, up to the next frame; of the last one as the file says, or one step of the
            frame rate. None for frames that do not come from a file.
    """

    index: int
    timestamp_s: float
    image: NDArray[np.uint8]
    duration_s: float | None = None


class VideoReader:
    """Iterate over the frames of a video, an image, an animated image or a folder of frames in natural order.

    Every ``for`` starts again from the first frame.

    Args:
        path: video file, image file or folder of images; or a file's bytes, a binary file object or a ``data:`` URL.
        folder_fps: frames per second that a folder of images is taken to have; files carry their own.

    Attributes:
        info (`VideoInfo`): size and declared length.
        num_decoded: frames decoded by the last iteration, or skipped on the way to those that were wanted.
        warnings: what the last iteration met: frames that are missing or damaged, with counts.

    Raises:
        VideoError: no such file, no video inside, or nothing that decodes.
    """

    def __init__(self, path: Any, *, folder_fps: float = 10.0) -> None:
        self._source = _open_source(path, folder_fps)
        self.info = self._source.info
        self.num_decoded = 0
        self.warnings: list[str] = []
        self._running: Generator[Frame] | None = None

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End iterations that were left early and close their files."""
        if self._running is not None:
            self._running.close()

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def frames(self, wanted: Collection[int] | None = None) -> Iterator[Frame]:
        """Yield the frames whose index is in ``wanted`` (all by default); decoding stops after the last of them."""
        return self._start(wanted, max(wanted) if wanted else math.inf)

    def count(self) -> int:
        """Return how many frames there are, by decoding everything without keeping anything."""
        for _ in self._start((), math.inf):
            pass
        return self.num_decoded

    def length(self) -> int:
        """Return how many frames there are, without decoding where the file's packets are as many as it declares."""
        packets = self._num_packets()
        return packets if packets is not None and packets == self.info.num_frames else self.count()

    def choose(self, choice: Choice) -> list[Frame]:
        """Return the frames that ``choice`` wants of a video as long as this one decodes.

        The declared length, or that of the packets, is tried first; only where it proves wrong is all decoded again.
        """
        expected = self.info.num_frames if self.info.num_frames is not None else self._num_packets()
        if expected:
            wanted = set(choice(expected, self.info.fps))
            frames = list(self._start(wanted, math.inf))
            if self.num_decoded == expected:
                return frames
        length, messages = self.num_decoded or self.count(), self.warnings
        frames = list(self.frames(set(choice(length, self.info.fps))))
        self.num_decoded, self.warnings = length, messages
        return frames

    def _num_packets(self) -> int | None:
        if isinstance(self._source, ContainerSource):
            return count_packets(self._source.file)
        return self.info.num_frames

    def _start(self, wanted: Collection[int] | None, last: float) -> Iterator[Frame]:
        self.close()
        self.num_decoded, self.warnings = 0, []
        self._running = self._frames(wanted, last)
        return self._running

    def _frames(self, wanted: Collection[int] | None, last: float) -> Generator[Frame]:
        """Yield frames, decoding one frame ahead, since a frame stands until the next one comes.

        Frames that are far apart are sought where the file allows it.
        """
        step_s = 1 / self.info.fps
        sought = self._source.decode_at(wanted) if wanted and isinstance(self._source, ContainerSource) else None
        if sought is not None:
            length, frames = sought
            self.num_decoded = int(min(length, last + 1))
            for index, frame in frames:
                yield Frame(index, frame.time_s or 0.0, frame.to_rgb(), frame.duration_s or step_s)
            return
        with closing(self._source.decode(self.warnings)) as decoded:
            following = next(decoded, None)
            index = 0
            while following is not None and index <= last:
                current, following = following, next(decoded, None)
                self.num_decoded = index + 1
                if wanted is None or index in wanted:
                    time_s = index * step_s if current.time_s is None else current.time_s
                    duration_s = current.duration_s or step_s
                    if following is not None and following.time_s is not None:
                        duration_s = following.time_s - time_s
                    yield Frame(index, time_s, current.to_rgb(), duration_s)
                index += 1


def probe_video(path: Any) -> VideoInfo:
    """Return size after rotation, frame rate and declared length of a video, image or folder of frames.

    Raises:
        VideoError: as `VideoReader`.
    """
    return _open_source(path, 10.0).info


def uniform_indices(length: int, count: int) -> list[int]:
    """Return ``count`` frame indices spread evenly from the first to the last of ``length``; all of a shorter video.

    >>> uniform_indices(10, 4)
    [0, 3, 6, 9]
    >>> uniform_indices(3, 16)
    [0, 1, 2]
    """
    if count < 1:
        raise ValueError(f"the number of frames must be 1 or more, got {count}; ask for at least one frame")
    if count >= length:
        return list(range(length))
    return np.linspace(0, length - 1, count).round().astype(int).tolist()


def read_frames(
    media: Any,
    *,
    frame_indices: Sequence[int] | None = None,
    num_frames: int | None = None,
    max_frames: int | None = None,
    choice: Choice | None = None,
) -> tuple[list[Frame], VideoReader]:
    """Read frames into memory; for whole long videos iterate over `VideoReader` instead.

    Args:
        media: path of a video, an image, an animated image or a folder of frames; or a file's bytes, a binary file
            object or a ``data:`` URL.
        frame_indices: exactly these 0-based frames, strictly rising.
        num_frames: this many, spread evenly from the first frame to the last; fewer where the video has fewer.
        max_frames: only the first ones.
        choice: wanted indices from the video's true length and its frames per second. At most one of the four may be
            given; none means all frames.

    Returns:
        The frames, and the closed reader with what it met; with ``choice`` or ``num_frames``, and where all frames
        were read, its `num_decoded` is the length of the video.

    Raises:
        ValueError: more than one of them, or an index that the video does not have.
        VideoError: the file cannot be read.
    """
    if sum(option is not None for option in (frame_indices, num_frames, max_frames, choice)) > 1:
        raise ValueError(
            "at most one of frame_indices, num_frames, max_frames and choice must be given, got several; keep one"
        )
    with VideoReader(media) as reader:
        if num_frames is not None:
            choice = lambda total, _: uniform_indices(total, num_frames)  # noqa: E731
        if choice is not None:
            frames = reader.choose(choice)
        elif max_frames is not None or frame_indices is not None:
            frames = list(reader.frames(range(max_frames) if max_frames is not None else frame_indices))
            if frame_indices is not None and [frame.index for frame in frames] != list(frame_indices):
                found = reader.num_decoded
                raise ValueError(
                    f"frame_indices must rise strictly and lie in the video, got {list(frame_indices)}; "
                    f"{found} frames of {reader.info.path} were decoded, so give indices from 0 to {found - 1}"
                )
        else:
            frames = list(reader)
        return frames, reader


def load_image(media: Any, *, upright: bool = True) -> NDArray[np.uint8]:
    """Return one image as uint8 RGB `(H, W, 3)`: transparency on white, deep grey scaled to 8 bits.

    Args:
        media: a PIL image, or path, bytes, binary file object or ``data:`` URL of an image.
        upright: whether to turn it as its EXIF orientation says; not where annotations count stored pixels.

    Raises:
        ValueError: a file with more than one frame.
        VideoError: the file cannot be read.
    """
    if isinstance(media, Image.Image):
        return image_to_rgb(media, "an image", orientation=None if upright else 1)
    if not upright:
        with _opened_image(media) as image:
            return image_to_rgb(image, getattr(image, "filename", "") or "an image", orientation=1)
    frames, reader = read_frames(media, max_frames=2)
    if len(frames) > 1:
        raise ValueError(f"an image must have one frame, got {reader.info.path} with more; give it as a video")
    return frames[0].image


def image_size(media: Any) -> tuple[int, int]:
    """Return width and height in pixels of an image as it is stored, without decoding it.

    Raises:
        VideoError: the file is no image.
    """
    with _opened_image(media) as image:
        return image.size


def _opened_image(media: Any) -> Image.Image:
    file = media_file(media)
    image = open_image(file)
    if image is None:
        raise not_an_image(file)
    return image


def _open_source(media: Any, folder_fps: float) -> Source:
    file = media_file(media)
    if isinstance(file.content, Path) and file.content.is_dir():
        return FolderSource(file.content, folder_fps)
    image = open_image(file)
    if image is not None:
        return ImageSource(file, image)
    try:
        return ContainerSource(file)
    except VideoError as error:
        raise (not_an_image(file) if file.suffix in IMAGE_SUFFIXES else error) from error
