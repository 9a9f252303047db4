# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Arrays and tensors of every usual kind as RGB: channels first or last, grey, with opacity, floats, booleans.

A kind is recognised from shape, dtype and range, and what could be two kinds is refused by name.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .images_elysium import on_white

_CHANNELS = (1, 3, 4)


def is_array(value: Any) -> bool:
    """Return whether a value is an array or a tensor."""
    return isinstance(value, np.ndarray | torch.Tensor)


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
    if not isinstance(value, torch.Tensor):
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


__all__ = ["image_array", "is_array", "video_array"]
