# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Code that differs between the supported versions of transformers (5.19 and later)."""

from dataclasses import fields
from typing import Any

import torch
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast

try:
    from transformers.modeling_utils import slice_logits_to_keep  # 5.21 and later
except ImportError:

    def slice_logits_to_keep(hidden_states: torch.Tensor, logits_to_keep: int | torch.Tensor) -> torch.Tensor:
        """Return the positions of `hidden_states` (B, L, D) that get logits: the last n (0: all) or an index."""
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        return hidden_states[:, keep]


# Name of the key-value cache in arguments and outputs: `past_key_values`, and `cache` from 5.24 on.
CACHE_NAME = next(
    field.name for field in fields(BaseModelOutputWithPast) if field.name in ("cache", "past_key_values")
)


def cache_kwargs(cache: Cache | None) -> dict[str, Any]:
    """Return the key-value cache as a keyword argument of a language model's forward or of a model output."""
    return {CACHE_NAME: cache}


def output_cache(outputs: Any) -> Cache | None:
    """Return the key-value cache of a model's output."""
    return getattr(outputs, CACHE_NAME)


__all__ = ["CACHE_NAME", "cache_kwargs", "output_cache", "slice_logits_to_keep"]
