"""What the runs of research/compression/run.py say: a table, sentences, and two pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.bench import markdown_table
from research.compression.features import NUM_PATCHES, PATCH_PX, SIDE_PX

TASKS = {"rec": "grounding by words (REC)", "sot": "tracking from a box (SOT)"}
_COLUMNS = {
    "REC IoU": ("rec_iou", 3),
    "REC > 0.5": ("rec_over_half", 3),
    "SOT IoU": ("sot_iou", 3),
    "SOT > 0.5": ("sot_over_half", 3),
    "recall": ("gate_recall", 2),
    "precision": ("gate_precision", 2),
    "tokens a clip": ("prefix_tokens_of_a_clip", 0),
    "s a step": ("train_s_per_step", 2),
    "ms a clip": ("forward_ms_per_clip", 1),
}
_INK, _ACCENT, _SECOND, _FAINT = "#1f2933", "#c2410c", "#1d4ed8", "#9aa5b1"


@dataclass(frozen=True, eq=False)
class Outcome:
    """The runs of one variant: `values[figure]` has one number a seed, in the order of `seeds`."""

    name: str
    kept: int
    seeds: tuple[int, ...]
    values: dict[str, NDArray[np.float64]]

    def of(self, figure: str, seeds: Sequence[int]) -> NDArray[np.float64]:
        """A figure's numbers at these seeds."""
        return self.values[figure][[self.seeds.index(seed) for seed in seeds]]


def gather(records: Sequence[dict[str, Any]]) -> dict[str, Outcome]:
    """Runs by variant, in the order in which each was first met."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        grouped.setdefault(record["settings"]["variant"]["name"], []).append(record)
    outcomes = {}
    for name, runs in grouped.items():
        runs.sort(key=lambda run: run["settings"]["seed"])
        figures = [key for key, value in runs[0]["figures"].items() if isinstance(value, int | float)]
        values = {key: np.array([float(run["figures"][key]) for run in runs]) for key in figures}
        seeds = tuple(run["settings"]["seed"] for run in runs)
        outcomes[name] = Outcome(name, runs[0]["settings"]["variant"]["kept"], seeds, values)
    return outcomes


def spread(values: NDArray[np.float64], digits: int) -> str:
    """Mean, and the standard deviation over seeds where there are several.

    >>> spread(np.array([0.5, 0.6, 0.7]), 2), spread(np.array([0.5]), 2)
    ('0.60 ± 0.10', '0.50')
    """
    mean = f"{values.mean():.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {values.std(ddof=1):.{digits}f}"


def table(outcomes: dict[str, Outcome]) -> str:
    """Return a table with a line for each variant."""
    lines: list[list[str]] = []
    for outcome in outcomes.values():
        cells = []
        for key, digits in _COLUMNS.values():
            values = outcome.values.get(key)
            several = values is not None and key.startswith(("rec", "sot", "gate"))
            cells.append("" if values is None else spread(values if several else values.mean(keepdims=True), digits))
        lines.append([outcome.name, str(outcome.kept), *cells])
    return markdown_table(["variant", "tokens a frame", *_COLUMNS], lines)


def difference(first: Outcome, second: Outcome, figure: str, seeds: Sequence[int]) -> tuple[float, float]:
    """Mean and standard deviation over seeds of how much `first` is above `second`, seed by seed."""
    gaps = first.of(figure, seeds) - second.of(figure, seeds)
    return float(gaps.mean()), float(gaps.std(ddof=1)) if len(gaps) > 1 else float("nan")


def sentence(first: Outcome, second: Outcome, seeds: Sequence[int]) -> str:
    """What the figures say about two variants; a gap below twice its spread is no gap."""
    parts = []
    for task in TASKS:
        gap, deviation = difference(first, second, f"{task}_iou", seeds)
        verb = "is not told apart from" if not abs(gap) > 2 * deviation else "beats" if gap > 0 else "loses to"
        parts.append(f"{verb} {second.name} in {task.upper()} ({gap:+.3f} ± {deviation:.3f})")
    seeds_said = ", ".join(map(str, seeds))
    return f"At {first.kept} of {NUM_PATCHES} tokens a frame {first.name} {' and '.join(parts)}; seeds {seeds_said}."


def draw_accuracy(outcomes: dict[str, Outcome], kept: int, path: Path) -> None:
    """Above: accuracy against kept tokens; below: all variants that keep as many."""
    from matplotlib import pyplot

    equal = [outcome for outcome in outcomes.values() if outcome.kept == kept]
    curve = sorted(
        (outcome for name, outcome in outcomes.items() if name == "selector" or "@" in name), key=lambda o: o.kept
    )
    ranked = sorted(equal, key=lambda outcome: sum(outcome.values[f"{task}_iou"].mean() for task in TASKS))
    heights = (3.0, 0.27 * len(equal))
    figure, axes = pyplot.subplots(2, 2, figsize=(11, 0.6 + sum(heights)), height_ratios=heights, layout="constrained")
    for column, (task, title) in enumerate(TASKS.items()):
        top, bottom = axes[0, column], axes[1, column]
        _draw_curve(top, curve, outcomes, task)
        top.set_title(title, fontsize=11, loc="left", color=_INK)
        _draw_ranking(bottom, ranked, task, named=column == 0)
        bottom.set_xlabel(f"mean IoU at {kept} tokens a frame", color=_INK)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(colors=_INK, labelsize=9)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _draw_curve(axis: Any, curve: list[Outcome], outcomes: dict[str, Outcome], task: str) -> None:
    means = [outcome.values[f"{task}_iou"].mean() for outcome in curve]
    axis.plot([o.kept for o in curve], means, marker="o", color=_ACCENT, label="selector")
    beside = (("selector+gate", _SECOND, "D", 1.04), ("average", _INK, "s", 0.96), ("random", _INK, "x", 1.0))
    for name, colour, mark, aside in beside:
        if name in outcomes:
            values = outcomes[name].values[f"{task}_iou"]
            deviation = values.std(ddof=1) if len(values) > 1 else 0
            axis.errorbar(aside * outcomes[name].kept, values.mean(), deviation, fmt=mark, color=colour, label=name)
    if "none" in outcomes:
        whole = outcomes["none"].values[f"{task}_iou"].mean()
        axis.axhline(whole, color=_FAINT, linestyle="--", label=f"no compression ({NUM_PATCHES})")
    if task == "sot":
        repeated = curve[0].values["first_box_repeated"].mean()
        axis.axhline(repeated, color=_FAINT, linestyle=":", label="first box repeated")
        axis.legend(frameon=False, fontsize=9, loc="best")
    axis.set_xscale("log")
    axis.set_xticks([o.kept for o in curve], [str(o.kept) for o in curve])
    axis.minorticks_off()
    axis.set_xlabel(f"tokens a frame, of {NUM_PATCHES}", color=_INK)
    axis.set_ylabel("mean IoU", color=_INK)


def _draw_ranking(axis: Any, ranked: list[Outcome], task: str, *, named: bool) -> None:
    for row, outcome in enumerate(ranked):
        values = outcome.values[f"{task}_iou"]
        colour = _SECOND if outcome.name.startswith("selector+") else _ACCENT if outcome.name == "selector" else _INK
        if len(values) > 1:
            axis.plot([values.min(), values.max()], [row, row], color=colour, linewidth=2)
        axis.plot(values.mean(), row, marker="o", color=colour)
    axis.set_yticks(range(len(ranked)), [outcome.name if named else "" for outcome in ranked])
    axis.set_ylim(-0.6, len(ranked) - 0.4)
    axis.grid(color="#e4e7eb")


def draw_kept(
    frames: torch.Tensor, boxes_xyxy_norm: torch.Tensor, places: dict[str, torch.Tensor], path: Path
) -> None:
    """Frames of a clip with what each variant dropped veiled, one line a variant.

    Args:
        frames (`torch.Tensor` of shape `(T, H, W, 3)`): uint8.
        boxes_xyxy_norm (`torch.Tensor` of shape `(T, 4)`): of the object that is followed.
        places: of each variant, kept places in 0..T*N-1.
    """
    from matplotlib import patches, pyplot

    grid, num_frames = SIDE_PX // PATCH_PX, len(frames)
    figure, axes = pyplot.subplots(
        len(places), num_frames, figsize=(2.1 * num_frames, 2.2 * len(places)), layout="constrained", squeeze=False
    )
    for line, (name, kept) in zip(axes, places.items(), strict=True):
        shown = torch.zeros(num_frames * grid * grid, dtype=torch.bool)
        shown[kept] = True
        for frame, axis in enumerate(line):
            mask = shown.view(num_frames, grid, grid)[frame].numpy().repeat(PATCH_PX, 0).repeat(PATCH_PX, 1)
            picture = frames[frame].numpy().astype(np.float64) / 255
            picture[~mask] = 0.2 * picture[~mask] + 0.8
            axis.imshow(picture)
            x1, y1, x2, y2 = (boxes_xyxy_norm[frame] * SIDE_PX).tolist()
            axis.add_patch(patches.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=_ACCENT, linewidth=1.6))
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_color("#cbd2d9")
            if axis in axes[0]:
                axis.set_title(f"frame {frame + 1}", fontsize=10, color=_INK)
        line[0].set_ylabel(name, fontsize=10, color=_INK)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
