"""Step 5: a trajectory from the box in the first frame, and what speaks for it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from elysium.processing.boxes_elysium import Box

from .agreement import forward_backward, trackers_agree
from .box_trackers import BoxTracker, load_tracker
from .curation_step import CurationStep
from .detect_step import best
from .video_records import Candidate, Trajectory, VideoRecord

STEP = "track"
TrackerName = str | Callable[[], BoxTracker]


class TrackPhrases(CurationStep):
    """Follows every phrase that was detected.

    Args:
        tracker: as `CurationSettings` has it.
        min_score: the mean score of a trajectory must be above it.
        min_forward_backward_iou: of the trajectory and the one tracked back from its last box, or None.
        others: trackers that must agree with it.
        min_tracker_iou: how well, as the mean IoU over pairs of trackers and frames.
        device: of the trackers.
    """

    name = STEP

    def __init__(
        self,
        tracker: TrackerName,
        *,
        min_score: float,
        min_forward_backward_iou: float | None,
        others: Sequence[TrackerName],
        min_tracker_iou: float,
        device: str | None,
    ) -> None:
        super().__init__()
        self.tracker, self.others, self.device = tracker, tuple(others), device
        self.min_score, self.min_tracker_iou = min_score, min_tracker_iou
        self.min_forward_backward_iou = min_forward_backward_iou

    def process(self, record: VideoRecord) -> VideoRecord:
        """The video with trajectories."""
        if not record.candidates:
            return record
        record = self._track(record)
        if self.min_forward_backward_iou is not None:
            record = self._track_back(record, self.min_forward_backward_iou)
        return self._compare(record) if self.others else record

    def _track(self, record: VideoRecord) -> VideoRecord:
        found = self._follow(self.tracker, record, [_first_box(candidate) for candidate in record.candidates])
        for candidate, trajectory in zip(record.candidates, found, strict=True):
            score = float(trajectory.scores.mean())
            if score <= self.min_score:
                record = record.drop(candidate, STEP, "score", score)
            else:
                followed = replace(candidate, trajectory=trajectory)
                record = record.swap(candidate, followed.measured(track_score=score))
        return record

    def _track_back(self, record: VideoRecord, min_iou: float) -> VideoRecord:
        """Drops what does not come back to where it started; what is lost in the last frame cannot."""
        candidates = [one for one in record.candidates if not _trajectory(one).lost[-1]]
        last = [_as_box(_trajectory(one).boxes_xyxy_norm[-1]) for one in candidates]
        found = iter(self._follow(self.tracker, record, last, backward=True))
        for candidate in record.candidates:
            iou = forward_backward(_trajectory(candidate), next(found)) if candidate in candidates else 0.0
            if iou < min_iou:
                record = record.drop(candidate, STEP, "forward_backward", iou)
            else:
                record = record.swap(candidate, candidate.measured(forward_backward_iou=iou))
        return record

    def _compare(self, record: VideoRecord) -> VideoRecord:
        """Drops what the trackers do not agree on."""
        boxes = [_first_box(candidate) for candidate in record.candidates]
        others = [self._follow(other, record, boxes) for other in self.others]
        for number, candidate in enumerate(record.candidates):
            iou = trackers_agree([_trajectory(candidate), *(found[number] for found in others)])
            if iou < self.min_tracker_iou:
                record = record.drop(candidate, STEP, "trackers_disagree", iou)
            else:
                record = record.swap(candidate, candidate.measured(tracker_iou=iou))
        return record

    def _follow(
        self, tracker: TrackerName, record: VideoRecord, boxes: Sequence[Box], *, backward: bool = False
    ) -> list[Trajectory]:
        if not boxes:
            return []
        assert record.clip is not None
        frames = record.clip.frames
        if not backward:
            return load_tracker(tracker, self.device).follow(frames, boxes)
        found = load_tracker(tracker, self.device).follow(frames[::-1], boxes)
        return [Trajectory(one.frame_indices, one.boxes_xyxy_norm[::-1], one.scores[::-1]) for one in found]


def _trajectory(candidate: Candidate) -> Trajectory:
    assert candidate.trajectory is not None
    return candidate.trajectory


def _first_box(candidate: Candidate) -> Box:
    top = best(candidate.detections, 0)
    assert top is not None
    return top.box_xyxy_norm


def _as_box(values: np.ndarray) -> Box:
    x1, y1, x2, y2 = (float(value) for value in values)
    return x1, y1, x2, y2
