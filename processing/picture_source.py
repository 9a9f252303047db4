"""Pictures, animated pictures and folders of frames through PIL."""

import math
import re
from collections.abc import Generator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, ImageSequence, UnidentifiedImageError

from .video_info import Moment, VideoError, VideoInfo

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sorts ``frame2`` before ``frame10``.

    >>> sorted(["f10.png", "f2.png", "f1.png"], key=natural_key)
    ['f1.png', 'f2.png', 'f10.png']
    """
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part]


class ImageSource:
    """A picture, or the frames of an animated one with their delays."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _open_image(path) as image:
            width, height = _upright_size(image)
            delays_s = [_delay_s(frame) for frame in ImageSequence.Iterator(image)] if _is_animation(image) else [1.0]
        duration_s = sum(delays_s)
        self.starts_s = np.cumsum([0.0, *delays_s[:-1]])
        count = len(delays_s)
        self.info = VideoInfo(str(path), width, height, count / duration_s, count, duration_s)

    def moments(self, warnings: list[str]) -> Generator[Moment]:
        """The frames of the file."""
        with _open_image(self.path) as image:
            frames = ImageSequence.Iterator(image) if len(self.starts_s) > 1 else [image]
            for start_s, frame in zip(self.starts_s, frames, strict=False):
                yield Moment(float(start_s), partial(_image_to_rgb, frame, self.path))


class FolderSource:
    """A folder of pictures of one size, in natural order of their names."""

    def __init__(self, path: Path, fps: float) -> None:
        if not (math.isfinite(fps) and fps > 0):
            raise VideoError(f"folder_fps must be a finite number above 0, got {fps}; give frames per second")
        names = [p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
        if not names:
            raise VideoError(
                f"a folder of frames must hold pictures ({', '.join(sorted(IMAGE_SUFFIXES))}), got none in {path}; "
                "give the folder that holds the frames"
            )
        self.files = sorted(names, key=lambda file: natural_key(file.name))
        with _open_image(self.files[0]) as image:
            width, height = _upright_size(image)
        self.info = VideoInfo(str(path), width, height, float(fps), len(names), len(names) / fps)

    def moments(self, warnings: list[str]) -> Generator[Moment]:
        """One frame for every file."""
        for file in self.files:
            yield Moment(None, partial(self._read, file))

    def _read(self, file: Path) -> NDArray[np.uint8]:
        with _open_image(file) as image:
            pixels = _image_to_rgb(image, file)
        if pixels.shape[:2] != (self.info.height, self.info.width):
            raise VideoError(
                f"frames of a folder must have one size, got {pixels.shape[1]}x{pixels.shape[0]} in {file} after "
                f"{self.info.width}x{self.info.height} in {self.files[0].name}; move other pictures away"
            )
        return pixels


def _open_image(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise VideoError(
            f"a picture must be a file that PIL can open, got {path} ({type(error).__name__}); get the original"
        ) from error


def _is_animation(image: Image.Image) -> bool:
    """Whether the frames follow one another in time: the pages of a TIFF and a phone's second JPEG do not."""
    return image.format in ("GIF", "WEBP", "PNG") and getattr(image, "n_frames", 1) > 1


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height after EXIF orientation, without decoding."""
    sideways = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    return (image.height, image.width) if sideways else (image.width, image.height)


def _delay_s(frame: Image.Image) -> float:
    """Seconds that a frame stands; a delay of 0 or 10 ms is shown as 100 ms, as browsers do."""
    delay_ms = float(frame.info.get("duration", 0))
    return delay_ms / 1000 if delay_ms > 10 else 0.1


def _image_to_rgb(image: Image.Image, path: Path) -> NDArray[np.uint8]:
    """Upright RGB; transparency on white; 16-bit grey scaled to 8."""
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):
            grey = np.asarray(upright).astype(np.int64)
            return np.repeat((np.clip(grey, 0, 65535) >> 8).astype(np.uint8)[..., None], 3, axis=2)
        if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
            rgba = upright.convert("RGBA")
            white = Image.new("RGBA", rgba.size, "white")
            upright = Image.alpha_composite(white, rgba)
        return np.array(upright.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise VideoError(f"a picture must decode whole, got {path} ({error}); get the original picture") from error
