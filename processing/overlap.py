"""Overlap of boxes: intersection over union and distance of centres, a row for each frame."""

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]


def paired_iou(boxes_xyxy: Boxes, others_xyxy: Boxes) -> NDArray[np.float64]:
    """Return the IoU of each box with the box in the same row, 0 where either is NaN or without area.

    Args:
        boxes_xyxy (`np.ndarray` of shape `(T, 4)`): in any unit.
        others_xyxy (`np.ndarray` of shape `(T, 4)`): in the same unit.

    >>> paired_iou(np.array([[0, 0, 2, 2.0]]), np.array([[1, 0, 3, 2.0]])).round(3)
    array([0.333])
    """
    low = np.maximum(boxes_xyxy[:, :2], others_xyxy[:, :2])
    high = np.minimum(boxes_xyxy[:, 2:], others_xyxy[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (boxes_xyxy, others_xyxy)]
    union = areas[0] + areas[1] - shared
    known = np.isfinite(union) & (union > 0)
    return np.divide(shared, union, out=np.zeros(len(union)), where=known)


def has_area(boxes_xywh: Boxes) -> NDArray[np.bool_]:
    """Return which boxes `(T, 4)` are finite with a width and height above 0: `(T,)`."""
    return np.asarray(np.isfinite(boxes_xywh).all(axis=1) & (boxes_xywh[:, 2:] > 0).all(axis=1))


def paired_iou_xywh(boxes_xywh: Boxes, others_xywh: Boxes) -> NDArray[np.float64]:
    """Return `paired_iou` of boxes given as left, top, width, height, without rounding by way of corners.

    >>> paired_iou_xywh(np.array([[0, 0, 2, 2.0]]), np.array([[1, 0, 2, 2.0]])).round(3)
    array([0.333])
    """
    low = np.maximum(boxes_xywh[:, :2], others_xywh[:, :2])
    high = np.minimum(boxes_xywh[:, :2] + boxes_xywh[:, 2:], others_xywh[:, :2] + others_xywh[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    union = boxes_xywh[:, 2:].prod(axis=1) + others_xywh[:, 2:].prod(axis=1) - shared
    sized = has_area(boxes_xywh) & has_area(others_xywh)
    iou = np.divide(shared, union, out=np.zeros(len(union)), where=sized)
    return np.clip(iou, 0, 1)


def centre_offsets(boxes_xywh: Boxes, others_xywh: Boxes) -> Boxes:
    """Return the offsets from the centres of the second boxes to those of the first, along x and y: `(T, 2)`.

    >>> centre_offsets(np.array([[3, 4, 10, 10.0]]), np.array([[0, 0, 10, 10.0]]))
    array([[3., 4.]])
    """
    return (boxes_xywh[:, :2] - others_xywh[:, :2]) + (boxes_xywh[:, 2:] - others_xywh[:, 2:]) / 2
