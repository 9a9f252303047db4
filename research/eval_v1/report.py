"""What `eval_v1` shows: tables, targets met or not, and the picture of scores against overlap."""

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from elysium.processing.atomic_files import atomic_path

# What, where in the results, bound.
TARGETS = (
    ("REC accuracy at IoU 0.5", ("rec", "model", "success_50"), 0.90),
    ("REG exact colour and kind", ("reg", "exact"), 0.90),
    ("Video-REG exact colour and kind", ("video_reg", "exact"), 0.90),
    ("SOT, 8 frames: mean IoU", ("sot_8", "model", "mean_iou"), 0.80),
    ("SOT, 8 frames: mean IoU above the repeated box", ("sot_8", "above_repeated"), 0.25),
    ("RSOT, 8 frames: mean IoU", ("rsot_8", "model", "mean_iou"), 0.75),
    ("SOT, 64 frames: mean IoU", ("sot_64", "model", "mean_iou"), 0.75),
    ("RSOT, 64 frames: mean IoU", ("rsot_64", "model", "mean_iou"), 0.65),
    ("Gate: precision over the share of all tokens", ("gate", "precision_ratio"), 2.0),
    ("Gate: recall over the share kept", ("gate", "recall_ratio"), 2.0),
    ("Clips: share of target frames with occlusion, 8 frames", ("data", "share_occluded_8"), 0.15),
)
_TRACKING = ("sot_8", "rsot_8", "sot_64", "rsot_64")
_PACKAGES = ("elysium-vlm", "torch", "transformers", "numpy", "scipy", "opencv-contrib-python-headless")


def figure_at(results: dict[str, Any], path: tuple[str, ...]) -> float | None:
    """The figure under nested keys, None where it was not measured.

    >>> figure_at({"rec": {"model": None}}, ("rec", "model", "success_50")) is None
    True
    """
    value: Any = results
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def check_targets(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Each target with the figure that was reached; `met` is None where it was not measured."""
    checked = []
    for name, path, bound in TARGETS:
        reached = figure_at(results, path)
        met = None if reached is None else reached >= bound
        checked.append({"target": name, "at_least": bound, "reached": reached, "met": met})
    return checked


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that the figures depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _shown(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def overlap_table(results: dict[str, Any]) -> Table:
    """Mean IoU and success of the model and the baselines."""
    table = Table(title="Overlap (frames in which the target can be seen; a missing box counts 0)")
    for column in ("task", "who", "mean IoU", "IoU > 0.5", "frames", "clips"):
        table.add_column(column, justify="left" if column in ("task", "who") else "right")
    for task in ("rec", *_TRACKING):
        for who in ("model", "model_on_csrt_clips", "repeated", "csrt"):
            row = figure_at(results, (task, who))
            if isinstance(row, dict):
                cells = [_shown(row[key]) for key in ("mean_iou", "success_50", "frames", "clips")]
                table.add_row(task, who.replace("_", " "), *cells)
    return table


def other_table(results: dict[str, Any]) -> Table:
    """Descriptions, absence, gate and scores."""
    table = Table(title="Words, absence, gate, scores")
    table.add_column("what")
    table.add_column("figure", justify="right")
    rows: list[tuple[str, tuple[str, ...]]] = []
    rows += [(f"{task}: exact colour and kind", (task, "exact")) for task in ("reg", "video_reg")]
    for task in _TRACKING:
        rows += [(f"{task}: absence {key}", (task, "absence", key)) for key in ("precision", "recall")]
        rows.append((f"{task}: frames unreadable", (task, "absence", "frames_unreadable")))
    gate = ("share_of_kept_on_objects", "share_of_all_on_objects", "recall_of_object_tokens", "share_kept")
    rows += [(f"gate: {key.replace('_', ' ')}", ("gate", key)) for key in (*gate, "precision_ratio", "ratio_ceiling")]
    rows += [(f"score, {n} frames: rank correlation with IoU", (f"score_{n}", "spearman")) for n in (8, 64)]
    for name, path in rows:
        if figure_at(results, path[:1]) is not None:
            table.add_row(name, _shown(figure_at(results, path)))
    return table


def decile_table(results: dict[str, Any]) -> Table:
    """Mean score and mean IoU of each tenth of the boxes, from the least sure to the surest."""
    table = Table(title="Boxes by score, from the least sure tenth to the surest")
    table.add_column("")
    for number in range(1, 11):
        table.add_column(str(number), justify="right")
    for length in (8, 64):
        for what in ("score", "iou"):
            values = figure_at(results, (f"score_{length}", f"decile_mean_{what}"))
            if isinstance(values, list):
                table.add_row(f"{length} frames: {what}", *(f"{value:.2f}" for value in values))
    return table


def target_table(results: dict[str, Any]) -> Table:
    """The targets beside what was reached."""
    table = Table(title="Targets" + (" (PARTIAL RUN: figures are a trial)" if results["partial"] else ""))
    for column in ("target", "at least", "reached", "met"):
        table.add_column(column, justify="left" if column == "target" else "right")
    for item in results["targets"]:
        verdict = {True: "met", False: "NOT MET", None: "not measured"}[item["met"]]
        table.add_row(item["target"], f"{item['at_least']:.2f}", _shown(item["reached"]), verdict)
    return table


def print_report(results: dict[str, Any], console: Console) -> None:
    """All tables and the conditions of the run."""
    data = results["data"]
    console.print(f"eval_v1: {results['model']} on {results['hardware']}, {results['clips']} clips", highlight=False)
    console.print(
        f"long videos: {results['long_clips']} clips; CSRT on long videos: {results['csrt_long_clips']} clips; "
        f"frames with occlusion: {data['share_occluded_8']:.3f} of the first 8, {data['share_occluded_64']:.3f} of 64",
        highlight=False,
    )
    for table in (overlap_table(results), other_table(results), decile_table(results), target_table(results)):
        if table.row_count:
            console.print(table)


def save_score_plot(results: dict[str, Any], path: Path) -> bool:
    """Writes mean IoU against mean score by decile as a PNG; False where no score was measured."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    measured = {length: results.get(f"score_{length}") for length in (8, 64)}
    if not any(measured.values()):
        return False
    figure, axes = pyplot.subplots(figsize=(5, 5), layout="constrained")
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    for length, tally in measured.items():
        if tally:
            label = f"{length} frames, rank correlation {_shown(tally['spearman'])}, {tally['boxes']} boxes"
            axes.plot(tally["decile_mean_score"], tally["decile_mean_iou"], marker="o", label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean score of the tenth", ylabel="mean IoU of the tenth")
    axes.set_title("Does a box's score predict its overlap?")
    axes.legend(loc="lower right", fontsize=8)
    with atomic_path(path) as part:
        figure.savefig(part, dpi=120, format="png")
    pyplot.close(figure)
    return True
