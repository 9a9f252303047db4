"""Accuracy at IoU 0.5 and its neighbours, with figures worked by hand."""

import pytest

from elysium.evaluation.answer_benchmark import score_rows
from elysium.evaluation.question_benchmarks import QUESTION_BENCHMARKS


def score(predicted, true, reasons=None, splits=None):
    """The score of predicted boxes, None for no box."""
    count = len(true)
    rows = [
        {"truth": {"box_xyxy_px": box, "split": split}, "answer": {"box_xyxy_px": given, "reason": reason}}
        for given, box, reason, split in zip(
            predicted, true, reasons or [None] * count, splits or ["val"] * count, strict=True
        )
    ]
    return score_rows(QUESTION_BENCHMARKS["refcoco"], rows)


def test_an_iou_of_exactly_a_half_is_right_and_a_hair_less_is_not():
    # 10x10 inside 10x20: 100 / 200 = 0.5. Inside 10x20.001: 100 / 200.01 < 0.5.
    true = [[0, 0, 10, 20], [0, 0, 10, 20.001]]
    figures = score([[0, 0, 10, 10]] * 2, true)["metrics"]
    assert figures["accuracy_at_0.5"] == 50


def test_figures_are_those_worked_by_hand():
    # IoU 1; 50 / 150 = 1/3; disjoint: 0; none said: 0; unreadable: 0.
    predicted = [[0, 0, 10, 10], [5, 0, 15, 10], [50, 50, 60, 60], None, None]
    true = [[0, 0, 10, 10]] * 5
    figures = score(predicted, true, [None, None, None, "absent", "unreadable"])
    assert figures["metrics"] == pytest.approx(
        {"accuracy_at_0.5": 20, "mean_iou": 100 * (4 / 3) / 5, "absent": 20, "unreadable": 20}
    )
    counts = figures["histogram"]["counts"]
    # 1/3 lies in 0.30..0.35, the seventh bin; what has no box counts as 0; 1 lies in the last bin.
    assert (counts[0], counts[6], counts[19], sum(counts)) == (3, 1, 1, 5)
    assert figures["histogram"]["edges"][:2] == [0, 0.05]
    assert len(figures["histogram"]["edges"]) == 21


def test_a_perfect_model_has_100_and_one_that_says_nothing_0():
    true = [[3, 4, 50, 60], [0, 0, 1, 1]]
    assert score(true, true)["metrics"]["accuracy_at_0.5"] == 100
    nothing = score([None, None], true, ["unreadable"] * 2)["metrics"]
    assert (nothing["accuracy_at_0.5"], nothing["mean_iou"], nothing["unreadable"]) == (0, 0, 100)


def test_parts_by_split_and_size_have_their_own_figures_and_counts():
    # Areas 31.9 * 32 < 32^2 = 32 * 32 <= .. < 96^2 = 96 * 96 <=
    true = [[0, 0, 31.9, 32], [0, 0, 32, 32], [0, 0, 95.9, 96], [0, 0, 96, 96]]
    predicted = [true[0], None, true[2], [0, 0, 96, 24]]  # the last: a quarter
    reasons = [None, "absent", None, None]
    groups = score(predicted, true, reasons, ["val", "testA", "testA", "testB"])["groups"]
    assert list(groups) == ["size large", "size medium", "size small", "split testA", "split testB", "split val"]
    assert groups["size medium"]["samples"] == 2
    assert groups["size medium"]["accuracy_at_0.5"] == 50
    assert groups["size medium"]["absent"] == 50
    assert groups["size large"]["mean_iou"] == 25
    assert groups["split testA"] == groups["size medium"]
