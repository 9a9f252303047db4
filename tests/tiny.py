"""The smallest Elysium that has every part: built in a second, never downloaded, weights random but fixed."""

from functools import cache
from pathlib import Path

import torch

import elysium  # noqa: F401  (registers the Auto classes)
from elysium.modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from elysium.processing.build_processor import build_processor
from elysium.processing.processing_elysium import ElysiumProcessor
from research.tiny.checkpoint import build_config, load_tiny_tokenizer, save_checkpoint

TINY_MODEL = {
    "image_size": 32,
    "patch_size": 8,
    "num_kept_tokens": 5,
    "vision_width": 64,
    "vision_layers": 2,
    "text_width": 64,
    "text_layers": 2,
}


@cache
def tiny_tokenizer():
    return load_tiny_tokenizer()


def tiny_config(**changes) -> ElysiumConfig:
    """Configuration of the tiny model with fields changed, such as ``compressor="concat"``."""
    values = build_config(TINY_MODEL, tiny_tokenizer()).to_dict()
    return ElysiumConfig(**(values | changes))


def tiny_model(**changes) -> ElysiumForConditionalGeneration:
    """Random weights, the same every time; `changes` are fields of the configuration."""
    torch.manual_seed(0)
    return ElysiumForConditionalGeneration(tiny_config(**changes)).eval()


def tiny_processor(**changes) -> ElysiumProcessor:
    """Processor that fits `tiny_model(**changes)`."""
    return build_processor(tiny_config(**changes), tiny_tokenizer())


def save_tiny_checkpoint(folder: Path, **changes) -> Path:
    """Writes a whole checkpoint folder and returns it."""
    save_checkpoint(tiny_model(**changes), tiny_processor(**changes), folder)
    return folder
