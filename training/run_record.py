"""Write the record of a run: an image of its curves, and a card with data, recipe, curves and results."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from elysium.modeling_elysium.model_card_elysium import model_card
from elysium.processing.atomic_files import atomic_path

from .sft_arguments import DataArguments, ElysiumSFTConfig, ModelArguments

CURVES_FILE = "training.png"
# Panels, each with a part of the names of its logged values.
_PANELS = {
    "loss": "loss",
    "right tokens (share)": "token_accuracy",
    "mean IoU": "_iou",
    "learning rate": "learning_rate",
}
_SHOWN = ("learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "max_length", "seed", "optim")


class RunRecorder(TrainerCallback):
    """Draw the curves whenever a checkpoint is saved, and write the card at the end.

    It also sets the collator's epoch, so that every epoch draws other frames and tasks.
    """

    def __init__(
        self, model_args: ModelArguments, data_args: DataArguments, training_args: ElysiumSFTConfig, trainer: Any
    ) -> None:
        self.model_args, self.data_args, self.training_args, self.trainer = (
            model_args,
            data_args,
            training_args,
            trainer,
        )

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the epoch of the draws."""
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
        return f"{head}{self._run_section()}\n## Citation{citation}"

    def _run_section(self) -> str:
        state = self.trainer.state
        started = self.model_args.model
        data = self.data_args.sources or [{"stream": name} for name in self.data_args.stream]
        recipe = {
            "model": {key: value for key, value in asdict(self.model_args).items() if value not in (None, [], {}, 0)},
            "data": data,
            "tasks": self.data_args.tasks or "all",
            "frames": [self.data_args.min_frames, self.data_args.max_frames, self.data_args.max_interval],
            **{name: _plain(getattr(self.training_args, name)) for name in _SHOWN},
            "processes": self.training_args.world_size,
        }
        results = {
            key: value for entry in state.log_history for key, value in entry.items() if key.startswith("eval_")
        }
        rows = "\n".join(
            f"| {name.removeprefix('eval_')} | {value:.4f} |"
            for name, value in sorted(results.items())
            if isinstance(value, float) and not name.endswith(("runtime", "per_second", "num_tokens"))
        )
        shown = yaml.safe_dump(json.loads(json.dumps(recipe)), sort_keys=False, allow_unicode=True)
        held_out = (
            f"\nOn held-out data, at the last evaluation:\n\n| figure | value |\n|---|---|\n{rows}\n" if rows else ""
        )
        dropped = next((entry["dropped"] for entry in reversed(state.log_history) if "dropped" in entry), 0)
        left_out = f" {int(dropped)} items could not be read and were left out." if dropped else ""
        return (
            f"## Training\n\nFrom `{started}`, {state.global_step} steps with `python -m elysium.training.sft`."
            f"{left_out}\n\n```yaml\n{shown}```\n\n"
            f"![Loss, right tokens, boxes and rate over the steps]({CURVES_FILE})\n{held_out}"
        )


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)


def draw_curves(log_history: list[dict[str, float]], path: Path) -> None:
    """Draw the logged values: loss, token accuracy by task, mean IoU on held-out data, learning rate.

    Args:
        log_history: of the trainer's state.
        path: PNG to write; not written where nothing was logged yet.
    """
    panels = {title: _series(log_history, part) for title, part in _PANELS.items()}
    drawn = {title: series for title, series in panels.items() if series}
    if not drawn:
        return
    figure = Figure(figsize=(4.2 * len(drawn), 3.4), layout="constrained")
    for axis, (title, series) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn.items(), strict=True):
        names = sorted({_short(name) for name in series})
        for name, points in series.items():
            held_out = name.startswith("eval_")
            short = _short(name)
            axis.plot(
                *zip(*points, strict=True),
                "--" if held_out else "-",
                color=f"C{names.index(short)}",
                label=f"{short}, held out" if held_out else short,
                marker="." if len(points) < 3 else "",
            )
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("step")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        if title != "learning rate":
            axis.set_ylim(bottom=0)
        if len(series) > 1:
            axis.legend(fontsize=7, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _short(name: str) -> str:
    """Return the name of a curve in its panel."""
    return name.removeprefix("eval_").removesuffix("_token_accuracy").removesuffix("_iou")


def _series(log_history: list[dict[str, float]], part: str) -> dict[str, list[tuple[int, float]]]:
    """Return points `(step, value)` of every logged name that contains ``part``."""
    series: dict[str, list[tuple[int, float]]] = {}
    for entry in log_history:
        for name, value in entry.items():
            if part in name and name not in ("train_loss", "total_flos") and "step" in entry:
                series.setdefault(name, []).append((int(entry["step"]), float(value)))
    return series
