"""Rewards of answers with boxes, by cases worked by hand."""

import math

import pytest

from elysium.processing.boxes_elysium import format_box, format_frames, parse_frames
from elysium.training.rewards import format_reward, iou_reward

# The boxes that [0,0,49,49] and [0,0,49,99] stand for with floor: centres of the bins.
SQUARE = (0.005, 0.005, 0.495, 0.495)
TALL = (0.005, 0.005, 0.495, 0.995)
# Their overlap is the square; the tall one is 0.99 / 0.49 times as high.
SHARED = 0.49 / 0.99
LEFT, RIGHT = (0.0, 0.0, 0.4, 1.0), (0.6, 0.0, 1.0, 1.0)


def said(text: str) -> list[dict]:
    """An answer as TRL gives it."""
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize(
    ("answer", "truth", "reward"),
    [
        ("Frame 1: [0,0,49,49], Frame 2: [0,0,49,99].", [SQUARE, TALL], 1.0),
        ("Frame 1: [0,0,49,49], Frame 2: [0,0,49,49].", [SQUARE, TALL], (1 + SHARED) / 2),
        ("Frame 1: [0,0,49,49]", [SQUARE, TALL], 0.5),  # a frame left out
        ("Frame 1: [0,0,49,49], Frame 2: [0,0,", [SQUARE, TALL], 0.5),  # one cut off
        ("Frame 1: [0,0,49,49], Frame 2: none.", [SQUARE, None], 1.0),
        ("Frame 1: [0,0,49,49], Frame 2: [0,0,0,0].", [SQUARE, None], 1.0),  # four zeros are read as none
        ("Frame 1: [0,0,49,49], Frame 2: [0,0,49,49].", [SQUARE, None], 0.5),  # a box where there is nothing
        ("Frame 1: [0,0,49,49].", [SQUARE, None], 0.5),  # silence does not say that it is gone
        ("Frame 1: none, Frame 2: none.", [SQUARE, TALL], 0.0),
        ("Frame 2: [0,0,49,49], Frame 1: [0,0,49,99].", [SQUARE, TALL], SHARED),
        ("[0,0,49,49]", [SQUARE], 1.0),
        (" It is at [0,0,49,99].", [SQUARE], SHARED),
        ("[49,49,0,0]", [SQUARE], 0.0),  # inverted
        ("[0,0,490,490]", [SQUARE], 0.0),  # out of range
        ("none", [SQUARE], 0.0),
        ("none", [None], 1.0),
        ("", [SQUARE], 0.0),
        ("", [None], 0.0),
        ("a red circle", [SQUARE, TALL], 0.0),
    ],
)
def test_the_overlap_is_averaged_over_the_frames_that_were_asked_for(answer, truth, reward) -> None:
    assert iou_reward([answer, said(answer)], [truth, truth]) == pytest.approx([reward, reward])


def test_a_box_beside_the_object_earns_nothing() -> None:
    assert iou_reward([format_box(LEFT)], [[RIGHT]]) == [0.0]


def test_boxes_are_read_with_the_rounding_that_they_were_written_with() -> None:
    box = (0.2, 0.2, 0.6, 0.6)
    assert iou_reward(["[20,20,60,60]"], [[box]], rounding="round") == pytest.approx([1.0])
    shifted = 0.395**2 / (2 * 0.16 - 0.395**2)  # floor reads 20 as 0.205
    assert iou_reward(["[20,20,60,60]"], [[box]]) == pytest.approx([shifted])
    # One bin twice is that bin with floor, and no box with round.
    bin_box = (0.2, 0.2, 0.21, 0.21)
    assert iou_reward(["[20,20,20,20]"], [[bin_box]]) == pytest.approx([1.0])
    assert iou_reward(["[20,20,20,20]"], [[bin_box]], rounding="round") == [0.0]


@pytest.mark.parametrize(
    ("answer", "num_frames", "complete"),
    [
        ("Frame 1: [1,2,3,4], Frame 2: none.", 2, True),
        (" Frame 1: [1,2,3,4], Frame 2: none", 2, True),
        ("Frame 1: [1,2,3,4].", 2, False),
        ("Frame 1: [1,2,3,4], Frame 2: [1,2,3,4], Frame 3: [1,2,3,4].", 2, False),
        ("Frame 2: [1,2,3,4], Frame 1: [1,2,3,4].", 2, False),
        ("Frame 1: [1,2,3,4], Frame 1: [1,2,3,4], Frame 2: none.", 2, False),
        ("Frame 1: [1,2,3,4], Frame 2: [3,4,1,2].", 2, False),
        ("Frame 1: [1,2,3,4], Frame 2: [1,2,3].", 2, False),
        ("It is here: Frame 1: [1,2,3,4], Frame 2: none.", 2, False),
        ("Frame 1: [1,2,3,4], Frame 2: none. Done.", 2, False),
        ("[1,2,3,4]", 1, True),
        ("none", 1, True),
        ("Frame 1: [1,2,3,4].", 1, True),
        ("[1,2,3,4] [1,2,3,4]", 1, False),
        ("[1,2,3,4]", 2, False),
        ("", 1, False),
    ],
)
def test_the_format_is_right_where_the_list_is_complete_and_alone(answer, num_frames, complete) -> None:
    truth = [None] * num_frames
    assert format_reward([answer, said(answer)], [truth, truth]) == [float(complete)] * 2


def test_the_format_does_not_look_at_where_the_boxes_lie() -> None:
    answer = format_frames([LEFT, None, RIGHT])
    truths = [[LEFT, None, RIGHT], [RIGHT, LEFT, None], [None, None, None]]
    assert format_reward([answer] * 3, truths) == [1.0, 1.0, 1.0]
    assert len(set(iou_reward([answer] * 3, truths))) == 3


@pytest.mark.parametrize("rounding", ["floor", "round"])
def test_what_training_writes_earns_the_format_and_nearly_the_whole_overlap(rounding) -> None:
    boxes = [(x / 20, x / 40, x / 20 + 0.31, x / 40 + 0.43) for x in range(12)] + [None]
    answer = format_frames(boxes, rounding=rounding)
    assert format_reward([answer], [boxes], rounding=rounding) == [1.0]
    (reward,) = iou_reward([answer], [boxes], rounding=rounding)
    assert 0.93 < reward < 1
    assert all(reading.readable for reading in parse_frames(answer, 13, rounding=rounding))


def test_rewards_take_what_else_trl_passes() -> None:
    extras = {"prompts": [[]], "completion_ids": [[1]], "images": [[]], "trainer_state": None, "log_metric": print}
    for reward in (iou_reward, format_reward):
        (value,) = reward(completions=[said("[0,0,49,49]")], boxes_xyxy_norm=[[SQUARE]], **extras)
        assert math.isclose(value, 1.0)


@pytest.mark.parametrize("reward", [iou_reward, format_reward])
def test_truth_that_does_not_fit_the_completions_is_refused(reward) -> None:
    with pytest.raises(ValueError, match="each completion must have its true boxes, got 2 completions and 1 lists"):
        reward(["[1,2,3,4]"] * 2, [[SQUARE]])
    with pytest.raises(ValueError, match="at least one frame, got an empty list"):
        reward(["[1,2,3,4]"], [[]])
