"""The report of an evaluation: numbers as JSON, plots, one page of HTML, and the results block for a model card.

One page serves tracking (``trackers`` in the report) and answers on pictures or in words (``models``): both become the
same `Page` of facts, tables and plots, and one template writes it.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
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

from .plots import (
    CURVE_PLOTS,
    FAINT_INK,
    GRID,
    INK,
    PAPER,
    SERIES_COLORS,
    Curve,
    CurvePlot,
    curve_figure,
    iou_histogram_figure,
    save_figure,
    series_style,
    svg_text,
)

NEEDED_KEYS = {"benchmark", "task", "command", "elysium_version", "protocol", "data"}
# Names as their papers write them; another name stands as it is.
BENCHMARK_TITLES = {
    "activitynet-qa": "ActivityNet-QA",
    "elysium-track-rsot": "ElysiumTrack",
    "elysium-track-sot": "ElysiumTrack",
    "got10k": "GOT-10k",
    "lasot": "LaSOT",
    "lasot-language": "LaSOT",
    "msrvtt-qa": "MSRVTT-QA",
    "msvd-qa": "MSVD-QA",
    "nfs": "NfS",
    "otb": "OTB",
    "tgif-qa": "TGIF-QA",
    "tnl2k": "TNL2K",
    "trackingnet": "TrackingNet",
    "uav123": "UAV123",
    **{f"{name.lower()}{task}": name for name in ("RefCOCO", "RefCOCO+", "RefCOCOg") for task in ("", "-reg")},
}
STANDARD = {"success_auc": "success AUC", "precision": "precision", "norm_precision": "normalised precision"}
GOT10K = {"ao": "AO", "sr50": "SR 0.50", "sr75": "SR 0.75", "mao": "mAO", "msr50": "mSR 0.50", "msr75": "mSR 0.75"}
PUBLIC_SCRIPT = "public script (not the standard)"
PUBLIC_SCRIPT_NOTE = (
    "The public script clamps boxes to 1..100 px before it measures them: its figures must not be compared with the "
    "others here, nor with published ones of the standard protocol."
)
MISSING = "–"


class ReportError(ValueError):
    """A report cannot be written from what it holds."""


@dataclass(frozen=True)
class Column:
    """Heading of a column: its words, whether its cells are numbers, and a second heading over several columns."""

    title: str
    numeric: bool = True
    group: str = ""


@dataclass(frozen=True)
class Cell:
    """One cell: its text, whether it is the best, small print below it, and the series whose line stands beside it."""

    text: str
    best: bool = False
    note: str = ""
    series: int | None = None


@dataclass(frozen=True)
class Table:
    """A table and the sentences above it; a searchable one can be sorted and filtered on the page."""

    title: str
    columns: list[Column]
    rows: list[list[Cell]]
    notes: list[str]
    searchable: bool = False


@dataclass(frozen=True)
class Page:
    """The tables above the plots and those below; the rest of a page stands in the report as it is."""

    tables: list[Table]
    details: list[Table]


def write_report(report: dict, folder: Path) -> list[Path]:
    """Writes a report into a folder and returns the paths; every file is whole or not there.

    `report.json`, `report.html` and every plot as .png and .svg; `model_index.yaml` where Elysium was among those
    evaluated.

    Args:
        report: of tracking, with ``trackers``, or of answers, with ``models``.
        folder: made where it is missing; files of an older report are replaced.

    Raises:
        ReportError: the report lacks something, or holds what is no plain finite number.
        OutputError: a file cannot be written.
    """
    numbers = _checked_json(report)
    figures = report_figures(report)
    texts = {"report.json": numbers, "report.html": render_html(report, figures)}
    entries = _model_index(report)
    if entries:
        texts["model_index.yaml"] = yaml_dump({"model-index": entries}, sort_keys=False)
    paths = [folder / f"{name}{suffix}" for name in figures for suffix in (".png", ".svg")]
    for path in paths:
        save_figure(figures[path.stem], path)
    for name, text in texts.items():
        paths.append(folder / name)
        with atomic_path(paths[-1]) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return paths


def _checked_json(report: dict) -> str:
    """The report as JSON, once it is known to be one."""
    missing = sorted(NEEDED_KEYS - set(report))
    if missing:
        raise ReportError(f"a report must have {sorted(NEEDED_KEYS)}, got none of {missing}; add them")
    if report["task"] not in TASKS:
        raise ReportError(f"a report's task must be one of {list(TASKS)}, got {report['task']!r}; name the task")
    if bool(report.get("trackers")) == bool(report.get("models")):
        raise ReportError(
            f"a report must have either trackers or models, got {sorted(report)}; give the one that was evaluated"
        )
    try:
        return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ReportError(
            f"a report must hold plain Python values and finite numbers, got one that is not ({error}); "
            "use None for what is missing"
        ) from error


def _ranked(report: dict) -> list[tuple[str, dict]]:
    """Names and entries, best first: trackers by success AUC, models by the first metric of the first of them."""
    if "trackers" in report:
        return sorted(report["trackers"].items(), key=lambda item: -item[1]["success_auc"])
    lead = _metric_names(report["models"].values())[0]
    return sorted(report["models"].items(), key=lambda item: -item[1]["metrics"].get(lead, float("-inf")))


def _metric_names(holders: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of all metrics, in the order in which they first come."""
    names = list(dict.fromkeys(name for holder in holders for name in holder["metrics"]))
    if not names:
        raise ReportError("a model in a report must have metrics, got none; evaluate it first")
    return names


def report_figures(report: dict) -> dict[str, Figure]:
    """Plots by the name of their file; the best has the first colour."""
    if "trackers" in report:
        return {plot.key: _curve_figure(report, plot) for plot in CURVE_PLOTS}
    histograms = {name: entry["histogram"] for name, entry in _ranked(report) if entry.get("histogram")}
    if not histograms:
        return {}
    title = f"IoU with the reference box on {_benchmark(report)}"
    return {"iou_histogram": iou_histogram_figure(histograms, title=title)}


def _curve_figure(report: dict, plot: CurvePlot) -> Figure:
    curves = [
        Curve(name, entry["curves"][plot.key], entry[plot.score], position)
        for position, (name, entry) in enumerate(_ranked(report))
    ]
    title = f"{plot.title} on {_benchmark(report)}"
    return curve_figure(plot, report["thresholds"][plot.thresholds], curves, title=title)


def _benchmark(report: dict) -> str:
    return BENCHMARK_TITLES.get(report["benchmark"], report["benchmark"])


def _model_index(report: dict) -> list[dict]:
    """Entries of a card's `model-index`, one for every Elysium model; other trackers are no models of ours."""
    task = TASKS[report["task"]]
    entries = []
    for model, entry in _ranked(report):
        if entry.get("kind", "elysium") != "elysium":
            continue
        labels = STANDARD | GOT10K if "trackers" in report else {key: _words(key) for key in entry["metrics"]}
        values = entry if "trackers" in report else entry["metrics"]
        results = [
            EvalResult(
                task_type=task.pipeline_tag,
                task_name=task.title,
                dataset_type=report["benchmark"],
                dataset_name=_benchmark(report),
                dataset_split=report["data"].get("split"),
                metric_type=key,
                metric_name=label,
                metric_value=round(values[key], 4),
                metric_config=report["protocol"]["name"],
            )
            for key, label in labels.items()
            if values.get(key) is not None
        ]
        entries += eval_results_to_model_index(model, results)
    return entries


def _words(key: str) -> str:
    """A key as a heading.

    >>> _words("mean_iou")
    'mean IoU'
    """
    return re.sub(r"\biou\b", "IoU", key.replace("_", " "))


def _number(value: float | None, digits: int) -> str:
    """The text of a number: whole ones with thousands separators.

    >>> _number(63.448, 1), _number(1400, 1), _number(None, 1)
    ('63.4', '1,400', '–')
    """
    if value is None:
        return MISSING
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def _fact(value: str | float) -> str:
    return value if isinstance(value, str) else _number(value, 1)


def _cells(values: Sequence[float | None], digits: int, *, mark_best: bool) -> list[Cell]:
    """Cells of one comparison; the best are those that read like the greatest."""
    texts = [_number(value, digits) for value in values]
    known = [(value, text) for value, text in zip(values, texts, strict=True) if value is not None]
    best = max(known)[1] if mark_best and len(known) > 1 else None
    return [Cell(text, best=text == best) for text in texts]


def _tracking_page(report: dict) -> Page:
    ranked = _ranked(report)
    entries = [entry for _, entry in ranked]
    columns = [Column("tracker", numeric=False)]
    names = [
        Cell(name, note=f"{entry['kind']} · {entry['origin']}", series=i) for i, (name, entry) in enumerate(ranked)
    ]
    compared = [names]
    notes = ["Percent, best of a column in bold. Sorted by success AUC."]
    shown_got10k = {k: v for k, v in GOT10K.items() if any(entry.get(k) is not None for entry in entries)}
    for key, label in (STANDARD | shown_got10k).items():
        columns.append(Column(label))
        compared.append(_cells([entry.get(key) for entry in entries], 1, mark_best=True))
    if shown_got10k:
        notes.append(
            "AO is the average overlap, SR the share of frames above an overlap; m stands for the mean over the "
            "classes of objects."
        )
    if any(entry.get("frames_per_s") is not None for entry in entries):
        columns.append(Column("frames per second"))
        speeds = [entry.get("frames_per_s") for entry in entries]
        compared.append(_cells(speeds, 1, mark_best=False))
    if any(entry.get("public_script") for entry in entries):
        notes.append(PUBLIC_SCRIPT_NOTE)
        for key, label in STANDARD.items():
            columns.append(Column(label, group=PUBLIC_SCRIPT))
            values = [(entry.get("public_script") or {}).get(key) for entry in entries]
            compared.append(_cells(values, 1, mark_best=False))
    rows = [list(row) for row in zip(*compared, strict=True)]
    return Page([Table("Trackers", columns, rows, notes)], [_sequence_table(ranked)])


def _sequence_table(ranked: Sequence[tuple[str, dict]]) -> Table:
    """Sequences by trackers: success AUC."""
    columns = [Column("sequence", numeric=False), Column("frames"), *(Column(name) for name, _ in ranked)]
    sequences = dict.fromkeys(sequence for _, entry in ranked for sequence in entry["sequences"])
    rows = []
    for sequence in sequences:
        found = [entry["sequences"].get(sequence, {}) for _, entry in ranked]
        frames = next(figures["frames"] for figures in found if figures)
        values = [figures.get("success_auc") for figures in found]
        rows.append([Cell(sequence), Cell(_number(frames, 0)), *_cells(values, 1, mark_best=True)])
    notes = [
        "Success AUC in percent, best of a row in bold. The other figures of every sequence stand in report.json."
    ]
    return Table("Sequences", columns, rows, notes, searchable=True)


def _answers_page(report: dict) -> Page:
    ranked = _ranked(report)
    metrics = _metric_names(entry for _, entry in ranked)
    lead = _metric_names(report["models"].values())[0]
    with_histogram = [name for name, entry in ranked if entry.get("histogram")]
    columns = [Column("model", numeric=False)]
    compared = [
        [
            Cell(name, note=entry["origin"], series=with_histogram.index(name) if name in with_histogram else None)
            for name, entry in ranked
        ]
    ]
    for key in metrics:
        columns.append(Column(_words(key)))
        values = [entry["metrics"].get(key) for _, entry in ranked]
        compared.append(_cells(values, 2, mark_best=key == lead))
    notes = [f"Sorted by {_words(lead)}, the best in bold."]
    rows = [list(row) for row in zip(*compared, strict=True)]
    return Page([Table("Models", columns, rows, notes)], _group_tables(ranked))


def _group_tables(ranked: Sequence[tuple[str, dict]]) -> list[Table]:
    """Metrics on parts of the data, a row for every part and model; no table where no model has parts."""
    groups = [
        (group, name, figures) for name, entry in ranked for group, figures in (entry.get("groups") or {}).items()
    ]
    if not groups:
        return []
    keys = list(dict.fromkeys(key for _, _, figures in groups for key in figures))
    columns = [Column("group", numeric=False), Column("model", numeric=False), *(Column(_words(k)) for k in keys)]
    rows = [
        [Cell(group), Cell(name), *_cells([figures.get(key) for key in keys], 2, mark_best=False)]
        for group, name, figures in groups
    ]
    return [Table("Groups", columns, rows, ["The same metrics on parts of the data."], searchable=True)]


def _breakable(name: str) -> Markup:
    """The name, escaped, where a line may break behind a separator or 18 letters; paths have no spaces.

    >>> print(_breakable("runs/a_b <1>"))
    runs/<wbr>a_<wbr>b<wbr> &lt;1&gt;
    """
    pieces = re.findall(r"\s*[^/_:\s-]{0,18}[/_:-]*", name)
    return Markup("<wbr>").join(piece for piece in pieces if piece)


def _inline_svg(svg: str, name: str) -> Markup:
    """A plot as part of the page: its colours are the page's, its ids differ from those of the other plots."""
    svg = re.sub(r"<!--.*?-->|<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    colors = {INK: "ink", FAINT_INK: "faint", GRID: "grid", PAPER: "paper"}
    colors |= {light: f"series-{i}" for i, (light, _) in enumerate(SERIES_COLORS)}
    for color, variable in colors.items():
        svg = svg.replace(color.lower(), f"var(--{variable})")
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="plot: {_words(name)}" ', 1))


def render_html(report: dict, figures: Mapping[str, Figure]) -> str:
    """Return the page of a report: one file that needs neither a server nor the network."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["breakable"] = _breakable
    template = resources.files(__package__).joinpath("report_page.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        report=report,
        benchmark=_benchmark(report),
        plots=[_inline_svg(svg_text(figure), name) for name, figure in figures.items()],
        facts={_words(key): _fact(value) for key, value in report["data"].items()},
        task=TASKS[report["task"]].title,
        page=_tracking_page(report) if "trackers" in report else _answers_page(report),
        series_colors=SERIES_COLORS,
        series_style=series_style,
    )
