"""One-pass evaluation on cases worked by hand; the figure stands in a comment beside each."""

import numpy as np
import pytest

from elysium.evaluation.ope import class_means, headline, overall, score_sequence
from elysium.evaluation.protocols import GOT10K, LASOT, LASOT_TEXT, OTB, TRACKINGNET, UAV123, Protocol, ProtocolError
from elysium.evaluation.score_benchmark import as_public_script, score_public_script
from elysium.processing.overlap import paired_iou_xywh

STILL = np.tile([10.0, 20.0, 40.0, 20.0], (4, 1))
AWAY = np.tile([200.0, 200.0, 40.0, 20.0], (4, 1))
ALL = [LASOT, LASOT_TEXT, OTB, UAV123, GOT10K, TRACKINGNET]
PLAIN = Protocol(name="plain", source="tests", first_frame="predicted")


def figures(predicted, truth, protocol, **options):
    return headline(
        score_sequence(np.asarray(predicted, float), np.asarray(truth, float), protocol, **options), protocol
    )


@pytest.mark.parametrize("protocol", ALL, ids=lambda protocol: protocol.name)
def test_a_perfect_tracker_misses_only_the_threshold_1_which_no_overlap_exceeds(protocol):
    # IoU 1 in every frame: above 0, 0.05 … 0.95, not above 1 (strict): 20/21 = 95.238.
    found = figures(STILL, STILL, protocol, size=(320, 240))
    assert found["success_auc"] == pytest.approx(100 * 20 / 21)
    assert (found["precision"], found["norm_precision"], found["ao"]) == (100, 100, 100)


def test_disjoint_boxes_have_no_overlap_and_only_frame_1_which_is_given_scores():
    # 3 of 4 frames have IoU 0, which is not above 0: AUC = 20/21/4; frame 1 is the truth.
    found = figures(AWAY, STILL, LASOT)
    assert found["success_auc"] == pytest.approx(100 * 20 / 21 / 4)
    assert found["precision"] == 25
    assert figures(AWAY, STILL, LASOT_TEXT)["success_auc"] == 0  # by words nothing is given


def test_an_overlap_of_exactly_a_half_is_not_above_a_half():
    # 40x20 against its left half 20x20: IoU 400/800 = 0.5. Above 0 … 0.45, ten thresholds of 21; SR0.5 is 0.
    half = STILL * [1, 1, 0.5, 1]
    found = figures(half, STILL, PLAIN)
    assert found["success_auc"] == pytest.approx(100 * 10 / 21)
    assert (found["ao"], found["sr50"]) == (50, 0)
    # Centres are 10 px apart, which is 10/40 = 0.25 of the width: a hit at 20 px, a miss at 0.2.
    assert (found["precision"], found["norm_precision"]) == (100, 0)


def test_a_centre_exactly_20_pixels_off_is_a_hit_and_a_little_more_is_none():
    # (12, 16) is 20 px away; 12/40 = 0.3 and 16/20 = 0.8 of the sides: no hit of normalised precision.
    assert figures(STILL + [12, 16, 0, 0], STILL, PLAIN)["precision"] == 100
    assert figures(STILL + [12, 16.01, 0, 0], STILL, PLAIN)["precision"] == 0
    assert figures(STILL + [12, 16, 0, 0], STILL, PLAIN)["norm_precision"] == 0
    # 8/40 = 0.2 of the width, exactly: a hit.
    assert figures(STILL + [8, 0, 0, 0], STILL, PLAIN)["norm_precision"] == 100


def test_normalised_precision_of_trackingnet_is_the_mean_over_its_thresholds():
    # 8/40 = 0.2 of the width: a hit at 0.20 … 0.50, 31 of 51 thresholds; frame 1 is the truth: (51 + 3 * 31) / 4 / 51.
    found = figures(STILL + [8, 0, 0, 0], STILL, TRACKINGNET)
    assert found["norm_precision"] == pytest.approx(100 * (51 + 3 * 31) / 4 / 51)


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        # The third of four frames shows nothing. LaSOT: 3 hits of 4. UAV123: 3 of 3. GOT-10k without frame 1: 2 of 2.
        (LASOT, 75),
        (UAV123, 100),
        (GOT10K, 100),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_frame_in_which_the_target_is_absent_is_no_hit_or_left_out(protocol, expected):
    visible = np.array([True, True, False, True])
    score = score_sequence(STILL, STILL, protocol, visible=visible, size=(320, 240))
    assert 100 * score.success_50 == expected
    assert headline(score, protocol)["precision"] == expected
    assert score.num_visible == (2 if protocol is GOT10K else 3)


@pytest.mark.parametrize("nothing", [[np.nan] * 4, [0, 0, 0, 0]], ids=["nan", "zero"])
def test_truth_without_a_box_is_no_hit_even_for_the_same_answer(nothing):
    truth = STILL.copy()
    truth[2] = nothing
    assert figures(np.nan_to_num(truth), truth, OTB)["precision"] == 75


def test_truth_at_the_picture_s_border_counts_which_the_matlab_code_drops():
    # x = 0 and y = -1: the toolkit takes only boxes all of whose numbers are above 0.
    truth = np.array([[5, 5, 9, 9], [0, -1, 9, 9]], dtype=float)
    assert figures(truth, truth, LASOT)["ao"] == 100


@pytest.mark.parametrize("protocol", ALL, ids=lambda protocol: protocol.name)
def test_a_result_with_nan_is_an_error_that_names_the_frame(protocol):
    predicted = STILL.copy()
    predicted[2, 1] = np.nan
    with pytest.raises(ProtocolError, match="finite numbers.* frame 2 of car-1; write 0,0,0,0"):
        score_sequence(predicted, STILL, protocol, size=(320, 240), name="car-1")


def test_a_shorter_result_is_an_error():
    with pytest.raises(ProtocolError, match="a box for each of 4 frames, got 3 for car-1; finish the run"):
        score_sequence(STILL[:3], STILL, LASOT, name="car-1")


def test_a_longer_result_is_cut():
    assert figures(np.concatenate([STILL, AWAY]), STILL, LASOT)["sr50"] == 100


def test_frames_without_a_box_take_the_box_before_in_lasot_and_miss_elsewhere():
    # Frames 2 and 3 have no box: LaSOT takes frame 1's answer, before frame 1 is set to the truth.
    predicted = STILL.copy()
    predicted[1:3] = 0
    assert figures(predicted, STILL, LASOT)["sr50"] == 100
    assert figures(predicted, STILL, OTB)["sr50"] == 50
    predicted[0] = AWAY[0]
    assert figures(predicted, STILL, LASOT)["sr50"] == 50


def test_a_negative_width_is_a_box_without_area():
    predicted = STILL.copy()
    predicted[1, 2:] = [-40, -20]  # their product is positive
    assert figures(predicted, STILL, OTB)["sr50"] == 75
    assert paired_iou_xywh(predicted[1:2], STILL[1:2]) == 0


def test_nothing_to_count_gives_no_score():
    # GOT-10k leaves out frame 1 and frames without the object.
    assert score_sequence(STILL, STILL, GOT10K, visible=np.array([True, False, False, False]), size=(320, 240)) is None
    with pytest.raises(ProtocolError, match="at least one sequence"):
        overall([], GOT10K)


def test_sequences_count_the_same_or_by_their_frames():
    # One frame at IoU 1 and three at 0: (1 + 0) / 2 by sequences, 1/4 by frames.
    one, three = score_sequence(STILL[:1], STILL[:1], PLAIN), score_sequence(AWAY[:3], STILL[:3], PLAIN)
    assert overall([one, three], PLAIN).average_overlap == 0.5
    by_frames = Protocol(name="frames", source="tests", average="frames")
    assert overall([one, three], by_frames).average_overlap == 0.25
    assert class_means({"a": one, "b": three}, {"a": None, "b": None}) == {}


def test_the_public_script_clamps_boxes_so_that_far_ones_agree():
    # In 1280x720 both boxes start beyond 100 px and are larger than 100 px: both become 100,100,100,100.
    truth, answer = np.array([[200.0, 300, 200, 150]]), np.array([[900.0, 500, 300, 200]])
    assert as_public_script(truth, (1280, 720)).tolist() == [[100, 100, 100, 100]]
    found = score_public_script(answer, truth, (1280, 720), "a")
    assert found == pytest.approx({"success_auc": 100 * 20 / 21, "precision": 100, "norm_precision": 100})
    assert figures(answer, truth, PLAIN)["success_auc"] == 0


def test_the_public_script_reads_whole_percent_and_takes_a_missing_box_for_one_pixel():
    # 13 of 100 px is 13%, and 12.6 of 100 px too. No box is 0,0,0,0, clamped to 1,1,1,1.
    assert as_public_script(np.array([[12.6, 10, 20, 20]]), (100, 100)).tolist() == [[13, 10, 20, 20]]
    assert as_public_script(np.zeros((1, 4)), (100, 100)).tolist() == [[1, 1, 1, 1]]
    assert score_public_script(STILL[:2], STILL, (100, 100), "short")["precision"] == 50 + 50 * (
        np.hypot(29.5, 29.5) <= 20
    )


def test_unrelated_random_boxes_score_under_6_by_the_standard_and_over_50_by_the_public_script():
    rng = np.random.default_rng(0)

    def boxes():
        sides = rng.uniform(0.05, 0.4, (20_000, 2)) * [1280, 720]
        return np.concatenate([rng.uniform(0, 1, (20_000, 2)) * ([1280, 720] - sides), sides], axis=1)

    truth, answers = boxes(), boxes()
    assert figures(answers, truth, LASOT)["success_auc"] < 6
    assert score_public_script(answers, truth, (1280, 720), "random")["success_auc"] > 50
