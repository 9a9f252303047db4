# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""The format of the public release (Hon-Wong/Elysium, 2024-10): its config.json and its names of weights.

A released folder holds ``llm_config``, ``visual_config``, ``adapter_config`` and ``projector_config`` in config.json;
the first two name folders or Hub ids of the towers. `ElysiumConfig.from_pretrained` reads it through this module.
"""

import json
from pathlib import Path
from typing import Any

# Towers that the release names by their Hub ids, so that reading its config asks no network.
CLIP_LARGE_336: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}
VICUNA_7B: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
}
_KNOWN_TOWERS: dict[str, dict[str, Any]] = {
    "clip-vit-large-patch14-336": {"model_type": "clip_vision_model"} | CLIP_LARGE_336,
    "vicuna-7b-v1.5": {"model_type": "llama"} | VICUNA_7B,
}
NUM_PLACEHOLDERS = 2
# The last training stage of the paper (arXiv 2403.16558) has videos of up to 32 frames.
RELEASED_FRAMES = 32
_SECTIONS = ("llm_config", "visual_config", "adapter_config")


def is_released_config(config: dict[str, Any]) -> bool:
    """Return whether a config.json is that of the public release."""
    return all(name in config for name in _SECTIONS)


def _tower_config(section: str, config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the config of a tower: from its folder in the release or on the disk, else a known one's."""
    name = str(config[section].get("pretrained_model_name_or_path", ""))
    for path in (folder / name / "config.json", Path(name) / "config.json"):
        if name and path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            return found.get("vision_config", found) if section == "visual_config" else found
    known = _KNOWN_TOWERS.get(name.rstrip("/").rsplit("/", 1)[-1].lower())
    if known is None:
        raise ValueError(
            f"{section} of a released config.json must name a folder with a config.json or one of "
            f"{', '.join(_KNOWN_TOWERS)}, got {name!r}; put its config.json into {folder / (name or section)}"
        )
    return dict(known)


def config_from_released(config: dict[str, Any], folder: str | Path) -> dict[str, Any]:
    """Return our configuration, as a dictionary, of a released one.

    Args:
        config: the released config.json.
        folder: where it lies; the towers' folders are looked up there.

    The vocabulary grows by two rows, the placeholders of images and of video frames, behind the released ones.
    """
    text, vision = (_tower_config(name, config, Path(folder)) for name in ("llm_config", "visual_config"))
    vocabulary = int(text["vocab_size"])
    adapter = config["adapter_config"]
    return {
        "model_type": "elysium",
        "architectures": ["ElysiumForConditionalGeneration"],
        "text_config": text | {"vocab_size": vocabulary + NUM_PLACEHOLDERS},
        "vision_config": vision,
        "image_token_id": vocabulary,
        "video_token_id": vocabulary + 1,
        "compressor": "t_selector",
        "selector_gate": "public_affine",
        "num_kept_tokens": int(adapter["out_token_num"]),
        "projector_type": config.get("projector_config", {}).get("type", "linear"),
        "box_rounding": "round",
        "allow_absent": False,
        "tie_word_embeddings": bool(text.get("tie_word_embeddings", False)),
        "dtype": text.get("torch_dtype") or text.get("dtype"),
    }


__all__ = ["CLIP_LARGE_336", "NUM_PLACEHOLDERS", "VICUNA_7B", "config_from_released", "is_released_config"]
