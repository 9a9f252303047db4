"""Agreement of boxes: by hand, with frames missing on either side."""

import numpy as np
import pytest

from elysium.curation.agree_step import agree, agreement
from elysium.curation.video_records import Candidate, CaptionedVideo, Detection, Drop, Phrase, Trajectory, VideoRecord
from elysium.processing.structures import VideoClip

NOWHERE = [np.nan] * 4
LEFT, MIDDLE, RIGHT = [0.0, 0.0, 0.2, 0.2], [0.1, 0.0, 0.3, 0.2], [0.5, 0.5, 0.7, 0.7]


def trajectory(*boxes, frames=None):
    return Trajectory(
        np.arange(len(boxes)) if frames is None else np.array(frames), np.array(boxes), np.ones(len(boxes))
    )


def test_a_trajectory_is_held_against_the_best_detection_of_each_frame():
    followed = trajectory(LEFT, LEFT, NOWHERE, LEFT, frames=[0, 2, 4, 6])
    found = agreement(
        followed,
        [
            Detection(0, tuple(LEFT), 0.9),
            Detection(2, tuple(LEFT), 0.7),
            Detection(2, tuple(MIDDLE), 0.8),  # scored higher, so it is the one
            Detection(4, tuple(LEFT), 0.9),  # the trajectory is lost here
            Detection(5, tuple(LEFT), 0.9),  # a frame that it does not have
        ],
    )
    assert found == {0: 1.0, 2: pytest.approx(1 / 3), 4: 0.0, 5: 0.0}
    assert agreement(followed, []) == {}


@pytest.mark.parametrize(("last", "dropped"), [(LEFT, None), (RIGHT, "iou_last")])
def test_the_rule_keeps_a_candidate_with_its_ious_or_gives_a_reason(last, dropped):
    video = CaptionedVideo(video_id="v", source=b"", caption="A cup")
    clip = VideoClip(np.zeros((3, 4, 4, 3), np.uint8), 25.0, np.arange(3) / 25, np.arange(3))
    found = (Detection(1, tuple(LEFT), 0.9), Detection(2, tuple(last), 0.9))
    candidate = Candidate(Phrase("cup", "cup", (2, 5)), found, trajectory(LEFT, LEFT, LEFT))
    result = agree(candidate, VideoRecord(video=video, clip=clip), min_iou=0.3)
    if dropped:
        assert result == Drop(dropped, 0.0)
    else:
        assert result.measures == {"iou_middle": 1.0, "iou_last": 1.0}
