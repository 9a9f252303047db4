# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Image processor: the same resizing and normalising that video frames get, so that a frame sent as an image gives
the same tokens. It needs no torchvision."""

from transformers.image_processing_backends import PilBackend
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, PILImageResampling


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


__all__ = ["ElysiumImageProcessor"]
