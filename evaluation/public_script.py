"""Compute the figures of the public code's own script (Hon-Wong/Elysium, eval/otb.py); for comparison only.

The script reads boxes as whole percent, scales them to pixels and then clamps x, y, w and h to 1..100, so that most
boxes of most videos become the same box: unrelated random boxes score an AUC of over 50 with it. Frame 1 and absence
are not handled, a missing box is 0,0,0,0, and precision is at 20 pixels of clamped boxes.
"""

import numpy as np
from numpy.typing import NDArray

from .ope import score_sequence
from .protocols import Protocol

PUBLIC_SCRIPT = Protocol(
    name="public script",
    source="Hon-Wong/Elysium, eval/otb.py: boxes in whole percent, scaled to pixels and clamped to 1..100",
    first_frame="predicted",
    short="miss",
)


def as_public_script(boxes_xywh_px: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Return boxes as that script clamps them.

    Args:
        boxes_xywh_px (`np.ndarray` of shape `(T, 4)`): pixels; NaN and boxes without area stand for none.
        size: width and height of the image.

    Returns:
        `np.ndarray` of shape `(T, 4)`: left, top, width, height, each in 1..100.
    """
    corners = np.concatenate([boxes_xywh_px[:, :2], boxes_xywh_px[:, :2] + boxes_xywh_px[:, 2:]], axis=1)
    corners[~(boxes_xywh_px[:, 2:] > 0).all(axis=1)] = 0
    scale = np.array([*size, *size], dtype=np.float64) / 100
    percent = np.clip(np.round(corners / scale), 0, 100)
    scaled = percent * scale
    return np.clip(np.concatenate([scaled[:, :2], scaled[:, 2:] - scaled[:, :2]], axis=1), 1, 100)


def score_public_script(
    predicted_xywh_px: NDArray[np.float64], true_xywh_px: NDArray[np.float64], size: tuple[int, int], name: str
) -> dict[str, float]:
    """Return the success AUC, precision and normalised precision of a sequence in percent, by that script."""
    length = len(true_xywh_px)
    given = np.nan_to_num(predicted_xywh_px[:length])
    predicted = np.concatenate([given, np.zeros((length - len(given), 4))])
    score = score_sequence(
        as_public_script(predicted, size), as_public_script(true_xywh_px, size), PUBLIC_SCRIPT, name=name
    )
    assert score is not None  # every frame has a box after clamping
    return {
        "success_auc": 100 * float(score.success.mean()),
        "precision": 100 * float(score.precision[20]),
        "norm_precision": 100 * float(score.norm_precision[20]),
    }
