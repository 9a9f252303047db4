"""Describe a dataset of tracks by counts and histograms of constant size.

The input are plain records with the fields of ElysiumTrack-1M, of any such dataset.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elysium.processing.atomic_files import atomic_path

Row = Mapping[str, Any]
# Lower edges of the bins; the last bin has no upper edge.
EDGES: dict[str, tuple[float, ...]] = {
    "length": (1, 8, 16, 32, 64, 128, 256, 512),
    "size": (0, 0.05, 0.1, 0.2, 0.4, 0.7),
    "speed": (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1),
    "words": (1, 2, 3, 4, 5, 6, 7, 8),
}
MEANINGS = {
    "length": "frames of a row",
    "size": "side of a square of the box's area, over that of the picture's; mean of a row",
    "speed": "way of the centre from frame to frame, in sides of the box; mean of a row",
    "words": "words of a description, without the article",
}
_COMMON = 20
_ARTICLES = frozenset({"a", "an", "the"})


class RowStatistics:
    """Count records, added one by one."""

    def __init__(self) -> None:
        self.rows = 0
        self._videos: Counter[str] = Counter()
        self._frames: Counter[str] = Counter(boxed=0, absent=0)
        self._classes: Counter[str] = Counter()
        self._counts = {name: np.zeros(len(edges), np.int64) for name, edges in EDGES.items()}

    def add(self, row: Row) -> None:
        """Count a record.

        Args:
            row: Record with `vid`, `box`, `frame_size`, `object_class` and `object_description`.
        """
        boxes_px = row_boxes_px(row)
        boxed = int(np.isfinite(boxes_px[:, 0]).sum())
        self.rows += 1
        self._videos[str(row.get("vid"))] += 1
        self._frames.update(boxed=boxed, absent=len(boxes_px) - boxed)
        self._classes[str(row.get("object_class"))] += 1
        words = str(row.get("object_description") or "").lower().split()
        self._count("length", len(boxes_px))
        self._count("words", len(words) - bool(words and words[0] in _ARTICLES))
        self._count("size", mean_size(boxes_px, row["frame_size"]))
        self._count("speed", mean_speed(boxes_px))

    def _count(self, name: str, value: float) -> None:
        place = int(np.searchsorted(EDGES[name], value, side="right")) - 1
        if place >= 0 and np.isfinite(value):
            self._counts[name][place] += 1

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as plain values.

        Returns:
            Number of `rows` and `videos`; maximum of `rows_of_a_video`; `frames` with a box and without; `histograms`
            of length, size, speed and words, each with its meaning, `edges` (one more than counts; the last is null)
            and `counts` of records; number of `classes`, and the most common ones with their counts.
        """
        histograms = {
            name: {"of": MEANINGS[name], "edges": [*EDGES[name], None], "counts": self._counts[name].tolist()}
            for name in EDGES
        }
        return {
            "rows": self.rows,
            "videos": len(self._videos),
            "rows_of_a_video": max(self._videos.values(), default=0),
            "frames": dict(self._frames),
            "histograms": histograms,
            "classes": len(self._classes),
            "commonest_classes": dict(sorted(self._classes.items(), key=lambda item: (-item[1], item[0]))[:_COMMON]),
        }


def drop_counts(drops: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Return the number of exclusions by step and reason; steps in order of appearance.

    >>> drop_counts([{"step": "agree", "reason": "iou_last_frame"}] * 2)
    {'agree': {'iou_last_frame': 2}}
    """
    counts: dict[str, Counter[str]] = {}
    for drop in drops:
        counts.setdefault(drop["step"], Counter())[drop["reason"]] += 1
    return {step: dict(reasons.most_common()) for step, reasons in counts.items()}


def row_boxes_px(row: Row) -> NDArray[np.float64]:
    """Return the boxes of a record in pixels, x1, y1, x2, y2: `(T, 4)`, NaN if there is none."""
    boxes = np.array([[np.nan] * 4 if box is None else box for box in row["box"]], dtype=np.float64).reshape(-1, 4)
    return boxes * [*row["frame_size"], *row["frame_size"]]


def mean_size(boxes_xyxy_px: NDArray[np.float64], frame_size: ArrayLike) -> float:
    """Return the mean square root of box area over image area; NaN without a box.

    >>> mean_size(np.array([[0.0, 0.0, 10.0, 10.0]]), [20, 20])
    0.5
    """
    seen = boxes_xyxy_px[np.isfinite(boxes_xyxy_px[:, 0])]
    sides = np.sqrt((seen[:, 2:] - seen[:, :2]).prod(axis=1) / np.prod(np.asarray(frame_size, dtype=float)))
    return float(sides.mean()) if len(seen) else float("nan")


def mean_speed(boxes_xyxy_px: NDArray[np.float64]) -> float:
    """Return the mean distance of the centre between consecutive boxes, in sides of the box; NaN without such.

    >>> mean_speed(np.array([[0.0, 0.0, 10.0, 10.0], [3.0, 4.0, 13.0, 14.0]]))
    0.5
    """
    centres = (boxes_xyxy_px[:, :2] + boxes_xyxy_px[:, 2:]) / 2
    sides = np.sqrt((boxes_xyxy_px[:, 2:] - boxes_xyxy_px[:, :2]).prod(axis=1))
    ways = np.linalg.norm(np.diff(centres, axis=0), axis=1) / sides[:-1]
    ways = ways[np.isfinite(ways)]
    return float(ways.mean()) if len(ways) else float("nan")


def plot_statistics(statistics: Mapping[str, Any], path: str | Path) -> None:
    """Draw the histograms as a PNG with a panel each; the file is complete or absent.

    Args:
        statistics: Result of `RowStatistics.to_dict`.
        path: File to write, ending in .png.

    Raises:
        ValueError: another suffix.
        OutputError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"histograms must be saved as .png, got {str(path)!r}; change the suffix")
    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, (name, histogram) in zip(figure.subplots(2, 2).flat, statistics["histograms"].items(), strict=True):
        edges = histogram["edges"]
        axes.bar(range(len(edges) - 1), histogram["counts"], width=0.9, color="#3B6FB6")
        names = [_class_name(name, *ends) for ends in pairwise(edges)]
        axes.set_xticks(range(len(names)), names, fontsize="small", rotation=30)
        axes.set_title(name, loc="left", fontweight="bold")
        axes.set_xlabel(histogram["of"], fontsize="small")
        axes.set_ylabel("rows")
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _class_name(histogram: str, low: float, high: float | None) -> str:
    """Return the label of a bar.

    >>> _class_name("words", 2, 3), _class_name("length", 8, 16), _class_name("size", 0.1, 0.2)
    ('2', '8-15', '0.1-0.2')
    """
    if high is None:
        return f"{low:g}+"
    if histogram in ("length", "words"):  # whole numbers
        high -= 1
    return f"{low:g}" if high == low else f"{low:g}-{high:g}"
