"""Score referring expression comprehension: the IoU of predicted and ground-truth boxes.

An answer is right where its IoU with the true box is 0.5 or more (>=). That is how the evaluation scripts of recent
multimodal models count RefCOCO and its siblings, and TransVG's before them; one-pass evaluation of trackers is strict
(>). Every expression counts: one without a box has IoU 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elysium.processing.overlap import paired_iou

ACCURACY_IOU = 0.5
# COCO's limits between small, medium and large in square pixels; of the box, where COCO takes the mask's area.
SMALL_BELOW_PX2, LARGE_FROM_PX2 = 32.0**2, 96.0**2
SIZES = ("small", "medium", "large")
HISTOGRAM_BINS = 20
REASONS = ("absent", "unreadable")

PROTOCOL: dict[str, Any] = {
    "name": "RefCOCO accuracy at IoU 0.5",
    "source": "Yu et al. 2016 and Mao et al. 2016, as the scripts of recent multimodal models count",
    "rules": [
        "each sentence about an object is one sample",
        "right where IoU >= 0.5 (not >), boxes in continuous pixels of the stored image",
        "an answer without a box has IoU 0 and stays in the denominator: absent where the model answers that there is "
        "no such object, unreadable where its answer holds no box",
        "sizes by the area of the true box: small below 32x32 pixels, large from 96x96",
    ],
}


@dataclass(frozen=True, eq=False)
class GroundingAnswers:
    """Answers to N expressions.

    Args:
        predicted_xyxy_px (`np.ndarray` of shape `(N, 4)`): NaN where there is no box.
        true_xyxy_px (`np.ndarray` of shape `(N, 4)`): each with an area.
        reasons: for each None where there is a box, else one of `REASONS`.
        splits: the split of each.

    Raises:
        ValueError: no answers, lengths that differ, or an answer with neither box nor reason.
    """

    predicted_xyxy_px: NDArray[np.float64]
    true_xyxy_px: NDArray[np.float64]
    reasons: Sequence[str | None]
    splits: Sequence[str]

    def __post_init__(self) -> None:
        count = len(self.splits)
        if not count or {len(self.predicted_xyxy_px), len(self.true_xyxy_px), len(self.reasons)} != {count}:
            raise ValueError(
                "there must be one box, true box, reason and split for each of one or more expressions, got "
                f"{len(self.predicted_xyxy_px)}, {len(self.true_xyxy_px)}, {len(self.reasons)} and {count}"
            )
        without = [bool(np.isnan(box).any()) for box in self.predicted_xyxy_px]
        for number, (missing, reason) in enumerate(zip(without, self.reasons, strict=True)):
            if missing != (reason in REASONS):
                raise ValueError(
                    f"an answer must have a box or one of the reasons {REASONS}, got "
                    f"{self.predicted_xyxy_px[number].tolist()} and {reason!r} for answer {number}"
                )

    @property
    def ious(self) -> NDArray[np.float64]:
        """Return the IoU of each answer `(N,)`, 0 where there is no box."""
        return paired_iou(self.predicted_xyxy_px, self.true_xyxy_px)

    @property
    def sizes(self) -> list[str]:
        """Return the size of each ground-truth box, one of `SIZES`."""
        corners = self.true_xyxy_px
        areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
        return [SIZES[int(area >= SMALL_BELOW_PX2) + int(area >= LARGE_FROM_PX2)] for area in areas]

    def part(self, chosen: NDArray[np.bool_]) -> "GroundingAnswers":
        """Return some of the answers."""
        rows: list[int] = np.flatnonzero(chosen).tolist()
        return GroundingAnswers(
            self.predicted_xyxy_px[rows],
            self.true_xyxy_px[rows],
            [self.reasons[row] for row in rows],
            [self.splits[row] for row in rows],
        )


def grounding_figures(answers: GroundingAnswers) -> dict[str, float]:
    """Return accuracy at IoU 0.5, mean IoU, and the shares without a box by reason, all in percent."""
    ious = answers.ious
    figures = {"accuracy_at_0.5": float((ious >= ACCURACY_IOU).mean()), "mean_iou": float(ious.mean())}
    figures |= {reason: sum(other == reason for other in answers.reasons) / len(ious) for reason in REASONS}
    return {name: 100 * value for name, value in figures.items()}


def score_grounding(answers: GroundingAnswers) -> dict[str, Any]:
    """Return a model's part of a report.

    Returns:
        `metrics` in percent; `groups`, the same figures with counts for each split and size that occurs; `histogram`
        of IoUs in 20 bins, the last with its right edge.
    """
    return {
        "metrics": grounding_figures(answers),
        "groups": _grouped(answers, {"split": answers.splits, "size": answers.sizes}),
        "histogram": iou_histogram(answers.ious),
    }


def iou_histogram(ious: ArrayLike) -> dict[str, list]:
    """Return counts of IoUs in 20 equal bins of 0..1, as a report keeps them: `{"edges": [21], "counts": [20]}`.

    >>> iou_histogram([0.0, 0.02, 1.0])["counts"]
    [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]

    Raises:
        ValueError: an IoU is not a number of 0..1.
    """
    values = np.asarray(ious, dtype=float).ravel()
    wrong = ~((values >= 0) & (values <= 1 + 1e-9))
    if wrong.any():
        raise ValueError(
            f"an IoU must be a number of 0..1, got {values[wrong][0]} at {int(wrong.argmax())}; "
            "count a missing box as IoU 0"
        )
    # Divided, not multiplied up in steps: the edges read 0.15 in a report, not 0.15000000000000002.
    edges = np.arange(HISTOGRAM_BINS + 1) / HISTOGRAM_BINS
    counts, _ = np.histogram(np.minimum(values, 1), bins=edges)
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def _grouped(answers: GroundingAnswers, labels: Mapping[str, Sequence[str]]) -> dict[str, dict[str, float]]:
    """Return the figures of each part, such as `split testA`, with its numbers of samples and of missing boxes."""
    groups: dict[str, dict[str, float]] = {}
    for kind, values in labels.items():
        present = sorted(set(values), key=SIZES.index if kind == "size" else str)
        for value in present:
            part = answers.part(np.array([label == value for label in values]))
            counts = {f"{reason}_answers": sum(other == reason for other in part.reasons) for reason in REASONS}
            groups[f"{kind} {value}"] = {"samples": len(part.splits)} | grounding_figures(part) | counts
    return groups
