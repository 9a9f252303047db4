"""What is drawn from a row: tasks, frames and boxes together, questions and answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_processor

from elysium.processing.boxes_elysium import parse_box, parse_frames
from elysium.processing.prompts_elysium import TASKS
from elysium.readers.frame_sources import DatasetError
from elysium.readers.samples import Sample
from elysium.training.sampling import DrawPlan, draw_example, draw_frames, draw_rng, possible_tasks
from elysium.training.synthetic.synthetic_samples import ArrayFrames


def numbered_row(visible, *, text="the red square", description="a red square", turns=(), key="0"):
    """A row whose frame i holds the number i in every pixel, and whose box tells the frame too: x1 = i/100."""
    visible = np.asarray(visible, dtype=bool)
    frames = np.broadcast_to(np.arange(len(visible), dtype=np.uint8)[:, None, None, None], (len(visible), 8, 8, 3))
    boxes = np.stack([[i / 100 + 0.001, 0.1, 1.0, 0.5] for i in range(len(visible))])
    boxes[~visible] = np.nan
    return Sample(
        source="test",
        key=key,
        frames=ArrayFrames(frames),
        boxes_xyxy_norm=boxes,
        text=text,
        description=description,
        turns=turns,
    )


@settings(max_examples=200, deadline=None)
@given(
    visible=st.lists(st.booleans(), min_size=1, max_size=60).filter(any),
    task=st.sampled_from(["sot", "rsot", "video_reg", "rec", "reg"]),
    low=st.integers(2, 6),
    more=st.integers(0, 8),
    interval=st.integers(1, 60),
    seed=st.integers(0, 10_000),
    allow_absent=st.booleans(),
)
def test_frames_rise_evenly_stay_in_the_video_and_start_where_the_task_can(
    visible, task, low, more, interval, seed, allow_absent
):
    row = numbered_row(visible)
    plan = DrawPlan(min_frames=low, max_frames=low + more, max_interval=interval)
    frames = draw_frames(row, task, plan, draw_rng(seed, 0, "row"), allow_absent=allow_absent)
    usable = list(range(len(visible))) if allow_absent else np.flatnonzero(visible).tolist()
    assert set(frames) <= set(usable)
    if task in ("rec", "reg"):
        assert len(frames) == 1 and visible[frames[0]]
        return
    assert len(frames) <= low + more
    places = [usable.index(frame) for frame in frames]
    steps = set(np.diff(places).tolist())
    assert len(steps) <= 1 and all(1 <= step <= interval for step in steps)
    if task != "rsot":
        assert visible[frames[0]]


def test_every_length_and_interval_of_the_paper_is_drawn():
    row, plan = numbered_row([True] * 99), DrawPlan(min_frames=2, max_frames=8, max_interval=60)
    drawn = [draw_frames(row, "sot", plan, draw_rng(0, 0, str(n)), allow_absent=True) for n in range(600)]
    assert {len(frames) for frames in drawn} == set(range(2, 9))
    intervals = {frames[1] - frames[0] for frames in drawn}
    assert min(intervals) == 1 and max(intervals) > 50
    # Eight frames of 99 leave room for 98 // 7 = 14 between two.
    assert max(frames[1] - frames[0] for frames in drawn if len(frames) == 8) == 14


@pytest.mark.parametrize("task", ["sot", "rsot", "rec", "reg", "video_reg"])
def test_pictures_boxes_and_answer_are_of_the_same_frames(task):
    processor = tiny_processor()
    visible = [True] * 20
    visible[7] = False
    row = numbered_row(visible)
    example = draw_example(row, DrawPlan(tasks={task: 1.0}, share_other_phrasings=0.0), processor, seed=4)
    visual, words = (part.get("video", part.get("image", part.get("text"))) for part in example.messages[0]["content"])
    pictures = visual[None] if visual.ndim == 3 else visual
    frames = pictures[:, 0, 0, 0].tolist()
    answer = example.messages[1]["content"][0]["text"]
    if task in ("sot", "rsot"):
        for reading, frame in zip(parse_frames(answer, len(frames)), frames, strict=True):
            assert (reading.box_xyxy_bin[0] == frame) if frame != 7 else reading.absent
        assert answer.endswith(".")
    elif task == "rec":
        assert parse_box(answer).box_xyxy_bin[0] == frames[0] and not answer.endswith(".")
    else:
        assert answer == "a red square" + ("." if task == "video_reg" else "")
    if task in ("sot", "reg", "video_reg"):
        assert parse_box(words).box_xyxy_bin[0] == frames[0]
    assert example.boxes_xyxy_norm[0, 0] * 100 == pytest.approx(frames[0] + 0.1)


def test_an_object_that_leaves_is_answered_by_none_only_where_the_model_may_say_it():
    row = numbered_row([True, False, True, True])
    plan = DrawPlan(tasks={"sot": 1.0}, min_frames=4, max_frames=4, max_interval=1)
    with_none = draw_example(row, plan, tiny_processor()).messages[1]["content"][0]["text"]
    assert "Frame 2: none" in with_none
    for seed in range(20):
        plan = DrawPlan(tasks={"sot": 1.0, "rsot": 1.0}, min_frames=2, max_frames=4, max_interval=2)
        example = draw_example(row, plan, tiny_processor(allow_absent=False), seed=seed)
        assert "none" not in example.messages[1]["content"][0]["text"]


def test_the_same_row_gives_the_same_example_and_another_in_the_next_epoch():
    row, plan, processor = numbered_row([True] * 60), DrawPlan(), tiny_processor()
    texts = [repr(draw_example(row, plan, processor, epoch=epoch).messages) for epoch in (0, 0, 1, 2, 3)]
    assert texts[0] == texts[1] and len(set(texts)) == 4


def test_a_row_takes_part_in_what_it_can_teach():
    video, picture = numbered_row([True] * 9), numbered_row([True])
    assert set(possible_tasks(video)) == set(TASKS) - {"video_qa"}
    assert set(possible_tasks(picture)) == {"rec", "reg"}
    assert set(possible_tasks(numbered_row([True] * 3, text=None, description=None))) == {"sot"}
    with pytest.raises(DatasetError, match="must teach something"):
        possible_tasks(numbered_row([False, False]))
    with pytest.raises(DatasetError, match="must teach a task that is asked for, got only rec, reg"):
        draw_example(picture, DrawPlan(tasks={"sot": 1.0}), tiny_processor())


def test_turns_become_one_conversation_with_the_picture_before_the_first_question():
    row = Sample(
        source="test",
        key="qa",
        frames=ArrayFrames(np.zeros((30, 8, 8, 3), np.uint8)),
        turns=(("What is it?", "a cup"), ("Which colour?", "black")),
    )
    example = draw_example(row, DrawPlan(question_frames=5), tiny_processor())
    assert example.messages[0]["content"][0]["video"].shape[0] == 5
    assert [message["role"] for message in example.messages] == ["user", "assistant"] * 2
    assert example.messages[3]["content"] == [{"type": "text", "text": "black"}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": {"fly": 1.0}}, "weights above 0 of rec"),
        ({"tasks": {"sot": 0.0}}, "weights above 0 of rec"),
        ({"min_frames": 1}, "2 <= min <= max"),
        ({"min_frames": 9}, "2 <= min <= max"),
        ({"max_interval": 0}, "1 or more"),
        ({"share_other_phrasings": 2}, "in 0..1"),
    ],
    ids=str,
)
def test_a_plan_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DrawPlan(**options)
