"""Plot success, precision and normalised precision of trackers, reliability diagrams, and histograms of IoUs.

Figures use matplotlib's object interface and its default style: pyplot's state is not touched, a user's matplotlibrc
has no effect, and the same input gives the same bytes of SVG.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

WIDTH_IN, AXES_HEIGHT_IN, COUNTS_HEIGHT_IN, LEGEND_LINE_IN = 4.9, 3.3, 0.9, 0.24
PNG_DPI = 220
LEGEND_LETTERS = 44
LINE_STYLES = ("-", "--", ":", "-.")  # with matplotlib's ten colours: neighbours differ in both


@dataclass(frozen=True)
class CurvePlot:
    """One of the three plots of tracking.

    Attributes:
        key: of the curve in a tracker's `curves`, and name of the file.
        thresholds: key of the x values in a report's `thresholds`.
        score: key of the figure that ranks the trackers in the legend.
        title: of the plot.
        x_label: with its unit.
    """

    key: str
    thresholds: str
    score: str
    title: str
    x_label: str


CURVE_PLOTS = (
    CurvePlot("success", "overlap", "success_auc", "Success", "overlap threshold (IoU)"),
    CurvePlot("precision", "centre_px", "precision", "Precision", "centre error threshold (px)"),
    CurvePlot(
        "norm_precision",
        "centre_norm",
        "norm_precision",
        "Normalised precision",
        "centre error threshold (share of the object's size)",
    ),
)


def curve_figure(
    plot: CurvePlot, thresholds: Sequence[float], trackers: Mapping[str, dict[str, Any]], *, title: str
) -> Figure:
    """Return a plot of several trackers with a legend below the axes, best score first.

    Args:
        plot: one of `CURVE_PLOTS`.
        thresholds: x values, rising.
        trackers: their parts of a report, by name; their order gives the colours.
        title: of the plot.
    """
    with _settings():
        figure, axes = _empty_figure(title, plot.x_label, lines=len(trackers))
        lines: list[tuple[float, str, Any]] = []
        for name, entry in trackers.items():
            percent = 100 * np.asarray(entry["curves"][plot.key], dtype=float)
            (line,) = axes.plot(thresholds, percent, **_line_style(len(lines)))
            lines.append((entry[plot.score], name, line))
        axes.set(xlim=(thresholds[0], thresholds[-1]), ylim=(0, 100), ylabel="share of frames (%)")
        lines.sort(key=lambda item: -item[0])
        labels = [_label(f"{score:.1f}", name) for score, name, _ in lines]
        _add_legend(figure, f"{plot.title.lower()} (%)", [line for _, _, line in lines], labels)
    return figure


def iou_histogram_figure(histograms: Mapping[str, Mapping[str, Sequence[float]]], *, title: str) -> Figure:
    """Return a histogram of IoUs with one outline for every model, in percent of its answers.

    Args:
        histograms: by name of the model, `edges` (one more than counts) and `counts`.
        title: of the plot.
    """
    with _settings():
        figure, axes = _empty_figure(title, "IoU", lines=len(histograms))
        outlines: list[Any] = []
        labels: list[str] = []
        for name, histogram in histograms.items():
            counts = np.asarray(histogram["counts"], dtype=float)
            outline = axes.stairs(100 * counts / counts.sum(), histogram["edges"], **_line_style(len(outlines)))
            outlines.append(outline)
            labels.append(_label(f"{counts.sum():,.0f}", name))
        axes.set(xlim=(0, 1), ylim=(0, None), ylabel="share of answers (%)")
        _add_legend(figure, "answers", outlines, labels)
    return figure


def reliability_figure(trackers: Mapping[str, dict[str, Any]], *, title: str) -> Figure:
    """Return a reliability diagram: mean IoU of the boxes by bin of their score, above the counts of the bins.

    Where scores are expected IoUs, points lie on the diagonal.

    Args:
        trackers: their parts of a report, by name; their order gives the colours. Those without scores are left out.
        title: of the plot.
    """
    with _settings():
        scored = [entry for entry in trackers.items() if "reliability" in entry[1]]
        figure = _sized_figure(AXES_HEIGHT_IN + COUNTS_HEIGHT_IN, lines=len(scored) + 1)
        axes, below = figure.subplots(2, sharex=True, height_ratios=(AXES_HEIGHT_IN, COUNTS_HEIGHT_IN))
        (diagonal,) = axes.plot((0, 1), (0, 1), color="gray", linewidth=1.2)
        lines: list[tuple[float, str, Any]] = []
        for position, (name, entry) in enumerate(trackers.items()):
            if "reliability" not in entry:
                continue
            bins, line_style = entry["reliability"], _line_style(position)
            points = [pair for pair in zip(bins["mean_score"], bins["mean_iou"], strict=True) if None not in pair]
            (line,) = axes.plot(*zip(*points, strict=True), marker="o", markersize=4.5, clip_on=False, **line_style)
            edges, colour = np.linspace(0, 1, len(bins["counts"]) + 1), line_style["color"]
            below.stairs(bins["counts"], edges, fill=True, color=colour, alpha=0.2)
            below.stairs(bins["counts"], edges, color=colour, linewidth=1.2)
            lines.append((entry["ece"], name, line))
        tenths = np.linspace(0, 1, 11)
        axes.set(title=title, xlim=(0, 1), ylim=(0, 1), ylabel="mean IoU", yticks=tenths)
        below.set(ylim=(0, None), xlabel="score", ylabel="boxes", xticks=tenths)
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        below.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        for each in (axes, below):
            each.set_axisbelow(True)
        lines.sort(key=lambda item: item[0])
        labels = [_label(f"{error:.1f}", name) for error, name, _ in lines]
        handles = [*(line for _, _, line in lines), diagonal]
        _add_legend(figure, "expected calibration error (%)", handles, [*labels, "0.0  perfect calibration"])
    return figure


def draw_figure(figure: Figure) -> dict[str, bytes]:
    """Return the files of a figure by their suffix, .png and .svg; letters in SVG are outlines."""
    png, svg = io.BytesIO(), io.BytesIO()
    no_metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with _settings():
        figure.savefig(png, format="png", dpi=PNG_DPI, metadata={"Software": None})
        figure.savefig(svg, format="svg", metadata=no_metadata)
    return {".png": png.getvalue(), ".svg": svg.getvalue()}


@contextmanager
def _settings() -> Iterator[None]:
    """Apply matplotlib's defaults and a few settings; those of the user are restored."""
    settings = {
        "svg.hashsalt": "elysium",
        "text.parse_math": False,  # names of trackers are no formulas
        "font.size": 9.5,
        "axes.grid": True,
        "grid.color": "#d8dde3",
        "figure.constrained_layout.h_pad": 0.08,
    }
    with style.context(settings, after_reset=True):
        yield


def _empty_figure(title: str, x_label: str, *, lines: int) -> tuple[Figure, Axes]:
    """Return a figure with room for a legend of so many lines and its heading below the axes."""
    figure = _sized_figure(AXES_HEIGHT_IN, lines=lines)
    return figure, figure.add_subplot(title=title, xlabel=x_label)


def _sized_figure(axes_height_in: float, *, lines: int) -> Figure:
    return Figure(figsize=(WIDTH_IN, axes_height_in + LEGEND_LINE_IN * (lines + 1)), layout="constrained")


def _line_style(position: int) -> dict[str, Any]:
    """Return the keyword arguments of a line by its position in the report."""
    return {"color": f"C{position}", "linestyle": LINE_STYLES[position % len(LINE_STYLES)], "linewidth": 1.8}


def _label(number: str, name: str) -> str:
    """Return an entry of a legend; the number in front shows a name that begins with an underscore."""
    return f"{number}  {name if len(name) <= LEGEND_LETTERS else name[: LEGEND_LETTERS - 1] + '…'}"


def _add_legend(figure: Figure, heading: str, handles: list[Any], labels: list[str]) -> None:
    """Add a legend below the axes, and fix the layout: every drawing would move it a little."""
    legend = figure.legend(handles, labels, loc="outside lower left", title=heading, frameon=False, handlelength=3.4)
    legend.set_alignment("left")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
