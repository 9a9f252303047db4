"""The closer look: squares around boxes, the way of boxes into them and back, and tracking with them."""

import copy
import math
import weakref
from functools import cache

import numpy as np
import pytest
from seeing_model import SeeingModel, squares
from tiny import tiny_model as build_model
from tiny import tiny_processor as build_processor
from transformers import pipeline

from elysium.processing.boxes_elysium import ParsedBox, format_frames, parse_frames
from elysium.processing.overlap import paired_iou
from elysium.processing.structures import VideoClip
from elysium.tracking.answering import Answer
from elysium.tracking.options import TrackingOptions
from elysium.tracking.refinement import Crop
from elysium.tracking.run import TrackingRun
from elysium.tracking.session import ObjectPrompt, TrackingSession
from elysium.tracking.streams import open_stream
from elysium.tracking.tracker import Tracker

tiny_model, tiny_processor = cache(build_model), cache(build_processor)

WIDTH, HEIGHT = 640, 480
BOX = (300.0, 200.0, 308.0, 206.0)
STARTS = {"red": (2, 4), "green": (10, 28)}


def norm(box_xyxy_px, width=WIDTH, height=HEIGHT):
    return tuple(value / size for value, size in zip(box_xyxy_px, (width, height) * 2, strict=True))


def picture_with(box_xyxy_px):
    """A black picture with a white rectangle of whole pixels."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    x1, y1, x2, y2 = map(int, box_xyxy_px)
    picture[y1:y2, x1:x2] = 255
    return picture


def bright_box(picture):
    """The box around the bright pixels, in shares of the picture; None where there are none."""
    rows, columns = np.nonzero(picture[..., 0] > 127)
    if not len(rows):
        return None
    edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    return norm(edges, picture.shape[1], picture.shape[0])


# --- the square ---
def random_crops():
    """Random boxes in random pictures with the squares around them, which are smaller than the picture."""
    rng = np.random.default_rng(0)
    for _ in range(2000):
        width, height = rng.integers(64, 4000, 2).tolist()
        low = rng.uniform(0, 0.98, 2)
        high = np.minimum(1, low + np.exp(rng.uniform(np.log(1e-3), 0, 2)))
        box = (*low.tolist(), *high.tolist())
        crops = Crop.around([box], float(rng.uniform(1, 4)), width, height)
        if crops is not None:
            yield crops[0], box


def test_the_way_into_a_square_and_back_is_exact():
    rng = np.random.default_rng(1)
    crops = list(random_crops())
    assert len(crops) > 500
    for crop, box in crops:
        size = np.array([crop.width, crop.height] * 2)
        back = np.array(crop.to_image(crop.from_image(box)))
        assert np.abs((back - box) * size).max() < 1e-6
        inside = rng.random(4)
        assert np.abs(np.array(crop.from_image(crop.to_image(tuple(inside)))) - inside).max() * crop.side < 1e-6


def test_the_box_lies_whole_in_its_square_which_is_smaller_than_the_picture():
    for crop, box in random_crops():
        shown = crop.from_image(box)
        assert min(shown) >= 0
        assert max(shown) <= 1
        assert crop.side**2 <= crop.width * crop.height + 2 * crop.side


@pytest.mark.parametrize(
    ("size", "zoom", "side"),
    [
        ((40, 40), 2, 80),
        ((80, 20), 2, 112),  # 1.4 of the longer side
        ((80, 45), 2, 120),
        ((45, 80), 3, 180),
        ((4, 3), 2, 16),  # the least
    ],
)
def test_the_side_is_by_area_with_room_for_long_boxes(size, zoom, side):
    box = norm((200, 200, 200 + size[0], 200 + size[1]))
    assert Crop.around([box], zoom, WIDTH, HEIGHT)[0].side == side


def test_a_box_as_large_as_the_picture_gets_no_square():
    assert Crop.around([(0.0, 0.0, 1.0, 1.0)], 1, WIDTH, HEIGHT) is None
    assert Crop.around([(0.2, 0.2, 0.8, 0.8)], 2, WIDTH, HEIGHT) is None


def test_an_object_is_where_it_should_be_in_the_square():
    box = (100, 60, 120, 80)
    (crop,) = Crop.around([norm(box)], 2, WIDTH, HEIGHT)
    assert crop == Crop(90, 50, 40, WIDTH, HEIGHT)
    shown = crop.cut(picture_with(box))
    assert shown.shape == (40, 40, 3)
    assert bright_box(shown) == (0.25, 0.25, 0.75, 0.75)
    assert crop.from_image(norm(box)) == pytest.approx((0.25, 0.25, 0.75, 0.75))


@pytest.mark.parametrize(("left", "top"), [(-7, -9), (-7, 300), (620, -30), (615, 455), (250, 100)])
def test_beyond_the_picture_its_edge_goes_on(left, top):
    picture = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    padded = np.pad(picture, ((60, 60), (60, 60), (0, 0)), mode="edge")
    cut = Crop(left, top, 50, WIDTH, HEIGHT).cut(picture)
    np.testing.assert_array_equal(cut, padded[top + 60 : top + 110, left + 60 : left + 110])


def test_an_answer_is_clipped_to_the_picture():
    crop = Crop(-20, 440, 80, WIDTH, HEIGHT)
    found = crop.parsed_in_image(ParsedBox(1, "ok", (0.1, 0.25, 0.5, 0.75)))
    assert found.status == "ok"
    assert np.array(found.box_xyxy_norm) * ([WIDTH, HEIGHT] * 2) == pytest.approx([0, 460, 20, 480])


@pytest.mark.parametrize("box", [(0.1, 0.1, 0.25, 0.4), (0.3, 0.6, 0.9, 0.9), (0.1, 0.3, 0.25 + 1e-9, 0.4)])
def test_an_answer_beyond_the_picture_is_empty(box):
    found = Crop(-20, 440, 80, WIDTH, HEIGHT).parsed_in_image(ParsedBox(1, "ok", box))
    assert (found.status, found.box_xyxy_norm) == ("empty", None)


def test_what_is_no_box_stays_as_it_was_read():
    reading = ParsedBox(2, "absent", text="none")
    assert Crop(0, 0, 80, WIDTH, HEIGHT).parsed_in_image(reading) is reading


# --- a session: which windows are cut ---
def session(prompt=None, **options):
    options = TrackingOptions(**({"zoom": 4.0} | options))
    return TrackingSession(prompt or ObjectPrompt(box_xyxy_px=BOX), width=WIDTH, height=HEIGHT, options=options)


def follow(tracked, pictures, hidden=()):
    """A model that is right in whole percent of what it is shown; gives the windows that it was asked."""
    requests = []
    for position, picture in enumerate(pictures):
        tracked.feed(picture, timestamp_s=position / 10)
        final = position == len(pictures) - 1
        while (request := tracked.next_window(final=final)) is not None:
            requests.append(request)
            shown = zip(request.images, request.frame_indices, strict=True)
            boxes = [None if frame in hidden else bright_box(image) for image, frame in shown]
            tracked.accept(parse_frames(format_frames(boxes), len(request)), [0.5] * len(request))
    return requests


def moving(num_frames):
    """Pictures with a white rectangle of 8 x 6 pixels that moves by a pixel a frame, and its boxes (T, 4)."""
    boxes = np.array([np.array(BOX) + [i, -i, i, -i] for i in range(num_frames)])
    return [picture_with(box) for box in boxes], boxes


def test_a_tiny_object_is_followed_far_finer_than_in_whole_frames():
    pictures, boxes = moving(40)
    errors, overlaps = {}, {}
    for zoom in (0, 4.0):
        tracked = session(zoom=zoom)
        follow(tracked, pictures)
        found = tracked.track().boxes_xyxy_px
        errors[zoom] = np.abs(found - boxes)[1:].max()
        overlaps[zoom] = paired_iou(found, boxes)[1:].mean()
    # Half a percent of 640 pixels, and of a square of 28 pixels.
    assert 2 < errors[0] < 3.3
    assert errors[4.0] < 0.2
    assert overlaps[0] < 0.6
    assert overlaps[4.0] > 0.94


def middle_of(crop):
    return (crop.left + crop.side / 2, crop.top + crop.side / 2)


def test_each_window_is_looked_at_in_a_wide_square_and_then_in_one_around_each_box():
    pictures, boxes = moving(15)
    wide, closer, wide_again, _ = follow(session(), pictures)
    assert [request.pass_number for request in (wide, closer, wide_again)] == [1, 2, 1]
    assert set(wide.crops) == set(Crop.around([norm(BOX)], 12.0, WIDTH, HEIGHT))
    assert {image.shape for image in closer.images} == {(closer.crops[0].side, closer.crops[0].side, 3)}
    assert closer.crops[0].side == pytest.approx(28, abs=1)
    assert closer.box_xyxy_norm == closer.crops[0].from_image(norm(BOX))
    for crop, box in zip(closer.crops, boxes, strict=False):
        assert middle_of(crop) == pytest.approx(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), abs=1.5)
    assert wide_again.frame_indices[0] == 7
    assert middle_of(wide_again.crops[0]) == pytest.approx((boxes[7, [0, 2]].mean(), boxes[7, [1, 3]].mean()), abs=1)


def test_later_refinement_passes_open_with_the_frame_whose_box_the_user_gave_and_finish_the_frames_of_the_window():
    pictures, boxes = moving(22)
    tracked = session()
    requests = follow(tracked, pictures)
    assert kinds(requests) == [
        (0, "sot", 1, True),
        (0, "sot", 2, True),
        (7, "sot", 1, True),
        (0, "sot", 2, True),
        (14, "sot", 1, True),
        (0, "sot", 2, True),
    ]
    for request in requests[1::2]:
        opening = request.crops[0]
        assert middle_of(opening) == pytest.approx(((BOX[0] + BOX[2]) / 2, (BOX[1] + BOX[3]) / 2), abs=1)
        assert request.box_xyxy_norm == opening.from_image(norm(BOX))
        np.testing.assert_array_equal(request.images[0], opening.cut(pictures[0]))
        assert len({crop.side for crop in request.crops}) == 1
    assert [request.frame_indices[1:] for request in requests[1::2]] == [
        tuple(range(first, first + 7)) for first in (1, 8, 15)
    ]
    np.testing.assert_allclose(tracked.track().boxes_xyxy_px, boxes, atol=0.3)


def answer(tracked, boxes_xyxy_norm, scores=None):
    count = len(boxes_xyxy_norm)
    return tracked.accept(parse_frames(format_frames(boxes_xyxy_norm), count), scores or [0.5] * count)


@pytest.mark.parametrize("words", [None, "the white thing"])
def test_a_look_that_finds_the_object_beside_its_squares_is_followed_by_one_around_what_it_found(words):
    pictures, boxes = moving(4)
    tracked = session(ObjectPrompt(words) if words else None)
    for position, picture in enumerate(pictures):
        tracked.feed(picture, timestamp_s=position / 10)
    first = tracked.next_window(final=True)
    beside = [norm(box + [12, 0, 12, 0]) for box in boxes]  # half of the object is in a square around these
    if words:
        said = [norm(boxes[0]), *beside[1:]]
    else:
        said = [crop.from_image(box) for crop, box in zip(first.crops, beside, strict=True)]
    assert answer(tracked, said) == []
    second = tracked.next_window(final=True)
    seen = [bright_box(image) for image in second.images]
    assert [
        middle_of(crop)[0] - box[0] for crop, box in zip(second.crops[1:], boxes[1:], strict=True)
    ] == pytest.approx([16] * 3, abs=3.5)
    assert answer(tracked, seen, [0.1, 0.2, 0.3, 0.4]) == []
    assert (tracked.num_windows, tracked.num_finished) == (0, 0)
    third = tracked.next_window(final=True)
    assert (first.pass_number, second.pass_number, third.pass_number) == (1, 2, 3)
    assert third.frame_indices == (0, 1, 2, 3)
    for crop, before, box in zip(third.crops[1:], second.crops[1:], boxes[1:], strict=True):
        away, before_away = (abs(middle_of(one)[0] - (box[0] + box[2]) / 2) for one in (crop, before))
        assert away < 0.4 * before_away
    finished = answer(tracked, [bright_box(image) for image in third.images], [0.5, 0.6, 0.7, 0.8])
    assert [frame.score for frame in finished] == [0.5 if words else 1.0, 0.6, 0.7, 0.8]
    np.testing.assert_allclose([frame.box_xyxy_px for frame in finished[1:]], boxes[1:], atol=0.3)
    assert tracked.num_windows == 1


def test_there_are_three_passes_over_a_window_at_most():
    tracked = session()
    for position, picture in enumerate(moving(2)[0]):
        tracked.feed(picture, timestamp_s=position / 10)
    for number in (1, 2, 3):
        request = tracked.next_window(final=True)
        assert request.pass_number == number
        finished = answer(tracked, [request.box_xyxy_norm, (0.0, 0.0, 0.2, 0.2)])  # never where it was shown
    assert len(finished) == 2
    assert tracked.next_window(final=True) is None


def test_an_object_that_fills_the_picture_is_looked_at_once():
    tracked = session(ObjectPrompt(box_xyxy_px=(50, 40, 600, 440)), zoom=2.0)
    requests = follow(tracked, [picture_with((50, 40, 600, 440))] * 9)
    assert [(request.pass_number, set(request.crops)) for request in requests] == [(1, {None})] * 2
    assert tracked.num_finished == 9


def test_a_frame_without_a_box_is_looked_at_where_the_object_was_and_keeps_the_second_answer():
    pictures, boxes = moving(4)
    tracked = session()
    for position, picture in enumerate(pictures):
        tracked.feed(picture, timestamp_s=position / 10)
    first = tracked.next_window(final=True)
    shown = [bright_box(image) for image in first.images]
    assert tracked.accept(parse_frames(format_frames([*shown[:2], None, shown[3]]), 4), [0.5] * 4) == []
    assert (tracked.num_windows, tracked.num_finished) == (0, 0)
    closer = tracked.next_window(final=True)
    assert middle_of(closer.crops[2]) == middle_of(closer.crops[1])
    shown = [bright_box(image) for image in closer.images]
    finished = tracked.accept(parse_frames(format_frames([*shown[:3], None]), 4), [0.1, 0.2, 0.3, 0.4])
    assert [frame.reason for frame in finished] == [None, None, None, "absent"]
    assert [frame.score for frame in finished[:3]] == [1.0, 0.2, 0.3]
    np.testing.assert_allclose([frame.box_xyxy_px for frame in finished[:3]], boxes[:3], atol=0.3)
    assert tracked.num_windows == 1


def test_without_zoom_the_frames_are_shown_as_they_are():
    pictures, _ = moving(15)
    requests = follow(session(zoom=0), pictures)
    for request in requests:
        assert not any(request.crops)
        assert all(
            image is pictures[frame] for image, frame in zip(request.images, request.frame_indices, strict=True)
        )
    assert requests[0].box_xyxy_norm == norm(BOX)


def kinds(requests):
    return [(request.frame_indices[0], request.task, request.pass_number, any(request.crops)) for request in requests]


def test_words_that_are_asked_in_one_frame_are_asked_of_a_crop_of_it_and_tracked_from_there():
    pictures, boxes = moving(9)
    tracked = session(ObjectPrompt("the white thing"), text_frames=1)
    requests = follow(tracked, pictures, hidden=range(1))
    assert kinds(requests)[:5] == [
        (0, "rsot", 1, False),
        (1, "rsot", 1, False),
        (1, "rsot", 2, True),
        (1, "rsot", 3, True),  # whole percent of the picture were too coarse for 8 x 6 pixels
        (1, "sot", 1, True),
    ]
    assert all(len(request) == 1 for request in requests[:4])
    track = tracked.track()
    assert track.valid.tolist() == [False] + [True] * 8
    assert paired_iou(track.boxes_xyxy_px[1:], np.array(boxes[1:])).min() > 0.9


def test_a_closer_look_by_words_that_cannot_be_read_leaves_the_find_as_it_was():
    pictures, boxes = moving(3)
    tracked = session(ObjectPrompt("the white thing"), text_frames=1)
    tracked.feed(pictures[0], timestamp_s=0.0)
    tracked.next_window()
    assert not tracked.accept(parse_frames(format_frames([norm(boxes[0])]), 1), [0.5])
    assert tracked.next_window().pass_number == 2
    (frame,) = tracked.accept(parse_frames("Frame 1: [9,", 1), [0.1])
    assert frame.valid and frame.score == 0.5


def test_the_last_frame_alone_is_looked_at_by_words_once_where_windows_have_more():
    pictures, _ = moving(9)
    requests = follow(session(ObjectPrompt("the white thing")), pictures, hidden=range(8))
    assert [request.task for request in requests if request.frame_indices == (8,)] == ["rsot"]


def test_words_look_at_whole_frames_first_and_closer_from_the_first_box_on():
    pictures, boxes = moving(22)
    tracked = session(ObjectPrompt("the white thing"))
    requests = follow(tracked, pictures, hidden=range(5))
    assert kinds(requests) == [
        (0, "rsot", 1, False),
        (5, "sot", 2, True),
        (7, "sot", 1, True),
        (7, "sot", 2, True),
        (14, "sot", 1, True),
        (14, "sot", 2, True),
    ]
    # The first box is that of the whole frame, in whole percent; those behind it are of squares.
    errors = np.abs(tracked.track().boxes_xyxy_px - boxes)[5:].max(axis=1)
    assert errors[0] > 1
    assert errors[1:].max() < 0.3


def test_words_in_every_window_are_looked_at_closer_too():
    pictures, _ = moving(15)
    requests = follow(session(ObjectPrompt("the white thing"), reground=True), pictures)
    assert kinds(requests) == [
        (0, "rsot", 1, False),
        (0, "sot", 2, True),
        (0, "sot", 3, True),  # whole percent of the picture were too coarse for 8 x 6 pixels
        (7, "rsot", 1, False),
        (7, "sot", 2, True),
        (7, "sot", 3, True),
    ]


@pytest.mark.parametrize("words", [None, "the white thing"])
def test_a_lost_object_is_searched_for_near_its_last_box_and_then_in_whole_frames(words):
    pictures, boxes = moving(50)
    hidden = range(6, 24)
    tracked = session(ObjectPrompt(words, BOX))
    requests = follow(tracked, pictures, hidden)
    firsts = [request for request in requests if request.pass_number == 1]
    near, whole = (0, "sot", True), (0, "sot", False)
    expected = [near, near]  # whole frames follow when it was seen more than `reask_after` frames ago
    # Found again in frame 24: by the crops, since it has moved little; from then on it is near its last box.
    expected += [(15, "rsot", False), (23, "rsot", False)] if words else [near, whole, near]
    got = [(request.frame_indices[0], request.task, any(request.crops)) for request in firsts]
    assert got[: len(expected)] == expected
    assert all(cut for _, _, cut in got[len(expected) :])
    search = firsts[1]
    assert search.box_xyxy_norm == search.crops[0].from_image(norm(BOX))
    np.testing.assert_array_equal(search.images[0], search.crops[0].cut(pictures[0]))
    assert middle_of(search.crops[1]) == pytest.approx((boxes[5, [0, 2]].mean(), boxes[5, [1, 3]].mean()), abs=1)
    if not words:  # what was not found is not refined
        assert [request.pass_number for request in requests[2:5]] == [1, 1, 1]
    if not words:
        assert firsts[3].box_xyxy_norm == norm(BOX)
    assert [i for i, valid in enumerate(tracked.track().valid) if not valid] == list(hidden)


def test_a_lost_object_that_is_back_far_away_is_found_in_whole_frames():
    far = np.array([20, 400, 40, 420])
    pictures = [picture_with(BOX)] * 8 + [picture_with(BOX)] * 7 + [picture_with(far)] * 15
    tracked = session()
    requests = follow(tracked, pictures, hidden=range(5, 15))
    assert [request.frame_indices[:2] for request in requests if not any(request.crops)] == [(0, 15)]
    track = tracked.track()
    assert track.valid[15:].all() and not track.valid[5:15].any()
    np.testing.assert_allclose(track.boxes_xyxy_px[15:], np.tile(far, (15, 1)), atol=0.5)


def test_an_object_at_the_edge_is_followed_although_the_square_leaves_the_picture():
    boxes = [(0, 470, 12 + i, 480) for i in range(10)]
    tracked = session(ObjectPrompt(box_xyxy_px=boxes[0]))
    requests = follow(tracked, [picture_with(box) for box in boxes])
    assert requests[1].crops[0].left < 0
    assert requests[1].crops[0].top + requests[1].crops[0].side > HEIGHT
    np.testing.assert_allclose(tracked.track().boxes_xyxy_px, boxes, atol=0.3)


def test_an_answer_beyond_the_edge_is_unreadable():
    tracked = session(ObjectPrompt(box_xyxy_px=(0, 0, 10, 10)), zoom=2.0)
    for position in range(2):
        tracked.feed(picture_with(BOX), timestamp_s=position / 10)
    request = tracked.next_window(final=True)
    tracked.accept(parse_frames(format_frames([request.box_xyxy_norm] * 2), 2), [0.5, 0.5])
    crop = tracked.next_window(final=True).crops[0]
    assert max(crop.left, crop.top) < -4
    _, second = tracked.accept(parse_frames("Frame 1: [25,25,75,75], Frame 2: [2,25,20,75].", 2), [0.5, 0.5])
    assert (second.box_xyxy_px, second.reason) == (None, "unreadable")
    assert math.isnan(second.score)


def test_pictures_are_dropped_after_their_window():
    tracked, alive = session(), []
    for position in range(100):
        picture = picture_with(BOX)
        alive.append(weakref.ref(picture))
        tracked.feed(picture, timestamp_s=position / 10)
        del picture
        while (request := tracked.next_window()) is not None:
            answer = format_frames([(0.3, 0.3, 0.7, 0.7)] * len(request))
            tracked.accept(parse_frames(answer, len(request)), [0.5] * 8)
        assert sum(ref() is not None for ref in alive) <= tracked.num_waiting + 2


# --- a tracker: with a model that sees coloured squares, and with the tiny random model ---
def seeing_tracker():
    return Tracker(SeeingModel(tiny_model(), tiny_processor()), tiny_processor())


def slow_squares(num_frames):
    """Squares that stay in a square of twice their side for a window."""
    return squares(num_frames, STARTS, step=1)


def same(track, other):
    np.testing.assert_array_equal(track.boxes_xyxy_px, other.boxes_xyxy_px)
    np.testing.assert_array_equal(track.scores, other.scores)
    assert track.reasons == other.reasons


@pytest.mark.parametrize("prompt", [{"text": ["red", "green"]}, {"box_xyxy_px": [(2, 4, 18, 20), (10, 28, 26, 44)]}])
def test_several_objects_are_zoomed_each_on_its_own_and_answered_together(prompt):
    frames, boxes = slow_squares(22)
    tracker = seeing_tracker()
    run = tracker.iter_track(frames, **prompt, fps=10, zoom=2)
    windows = list(run)
    assert [len(questions) for questions in tracker.model.batches] == [2] * 6
    assert [window.track_id for window in windows] == [1, 2] * 3
    assert all(window.frames and all(window.crops) for window in windows)
    assert windows[2].crops != windows[3].crops
    for track, colour in zip(run.result().tracks, ("red", "green"), strict=True):
        assert paired_iou(track.boxes_xyxy_px, boxes[colour]).min() > 0.8


def test_without_a_factor_it_is_the_checkpoints_and_nought_makes_one_pass():
    frames, box = slow_squares(22)[0], (2, 4, 18, 20)
    asking = copy.copy(tiny_processor())
    asking.tracking = {"zoom": 2}
    asked = Tracker(SeeingModel(tiny_model(), asking), asking)
    once, twice = (seeing_tracker().track(frames, box_xyxy_px=box, fps=10, zoom=zoom).tracks[0] for zoom in (0, 2))
    assert not np.array_equal(once.boxes_xyxy_px, twice.boxes_xyxy_px)
    same(asked.track(frames, box_xyxy_px=box, fps=10).tracks[0], twice)
    same(asked.track_many([(frames, box)], fps=10)[0].tracks[0], twice)
    same(asked.track(frames, box_xyxy_px=box, fps=10, zoom=0).tracks[0], once)
    same(asked.track_many([(frames, box)], fps=10, zoom=0)[0].tracks[0], once)
    same(seeing_tracker().track(frames, box_xyxy_px=box, fps=10).tracks[0], once)


def test_the_score_stays_the_probability_of_the_coordinate_tokens():
    frames, _ = slow_squares(22)
    (track,) = seeing_tracker().track(frames, "red", fps=10, zoom=2).tracks
    np.testing.assert_allclose(track.scores, 0.9, rtol=2e-3)


def test_many_videos_are_zoomed_as_one_by_one():
    items = [(slow_squares(n)[0], prompt) for n, prompt in [(9, "red"), (22, (2, 4, 18, 20))]]
    results = seeing_tracker().track_many(items, fps=10, zoom=2)
    for (frames, prompt), result in zip(items, results, strict=True):
        words = {"text": prompt} if isinstance(prompt, str) else {"box_xyxy_px": prompt}
        same(result.tracks[0], seeing_tracker().track(frames, fps=10, zoom=2, **words).tracks[0])
        assert not np.array_equal(
            result.tracks[0].boxes_xyxy_px, seeing_tracker().track(frames, fps=10, **words).tracks[0].boxes_xyxy_px
        )


@pytest.mark.parametrize("prompt", [{"text": "a dog"}, {"box_xyxy_px": (3, 4, 20, 30)}])
def test_whatever_a_random_model_says_in_a_square_has_a_box_in_the_picture_or_a_reason(prompt):
    frames = np.random.default_rng(0).integers(0, 255, (10, 48, 64, 3), dtype=np.uint8)
    (track,) = Tracker(tiny_model(), tiny_processor()).track(frames, fps=10, zoom=1.5, **prompt).tracks
    assert len(track) == 10
    assert all(valid or reason for valid, reason in zip(track.valid, track.reasons, strict=True))


def test_the_pipeline_takes_the_factor():
    frames = np.random.default_rng(0).integers(0, 255, (3, 48, 64, 3), dtype=np.uint8)
    clip, box = VideoClip.from_frames(frames, fps=10), (3, 4, 20, 30)
    tracking = pipeline("object-tracking", model=tiny_model(), processor=tiny_processor())
    expected = Tracker(tiny_model(), tiny_processor()).track(clip, box_xyxy_px=box, zoom=2)
    assert tracking(clip, box_xyxy_px=box, zoom=2) == expected.to_dict()["tracks"]


class StillAnswerer:
    """Says of every frame that the object is where it was."""

    def answer_windows(self, requests):
        for request in requests:
            readings = [ParsedBox(i + 1, "ok", request.box_xyxy_norm) for i in range(len(request))]
            yield Answer("", (), np.zeros(0)), readings, [0.5] * len(request)


def test_a_still_object_stays_in_its_square_for_a_thousand_frames():
    stream = open_stream(iter([picture_with(BOX)] * 1000), fps=10)
    tracked = session()
    run = TrackingRun(StillAnswerer(), stream, [tracked], model="still")
    crops = {crop for window in run for crop in window.crops}
    assert len(crops) == 1
    np.testing.assert_allclose(tracked.track().boxes_xyxy_px, [BOX] * 1000, atol=1e-6)
