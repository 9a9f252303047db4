# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Image processor without torchvision.

It resizes and normalises as the video processor does, so that a frame sent as an image gives the same tokens.
"""

from io import IOBase
from pathlib import Path
from typing import Any

from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, ChannelDimension, PILImageResampling

from .images_elysium import image_array, is_array
from .media_elysium import load_image
from .media_info_elysium import downloaded

# What holds one image or video that is still to be read.
MEDIA = (str, Path, bytes, IOBase, Image.Image)


def fetch_images(images: Any) -> Any:
    """Return images (paths, http and `data:` URLs, bytes, PIL images), however nested, as uint8 RGB `(H, W, 3)`.

    Arrays and tensors are returned as they are.
    """
    if isinstance(images, list | tuple):
        return [fetch_images(image) for image in images]
    if isinstance(images, MEDIA):
        return load_image(downloaded(images))
    return images


def array_options(settings: dict[str, Any], do_rescale: bool) -> dict[str, Any]:
    """Return how arrays are to be read, taking `input_data_format` out of the settings of a call.

    Args:
        settings: of the call.
        do_rescale: where the call says nothing of it; floats that are not to be rescaled are meant as they are.
    """
    layout, rescaled = settings.pop("input_data_format", None), settings.get("do_rescale")
    return {
        "channels_first": None if layout is None else ChannelDimension(layout) == ChannelDimension.FIRST,
        "scale_floats": bool(do_rescale if rescaled is None else rescaled),
    }


class SquareResize:
    """Settings of the image and the video processor, so that a frame and an image give the same tokens."""

    resample = PILImageResampling.BICUBIC
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    size = {"height": 336, "width": 336}
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True


class ElysiumImageProcessor(SquareResize, PilBackend):
    """Resize an image to S x S (the aspect is not kept), rescale and normalise it.

    The output has `pixel_values` (sum I, 3, S, S).
    """

    model_input_names = ["pixel_values"]

    def fetch_images(self, image_url_or_urls: Any) -> Any:
        """Read images through the loader that tracking and training use."""
        return fetch_images(image_url_or_urls)

    def preprocess(self, images: Any, *args: Any, **kwargs: Any) -> BatchFeature:
        """Preprocess as transformers does; arrays of any layout and range are recognised (see `images_elysium`)."""
        options = array_options(kwargs, self.do_rescale)

        def rgb(value: Any) -> Any:
            if isinstance(value, list | tuple) or (is_array(value) and value.ndim == 4):
                return [rgb(one) for one in value]
            return image_array(value, **options) if is_array(value) else value

        return super().preprocess(rgb(self.fetch_images(images)), *args, **kwargs)


__all__ = ["ElysiumImageProcessor"]
