"""Planning of windows: no frames, no model."""

import pytest

from elysium.tracking.options import TrackingOptions
from elysium.tracking.windows import plan_window


def plan(options=None, *, next_unseen=0, num_waiting=100, final=False, last_seen=None, template=None, has_text=False):
    return plan_window(
        (options or TrackingOptions()).resolve(),
        next_unseen=next_unseen,
        num_waiting=num_waiting,
        final=final,
        last_seen=last_seen,
        template=template,
        has_text=has_text,
    )


def test_first_window_of_a_box_is_eight_unseen_frames_by_box():
    first = plan(template=0)
    assert (first.ask, first.positions) == ("box", tuple(range(8)))


def test_first_window_of_words_is_eight_unseen_frames_by_words():
    first = plan(has_text=True)
    assert (first.ask, first.positions) == ("text", tuple(range(8)))


def test_words_that_were_found_are_handed_on_as_a_box():
    second = plan(next_unseen=8, last_seen=7, has_text=True)
    assert (second.ask, second.positions) == ("box", (7, 8, 9, 10, 11, 12, 13, 14))


def test_last_seen_frame_opens_the_next_window_with_seven_unseen_frames():
    second = plan(next_unseen=8, last_seen=3, has_text=True)
    assert (second.ask, second.positions) == ("box", (3, 8, 9, 10, 11, 12, 13, 14))


def test_a_lost_object_whose_box_was_given_is_searched_for_from_the_first_frame():
    for words in (False, True):
        second = plan(next_unseen=8, last_seen=3, template=0, has_text=words)
        assert (second.ask, second.positions, second.is_search) == ("box", (0, 8, 9, 10, 11, 12, 13, 14), True)
    assert plan(next_unseen=8, last_seen=7, template=0).positions[0] == 7
    assert not plan(next_unseen=1, last_seen=0, template=0).is_search


@pytest.mark.parametrize(("frames_back", "ask"), [(1, "box"), (8, "box"), (9, "text"), (500, "text")])
def test_words_are_asked_again_when_the_object_was_seen_too_long_ago(frames_back, ask):
    later = plan(next_unseen=600, last_seen=600 - frames_back, has_text=True)
    assert later.ask == ask
    assert later.handed_on == (None if ask == "text" else 600 - frames_back)


def test_a_box_without_words_is_searched_for_from_the_first_frame_however_old():
    later = plan(next_unseen=600, last_seen=3, template=0)
    assert (later.ask, later.handed_on, later.num_unseen) == ("box", 0, 7)


def test_words_never_found_are_asked_in_every_window():
    later = plan(next_unseen=16, last_seen=None, has_text=True)
    assert (later.ask, later.positions) == ("text", tuple(range(16, 24)))


def test_reground_asks_by_words_in_every_window_and_still_overlaps_by_one():
    options = TrackingOptions(reground=True)
    assert plan(options, has_text=True).positions == tuple(range(8))
    second = plan(options, next_unseen=8, last_seen=7, has_text=True)
    assert (second.ask, second.positions) == ("text", tuple(range(7, 15)))


def test_a_window_waits_for_its_frames_until_the_stream_ends():
    assert plan(next_unseen=8, last_seen=7, template=0, num_waiting=6) is None
    assert plan(next_unseen=8, last_seen=7, template=0, num_waiting=6, final=True).positions == (7, *range(8, 14))


def test_no_window_is_planned_without_an_unseen_frame():
    assert plan(next_unseen=8, last_seen=7, template=0, num_waiting=0, final=True) is None
