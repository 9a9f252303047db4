"""Step 7: trajectory and detector must agree on the middle and the last frame."""

from .agreement import agreement
from .curation_step import CurationStep
from .detect_step import looked_at
from .video_records import VideoRecord

STEP = "agree"


class CheckAgreement(CurationStep):
    """Drops a trajectory that has too little overlap with the detections of a frame.

    Args:
        min_iou: in each of the two frames.
    """

    name = STEP

    def __init__(self, min_iou: float) -> None:
        super().__init__()
        self.min_iou = min_iou

    def process(self, record: VideoRecord) -> VideoRecord:
        """The video without trajectories that the detector does not confirm."""
        if record.clip is None:
            return record
        frames = looked_at(len(record.clip))
        for candidate in record.candidates:
            assert candidate.trajectory is not None
            ious = agreement(candidate.trajectory, candidate.detections)
            middle, last = (ious.get(frames[name], 0.0) for name in ("middle", "last"))
            for name, iou in (("middle", middle), ("last", last)):
                if iou < self.min_iou:
                    record = record.drop(candidate, STEP, f"iou_{name}", iou)
                    break
            else:
                record = record.swap(candidate, candidate.measured(iou_middle=middle, iou_last=last))
        return record
