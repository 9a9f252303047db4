"""Step 5: track each phrase from its box in the first frame, and drop trajectories with low confidence.

Two filters go beyond the Elysium paper: forward-backward consistency (Kalal, Mikolajczyk and Matas, "Forward-Backward
Error", ICPR 2010, by IoU instead of distance), and agreement with other trackers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import combinations
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from elysium.evaluation.opencv_trackers import OPENCV_TRACKERS, make_opencv_tracker, opencv_boxes
from elysium.processing.boxes_elysium import Box
from elysium.processing.overlap import paired_iou

from .curation_step import CurationError, Step, StepSettings, is_function_name, made_by_function, model_type, number
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
        min_forward_backward_iou: Minimum mean IoU with the trajectory tracked back from the last frame; None
            disables it. It doubles the tracking.
        other_trackers: Trackers that must agree with `tracker`.
        min_tracker_iou: Minimum mean IoU over pairs of trackers.
        device: Device of detector and tracker: cpu, cuda …; by default a GPU if there is one.
    """

    tracker: Tracker = "csrt"
    min_track_score: float = number(0.8, 0, 1)
    min_forward_backward_iou: float | None = number(None, 0, 1)
    other_trackers: tuple[Tracker, ...] = ()
    min_tracker_iou: float = number(0.5, 0, 1)
    device: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "other_trackers", tuple(self.other_trackers))


def track_step(settings: TrackSettings) -> Step:
    """Return the step."""
    return Step(STEP, partial(_track_all, settings=settings))


def _track_all(records: list[VideoRecord], *, settings: TrackSettings) -> Iterator[VideoRecord]:
    return (_track(record, settings) if record.candidates else record for record in records)


def _track(record: VideoRecord, settings: TrackSettings) -> VideoRecord:
    assert record.clip is not None
    frames, device = record.clip.frames, settings.device
    found = iter(load_tracker(settings.tracker, device).follow(frames, _first_boxes(record)))
    record = record.judge(STEP, lambda one, _: judge_score(one, next(found), settings.min_track_score))
    if settings.min_forward_backward_iou is not None:
        # A trajectory that is lost in the last frame cannot be tracked back.
        ends = [_as_box(one.trajectory.boxes_xyxy_norm[-1]) for one in record.candidates if not _ends_lost(one)]
        back = iter(_follow_back(load_tracker(settings.tracker, device), frames, ends))
        least = settings.min_forward_backward_iou
        record = record.judge(
            STEP, lambda one, _: judge_forward_backward(one, None if _ends_lost(one) else next(back), least)
        )
    if settings.other_trackers:
        boxes = _first_boxes(record)
        others = zip(
            *(load_tracker(other, device).follow(frames, boxes) if boxes else [] for other in settings.other_trackers),
            strict=True,
        )
        record = record.judge(STEP, lambda one, _: judge_trackers(one, next(others), settings.min_tracker_iou))
    return record


def judge_score(candidate: Candidate, trajectory: Trajectory, min_score: float) -> Candidate | Drop:
    """Return the candidate with its trajectory, or drop it if the mean score is too low."""
    score = float(trajectory.scores.mean())
    if score <= min_score:
        return Drop("score", score)
    return replace(candidate, trajectory=trajectory).measured(track_score=score)


def judge_forward_backward(candidate: Candidate, backward: Trajectory | None, min_iou: float) -> Candidate | Drop:
    """Return the candidate, or drop it if the trajectory tracked back does not return to where it started."""
    iou = 0.0 if backward is None else mean_iou(candidate.trajectory, backward)
    return Drop("forward_backward", iou) if iou < min_iou else candidate.measured(forward_backward_iou=iou)


def judge_trackers(candidate: Candidate, others: Sequence[Trajectory], min_iou: float) -> Candidate | Drop:
    """Return the candidate, or drop it if other trackers disagree."""
    iou = trackers_agree([candidate.trajectory, *others])
    return Drop("trackers_disagree", iou) if iou < min_iou else candidate.measured(tracker_iou=iou)


def trackers_agree(trajectories: Sequence[Trajectory]) -> float:
    """Return the mean of `mean_iou` over pairs of trackers.

    Raises:
        ValueError: fewer than two trajectories.
    """
    if len(trajectories) < 2:
        raise ValueError(f"trackers agree with each other: give two trajectories or more, got {len(trajectories)}")
    return float(np.mean([mean_iou(one, other) for one, other in combinations(trajectories, 2)]))


def mean_iou(trajectory: Trajectory, other: Trajectory) -> float:
    """Return the mean IoU of two trajectories over the frames in which either has a box; 0 if there is none."""
    frames = np.union1d(trajectory.frame_indices, other.frame_indices)
    first, second = _boxes_at(trajectory, frames), _boxes_at(other, frames)
    counted = np.isfinite(first[:, 0]) | np.isfinite(second[:, 0])
    return float(paired_iou(first, second)[counted].mean()) if counted.any() else 0.0


def _boxes_at(trajectory: Trajectory, frames: NDArray[np.int64]) -> NDArray[np.float64]:
    boxes = np.full((len(frames), 4), np.nan)
    boxes[np.searchsorted(frames, trajectory.frame_indices)] = trajectory.boxes_xyxy_norm
    return boxes


def _first_boxes(record: VideoRecord) -> list[Box]:
    found = [best_detection(candidate.detections, 0) for candidate in record.candidates]
    assert all(one is not None for one in found), "the detection step drops phrases without a box in the first frame"
    return [one.box_xyxy_norm for one in found if one is not None]


def _ends_lost(candidate: Candidate) -> bool:
    return bool(candidate.trajectory.lost[-1])


def _follow_back(tracker: BoxTracker, frames: NDArray[np.uint8], boxes: Sequence[Box]) -> list[Trajectory]:
    found = tracker.follow(frames[::-1], boxes) if boxes else []
    return [Trajectory(one.frame_indices, one.boxes_xyxy_norm[::-1], one.scores[::-1]) for one in found]


def _as_box(values: NDArray[np.float64]) -> Box:
    x1, y1, x2, y2 = (float(value) for value in values)
    return x1, y1, x2, y2


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
    try:
        kind = model_type(tracker)
    except (OSError, ValueError) as error:
        raise _no_tracker(tracker, str(error).splitlines()[0]) from error
    if kind != "sam2_video":
        raise _no_tracker(tracker, f"its kind is {kind}")


def _no_tracker(name: str, reason: str) -> CurationError:
    return CurationError(
        f"the tracker must be one of OpenCV's ({', '.join(OPENCV_TRACKERS)}) or a SAM 2 video model, got {name} "
        f"({reason}); give the folder of a downloaded checkpoint, or a Hub id with the network there, such as "
        "facebook/sam2.1-hiera-large"
    )
