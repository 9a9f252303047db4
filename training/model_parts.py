"""Name the parts of the model that a recipe trains, freezes or gives a learning rate of its own."""

from collections.abc import Sequence

from torch import nn

PARTS = ("vision_tower", "selector", "multi_modal_projector", "language_model", "lm_head")
# Small modules that are trained with a part.
_BESIDE = {"vision_feature_norm": "vision_tower", "kept_position_embedding": "multi_modal_projector"}


def part_name(name: str) -> str | None:
    """Return the part of the model that a parameter belongs to, also inside wrappers; None where it has none.

    >>> part_name("base_model.model.model.selector.score.weight"), part_name("lm_head.weight")
    ('selector', 'lm_head')
    """
    levels = name.split(".")
    return next((part for part in PARTS if part in levels), next((_BESIDE[n] for n in levels if n in _BESIDE), None))


def freeze(model: nn.Module, train_parts: Sequence[str]) -> None:
    """Train only ``train_parts`` of the model; an empty list leaves the model as it is.

    Raises:
        ValueError: a part that the model does not have.
    """
    unknown = sorted(set(train_parts) - set(PARTS))
    if unknown:
        raise ValueError(
            f"train_parts must name parts of the model, got {', '.join(unknown)}; such as {', '.join(PARTS)}"
        )
    for name, parameter in model.named_parameters() if train_parts else ():
        parameter.requires_grad_(part_name(name) in train_parts)
