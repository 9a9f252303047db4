"""Write the record of a run: an image of its curves, and a card with data, recipe, curves and results."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from elysium.modeling_elysium.hub_folder_elysium import model_card
from elysium.processing.atomic_files import atomic_path

from .collator import ElysiumCollator
from .sft_arguments import DataArguments, ElysiumSFTConfig, ModelArguments

CURVES_FILE = "training.png"
# Panels, each with a part of the names of its logged values.
_PANELS = {
    "loss": "loss",
    "token accuracy": "token_accuracy",
    "mean IoU": "_iou",
    "learning rate": "learning_rate",
}
_SHOWN = ("learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "max_length", "seed")


class RunRecorder(TrainerCallback):
    """Draw the curves whenever a checkpoint is saved, and write the card at the end.

    It also sets the collator's epoch, so that every epoch draws other frames and tasks.
    """

    def __init__(
        self, model_args: ModelArguments, data_args: DataArguments, training_args: ElysiumSFTConfig, trainer: Any
    ) -> None:
        self.model_args, self.data_args = model_args, data_args
        self.training_args, self.trainer = training_args, trainer

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the epoch of the draws."""
        if isinstance(self.trainer.data_collator, ElysiumCollator):
            self.trainer.data_collator.epoch = int(state.epoch or 0)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Draw the curves up to now."""
        if state.is_world_process_zero:
            draw_curves(state.log_history, Path(args.output_dir) / CURVES_FILE)

    def write_card(self) -> None:
        """Write curves and card of the finished run beside the checkpoint."""
        if not self.trainer.is_world_process_zero():
            return
        folder = Path(self.training_args.output_dir)
        draw_curves(self.trainer.state.log_history, folder / CURVES_FILE)
        with atomic_path(folder / "README.md") as temporary:
            temporary.write_text(self.card(), encoding="utf-8")

    def card(self) -> str:
        """Return the model's card with a section on the run before the citation."""
        head, _, citation = model_card(self.trainer.elysium.config).partition("## Citation")
        history, data_args = self.trainer.state.log_history, self.data_args
        recipe = {
            **_changed(self.model_args),
            **_drawn(data_args),
            **{name: getattr(self.training_args, name) for name in _SHOWN},
            "optim": str(self.training_args.optim.value),
            "processes": self.training_args.world_size,
        }
        results = {key: value for entry in history for key, value in entry.items() if key.startswith("eval_")}
        rows = "\n".join(
            f"| {name.removeprefix('eval_')} | {value:.4f} |"
            for name, value in sorted(results.items())
            if isinstance(value, float) and not name.endswith(("runtime", "per_second", "num_tokens"))
        )
        table = (
            f"\nOn held-out data, at the last evaluation:\n\n| figure | value |\n|---|---|\n{rows}\n" if rows else ""
        )
        dropped = next((entry["dropped"] for entry in reversed(history) if "dropped" in entry), 0)
        left_out = f" {int(dropped)} samples could not be read and were left out." if dropped else ""
        return (
            f"{head}## Training\n\nFrom `{self.model_args.model_name_or_path}`, {self.trainer.state.global_step} "
            f"steps with `python -m elysium.training.sft`.{left_out}\n\n"
            f"```yaml\n{yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)}```\n\n"
            f"![Loss, token accuracy, boxes and learning rate over the steps]({CURVES_FILE})\n{table}"
            f"\n## Citation{citation}"
        )


def _drawn(data_args: DataArguments) -> dict[str, Any]:
    """Return what the run was trained on."""
    if data_args.objective:
        return {"objective": data_args.objective, "objective_args": data_args.objective_args}
    return {
        "data": data_args.sources or data_args.stream,
        "tasks": data_args.tasks,
        "frames": [data_args.min_frames, data_args.max_frames, data_args.max_interval],
    }


def _changed(arguments: ModelArguments) -> dict[str, Any]:
    """Return the fields that are not as by default."""
    default = type(arguments)()
    values = {item.name: getattr(arguments, item.name) for item in fields(arguments)}
    return {name: value for name, value in values.items() if value != getattr(default, name)}


def draw_curves(log_history: list[dict[str, float]], path: Path) -> None:
    """Draw the logged values: loss, token accuracy by task, mean IoU on held-out data, learning rate.

    Args:
        log_history: of the trainer's state.
        path: PNG to write; not written where nothing was logged yet.
    """
    series: dict[str, list[tuple[int, float]]] = {}
    for entry in log_history:
        for name, value in entry.items():
            if "step" in entry and name not in ("step", "epoch", "train_loss", "total_flos"):
                series.setdefault(name, []).append((int(entry["step"]), float(value)))
    panels = {title: [name for name in series if part in name] for title, part in _PANELS.items()}
    panels = {title: names for title, names in panels.items() if names}
    if not panels:
        return
    figure = Figure(figsize=(4.2 * len(panels), 3.4), layout="constrained")
    for axis, (title, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        curves = {
            name: name.removeprefix("eval_").removesuffix("_token_accuracy").removesuffix("_iou") for name in names
        }
        colours = {curve: f"C{number}" for number, curve in enumerate(sorted(set(curves.values())))}
        for name, curve in curves.items():
            held_out = name.startswith("eval_")
            label, style = (f"{curve}, held out", "--") if held_out else (curve, "-")
            marker = "." if len(series[name]) < 3 else ""  # a line of one point cannot be seen
            axis.plot(*zip(*series[name], strict=True), style, color=colours[curve], label=label, marker=marker)
        axis.set(title=title, xlabel="step")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        if title != "learning rate":
            axis.set_ylim(bottom=0)
        axis.legend(fontsize=7, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
