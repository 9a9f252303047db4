"""Name the parts of the model that a recipe trains, freezes or gives a learning rate of its own."""

from collections.abc import Sequence

from torch import nn

PARTS = ("vision_tower", "selector", "multi_modal_projector", "language_model", "lm_head")
# Small modules that are trained with a part.
_BESIDE = {
    "vision_feature_norm": "vision_tower",
    "kept_position_embedding": "multi_modal_projector",
    "semantic_projector": "multi_modal_projector",
}
# Pretrained and never trained.
_FROZEN = "semantic_encoders"


def part_name(name: str) -> str | None:
    """Return the part of the model that a parameter belongs to, also inside wrappers; None where it has none.

    >>> part_name("base_model.model.model.selector.score.weight"), part_name("lm_head.weight")
    ('selector', 'lm_head')
    """
    levels = name.split(".")
    return next((part for part in PARTS if part in levels), next((_BESIDE[n] for n in levels if n in _BESIDE), None))


def is_in(name: str, part: str) -> bool:
    """Return whether a parameter belongs to a part, or to a module in it such as ``vision_tower.coarse_blocks``.

    >>> is_in("model.vision_tower.coarse_blocks.0.weight", "vision_tower.coarse_blocks")
    True
    >>> is_in("model.vision_feature_norm.weight", "vision_tower"), is_in("lm_head.weight", "vision_tower")
    (True, False)
    """
    return part_name(name) == part or f".{part}." in f".{name}."


def unknown_parts(train_parts: Sequence[str]) -> list[str]:
    """Return the entries of ``train_parts`` that are neither parts nor modules in one.

    >>> unknown_parts(["lm_head", "vision_tower.coarse_blocks", "vision_feature_norm", "eyes"])
    ['eyes']
    """
    return sorted({part for part in train_parts if part.split(".")[0] not in (*PARTS, *_BESIDE)})


def freeze(model: nn.Module, train_parts: Sequence[str]) -> None:
    """Train only ``train_parts`` of the model, parts or modules in them; an empty list trains all.

    The semantic encoders stay as they are.

    Raises:
        ValueError: a part that the model does not have.
    """
    names = [name for name, _ in model.named_parameters()]
    unknown = unknown_parts(train_parts)
    unknown = unknown or [part for part in train_parts if not any(is_in(name, part) for name in names)]
    if unknown:
        raise ValueError(
            f"train_parts must name parts of the model, got {', '.join(unknown)}; such as {', '.join(PARTS)}, or a "
            "module in one, as vision_tower.coarse_blocks"
        )
    for name, parameter in model.named_parameters():
        if _FROZEN in name.split("."):
            parameter.requires_grad_(False)
        elif train_parts:
            parameter.requires_grad_(any(is_in(name, part) for part in train_parts))
