"""The state machine of one object, with scripted answers instead of a model."""

import math
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elysium.processing.boxes_elysium import ParsedBox, parse_frames
from elysium.tracking.options import TrackingOptions
from elysium.tracking.session import ObjectPrompt, TrackingSession

WIDTH, HEIGHT = 20, 10
BOX = (1.0, 2.0, 9.0, 8.0)
IMAGE = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)


def true_box_norm(frame_idx):
    """A box that tells its frame: its left edge moves by 0.001 a frame."""
    return (0.1 + frame_idx / 1000, 0.2, 0.6 + frame_idx / 1000, 0.8)


def read(number, frame_idx, status):
    box = true_box_norm(frame_idx) if status == "ok" else None
    return ParsedBox(number, status, box_xyxy_norm=box)


def answer(request, statuses):
    """What a perfect model says of the window's frames, or the scripted status."""
    return [read(i + 1, frame, statuses.get(frame, "ok")) for i, frame in enumerate(request.frame_indices)]


def follow(session, num_frames, statuses=None):
    """Runs a session over `num_frames` frames; gives its windows and the finished frames in order."""
    requests, finished = [], []
    for position in range(num_frames):
        session.feed(IMAGE, timestamp_s=position / 10)
        step(session, False, statuses or {}, requests, finished)
    step(session, True, statuses or {}, requests, finished)
    return requests, finished


def step(session, final, statuses, requests, finished):
    while (request := session.next_window(final=final)) is not None:
        requests.append(request)
        finished += session.accept(answer(request, statuses), [0.5] * len(request))


def by_box(**kwargs):
    return TrackingSession(ObjectPrompt(box_xyxy_px=BOX), width=WIDTH, height=HEIGHT, **kwargs)


def by_words(**kwargs):
    return TrackingSession(ObjectPrompt("the cup"), width=WIDTH, height=HEIGHT, **kwargs)


@settings(max_examples=150, deadline=None)
@given(
    num_frames=st.integers(1, 60),
    window_frames=st.integers(2, 9),
    text_frames=st.integers(1, 9),
    reask_after=st.integers(1, 10),
    prompt=st.sampled_from(["box", "words", "both", "reground"]),
    statuses=st.dictionaries(st.integers(0, 59), st.sampled_from(["absent", "missing", "malformed"])),
)
def test_every_frame_is_finished_once_and_in_order_whatever_is_absent(
    num_frames, window_frames, text_frames, reask_after, prompt, statuses
):
    options = TrackingOptions(
        window_frames=window_frames,
        text_frames=text_frames,
        reask_after=reask_after,
        reground=prompt == "reground",
    )
    words = None if prompt == "box" else "the cup"
    box = BOX if prompt in ("box", "both") else None
    session = TrackingSession(ObjectPrompt(words, box), width=WIDTH, height=HEIGHT, options=options)
    requests, finished = follow(session, num_frames, statuses)

    assert [result.frame_idx for result in finished] == list(range(num_frames))
    unseen = 0
    for request in requests:
        assert len(request) <= (window_frames if request.text is None else min(text_frames, window_frames))
        new = [frame for frame in request.frame_indices if frame >= unseen]
        assert len(new) >= 1
        assert len(request) - len(new) <= 1
        unseen = max(request.frame_indices) + 1
        assert (request.box_xyxy_norm is None) == (request.task == "rsot")
        assert (request.text is None) == (request.task == "sot")
    for result in finished[1 if box else 0 :]:
        assert result.valid == (result.frame_idx not in statuses)
    if not statuses and text_frames >= window_frames:
        assert len(requests) == max(1, math.ceil((num_frames - 1) / (window_frames - 1)))


@pytest.mark.parametrize("num_frames", [1, 2, 7, 8, 9, 15, 16, 100])
@pytest.mark.parametrize("new_session", [by_box, by_words])
def test_window_count_without_absences_is_the_formula(num_frames, new_session):
    requests, _ = follow(new_session(), num_frames)
    assert len(requests) == max(1, math.ceil((num_frames - 1) / 7))


def test_frame_one_keeps_the_users_exact_box_with_full_score():
    _, finished = follow(by_box(), 3, {0: "absent"})
    assert (finished[0].box_xyxy_px, finished[0].score) == (BOX, 1.0)
    assert finished[1].box_xyxy_px == pytest.approx((2.02, 2.0, 12.02, 8.0))
    assert finished[1].score == 0.5


@pytest.mark.parametrize(
    ("raw", "expected"), [(0.1, 0.2), (0.2, 0.2), (0.3, 0.5), (0.4, 0.8), (0.6, 0.85), (0.8, 0.9), (1.0, 0.9)]
)
def test_a_calibration_maps_scores_by_straight_lines_and_beyond_its_ends_to_them(raw, expected):
    session = by_box(options=TrackingOptions(score_calibration=[[0.2, 0.2], [0.4, 0.8], [0.8, 0.9]]))
    for position in range(3):
        session.feed(IMAGE, timestamp_s=position / 10)
    request = session.next_window(final=True)
    given, found, absent = session.accept(answer(request, {2: "absent"}), [raw] * 3)
    assert (given.score, found.score) == (1.0, pytest.approx(expected))
    assert math.isnan(absent.score)


def test_one_frame_alone_is_a_valid_video():
    requests, finished = follow(by_words(), 1)
    assert [request.frame_indices for request in requests] == [(0,)]
    assert finished[0].box_xyxy_px == pytest.approx((2.0, 2.0, 12.0, 8.0))


def test_words_ground_the_first_window_and_boxes_carry_on():
    requests, _ = follow(by_words(), 16)
    assert [request.task for request in requests] == ["rsot", "sot", "sot"]
    assert requests[1].frame_indices[0] == 7
    assert requests[1].box_xyxy_norm == true_box_norm(7)


def test_earlier_window_keeps_its_box_where_two_windows_overlap():
    session = by_words()
    for position in range(9):
        session.feed(IMAGE, timestamp_s=position / 10)
    request = session.next_window()
    session.accept(answer(request, {}), [0.9] * 8)
    request = session.next_window(final=True)
    assert request.frame_indices == (7, 8)
    finished = session.accept([ParsedBox(1, "absent"), ParsedBox(2, "absent")], [0.1, 0.1])
    assert [result.frame_idx for result in finished] == [8]
    track = session.track()
    assert track.valid.tolist() == [True] * 8 + [False]
    assert track.scores[7] == 0.9


@pytest.mark.parametrize(("new_session", "handed_on"), [(by_words, 4), (by_box, 0)])
def test_a_window_that_ends_in_absence_hands_on_the_last_frame_seen_or_the_users(new_session, handed_on):
    requests, finished = follow(new_session(), 15, {5: "absent", 6: "absent", 7: "absent"})
    assert requests[1].frame_indices == (handed_on, 8, 9, 10, 11, 12, 13, 14)
    shown = true_box_norm(4) if new_session is by_words else (0.05, 0.2, 0.45, 0.8)
    assert requests[1].box_xyxy_norm == pytest.approx(shown)
    assert [result.reason for result in finished[4:9]] == [None, "absent", "absent", "absent", None]


def test_words_are_asked_again_after_a_long_absence():
    requests, _ = follow(by_words(), 40, dict.fromkeys(range(5, 30), "absent"))
    assert [request.task for request in requests] == ["rsot", "sot", "rsot", "rsot", "sot", "sot"]
    assert requests[1].frame_indices[0] == 4
    assert requests[2].frame_indices == tuple(range(15, 23))
    assert requests[4].frame_indices[0] == 30


@pytest.mark.parametrize("status", ["absent", "missing", "malformed"])
def test_a_box_without_words_is_searched_for_from_the_first_frame_until_it_is_back(status):
    requests, finished = follow(by_box(), 40, dict.fromkeys(range(5, 30), status))
    assert {request.task for request in requests} == {"sot"}
    assert [request.frame_indices[0] for request in requests] == [0, 0, 0, 0, 0, 35]
    assert finished[30].valid


def test_words_not_found_in_frame_one_are_asked_until_there_is_a_box():
    requests, finished = follow(by_words(), 24, dict.fromkeys(range(12), "absent"))
    assert [request.task for request in requests] == ["rsot", "rsot", "sot", "sot"]
    assert requests[1].frame_indices == tuple(range(8, 16))
    assert [result.valid for result in finished] == [False] * 12 + [True] * 12


def test_a_box_with_words_starts_by_box_and_is_found_again_by_words():
    session = TrackingSession(ObjectPrompt("the cup", BOX), width=WIDTH, height=HEIGHT)
    requests, _ = follow(session, 40, dict.fromkeys(range(3, 20), "absent"))
    assert [request.task for request in requests][:4] == ["sot", "sot", "rsot", "sot"]


def test_an_unreadable_answer_is_no_box_and_not_the_last_box():
    _, finished = follow(by_box(), 8, {3: "malformed", 4: "missing", 5: "absent"})
    assert [result.reason for result in finished[2:6]] == [None, "unreadable", "unreadable", "absent"]
    assert all(result.box_xyxy_px is None and math.isnan(result.score) for result in finished[3:6])


def test_none_is_unreadable_from_a_model_that_was_never_taught_it():
    _, finished = follow(by_box(allow_absent=False), 4, {2: "absent"})
    assert finished[2].reason == "unreadable"


def test_a_box_without_area_is_unreadable():
    session = by_words()
    session.feed(IMAGE, timestamp_s=0.0)
    session.next_window(final=True)
    (result,) = session.accept(parse_frames("Frame 1: [50,20,50,60].", 1, rounding="round"), [0.9])
    assert (result.valid, result.reason) == (False, "unreadable")


def test_a_question_stays_the_same_until_it_is_answered():
    session = by_box()
    session.feed(IMAGE, timestamp_s=0.0)
    request = session.next_window(final=True)
    session.feed(IMAGE, timestamp_s=0.1)
    assert session.next_window(final=True) is request


@pytest.mark.parametrize("statuses", [{}, dict.fromkeys(range(5, 100), "absent")])
def test_pictures_are_dropped_after_their_window_but_for_the_first_and_the_last_one_seen(statuses):
    session, alive = by_box(), []
    for position in range(100):
        image = IMAGE.copy()
        alive.append(weakref.ref(image))
        session.feed(image, timestamp_s=position / 10)
        del image
        step(session, False, statuses, [], [])
        held = [number for number, picture in enumerate(alive) if picture() is not None]
        assert len(held) <= session.num_waiting + 3


def test_track_at_half_time_holds_the_finished_frames():
    session = by_box(track_id=4)
    for position in range(11):
        session.feed(IMAGE, timestamp_s=position / 10, frame_idx=position * 2)
    request = session.next_window()
    session.accept(answer(request, {}), [0.5] * 8)
    track = session.track()
    assert track.track_id == 4
    assert track.frame_indices.tolist() == list(range(0, 16, 2))
    assert track.timestamps_s.tolist() == pytest.approx([i / 10 for i in range(8)])
    assert track.init_box_xyxy_px == BOX


def test_a_track_before_the_first_window_is_empty():
    assert len(by_box().track()) == 0


def test_accept_refuses_an_answer_of_another_length():
    session = by_box()
    session.feed(IMAGE, timestamp_s=0.0)
    session.next_window(final=True)
    with pytest.raises(ValueError, match="window of 1 frames must get as many boxes and scores, got 2 and 1"):
        session.accept([ParsedBox(1, "absent")] * 2, [0.5])


def test_accept_refuses_an_answer_without_a_question():
    with pytest.raises(RuntimeError, match="call next_window"):
        by_box().accept([], [])


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((8, 2, 4, 9), r"x1 < x2 and y1 < y2, got \(8, 2, 4, 9\); is it x,y,w,h\?"),
        ((2, 2, 22, 9), "must lie inside the 20x10 image"),
        ((-2, 2, 5, 9), "must lie inside the 20x10 image"),
        ((1, 2, 3), "must be four finite numbers"),
        ((1, 2, float("nan"), 5), "must be four finite numbers"),
    ],
)
def test_a_box_that_is_none_is_refused_with_rule_value_and_remedy(box, message):
    with pytest.raises(ValueError, match=message):
        TrackingSession(ObjectPrompt(box_xyxy_px=box), width=WIDTH, height=HEIGHT)


@pytest.mark.parametrize("text", ["", "  \n"])
def test_empty_words_are_refused(text):
    with pytest.raises(ValueError, match="text must be words, got"):
        ObjectPrompt(text)


def test_a_prompt_of_nothing_is_refused():
    with pytest.raises(ValueError, match="must have a text prompt or a box, got neither"):
        ObjectPrompt()


def test_reground_without_words_is_refused():
    with pytest.raises(ValueError, match="reground must have a text prompt"):
        by_box(options=TrackingOptions(reground=True))


def test_a_frame_of_another_size_is_refused():
    session = by_box()
    with pytest.raises(ValueError, match="every frame must be 20x10 RGB like the first"):
        session.feed(np.zeros((HEIGHT, WIDTH + 1, 3), dtype=np.uint8), timestamp_s=0.0)
