"""Boxes to numbers and to text: hand-worked cases, and properties over generated boxes."""

import math

import numpy as np
import pytest
from box_strategies import boxes_bin, boxes_norm, unhurried
from hypothesis import given
from hypothesis import strategies as st

from elysium.processing.boxes_elysium import (
    ROUNDINGS,
    bin_to_norm,
    format_box,
    format_frames,
    norm_to_bin,
    norm_to_px,
    parse_box,
    parse_frames,
    px_to_norm,
)

LARGEST_BIN = {"floor": 99, "round": 100}


# Numbers: pixels, shares, bins


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_encoding_a_decoded_box_gives_it_back_for_every_pair_of_bins(rounding):
    largest = LARGEST_BIN[rounding]
    for low in range(largest + 1):
        for high in range(low, largest + 1):
            for box in ((low, 0, high, largest), (0, low, largest, high)):
                assert norm_to_bin(bin_to_norm(box, rounding), rounding) == box


@pytest.mark.parametrize("rounding", ROUNDINGS)
@unhurried
@given(data=st.data())
def test_encoding_a_decoded_box_gives_it_back_through_pixels_and_float32(rounding, data):
    largest = LARGEST_BIN[rounding]
    box = data.draw(boxes_bin(largest) | st.integers(0, largest).map(lambda one: (one, one, one, one)))
    width, height = data.draw(st.integers(1, 8192)), data.draw(st.integers(1, 8192))
    norm = bin_to_norm(box, rounding)
    through_px = px_to_norm(norm_to_px(norm, width, height), width, height)
    through_float32 = np.asarray(norm, dtype=np.float32)
    assert norm_to_bin(through_px, rounding) == box
    assert norm_to_bin(through_float32, rounding) == box


@pytest.mark.parametrize(
    ("rounding", "box_norm", "box_bin"),
    [
        ("floor", (0.0, 0.0, 1.0, 1.0), (0, 0, 99, 99)),
        ("round", (0.0, 0.0, 1.0, 1.0), (0, 0, 100, 100)),
        ("floor", (0.2399, 0.2301, 0.46, 0.999), (23, 23, 46, 99)),
        ("round", (0.2399, 0.2301, 0.46, 0.999), (24, 23, 46, 100)),
        ("round", (0.125, 0.375, 0.625, 0.875), (12, 38, 62, 88)),  # a half goes to even
        ("floor", (0.231, 0.451, 0.239, 0.459), (23, 45, 23, 45)),
        ("floor", (0.25, 0.5, 0.26, 0.75), (25, 50, 25, 75)),  # exactly one bin wide
    ],
)
def test_hand_worked_encodings(rounding, box_norm, box_bin):
    assert norm_to_bin(box_norm, rounding) == box_bin


@pytest.mark.parametrize(
    ("rounding", "box_bin", "box_norm"),
    [
        ("floor", (23, 45, 46, 72), (0.235, 0.455, 0.465, 0.725)),
        ("round", (23, 45, 46, 72), (0.23, 0.45, 0.46, 0.72)),
        ("floor", (23, 45, 23, 72), (0.23, 0.455, 0.24, 0.725)),
        ("round", (23, 45, 23, 72), (0.23, 0.45, 0.23, 0.72)),
        ("floor", (0, 0, 99, 100), (0.005, 0.005, 0.995, 0.995)),  # 100 is read as the last bin
        ("floor", (99, 0, 100, 0), (0.99, 0.0, 1.0, 0.01)),
        ("round", (0, 0, 100, 100), (0.0, 0.0, 1.0, 1.0)),
    ],
)
def test_hand_worked_decodings(rounding, box_bin, box_norm):
    assert bin_to_norm(box_bin, rounding) == pytest.approx(box_norm, abs=1e-12)


@unhurried
@given(box=boxes_norm)
def test_a_decoded_box_is_at_most_half_a_bin_off(box):
    for rounding in ROUNDINGS:
        box_bin = norm_to_bin(box, rounding)
        one_bin = rounding == "floor" and (box_bin[0] == box_bin[2] or box_bin[1] == box_bin[3])
        decoded = bin_to_norm(box_bin, rounding)
        assert max(abs(a - b) for a, b in zip(box, decoded, strict=True)) <= (0.01 if one_bin else 0.005) + 2e-6


@unhurried
@given(box=boxes_norm, width=st.integers(1, 8192), height=st.integers(1, 8192))
def test_pixels_and_back_stay_inside_and_equal(box, width, height):
    x1, y1, x2, y2 = norm_to_px(box, width, height)
    assert 0 <= x1 <= x2 <= width
    assert 0 <= y1 <= y2 <= height
    assert px_to_norm((x1, y1, x2, y2), width, height) == pytest.approx(box, abs=1e-12)


def test_a_hair_outside_the_picture_is_clamped():
    assert px_to_norm((-1e-5, 0, 1280.0005, 720), 1280, 720) == (0.0, 0.0, 1.0, 1.0)
    assert format_box(np.float32([0, 0, 1.0000001, 1]), rounding="round") == "[0,0,100,100]"


BAD_BOXES = [
    ((0.1, 0.2, 0.3), "must be 4 numbers"),
    ((0.1, 0.2, 0.3, 0.4, 0.5), "must be 4 numbers"),
    (("a", 0, 1, 1), "must be 4 numbers"),
    (None, "must be 4 numbers"),
    (0.5, "must be 4 numbers"),
    ((10**400, 0, 1, 1), "must be 4 numbers"),
    ((math.nan, 0.2, 0.3, 0.4), "must be finite"),
    ((0.1, 0.2, math.inf, 0.4), "must be finite"),
    ((-math.inf, 0.2, 0.3, 0.4), "must be finite"),
    ((-0.01, 0.2, 0.3, 0.4), r"must lie in 0\.\.1 by 0\.\.1"),
    ((0.1, 0.2, 1.01, 0.4), r"must lie in 0\.\.1 by 0\.\.1"),
    ((64, 0, 128, 72), "check its unit"),
    ((0.6, 0.2, 0.3, 0.4), "is it x,y,w,h"),
    ((0.1, 0.8, 0.3, 0.4), "is it x,y,w,h"),
]


@pytest.mark.parametrize(("box", "complaint"), BAD_BOXES)
@pytest.mark.parametrize("encode", [norm_to_bin, format_box, lambda box: norm_to_px(box, 64, 48)])
def test_the_encoder_refuses_what_is_no_box_and_says_why(encode, box, complaint):
    with pytest.raises(ValueError, match=complaint):
        encode(box)


@pytest.mark.parametrize(
    ("box", "size", "complaint"),
    [
        ((0, 0, 1281, 720), (1280, 720), r"must lie in 0\.\.1280 by 0\.\.720, got \(0.0, 0.0, 1281.0, 720.0\)"),
        ((40, 8, 12, 90), (640, 480), "is it x,y,w,h"),
        ((0, 0, 1, math.nan), (640, 480), "box_xyxy_px must be finite"),
        ((0, 0, 1, 1), (0, 480), "width and height must be positive"),
        ((0, 0, 1, 1), (640, math.nan), "width and height must be positive"),
    ],
)
def test_pixels_outside_the_picture_are_refused(box, size, complaint):
    with pytest.raises(ValueError, match=complaint):
        px_to_norm(box, *size)


@pytest.mark.parametrize("box", [(1, 2, 3, 101), (-1, 2, 3, 4), (3, 2, 1, 4), (0.5, 0, 1, 1)])
def test_the_decoder_refuses_what_is_no_box_of_bins(box):
    with pytest.raises(ValueError, match="box_xyxy_bin must"):
        bin_to_norm(box)


@pytest.mark.parametrize("call", [format_box, norm_to_bin, bin_to_norm])
def test_an_unknown_rounding_is_refused(call):
    with pytest.raises(ValueError, match="rounding must be one of floor, round, got 'ceil'"):
        call((0, 0, 1, 1), rounding="ceil")


# Writing


def test_frames_are_written_with_labels_none_and_a_full_stop():
    assert format_frames([(0.1, 0.2, 0.3, 0.4), None]) == "Frame 1: [10,20,30,40], Frame 2: none."
    assert format_frames([None]) == "Frame 1: none."


def test_a_bad_box_among_frames_is_named_by_its_frame():
    with pytest.raises(ValueError, match=r"Frame 2: box_xyxy_norm must be finite"):
        format_frames([None, (math.nan, 0, 1, 1)])


def test_no_frames_cannot_be_written():
    with pytest.raises(ValueError, match="at least one frame"):
        format_frames([])


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_a_visible_box_is_never_written_as_the_four_zeros_that_mean_absent(rounding):
    text = format_box((0.0, 0.0, 0.0004, 0.0004), rounding=rounding)
    assert parse_box(text, rounding=rounding).valid


@pytest.mark.parametrize("rounding", ROUNDINGS)
@unhurried
@given(data=st.data())
def test_what_is_written_is_read_back_exactly(rounding, data):
    box_bin = data.draw(boxes_bin(LARGEST_BIN[rounding]))
    box_norm = bin_to_norm(box_bin, rounding)
    text = format_box(box_norm, rounding=rounding)
    reading = parse_box(text, rounding=rounding)
    assert (reading.status, reading.text, reading.span) == ("ok", text, (0, len(text)))
    assert (reading.box_xyxy_bin, reading.box_xyxy_norm) == (box_bin, box_norm)
    assert format_box(reading.box_xyxy_norm, rounding=rounding) == text


@unhurried
@given(boxes=st.lists(st.none() | boxes_norm, min_size=1, max_size=9))
def test_written_frames_are_read_back(boxes):
    text = format_frames(boxes)
    readings = parse_frames(text, len(boxes))
    for frame, (box, reading) in enumerate(zip(boxes, readings, strict=True), start=1):
        assert reading.frame == frame
        if box is None:
            assert (reading.status, reading.text) == ("absent", "none")
        else:
            assert reading.valid
            # the four zeros that may not be written cost one unit more; one-bin boxes are off by a unit at most
            assert np.abs(np.subtract(box, reading.box_xyxy_norm)).max() <= 0.02
