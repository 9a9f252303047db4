"""Train a checkpoint with an objective of one's own: a plug-in of `elysium.training.sft` with data and losses.

A recipe names the plug-in and what to make it with:

    objective: my_package.my_module:build
    objective_args: {box_loss: 2.0}

``build(model, processor, training_args, **objective_args)`` returns an `Objective`. Everything else is as in other
runs: freezing, several processes, whole checkpoints, resuming, curves and card.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from elysium.modeling_elysium import ElysiumForConditionalGeneration
from elysium.processing.processing_elysium import ElysiumProcessor

from .mixture import INDEX
from .sft_arguments import ElysiumSFTConfig

HEADS_FILE = "training_heads.safetensors"


class Items(Protocol):
    """Items that are read by their index, each time the same."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Objective(Protocol):
    """Define what a model is trained on: data, losses, and modules that exist in training only.

    Attributes:
        dataset: an item is an example, or a whole batch with ``per_device_train_batch_size: 1``. The trainer shuffles
            and shards it; with ``train_sampling_strategy: sequential``, step i of process r of R reads item i * R + r.
        heads: modules trained beside the model, None for none. They are saved in every checkpoint, as
            `training_heads.safetensors`, and loaded from it on a resume and by a run that starts from it.
    """

    dataset: Items
    heads: nn.Module | None

    def collate(self, items: list[Any]) -> Mapping[str, Any]:
        """Return the batch of some items; its tensors are moved to the model's device."""
        ...

    def loss(self, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Return the loss as "loss", and its parts, whose means are logged (without a leading underscore)."""
        ...

    def optimizer(self) -> torch.optim.Optimizer | None:
        """Return the optimizer of model and heads, made when parts of the model are frozen; None for the recipe's."""
        ...

    def scheduler(self, optimizer: torch.optim.Optimizer) -> LRScheduler | None:
        """Return the schedule of the learning rate; None for the recipe's."""
        ...


def build_objective(
    name: str,
    arguments: dict[str, Any],
    model: ElysiumForConditionalGeneration,
    processor: ElysiumProcessor,
    training_args: ElysiumSFTConfig,
) -> Objective:
    """Build the objective that a recipe names.

    Args:
        name: `package.module:factory`.
        arguments: further keyword arguments of the factory.
        model: on the CPU, before parts are frozen.
        processor: of the model.
        training_args: of the run.

    Raises:
        ValueError: no such factory, or one that does not take the arguments.
    """
    rule = f"objective must be package.module:factory, got {name!r}"
    module_name, _, factory_name = name.partition(":")
    try:
        factory: Callable[..., Objective] = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, ValueError, AttributeError) as error:
        raise ValueError(f"{rule} ({error}); start the run where `import {module_name}` works") from error
    try:
        return factory(model, processor, training_args, **arguments)
    except TypeError as error:
        raise ValueError(
            f"objective_args must be arguments of {name}, got {', '.join(arguments)} ({error})"
        ) from error


@dataclass
class IndexedItems:
    """Collate items of an objective from their indices, which are all that the trainer shuffles, shards and skips."""

    objective: Objective

    def indices(self) -> Dataset:
        """Return the dataset of indices."""
        return Dataset.from_dict({INDEX: range(len(self.objective.dataset))})

    def __call__(self, places: list[dict[str, int]]) -> dict[str, Any]:
        return dict(self.objective.collate([self.objective.dataset[place[INDEX]] for place in places]))


class ObjectiveNetwork(nn.Module):
    """The model and the heads as one network, which a distributed run wraps; its forward pass is the loss."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model, self.heads = model, objective.heads
        self._loss = objective.loss

    def forward(self, **batch: Any) -> dict[str, torch.Tensor]:
        return self._loss(batch)


def save_heads(heads: nn.Module, folder: Path) -> None:
    """Save the modules that exist in training only beside a checkpoint."""
    save_file({name: value.contiguous() for name, value in heads.state_dict().items()}, folder / HEADS_FILE)


def load_heads(heads: nn.Module, folder: Path) -> None:
    """Load the heads of a checkpoint, where it has some; those of another shape start anew."""
    if not (folder / HEADS_FILE).is_file():
        return
    own = heads.state_dict()
    saved = load_file(folder / HEADS_FILE)
    heads.load_state_dict(
        {name: value for name, value in saved.items() if name in own and value.shape == own[name].shape}, strict=False
    )
