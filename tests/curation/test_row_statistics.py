"""Counts of rows and drops are as worked by hand; the picture of them is drawn."""

import json

import pytest
from PIL import Image

from elysium.curation.row_statistics import EDGES, RowStatistics, drop_counts, plot_statistics
from elysium.processing.atomic_files import OutputError


def row(vid="a", boxes=((0.0, 0.0, 0.5, 0.5),), words="the red car", size=(100, 100)):
    return {
        "vid": vid,
        "box": [None if box is None else list(box) for box in boxes],
        "object_class": words.split()[-1],
        "object_description": words,
        "frame_size": list(size),
    }


def statistics_of(rows):
    statistics = RowStatistics()
    for each in rows:
        statistics.add(each)
    return statistics.to_dict()


def histogram(statistics, name):
    """Lower end and count of the classes that have any."""
    found = statistics["histograms"][name]
    return {low: count for low, count in zip(found["edges"], found["counts"], strict=False) if count}


def test_counts_are_as_worked_by_hand():
    moved = row("b", [(0.0, 0.0, 0.1, 0.1), (0.03, 0.04, 0.13, 0.14), None], "the cat", size=(200, 200))
    found = statistics_of([row(), row(words="a very old red car"), moved])
    assert (found["rows"], found["videos"], found["rows_of_a_video"]) == (3, 2, 2)
    assert found["frames"] == {"boxed": 4, "absent": 1}
    assert found["commonest_classes"] == {"car": 2, "cat": 1} and found["classes"] == 2
    assert histogram(found, "length") == {1: 3}
    assert histogram(found, "size") == {0.4: 2, 0.1: 1}  # sides of 0.5, 0.5 and 0.1
    assert histogram(found, "speed") == {0.5: 1}  # 10 px of way for a side of 20 px; one frame has no speed
    assert histogram(found, "words") == {2: 1, 4: 1, 1: 1}
    assert json.loads(json.dumps(found)) == found


def test_every_class_of_a_histogram_takes_its_lower_end_and_the_last_has_no_end():
    statistics = RowStatistics()
    for length in (*EDGES["length"], 7, 5000):
        statistics.add(row(boxes=[(0.0, 0.0, 1.0, 1.0)] * int(length)))
    found = statistics.to_dict()
    assert histogram(found, "length") == {1: 2, 8: 1, 16: 1, 32: 1, 64: 1, 128: 1, 256: 1, 512: 2}
    assert found["histograms"]["length"]["edges"][-1] is None


def test_a_row_without_a_box_counts_as_a_row_and_has_no_size():
    found = statistics_of([row(boxes=[None, None])])
    assert found["rows"] == 1 and histogram(found, "size") == {} and histogram(found, "length") == {1: 1}


def test_a_picture_s_shape_counts_in_speed():
    # 0.1 of the width of 400 px is 40 px: one side of a box of 40x40 px.
    boxes = [(0.0, 0.0, 0.1, 0.4), (0.1, 0.0, 0.2, 0.4)]
    assert histogram(statistics_of([row(boxes=boxes, size=(400, 100))]), "speed") == {1: 1}


def test_drops_are_counted_by_step_and_reason_in_order():
    drops = [("phrases", "plural"), ("agree", "iou"), ("phrases", "virtual"), ("phrases", "virtual")]
    found = drop_counts({"step": step, "reason": reason} for step, reason in drops)
    assert list(found.items()) == [("phrases", {"virtual": 2, "plural": 1}), ("agree", {"iou": 1})]


def test_the_histograms_are_drawn(tmp_path):
    plot_statistics(statistics_of([row()]), tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(1 << 24)) > 10
    with pytest.raises(ValueError, match="must be saved as .png"):
        plot_statistics(statistics_of([]), tmp_path / "figure.svg")
    with pytest.raises(OutputError):
        plot_statistics(statistics_of([row()]), tmp_path / "figure.png" / "below.png")
