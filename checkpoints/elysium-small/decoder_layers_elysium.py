# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Run the layers of Llama and Qwen2 without transformers' work around them, for the small passes of fast decoding.

Masks, cache objects and nested calls take a small model as long as its products. The weights stay in its modules, and
projections, norms and MLPs are called as they are, so that quantized and adapted ones keep working.

Shapes: R rows, Q tokens of a pass, H heads, D text width, n tokens whose hidden states are wanted.
"""

from collections.abc import Callable

import torch
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

# Takes new keys and values (R, H, Q, head size) and their layer, and returns all that the tokens see, as caches do.
Update = Callable[[torch.Tensor, torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]
_FAMILIES = ("Llama", "Qwen2")


def has_plain_layers(model: nn.Module) -> bool:
    """Return whether `run_layers` computes what a language model's forward does.

    It does for Llama and Qwen2 of transformers with fused attention (sdpa) in inference, where none of the modules
    that it steps over is replaced, or hooked to be moved or observed.
    """
    family = type(model).__name__.removesuffix("Model")
    if family not in _FAMILIES or model.training or model.config._attn_implementation != "sdpa":
        return False
    home = f"transformers.models.{family.lower()}.modeling_{family.lower()}"
    parts = [(model, "Model")]
    for layer in model.layers:
        parts += [(layer, "DecoderLayer"), (layer.self_attn, "Attention")]
    return all(
        (type(part).__module__, type(part).__name__) == (home, family + name)
        and not (part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part))
        for part, name in parts
    )


def run_layers(
    model: nn.Module,
    embeds: torch.Tensor,
    positions: torch.Tensor,
    update: Update,
    *,
    mask: torch.Tensor | None = None,
    wanted: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Return the last hidden states (n, D) of the wanted tokens.

    Args:
        model: as `has_plain_layers` accepts it.
        embeds (`torch.FloatTensor` of shape `(R, Q, D)`): of the tokens.
        positions (`torch.LongTensor` of shape `(R, Q)`): of the tokens.
        update: the key-value cache.
        mask (`torch.FloatTensor` of shape `(R, 1, Q, slots)`): added to the attention; None where each token sees all
            before it.
        wanted: rows (n,) and columns (n,) of the tokens; None where only keys and values are (n = 0).
    """
    cos, sin = (part[:, None] for part in model.rotary_emb(embeds, position_ids=positions))  # (R, 1, Q, head size)
    half = cos.shape[-1] // 2
    sin = torch.cat((-sin[..., :half], sin[..., half:]), dim=-1)
    hidden, last = embeds, len(model.layers) - 1
    for level, layer in enumerate(model.layers):
        attention, normed = layer.self_attn, layer.input_layernorm(hidden)
        shape = (*normed.shape[:2], -1, attention.head_dim)
        keys = attention.k_proj(normed).view(shape).transpose(1, 2)
        values = attention.v_proj(normed).view(shape).transpose(1, 2)
        keys, values = update(keys * cos + keys.roll(half, -1) * sin, values, level)
        if level == last and wanted is None:
            return hidden[0, :0]
        queries = attention.q_proj(normed).view(shape).transpose(1, 2)
        queries = queries * cos + queries.roll(half, -1) * sin
        read, _ = sdpa_attention_forward(attention, queries, keys, values, mask, scaling=attention.scaling)
        read = read.flatten(2)  # (R, Q, H * head size)
        if level == last:
            hidden, read = hidden[wanted], read[wanted]  # (n, ...)
        hidden = hidden + attention.o_proj(read)
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return model.norm(hidden)


__all__ = ["has_plain_layers", "run_layers"]
