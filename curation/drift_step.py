"""Step 6: a Kalman filter tells a trajectory that jumps from one that moves."""

from .curation_step import CurationStep
from .kalman import chi_square_gate, drift
from .video_records import VideoRecord

STEP = "drift"


class CheckDrift(CurationStep):
    """Drops a trajectory with a box that is not where its own motion lets it be.

    Args:
        false_alarm: probability that one faithful box is taken for a bad one.
    """

    name = STEP

    def __init__(self, false_alarm: float) -> None:
        super().__init__()
        self.gate = chi_square_gate(false_alarm)

    def process(self, record: VideoRecord) -> VideoRecord:
        """The video without trajectories that jump."""
        for candidate in record.candidates:
            assert candidate.trajectory is not None
            found = drift(candidate.trajectory, gate=self.gate)
            if found.first_bad_frame is not None:
                record = record.drop(candidate, STEP, "jump", found.largest)
            else:
                record = record.swap(candidate, candidate.measured(drift=found.largest))
        return record
