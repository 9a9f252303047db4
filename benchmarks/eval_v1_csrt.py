"""OpenCV's CSRT on the frames of `eval_v1`: the baseline that needs no training. One clip runs in one process."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def make_csrt() -> Any:
    """A fresh CSRT with OpenCV's default parameters.

    Raises:
        RuntimeError: OpenCV was built without its contributed modules.
    """
    for home in (cv2, getattr(cv2, "legacy", None)):
        make = getattr(home, "TrackerCSRT_create", None)
        if make is not None:
            return make()
    raise RuntimeError(
        f"CSRT needs OpenCV's contributed modules, got OpenCV {cv2.__version__} without them; "
        "pip install opencv-contrib-python-headless, or give --skip-csrt"
    )


def csrt_boxes(frames: NDArray[np.uint8], first_box_xyxy_px: Sequence[float]) -> NDArray[np.float64]:
    """Follows one object.

    Args:
        frames (`np.ndarray` of shape `(T, H, W, 3)`): uint8 RGB.
        first_box_xyxy_px: the object's box in frame 1, whole pixels.

    Returns:
        `np.ndarray` of shape `(T, 4)`: boxes cut to the picture, NaN where CSRT says that it lost the object.
    """
    cv2.setNumThreads(1)
    height, width = frames.shape[1:3]
    x1, y1, x2, y2 = (round(value) for value in first_box_xyxy_px)
    boxes = np.full((len(frames), 4), np.nan)
    boxes[0] = x1, y1, x2, y2
    tracker = make_csrt()
    tracker.init(cv2.cvtColor(frames[0], cv2.COLOR_RGB2BGR), (x1, y1, x2 - x1, y2 - y1))
    for frame_idx in range(1, len(frames)):
        found, (x, y, box_width, box_height) = tracker.update(cv2.cvtColor(frames[frame_idx], cv2.COLOR_RGB2BGR))
        if found:
            boxes[frame_idx] = np.clip([x, y, x + box_width, y + box_height], 0, [width, height, width, height])
    return boxes
