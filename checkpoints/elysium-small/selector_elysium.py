# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Token compression: from the N patch features of a frame to the K tokens that the language model sees.

Shapes: ``sum T`` frames of the batch, N patches, K kept, C vision width.
"""

from dataclasses import dataclass

import torch
from torch import nn

from .configuration_elysium import ElysiumConfig


@dataclass
class CompressedFrames:
    """Hold what a compressor returns.

    tokens (`torch.Tensor` of shape `(sum T, K, C')`): C' is C, or C * N / K for `concat`.
    indices (`torch.LongTensor` of shape `(sum T, K)` or `None`): the patch each token came from, in raster order.
    scores (`torch.Tensor` of shape `(sum T, N)` or `None`): selection scores before the softmax.
    """

    tokens: torch.Tensor
    indices: torch.Tensor | None = None
    scores: torch.Tensor | None = None


class ElysiumTSelector(nn.Module):
    """T-Selector of the paper (section 3.2): ``G = KeepTopK(Softmax(MLP(F)), k, F)``, per frame, raster order kept.

    The paper leaves open how the score enters. Here a kept feature is multiplied by N times its softmax weight, so
    that a uniform gate is the identity and a gradient reaches the scoring MLP.
    """

    def __init__(self, config: ElysiumConfig):
        super().__init__()
        self.num_kept_tokens = config.num_kept_tokens
        self.output_size = config.vision_config.hidden_size
        self.score_mlp = nn.Sequential(
            nn.Linear(self.output_size, config.selector_hidden_size),
            nn.GELU(),
            nn.Linear(config.selector_hidden_size, 1),
        )

    def forward(self, patches: torch.Tensor) -> CompressedFrames:
        scores = self.score_mlp(patches).squeeze(-1).float()  # (sum T, N)
        indices = scores.topk(self.num_kept_tokens, dim=-1).indices.sort(dim=-1).values  # (sum T, K)
        gate = scores.softmax(dim=-1).gather(1, indices) * patches.shape[1]
        kept = patches.gather(1, indices.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))  # (sum T, K, C)
        return CompressedFrames(kept * gate.unsqueeze(-1).to(kept.dtype), indices, scores)


class ElysiumPublicSelector(nn.Module):
    """The selection rule of the public code: top K of an affine map of a linear score.

    It never multiplies by the score, so none of these parameters receives a gradient. `score_proj` takes no part in
    it at all: it is here because the public weights hold it and a save must give them back.
    """

    def __init__(self, config: ElysiumConfig):
        super().__init__()
        num_patches, self.num_kept_tokens = config.num_patches, config.num_kept_tokens
        self.output_size = config.vision_config.hidden_size
        self.pre_proj = nn.Linear(self.output_size, 1)
        self.score_proj = nn.Linear(num_patches, self.num_kept_tokens)
        self.trans_weight = nn.Parameter(torch.zeros(num_patches, num_patches))
        self.trans_bias = nn.Parameter(torch.zeros(num_patches))
        self.requires_grad_(False)

    def forward(self, patches: torch.Tensor) -> CompressedFrames:
        linear_score = self.pre_proj(patches).squeeze(-1)  # (sum T, N)
        scores = linear_score @ self.trans_weight + self.trans_bias
        indices = scores.topk(self.num_kept_tokens, dim=-1).indices.sort(dim=-1).values  # (sum T, K)
        kept = patches.gather(1, indices.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))  # (sum T, K, C)
        return CompressedFrames(kept, indices, scores)


class ElysiumNoCompression(nn.Module):
    """Keep all N tokens."""

    def __init__(self, config: ElysiumConfig):
        super().__init__()
        self.output_size = config.vision_config.hidden_size

    def forward(self, patches: torch.Tensor) -> CompressedFrames:
        frames, num_patches, _ = patches.shape
        indices = torch.arange(num_patches, device=patches.device).expand(frames, -1)
        return CompressedFrames(patches, indices)


class ElysiumConcatCompressor(nn.Module):
    """Join groups of N / K neighbouring tokens along the channels (the paper's "concatenation" ablation).

    A square group (4, 9, ...) that tiles the image is a block of the grid; another size is a run in raster order.
    """

    def __init__(self, config: ElysiumConfig):
        super().__init__()
        group = config.num_patches // config.num_kept_tokens
        self.grid = int(config.num_patches**0.5)
        side = int(group**0.5)
        self.block = side if side * side == group and self.grid % side == 0 else None
        self.num_kept_tokens = config.num_kept_tokens
        self.output_size = config.vision_config.hidden_size * group

    def forward(self, patches: torch.Tensor) -> CompressedFrames:
        frames, _, channels = patches.shape
        if self.block is not None:
            blocks = self.grid // self.block
            patches = patches.view(frames, blocks, self.block, blocks, self.block, channels).transpose(2, 3)
        return CompressedFrames(patches.reshape(frames, self.num_kept_tokens, self.output_size))  # (sum T, K, C N/K)


class ElysiumCrossAttentionCompressor(nn.Module):
    """K learned queries attend to the patches of their frame (the paper's "cross-attention" ablation)."""

    def __init__(self, config: ElysiumConfig):
        super().__init__()
        self.output_size = config.vision_config.hidden_size
        self.num_heads = config.vision_config.num_attention_heads
        self.queries = nn.Parameter(torch.zeros(config.num_kept_tokens, self.output_size))
        self.key_norm = nn.LayerNorm(self.output_size)
        self.q_proj = nn.Linear(self.output_size, self.output_size)
        self.k_proj = nn.Linear(self.output_size, self.output_size)
        self.v_proj = nn.Linear(self.output_size, self.output_size)
        self.out_proj = nn.Linear(self.output_size, self.output_size)

    def _heads(self, tokens: torch.Tensor) -> torch.Tensor:
        frames, length, channels = tokens.shape
        return tokens.view(frames, length, self.num_heads, channels // self.num_heads).transpose(1, 2)

    def forward(self, patches: torch.Tensor) -> CompressedFrames:
        normed = self.key_norm(patches)
        queries = self.q_proj(self.queries).expand(patches.shape[0], -1, -1)  # (sum T, K, C)
        mixed = nn.functional.scaled_dot_product_attention(
            self._heads(queries), self._heads(self.k_proj(normed)), self._heads(self.v_proj(normed))
        )
        return CompressedFrames(self.out_proj(mixed.transpose(1, 2).flatten(2)))  # (sum T, K, C)


def build_compressor(config: ElysiumConfig) -> nn.Module:
    """Build the module that `config.compressor` (and, for `t_selector`, `config.selector_gate`) names."""
    if config.compressor == "t_selector":
        return ElysiumTSelector(config) if config.selector_gate == "softmax_topk" else ElysiumPublicSelector(config)
    others = {
        "none": ElysiumNoCompression,
        "concat": ElysiumConcatCompressor,
        "cross_attention": ElysiumCrossAttentionCompressor,
    }
    return others[config.compressor](config)


__all__ = [
    "CompressedFrames",
    "ElysiumConcatCompressor",
    "ElysiumCrossAttentionCompressor",
    "ElysiumNoCompression",
    "ElysiumPublicSelector",
    "ElysiumTSelector",
    "build_compressor",
]
