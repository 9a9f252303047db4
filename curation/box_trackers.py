"""Trackers that follow boxes of the first frame: OpenCV's, SAM 2 video, or one's own."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from elysium.evaluation.opencv_trackers import OPENCV_TRACKERS, make_opencv_tracker, opencv_boxes
from elysium.processing.boxes_elysium import Box

from .curation_settings import CurationError
from .detectors import is_function_name, made_by_function
from .video_records import Trajectory


class BoxTracker(Protocol):
    """What the tracking step asks."""

    def follow(self, frames: NDArray[np.uint8], boxes_xyxy_norm: Sequence[Box]) -> list[Trajectory]:
        """A trajectory for each of the boxes.

        Args:
            frames (`np.ndarray` of shape `(T, H, W, 3)`): uint8 RGB.
            boxes_xyxy_norm: of the objects in the first frame.
        """


class OpenCVTracker:
    """CSRT or another of OpenCV's trackers, which need no weights. They give no confidence, only whether they have
    lost the object: the score is 1, or 0 where they have.

    Args:
        name: a key of `OPENCV_TRACKERS`.

    Raises:
        RuntimeError: OpenCV was built without its contributed modules.
    """

    def __init__(self, name: str) -> None:
        make_opencv_tracker(name)
        self.name = name

    def follow(self, frames: NDArray[np.uint8], boxes_xyxy_norm: Sequence[Box]) -> list[Trajectory]:
        """Each object by a tracker of its own."""
        height, width = frames.shape[1:3]
        size = np.array([width, height, width, height], dtype=np.float64)
        trajectories = []
        for box in boxes_xyxy_norm:
            start = np.minimum(np.array(box) * size, [width - 1, height - 1, width, height])
            try:
                boxes = np.asarray(opencv_boxes(self.name, frames, start.tolist()) / size)
            except cv2.error:  # it cannot work with a box of so few pixels
                boxes = np.full((len(frames), 4), np.nan)
            boxes[0] = box  # it goes on from whole pixels, but knows the first box exactly
            boxes[~(boxes[:, :2] < boxes[:, 2:]).all(axis=1)] = np.nan
            scores = np.asarray(np.isfinite(boxes).all(axis=1), dtype=np.float64)
            trajectories.append(Trajectory(np.arange(len(frames)), boxes, scores))
        return trajectories


@cache
def load_tracker(tracker: str | Callable[[], BoxTracker], device: str | None = None) -> BoxTracker:
    """A tracker by name or by the function that makes it, once in a process.

    Raises:
        CurationError: it cannot be loaded.
        RuntimeError: OpenCV lacks it.
    """
    if not isinstance(tracker, str):
        return tracker()
    if tracker in OPENCV_TRACKERS:
        return OpenCVTracker(tracker)
    if is_function_name(tracker):
        made: BoxTracker = made_by_function(tracker)
        return made
    from .sam2_tracker import Sam2Tracker

    try:
        return Sam2Tracker(tracker, device)
    except (OSError, ValueError) as error:
        raise no_tracker(tracker, str(error).splitlines()[0]) from error


def check_tracker(tracker: str | Callable[[], BoxTracker]) -> None:
    """Makes sure, before the work, that a tracker is there, without its weights.

    Raises:
        CurationError: it is not.
        RuntimeError: OpenCV lacks it.
    """
    if isinstance(tracker, str) and (tracker in OPENCV_TRACKERS or is_function_name(tracker)):
        load_tracker(tracker)
    elif isinstance(tracker, str):
        from transformers import AutoConfig

        try:
            kind = AutoConfig.from_pretrained(tracker).model_type
        except (OSError, ValueError) as error:
            raise no_tracker(tracker, str(error).splitlines()[0]) from error
        if kind != "sam2_video":
            raise no_tracker(tracker, f"its kind is {kind}")


def no_tracker(name: str, reason: str) -> CurationError:
    """What is said where a tracker cannot be had."""
    return CurationError(
        f"the tracker must be one of OpenCV's ({', '.join(OPENCV_TRACKERS)}) or a SAM 2 video model, got {name} "
        f"({reason}); give the folder of a downloaded checkpoint, or a Hub id with the network there, such as "
        "facebook/sam2.1-hiera-large"
    )
