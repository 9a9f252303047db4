"""Write the report of an evaluation: figures as JSON, plots, an HTML page, and the results block for a model card.

Tracking (``trackers`` in the report) and question benchmarks (``models``) become the same `Page` of tables, which one
template renders.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

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
STANDARD = {"success_auc": "success AUC", "precision": "precision", "norm_precision": "normalised precision"}
GOT10K = {"ao": "AO", "sr50": "SR 0.50", "sr75": "SR 0.75", "mao": "mAO", "msr50": "mSR 0.50", "msr75": "mSR 0.75"}
PUBLIC_SCRIPT = "public script (not the standard)"
PUBLIC_SCRIPT_NOTE = (
    "The public script clamps boxes to 1..100 px before it measures them: do not compare its figures with the others "
    "here, nor with published ones of the standard protocol."
)
MISSING = "–"


class ReportError(ValueError):
    """Raised for a report that cannot be written; the message says what it lacks."""


@dataclass(frozen=True)
class Column:
    """Heading of a column: its title, whether its cells are numbers, and a heading over a group of columns."""

    title: str
    numeric: bool = True
    group: str = ""


@dataclass(frozen=True)
class Cell:
    """One cell: its text, whether it is the best, a note below it, and the plotted series whose line is beside it."""

    text: str
    best: bool = False
    note: str = ""
    series: int | None = None


@dataclass(frozen=True)
class Table:
    """Table with notes above it; a searchable one can be sorted and filtered on the page."""

    title: str
    columns: list[Column]
    rows: list[list[Cell]]
    notes: list[str]
    searchable: bool = False


@dataclass(frozen=True)
class Page:
    """Tables above the plots and those below."""

    tables: list[Table]
    details: list[Table]


def write_report(report: dict, folder: Path) -> list[Path]:
    """Write a report into a folder and return the paths; every file is complete or absent.

    `report.json`, `report.html` and every plot as .png and .svg; `model_index.yaml` where Elysium was among those
    evaluated.

    Args:
        report: of a tracking benchmark, with ``trackers``, or a question benchmark, with ``models``.
        folder: made where it is missing; files of an older report are replaced.

    Raises:
        ReportError: the report lacks a key, or holds a value that is no plain finite number.
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
    """Return the report as JSON, after checking its keys."""
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
    """Return names and entries, best first: trackers by success AUC, models by the lead metric."""
    if "trackers" in report:
        return sorted(report["trackers"].items(), key=lambda item: -item[1]["success_auc"])
    lead = _metric_names(report["models"].values())[0]
    return sorted(report["models"].items(), key=lambda item: -item[1]["metrics"].get(lead, float("-inf")))


def _metric_names(entries: Iterable[dict]) -> list[str]:
    """Return the names of all metrics; the first of a report is its lead metric, which ranks the models."""
    names = list(dict.fromkeys(name for entry in entries for name in entry["metrics"]))
    if not names:
        raise ReportError("a model in a report must have metrics, got none; evaluate it first")
    return names


def report_figures(report: dict) -> dict[str, Figure]:
    """Return the plots by the names of their files; the best tracker has the first colour."""
    if "trackers" in report:
        return {plot.key: _curve_figure(report, plot) for plot in CURVE_PLOTS}
    histograms = {name: entry["histogram"] for name, entry in _ranked(report) if entry.get("histogram")}
    if not histograms:
        return {}
    title = f"IoU with the ground-truth box on {_title(report)}"
    return {"iou_histogram": iou_histogram_figure(histograms, title=title)}


def _curve_figure(report: dict, plot: CurvePlot) -> Figure:
    """Return one of the plots of tracking."""
    curves = [
        Curve(name, entry["curves"][plot.key], entry[plot.score], position)
        for position, (name, entry) in enumerate(_ranked(report))
    ]
    title = f"{plot.title} on {_title(report)}"
    return curve_figure(plot, report["thresholds"][plot.thresholds], curves, title=title)


def _title(report: dict) -> str:
    """Return the benchmark's name as its paper writes it."""
    return report.get("title", report["benchmark"])


def _model_index(report: dict) -> list[dict]:
    """Return the entries of a card's `model-index`, one for every Elysium model."""
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
                dataset_name=_title(report),
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
    """Return a key as a heading.

    >>> _words("mean_iou")
    'mean IoU'
    """
    return re.sub(r"\biou\b", "IoU", key.replace("_", " "))


def _number(value: float | None, digits: int) -> str:
    """Format a number; whole ones have thousands separators.

    >>> _number(63.448, 1), _number(1400, 1), _number(None, 1)
    ('63.4', '1,400', '–')
    """
    if value is None:
        return MISSING
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def _fact(value: str | float) -> str:
    return value if isinstance(value, str) else _number(value, 1)


def _cells(values: Sequence[float | None], digits: int, *, mark_best: bool) -> list[Cell]:
    """Return the cells of one comparison; the best are those whose text equals that of the greatest."""
    texts = [_number(value, digits) for value in values]
    known = [(value, text) for value, text in zip(values, texts, strict=True) if value is not None]
    best = max(known)[1] if mark_best and len(known) > 1 else None
    return [Cell(text, best=text == best) for text in texts]


def _tracking_page(report: dict) -> Page:
    """Return the tables of a tracking benchmark."""
    ranked = _ranked(report)
    entries = [entry for _, entry in ranked]
    columns = [Column("tracker", numeric=False)]
    compared = [
        [Cell(name, note=f"{entry['kind']} · {entry['origin']}", series=i) for i, (name, entry) in enumerate(ranked)]
    ]

    def add(label: str, values: list[float | None], *, group: str = "", mark_best: bool = False) -> None:
        columns.append(Column(label, group=group))
        compared.append(_cells(values, 1, mark_best=mark_best))

    notes = ["Percent, best of a column in bold. Sorted by success AUC."]
    shown_got10k = {k: v for k, v in GOT10K.items() if any(entry.get(k) is not None for entry in entries)}
    for key, label in (STANDARD | shown_got10k).items():
        add(label, [entry.get(key) for entry in entries], mark_best=True)
    if shown_got10k:
        notes.append(
            "AO is the average overlap, SR the share of frames above an overlap; m stands for the mean over object "
            "classes."
        )
    if any(entry.get("frames_per_s") is not None for entry in entries):
        add("frames per second", [entry.get("frames_per_s") for entry in entries])
    if any(entry.get("public_script") for entry in entries):
        notes.append(PUBLIC_SCRIPT_NOTE)
        for key, label in STANDARD.items():
            add(label, [(entry.get("public_script") or {}).get(key) for entry in entries], group=PUBLIC_SCRIPT)
    return Page([Table("Trackers", columns, _rows(compared), notes)], [_sequence_table(ranked)])


def _sequence_table(ranked: Sequence[tuple[str, dict]]) -> Table:
    """Return the table of sequences by trackers: success AUC."""
    columns = [Column("sequence", numeric=False), Column("frames"), *(Column(name) for name, _ in ranked)]
    sequences = dict.fromkeys(sequence for _, entry in ranked for sequence in entry["sequences"])
    rows = []
    for sequence in sequences:
        found = [entry["sequences"].get(sequence, {}) for _, entry in ranked]
        frames = next(figures["frames"] for figures in found if figures)
        values = [figures.get("success_auc") for figures in found]
        rows.append([Cell(sequence), Cell(_number(frames, 0)), *_cells(values, 1, mark_best=True)])
    notes = ["Success AUC in percent, best of a row in bold. The other figures of every sequence are in report.json."]
    return Table("Sequences", columns, rows, notes, searchable=True)


def _answers_page(report: dict) -> Page:
    """Return the tables of a question benchmark."""
    ranked = _ranked(report)
    metrics, lead = _metric_names(entry for _, entry in ranked), _metric_names(report["models"].values())[0]
    with_histogram = [name for name, entry in ranked if entry.get("histogram")]
    columns = [Column("model", numeric=False), *(Column(_words(key)) for key in metrics)]
    names = [
        Cell(name, note=entry["origin"], series=with_histogram.index(name) if name in with_histogram else None)
        for name, entry in ranked
    ]
    compared = [
        _cells([entry["metrics"].get(key) for _, entry in ranked], 2, mark_best=key == lead) for key in metrics
    ]
    notes = [f"Sorted by {_words(lead)}, the best in bold."]
    return Page([Table("Models", columns, _rows([names, *compared]), notes)], _group_tables(ranked))


def _rows(columns: Sequence[list[Cell]]) -> list[list[Cell]]:
    return [list(row) for row in zip(*columns, strict=True)]


def _group_tables(ranked: Sequence[tuple[str, dict]]) -> list[Table]:
    """Return the table of metrics on parts of the data; none where no model has parts."""
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
    """Escape a name and allow line breaks after separators and every 18 letters; paths have no spaces.

    >>> print(_breakable("runs/a_b <1>"))
    runs/<wbr>a_<wbr>b<wbr> &lt;1&gt;
    """
    pieces = re.findall(r"\s*[^/_:\s-]{0,18}[/_:-]*", name)
    return Markup("<wbr>").join(piece for piece in pieces if piece)


def _inline_svg(svg: str, name: str) -> Markup:
    """Return a plot as part of the page, with the page's colours and ids of its own."""
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
        benchmark=_title(report),
        plots=[_inline_svg(svg_text(figure), name) for name, figure in figures.items()],
        facts={_words(key): _fact(value) for key, value in report["data"].items()},
        task=TASKS[report["task"]].title,
        page=_tracking_page(report) if "trackers" in report else _answers_page(report),
        series_colors=SERIES_COLORS,
        series_style=series_style,
    )
