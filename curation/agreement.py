"""How well a trajectory agrees: with detections, with itself tracked back, and with other trackers.

Agreement with the detections on the middle and the last frame is the last filter of the Elysium paper (arXiv
2403.16558, section 3). The other two go beyond it: forward-backward consistency after Kalal, Mikolajczyk and Matas,
"Forward-Backward Error", ICPR 2010, by IoU in place of distance.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from elysium.processing.overlap import paired_iou

from .video_records import Detection, Trajectory

Boxes = NDArray[np.float64]


def box_iou(box_xyxy: Sequence[float], other_xyxy: Sequence[float]) -> float:
    """IoU of two boxes in one unit; 0 where either is NaN or without area.

    >>> box_iou((0, 0, 2, 2), (1, 0, 3, 2))
    0.3333333333333333
    """
    return float(paired_iou(np.array([box_xyxy], dtype=np.float64), np.array([other_xyxy], dtype=np.float64))[0])


def agreement(trajectory: Trajectory, detections: Iterable[Detection]) -> dict[int, float]:
    """IoU of the trajectory with the best-scored detection of each frame that has any, by frame index.

    The best one and no other: where a phrase fits two things, the detector may take one in the first frame and the
    other in the last, and then the words do not say which one the trajectory follows.

    Returns:
        0 for a frame in which the trajectory is lost, or that it does not reach.
    """
    best: dict[int, Detection] = {}
    for found in detections:
        if found.frame_idx not in best or found.score > best[found.frame_idx].score:
            best[found.frame_idx] = found
    boxes = dict(zip(trajectory.frame_indices.tolist(), trajectory.boxes_xyxy_norm, strict=True))
    nowhere = np.full(4, np.nan)
    return {index: box_iou(boxes.get(index, nowhere), best[index].box_xyxy_norm) for index in sorted(best)}


def forward_backward(forward: Trajectory, backward: Trajectory) -> float:
    """Mean IoU of a trajectory with one that was tracked from its last box to the first frame; see `mean_iou`."""
    return mean_iou(forward, backward)


def trackers_agree(trajectories: Sequence[Trajectory]) -> float:
    """Mean of `mean_iou` over pairs of trackers.

    Raises:
        ValueError: fewer than two trajectories.
    """
    if len(trajectories) < 2:
        raise ValueError(f"trackers agree with each other: give two trajectories or more, got {len(trajectories)}")
    return float(np.mean([mean_iou(one, other) for one, other in combinations(trajectories, 2)]))


def mean_iou(trajectory: Trajectory, other: Trajectory) -> float:
    """Mean IoU of two trajectories over the frames of either; 0 for a frame that only one has a box in, and a frame
    without any box does not count. 0 where no frame counts."""
    frames = np.union1d(trajectory.frame_indices, other.frame_indices)
    first, second = _boxes_at(trajectory, frames), _boxes_at(other, frames)
    counted = np.isfinite(first[:, 0]) | np.isfinite(second[:, 0])
    return float(paired_iou(first, second)[counted].mean()) if counted.any() else 0.0


def _boxes_at(trajectory: Trajectory, frames: NDArray[np.int64]) -> Boxes:
    """Its boxes in those frames `(n, 4)`, NaN where it has none."""
    boxes = np.full((len(frames), 4), np.nan)
    boxes[np.searchsorted(frames, trajectory.frame_indices)] = trajectory.boxes_xyxy_norm
    return boxes
