"""The smallest Elysium that has every part: built in a second, never downloaded, weights random but fixed."""

from functools import cache
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

import elysium  # noqa: F401  (registers the Auto classes)
from elysium.modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from elysium.processing.build_processor import build_processor
from elysium.processing.processing_elysium import ElysiumProcessor
from elysium.tracking.checkpoints import SHIPPED

TINY_MODEL = {
    "image_size": 32,
    "patch_size": 8,
    "num_kept_tokens": 5,
    "vision_width": 64,
    "vision_layers": 2,
    "text_width": 64,
    "text_layers": 2,
}
VISION = {
    "model_type": "clip_vision_model",
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "hidden_act": "gelu_pytorch_tanh",
    "projection_dim": 64,
}
TEXT = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
}


@cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer of elysium-tiny."""
    return PreTrainedTokenizerFast.from_pretrained(SHIPPED / "elysium-tiny")


def tiny_config(tokenizer: PreTrainedTokenizerFast | None = None, **changes) -> ElysiumConfig:
    """Return the configuration of the tiny model with fields changed, such as ``compressor="concat"``."""
    tokenizer = tokenizer or tiny_tokenizer()
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    values = {
        "vision_config": VISION,
        "text_config": TEXT | special | {"vocab_size": len(tokenizer)},
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
        "video_token_id": tokenizer.convert_tokens_to_ids("<video>"),
        "num_kept_tokens": TINY_MODEL["num_kept_tokens"],
        "vision_prefix_tokens": 1,
        "vision_feature_layer": -1,
        "vision_feature_norm": True,
        "kept_position_embedding": True,
        "trained_on": "trained on synthetic scenes; random weights of the tests",
        **special,
    }
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
    tiny_model(**changes).save_pretrained(folder)
    tiny_processor(**changes).save_pretrained(folder)
    return folder
