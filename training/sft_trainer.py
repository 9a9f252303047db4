"""Extend TRL's `SFTTrainer` for videos, parts of the model and the token selector."""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from transformers.integrations import is_deepspeed_zero3_enabled
from trl import SFTTrainer

from elysium.modeling_elysium import ElysiumForConditionalGeneration
from elysium.processing.data_files import read_json
from elysium.processing.prompts_elysium import TASKS
from elysium.readers.frame_sources import DatasetError

from .collator import IGNORE, Dropped, ElysiumCollator
from .held_out import HeldOutBoxes
from .labelled_head import score_labels_only
from .mixture import StreamShare
from .model_parts import part_name
from .objective import IndexedItems, Objective, ObjectiveNetwork, load_heads, save_heads
from .sft_arguments import ElysiumSFTConfig
from .whole_checkpoints import WholeCheckpoints, checkpoint_fault, last_whole_checkpoint

DROPPED_FILE = "dropped.jsonl"


class ElysiumSFTTrainer(WholeCheckpoints, SFTTrainer):
    """TRL's trainer on batches of `ElysiumCollator`.

    It counts samples that the collator left out (`dropped.jsonl` beside the checkpoints, and the log) and aborts after
    too many consecutive ones; logs the token accuracy of each task; adds the selector's loss; gives parts of the
    model learning rates of their own; reads streams so that no sample is seen twice, also after a resume; and measures
    boxes on held-out examples at each evaluation. With an `Objective`, its losses are trained on and logged instead.

    Args:
        collator: of the training data.
        learning_rates: learning rates of parts of the model that have their own.
        max_broken_in_row: abort after this many consecutive unreadable samples.
        held_out: boxes to generate at each evaluation; None for none.
        eval_collator: collator of `eval_dataset`, where that is another mixture.
        objective: data and losses of one's own, instead of a mixture's next tokens.
        *args, **kwargs: of `SFTTrainer`.
    """

    args: ElysiumSFTConfig
    optimizer: Any
    lr_scheduler: Any
    _halve = False  # the weights that are being saved

    def __init__(
        self,
        *args: Any,
        collator: ElysiumCollator | IndexedItems,
        learning_rates: dict[str, float] | None = None,
        max_broken_in_row: int = 100,
        held_out: HeldOutBoxes | None = None,
        eval_collator: ElysiumCollator | None = None,
        objective: Objective | None = None,
        **kwargs: Any,
    ) -> None:
        self.learning_rates = dict(learning_rates or {})
        self.max_broken_in_row, self.held_out = max_broken_in_row, held_out
        self.eval_collator, self.objective = eval_collator, objective
        self.data_collator: Any
        self._stream_batches_done = 0
        self._broken_in_row = 0
        self._dropped: Counter[str] = Counter()
        self._right: defaultdict[str, list[torch.Tensor]] = defaultdict(list)
        self._parts: defaultdict[str, list[torch.Tensor]] = defaultdict(list)
        # Of the last forward pass, kept by a hook: TRL asked for outputs would run a second pass.
        self._scores: list[torch.Tensor] = []
        self._outputs: Any = None
        super().__init__(*args, data_collator=collator, **kwargs)
        score_labels_only(self.elysium)
        if held_out is not None and (self.is_fsdp_enabled or is_deepspeed_zero3_enabled()):
            raise ValueError(
                "boxes are generated on held-out data where every process has all weights, got sharded ones (FSDP or "
                "ZeRO-3); set eval_boxes to 0, and evaluate the checkpoints with elysium evaluate"
            )
        if objective is not None:
            if self.is_fsdp_enabled or self.is_deepspeed_enabled:
                raise ValueError(
                    "an objective needs whole weights, got FSDP or DeepSpeed; start it with torchrun alone"
                )
            self._network = ObjectiveNetwork(self.model, objective).to(self.args.device)
        for module in (self.elysium, self.elysium.model.selector):
            module.register_forward_hook(self._keep)

    @property
    def elysium(self) -> ElysiumForConditionalGeneration:
        """Return the model inside adapters and wrappers."""
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def _keep(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        if module is self.elysium:
            self._outputs = outputs
        elif getattr(outputs, "scores", None) is not None:
            self._scores.append(outputs.scores)

    # --- data ---
    @property
    def _streamed(self) -> bool:
        return isinstance(self.data_collator, ElysiumCollator) and self.data_collator.mixture.streamed

    def train(self, resume_from_checkpoint: Any = None, **kwargs: Any) -> Any:
        """Train as `Trainer.train` does; a stream resumes where it was, without decoding the samples before."""
        if self._streamed:
            last = resume_from_checkpoint
            last = last_whole_checkpoint(self.args.output_dir) if last is True else last
            if last and checkpoint_fault(Path(last)) is None:  # for a faulty one, the trainer raises
                state = read_json(Path(last) / "trainer_state.json", allow_nan=True)
                self._stream_batches_done = state["global_step"] * self.args.gradient_accumulation_steps
            self.args.ignore_data_skip = True
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def get_train_dataloader(self) -> DataLoader:
        """Return the loader; each process and each worker reads its own share of a stream."""
        if not self._streamed:
            return super().get_train_dataloader()
        share = StreamShare(
            self.train_dataset,
            batch_size=self.args.per_device_train_batch_size,
            process_index=self.args.process_index,
            num_processes=self.args.world_size,
            done=self._stream_batches_done,
        )
        return DataLoader(
            share,
            batch_size=self.args.per_device_train_batch_size,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Return the loader of held-out data, with its own collator."""
        training = self.data_collator
        self.data_collator = self.eval_collator or training
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = training

    def _count_dropped(self, dropped: list[Dropped], has_labels: bool) -> None:
        """Count and record samples that could not be read.

        Raises:
            DatasetError: too many consecutive ones.
        """
        self._broken_in_row = len(dropped) if has_labels else self._broken_in_row + len(dropped)
        if not dropped:
            return
        self._dropped.update(item.reason for item in dropped)
        folder = Path(self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / DROPPED_FILE).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(vars(item), ensure_ascii=False) + "\n" for item in dropped)
        if self._broken_in_row >= self.max_broken_in_row:
            counted = "; ".join(f"{count} x {reason}" for reason, count in self._dropped.most_common(5))
            raise DatasetError(
                f"fewer than {self.max_broken_in_row} items in a row may be broken, got {self._broken_in_row} "
                f"({counted}); the last: {dropped[-1].where}: {dropped[-1].detail} (all in {folder / DROPPED_FILE})"
            )

    # --- loss ---
    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return TRL's loss, plus the selector's where it has a factor; or the objective's."""
        training = self.model.training
        if self.objective is not None and training:
            self._scores.clear()
            parts = model(**inputs)
            for name, value in parts.items():
                if name != "loss":
                    self._parts[name.lstrip("_")].append(value.detach().float())
            return (parts["loss"], parts) if return_outputs else parts["loss"]
        inputs = dict(inputs)
        dropped, task_ids = inputs.pop("dropped", []), inputs.pop("task_ids")
        targets = inputs.pop("patch_targets")
        if training:
            self._count_dropped(dropped, bool((inputs["labels"] != IGNORE).any()))
        self._scores.clear()
        loss = super().compute_loss(model, inputs, return_outputs=False, num_items_in_batch=num_items_in_batch)
        self._count_right(task_ids, "" if training else "eval_")
        if training and self.args.selector_loss > 0:
            selector = selector_loss(torch.cat(self._scores), targets)
            self._parts["selector_loss"].append(selector.detach())
            # As for TRL's loss, divided by the number of accumulated batches.
            loss = loss + self.args.selector_loss * selector / self.current_gradient_accumulation_steps
        outputs, self._outputs = self._outputs, None
        return (loss, outputs) if return_outputs else loss

    def _count_right(self, task_ids: torch.Tensor, prefix: str) -> None:
        """Sum correct and labelled tokens for each task in the batch."""
        right = self._outputs.is_top1.detach().float().sum(dim=-1)  # (B,)
        labelled = self._outputs.label_mask.detach().float().sum(dim=-1)
        for task in task_ids.unique().tolist():
            chosen = task_ids == task
            self._right[f"{prefix}{list(TASKS)[task]}_token_accuracy"].append(
                torch.stack([right[chosen].sum(), labelled[chosen].sum()])
            )

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimizer, with parameter groups for parts that have their own learning rate."""
        fresh = self.optimizer is None
        if fresh and self.objective is not None:
            self.optimizer, model = self.objective.optimizer(), self._network
            if self.optimizer is not None:
                return self.optimizer
        optimizer = super().create_optimizer(model)
        if not fresh or not self.learning_rates:
            return optimizer
        part_of = {id(p): part_name(name) for name, p in self.model.named_parameters()}
        groups = []
        for group in optimizer.param_groups:
            by_part: dict[str | None, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                part = part_of.get(id(parameter))  # heads of an objective are in none
                by_part.setdefault(part if part in self.learning_rates else None, []).append(parameter)
            for part, parameters in by_part.items():
                rate = group["lr"] if part is None else float(self.learning_rates[part])
                groups.append({**group, "params": parameters, "lr": rate})
        optimizer.param_groups = groups
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """Create the schedule of the learning rate, the objective's where it has one."""
        if self.lr_scheduler is None and self.objective is not None:
            chosen = optimizer or self.optimizer
            # Of the optimizer inside accelerate's wrapper.
            self.lr_scheduler = self.objective.scheduler(getattr(chosen, "optimizer", chosen))
        return super().create_scheduler(num_training_steps, optimizer)

    def _wrap_model(self, model: nn.Module, training: bool = True, dataloader: DataLoader | None = None) -> nn.Module:
        """Wrap the model as `Trainer` does; an objective's network as a whole, so that heads are kept in step, too."""
        if self.objective is None or not training or model is not self.model:
            return super()._wrap_model(model, training, dataloader)
        return self.accelerator.prepare_model(self._network)

    # --- what is logged and saved ---
    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the accuracy of each task, the selector's loss and the number of dropped samples too."""
        prefix = "" if self.model.training else "eval_"
        for name in [name for name in self._right if name.startswith("eval_") == bool(prefix)]:
            right, labelled = torch.stack(self._right.pop(name)).sum(dim=0).tolist()
            if labelled:
                logs[name] = right / labelled
        if not prefix:
            for name in list(self._parts):
                logs[name] = round(float(torch.stack(self._parts.pop(name)).double().mean()), 4)
            if self._dropped:
                logs["dropped"] = float(sum(self._dropped.values()))
        super().log(logs, start_time)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate as `SFTTrainer` does, and measure the mean IoU of generated boxes."""
        metrics = super().evaluate(*args, **kwargs)
        if self.held_out is not None:
            self.model.eval()  # a training step sets it back
            figures = self.held_out.measure(self.elysium)
            self.log(dict(figures))
            metrics |= figures
        return metrics

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save as `WholeCheckpoints` does; the finished model in half precision where the recipe says so."""
        self._halve = self.args.half_precision_output and not _internal_call
        try:
            super().save_model(output_dir, _internal_call)
        finally:
            self._halve = False

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        if self._halve:
            whole = self.model.state_dict() if state_dict is None else state_dict
            state_dict = {name: value.half() if value.is_floating_point() else value for name, value in whole.items()}
        super()._save(output_dir, state_dict)
        if self.objective is not None and self.objective.heads is not None and self.args.should_save:
            save_heads(self.objective.heads, Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.objective is not None and self.objective.heads is not None:
            load_heads(self.objective.heads, Path(resume_from_checkpoint))

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `RunRecorder` writes the card once, at the end."""


def selector_loss(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the binary cross-entropy of the selector's scores and the share of each patch that the box covers.

    Args:
        scores (`torch.Tensor` of shape `(sum T, N)`): before the softmax.
        targets (`torch.Tensor` of shape `(sum T, N)`): 0..1, NaN where unknown; such frames do not count.
    """
    known = ~targets.isnan()
    loss = F.binary_cross_entropy_with_logits(
        scores.float(), torch.where(known, targets, torch.zeros_like(targets)), reduction="none"
    )
    return (loss * known).sum() / known.sum().clamp(min=1)
