"""Calibration error of scores: the bins, the error by hand, the frames that count, files of scores, the report."""

import json

import numpy as np
import pytest
from miniatures import build_lasot, pictures_and_boxes

import elysium.cli as cli
from elysium.evaluation.protocols import GOT10K, LASOT, LASOT_TEXT
from elysium.evaluation.reliability import Reliability, scored_boxes
from elysium.evaluation.result_files import ResultError, ResultFiles, ResultFolder
from elysium.readers.samples import TrackingSequence


def reliability_of(scores, ious):
    found = Reliability()
    found.add(np.array(scores), np.array(ious))
    return found


def test_the_error_of_two_bins_by_hand():
    # Bin 0.2..0.3: scores 0.2 and 0.28, IoUs 0.5 and 0.9: |0.24 - 0.7| = 0.46 of 2 boxes in 5.
    # Bin 0.8..0.9: scores 0.8, 0.85, 0.87, IoUs 0.9, 0.9, 0: |0.84 - 0.6| = 0.24 of 3 boxes in 5.
    found = reliability_of([0.2, 0.8, 0.28, 0.85, 0.87], [0.5, 0.9, 0.9, 0.9, 0.0])
    assert found.expected_calibration_error == pytest.approx(0.4 * 0.46 + 0.6 * 0.24)
    record = found.record()
    assert record["counts"] == [0, 0, 2, 0, 0, 0, 0, 0, 3, 0]
    assert (record["mean_score"][2], record["mean_iou"][2]) == pytest.approx((0.24, 0.7))
    assert (record["mean_score"][8], record["mean_iou"][8]) == pytest.approx((0.84, 0.6))
    assert record["mean_score"][0] is None and record["mean_iou"][9] is None


def test_scores_that_are_the_iou_have_no_error_and_those_that_are_sure_and_wrong_have_all_of_it():
    values = np.random.default_rng(0).random(500)
    assert reliability_of(values, values).expected_calibration_error == pytest.approx(0, abs=1e-12)
    assert reliability_of([1.0] * 3, [0.0] * 3).expected_calibration_error == 1
    assert np.isnan(Reliability().expected_calibration_error)


@pytest.mark.parametrize(("score", "place"), [(0.0, 0), (0.0999, 0), (0.1, 1), (0.95, 9), (1.0, 9)])
def test_a_score_at_an_edge_belongs_to_the_bin_above_and_one_to_the_last(score, place):
    assert reliability_of([score], [0.5]).counts.tolist() == [float(number == place) for number in range(10)]


def test_boxes_added_in_parts_give_the_error_of_all():
    scores, ious = np.random.default_rng(1).random((2, 300))
    parts = Reliability()
    for rows in (slice(0, 100), slice(100, 101), slice(101, 300), slice(300, 300)):
        parts.add(scores[rows], ious[rows])
    assert parts.expected_calibration_error == pytest.approx(reliability_of(scores, ious).expected_calibration_error)


@pytest.mark.parametrize("score", [-0.1, 1.5])
def test_a_score_out_of_range_is_refused(score):
    with pytest.raises(ValueError, match=f"a score must be in 0..1, got {score}; scale"):
        reliability_of([0.5, score], [0.5, 0.5])


def make_sequence(boxes, visible=None, size=(100, 100)):
    boxes = np.array(boxes, dtype=np.float64)
    visible = np.ones(len(boxes), bool) if visible is None else np.array(visible)
    return TrackingSequence(name="one", frames=None, boxes_xywh_px=boxes, visible=visible, size=size)


def test_frames_count_that_have_a_box_and_a_box_without_a_true_one_is_wrong():
    box, none = [0, 0, 10, 10], [0, 0, 0, 0]
    sequence = make_sequence([box, box, box, none, box, box], [True, True, True, True, False, True])
    predicted = np.array([box, [5, 0, 10, 10], none, box, box, box], dtype=np.float64)
    scores = np.array([0.9, 0.8, np.nan, 0.7, 0.6, np.nan])
    for protocol, first in ((LASOT, ([], [])), (GOT10K, ([], [])), (LASOT_TEXT, ([0.9], [1.0]))):
        counted, ious = scored_boxes(predicted, scores, sequence, protocol)
        assert counted.tolist() == [*first[0], 0.8, 0.7, 0.6]
        assert ious == pytest.approx([*first[1], 1 / 3, 0, 0])


def test_boxes_are_clipped_to_the_image_where_the_protocol_says_so():
    sequence = make_sequence([[0, 0, 10, 10], [90, 0, 20, 10]])
    predicted, scores = np.array([[0, 0, 10, 10], [90, 0, 10, 10.0]]), np.array([1.0, 0.5])
    assert scored_boxes(predicted, scores, sequence, GOT10K)[1].tolist() == [1.0]
    assert scored_boxes(predicted, scores, sequence, LASOT)[1].tolist() == [0.5]


@pytest.mark.parametrize("layout", ["flat", "got10k"])
def test_scores_are_written_and_read_beside_the_boxes(layout, tmp_path):
    scores = np.array([1.0, np.nan, 0.25])
    ResultFiles(tmp_path, layout).write("car-1", np.ones((3, 4)), np.ones(3), scores)
    ResultFiles(tmp_path, layout).write("car-2", np.ones((3, 4)), np.ones(3))
    folder = ResultFolder(tmp_path)
    assert len(folder.boxes("car-1")) == 1
    np.testing.assert_array_equal(folder.scores("car-1"), [scores])
    assert folder.scores("car-2") is None


def test_scores_of_another_length_are_refused(tmp_path):
    ResultFiles(tmp_path, "flat").write("car-1", np.ones((3, 4)), np.ones(3), np.ones(2))
    with pytest.raises(ResultError, match="a line for each of 3 boxes, got 2 in .*car-1_confidence.value; write nan"):
        ResultFolder(tmp_path).scores("car-1")


def evaluate(data, out, *arguments) -> dict:
    assert cli.run(["evaluate", "lasot", "--data", str(data), "--output", str(out), *map(str, arguments)]) == 0
    return json.loads((out / "report.json").read_text("utf-8"))


def write_scored(folder, score, skip=()):
    """Results that are 6 px off, IoU 18/30 = 0.6, with the same score in every frame."""
    for number, name in enumerate(["airplane-1", "airplane-2", "cup-7"]):
        boxes = np.nan_to_num(pictures_and_boxes(colour="red" if number % 2 == 0 else "blue")[1]) + [6, 0, 0, 0]
        ResultFiles(folder, "flat").write(name, boxes, np.ones(10), None if name in skip else np.full(10, score))


def test_the_report_has_the_error_and_the_diagram_of_trackers_with_scores_alone(tmp_path, capsys):
    data = build_lasot(tmp_path / "data")
    write_scored(tmp_path / "sure", 0.9)
    write_scored(tmp_path / "part", 0.9, skip=["cup-7"])
    given = [f"--results={name}={tmp_path / name}" for name in ("sure", "part")]
    trackers = evaluate(data, tmp_path / "out", *given, "--tracker", "first-box")["trackers"]
    # 27 frames after frame 1, in two of which the object is out of view: 0.9 - 0.6 * 25 / 27.
    assert trackers["sure"]["ece"] == pytest.approx(100 * (0.9 - 0.6 * 25 / 27), abs=1e-3)
    assert trackers["sure"]["reliability"]["counts"] == [0] * 9 + [27]
    assert not {"ece", "reliability"} & (set(trackers["part"]) | set(trackers["first-box"]))
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert 'alt="Plot: reliability"' in page and "expected calibration error" in page and ">34.44<" in page
    assert {"reliability.png", "reliability.svg"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert "ece 34.44" in capsys.readouterr().out


def test_trackers_without_scores_leave_the_diagram_and_the_column_out(tmp_path):
    evaluate(build_lasot(tmp_path / "data"), tmp_path / "out", "--tracker", "first-box")
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "Plot: reliability" not in page and "ECE" not in page
    assert not list((tmp_path / "out").glob("reliability.*"))


def test_a_score_of_other_results_that_is_not_in_range_is_named(tmp_path, capsys):
    data = build_lasot(tmp_path / "data")
    write_scored(tmp_path / "loud", 90)
    command = ["evaluate", "lasot", "--data", str(data), "--output", str(tmp_path / "out")]
    assert cli.run([*command, "--results", f"loud={tmp_path / 'loud'}"]) == 1
    assert "a score must be in 0..1, got 90.0; scale scores to 0..1" in capsys.readouterr().err.replace("\n", " ")
