"""Run OpenCV's trackers, which need no weights, as baselines."""

from collections.abc import Iterable, Sequence
from importlib.metadata import packages_distributions
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# As it is typed: OpenCV's own spelling.
OPENCV_TRACKERS = {
    "boosting": "Boosting",
    "csrt": "CSRT",
    "kcf": "KCF",
    "medianflow": "MedianFlow",
    "mil": "MIL",
    "mosse": "MOSSE",
    "tld": "TLD",
}


def make_opencv_tracker(name: str) -> Any:
    """Return a fresh tracker with OpenCV's default parameters.

    Args:
        name: a key of `OPENCV_TRACKERS`.

    Raises:
        RuntimeError: OpenCV lacks its contributed modules, as where `opencv-python` was installed over them.
    """
    spelling = OPENCV_TRACKERS[name]
    for home in (cv2, getattr(cv2, "legacy", None)):
        make = getattr(home, f"Tracker{spelling}_create", None)
        if make is not None:
            return make()
    raise RuntimeError(without_contrib(f"the tracker {spelling}"))


def without_contrib(what: str) -> str:
    """Return what to say where OpenCV lacks its contributed modules, with the packages that may have removed them.

    All OpenCV packages write into the same folder `cv2`: whichever is installed last removes what it does not have.
    """
    installed = sorted(set(packages_distributions().get("cv2", [])))
    return (
        f"{what} needs OpenCV's contributed modules, got OpenCV {cv2.__version__} without them, of "
        f"{' and '.join(installed) or 'an unknown package'}; pip uninstall -y {' '.join(installed)} and then "
        "pip install opencv-contrib-python-headless"
    )


def opencv_boxes(
    name: str, frames: Iterable[NDArray[np.uint8]], first_box_xyxy_px: Sequence[float]
) -> NDArray[np.float64]:
    """Track one object on one thread.

    Args:
        name: a key of `OPENCV_TRACKERS`.
        frames: uint8 RGB `(H, W, 3)`, in order; taken one at a time.
        first_box_xyxy_px: the object's box in the first frame; rounded to whole pixels, at least one wide and high.

    Returns:
        `np.ndarray` of shape `(T, 4)`: x1, y1, x2, y2 cut to the image, NaN where the tracker says that it lost the
        object.
    """
    x1, y1, x2, y2 = (round(value) for value in first_box_xyxy_px)
    x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
    tracker = make_opencv_tracker(name)
    boxes: list[NDArray[np.float64]] = []
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    cv2.setRNGSeed(0)  # of MIL, Boosting and TLD; no call returns the generator's state
    try:
        for frame in frames:
            height, width = frame.shape[:2]
            image = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
            if not boxes:
                tracker.init(image, (x1, y1, x2 - x1, y2 - y1))
                boxes.append(np.array([x1, y1, x2, y2], dtype=np.float64))
                continue
            found, (x, y, box_width, box_height) = tracker.update(image)
            box = np.clip([x, y, x + box_width, y + box_height], 0, [width, height, width, height])
            boxes.append(box if found else np.full(4, np.nan))
    finally:
        cv2.setNumThreads(threads)
    return np.array(boxes)
