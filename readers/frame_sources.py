"""Frames of a sequence from files, bytes or a video; read only when needed."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from elysium.processing.data_files import DatasetError
from elysium.processing.images_elysium import IMAGE_SUFFIXES, natural_key
from elysium.processing.media_elysium import VideoReader, image_size, load_image, read_frames
from elysium.processing.media_info_elysium import VideoError

from .zipped_frames import ZipMember, ZippedFolder

ImageFile = str | Path | bytes | ZipMember
ImageArray = NDArray[np.uint8]


class Frames(Protocol):
    """Images in order, all of one size, uint8 RGB `(H, W, 3)`."""

    def __len__(self) -> int:
        """Return the number of frames."""

    def __iter__(self) -> Iterator[ImageArray]:
        """Yield all frames; none is kept in memory."""

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Return the frames at 0-based, strictly increasing ``indices``, `(n, H, W, 3)`."""

    @property
    def size(self) -> tuple[int, int]:
        """Return width and height in pixels."""


class ImageFrames:
    """Frames from image files.

    Args:
        files: paths or encoded images in order, or a function that lists them when first needed.
    """

    def __init__(self, files: Sequence[ImageFile] | Callable[[], Sequence[ImageFile]]) -> None:
        self._files = files

    @cached_property
    def files(self) -> Sequence[ImageFile]:
        """Return paths or encoded images."""
        return self._files() if callable(self._files) else self._files

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[ImageArray]:
        return (_decode(file) for file in self.files)

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Return the frames at ``indices``, `(n, H, W, 3)`.

        Raises:
            DatasetError: an image is missing, does not decode, or has another size than the first.
        """
        images = [_decode(self.files[index]) for index in indices]
        if len({image.shape for image in images}) > 1:
            sizes = sorted({f"{image.shape[1]}x{image.shape[0]}" for image in images})
            raise DatasetError(f"frames of a sequence must have one size, got {', '.join(sizes)}; get them again")
        return np.stack(images)

    @cached_property
    def size(self) -> tuple[int, int]:
        """Return width and height of the first image in pixels."""
        try:
            return image_size(_opened(self.files[0]))
        except VideoError as error:
            raise DatasetError(f"a frame must be an image that opens, got an error: {error}") from error


class VideoFrames:
    """Frames of a video, given by its path or its bytes."""

    def __init__(self, video: ImageFile) -> None:
        self._video = video

    @property
    def video(self) -> str | Path | bytes:
        """Return the path of the video, or its bytes."""
        return _opened(self._video)

    @cached_property
    def _info(self) -> Any:
        with VideoReader(self.video) as reader:
            return reader.info.width, reader.info.height, reader.length()

    def __len__(self) -> int:
        return self._info[2]

    def __iter__(self) -> Iterator[ImageArray]:
        with VideoReader(self.video) as reader:
            for frame in reader:
                yield frame.image

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Return the frames at ``indices``, `(n, H, W, 3)`.

        Raises:
            VideoError: the video cannot be read.
            ValueError: it has no such frame.
        """
        return np.stack([frame.image for frame in read_frames(self.video, frame_indices=list(indices))[0]])

    @property
    def size(self) -> tuple[int, int]:
        """Return width and height in pixels."""
        return self._info[:2]


class SomeFrames:
    """Annotated frames of a video, as if it had no others.

    Args:
        frames: all frames.
        indices: 0-based, strictly increasing indices into ``frames``, at least one.

    Raises:
        DatasetError: no indices, a negative one, or an order that is not strictly increasing.
    """

    def __init__(self, frames: Frames, indices: Sequence[int]) -> None:
        self.frames, self.indices = frames, [int(index) for index in indices]
        rising = all(one < other for one, other in pairwise(self.indices))
        if not self.indices or self.indices[0] < 0 or not rising:
            raise DatasetError(
                f"frame indices must be 0 or more and strictly increasing, got {self.indices[:8]}; sort them and "
                "leave out those that come twice"
            )

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[ImageArray]:
        wanted = set(self.indices)
        leading = islice(self.frames, self.indices[-1] + 1)
        return (image for index, image in enumerate(leading) if index in wanted)

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Return frames by their indices among the annotated ones, `(n, H, W, 3)`."""
        return self.frames.read([self.indices[index] for index in indices])

    @property
    def size(self) -> tuple[int, int]:
        """Return width and height in pixels."""
        return self.frames.size


def image_folder(folder: Path, *, first: int = 0, stop: int | None = None) -> ImageFrames:
    """Return the images of a folder in natural order, from the ``first`` (0-based) up to ``stop``."""

    return ImageFrames(partial(_list_images, folder, first, stop))


def _list_images(folder: Path, first: int, stop: int | None) -> list[Path]:
    try:
        names = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."]
    except OSError as error:
        raise DatasetError(
            f"the frames of a sequence must be in {folder}, got {error.strerror}; extract the dataset's archives"
        ) from error
    if not names:
        raise DatasetError(
            f"a folder of frames must hold images, got none in {folder}; extract the dataset's archives"
        )
    return sorted(names, key=lambda path: natural_key(path.name))[first:stop]


def row_frames(row: dict[str, Any], root: Path | ZippedFolder | None) -> Frames:
    """Return the frames of a row: `frames` (paths or undecoded images ``{"bytes", "path"}``) or `video` (the same).

    Args:
        row: of a JSONL file or a streamed data set.
        root: folder of relative paths and of zip files that may hold them; or zip files;
            None where a row must have bytes or absolute paths.

    Raises:
        DatasetError: the row has neither.
    """
    if row.get("frames"):
        if not isinstance(row["frames"], list | tuple):
            raise DatasetError(f"frames of a row must be a list of images, got {type(row['frames']).__name__}")
        base = _base(row["frames"][0], root)
        return ImageFrames([_place(item, base) for item in row["frames"]])
    if row.get("video"):
        return VideoFrames(_place(row["video"], _base(row["video"], root)))
    raise DatasetError(
        f"a row must have frames or video, got {', '.join(sorted(row)) or 'an empty row'}; see docs/evaluation.md"
    )


def _place(item: Any, root: Path | ZippedFolder | None) -> ImageFile:
    """Return the image or video that a row's path or ``{"bytes", "path"}`` names."""
    if isinstance(item, dict):
        if isinstance(item.get("bytes"), bytes | bytearray) and item["bytes"]:
            return bytes(item["bytes"])
        item = item.get("path")
    if not isinstance(item, str):
        raise DatasetError(
            f"a frame or video must be a path or {{'bytes', 'path'}}, got {type(item).__name__}; load the dataset "
            "with decode=False"
        )
    if isinstance(root, ZippedFolder):
        return ZipMember(root, item)
    return Path(item) if root is None else root / item


def _base(first: Any, root: Path | ZippedFolder | None) -> Path | ZippedFolder | None:
    """Return the root of a row's paths: the folder, or its zip files where the first path is not in the folder."""
    place = _place(first, root)
    if isinstance(root, Path) and isinstance(place, Path) and not os.path.exists(place):
        return ZippedFolder.beside(root) or root
    return root


def _opened(file: ImageFile) -> str | Path | bytes:
    """Return a path or bytes unchanged, and the content of a member of a zip file."""
    return file.read() if isinstance(file, ZipMember) else file


def _decode(file: ImageFile) -> ImageArray:
    """Return the image as it is stored: annotations count stored pixels, so EXIF does not turn it."""
    try:
        return load_image(_opened(file), upright=False)
    except VideoError as error:
        raise DatasetError(f"a frame must be an image that opens, got an error: {error}") from error
