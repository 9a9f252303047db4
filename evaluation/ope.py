"""Compute one-pass evaluation: success and precision curves of sequences, by the rules of a `Protocol`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elysium.processing.overlap import centre_offsets, has_area, paired_iou_xywh

from .protocols import Protocol, ProtocolError

Curve = NDArray[np.float64]

OVERLAP_THRESHOLDS = np.linspace(0, 1, 21)
CENTRE_THRESHOLDS_PX = np.arange(51.0)
CENTRE_THRESHOLDS_NORM = np.arange(51) / 100
PRECISION_AT_PX = 20
NORM_PRECISION_AT = 20  # the index of 0.2


@dataclass(frozen=True, eq=False)
class SequenceScore:
    """Scores of a tracker on one sequence; every number is a share of frames, 0..1.

    Args:
        success (`np.ndarray` of shape `(21,)`): frames whose IoU is above 0, 0.05 … 1.
        precision (`np.ndarray` of shape `(51,)`): frames whose centre error is at most 0, 1 … 50 pixels.
        norm_precision (`np.ndarray` of shape `(51,)`): the same at 0, 0.01 … 0.5 of the true width and height.
        average_overlap: mean IoU.
        success_50, success_75: frames whose IoU is above 0.5 and 0.75.
        num_frames: frames that were counted.
        num_visible: frames among them in which the object is visible.
    """

    success: Curve
    precision: Curve
    norm_precision: Curve
    average_overlap: float
    success_50: float
    success_75: float
    num_frames: int
    num_visible: int


def score_sequence(
    predicted_xywh_px: NDArray[np.float64],
    true_xywh_px: NDArray[np.float64],
    protocol: Protocol,
    *,
    visible: NDArray[np.bool_] | None = None,
    size: tuple[int, int] | None = None,
    name: str = "the sequence",
) -> SequenceScore | None:
    """Score one track.

    Args:
        predicted_xywh_px (`np.ndarray` of shape `(T, 4)`): left, top, width, height in the annotation's pixels.
        true_xywh_px (`np.ndarray` of shape `(T, 4)`): the annotation.
        protocol: the rules.
        visible (`np.ndarray` of shape `(T,)`): where the object is annotated as visible; all by default.
        size: width and height of the image, where the protocol clips boxes to it.
        name: for errors.

    Returns:
        None where the protocol leaves no frame to count.

    Raises:
        ProtocolError: NaN, fewer boxes than frames, or no size where one is needed.
    """
    predicted = _prepare(predicted_xywh_px, true_xywh_px, protocol, name)
    truth = np.array(true_xywh_px, dtype=np.float64)
    seen = has_area(truth) if visible is None else has_area(truth) & visible
    if protocol.clip_to_image:
        if size is None:
            raise ProtocolError(f"{protocol.name} clips boxes to the image, so its size must be known, in {name}")
        predicted, truth = clip_to_image(predicted, size), clip_to_image(truth, size)
    iou = np.where(seen, paired_iou_xywh(predicted, truth), -1.0)
    offsets = np.where(seen[:, None], centre_offsets(predicted, truth), np.inf)
    centre = np.hypot(*offsets.T)
    norm = np.hypot(*np.divide(offsets, truth[:, 2:], out=offsets, where=seen[:, None]).T)
    counted = seen if protocol.absent == "left_out" else np.ones(len(truth), dtype=bool)
    if protocol.first_frame == "left_out":
        counted = counted & (np.arange(len(truth)) > 0)
    return _share(iou[counted], centre[counted], norm[counted], int((seen & counted).sum()))


def _prepare(
    predicted_xywh_px: NDArray[np.float64], true_xywh_px: NDArray[np.float64], protocol: Protocol, name: str
) -> NDArray[np.float64]:
    """Return the predicted boxes, one for each frame, after the rules about length, NaN, the first frame and area."""
    boxes = np.array(predicted_xywh_px, dtype=np.float64)
    length = len(true_xywh_px)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ProtocolError(f"a result must be x,y,w,h for every frame, got shape {boxes.shape} for {name}")
    if len(boxes) < length:
        raise ProtocolError(
            f"a result must have a box for each of {length} frames, got {len(boxes)} for {name}; finish the run, or "
            "write 0,0,0,0 where there is none"
        )
    boxes = boxes[:length]
    if not np.isfinite(boxes).all():
        frame = int(np.flatnonzero(~np.isfinite(boxes).all(axis=1))[0])
        raise ProtocolError(
            f"a result must hold finite numbers, got {boxes[frame].tolist()} in frame {frame} of {name}; write "
            "0,0,0,0 where there is no box"
        )
    if protocol.without_area == "from_before":
        boxes = _carried(boxes, true_xywh_px)
    if protocol.first_frame == "truth":
        boxes[0] = true_xywh_px[0]
    return boxes


def _carried(boxes: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Replace boxes without area by the last box with one.

    As in the toolkit, not where the ground truth is NaN, and before the first frame is set to the ground truth.
    """
    without = np.asarray(~(boxes[:, 2:] > 0).all(axis=1) & np.isfinite(truth).all(axis=1))
    replaced = without & (np.arange(len(boxes)) > 0)
    source = np.maximum.accumulate(np.where(replaced, 0, np.arange(len(boxes))))
    return boxes[source]


def clip_to_image(boxes: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Clip as GOT-10k's toolkit does: the corner is moved into the image, and the sides end at its border.

    A box beyond the left or top border keeps its width and height.
    """
    corner = np.clip(boxes[:, :2], 0, size)
    return np.concatenate([corner, np.clip(boxes[:, 2:], 0, size - corner)], axis=1)


def _share(
    iou: NDArray[np.float64], centre: NDArray[np.float64], norm: NDArray[np.float64], num_visible: int
) -> SequenceScore | None:
    """Return the shares of frames above or within each threshold, by one sort instead of a comparison with each."""
    length = len(iou)
    if not length:
        return None

    def within(values: NDArray[np.float64], thresholds: Curve) -> Curve:
        return np.searchsorted(np.sort(values), thresholds, side="right") / length

    return SequenceScore(
        success=1 - within(iou, OVERLAP_THRESHOLDS),
        precision=within(centre, CENTRE_THRESHOLDS_PX),
        norm_precision=within(norm, CENTRE_THRESHOLDS_NORM),
        average_overlap=float(np.clip(iou, 0, 1).mean()),
        success_50=float((iou > 0.5).mean()),
        success_75=float((iou > 0.75).mean()),
        num_frames=length,
        num_visible=num_visible,
    )


def headline(score: SequenceScore, protocol: Protocol) -> dict[str, float]:
    """Return the figures of a score in percent."""
    norm = score.norm_precision
    return {
        "success_auc": 100 * float(score.success.mean()),
        "precision": 100 * float(score.precision[PRECISION_AT_PX]),
        "norm_precision": 100 * float(norm[NORM_PRECISION_AT] if protocol.norm_precision == "at_0.2" else norm.mean()),
        "ao": 100 * score.average_overlap,
        "sr50": 100 * score.success_50,
        "sr75": 100 * score.success_75,
    }


def overall(scores: Sequence[SequenceScore], protocol: Protocol) -> SequenceScore:
    """Return the mean over sequences, weighted equally or by frames, as the protocol says.

    Raises:
        ProtocolError: there is no sequence.
    """
    if not scores:
        raise ProtocolError("a benchmark must have at least one sequence with a frame to count, got none")
    by_frames = protocol.average == "frames"
    weights = np.array([score.num_frames if by_frames else 1 for score in scores], dtype=np.float64)
    weights /= weights.sum()

    def mean(name: str) -> Any:
        return np.tensordot(weights, np.array([getattr(score, name) for score in scores]), axes=1)

    return SequenceScore(
        success=mean("success"),
        precision=mean("precision"),
        norm_precision=mean("norm_precision"),
        average_overlap=float(mean("average_overlap")),
        success_50=float(mean("success_50")),
        success_75=float(mean("success_75")),
        num_frames=sum(score.num_frames for score in scores),
        num_visible=sum(score.num_visible for score in scores),
    )


def class_means(scores: Mapping[str, SequenceScore], classes: Mapping[str, str | None]) -> dict[str, float]:
    """Return GOT-10k's mAO and mSR in percent: the mean over classes of the mean over a class's sequences.

    Args:
        scores: of each sequence.
        classes: the class of each sequence; those without one are left out.

    Returns:
        `mao`, `msr50` and `msr75`; nothing where no sequence has a class.
    """
    of_class: dict[str, list[SequenceScore]] = {}
    for name, score in scores.items():
        kind = classes.get(name)
        if kind is not None:
            of_class.setdefault(kind, []).append(score)
    if not of_class:
        return {}
    fields = {"mao": "average_overlap", "msr50": "success_50", "msr75": "success_75"}
    return {
        figure: 100
        * float(np.mean([np.mean([getattr(score, field) for score in group]) for group in of_class.values()]))
        for figure, field in fields.items()
    }
