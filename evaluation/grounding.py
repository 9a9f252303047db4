"""Score referring expression comprehension: the IoU of predicted and ground-truth boxes.

An answer is right where its IoU with the true box is 0.5 or more (>=). That is how the evaluation scripts of recent
multimodal models count RefCOCO and its siblings, and TransVG's before them; one-pass evaluation of trackers is strict
(>). Every expression counts: one without a box has IoU 0.
"""

from collections.abc import Sequence
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


def grounding_figures(
    predicted_xyxy_px: NDArray[np.float64], true_xyxy_px: NDArray[np.float64], reasons: Sequence[str | None]
) -> dict[str, float]:
    """Return accuracy at IoU 0.5, mean IoU, and the shares of answers without a box by reason, all in percent.

    Args:
        predicted_xyxy_px (`np.ndarray` of shape `(N, 4)`): NaN where there is no box.
        true_xyxy_px (`np.ndarray` of shape `(N, 4)`): each with an area.
        reasons: for each None where there is a box, else one of `REASONS`.
    """
    ious = paired_iou(predicted_xyxy_px, true_xyxy_px)
    figures = {"accuracy_at_0.5": float((ious >= ACCURACY_IOU).mean()), "mean_iou": float(ious.mean())}
    figures |= {reason: sum(other == reason for other in reasons) / len(ious) for reason in REASONS}
    return {name: 100 * value for name, value in figures.items()}


def box_size(box_xyxy_px: Sequence[float]) -> str:
    """Return the size of a ground-truth box, one of `SIZES`."""
    x1, y1, x2, y2 = box_xyxy_px
    area = (x2 - x1) * (y2 - y1)
    return SIZES[int(area >= SMALL_BELOW_PX2) + int(area >= LARGE_FROM_PX2)]


def iou_histogram(ious: ArrayLike) -> dict[str, list]:
    """Return counts of IoUs in 20 equal bins of 0..1, as a report keeps them: `{"edges": [21], "counts": [20]}`.

    >>> iou_histogram([0.0, 0.02, 1.0])["counts"]
    [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    """
    # Divided, not multiplied up in steps: the edges read 0.15 in a report, not 0.15000000000000002.
    edges = np.arange(HISTOGRAM_BINS + 1) / HISTOGRAM_BINS
    counts, _ = np.histogram(np.minimum(ious, 1), bins=edges)
    return {"edges": edges.tolist(), "counts": counts.tolist()}
