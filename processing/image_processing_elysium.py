# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Image processor: the same resizing and normalising that video frames get, so that a frame sent as an image gives
the same tokens. It needs no torchvision."""

from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, PILImageResampling

from .media_elysium import load_image
from .media_info_elysium import downloaded


def fetch_images(images: Any) -> Any:
    """Return images (paths, http and `data:` URLs, bytes, PIL images), however nested, as uint8 RGB `(H, W, 3)`.

    Arrays and tensors are returned as they are.
    """
    if isinstance(images, list | tuple):
        return [fetch_images(image) for image in images]
    if isinstance(images, str | Path | bytes | BytesIO | Image.Image):
        return load_image(downloaded(images))
    return images


class ElysiumImageProcessor(PilBackend):
    """Resizes a picture to S x S (the aspect is not kept), rescales and normalises it.

    Returns `pixel_values` (sum I, 3, S, S).
    """

    resample = PILImageResampling.BICUBIC
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    size = {"height": 336, "width": 336}
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    model_input_names = ["pixel_values"]

    def fetch_images(self, image_url_or_urls: Any) -> Any:
        """Read images through the loader that tracking and training use."""
        return fetch_images(image_url_or_urls)


__all__ = ["ElysiumImageProcessor"]
