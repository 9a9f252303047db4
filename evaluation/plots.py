"""Plot success, precision, normalised precision and histograms of IoUs, as PNG and SVG.

Figures are made with matplotlib's object interface, so pyplot's state is not touched, and the same input gives
the same bytes of SVG. Curves are 0..1 as protocols give them; scores are percent.
"""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from elysium.processing.atomic_files import atomic_path

# On a white and on a dark page: at least 3:1 against it, and at least 21 apart in CIELAB from one another, also as
# seen with protanopia, deuteranopia and tritanopia (Machado et al. 2009).
SERIES_COLORS = (
    ("#1256A2", "#4C93F0"),
    ("#A3200D", "#E0402F"),
    ("#26A264", "#8CFD9A"),
    ("#1B1F24", "#E6E9ED"),
    ("#8B5478", "#C0608A"),
    ("#899610", "#FDC021"),
)
# Lengths of dashes and gaps in line widths.
DASHES: tuple[tuple[float, ...], ...] = ((), (5, 1.6), (1.2, 1.2), (6, 1.5, 1.2, 1.5))
INK, FAINT_INK, GRID, PAPER = "#22272E", "#5B6470", "#D8DDE3", "#FFFFFF"

WIDTH_IN, AXES_HEIGHT_IN, LEGEND_LINE_IN = 4.9, 3.3, 0.2
PNG_DPI = 220
LEGEND_LETTERS = 44


@dataclass(frozen=True)
class CurvePlot:
    """One of the three plots of tracking, and the keys of its numbers in a report.

    Attributes:
        key: of the curve in a tracker's `curves`, and name of the file.
        thresholds: key of the x values in a report's `thresholds`.
        score: key of the number that ranks the trackers.
        title: of the plot.
        x_label: with its unit.
        y_label: with its unit.
        score_label: name of the number in the legend.
    """

    key: str
    thresholds: str
    score: str
    title: str
    x_label: str
    y_label: str
    score_label: str


CURVE_PLOTS = tuple(
    CurvePlot(*texts)
    for texts in (
        ("success", "overlap", "success_auc", "Success", "overlap threshold (IoU)", "success rate (%)", "success AUC"),
        (
            "precision",
            "centre_px",
            "precision",
            "Precision",
            "centre error threshold (px)",
            "precision (%)",
            "precision",
        ),
        (
            *("norm_precision", "centre_norm", "norm_precision", "Normalised precision"),
            *("normalised centre error threshold", "normalised precision (%)", "normalised precision"),
        ),
    )
)


@dataclass(frozen=True)
class Curve:
    """One line of a plot.

    Attributes:
        name: of the tracker.
        values: 0..1, one for every threshold.
        score: percent, shown in the legend.
        position: of the tracker in its report, from 0: gives colour and dashes, the same in all plots.
    """

    name: str
    values: Sequence[float]
    score: float
    position: int


def series_style(position: int) -> tuple[int, tuple[float, ...]]:
    """Return a series' index of the colour and lengths of the dashes; 24 positions differ, neighbours in both.

    >>> len({series_style(position) for position in range(24)})
    24
    """
    lap, color = divmod(position, len(SERIES_COLORS))
    return color, DASHES[(color + 3 * lap) % len(DASHES)]


def curve_figure(plot: CurvePlot, thresholds: Sequence[float], curves: Sequence[Curve], *, title: str = "") -> Figure:
    """Return a plot of several trackers with a legend below the axes, best score first.

    Args:
        plot: one of `CURVE_PLOTS`.
        thresholds: x values, rising.
        curves: one for every tracker.
        title: by default that of ``plot``.

    Raises:
        ValueError: no curve, or one of another length than the thresholds.
    """
    if not curves:
        raise ValueError("a plot must have at least one curve, got none; evaluate a tracker first")
    for curve in curves:
        if len(curve.values) != len(thresholds):
            raise ValueError(
                f"a curve must have one value for every threshold, got {len(curve.values)} values of {curve.name!r} "
                f"and {len(thresholds)} thresholds; write both from the same protocol"
            )
    ranked = sorted(curves, key=lambda curve: -curve.score)
    with _settings():
        figure, axes = _empty_figure(title or plot.title, plot.x_label, plot.y_label, lines=len(curves))
        for rank, curve in enumerate(ranked):
            percent = 100 * np.asarray(curve.values, dtype=float)
            axes.plot(thresholds, percent, zorder=3 - rank / len(ranked), **_line_style(curve.position))
        axes.set_xlim(thresholds[0], thresholds[-1])
        axes.set_ylim(0, 100)
        entries = [(f"{curve.score:.1f}", curve.name, curve.position) for curve in ranked]
        _add_legend(figure, f"{plot.score_label} (%)", entries)
    return figure


def iou_histogram_figure(histograms: Mapping[str, Mapping[str, Sequence[float]]], *, title: str = "") -> Figure:
    """Return a histogram of IoUs with one outline for every model, in percent of its answers.

    Args:
        histograms: by name of the model, `edges` (one more than counts) and `counts`.
        title: by default "IoU with the ground-truth box".

    Raises:
        ValueError: no histogram, one without a single answer, or edges that do not fit the counts.
    """
    if not histograms:
        raise ValueError("a plot must have at least one histogram, got none; evaluate a model first")
    with _settings():
        figure, axes = _empty_figure(
            title or "IoU with the ground-truth box", "IoU", "share of answers (%)", lines=len(histograms)
        )
        entries = []
        for position, (name, histogram) in enumerate(histograms.items()):
            edges, counts = histogram["edges"], np.asarray(histogram["counts"], dtype=float)
            if len(edges) != len(counts) + 1 or not counts.sum() > 0:
                raise ValueError(
                    "a histogram must have one edge more than counts and at least one answer, "
                    f"got {len(edges)} edges and {len(counts)} counts, {counts.sum():.0f} answers, of {name!r}; "
                    "make it with iou_histogram"
                )
            percent = 100 * counts / counts.sum()
            line = _line_style(position)
            if len(histograms) == 1:
                axes.stairs(percent, edges, fill=True, color=line["color"], alpha=0.25)
            axes.stairs(percent, edges, **line)
            entries.append((f"{counts.sum():,.0f}", name, position))
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
        _add_legend(figure, "answers", entries)
    return figure


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as .png or .svg; the file is complete or absent.

    Raises:
        ValueError: another suffix.
        OutputError: the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".png", ".svg"):
        raise ValueError(f"a plot must be saved as .png or .svg, got {str(path)!r}; change the suffix")
    with atomic_path(path) as temporary:
        if suffix == ".svg":
            temporary.write_text(svg_text(figure), encoding="utf-8")
        else:
            with _settings():
                figure.savefig(temporary, format="png", dpi=PNG_DPI, metadata={"Software": None})


def svg_text(figure: Figure) -> str:
    """Return the figure as SVG; letters are outlines, so it looks the same without the font."""
    target = io.BytesIO()
    with _settings():
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return target.getvalue().decode("utf-8")


@contextmanager
def _settings() -> Iterator[None]:
    """Apply the settings for drawing and saving; a user's matplotlibrc has no effect, and is restored."""
    settings = {
        "svg.hashsalt": "elysium",
        "svg.fonttype": "path",
        "font.family": "DejaVu Sans",
        "font.size": 9.5,
        "text.color": INK,
        "text.parse_math": False,  # names of trackers are no formulas
        "axes.labelcolor": INK,
        "axes.edgecolor": FAINT_INK,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "figure.constrained_layout.w_pad": 0.08,
        "figure.constrained_layout.h_pad": 0.08,
        "xtick.color": FAINT_INK,
        "ytick.color": FAINT_INK,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
    }
    with style.context(settings, after_reset=True):
        yield


def _empty_figure(title: str, x_label: str, y_label: str, *, lines: int) -> tuple[Figure, Axes]:
    """Return a figure with room for a legend of so many lines and its heading below the axes."""
    height = AXES_HEIGHT_IN + LEGEND_LINE_IN * (lines + 1)
    figure = Figure(figsize=(WIDTH_IN, height), layout="constrained", facecolor=PAPER)
    axes = figure.add_subplot(facecolor=PAPER)
    axes.set_title(shorten(title))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(color=GRID, linewidth=0.7)
    return figure, axes


def _line_style(position: int) -> dict:
    """Return the keyword arguments of a matplotlib line."""
    color, dashes = series_style(position)
    return {
        "color": SERIES_COLORS[color][0],
        "linestyle": (0, dashes) if dashes else "-",
        "linewidth": 1.8,
    }


def _add_legend(figure: Figure, heading: str, entries: Sequence[tuple[str, str, int]]) -> None:
    """Add a legend below the axes, each entry a number, a name and a position for its style. Fixes the layout."""
    width = max(len(number) for number, _, _ in entries)
    handles = [Line2D([], [], **_line_style(position)) for _, _, position in entries]
    # A digit is as wide as a figure space (U+2007), so the numbers stand right-aligned.
    labels = [f"{number.rjust(width, chr(0x2007))}  {shorten(name)}" for number, name, _ in entries]
    legend = figure.legend(
        handles, labels, loc="outside lower left", title=heading, frameon=False, handlelength=3.4, labelspacing=0.35
    )
    legend.set_alignment("left")
    # Every drawing moves a constrained layout a little: it is done once, so that all files show the same.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def shorten(name: str, letters: int = LEGEND_LETTERS) -> str:
    """Return a name in one line; a long one loses its middle, since paths and runs differ at their ends.

    >>> shorten("runs/tracker/checkpoint-1200", 15)
    'runs/tr…nt-1200'
    """
    line = " ".join(name.split())
    if len(line) <= letters:
        return line
    kept = letters - 1
    return line[: math.ceil(kept / 2)] + "…" + line[-(kept // 2) :]
