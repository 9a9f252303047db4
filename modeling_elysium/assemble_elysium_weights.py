"""Assembly of a new Elysium from a pretrained vision tower and a pretrained language model."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig

from elysium.processing.atomic_files import atomic_folder
from elysium.processing.build_processor import PLACEHOLDERS, add_placeholders, build_processor

from .configuration_elysium import ElysiumConfig
from .modeling_elysium import ElysiumForConditionalGeneration
from .vision_families_elysium import VISION_FAMILIES

PAPER_KEPT_SHARE = 0.1875  # alpha
_IMAGE_SETTINGS = ("image_mean", "image_std", "resample", "rescale_factor")


class AssemblyError(ValueError):
    """Two parts that do not make an Elysium: a tower without patches, a language model without a tokenizer."""


@dataclass(frozen=True)
class AssemblyReport:
    """Report of `assemble`: parameters of each part, and the number of new, untrained ones."""

    folder: Path
    parameters: dict[str, int]
    num_new: int


def vision_config_of(path: str | os.PathLike) -> PreTrainedConfig:
    """Return the configuration of a vision tower, also where the folder holds a whole CLIP or SigLIP.

    Raises:
        AssemblyError: none of `VISION_FAMILIES`.
    """
    config = AutoConfig.from_pretrained(path)
    config = getattr(config, "vision_config", config)
    if config.model_type not in VISION_FAMILIES:
        raise AssemblyError(
            f"--vision must be a tower of type {', '.join(VISION_FAMILIES)}, got {config.model_type!r} in {path}"
        )
    return config


def _check_language_model(config: PreTrainedConfig) -> None:
    """Refuse models whose logits are more than a linear head: ours would silently leave that step out."""
    for name in ("final_logit_softcapping", "logits_scaling", "logit_scale"):
        if getattr(config, name, None) not in (None, 1, 1.0):
            raise AssemblyError(
                f"--llm must have a plain linear head, got {config.model_type!r} with {name}={getattr(config, name)}; "
                "choose Llama, Qwen, SmolLM or another without it"
            )


def _image_settings(folder: str | os.PathLike) -> dict[str, Any]:
    """Return how the tower's own processor normalises images; nothing where the folder does not say."""
    file = Path(folder) / "preprocessor_config.json"
    values = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {name: values[name] for name in _IMAGE_SETTINGS if name in values}


def _elysium_config(
    vision: PreTrainedConfig, llm: nn.Module, tokenizer: Any, kept: int | None, projector: str
) -> ElysiumConfig:
    family = VISION_FAMILIES[vision.model_type]
    text = llm.config.get_text_config()
    num_patches = (vision.image_size // vision.patch_size) ** 2
    image_id, video_id = tokenizer.convert_tokens_to_ids(PLACEHOLDERS)
    return ElysiumConfig(
        vision_config=vision.to_dict(),
        text_config=text.to_dict(),
        image_token_id=image_id,
        video_token_id=video_id,
        num_kept_tokens=kept or max(1, round(num_patches * PAPER_KEPT_SHARE)),
        projector_type=projector,
        vision_feature_layer=family.feature_layer,
        vision_prefix_tokens=family.prefix_tokens(vision),
        tie_word_embeddings=bool(text.tie_word_embeddings),
        trained_on="assembled from two pretrained parts; the selector and the projector between them are untrained",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=llm.generation_config.eos_token_id or tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _join(config: ElysiumConfig, tower: nn.Module, llm: nn.Module, dtype: torch.dtype) -> Any:
    """Build the model of the language model and head of `llm` and the weights of `tower`."""
    with torch.device("meta"):
        model = ElysiumForConditionalGeneration(config)
    core = model.model
    core.language_model, model.lm_head = llm.base_model, llm.get_output_embeddings()
    layers = core.vision_tower.state_dict()
    state = {name: tensor.to(dtype) for name, tensor in tower.state_dict().items() if name in layers}
    core.vision_tower.to_empty(device="cpu").load_state_dict(state, assign=True)
    buffers = dict(core.vision_tower.named_buffers())
    for name, buffer in tower.named_buffers():  # those that are no part of the weights: places, rotary frequencies
        if name not in layers and name in buffers:
            buffers[name].copy_(buffer)
    for part in (core.selector, core.multi_modal_projector):
        part.to_empty(device="cpu")
        part.apply(model._init_weights)
        part.to(dtype)
    return model


def assemble(
    vision: str | os.PathLike,
    llm: str | os.PathLike,
    out: str | os.PathLike,
    *,
    num_kept_tokens: int | None = None,
    projector: str = "mlp2x_gelu",
    dtype: torch.dtype | None = None,
    seed: int = 0,
) -> AssemblyReport:
    """Write a new Elysium, ready to be trained, from two pretrained parts.

    Args:
        vision: folder or Hub id of a CLIP, SigLIP, SigLIP 2 (fixed resolution), DINOv2 or DINOv3 tower.
        llm: folder or Hub id of a causal language model with its tokenizer.
        out: a folder that does not exist yet; it appears whole or not at all.
        num_kept_tokens: K; by default the paper's share of the tower's patches (0.1875).
        projector: `mlp2x_gelu`, `linear` or `identity`.
        dtype: of the weights; the language model's own by default.
        seed: of the new selector and projector.

    Raises:
        AssemblyError: no such tower, or a language model that needs more than a linear head.
        OutputError: `out` exists or cannot be written.
    """
    tower_config = vision_config_of(vision)
    _check_language_model(AutoConfig.from_pretrained(llm).get_text_config())
    tokenizer = AutoTokenizer.from_pretrained(llm)
    add_placeholders(tokenizer)
    with atomic_folder(out) as folder:
        language = AutoModelForCausalLM.from_pretrained(llm, dtype=dtype or "auto")
        rows = language.get_input_embeddings().num_embeddings
        if len(tokenizer) > rows:
            language.resize_token_embeddings(len(tokenizer))
        tower = AutoModel.from_pretrained(vision, dtype=torch.float32)
        tower = getattr(tower, "vision_model", tower)
        torch.manual_seed(seed)
        config = _elysium_config(tower_config, language, tokenizer, num_kept_tokens, projector)
        config.dtype = language.dtype
        model = _join(config, tower, language, language.dtype)
        model.save_pretrained(folder)
        build_processor(config, tokenizer, **_image_settings(vision)).save_pretrained(folder)
        parts = dict(model.model.named_children()) | {"lm_head": model.lm_head}
        parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    return AssemblyReport(Path(out), parameters, parameters["selector"] + parameters["multi_modal_projector"])
