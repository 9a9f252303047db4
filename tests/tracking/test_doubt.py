"""Doubt of boxes: its two signs, worked by hand, and what a session makes of them."""

import math

import numpy as np
import pytest

from elysium.processing.boxes_elysium import ParsedBox, parse_box
from elysium.tracking.doubt import DoubtMeter, color_histogram
from elysium.tracking.options import TrackingOptions
from elysium.tracking.session import ObjectPrompt, TrackingSession

RED, BLUE = (255, 0, 0), (0, 0, 255)
BOX = (4.0, 4.0, 28.0, 28.0)


def one_colored(color):
    return np.full((32, 32, 3), color, np.uint8)


def logistic(value):
    return pytest.approx(1 / (1 + math.exp(-value)))


def test_a_histogram_counts_what_is_in_the_box_alone_and_has_the_sum_one():
    image = one_colored(BLUE)
    image[4:28, 4:16] = RED
    shares = color_histogram(image, BOX)
    assert shares.shape == (64,) and shares[[48, 3]].tolist() == pytest.approx([0.5, 0.5])
    assert color_histogram(image, (4.5, 4.5, 15.5, 27.5))[48] == pytest.approx(1)
    assert color_histogram(image, (31.25, 31.25, 31.75, 32.0))[3] == pytest.approx(1)


def test_the_middle_of_a_box_counts_more_than_its_edges():
    image = one_colored(BLUE)
    image[10:22, 10:22] = RED  # a quarter of the box
    assert color_histogram(image, BOX)[48] > 0.35


def test_doubt_is_the_logistic_function_of_both_signs_and_forgets_half_of_a_low_score_in_32_frames():
    meter = DoubtMeter((2.0, 4.0, -3.0))
    assert meter.add(one_colored(RED), BOX, 1.0) == logistic(-3)
    assert meter.add(one_colored(RED), BOX, math.exp(-1)) == logistic(2 - 3)
    assert meter.add(one_colored(BLUE), BOX, 1.0) == logistic(2 * 0.5 ** (1 / 32) + 4 - 3)
    assert all(math.isnan(meter.add(one_colored(RED), None, math.nan)) for _ in range(30))
    assert meter.add(one_colored(RED), BOX, 1.0) == logistic(1 - 3)


def follow(weights, image_of, score_of, num_frames=16, box=BOX):
    """Return the track of a session whose every box is the middle of the image."""
    session = TrackingSession(
        ObjectPrompt(None if box else "it", box),
        width=32,
        height=32,
        options=TrackingOptions(doubt_weights=weights, score_calibration=[[0, 0], [0.5, 0.9], [1, 1]]),
    )
    for position in range(num_frames):
        session.feed(image_of(position), timestamp_s=position / 10)
    while (request := session.next_window(final=True)) is not None:
        parsed: list[ParsedBox] = [parse_box("[12,12,87,87]")] * len(request)
        session.accept(parsed, [score_of(frame) for frame in request.frame_indices])
    return session.track()


def test_a_track_that_changes_colour_is_doubted_from_there_on_and_its_boxes_and_scores_stay():
    track, without = (
        follow(weights, lambda t: one_colored(RED if t < 8 else BLUE), lambda t: 0.5) for weights in ([1, 6, -3], [])
    )
    assert track.doubt[0] == 0 and track.doubt[1] == logistic(math.log(2) - 3)
    assert (track.doubt >= 0.5).tolist() == [False] * 8 + [True] * 8
    assert track.switched_at_s == 0.8 and "may have switched at 0.8 s" in track.summary()
    assert np.isnan(without.doubt).all() and "switched" not in without.summary()
    np.testing.assert_array_equal(track.boxes_xyxy_px, without.boxes_xyxy_px)
    np.testing.assert_array_equal(track.scores, without.scores)


def test_an_object_that_words_found_has_no_doubt():
    assert np.isnan(follow([1, 6, -3], lambda t: one_colored(RED), lambda t: 0.5, box=None).doubt).all()


@pytest.mark.parametrize("weights", [[1, 2], [1, -2, 3], [1, 2, math.nan], [1, 2, True], "abc"])
def test_weights_that_are_no_doubt_are_refused(weights):
    with pytest.raises(ValueError, match="doubt_weights must be three finite numbers, the first two 0 or more, got"):
        TrackingOptions(doubt_weights=weights)
