"""Text to boxes: hand-worked cases for every status, and properties over any text whatever."""

import dataclasses
import time

import numpy as np
import pytest
from box_strategies import boxes_bin, unhurried
from hypothesis import given
from hypothesis import strategies as st

from elysium.processing.boxes_elysium import ROUNDINGS, parse_box, parse_frames

STATUSES = {"ok", "absent", "missing", "malformed", "out_of_range", "inverted", "empty"}


def statuses(text, num_frames, **kwargs):
    return [reading.status for reading in parse_frames(text, num_frames, **kwargs)]


# Reading one box


@pytest.mark.parametrize(
    ("text", "status", "box_bin"),
    [
        ("[23,45,46,72]", "ok", (23, 45, 46, 72)),
        ("[23,45,46,72].", "ok", (23, 45, 46, 72)),
        ("The red car is at [ 23 , 45,\n46, 72 ], I think.", "ok", (23, 45, 46, 72)),
        ("[0,0,100,100]", "ok", (0, 0, 100, 100)),
        ("[007,0,046,072]", "ok", (7, 0, 46, 72)),
        ("[23,45,23,45]", "ok", (23, 45, 23, 45)),
        ("[1,2,3,4,5] or [6,7,8,9]", "ok", (6, 7, 8, 9)),
        ("[1,2,3,200] or [6,7,8,9]", "ok", (6, 7, 8, 9)),
        ("[1,2,3,4] or [6,7,8,9]", "ok", (1, 2, 3, 4)),
        ("[0,0,0,0]", "absent", (0, 0, 0, 0)),
        ("none", "absent", None),
        (" None.\n", "absent", None),
        ("none of them [1,2,3,4]", "ok", (1, 2, 3, 4)),
        ("none of them", "malformed", None),
        ("nonesuch", "malformed", None),
        ("", "missing", None),
        (" \n", "missing", None),
        ("I cannot see it.", "malformed", None),
        ("[23,45,46", "malformed", None),
        ("23,45,46,72", "malformed", None),
        ("[0.23,0.45,0.46,0.72]", "malformed", None),
        ("[23,45,46,101]", "out_of_range", None),
        ("[-1,45,46,72]", "out_of_range", None),
        ("[46,45,23,72]", "inverted", (46, 45, 23, 72)),
        ("[23,72,46,45]", "inverted", (23, 72, 46, 45)),
        ("[46,45,23,72] or [23,45,46,101]", "inverted", (46, 45, 23, 72)),
        ("[１,２,３,４]", "malformed", None),  # full-width digits
    ],
)
def test_hand_worked_single_boxes(text, status, box_bin):
    reading = parse_box(text)
    assert (reading.frame, reading.status, reading.box_xyxy_bin) == (1, status, box_bin)
    assert reading.valid == (status == "ok") == (reading.box_xyxy_norm is not None)
    if reading.span is not None:
        assert text[slice(*reading.span)] == reading.text


def test_a_box_without_width_has_no_area_where_rounding_is_nearest_and_spans_a_bin_where_it_is_floor():
    assert parse_box("[23,45,23,72]", rounding="round").status == "empty"
    assert parse_box("[23,45,23,72]", rounding="floor").box_xyxy_norm == pytest.approx((0.23, 0.455, 0.24, 0.725))


# Reading frames


def test_every_status_is_reached_in_one_text():
    text = (
        "Frame 1: [1,2,3,4], Frame 2: none, Frame 3: [0,0,0,0], Frame 4: [1,2, Frame 5: [1,2,3,900], "
        "Frame 6: [9,2,3,4], Frame 8: [5,6,5,8]."
    )
    expected = ["ok", "absent", "absent", "malformed", "out_of_range", "inverted", "missing", "empty"]
    assert statuses(text, 8, rounding="round") == expected
    assert set(expected) == STATUSES


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Frame 1: [1,2,3,4], Frame 2: [5,6,7,8].", ["ok", "ok"]),
        ("Frame 1: [1,2,3,4], Frame 2: [5,6,7,8]", ["ok", "ok"]),
        ("frame 1:[1,2,3,4]FRAME\n2 : [5, 6, 7, 8]", ["ok", "ok"]),
        ("Frame 2: [5,6,7,8], Frame 1: [1,2,3,4].", ["ok", "ok"]),
        ("Sure! Frame 1: [1,2,3,4]; Frame 2: None", ["ok", "absent"]),
        ("Frame 1: noneFrame 2: none", ["absent", "absent"]),
        ("Frame 1: nonesense, Frame 2: non", ["malformed", "malformed"]),
        ("Frame 1: [1,2,3,4], Frame 2: [5,6,7", ["ok", "malformed"]),
        ("Frame 1: [1,2,3,4], Frame 2:", ["ok", "malformed"]),
        ("Frame 1: [1,2,3,4], Fram", ["ok", "missing"]),
        ("Frame 1: [1,2,3,Frame 2: [5,6,7,8]", ["malformed", "ok"]),
        ("Frame 1: [1,2,x], Frame 2 [5,6,7,8]", ["malformed", "missing"]),
        ("Frame 1: the box [1,2,3,4]", ["malformed", "missing"]),
        ("Frame 3: [1,2,3,4], Frame 0: [1,2,3,4]", ["missing", "missing"]),
        ("Frame 00000000000000001: [1,2,3,4]", ["missing", "missing"]),
        ("[1,2,3,4], [5,6,7,8]", ["missing", "missing"]),
        ("", ["missing", "missing"]),
    ],
)
def test_hand_worked_frames(text, expected):
    readings = parse_frames(text, 2)
    assert [reading.status for reading in readings] == expected
    for reading, box_bin in zip(readings, [(1, 2, 3, 4), (5, 6, 7, 8)], strict=True):
        if reading.valid:
            assert reading.box_xyxy_bin == box_bin


@pytest.mark.parametrize(
    ("text", "status", "box_bin"),
    [
        ("Frame 1: [1,2,3,4], Frame 1: [5,6,7,8]", "ok", (1, 2, 3, 4)),
        ("Frame 1: [1,2, Frame 1: [5,6,7,8]", "ok", (5, 6, 7, 8)),
        ("Frame 1: [9,2,3,4], Frame 1: [1,2,3,500], Frame 1: [5,6,7,8]", "ok", (5, 6, 7, 8)),
        ("Frame 1: none, Frame 1: [5,6,7,8]", "absent", None),
        ("Frame 1: [0,0,0,0], Frame 1: [5,6,7,8]", "absent", (0, 0, 0, 0)),
        ("Frame 1: [9,2,3,4], Frame 1: [1,2,3,500]", "inverted", (9, 2, 3, 4)),
    ],
)
def test_the_first_of_duplicate_labels_wins_unless_it_cannot_be_read(text, status, box_bin):
    reading = parse_frames(text, 1)[0]
    assert (reading.status, reading.box_xyxy_bin) == (status, box_bin)


def test_one_expected_frame_may_come_without_its_label_but_not_under_another():
    assert parse_frames("It is at [1,2,3,4].", 1)[0].valid
    assert statuses("Frame 2: [1,2,3,4].", 1) == ["missing"]


def test_the_span_points_at_the_bracketed_coordinates_in_the_text():
    text = "Frame 1: [1,2,3,4], Frame 2: none, Frame 3: [5,6,7,8]."
    spans = [text[slice(*reading.span)] for reading in parse_frames(text, 3)]
    assert spans == ["[1,2,3,4]", "none", "[5,6,7,8]"]


def test_huge_numbers_are_out_of_range_and_leading_zeros_are_not():
    assert statuses(f"Frame 1: [{'9' * 10_000},2,3,4], Frame 2: [-{'9' * 10_000},2,3,4]", 2) == ["out_of_range"] * 2
    assert statuses(f"Frame 1: [{'0' * 10_000}1,2,3,4], Frame {'9' * 10_000}: [1,2,3,4]", 2) == ["ok", "missing"]


def test_an_excerpt_of_a_failure_stays_short():
    assert len(parse_frames("Frame 1: " + "x" * 10_000, 1)[0].text) <= 100
    assert len(parse_box("x" * 10_000).text) <= 100


def test_a_text_that_is_no_string_and_a_negative_count_are_refused():
    with pytest.raises(TypeError, match="text must be a string, got bytes"):
        parse_frames(b"Frame 1: none", 1)
    with pytest.raises(ValueError, match="num_frames must be 0 or more, got -1"):
        parse_frames("", -1)
    assert parse_frames("Frame 1: none", 0) == []


def test_a_reading_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse_box("none").status = "ok"


# Any text whatever

pieces = st.sampled_from(
    ["Frame ", "frame", "1", "2", "12", ": ", "[", "]", ",", "none", ".", "-", " ", "[[", "<box>("]
)
any_text = st.text(max_size=80) | st.lists(pieces | st.characters(), max_size=40).map("".join)


@unhurried
@given(text=any_text, num_frames=st.integers(0, 5), rounding=st.sampled_from(ROUNDINGS))
def test_any_text_gives_one_sound_reading_for_every_frame(text, num_frames, rounding):
    readings = parse_frames(text, num_frames, rounding=rounding)
    assert [reading.frame for reading in readings] == list(range(1, num_frames + 1))
    for reading in [*readings, parse_box(text, rounding=rounding)]:
        assert reading.status in STATUSES
        assert reading.valid == (reading.box_xyxy_norm is not None)
        if reading.valid:
            x1, y1, x2, y2 = reading.box_xyxy_norm
            assert 0 <= x1 < x2 <= 1
            assert 0 <= y1 < y2 <= 1
        if reading.span is not None:
            assert text[slice(*reading.span)].startswith(reading.text[:80])


@unhurried
@given(boxes=st.lists(st.none() | boxes_bin(99), min_size=1, max_size=6), data=st.data())
def test_frames_before_a_truncated_box_are_kept_and_later_ones_are_missing_or_malformed(boxes, data):
    values = ["none" if box is None else "[{},{},{},{}]".format(*box) for box in boxes]
    ends = np.cumsum([len(f"Frame {i}: {value}, ") for i, value in enumerate(values, start=1)]) - 2
    text = ", ".join(f"Frame {i}: {value}" for i, value in enumerate(values, start=1)) + "."
    cut = data.draw(st.integers(0, len(text)))
    for box, end, reading in zip(boxes, ends, parse_frames(text[:cut], len(boxes)), strict=True):
        if end > cut:
            assert reading.status in ("missing", "malformed")
        else:
            assert (reading.status, reading.box_xyxy_bin) == ("absent" if box is None else "ok", box)


@unhurried
@given(
    boxes=st.lists(boxes_bin(99), min_size=1, max_size=6),
    noise=st.lists(st.text(st.characters(exclude_characters="fF"), max_size=12), min_size=7, max_size=7),
    order=st.randoms(use_true_random=False),
)
def test_frames_are_read_whatever_stands_between_them_and_in_any_order(boxes, noise, order):
    fragments = ["Frame {}: [{},{},{},{}]".format(frame, *box) for frame, box in enumerate(boxes, start=1)]
    order.shuffle(fragments)
    text = noise[-1] + "".join(fragment + gap for fragment, gap in zip(fragments, noise, strict=False))
    assert [reading.box_xyxy_bin for reading in parse_frames(text, len(boxes))] == boxes


@pytest.mark.parametrize(
    "unit",
    [
        "Frame 1: ",
        "Frame ",
        "Frame",
        "[",
        "[[",
        "[1",
        "1",
        "9,",
        "[1,2,3,",
        " ",
        "\n",
        "Frame 1:[",
        "-",
        "0",
        "none",
        ".",
    ]
    + ["{<", "<box>", "(1,2),", "Frame 1: [1,2,3,4", "Frame 1:  \t", "0.", "Frame 1: [9,2,3,4]"],
)
def test_a_long_adversarial_text_is_read_in_linear_time(unit):
    # Quadratic reading would take minutes; linear reading takes milliseconds. The bound is loose for a busy machine.
    text = unit * (50_000 // len(unit))
    start_s = time.process_time()
    for prefix in ("", "Frame 1: ", "Frame 1: [", "Frame 1: [1,2,3,", "[[ ", "<box>("):
        assert parse_frames(prefix + text, 2)[1].status == "missing"
        assert parse_box(prefix + text).status in STATUSES
    assert time.process_time() - start_s < 10
