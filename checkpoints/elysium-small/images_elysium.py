# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Images, animated images and folders of frames through PIL; arrays and tensors of every usual kind as RGB.

The kind of an array (channels first or last, grey, with opacity, floats, booleans) is recognised from its shape, dtype
and range; what could be two kinds is refused by name.
"""

import math
import re
import sys
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageSequence, UnidentifiedImageError
from PIL.GifImagePlugin import GifImageFile

from .media_info_elysium import DecodedFrame, MediaFile, VideoError, VideoInfo, media_file

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".avif"}
)
# Other plugins of PIL take videos for images (MPEG) or need programs of the system.
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO")
_ANIMATIONS = ("GIF", "WEBP", "PNG", "AVIF")
# Suffixes of files that begin as an image does and go on with others.
_VIDEOS_OF_IMAGES = frozenset({".mjpeg", ".mjpg"})
_CHANNELS = (1, 3, 4)
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
            delays_s = self._delays_s(image)
            size = image.size
            # PIL itself turns a TIFF, and says the size that it then has.
            self._orientation = 1 if image.format == "TIFF" else _orientation(image)
        width, height = size[::-1] if self._orientation >= 5 else size
        self.delays_s = delays_s
        count, duration_s = len(delays_s), sum(delays_s)
        self.info = VideoInfo(file.name, width, height, count / duration_s, count, duration_s)

    def _delays_s(self, image: Image.Image) -> list[float]:
        """Return how long each frame stands; the pages of a TIFF and a phone's second JPEG are no animation."""
        pages = getattr(image, "n_frames", 1)
        if image.format not in _ANIMATIONS or pages < 2:
            if image.format == "TIFF" and pages > 1:
                self._warnings.append(f"{self.file.name} has {pages} pages, of which the first is read")
            return [1.0]
        delays_s = []
        try:
            for frame in _animation(image):
                # WebP and AVIF tell the delay of a frame once it is decoded; browsers show 0 and 10 ms as 100 ms.
                frame.load()
                delay_ms = frame.info.get("duration", 0)
                delays_s.append(delay_ms / 1000 if delay_ms > 10 else 0.1)
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            if not delays_s:
                raise _undecodable(self.file.name, error) from error
            self._warnings.append(
                f"decoded {len(delays_s)} of {pages} frames of {self.file.name}; the file is cut short"
            )
            return delays_s
        if image.format == "GIF" and not self.file.read().rstrip(b"\0").endswith(b";"):
            self._warnings.append(f"{self.file.name} does not end as a GIF does; the file may be cut short")
        return delays_s

    def decode(self, warnings: list[str]) -> Generator[DecodedFrame]:
        """Yield the frames of the file."""
        warnings += self._warnings
        start_s, is_still = 0.0, len(self.delays_s) == 1
        try:
            with Image.open(self.file.opened(), formats=_FORMATS) as image:
                frames = [image] if is_still else _animation(image)
                for delay_s, frame in zip(self.delays_s, frames, strict=False):
                    frame.load()
                    # The next frame is drawn over this one.
                    yield DecodedFrame(start_s, delay_s, partial(self._to_rgb, frame if is_still else frame.copy()))
                    start_s += delay_s
        except (OSError, SyntaxError, ValueError, EOFError) as error:
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
    """Yield the frames, to be loaded, less the still that an APNG shows where animation is not known.

    What a frame of a GIF clears becomes white or transparent, as in browsers, whatever the background's colour.
    """
    cleared = None
    for frame in islice(ImageSequence.Iterator(image), int(bool(image.info.get("default_image"))), None):
        if cleared is not None:
            left, top, right, bottom = cleared
            white = Image.new(frame.mode, (right - left, bottom - top), (255, 255, 255, 0)[: len(frame.mode)])
            frame.im.paste(white.im, cleared)
            if isinstance(frame, GifImageFile) and frame.disposal_method == 3:
                frame.dispose = frame.im.crop(frame.dispose_extent)  # what comes back after this frame
        yield frame
        cleared = None
        if isinstance(frame, GifImageFile) and (
            frame.disposal_method == 2 or (frame.disposal_method == 3 and frame.tell() == 0)
        ):
            cleared, frame.dispose = frame.dispose_extent, None


def _undecodable(name: str, error: object) -> VideoError:
    return VideoError(f"an image must decode whole, got {name} ({error}); get the original image")


def is_array(value: Any) -> bool:
    """Return whether a value is an array or a tensor."""
    return isinstance(value, np.ndarray) or _is_tensor(value)


def _is_tensor(value: Any) -> bool:
    """Return whether a value is a tensor, without loading torch: who has a tensor has loaded it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def image_array(value: Any, *, channels_first: bool | None = None, scale_floats: bool = True) -> NDArray[Any]:
    """Return one image as RGB `(H, W, 3)`, uint8.

    Args:
        value: array or tensor `(H, W)`, `(H, W, C)` or `(C, H, W)` with 1, 3 or 4 channels.
        channels_first: by default channels are looked for last, then first.
        scale_floats: whether floats (0..1 or 0..255) become uint8; else they stay as they are.

    Raises:
        ValueError: another shape, or values of an unknown range.
    """
    frame = _channels_last(_numpy(value), channels_first)
    return _rgb(frame if frame.dtype.kind == "f" and not scale_floats else _uint8(frame))


def video_array(value: Any, *, channels_first: bool | None = None, scale_floats: bool = True) -> NDArray[Any]:
    """Return the frames of a video as RGB `(T, H, W, 3)`, uint8.

    Args:
        value: array or tensor `(T, H, W, C)`, `(T, C, H, W)`, `(T, H, W)` (grey) or `(H, W, C)` (one frame); or a list
            of images as `image_array` takes them.
        channels_first: as for `image_array`.
        scale_floats: as for `image_array`; floats of one video have one range.

    Raises:
        ValueError: another shape, no frames, frames of several sizes, or values of an unknown range.
    """
    if not is_array(value):
        return _stacked([_channels_last(_numpy(frame), channels_first) for frame in value], scale_floats)
    frames = _numpy(value)
    if frames.ndim == 3 and channels_first is None and frames.shape[-1] not in _CHANNELS:
        if len(frames) in _CHANNELS:
            raise ValueError(
                f"a video must be an array (T, H, W, 3), got {frames.shape}, which may be {len(frames)} grey frames "
                "or one image with channels first; give all four dimensions"
            )
        frames = frames[..., None]
    elif frames.ndim in (2, 3):
        frames = _channels_last(frames, channels_first)[None]
    if frames.ndim != 4 or not len(frames):
        raise ValueError(f"a video must be an array (T, H, W, 3) of at least one frame, got {frames.shape}")
    frames = _channels_last(frames, channels_first)
    return _rgb(frames if frames.dtype.kind == "f" and not scale_floats else _uint8(frames))


def _stacked(frames: Sequence[NDArray[Any]], scale_floats: bool) -> NDArray[Any]:
    """Return images of one size as a video; floats of one video have one range."""
    if not frames:
        raise ValueError("a video must have at least one frame, got none; check where they come from")
    first = frames[0].shape[:2]
    other = next((number for number, frame in enumerate(frames) if frame.shape[:2] != first), None)
    if other is not None:
        raise ValueError(
            f"every frame must be {first[1]}x{first[0]} like the first, got {frames[other].shape[1]}x"
            f"{frames[other].shape[0]} at frame {other}; resize them, or give two videos"
        )
    floats = [frame for frame in frames if frame.dtype.kind == "f"]
    if floats and not scale_floats:
        return np.stack([_rgb(frame) for frame in frames])
    peak = max((float(frame.max()) for frame in floats), default=None)
    return np.stack([_rgb(_uint8(frame, peak)) for frame in frames])


def _numpy(value: Any) -> NDArray[Any]:
    if not _is_tensor(value):
        return np.asarray(value)
    tensor = value.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _channels_last(array: NDArray[Any], channels_first: bool | None) -> NDArray[Any]:
    """Return an image or a video as `(..., H, W, C)`; grey gets one channel."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim < 3 or not array.size:
        raise ValueError(f"an image must be an array (H, W, 3) with pixels in it, got {array.shape}")
    if not channels_first and array.shape[-1] in _CHANNELS:
        return array
    if channels_first is not False and array.shape[-3] in _CHANNELS:
        return np.moveaxis(array, -3, -1)
    raise ValueError(
        f"an image must be an array (H, W, C) or (C, H, W) with 1, 3 or 4 channels C, got {array.shape}; "
        "convert it to RGB"
    )


def _uint8(array: NDArray[Any], peak: float | None = None) -> NDArray[np.uint8]:
    """Return values as 0..255; floats are 0..1 where none is above 1 (``peak`` of all frames), else 0..255."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * 255
    if array.dtype.kind not in "iuf":
        raise ValueError(f"pixels must be numbers, got {array.dtype}; convert them to uint8")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 255):  # also not a number
        raise ValueError(
            f"pixels must be 0..255, or floats 0..1, got {array.dtype} from {low:g} to {high:g}; "
            "undo a normalisation and scale them to 0..255"
        )
    if array.dtype.kind == "f":
        array = np.rint(array * 255 if (high if peak is None else peak) <= 1 else array)
    return array.astype(np.uint8)


def _rgb(array: NDArray[Any]) -> NDArray[Any]:
    """Return three channels from 1, 3 or 4."""
    if array.shape[-1] == 1:
        return np.repeat(array, 3, axis=-1)
    if array.shape[-1] == 3:
        return array
    if array.dtype == np.uint8:
        return on_white(array)
    opacity = array[..., 3:]
    return array[..., :3] * opacity + (1 - opacity)
