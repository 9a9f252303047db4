# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Vision towers that Elysium can be built on: where their layers are and how their patch features are read."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class VisionFamily:
    """Describe the towers of one `model_type`.

    Args:
        layers: path of the `nn.ModuleList` of `config.num_hidden_layers` layers.
        final_norm: name of the norm after the last layer, or None.
        norm_reads_patches: whether that norm is applied to the patches (CLIP applies it to the class token alone).
        feature_layer: default of `vision_feature_layer`.
        class_tokens: number of tokens before the patches, registers apart.
    """

    layers: str
    final_norm: str | None = None
    norm_reads_patches: bool = True
    feature_layer: int = -1
    class_tokens: int = 0

    def prefix_tokens(self, config: Any) -> int:
        """Return the number of tokens before the patches of a tower."""
        return self.class_tokens + getattr(config, "num_register_tokens", 0)


# CLIP's last layer is trained for its class token alone: the layer before it is read, as in the paper (section 3.1).
# SigLIP and DINO train all tokens of the last layer.
VISION_FAMILIES = {
    "clip_vision_model": VisionFamily("encoder.layers", "post_layernorm", False, -2, class_tokens=1),
    "siglip_vision_model": VisionFamily("encoder.layers", "post_layernorm"),
    "dinov2": VisionFamily("encoder.layer", "layernorm", class_tokens=1),
    "dinov2_with_registers": VisionFamily("encoder.layer", "layernorm", class_tokens=1),
    "dinov3_vit": VisionFamily("model.layer", "norm", class_tokens=1),
    "elysium_tiny_vit": VisionFamily("coarse_blocks"),
}


def vision_family(model_type: str) -> VisionFamily:
    """Return the entry of a `model_type`.

    Raises:
        ValueError: a tower that is not in `VISION_FAMILIES`.
    """
    if model_type not in VISION_FAMILIES:
        raise ValueError(
            f"vision_config must be a tower of type {', '.join(VISION_FAMILIES)}, got {model_type!r}; add a "
            "VisionFamily for it that names its layers and its final norm"
        )
    return VISION_FAMILIES[model_type]


__all__ = ["VISION_FAMILIES", "VisionFamily", "vision_family"]
