# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Configuration of Elysium and of its own small vision tower.

Elysium is a vision tower, a token compressor, a projector and a language model.
"""

import os
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from .released_elysium import CLIP_LARGE_336, NUM_PLACEHOLDERS, VICUNA_7B, config_from_released, is_released_config

# Of semantic_config: the encoders by name with their numbers of classes, pixels a side of the images they read, and
# mean and deviation by which the processor normalises those.
_SEMANTIC_DEFAULTS: dict[str, Any] = {
    "classes": {"classifier": 1000, "coco_detector": 80, "open_images_detector": 23},
    "image_size": 320,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
_VICUNA_7B_WITH_PLACEHOLDERS = VICUNA_7B | {"vocab_size": VICUNA_7B["vocab_size"] + NUM_PLACEHOLDERS}


def _as_ours(config: dict[str, Any], folder: str | os.PathLike) -> dict[str, Any]:
    return config_from_released(config, folder) if is_released_config(config) else config


def _sub_config(config: dict | PreTrainedConfig | None, model_type: str, default: dict[str, Any]) -> PreTrainedConfig:
    """Return a sub-config as an object: of `model_type` where a dict names none, and the `default` for None.

    From 5.20 on transformers has `SubConfigSpec` for this.
    """
    if isinstance(config, PreTrainedConfig):
        return config
    return AutoConfig.for_model(**({"model_type": model_type} | (default if config is None else config)))


@strict
class ElysiumTinyViTConfig(PreTrainedConfig):
    r"""Configuration of a vision tower for computers without a GPU (see `tiny_vit_elysium`).

    The defaults are three stages of TinyViT-5M.

    Args:
        image_size (`int`): S, pixels a side, a multiple of `patch_size`.
        patch_size (`int`): pixels a side that one feature stands for; 16, by the architecture.
        num_channels (`int`): colours of an image.
        hidden_size (`int`): width of the last stage, whose features come out.
        num_hidden_layers (`int`): blocks of the last stage.
        num_attention_heads (`int`): heads of the last stage.
        attention_window (`int`): patches a side of the last stage's attention window.
        early_widths (`list[int]`): widths of the stages before it, at S/4 and S/8.
        early_depths (`list[int]`): their blocks; those of the first are convolutions.
        early_heads (`int`): attention heads of the second stage.
        early_window (`int`): attention window of the second stage.
    """

    model_type = "elysium_tiny_vit"

    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3
    hidden_size: int = 160
    num_hidden_layers: int = 6
    num_attention_heads: int = 5
    attention_window: int = 14
    early_widths: list[int] | tuple[int, ...] = (64, 128)
    early_depths: list[int] | tuple[int, ...] = (2, 2)
    early_heads: int = 4
    early_window: int = 7
    initializer_range: float = 0.02


@strict
class ElysiumConfig(PreTrainedConfig):
    r"""Configuration of Elysium; the defaults are the 7B model of the paper (arXiv 2403.16558).

    These are CLIP ViT-L/14 at 336 px, penultimate layer, 108 of 576 tokens kept per frame, a two-layer projector and
    Vicuna-7B with two placeholder rows added.

    Args:
        vision_config (`dict` or `PreTrainedConfig`): the vision tower, as published (see `vision_feature_layer`).
        text_config (`dict` or `PreTrainedConfig`): the language model.
        semantic_config (`dict`): encoders that add to each patch what it shows (see `semantic_encoders_elysium`), with
            `classes`, `image_size`, `image_mean` and `image_std`; None for none.
        image_token_id (`int`): placeholder of one kept token of an image.
        video_token_id (`int`): placeholder of one kept token of a video frame.
        compressor (`str`): `t_selector` keeps the best-scored tokens; `none`, `concat` (neighbouring tokens side by
            side) and `cross_attention` (learned queries) are the alternatives of the paper's ablation.
        num_kept_tokens (`int`): K, visual tokens per frame that reach the language model.
        selector_gate (`str`): `softmax_topk` learns, kept feature times N * softmax(score); `public_affine` is the
            rule of the public code, whose parameters receive no gradient, kept so that its weights give its numbers.
        selector_hidden_size (`int`): hidden width of the selector's scoring MLP.
        projector_type (`str`): `mlp2x_gelu` (two linear layers with GELU), `linear` or `identity`.
        vision_feature_layer (`int`): which hidden state of the tower is read, counted from the end; the layers
            behind it are not built.
        vision_prefix_tokens (`int`): tokens before the patches that are dropped (1 for CLIP's CLS, 0 for SigLIP).
        vision_feature_norm (`bool`): a LayerNorm on the patch features before the compressor.
        kept_position_embedding (`bool`): adds a learned embedding of the patch's place after the projector, for
            compressors whose tokens have a place (`t_selector`, `none`).
        box_rounding (`str`): `floor` or `round`, how box text was written in training (read by the processor).
        allow_absent (`bool`): whether the model was taught the answer `none`.
        trained_on (`str`): a sentence on the training data of the weights, shown by the commands and the Space;
            `save_pretrained` replaces one that was loaded by `derived from NAME`.
    """

    model_type = "elysium"
    sub_configs = {"vision_config": AutoConfig, "text_config": AutoConfig}

    vision_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    semantic_config: dict | None = None
    image_token_id: int = 32000
    video_token_id: int = 32001
    compressor: Literal["t_selector", "none", "concat", "cross_attention"] = "t_selector"
    num_kept_tokens: int = 108
    selector_gate: Literal["softmax_topk", "public_affine"] = "softmax_topk"
    selector_hidden_size: int = 64
    projector_type: Literal["mlp2x_gelu", "linear", "identity"] = "mlp2x_gelu"
    vision_feature_layer: int = -2
    vision_prefix_tokens: int = 1
    vision_feature_norm: bool = False
    kept_position_embedding: bool = False
    box_rounding: Literal["floor", "round"] = "floor"
    allow_absent: bool = True
    trained_on: str = ""
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        self.vision_config = _sub_config(self.vision_config, "clip_vision_model", CLIP_LARGE_336)
        self.text_config = _sub_config(self.text_config, "llama", _VICUNA_7B_WITH_PLACEHOLDERS)
        if self.semantic_config is not None:
            self.semantic_config = _SEMANTIC_DEFAULTS | self.semantic_config
        super().__post_init__(**kwargs)

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a config.json as transformers does, also that of the public release (see `released_elysium`)."""
        values, rest = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        return _as_ours(values, pretrained_model_name_or_path), rest

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> "ElysiumConfig":
        """Build a configuration as transformers does; `AutoConfig` comes here, with the folder as `name_or_path`."""
        return super().from_dict(_as_ours(config_dict, kwargs.get("name_or_path", "")), **kwargs)

    @property
    def num_patches(self) -> int:
        """Return N, the patches per frame before compression."""
        return (self.vision_config.image_size // self.vision_config.patch_size) ** 2

    @property
    def image_size(self) -> int:
        """Return S, the pixels a side of the images that the model takes."""
        return self.semantic_config["image_size"] if self.semantic_config else self.vision_config.image_size

    def validate_semantics(self) -> None:
        """Check at construction that images of the semantic encoders shrink to those of the vision tower."""
        if self.semantic_config is None:
            return
        large, small = self.image_size, self.vision_config.image_size
        unknown = sorted(set(self.semantic_config) - set(_SEMANTIC_DEFAULTS))
        if unknown:
            raise ValueError(
                f"semantic_config must have {', '.join(_SEMANTIC_DEFAULTS)}, got {', '.join(unknown)}; leave it out"
            )
        if large % small:
            raise ValueError(f"image_size of semantic_config must be a multiple of the tower's {small}, got {large}")
        if self.compressor not in ("t_selector", "none"):
            raise ValueError(
                f"semantic_config needs tokens that have a place (t_selector, none), got {self.compressor!r}"
            )

    def validate_compression(self) -> None:
        """Check at construction that K fits the compressor and the image."""
        patches, kept = self.num_patches, self.num_kept_tokens
        if not 1 <= kept <= patches:
            raise ValueError(f"num_kept_tokens must be in 1..{patches} (the patches of a frame), got {kept}")
        if self.compressor == "none" and kept != patches:
            raise ValueError(
                f"compressor 'none' keeps all tokens: num_kept_tokens must be {patches}, got {kept}; "
                "set it, or choose another compressor"
            )
        if self.compressor == "concat" and patches % kept:
            raise ValueError(
                f"compressor 'concat' joins equal groups: num_kept_tokens must divide {patches}, got {kept}"
            )
        if self.kept_position_embedding and self.compressor not in ("t_selector", "none"):
            raise ValueError(
                f"kept_position_embedding needs tokens that have a place (t_selector, none), got {self.compressor!r}"
            )
        if not -self.vision_config.num_hidden_layers <= self.vision_feature_layer <= -1:
            raise ValueError(
                f"vision_feature_layer must be in -{self.vision_config.num_hidden_layers}..-1, "
                f"got {self.vision_feature_layer}"
            )


# A vision tower is read by its type: `vision_config={"model_type": "elysium_tiny_vit", ...}`.
AutoConfig.register(ElysiumTinyViTConfig.model_type, ElysiumTinyViTConfig, exist_ok=True)

__all__ = ["ElysiumConfig", "ElysiumTinyViTConfig"]
