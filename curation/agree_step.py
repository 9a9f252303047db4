"""Step 7: trajectory and detections must agree in the middle and the last frame.

This is the last filter of the Elysium paper (arXiv 2403.16558, section 3).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from elysium.processing.overlap import paired_iou

from .curation_step import Step, StepSettings, number
from .video_records import Candidate, Detection, Drop, Trajectory, VideoRecord, best_detection, key_frames

STEP = "agree"


@dataclass(frozen=True, kw_only=True)
class AgreeSettings(StepSettings):
    """Hold the settings of step 7.

    Args:
        min_agreement_iou: Minimum IoU between trajectory and detection in the middle and last frame.
    """

    min_agreement_iou: float = number(0.3, 0, 1)


def agree(candidate: Candidate, record: VideoRecord, *, min_iou: float) -> Candidate | Drop:
    """Return the candidate with its IoU in the middle and last frame, or drop it if one is below ``min_iou``."""
    frames = key_frames(record.num_frames)
    ious = agreement(candidate.trajectory, candidate.detections)
    found = {f"iou_{name}": ious.get(frames[name], 0.0) for name in ("middle", "last")}
    for reason, iou in found.items():
        if iou < min_iou:
            return Drop(reason, iou)
    return candidate.measured(**found)


def agree_step(settings: AgreeSettings) -> Step:
    """Return the step."""
    return Step.of_rule(STEP, partial(agree, min_iou=settings.min_agreement_iou))


def agreement(trajectory: Trajectory, detections: Iterable[Detection]) -> dict[int, float]:
    """Return the IoU of the trajectory with the best detection of each frame that has one, by frame index.

    Only the best detection counts: if a phrase fits two objects, the detector may choose one in the first frame and
    the other in the last, and then the phrase does not identify the tracked object.

    Returns:
        0 for a frame in which the trajectory is lost, or that it does not have.
    """
    detections = list(detections)
    frames = sorted({one.frame_idx for one in detections})
    best = [found.box_xyxy_norm for index in frames if (found := best_detection(detections, index)) is not None]
    boxes = dict(zip(trajectory.frame_indices.tolist(), trajectory.boxes_xyxy_norm, strict=True))
    tracked = np.array([boxes.get(index, np.full(4, np.nan)) for index in frames]).reshape(-1, 4)
    return dict(zip(frames, paired_iou(tracked, np.array(best).reshape(-1, 4)).tolist(), strict=True))
