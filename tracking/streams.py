"""Streams of frames: every kind of video that a user may give, as frames that come one at a time, in order."""

import itertools
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from io import IOBase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from elysium.processing.images_elysium import image_array, is_array, video_array
from elysium.processing.media_elysium import load_image
from elysium.processing.structures import CLIP_NAME, FRAMES_NAME, VideoClip
from elysium.processing.video_io import Frame, VideoReader, read_video, uniform_indices

Media = str | Path | bytes | IOBase
VideoLike = Media | VideoClip | NDArray[Any] | Image.Image | Iterable[NDArray[Any] | Image.Image]
ImageLike = Media | NDArray[Any] | Image.Image

# Maximum number of frames of a video to describe an object, and, unless the checkpoint sets it, to answer a question.
DESCRIBE_FRAMES = 8
ASK_FRAMES = 16


def decode_ahead(frames: Iterator[Frame], *, depth: int = 8) -> Generator[Frame]:
    """Decode a video in a thread of its own, a few frames ahead of whoever iterates; closing it ends the thread.

    What the decoder raises is raised here, behind the frames before it.

    Args:
        frames: in order.
        depth: most frames that wait.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="elysium-decoding") as pool:
        waiting = deque(pool.submit(next, frames, None) for _ in range(depth))
        try:
            while (frame := waiting.popleft().result()) is not None:
                waiting.append(pool.submit(next, frames, None))
                yield frame
        finally:
            for future in waiting:
                future.cancel()


class FrameStream:
    """Iterate over the frames of one video; its size and rate are known before they come.

    Args:
        frames: in order; the first is taken at once, for the size.
        name: path or name of the video.
        fps: frames per second.
        num_frames: as the video declares it, None where it does not.
        reader: what to close and to ask for warnings, where the frames come from a file.

    Raises:
        ValueError: no frames at all.
    """

    def __init__(
        self,
        frames: Iterator[Frame],
        *,
        name: str,
        fps: float,
        num_frames: int | None,
        reader: VideoReader | None = None,
    ) -> None:
        first = next(frames, None)
        if first is None:
            raise ValueError(f"a video must have at least one frame, got none from {name}; check where they come from")
        self._ahead = None if reader is None else decode_ahead(frames)
        self._frames = itertools.chain([first], self._ahead or frames)
        self._reader = reader
        self.name, self.fps, self.num_frames = name, fps, num_frames
        self.height, self.width = first.image.shape[:2]

    def __iter__(self) -> Iterator[Frame]:
        return self._frames

    @property
    def is_file(self) -> bool:
        """Return whether the frames come from a file, which does not wait for what is done with them."""
        return self._reader is not None

    @property
    def warnings(self) -> list[str]:
        """Return the warnings of decoding, such as a truncated file; complete when all frames have come."""
        return [] if self._reader is None else list(self._reader.warnings)

    def close(self) -> None:
        """Close the file, if there is one; no frames come after that."""
        self._frames = itertools.chain()
        if self._ahead is not None:
            self._ahead.close()
        if self._reader is not None:
            self._reader.close()


def bytes_of(name: str) -> int | None:
    """Return the bytes of a file, or of all files in a folder; None where there is neither."""
    place = Path(name)
    files = [place] if place.is_file() else sorted(place.iterdir()) if place.is_dir() else []
    return sum(file.stat().st_size for file in files) if files else None


def open_stream(video: VideoLike, *, fps: float | None = None) -> FrameStream:
    """Open the frames of a video.

    Args:
        video: path of a video, image, GIF or folder of images; a file's bytes; a `VideoClip`; one image; or images in
            order, PIL or arrays as `images_elysium` takes them (floats that come one by one must be 0..1).
        fps: frames per second of bare images or of a folder of them; other videos carry their own. Without it a folder
            has 10, and bare images have 1: the time of a frame in seconds is its number.

    Raises:
        ValueError: ``fps`` is not above 0, or given where the video has its own, or there are no frames.
        VideoError: the file cannot be read.
    """
    if isinstance(video, Media):
        if fps is not None and not (isinstance(video, str | Path) and Path(video).is_dir()):
            raise ValueError(f"fps must be left out for a file, which has its own, got {fps}; leave it out")
        reader = VideoReader(video) if fps is None else VideoReader(video, folder_fps=fps)
        info = reader.info
        name = str(video) if isinstance(video, str | Path) else str(info.path)
        return FrameStream(iter(reader), name=name, fps=info.fps, num_frames=info.num_frames, reader=reader)
    if isinstance(video, VideoClip):
        if fps is not None:
            raise ValueError(f"fps must be left out for a VideoClip, which has its own, got {fps}; leave it out")
        frames = map(Frame, video.frame_indices.tolist(), video.timestamps_s.tolist(), video.frames)
        return FrameStream(frames, name=CLIP_NAME, fps=video.fps, num_frames=len(video))
    fps = 1.0 if fps is None else fps
    if not fps > 0:
        raise ValueError(f"fps must be a number above 0 for bare frames, got {fps}; give the rate that they follow at")
    rate, images = float(fps), _images_of(video)
    length = len(images) if isinstance(images, Sized) else None
    bare = (Frame(index, index / rate, as_rgb(image)) for index, image in enumerate(images))
    return FrameStream(bare, name=FRAMES_NAME, fps=rate, num_frames=length)


def sample_frames(video: VideoLike, num_frames: int) -> NDArray[np.uint8]:
    """Return at most so many frames, spread evenly from the first to the last.

    Args:
        video: as for `open_stream`; bare images that come from an iterator are all held until they are counted.
        num_frames: 1 or more.

    Returns:
        `np.ndarray` of shape `(T, H, W, 3)`, uint8 RGB.
    """
    if isinstance(video, Media):
        return read_video(video, num_frames=num_frames).frames
    found = video.frames if isinstance(video, VideoClip) else _images_of(video)
    images = found if isinstance(found, np.ndarray) else list(found)
    if len(images) == 0:
        raise ValueError("a video must have at least one frame, got none; check where they come from")
    return np.stack([as_rgb(images[index]) for index in uniform_indices(len(images), num_frames)])


def read_image(image: ImageLike) -> NDArray[np.uint8]:
    """Return one image as uint8 RGB `(H, W, 3)`.

    Raises:
        ValueError: a file with more than one frame, or something that is no image.
        VideoError: the file cannot be read.
    """
    if isinstance(image, Media):
        return load_image(image)
    return image_array(image) if is_array(image) else as_rgb(image)


load_picture = read_image  # its earlier name


def _images_of(video: Any) -> Iterable[Any]:
    """Return one image as a list of it; several as they are, an array of them as uint8 RGB."""
    if is_image(video):
        return [video]
    return video_array(video) if is_array(video) else video


def is_image(value: Any) -> bool:
    """Return whether a value is one image rather than several; grey frames `(T, H, W)` are several."""
    if not is_array(value):
        return isinstance(value, Image.Image)
    return value.ndim == 2 or (value.ndim == 3 and value.shape[-1] in (1, 3, 4))


def as_rgb(value: Any) -> NDArray[np.uint8]:
    """Return one frame of several, a PIL image or an array, as uint8 RGB `(H, W, 3)`.

    Raises:
        ValueError: another type, shape or range; floats above 1, whose range one frame cannot tell.
    """
    if isinstance(value, Image.Image):
        return load_image(value)
    if not is_array(value):
        raise ValueError(f"a frame must be an array (H, W, 3) or a PIL image, got {type(value).__name__}; convert it")
    if "float" in str(value.dtype) and value.max() > 1:
        raise ValueError(
            f"float frames that come one by one must be 0..1, got {float(value.max()):g}; convert them to uint8"
        )
    return image_array(value)
