"""Draws what the stages of a training run logged, one after another.

    python -m elysium.training.curves RUN [RUN ...] --output docs/images/training.png

Beside the picture goes a JSON of the same numbers.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import typer

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from transformers.trainer_utils import get_last_checkpoint  # noqa: E402

from elysium.processing.atomic_files import atomic_path  # noqa: E402

PANELS = {
    "dense_box_l1": "patches: box error\n(share of the picture)",
    "kinds": "patches: kind, cross-entropy",
    "coordinate_l1": "answers: coordinate error\n(of 100)",
    "words_right": "answers: words right\n(share of tokens)",
}


def read_log(run: Path) -> list[dict[str, Any]]:
    """The entries that a stage logged, from its last save.

    Raises:
        ValueError: the folder holds no save.
    """
    checkpoint = get_last_checkpoint(str(run)) if run.is_dir() else None
    if checkpoint is None:
        raise ValueError(f"a run must hold saves named checkpoint-N, got {run}; train it first")
    state = json.loads((Path(checkpoint) / "trainer_state.json").read_text("utf-8"))
    return [entry for entry in state["log_history"] if "loss" in entry]


def main(
    runs: Annotated[list[Path], typer.Argument(help="Run folders in the order of the stages.")],
    output: Annotated[Path, typer.Option(help="PNG to write.")],
) -> None:
    """Draws the curves of the stages."""
    logs = {run.name.removeprefix("tiny_"): read_log(run) for run in runs}
    figure, axes = plt.subplots(1, len(PANELS), sharex=True, figsize=(4 * len(PANELS), 3.2), layout="constrained")
    for axis, (name, title) in zip(axes, PANELS.items(), strict=True):
        start = 0
        for number, (stage, entries) in enumerate(logs.items()):
            points = [(start + entry["step"], entry[name]) for entry in entries if name in entry]
            if points:
                axis.plot(*zip(*points, strict=True), label=stage, color=f"C{number}")
            start += entries[-1]["step"]
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("step")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].legend(title="stage", frameon=False)
    with atomic_path(output) as temporary:
        figure.savefig(temporary, dpi=110)
    with atomic_path(output.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(logs, indent=0), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
