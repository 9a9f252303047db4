"""Trackers by name: OpenCV's on a moving square, the real SAM 2 video class on a small random checkpoint."""

from pathlib import Path

import numpy as np
import pytest
import torch
from curation_parts import save_tiny_sam2
from transformers import Sam2VideoInferenceSession

from elysium.curation.curation_step import CurationError
from elysium.curation.sam2_tracker import Sam2Tracker, box_around
from elysium.curation.track_step import check_tracker, load_tracker

BOXES = [(0.1, 0.1, 0.5, 0.5), (0.3, 0.3, 0.9, 0.9)]


def moving_square(count: int = 8, *, step: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Frames `(T, 96, 128, 3)` in which a striped square moves to the right, and its boxes in 0..1."""
    frames = np.full((count, 96, 128, 3), 60, np.uint8)
    boxes = []
    for number, frame in enumerate(frames):
        left = 10 + step * number
        frame[30:62, left : left + 32] = np.tile([[230, 40, 40], [30, 30, 200]], (32, 16, 1))
        boxes.append([left / 128, 30 / 96, (left + 32) / 128, 62 / 96])
    return frames, np.array(boxes)


@pytest.fixture(scope="module")
def sam2(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_sam2(tmp_path_factory.mktemp("sam2") / "tiny"))


def test_csrt_follows_an_object_and_starts_from_its_exact_box() -> None:
    frames, boxes = moving_square()
    (found,) = load_tracker("csrt").follow(frames, [tuple(boxes[0])])
    assert found.boxes_xyxy_norm[0].tolist() == boxes[0].tolist()
    assert np.abs(found.boxes_xyxy_norm - boxes).max() < 0.06
    assert found.scores.tolist() == [1.0] * 8


@pytest.mark.parametrize("box", [(0.0, 0.0, 0.001, 0.001), (0.9999, 0.9999, 1.0, 1.0)])
def test_a_box_of_less_than_a_pixel_is_tracked_or_lost_but_no_error(box) -> None:
    frames, _ = moving_square(4)
    (found,) = load_tracker("csrt").follow(frames, [box])
    assert found.boxes_xyxy_norm[0].tolist() == list(box)
    assert ((found.scores == 1) == ~found.lost).all()


def test_sam2_follows_several_objects_with_the_models_own_confidence(sam2: str) -> None:
    frames, _ = moving_square(5)
    found = load_tracker(sam2, "cpu").follow(frames, BOXES)
    for trajectory, box in zip(found, BOXES, strict=True):
        assert trajectory.boxes_xyxy_norm[0].tolist() == pytest.approx(box)
        assert len(trajectory.frame_indices) == 5
        assert ((trajectory.scores[1:] > 0.5) == ~trajectory.lost[1:]).all()


def test_sam2_frame_by_frame_gives_what_transformers_gives_for_the_whole_video(sam2: str) -> None:
    frames, _ = moving_square(5)
    tracker = Sam2Tracker(sam2, "cpu")
    (ours,) = tracker.follow(frames, BOXES[:1])
    video = torch.cat([tracker._pixels(frame) for frame in frames])
    session = Sam2VideoInferenceSession(video=video, video_height=96, video_width=128, dtype=torch.float32)
    corners = torch.tensor(BOXES[0]).reshape(1, 1, 2, 2) * 128
    session.add_point_inputs(
        session.obj_id_to_idx(0), 0, {"point_coords": corners, "point_labels": torch.tensor([[[2, 3]]])}
    )
    session.obj_with_new_inputs = [0]
    outputs = list(tracker._model.propagate_in_video_iterator(session, start_frame_idx=0))
    scores = [float(torch.sigmoid(output.object_score_logits)) for output in outputs]
    boxes = [box_around((output.pred_masks[0, 0] > 0).numpy()) for output in outputs]
    assert ours.scores == pytest.approx(scores, abs=1e-4)
    assert ours.boxes_xyxy_norm[1:] == pytest.approx(np.array(boxes[1:]), abs=1e-6)


def test_an_empty_mask_has_no_box() -> None:
    assert box_around(np.zeros((4, 4), bool)) is None


def test_a_tracker_of_ones_own_is_made_by_its_function() -> None:
    (found,) = load_tracker("curation_parts:Standing").follow(moving_square(3)[0], BOXES[:1])
    assert found.boxes_xyxy_norm.tolist() == [list(BOXES[0])] * 3


@pytest.mark.parametrize("ask", [check_tracker, load_tracker])
def test_an_unknown_tracker_is_told_which_there_are(ask, tmp_path: Path) -> None:
    with pytest.raises(CurationError, match=r"one of OpenCV's \(boosting, csrt, .*\) or a SAM 2 video model"):
        ask(str(tmp_path / "missing"))
