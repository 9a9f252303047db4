"""Draws what the stages of a training run logged, one after another, and compares a run with one that was kept.

    python -m research.tiny.curves RUN [RUN ...] --output docs/images/training.png
    python -m research.tiny.curves RUN [RUN ...] --against docs/images/training.json

Beside the picture goes a JSON of the same numbers: what a later run of the same recipe is compared with, as far as
both have come.
"""

import json
import math
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import typer

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from transformers.trainer_utils import get_last_checkpoint  # noqa: E402

from elysium.processing.atomic_files import atomic_path  # noqa: E402
from elysium.processing.data_files import read_json  # noqa: E402

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
    state = read_json(Path(checkpoint) / "trainer_state.json", allow_nan=True)
    return [entry for entry in state["log_history"] if "loss" in entry]


def compare(entries: list[dict[str, Any]], kept: list[dict[str, Any]]) -> str:
    """How far two logs of a stage are equal, number by number.

    >>> before = [{"step": 25, "loss": 2.0}, {"step": 50, "loss": 1.5}]
    >>> compare(before[:1], before)
    'equal to step 25'
    >>> compare([before[0], {"step": 50, "loss": 1.6}], before)
    'not equal at step 50: loss 1.6, kept 1.5'
    """
    equal = 0
    for ours, theirs in zip(entries, kept, strict=False):
        for name, value in theirs.items():
            found = ours.get(name, math.nan)
            if found != value and not (math.isnan(found) and math.isnan(value)):
                return f"not equal at step {theirs['step']}: {name} {found}, kept {value}"
        equal = theirs["step"]
    return f"equal to step {equal}"


def draw(logs: dict[str, list[dict[str, Any]]], output: Path) -> None:
    """A panel for each of `PANELS`, and the JSON beside the picture."""
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
    axes[0].legend(title="stage", frameon=False, loc="upper right", ncols=2)
    with atomic_path(output) as temporary:
        figure.savefig(temporary, dpi=110)
    with atomic_path(output.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(logs, indent=0), encoding="utf-8")


def main(
    runs: Annotated[list[Path], typer.Argument(help="Run folders in the order of the stages.")],
    output: Annotated[Path | None, typer.Option(help="PNG to write.")] = None,
    against: Annotated[Path | None, typer.Option(help="JSON of another run's curves, to compare with.")] = None,
) -> None:
    """Draws the curves of the stages, or says how far they are those of another run."""
    if output is None and against is None:
        raise typer.BadParameter("there must be something to do, got no option; give --output PNG or --against JSON")
    logs = {run.name.removeprefix("tiny_"): read_log(run) for run in runs}
    if against is not None:
        kept = read_json(against, allow_nan=True)
        for stage, entries in logs.items():
            print(f"{stage}: {compare(entries, kept[stage]) if stage in kept else f'no such stage in {against}'}")
    if output is not None:
        draw(logs, output)


if __name__ == "__main__":
    typer.run(main)
