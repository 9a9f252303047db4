# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Images, animated images and folders of frames through PIL."""

import math
import re
from collections.abc import Generator, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageSequence, UnidentifiedImageError

from .gif_elysium import gif_delays_s, gif_frames, shown_delay_s
from .media_info_elysium import DecodedFrame, MediaFile, VideoError, VideoInfo, media_file

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".avif"}
)
# Other plugins of PIL take videos for images (MPEG) or need programs of the system.
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO")
# Suffixes of files that begin as an image does and go on with others.
_VIDEOS_OF_IMAGES = frozenset({".mjpeg", ".mjpg"})
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Return a key that sorts ``frame2`` before ``frame10``.

    >>> sorted(["f10.png", "f2.png", "f1.png"], key=natural_key)
    ['f1.png', 'f2.png', 'f10.png']
    """
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part]


def open_image(file: MediaFile) -> Image.Image | None:
    """Open a file with PIL, whatever its suffix; None where it is no image.

    Raises:
        VideoError: an image with too many pixels to be meant.
    """
    if file.suffix in _VIDEOS_OF_IMAGES:
        return None
    try:
        Image.init()  # Pillow below 11.3 and builds without libavif have no AVIF, and raise KeyError where it is named
        return Image.open(file.opened(), formats=[name for name in _FORMATS if name in Image.OPEN])
    except Image.DecompressionBombError as error:
        raise VideoError(f"an image must have a usual size, got {file.name} ({error}); scale it down") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        return None


class ImageSource:
    """Decode an image, or the frames of an animated one with their delays.

    Args:
        file: the file.
        image: the file opened by `open_image`; closed here.

    Raises:
        VideoError: nothing of it decodes.
    """

    def __init__(self, file: MediaFile, image: Image.Image) -> None:
        self.file = file
        self._warnings: list[str] = []
        with image:
            self._format = image.format
            self._pages = getattr(image, "n_frames", 1)
            delays_s = self._delays_s(image)
            size = image.size
            # PIL itself turns a TIFF, and says the size that it then has.
            self._orientation = 1 if self._format == "TIFF" else _orientation(image)
        width, height = size[::-1] if self._orientation >= 5 else size
        duration_s = sum(delays_s)
        self.starts_s = np.cumsum([0.0, *delays_s[:-1]]).tolist()
        self.delays_s = delays_s
        count = len(delays_s)
        self.info = VideoInfo(file.name, width, height, count / duration_s, count, duration_s)

    def _delays_s(self, image: Image.Image) -> list[float]:
        """Return how long each frame stands; the pages of a TIFF and a phone's second JPEG are no animation."""
        if self._format == "GIF":
            data = self.file.read()
            delays_s = gif_delays_s(data)
            if not delays_s:
                raise _undecodable(self.file.name, "its first frame is cut short")
            if not data.rstrip(b"\0").endswith(b";"):
                self._warnings.append(f"{self.file.name} does not end as a GIF does; the file may be cut short")
            return delays_s if len(delays_s) > 1 else [1.0]
        if self._format not in ("WEBP", "PNG", "AVIF") or self._pages < 2:
            if self._format == "TIFF" and self._pages > 1:
                self._warnings.append(f"{self.file.name} has {self._pages} pages, of which the first is read")
            return [1.0]
        delays_s = []
        try:
            for frame in _animation(image):
                frame.load()  # WebP and AVIF tell the delay of a frame once it is decoded
                delays_s.append(shown_delay_s(frame.info.get("duration", 0)))
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            if not delays_s:
                raise _undecodable(self.file.name, error) from error
            self._warnings.append(
                f"decoded {len(delays_s)} of {self._pages} frames of {self.file.name}; the file is cut short"
            )
        return delays_s

    def decode(self, warnings: list[str]) -> Generator[DecodedFrame]:
        """Yield the frames of the file."""
        warnings += self._warnings
        if len(self.delays_s) == 1:
            yield DecodedFrame(0.0, self.delays_s[0], self._read)
            return
        frames = self._frames()
        for index, (start_s, delay_s) in enumerate(zip(self.starts_s, self.delays_s, strict=True)):
            try:
                frame = next(frames)
            except (OSError, SyntaxError, ValueError) as error:
                if index == 0:
                    raise _undecodable(self.file.name, error) from error
                warnings.append(f"decoded {index} of {len(self.delays_s)} frames of {self.file.name} ({error})")
                return
            yield DecodedFrame(start_s, delay_s, partial(self._to_rgb, frame))

    def _frames(self) -> Iterator[Image.Image]:
        """Yield the frames of an animation, each a copy of its own."""
        if self._format == "GIF":
            # PIL paints what a frame clears in the background's colour, which browsers do not.
            yield from gif_frames(self.file.read())
            return
        with Image.open(self.file.opened(), formats=_FORMATS) as image:
            for frame in islice(_animation(image), len(self.delays_s)):
                yield frame.copy()

    def _read(self) -> NDArray[np.uint8]:
        """Return the only image."""
        try:
            if self._format == "GIF":
                return self._to_rgb(next(self._frames()))
            with Image.open(self.file.opened(), formats=_FORMATS) as image:
                return self._to_rgb(image)
        except (OSError, SyntaxError) as error:
            raise _undecodable(self.file.name, error) from error

    def _to_rgb(self, image: Image.Image) -> NDArray[np.uint8]:
        return image_to_rgb(image, self.file.name, orientation=self._orientation)


class FolderSource:
    """Decode a folder of images of one size, in natural order of their names."""

    def __init__(self, path: Path, fps: float) -> None:
        if not (math.isfinite(fps) and fps > 0):
            raise VideoError(f"folder_fps must be a finite number above 0, got {fps}; give frames per second")
        names = [p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
        if not names:
            raise VideoError(
                f"a folder of frames must hold images ({', '.join(sorted(IMAGE_SUFFIXES))}), got none in {path}; "
                "give the folder that holds the frames"
            )
        self.files = sorted(names, key=lambda file: natural_key(file.name))
        first = self._source(self.files[0]).info
        self.info = VideoInfo(str(path), first.width, first.height, float(fps), len(names), len(names) / fps)

    def decode(self, warnings: list[str]) -> Generator[DecodedFrame]:
        """Yield one frame for every file."""
        for file in self.files:
            yield DecodedFrame(None, 1 / self.info.fps, partial(self._read, file))

    def _source(self, path: Path) -> ImageSource:
        file = media_file(path)
        image = open_image(file)
        if image is None:
            raise not_an_image(file)
        return ImageSource(file, image)

    def _read(self, path: Path) -> NDArray[np.uint8]:
        pixels = next(self._source(path).decode([])).to_rgb()
        if pixels.shape[:2] != (self.info.height, self.info.width):
            raise VideoError(
                f"frames of a folder must have one size, got {pixels.shape[1]}x{pixels.shape[0]} in {path} after "
                f"{self.info.width}x{self.info.height} in {self.files[0].name}; move other images away"
            )
        return pixels


def not_an_image(file: MediaFile) -> VideoError:
    """Return the error for a file that was meant to be an image."""
    return VideoError(
        f"an image must be a file that PIL can open, got {file.name}; it may be damaged or cut short: get the original"
    )


def image_to_rgb(image: Image.Image, name: str, *, orientation: int | None = None) -> NDArray[np.uint8]:
    """Return an image as uint8 RGB `(H, W, 3)`: upright, transparency on white, deep grey scaled to 8 bits.

    Args:
        image: of any mode.
        name: what an error calls it.
        orientation: of EXIF, 1 for pixels as they are stored; read from the image by default.

    Raises:
        VideoError: it does not decode whole, or its values are of no known range.
    """
    try:
        image.load()
        turn = _TURNS.get(_orientation(image) if orientation is None else orientation)
        upright = image if turn is None else image.transpose(turn)
        if upright.mode.startswith("I") or upright.mode == "F":
            return _deep_grey(upright, name, is_ppm=image.format == "PPM")
        if upright.has_transparency_data:
            return on_white(np.asarray(upright.convert("RGBA")))
        return np.array(upright.convert("RGB"))
    except VideoError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise _undecodable(name, error) from error


def on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay an image with transparency on white.

    Args:
        rgba (`np.ndarray` of shape `(H, W, 4)`): colours that are not multiplied by their opacity.

    >>> on_white(np.array([[[9, 9, 9, 0], [9, 9, 9, 255]]], np.uint8)).tolist()
    [[[255, 255, 255], [9, 9, 9]]]
    """
    opacity = rgba[..., 3:].astype(np.uint32)
    mixed = rgba[..., :3] * opacity + 255 * (255 - opacity)
    return ((mixed + 127) // 255).astype(np.uint8)


def _deep_grey(image: Image.Image, name: str, *, is_ppm: bool) -> NDArray[np.uint8]:
    """Return grey of 16 or 32 bits, or floats in 0..1 or 0..255, as uint8 RGB."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if image.mode == "F" and low >= 0 and high <= 1:
        grey = np.round(values * 255)
    elif image.mode in ("I", "F") and not is_ppm and low >= 0 and high <= 255:
        grey = values
    elif low >= 0 and high <= 65535:
        grey = values.astype(np.int64) >> 8
    else:
        raise VideoError(
            f"grey values must lie in 0..1, 0..255 or 0..65535, got {low:g} to {high:g} in {name}; "
            "scale them to 0..255"
        )
    grey = grey.astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey = np.where(values == clear, np.uint8(255), grey)
    return np.repeat(grey[..., None], 3, axis=2)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 where there is none or it cannot be read."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
        return int(found) if found in _TURNS else 1
    except Exception:  # PIL's parser of EXIF raises what its fields' bytes happen to cause
        return 1


def _animation(image: Image.Image) -> Iterator[Image.Image]:
    """Yield the frames, less the still that an APNG shows where animation is not known."""
    frames = ImageSequence.Iterator(image)
    return islice(frames, 1, None) if image.info.get("default_image") else iter(frames)


def _undecodable(name: str, error: object) -> VideoError:
    return VideoError(f"an image must decode whole, got {name} ({error}); get the original image")
