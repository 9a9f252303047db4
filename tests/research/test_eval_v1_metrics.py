"""Figures of eval_v1 against cases worked by hand."""

import numpy as np
import pytest

from elysium.processing.overlap import paired_iou
from research.eval_v1.metrics import (
    AbsenceTally,
    GateTally,
    OverlapTally,
    ScoreTally,
    patch_coverage,
)

NONE = [np.nan] * 4


@pytest.mark.parametrize(
    ("box", "other", "expected"),
    [
        pytest.param([0, 0, 4, 4], [0, 0, 4, 4], 1.0, id="the same box"),
        pytest.param([0, 0, 4, 4], [4, 0, 8, 4], 0.0, id="they only touch"),
        pytest.param([0, 0, 4, 4], [5, 5, 9, 9], 0.0, id="apart along both axes: no product of two negatives"),
        pytest.param([0, 0, 4, 4], [2, 0, 6, 4], 8 / 24, id="half shared"),
        pytest.param([0, 0, 4, 4], [1, 1, 3, 3], 4 / 16, id="one inside the other"),
        pytest.param([0, 0, 4, 4], NONE, 0.0, id="a missing box"),
        pytest.param([2, 2, 2, 2], [2, 2, 2, 2], 0.0, id="boxes without area"),
    ],
)
def test_iou_of_two_boxes_is_as_worked_by_hand(box: list, other: list, expected: float) -> None:
    boxes, others = np.array([box], float), np.array([other], float)
    assert paired_iou(boxes, others) == pytest.approx([expected])
    assert paired_iou(others, boxes) == pytest.approx([expected])


def test_a_missing_box_counts_zero_where_the_target_is_seen_and_nothing_where_it_is_not() -> None:
    tally = OverlapTally()
    true = np.array([[0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 4], NONE], float)
    predicted = np.array([NONE, [0, 0, 4, 4], NONE, [0, 0, 4, 4]], float)
    tally.add(predicted, true, np.array([True, True, True, False]), first=1)
    assert tally.summary() == {"mean_iou": 0.5, "success_50": 0.5, "clips": 1, "frames": 2}


def test_success_is_strict_at_one_half() -> None:
    tally = OverlapTally()
    tally.add(np.array([[0, 0, 4, 2.0]]), np.array([[0, 0, 4, 4.0]]), np.array([True]))
    assert tally.summary() == {"mean_iou": 0.5, "success_50": 0.0, "clips": 1, "frames": 1}


def test_the_first_clips_can_be_summed_up_alone() -> None:
    tally = OverlapTally()
    perfect = np.array([[0, 0, 4, 4.0]])
    tally.add(perfect, perfect, np.array([True]))
    tally.add(perfect + 9, perfect, np.array([True]))
    assert tally.summary()["mean_iou"] == 0.5
    assert tally.summary(1)["mean_iou"] == 1.0
    assert OverlapTally().summary() is None


def test_absence_counts_calls_and_truth_apart() -> None:
    tally = AbsenceTally()
    reasons = ["absent", "absent", "absent", None, "unreadable", None]
    tally.add(reasons, np.array([False, False, True, False, False, True]), first=1)
    figures = tally.summary()
    assert figures["precision"] == 0.5  # frames 2 and 3 were called absent, frame 2 was
    assert figures["recall"] == pytest.approx(1 / 3, abs=1e-4)  # of frames 2, 4 and 5
    assert (figures["frames_unreadable"], figures["frames"]) == (1, 5)


def test_absence_without_any_absent_frame_has_no_precision_and_no_recall() -> None:
    tally = AbsenceTally()
    tally.add([None, None], np.array([True, True]))
    assert tally.summary()["precision"] is None
    assert tally.summary()["recall"] is None


def test_coverage_of_patches_that_cut_pixels_is_exact() -> None:
    picture = np.zeros((1, 2, 3), bool)
    picture[0, 0, 1] = True  # the middle one of three pixels: half of it in each of the two upper patches
    assert patch_coverage(picture, 2)[0] == pytest.approx([1 / 3, 1 / 3, 0, 0])
    assert patch_coverage(np.ones((2, 5, 7), bool), 3) == pytest.approx(np.ones((2, 9)))


def test_a_gate_that_keeps_the_objects_reaches_the_ceiling() -> None:
    tally = GateTally()
    tally.add(np.array([[0.9, 0.0, 0.25, 0.1]]), np.array([[0, 2]]))
    figures = tally.summary()
    assert figures["share_of_kept_on_objects"] == 1.0
    assert figures["recall_of_object_tokens"] == 1.0
    assert figures["precision_ratio"] == figures["recall_ratio"] == figures["ratio_ceiling"] == 2.0


def test_a_gate_that_keeps_anything_has_ratio_one_and_one_that_misses_has_zero() -> None:
    coverage = np.array([[1.0, 1.0, 0.0, 0.0]])
    anything, missing = GateTally(), GateTally()
    anything.add(coverage, np.array([[0, 2]]))
    missing.add(coverage, np.array([[2, 3]]))
    assert anything.summary()["precision_ratio"] == anything.summary()["recall_ratio"] == 1.0
    assert missing.summary()["precision_ratio"] == missing.summary()["recall_ratio"] == 0.0
    assert GateTally().summary() is None


def _boxes_with_iou(ious: np.ndarray) -> np.ndarray:
    """(T, 4) boxes whose IoU with (0, 0, 1, 1) is as given."""
    return np.stack([np.zeros_like(ious), np.zeros_like(ious), ious, np.ones_like(ious)], axis=1)


@pytest.mark.parametrize(("order", "expected"), [(1, 1.0), (-1, -1.0)])
def test_scores_in_the_order_of_overlap_correlate_fully(order: int, expected: float) -> None:
    tally = ScoreTally()
    scores = np.linspace(0.05, 0.95, 20)
    truth = np.tile([0.0, 0, 1, 1], (20, 1))
    tally.add(scores, _boxes_with_iou(scores[::order] ** 2), truth)
    figures = tally.summary()
    assert figures["spearman"] == expected
    assert figures["boxes"] == 20
    assert figures["decile_mean_score"][0] == pytest.approx((scores[0] + scores[1]) / 2, abs=1e-4)
    assert figures["decile_mean_iou"] == sorted(figures["decile_mean_iou"], reverse=order < 0)


def test_a_box_where_nothing_can_be_seen_has_overlap_zero_and_a_frame_without_box_is_left_out() -> None:
    tally = ScoreTally()
    predicted = np.tile([0.0, 0, 1, 1], (22, 1))
    predicted[21] = np.nan
    truth = np.tile([0.0, 0, 1, 1], (22, 1))
    truth[1] = np.nan
    scores = np.linspace(0.1, 0.9, 22)
    tally.add(scores, predicted, truth, first=1)
    figures = tally.summary()
    assert figures["boxes"] == 20  # of 22: the first is given, the last is missing
    assert figures["decile_mean_iou"] == [0.5] + [1.0] * 9
