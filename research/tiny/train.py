"""Trains elysium-tiny from scratch on the synthetic world, on the CPU.

    make tiny        # all five stages, or one:
    torchrun --nproc_per_node 2 -m research.tiny.train --recipe research/tiny/recipes/tiny_windows.yaml

Single frames come first, then short clips whose earlier boxes are nearly always right, then clips of every length
whose earlier boxes are often wrong, then those again, with questions that mostly ask where a thing is, and at last
half of them as the second look of tracking shows them. Each stage is a run of transformers' Trainer (logging, saving
and resuming are its own): stopped at any time and started again with the same command, it goes on from its last save.
"""

import os
import shutil
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn
from transformers import TrainingArguments

from elysium.modeling_elysium import ElysiumForConditionalGeneration
from elysium.modeling_elysium.configuration_elysium import ElysiumTinyViTConfig
from elysium.processing.atomic_files import atomic_folder
from elysium.processing.data_files import read_yaml
from elysium.processing.processing_elysium import ElysiumProcessor
from elysium.training.whole_checkpoints import WholeCheckpoints, last_whole_checkpoint
from research.scenes.world import StudyConfig, StudyWorld
from research.tiny.checkpoint import TRAINED_ON, TRAINED_STAGE, build_tiny, freeze_early_stages, save_checkpoint
from research.tiny.crops import LookConfig
from research.tiny.data import BatchPlan, TinyBatches
from research.tiny.losses import TinyTrainingModel, load_heads, save_heads
from research.tiny.optimizers import MuonWithAdamW, linear_decay

HEADS_FILE = "training_heads.safetensors"


class TinyTrainer(WholeCheckpoints):
    """Trainer over a data set of ready batches, with its loss parts in the log."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._parts: dict[str, list[float]] = {}

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> torch.utils.data.Sampler:
        return torch.utils.data.SequentialSampler(self.train_dataset)

    def compute_loss(self, model: nn.Module, inputs: dict, return_outputs: bool = False, **kwargs: Any) -> Any:
        outputs = model(**inputs)
        for name, value in outputs.items():
            if name != "loss":
                self._parts.setdefault(name.lstrip("_"), []).append(float(value))
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            logs |= {name: round(sum(values) / len(values), 4) for name, values in self._parts.items()}
            self._parts.clear()
        super().log(logs, *args, **kwargs)


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    """A section of a recipe, its lists as tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _load(recipe: dict[str, Any]) -> tuple[ElysiumForConditionalGeneration, ElysiumProcessor]:
    """Model and processor: those of `start_from`, or untrained ones of the recipe's `model` section."""
    if "start_from" in recipe:
        model = ElysiumForConditionalGeneration.from_pretrained(recipe["start_from"], dtype=torch.float32)
        if model.config.vision_config.model_type == ElysiumTinyViTConfig.model_type:
            freeze_early_stages(model.model.vision_tower)
        return model, ElysiumProcessor.from_pretrained(recipe["start_from"])
    return build_tiny(recipe["model"])


def _plan(recipe: dict[str, Any]) -> BatchPlan:
    jitter = recipe["box_jitter"]
    return BatchPlan(
        frames={int(t): weight for t, weight in recipe["frames"].items()},
        clips_per_batch={int(t): count for t, count in recipe["clips_per_batch"].items()},
        scene=StudyConfig(**_tuples(recipe["scene"])),
        looks=LookConfig(**_tuples(recipe.get("looks", {}))),
        box_jitter=jitter if isinstance(jitter, dict) else {0: jitter},
        wrong_histories=recipe["wrong_histories"],
        questions=recipe["questions"],
        worlds=recipe["worlds"],
        bank=recipe.get("bank"),
        everyday_names=recipe.get("everyday_names", False),
        share_fine=recipe["share_fine"],
    )


def _batches(
    recipe: dict[str, Any],
    plan: BatchPlan,
    worlds: list[StudyWorld],
    processor: ElysiumProcessor,
    vision: Any,
    *,
    steps: int,
) -> TinyBatches:
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    return TinyBatches(
        processor,
        plan,
        worlds,
        num_batches=steps * ranks,
        seed=recipe["seed"],
        ranks=ranks,
        image_size=vision.image_size,
        patch_size=vision.patch_size,
    )


def _arguments(recipe: dict[str, Any], output: Path, *, steps: int) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(output),
        max_steps=steps,
        per_device_train_batch_size=1,
        use_cpu=True,
        bf16=True,
        max_grad_norm=1.0,
        logging_steps=recipe["logging_steps"],
        save_steps=recipe["save_steps"],
        save_total_limit=recipe["keep_saves"],
        report_to="none",
        remove_unused_columns=False,
        ddp_find_unused_parameters=True,
        dataloader_num_workers=recipe["loader_workers"],
        disable_tqdm=True,
        seed=recipe["seed"],
    )


def train(recipe: dict[str, Any], output: Path, *, max_steps: int | None = None) -> None:
    """One stage, from its recipe to `output/final`; goes on from the last save where there is one."""
    torch.manual_seed(recipe["seed"])
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    plan = _plan(recipe)
    worlds = plan.build_worlds(recipe["seed"])
    model, processor = _load(recipe)
    processor.state_trained_frames(max(plan.frames))
    # Plain matmul + softmax: the backward pass of fused attention is several times slower on a CPU in bf16.
    model.set_attn_implementation("eager")
    steps = max_steps or recipe["steps"]
    data = _batches(recipe, plan, worlds, processor, model.config.vision_config, steps=steps)
    network = TinyTrainingModel(model, processor, recipe["losses"], colours=data.colours, kinds=data.kinds)
    if "start_from" in recipe:
        load_heads(network, Path(recipe["start_from"]).parent / HEADS_FILE)
    optimizer = MuonWithAdamW(
        network,
        lr=recipe["learning_rate"],
        weight_decay=recipe["weight_decay"],
        pretrained=TRAINED_STAGE,
        pretrained_rate=recipe["tower_rate"],
    )
    scheduler = linear_decay(
        optimizer, steps=steps, warmup=recipe["warmup_steps"], hold=recipe["hold"], floor=recipe["floor"]
    )
    trainer = TinyTrainer(
        model=network,
        args=_arguments(recipe, output, steps=steps),
        train_dataset=data,
        data_collator=lambda items: items[0],
        optimizers=(optimizer, scheduler),
    )
    trainer.train(resume_from_checkpoint=last_whole_checkpoint(output))
    if trainer.is_world_process_zero():
        model.set_attn_implementation("sdpa")
        shutil.rmtree(output / "final", ignore_errors=True)
        with atomic_folder(output / "final") as final:
            save_checkpoint(model, processor, final, half=True, trained_on=TRAINED_ON)
        save_heads(network, output / HEADS_FILE)


def main(
    recipe: Annotated[Path, typer.Option(help="YAML of the stage.")],
    output: Annotated[Path | None, typer.Option(help="Run folder; the recipe's own by default.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Fewer steps than the recipe's, for a trial.")] = None,
) -> None:
    """Trains one stage of elysium-tiny."""
    values = read_yaml(recipe)
    train(values, output or Path(values["output"]), max_steps=max_steps)


if __name__ == "__main__":
    typer.run(main)
