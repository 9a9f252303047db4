"""What elysium-tiny is trained on, as a plug-in of `elysium.training.sft`: scenes rendered on the fly, and all losses.

    python -m elysium.training.sft --config research/tiny/recipes/tiny_windows.yaml

The stages are in the order of `make tiny`. Single frames come first, then short clips whose earlier boxes are nearly
always right, then clips of every length whose earlier boxes are often wrong, then those again, with questions that
mostly ask where a thing is, and at last clips as the second look of tracking shows them.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from elysium.modeling_elysium import ElysiumForConditionalGeneration
from elysium.processing.processing_elysium import ElysiumProcessor
from elysium.training.sft_arguments import ElysiumSFTConfig
from research.scenes.world import StudyConfig
from research.tiny.crops import LookConfig
from research.tiny.data import BatchPlan, EvidencePlan, TinyBatches
from research.tiny.losses import TinyTrainingModel
from research.tiny.optimizers import MuonWithAdamW, linear_decay

# The stage of the pretrained tower that is trained, at a rate of its own.
TRAINED_STAGE = "coarse_blocks"


class TinyObjective:
    """Batches of `TinyBatches` and the losses of `TinyTrainingModel`.

    Args:
        network: the model with its heads.
        dataset: of whole batches.
        tower_rate: learning rate of the tower's last stage, as a share of the others'.
        hold, floor: see `linear_decay`.
    """

    def __init__(
        self,
        network: TinyTrainingModel,
        dataset: TinyBatches,
        training_args: ElysiumSFTConfig,
        *,
        tower_rate: float,
        hold: float,
        floor: float,
    ) -> None:
        self.network, self.dataset, self.training_args = network, dataset, training_args
        self.tower_rate, self.hold, self.floor = tower_rate, hold, floor
        self.heads: nn.Module | None = nn.ModuleDict(
            {name: module for name, module in network.named_children() if module is not network.model}
        )

    def collate(self, items: list[dict[str, Any]]) -> Mapping[str, Any]:
        """Return the batch that the one item is."""
        return items[0]

    def loss(self, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Return the losses of a batch."""
        return self.network(**batch)

    def optimizer(self) -> torch.optim.Optimizer:
        """Return Muon and AdamW."""
        return MuonWithAdamW(
            self.network,
            lr=self.training_args.learning_rate,
            weight_decay=self.training_args.weight_decay,
            pretrained=TRAINED_STAGE,
            pretrained_rate=self.tower_rate,
        )

    def scheduler(self, optimizer: torch.optim.Optimizer) -> LRScheduler:
        """Return the linear decay."""
        steps = self.training_args.max_steps
        warmup = self.training_args.get_warmup_steps(steps)
        return linear_decay(optimizer, steps=steps, warmup=warmup, hold=self.hold, floor=self.floor)


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """A section of a recipe, its lists as tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def build_plan(
    *,
    frames: Mapping[int, float],
    clips_per_batch: Mapping[int, int],
    scene: Mapping[str, Any],
    box_jitter: float | Mapping[int, float],
    looks: Mapping[str, Any] | None = None,
    evidence: Mapping[str, Any] | None = None,
    **plan: Any,
) -> BatchPlan:
    """The plan of a recipe's ``objective_args``: its sections as classes, the rest as it is."""
    return BatchPlan(
        frames={int(t): weight for t, weight in frames.items()},
        clips_per_batch={int(t): count for t, count in clips_per_batch.items()},
        scene=StudyConfig(**_tuples(scene)),
        looks=LookConfig(**_tuples(looks or {})),
        evidence=EvidencePlan(**evidence) if evidence else None,
        box_jitter=dict(box_jitter) if isinstance(box_jitter, Mapping) else {0: box_jitter},
        **plan,
    )


def build(
    model: ElysiumForConditionalGeneration,
    processor: ElysiumProcessor,
    training_args: ElysiumSFTConfig,
    *,
    losses: dict[str, float],
    tower_rate: float,
    hold: float,
    floor: float,
    **plan: Any,
) -> TinyObjective:
    """Builds the objective of a stage.

    Args:
        losses: factors by name, see `TinyTrainingModel`.
        tower_rate, hold, floor: see `TinyObjective`.
        **plan: see `build_plan` and `BatchPlan`.

    Raises:
        ValueError: a run without max_steps, or with several batches a step and process.
    """
    if training_args.max_steps <= 0 or training_args.per_device_train_batch_size != 1:
        raise ValueError(
            "max_steps must be above 0 and per_device_train_batch_size 1, since an item is a whole batch, got "
            f"{training_args.max_steps} and {training_args.per_device_train_batch_size}; set both"
        )
    batch_plan = build_plan(**plan)
    vision: Any = model.config.vision_config
    ranks = training_args.world_size
    dataset = TinyBatches(
        processor,
        batch_plan,
        batch_plan.build_worlds(training_args.seed),
        num_batches=training_args.max_steps * ranks * training_args.gradient_accumulation_steps,
        seed=training_args.seed,
        ranks=ranks,
        image_size=vision.image_size,
        patch_size=vision.patch_size,
    )
    processor.state_trained_frames(max(batch_plan.frames))
    network = TinyTrainingModel(model, processor, losses, colours=dataset.colours, kinds=dataset.kinds)
    return TinyObjective(network, dataset, training_args, tower_rate=tower_rate, hold=hold, floor=floor)
