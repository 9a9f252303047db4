"""Write the report of an evaluation: figures as JSON, plots, an HTML page, and the results block for a model card.

A report is of a tracking benchmark (``trackers``) or of a question benchmark (``models``).
"""

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult
from huggingface_hub.repocard_data import eval_results_to_model_index
from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from elysium.processing.atomic_files import atomic_path
from elysium.processing.prompts_elysium import TASKS

from .plots import CURVE_PLOTS, curve_figure, draw_figure, iou_histogram_figure, reliability_figure

Record = dict[str, Any]

STANDARD = {"success_auc": "success AUC", "precision": "precision", "norm_precision": "normalised precision"}
GOT10K = {"ao": "AO", "sr50": "SR 0.50", "sr75": "SR 0.75", "mao": "mAO", "msr50": "mSR 0.50", "msr75": "mSR 0.75"}
PUBLIC_SCRIPT = "public script (not the standard)"
PUBLIC_SCRIPT_NOTE = (
    "The public script clamps boxes to 1..100 px before it measures them: do not compare its figures with the others "
    "here, nor with published ones of the standard protocol."
)
ECE_NOTE = (
    "ECE is the expected calibration error, lower is better: the mean of |mean score - mean IoU| over 10 bins of the "
    "score, weighted by the boxes in each, over all frames with a predicted box; its IoU is 0 where there is no true "
    "box (Guo et al., arXiv 1706.04599, with IoU for accuracy)."
)
MISSING = "–"


@dataclass(frozen=True)
class Table:
    """Table of the page; the first column holds names, the others numbers. ``notes`` stand above it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def write_report(report: Record, folder: Path) -> list[Path]:
    """Write a report into a folder and return the paths; every file is complete or absent.

    `report.json`, `report.html` and every plot as .png and .svg; `model_index.yaml` where Elysium was among those
    evaluated.

    Args:
        report: of a tracking benchmark, with ``trackers``, or a question benchmark, with ``models``.
        folder: made where it is missing; files of an older report are replaced.

    Raises:
        ValueError: the report holds a number that is not finite, which JSON cannot hold.
        OutputError: a file cannot be written.
    """
    numbers = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    plots = {name: draw_figure(figure) for name, figure in report_figures(report).items()}
    files = {f"{name}{suffix}": content for name, drawn in plots.items() for suffix, content in drawn.items()}
    files["report.json"] = numbers.encode()
    files["report.html"] = render_html(report, {name: drawn[".svg"] for name, drawn in plots.items()}).encode()
    if entries := _model_index(report):
        files["model_index.yaml"] = yaml_dump({"model-index": entries}, sort_keys=False).encode()
    for name, content in files.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(content)
    return [folder / name for name in files]


def report_figures(report: Record) -> dict[str, Figure]:
    """Return the plots by the names of their files; the best tracker has the first colour."""
    entries, benchmark = _entries(report), _title(report)
    if "trackers" in report:
        figures = {
            plot.key: curve_figure(
                plot, report["thresholds"][plot.thresholds], entries, title=f"{plot.title} on {benchmark}"
            )
            for plot in CURVE_PLOTS
        }
        if any("reliability" in entry for entry in entries.values()):
            figures["reliability"] = reliability_figure(entries, title=f"Reliability of scores on {benchmark}")
        return figures
    histograms = {name: entry["histogram"] for name, entry in entries.items() if "histogram" in entry}
    if not histograms:
        return {}
    title = f"IoU with the ground-truth box on {benchmark}"
    return {"iou_histogram": iou_histogram_figure(histograms, title=title)}


def render_html(report: Record, plots: Mapping[str, bytes]) -> str:
    """Return the page of a report: one file that needs neither a server nor the network.

    Args:
        report: as `write_report` takes it.
        plots: SVG by name.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = resources.files(__package__).joinpath("report_page.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        report=report,
        benchmark=_title(report),
        task=TASKS[report["task"]].title,
        facts={_words(key): _number(value) for key, value in report["data"].items()},
        tables=_tracking_tables(report) if "trackers" in report else _answer_tables(report),
        plots={_words(name): b64encode(svg).decode() for name, svg in plots.items()},
    )


def _title(report: Record) -> str:
    """Return the benchmark's name as its paper writes it."""
    return str(report.get("title", report["benchmark"]))


def _entries(report: Record) -> dict[str, Record]:
    """Return the entries of a report by name, trackers with the best success AUC first."""
    if "trackers" in report:
        return dict(sorted(report["trackers"].items(), key=lambda item: -item[1]["success_auc"]))
    return report["models"]


def _metrics(entry: Record) -> dict[str, tuple[str, float]]:
    """Return the headings and values of an entry's metrics by their keys; those without a value are left out."""
    if "metrics" in entry:
        return {key: (_words(key), value) for key, value in entry["metrics"].items()}
    labels = STANDARD | GOT10K
    return {key: (label, entry[key]) for key, label in labels.items() if entry.get(key) is not None}


def _model_index(report: Record) -> list[dict]:
    """Return the entries of a card's `model-index`, one for every Elysium model."""
    task = TASKS[report["task"]]
    entries = []
    for model, entry in _entries(report).items():
        if entry.get("kind", "elysium") != "elysium":
            continue
        results = [
            EvalResult(
                task_type=task.pipeline_tag,
                task_name=task.title,
                dataset_type=report["benchmark"],
                dataset_name=_title(report),
                dataset_split=report["data"].get("split"),
                metric_type=key,
                metric_name=label,
                metric_value=round(value, 4),
                metric_config=report["protocol"]["name"],
            )
            for key, (label, value) in _metrics(entry).items()
        ]
        entries += eval_results_to_model_index(model, results)
    return entries


def _words(key: str) -> str:
    """Return a key as a heading.

    >>> _words("mean_iou")
    'mean IoU'
    """
    return re.sub(r"\biou\b", "IoU", key.replace("_", " "))


def _number(value: str | float | None) -> str:
    """Format a figure; whole ones have thousands separators, texts stay.

    >>> _number(63.448), _number(1400), _number(None)
    ('63.45', '1,400', '–')
    """
    if value is None:
        return MISSING
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def _best_in_bold(values: Sequence[float | None]) -> list[str]:
    """Format the figures of one comparison; the best are those whose text equals that of the greatest."""
    known = [value for value in values if value is not None]
    best = _number(max(known)) if len(known) > 1 else None
    return [Markup("<b>{}</b>").format(text) if text == best else text for text in map(_number, values)]


def _tracking_tables(report: Record) -> list[Table]:
    """Return the tables of a tracking benchmark: trackers by figures, and success AUC of sequences by trackers."""
    entries = _entries(report)
    columns: dict[str, list[str]] = {"tracker": list(entries)}
    notes = ["Percent, best of a column in bold. Sorted by success AUC."]
    for key, label in (STANDARD | GOT10K).items():
        values = [entry.get(key) for entry in entries.values()]
        if any(value is not None for value in values):
            columns[label] = _best_in_bold(values)
    if "AO" in columns:
        notes.append("AO is the average overlap, SR the share of frames above an overlap, m a mean over classes.")
    if any("ece" in entry for entry in entries.values()):
        columns["ECE"] = [_number(entry.get("ece")) for entry in entries.values()]
        notes.append(ECE_NOTE)
    if any(entry.get("frames_per_s") is not None for entry in entries.values()):
        columns["frames per second"] = [_number(entry.get("frames_per_s")) for entry in entries.values()]
    if any("public_script" in entry for entry in entries.values()):
        notes.append(PUBLIC_SCRIPT_NOTE)
        for key, label in STANDARD.items():
            values = [entry.get("public_script", {}).get(key) for entry in entries.values()]
            columns[f"{PUBLIC_SCRIPT}: {label}"] = [_number(value) for value in values]
    columns["origin"] = [f"{entry['kind']}, {entry['origin']}" for entry in entries.values()]
    rows = list(zip(*columns.values(), strict=True))
    return [Table("Trackers", list(columns), rows, notes), _sequence_table(entries)]


def _sequence_table(trackers: Mapping[str, Record]) -> Table:
    """Return the table of sequences by trackers: success AUC."""
    sequences = dict.fromkeys(sequence for entry in trackers.values() for sequence in entry["sequences"])
    rows = []
    for sequence in sequences:
        found = [entry["sequences"].get(sequence, {}) for entry in trackers.values()]
        frames = next(figures["frames"] for figures in found if figures)
        rows.append([sequence, _number(frames), *_best_in_bold([figures.get("success_auc") for figures in found])])
    notes = ["Success AUC in percent, best of a row in bold. The other figures of every sequence are in report.json."]
    return Table("Sequences", ["sequence", "frames", *trackers], rows, notes)


def _answer_tables(report: Record) -> list[Table]:
    """Return the tables of a question benchmark: the metrics, and the same on parts of the data."""
    tables = []
    for name, entry in report["models"].items():
        parts = {"all": entry["metrics"]} | entry.get("groups", {})
        keys = list(dict.fromkeys(key for figures in parts.values() for key in figures))
        rows = [[part, *(_number(figures.get(key)) for key in keys)] for part, figures in parts.items()]
        tables.append(Table(name, ["samples of", *map(_words, keys)], rows, [f"Origin: {entry['origin']}."]))
    return tables
