# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""A small vision tower for computers without a GPU: the first three stages of TinyViT.

Architecture: Wu et al., "TinyViT: Fast Pretraining Distillation for Small Vision Transformers", ECCV 2022, arXiv
2207.10666. Published weights (MobileSAM's image encoder) fit once each batch normalisation is folded into the
convolution before it, which is why the convolutions here have a bias and no normalisation.

Shapes: B images, S pixels a side, N = (S / 16) ** 2 patches, C width of a stage, G = S / 16 patches a side.
"""

from typing import Any

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput

from .configuration_elysium import ElysiumTinyViTConfig

# Images that go through the tower at once in inference on a CPU, so that activations stay in its caches.
_IMAGES_AT_ONCE = 4


class PointwiseConv2d(nn.Conv2d):
    """Compute a 1x1 convolution as a product of matrices: faster on one thread where channels come last."""

    def __init__(self, wide_in: int, wide_out: int):
        super().__init__(wide_in, wide_out, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = nn.functional.linear(images.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
        return rows.permute(0, 3, 1, 2)


def _convolution(wide_in: int, wide_out: int, side: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    if side == 1:
        return PointwiseConv2d(wide_in, wide_out)
    return nn.Conv2d(wide_in, wide_out, side, stride, side // 2, groups=groups)


def _gelu(hidden: torch.Tensor) -> torch.Tensor:
    """Return GELU of a tensor that nobody else holds: in its own memory where no gradient is taken."""
    return nn.functional.gelu(hidden) if torch.is_grad_enabled() else torch.ops.aten.gelu_(hidden)


class TinyViTConvBlock(nn.Module):
    """Inverted bottleneck: 1x1 up by four, 3x3 by channel, 1x1 down, added to the input."""

    def __init__(self, width: int):
        super().__init__()
        self.expand = _convolution(width, 4 * width)
        self.spread = _convolution(4 * width, 4 * width, 3, groups=4 * width)
        self.shrink = _convolution(4 * width, width)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = _gelu(self.expand(images))
        hidden = _gelu(self.spread(hidden))
        return _gelu(images + self.shrink(hidden))


class TinyViTMerging(nn.Module):
    """Between stages: half the side, another width."""

    def __init__(self, width_in: int, width_out: int):
        super().__init__()
        self.enter = _convolution(width_in, width_out)
        self.halve = _convolution(width_out, width_out, 3, 2, groups=width_out)
        self.leave = _convolution(width_out, width_out)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = _gelu(self.enter(images))
        return self.leave(_gelu(self.halve(hidden)))


class TinyViTAttention(nn.Module):
    """Attention within a window, with a learned bias for each distance between two patches of it."""

    def __init__(self, width: int, num_heads: int, window: int):
        super().__init__()
        self.num_heads, self.window = num_heads, window
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window * window))

    def _bias(self, rows: int, columns: int) -> torch.Tensor:
        """Return the bias (heads, rows * columns, rows * columns) of a window."""
        device = self.attention_biases.device
        row = torch.arange(rows, device=device).repeat_interleave(columns)
        column = torch.arange(columns, device=device).repeat(rows)
        down, across = (row[:, None] - row).abs(), (column[:, None] - column).abs()
        return self.attention_biases[:, down * self.window + across]

    def forward(self, patches: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """Attend within one window of patches (B, rows * columns, C)."""
        batch, length, width = patches.shape
        # Each head's query, key and value lie side by side in the published weights.
        qkv = self.qkv(self.norm(patches)).view(batch, length, self.num_heads, 3, width // self.num_heads)
        query, key, value = qkv.permute(3, 0, 2, 1, 4)
        bias = self._bias(rows, columns).to(query.dtype)
        if torch.is_grad_enabled():  # the fused backward pass is slower on a CPU
            scores = query @ key.transpose(-1, -2) * (width // self.num_heads) ** -0.5 + bias
            mixed = scores.softmax(-1).to(value.dtype) @ value
        else:
            mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias[None])
        return self.proj(mixed.transpose(1, 2).reshape(batch, length, width))


class TinyViTBlock(nn.Module):
    """Window attention, a 3x3 convolution by channel, and an MLP."""

    def __init__(self, width: int, num_heads: int, window: int):
        super().__init__()
        self.window = window
        self.attention = TinyViTAttention(width, num_heads, window)
        self.local = _convolution(width, width, 3, groups=width)
        self.mlp_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def _attend(self, grid: torch.Tensor) -> torch.Tensor:
        """Attend within the windows of a grid (B, H, W, C), whose edge is padded with zeros."""
        batch, height, width, channels = grid.shape
        window = self.window
        if height <= window and width <= window:
            return self.attention(grid.flatten(1, 2), height, width).view_as(grid)
        down, across = -height % window, -width % window
        padded = nn.functional.pad(grid, (0, 0, 0, across, 0, down))
        rows, columns = (height + down) // window, (width + across) // window
        windows = padded.view(batch, rows, window, columns, window, channels).transpose(2, 3)
        mixed = self.attention(windows.reshape(-1, window * window, channels), window, window)
        mixed = mixed.view(batch, rows, columns, window, window, channels).transpose(2, 3)
        return mixed.reshape(batch, height + down, width + across, channels)[:, :height, :width]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features of the shape of ``images``, (B, C, H, W)."""
        grid = images.permute(0, 2, 3, 1)
        grid = grid + self._attend(grid)
        grid = self.local(grid.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        grid = grid + self.fc2(_gelu(self.fc1(self.mlp_norm(grid))))
        return grid.permute(0, 3, 1, 2)


class ElysiumTinyViT(PreTrainedModel):
    """Encode images (B, 3, S, S) as patch features (B, N, C)."""

    config_class = ElysiumTinyViTConfig
    base_model_prefix = "vision_tower"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = False
    _no_split_modules = ["TinyViTConvBlock", "TinyViTBlock"]
    # Its attention has a bias and a window of its own: whichever implementation is asked for, it computes the same.
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True
    _can_compile_fullgraph = True

    def __init__(self, config: ElysiumTinyViTConfig):
        super().__init__(config)
        (first, second), third = config.early_widths, config.hidden_size
        self.stem_in = _convolution(config.num_channels, first // 2, 3, 2)
        self.stem_out = _convolution(first // 2, first, 3, 2)
        self.conv_blocks = nn.ModuleList(TinyViTConvBlock(first) for _ in range(config.early_depths[0]))
        self.merge_in = TinyViTMerging(first, second)
        self.fine_blocks = nn.ModuleList(
            TinyViTBlock(second, config.early_heads, config.early_window) for _ in range(config.early_depths[1])
        )
        self.merge_out = TinyViTMerging(second, third)
        self.coarse_blocks = nn.ModuleList(
            TinyViTBlock(third, config.num_attention_heads, config.attention_window)
            for _ in range(config.num_hidden_layers)
        )
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, TinyViTAttention):
            init.zeros_(module.attention_biases)

    def early_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return the input (B, C, G, G) of the last stage, fixed while only that stage is trained."""
        images = pixel_values.contiguous(memory_format=torch.channels_last)
        images = self.stem_out(_gelu(self.stem_in(images)))
        for block in self.conv_blocks:
            images = block(images)
        images = self.merge_in(images)
        for block in self.fine_blocks:
            images = block(images)
        return self.merge_out(images)

    def forward(self, pixel_values: torch.FloatTensor, return_dict: bool = True, **kwargs: Any) -> BaseModelOutput:
        """Return the patch features (B, N, C).

        Args:
            pixel_values (`torch.FloatTensor` of shape `(B, 3, S, S)`): normalised images.
            return_dict (`bool`): not used; the output always has names.
            **kwargs: not used.
        """
        if torch.is_grad_enabled() or pixel_values.device.type != "cpu":
            return BaseModelOutput(last_hidden_state=self._patches(pixel_values))
        parts = [self._patches(part) for part in pixel_values.split(_IMAGES_AT_ONCE)]
        return BaseModelOutput(last_hidden_state=torch.cat(parts))

    def _patches(self, pixel_values: torch.Tensor) -> torch.Tensor:
        images = self.early_features(pixel_values)
        for block in self.coarse_blocks:
            images = block(images)
        return images.flatten(2).transpose(1, 2)


AutoModel.register(ElysiumTinyViTConfig, ElysiumTinyViT, exist_ok=True)

__all__ = ["ElysiumTinyViT"]
