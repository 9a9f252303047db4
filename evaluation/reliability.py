"""Compute how well a tracker's scores tell the IoU of its boxes: a reliability diagram and its calibration error."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elysium.processing.overlap import has_area, paired_iou_xywh
from elysium.readers.samples import TrackingSequence

from .ope import clip_to_image
from .protocols import Protocol

NUM_BINS = 10


def _zeros() -> NDArray[np.float64]:
    return np.zeros(NUM_BINS)


@dataclass(eq=False)
class Reliability:
    """Sums over boxes in 10 bins of their score, each 0.1 wide; a score of 1 is in the last.

    Attributes:
        counts (`np.ndarray` of shape `(10,)`): boxes.
        score_sums (`np.ndarray` of shape `(10,)`): sum of their scores.
        iou_sums (`np.ndarray` of shape `(10,)`): sum of their IoUs.
    """

    counts: NDArray[np.float64] = field(default_factory=_zeros)
    score_sums: NDArray[np.float64] = field(default_factory=_zeros)
    iou_sums: NDArray[np.float64] = field(default_factory=_zeros)

    def add(self, scores: NDArray[np.float64], ious: NDArray[np.float64]) -> None:
        """Add boxes.

        Args:
            scores (`np.ndarray` of shape `(T,)`): 0..1.
            ious (`np.ndarray` of shape `(T,)`): with the true boxes; 0 for a box where there is none.

        Raises:
            ValueError: a score that is not in 0..1.
        """
        wrong = ~((scores >= 0) & (scores <= 1))
        if wrong.any():
            raise ValueError(
                f"a score must be in 0..1, got {scores[wrong][0]}; scale scores to 0..1, or remove their files"
            )
        bins = np.minimum((scores * NUM_BINS).astype(int), NUM_BINS - 1)
        self.counts += np.bincount(bins, minlength=NUM_BINS)
        self.score_sums += np.bincount(bins, scores, NUM_BINS)
        self.iou_sums += np.bincount(bins, ious, NUM_BINS)

    @property
    def expected_calibration_error(self) -> float:
        """Return the mean of |mean score - mean IoU| of the bins, weighted by their boxes: 0..1, NaN without boxes.

        It is the expected calibration error of Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017,
        arXiv 1706.04599, equation 3), with the IoU in place of whether an answer is right.

        >>> two = Reliability()
        >>> two.add(np.array([0.25, 0.25, 0.25, 0.75]), np.array([0.5, 0.5, 0.5, 0.5]))
        >>> two.expected_calibration_error
        0.25
        """
        total = self.counts.sum()
        return float(np.abs(self.score_sums - self.iou_sums).sum() / total) if total else float("nan")

    def record(self) -> dict[str, Any]:
        """Return counts, mean scores and mean IoUs of the bins for JSON; None for the means of an empty one."""

        def means(sums: NDArray[np.float64]) -> list[float | None]:
            pairs = zip(sums.tolist(), self.counts.tolist(), strict=True)
            return [total / count if count else None for total, count in pairs]

        return {
            "counts": self.counts.astype(int).tolist(),
            "mean_score": means(self.score_sums),
            "mean_iou": means(self.iou_sums),
        }


def scored_boxes(
    predicted_xywh_px: NDArray[np.float64],
    scores: NDArray[np.float64],
    sequence: TrackingSequence,
    protocol: Protocol,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the scores and IoUs of a track's predicted boxes, 0 where the object has no true box.

    Frames without a predicted box or a score are left out; so is the first frame, unless the protocol says that it is
    predicted. The protocol's rules about absent objects do not apply: a box where the object is not counts as wrong.

    Args:
        predicted_xywh_px (`np.ndarray` of shape `(T, 4)`): 0,0,0,0 where there is none.
        scores (`np.ndarray` of shape `(T,)`): NaN where there is none.
        sequence: with its true boxes.
        protocol: whether the first frame is predicted, and boxes are clipped to the image.
    """
    truth = np.array(sequence.boxes_xywh_px, dtype=np.float64)
    predicted, scores = predicted_xywh_px[: len(truth)], scores[: len(truth)]
    counted = has_area(predicted) & np.isfinite(scores)
    if protocol.first_frame != "predicted":
        counted[0] = False
    seen = has_area(truth) & sequence.visible
    if protocol.clip_to_image:
        predicted, truth = (clip_to_image(boxes, sequence.image_size) for boxes in (predicted, truth))
    ious = np.where(seen, paired_iou_xywh(predicted, truth), 0.0)
    return scores[counted], ious[counted]
