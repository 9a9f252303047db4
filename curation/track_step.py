"""Step 5: track each phrase from its box in the first frame, and drop trajectories with low confidence."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from elysium.evaluation.opencv_trackers import OPENCV_TRACKERS, make_opencv_tracker, opencv_boxes
from elysium.processing.boxes_elysium import Box

from .curation_step import CurationError, Step, StepSettings, check_model, is_function_name, made_by_function, number
from .video_records import Candidate, Drop, Trajectory, VideoRecord, best_detection

STEP = "track"


class BoxTracker(Protocol):
    """Define what the step needs of a tracker."""

    def follow(self, frames: NDArray[np.uint8], boxes_xyxy_norm: Sequence[Box]) -> list[Trajectory]:
        """Return a trajectory for each box.

        Args:
            frames (`np.ndarray` of shape `(T, H, W, 3)`): uint8 RGB.
            boxes_xyxy_norm: Boxes of the objects in the first frame.
        """


Tracker = str | Callable[[], BoxTracker]


@dataclass(frozen=True, kw_only=True)
class TrackSettings(StepSettings):
    """Hold the settings of step 5.

    Args:
        tracker: csrt or another OpenCV tracker, Hub id or folder of a SAM 2 video model, ``package.module:function``
            that makes a tracker, or (in Python) such a function.
        min_track_score: Score that the mean over a trajectory's frames must exceed; a lost frame counts as 0.
        device: Device of detector and tracker: cpu, cuda …; by default a GPU if there is one.
    """

    tracker: Tracker = "csrt"
    min_track_score: float = number(0.8, 0, 1)
    device: str | None = None


def track_step(settings: TrackSettings) -> Step:
    """Return the step."""
    return Step(STEP, partial(_track_all, settings=settings))


def _track_all(records: list[VideoRecord], *, settings: TrackSettings) -> Iterator[VideoRecord]:
    return (_track(record, settings) if record.candidates else record for record in records)


def _track(record: VideoRecord, settings: TrackSettings) -> VideoRecord:
    assert record.clip is not None
    first = [best_detection(candidate.detections, 0) for candidate in record.candidates]
    boxes = [one.box_xyxy_norm for one in first if one is not None]  # `detect_step` drops phrases without such a box
    found = load_tracker(settings.tracker, settings.device).follow(record.clip.frames, boxes)
    trajectories = iter(found)
    return record.judge(STEP, lambda one, _: judge_score(one, next(trajectories), settings.min_track_score))


def judge_score(candidate: Candidate, trajectory: Trajectory, min_score: float) -> Candidate | Drop:
    """Return the candidate with its trajectory, or drop it if the mean score is too low."""
    score = float(trajectory.scores.mean())
    if score <= min_score:
        return Drop("score", score)
    return replace(candidate, trajectory=trajectory).measured(track_score=score)


class OpenCVTracker:
    """Track with CSRT or another of OpenCV's trackers, which need no weights.

    They give no confidence, only whether the object is lost: the score is 1 or 0.

    Args:
        name: Key of `OPENCV_TRACKERS`.

    Raises:
        RuntimeError: OpenCV was built without its contributed modules.
    """

    def __init__(self, name: str) -> None:
        make_opencv_tracker(name)
        self.name = name

    def follow(self, frames: NDArray[np.uint8], boxes_xyxy_norm: Sequence[Box]) -> list[Trajectory]:
        """Return a trajectory for each box, each by a tracker of its own."""
        height, width = frames.shape[1:3]
        size = np.array([width, height, width, height], dtype=np.float64)
        trajectories = []
        for box in boxes_xyxy_norm:
            start = np.minimum(np.array(box) * size, [width - 1, height - 1, width, height])
            try:
                boxes = np.asarray(opencv_boxes(self.name, frames, start.tolist()) / size)
            except cv2.error:  # the box has too few pixels
                boxes = np.full((len(frames), 4), np.nan)
            boxes[0] = box  # the tracker starts from whole pixels, but the first box is known exactly
            boxes[~(boxes[:, :2] < boxes[:, 2:]).all(axis=1)] = np.nan
            scores = np.asarray(np.isfinite(boxes).all(axis=1), dtype=np.float64)
            trajectories.append(Trajectory(np.arange(len(frames)), boxes, scores))
        return trajectories


@cache
def load_tracker(tracker: Tracker, device: str | None = None) -> BoxTracker:
    """Return a tracker by name or from the function that makes it; loaded once per process.

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
        raise _no_tracker(tracker, str(error).splitlines()[0]) from error


def check_tracker(tracker: Tracker) -> None:
    """Check that a tracker exists, without loading its weights.

    Raises:
        CurationError: it does not.
        RuntimeError: OpenCV lacks it.
    """
    if not isinstance(tracker, str):
        return
    if tracker in OPENCV_TRACKERS or is_function_name(tracker):
        load_tracker(tracker)
        return
    check_model(tracker, ("sam2_video",), _no_tracker)


def _no_tracker(name: str, reason: str) -> CurationError:
    return CurationError(
        f"the tracker must be one of OpenCV's ({', '.join(OPENCV_TRACKERS)}) or a SAM 2 video model, got {name} "
        f"({reason}); give the folder of a downloaded checkpoint, or a Hub id with the network there, such as "
        "facebook/sam2.1-hiera-large"
    )
