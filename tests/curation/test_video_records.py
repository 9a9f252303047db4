"""The record that goes through the steps of curation."""

from pathlib import Path

import numpy as np
import pytest

from elysium.curation.video_records import (
    Candidate,
    CaptionedVideo,
    Drop,
    Exclusion,
    Phrase,
    Trajectory,
    VideoRecord,
)

CAR, DOG = Phrase("red car", "car", (2, 9)), Phrase("dog", "dog", (14, 17))


def record_of(*phrases: Phrase) -> VideoRecord:
    video = CaptionedVideo(video_id="v1", source=Path("v1.mp4"), caption="A red car and a dog", metadata={"page": 3})
    return VideoRecord(video=video, candidates=tuple(Candidate(phrase) for phrase in phrases))


def test_dropping_a_phrase_leaves_the_others_and_says_why() -> None:
    record = record_of(CAR, DOG)
    left = record.judge("detect", lambda one, _: Drop("score_last", 0.4) if one.phrase == CAR else one)
    assert [candidate.phrase for candidate in left.candidates] == [DOG]
    assert left.drops == (Exclusion("detect", "score_last", 0.4, "red car", "v1"),)
    assert len(record.candidates) == 2  # the one before is as it was


@pytest.mark.parametrize("phrases", [(CAR, DOG), ()], ids=["with phrases", "without"])
def test_dropping_a_video_counts_each_phrase_or_the_video(phrases: tuple[Phrase, ...]) -> None:
    dropped = record_of(*phrases).drop_video("decode", "video_unreadable")
    assert dropped.candidates == () and dropped.clip is None
    assert [drop.phrase for drop in dropped.drops] == ([phrase.text for phrase in phrases] or [None])


def test_a_drop_is_written_without_what_json_cannot_hold() -> None:
    assert Exclusion("agree", "iou_last", float("nan"), "dog", "v1").to_dict()["value"] is None


def test_a_trajectory_without_a_score_for_each_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="a score for each of its 3 frames, got boxes"):
        Trajectory(np.arange(3), np.zeros((3, 4)), np.zeros(2))
