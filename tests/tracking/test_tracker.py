"""From videos to boxes: with a model that sees coloured squares, and with the tiny random model."""

import weakref
from functools import cache

import numpy as np
import pytest
from PIL import Image
from seeing_model import SeeingModel, squares
from tiny import tiny_model as build_model
from tiny import tiny_processor as build_processor

from elysium.processing.boxes_elysium import ParsedBox
from elysium.processing.structures import VideoClip, load_tracking_result
from elysium.processing.video_io import VideoWriter
from elysium.tracking.answering import Answer
from elysium.tracking.options import TrackingOptions
from elysium.tracking.run import TrackingRun
from elysium.tracking.session import ObjectPrompt, TrackingSession
from elysium.tracking.streams import open_stream
from elysium.tracking.tracker import Tracker, object_prompts

tiny_model, tiny_processor = cache(build_model), cache(build_processor)

STARTS = {"red": (2, 4), "green": (10, 28)}


def seeing_tracker(*, batch_size=8, **options):
    return Tracker(SeeingModel(tiny_model(), tiny_processor(), **options), tiny_processor(), batch_size=batch_size)


def random_tracker(**options):
    return Tracker(tiny_model(), tiny_processor(), **options)


def iou(box, other):
    x1, y1 = np.maximum(box[:2], other[:2])
    x2, y2 = np.minimum(box[2:], other[2:])
    overlap = max(0, x2 - x1) * max(0, y2 - y1)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
    return overlap / (sum(areas) - overlap)


def assert_follows(track, true_boxes):
    """Every visible frame has a box near the true one, every hidden frame none."""
    assert track.valid.tolist() == (~np.isnan(true_boxes[:, 0])).tolist()
    for box, true_box in zip(track.boxes_xyxy_px[track.valid], true_boxes[track.valid], strict=True):
        assert iou(box, true_box) > 0.7


def same(track, other):
    np.testing.assert_array_equal(track.boxes_xyxy_px, other.boxes_xyxy_px)
    np.testing.assert_allclose(track.scores, other.scores, atol=1e-5)
    assert track.reasons == other.reasons
    return True


# --- right answers arrive at the right frames ---
@pytest.mark.parametrize("num_frames", [1, 2, 8, 9, 30])
def test_words_follow_their_object_through_every_frame(num_frames):
    frames, boxes = squares(num_frames, STARTS)
    result = seeing_tracker().track(frames, "the red square", fps=10)
    assert result.complete
    assert result.tracks[0].frame_indices.tolist() == list(range(num_frames))
    assert_follows(result.tracks[0], boxes["red"])


@pytest.mark.parametrize("num_frames", [1, 2, 9, 30])
def test_a_box_follows_its_object_and_stays_exact_in_frame_one(num_frames):
    frames, boxes = squares(num_frames, STARTS)
    exact = (10.25, 28.5, 25.75, 43.0)
    (track,) = seeing_tracker().track(frames, box_xyxy_px=exact, fps=10).tracks
    assert tuple(track.boxes_xyxy_px[0]) == exact
    assert track.init_box_xyxy_px == exact
    assert_follows(track, boxes["green"])


def test_several_objects_share_each_call_of_the_model():
    frames, boxes = squares(22, STARTS)
    tracker = seeing_tracker()
    result = tracker.track(frames, ["the red square", "green"], fps=10)
    assert [track.track_id for track in result.tracks] == [1, 2]
    assert [track.text for track in result.tracks] == ["the red square", "green"]
    for track, colour in zip(result.tracks, ("red", "green"), strict=True):
        assert_follows(track, boxes[colour])
    assert [len(questions) for questions in tracker.model.batches] == [2, 2, 2]


def test_several_boxes_are_several_objects():
    frames, boxes = squares(10, STARTS)
    result = seeing_tracker().track(frames, box_xyxy_px=[(2, 4, 18, 20), (10, 28, 26, 44)], fps=10)
    for track, colour in zip(result.tracks, ("red", "green"), strict=True):
        assert_follows(track, boxes[colour])


def test_batch_size_bounds_each_call_of_the_model():
    frames, _ = squares(8, STARTS)
    tracker = seeing_tracker(batch_size=2)
    tracker.track(frames, ["red", "green", "blue"], fps=10)
    assert [len(questions) for questions in tracker.model.batches] == [2, 1]


@pytest.mark.parametrize("hidden", [range(5, 12), range(3, 33), range(0, 20), range(30, 40)])
def test_an_object_out_of_sight_has_no_box_and_is_found_again_by_words(hidden):
    frames, boxes = squares(40, STARTS, hidden=hidden)
    (track,) = seeing_tracker().track(frames, "the red square", fps=10).tracks
    assert_follows(track, boxes["red"])
    assert {track.reasons[frame] for frame in hidden} == {"absent"}


def test_a_box_whose_object_was_long_out_of_sight_is_found_by_its_last_box():
    frames, boxes = squares(40, STARTS, hidden=range(3, 33))
    (track,) = seeing_tracker().track(frames, box_xyxy_px=(2, 4, 18, 20), fps=10).tracks
    assert_follows(track, boxes["red"])


def test_objects_that_are_never_seen_end_without_a_box():
    frames, _ = squares(20, STARTS)
    (track,) = seeing_tracker().track(frames, "the blue square", fps=10).tracks
    assert not track.valid.any()
    assert set(track.reasons) == {"absent"}
    assert np.isnan(track.scores).all()


def test_none_is_unreadable_where_the_config_does_not_allow_it(monkeypatch):
    frames, _ = squares(4, STARTS, hidden=[2])
    tracker = seeing_tracker()
    monkeypatch.setattr(tracker.model.config, "allow_absent", False)
    (track,) = tracker.track(frames, "red", fps=10).tracks
    assert track.reasons == [None, None, "unreadable", None]


@pytest.mark.parametrize("probability", [0.5, 0.9])
def test_the_score_is_the_probability_of_the_coordinate_tokens(probability):
    frames, _ = squares(8, STARTS)
    (track,) = seeing_tracker(probability=probability).track(frames, "red", fps=10).tracks
    # What is left is spread over all tokens; a little of it lies on the integers next to those that are said.
    assert (track.scores >= probability).all()
    np.testing.assert_allclose(track.scores, probability, rtol=2e-3)


def test_windows_ask_by_words_once_and_then_by_box():
    frames, _ = squares(22, STARTS)
    windows = list(seeing_tracker().iter_track(frames, "red", fps=10))
    assert [window.task for window in windows] == ["rsot", "sot", "sot"]
    assert [window.window_idx for window in windows] == [0, 1, 2]
    assert windows[1].frame_indices == tuple(range(7, 15))


def test_reground_asks_by_words_in_every_window():
    frames, boxes = squares(22, STARTS)
    tracker = seeing_tracker()
    run = tracker.iter_track(frames, "red", fps=10, reground=True)
    assert [window.task for window in run] == ["rsot"] * 3
    assert all("red" in question for questions in tracker.model.batches for question in questions)
    assert_follows(run.result().tracks[0], boxes["red"])


def test_window_frames_sets_how_many_frames_the_model_sees():
    frames, _ = squares(10, STARTS)
    windows = list(seeing_tracker().iter_track(frames, "red", fps=10, options=TrackingOptions(window_frames=4)))
    assert [len(window.frame_indices) for window in windows] == [4, 4, 4]


# --- the forms that a video has ---
def test_a_clip_keeps_its_own_indices_and_times():
    frames, boxes = squares(10, STARTS)
    clip = VideoClip(frames, 10.0, np.arange(10) * 0.3, np.arange(10) * 3)
    result = seeing_tracker().track(clip, "red")
    assert result.tracks[0].frame_indices.tolist() == list(range(0, 30, 3))
    assert result.tracks[0].timestamps_s.tolist() == pytest.approx((np.arange(10) * 0.3).tolist())
    assert_follows(result.tracks[0], boxes["red"])


def test_a_file_and_pil_pictures_give_the_boxes_of_the_frames(tmp_path):
    frames, boxes = squares(10, STARTS)
    with VideoWriter(tmp_path / "squares.mp4", fps=10, width=64, height=48) as writer:
        for frame in frames:
            writer.write(frame)
    result = seeing_tracker().track(tmp_path / "squares.mp4", "red")
    assert (result.video, result.fps) == (str(tmp_path / "squares.mp4"), 10)
    assert_follows(result.tracks[0], boxes["red"])
    pictures = (Image.fromarray(frame) for frame in frames)
    assert_follows(seeing_tracker().track(pictures, "red", fps=10).tracks[0], boxes["red"])


def test_progress_is_told_after_each_window():
    frames, _ = squares(22, STARTS)
    told = []
    seeing_tracker().track(frames, "red", fps=10, progress=lambda *counts: told.append(counts))
    assert told == [(8, 22), (15, 22), (22, 22)]


# --- many videos ---
def test_many_videos_share_batches_and_give_the_results_of_one_by_one():
    items = [(squares(n, STARTS)[0], prompt) for n, prompt in [(9, "red"), (1, "green"), (22, (2, 4, 18, 20))]]
    tracker = seeing_tracker()
    results = tracker.track_many(items, fps=10)
    assert [len(questions) for questions in tracker.model.batches] == [3, 2, 1]
    for (frames, prompt), result in zip(items, results, strict=True):
        words = {"text": prompt} if isinstance(prompt, str) else {"box_xyxy_px": prompt}
        alone = seeing_tracker().track(frames, fps=10, **words)
        assert result.complete
        assert same(result.tracks[0], alone.tracks[0])


def test_many_videos_are_opened_no_more_than_a_batch_at_a_time():
    opened = []

    def items():
        for number in range(6):
            opened.append(number)
            yield squares(8, STARTS)[0], ObjectPrompt("red")

    tracker = seeing_tracker(batch_size=2)
    generate = tracker.model.generate
    at_first_call = []
    tracker.model.generate = lambda **inputs: at_first_call.append(len(opened)) or generate(**inputs)
    assert len(tracker.track_many(items(), fps=10)) == 6
    assert at_first_call[0] == 2


# --- the random model: anything that it says is accounted for, and batches change nothing ---
@pytest.mark.parametrize("prompt", [{"text": "the red car"}, {"box_xyxy_px": (3, 4, 30, 40)}])
def test_a_random_model_leaves_no_frame_without_a_box_or_a_reason(prompt):
    frames = np.random.default_rng(0).integers(0, 255, (10, 48, 64, 3), dtype=np.uint8)
    (track,) = random_tracker().track(frames, fps=10, **prompt).tracks
    assert len(track) == 10
    assert all(valid or reason for valid, reason in zip(track.valid, track.reasons, strict=True))


def test_objects_batched_by_the_random_model_get_the_answers_of_one_by_one():
    frames = np.random.default_rng(0).integers(0, 255, (9, 48, 64, 3), dtype=np.uint8)
    words = ["a dog", "the large yellow star that moves to the left"]
    together = list(random_tracker().iter_track(frames, words, fps=10))
    for track_id, text in enumerate(words, start=1):
        alone = list(random_tracker().iter_track(frames, text, fps=10))
        assert [w.answer for w in together if w.track_id == track_id] == [w.answer for w in alone]


# --- the iterator, and Ctrl-C ---
def test_the_iterator_yields_the_frames_of_the_result():
    frames, _ = squares(22, STARTS)
    run = seeing_tracker().iter_track(frames, ["red", "green"], fps=10)
    finished = {1: [], 2: []}
    for window in run:
        finished[window.track_id] += window.frames
    for track in run.result().tracks:
        assert [frame.frame_idx for frame in finished[track.track_id]] == track.frame_indices.tolist()
        assert [frame.box_xyxy_px for frame in finished[track.track_id]] == [tuple(b) for b in track.boxes_xyxy_px]


def test_an_interrupted_run_keeps_its_finished_windows(tmp_path):
    frames, boxes = squares(40, STARTS)
    run = seeing_tracker(interrupt_at=3).iter_track(frames, "red", fps=10)
    with pytest.raises(KeyboardInterrupt):
        list(run)
    run.result().save(tmp_path / "boxes.json")
    result = load_tracking_result(tmp_path / "boxes.json")
    assert not result.complete
    assert_follows(result.tracks[0], boxes["red"][:15])


def test_a_run_whose_decoder_was_interrupted_is_not_taken_for_complete():
    frames, _ = squares(40, STARTS)

    def stream():
        yield from frames[:10]
        raise KeyboardInterrupt

    run = seeing_tracker().iter_track(stream(), "red", fps=10)
    with pytest.raises(KeyboardInterrupt):
        list(run)
    assert list(run) == []
    assert (run.complete, len(run.result().tracks[0])) == (False, 8)


def test_a_run_that_is_left_early_says_so():
    frames, _ = squares(40, STARTS)
    with seeing_tracker().iter_track(frames, "red", fps=10) as run:
        next(run)
    result = run.result()
    assert (result.complete, len(result.tracks[0])) == (False, 8)


def test_a_file_that_is_cut_short_is_tracked_as_far_as_it_decodes_with_a_warning(tmp_path):
    frames, _ = squares(60, STARTS, width=256, height=192, side=64)
    frames ^= np.random.default_rng(0).integers(0, 40, frames.shape, dtype=np.uint8)
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    with VideoWriter(whole, fps=10, width=256, height=192) as writer:
        for frame in frames:
            writer.write(frame)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    run = seeing_tracker().iter_track(cut, "red")
    list(run)
    assert run.complete
    assert 1 <= len(run.result().tracks[0]) < 60
    assert any("of 60 frames" in warning for warning in run.warnings)


class ScriptedAnswerer:
    """The first object is seen everywhere, the second never."""

    def answer_windows(self, requests):
        empty = Answer("", (), np.zeros(0))
        for request in requests:
            seen = request.text != "ghost"
            box = (0.1, 0.1, 0.5, 0.5) if seen else None
            readings = [ParsedBox(n + 1, "ok" if seen else "absent", box) for n in range(len(request))]
            yield empty, readings, [0.5] * len(request)


def test_ten_thousand_frames_hold_no_more_pictures_than_a_few_windows():
    alive, most = weakref.WeakSet(), 0

    class Picture(np.ndarray):
        """An array that counts itself."""

        __hash__ = object.__hash__
        __eq__ = object.__eq__

    def stream():
        for _ in range(10_000):
            picture = np.zeros((4, 4, 3), dtype=np.uint8).view(Picture)
            alive.add(picture)
            yield picture

    prompts = [ObjectPrompt("seen"), ObjectPrompt("ghost"), ObjectPrompt(box_xyxy_px=(0, 0, 2, 2))]
    sessions = [TrackingSession(p, width=4, height=4, track_id=i + 1) for i, p in enumerate(prompts)]
    run = TrackingRun(ScriptedAnswerer(), open_stream(stream(), fps=10), sessions, model="scripted")
    for _ in run:
        most = max(most, len(alive))
    assert run.complete
    assert [len(track) for track in run.result().tracks] == [10_000] * 3
    assert most <= 2 * 8 + 3


# --- pictures, descriptions, questions ---
def test_ground_finds_the_box_and_its_score():
    frames, boxes = squares(1, STARTS)
    grounding = seeing_tracker().ground(frames[0], "the green square")
    assert iou(np.array(grounding.box_xyxy_px), boxes["green"][0]) > 0.7
    assert grounding.score == pytest.approx(0.9, rel=1e-3)
    assert (grounding.valid, grounding.to_dict()["width"]) == (True, 64)


def test_ground_says_absent_where_there_is_nothing():
    grounding = seeing_tracker().ground(squares(1, STARTS)[0][0], "the blue square")
    assert grounding.to_dict() == {
        "text": "the blue square",
        "width": 64,
        "height": 48,
        "box_xyxy_px": None,
        "score": None,
        "reason": "absent",
    }


def test_ground_reads_a_picture_file_and_refuses_a_video_file(tmp_path):
    frames, boxes = squares(3, STARTS)
    Image.fromarray(frames[0]).save(tmp_path / "one.png")
    grounding = seeing_tracker().ground(tmp_path / "one.png", "red")
    assert iou(np.array(grounding.box_xyxy_px), boxes["red"][0]) > 0.7
    with VideoWriter(tmp_path / "many.mp4", fps=10, width=64, height=48) as writer:
        for frame in frames:
            writer.write(frame)
    with pytest.raises(ValueError, match="an image must have one frame, got .*many.mp4"):
        seeing_tracker().ground(tmp_path / "many.mp4", "red")


@pytest.mark.parametrize("num_frames", [1, 5])
def test_describe_names_the_object_in_the_box_of_the_first_frame(num_frames):
    frames, _ = squares(num_frames, STARTS)
    tracker = seeing_tracker()
    assert tracker.describe(list(frames), (10, 28, 26, 44)) == "the green square"
    assert tracker.describe(frames[0], (2, 4, 18, 20)) == "the red square"


@pytest.mark.parametrize(("num_frames", "seen"), [(1, 1), (9, 9), (16, 16), (50, 16)])
def test_a_question_is_asked_about_sixteen_frames_at_most(num_frames, seen):
    frames, _ = squares(num_frames, STARTS)
    assert seeing_tracker().ask(frames, "how many frames?") == str(seen)


def test_a_processor_of_another_image_size_is_refused():
    processor = build_processor()
    processor.video_processor.size = {"height": 64, "width": 64}
    with pytest.raises(ValueError, match="must have one image size, got 32x32 and 64x64; load both"):
        Tracker(tiny_model(), processor)


def test_a_question_and_a_window_have_the_frames_that_the_checkpoint_was_trained_on():
    frames, _ = squares(10, STARTS)
    processor = build_processor()
    processor.state_trained_frames(4)
    tracker = Tracker(SeeingModel(tiny_model(), processor), processor)
    assert tracker.ask(frames, "how many frames?") == "4"
    with pytest.warns(UserWarning, match="window_frames should be at most 4, .* got 6"):
        tracker.iter_track(frames, "red", fps=10, options=TrackingOptions(window_frames=6))


def test_plural_forms_answer_in_order():
    frames, _ = squares(2, STARTS)
    tracker = seeing_tracker(batch_size=2)
    found = tracker.ground_many([(frames[0], "red"), (frames[1], "blue"), (frames[1], "green")])
    assert [grounding.valid for grounding in found] == [True, False, True]
    boxes = [(2, 4, 18, 20), (10, 28, 26, 44)]
    assert tracker.describe_many([(frames[0], box) for box in boxes]) == ["the red square", "the green square"]
    assert tracker.ask_many([(frames, "how many?"), (frames[0], "how many?")]) == ["2", "1"]


def test_bare_frames_without_fps_follow_at_one_a_second():
    frames, _ = squares(5, STARTS)
    result = seeing_tracker().track(iter(frames), "red")
    assert (result.fps, result.tracks[0].timestamps_s.tolist()) == (1.0, [0.0, 1.0, 2.0, 3.0, 4.0])


# --- bad input ---
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": " "}, "text must be words, got ' '"),
        ({"text": ["red", ""]}, "text must be words, got ''"),
        ({}, "track must get a text prompt or a box, got neither"),
        ({"text": []}, "track must get a text prompt or a box, got neither"),
        ({"box_xyxy_px": (40, 8, 12, 30)}, r"x1 < x2 and y1 < y2, got \(40, 8, 12, 30\); is it x,y,w,h\?"),
        ({"box_xyxy_px": (0, 0, 67, 10)}, "must lie inside the 64x48 image"),
        ({"box_xyxy_px": (1, 2, 3)}, "four finite numbers"),
        ({"box_xyxy_px": "1,2,3,4"}, "four numbers x1,y1,x2,y2 or a list"),
        ({"box_xyxy_px": [(1, 2, 3, 4), (1, 2, 3)]}, "four numbers x1,y1,x2,y2 or a list"),
        ({"text": ["red", "green"], "box_xyxy_px": (1, 2, 3, 4)}, "must be of the same objects, got 2 and 1"),
        ({"text": "red", "zoom": 0.5}, "zoom must be 0 or a finite number of 1 or more, got 0.5"),
        ({"text": "red", "fps": 0}, "fps must be a number above 0 for bare frames, got 0"),
        ({"text": "red", "video": []}, "at least one frame, got none"),
        ({"text": "red", "video": [np.zeros((5, 6, 2), np.uint8)]}, r"\(H, W, C\) or \(C, H, W\)"),
        (
            {"text": "red", "video": [np.full((4, 4, 3), 2.5)]},
            "float frames that come one by one must be 0..1, got 2.5",
        ),
        ({"text": "red", "video": np.full((2, 4, 4, 3), -1.0)}, "got float64 from -1 to -1"),
        ({"text": "red", "video": [3]}, "a frame must be an array .*, got int"),
        ({"text": "x " * 9000}, "at most 8192 tokens, the model's context, got [0-9]{4,}; shorten the text"),
        ({"text": "red", "video": "missing.mp4", "fps": None}, "existing file or folder, got missing.mp4"),
        ({"text": "red", "video": "missing.mp4"}, "fps must be left out for a file"),
        ({"box_xyxy_px": (1, 2, 3, 4), "reground": True}, "reground must have a text prompt"),
    ],
)
def test_bad_input_is_refused_before_the_model_is_asked(arguments, message):
    tracker = seeing_tracker()
    with pytest.raises(ValueError, match=message):
        tracker.iter_track(**({"video": squares(2, STARTS)[0], "fps": 10} | arguments))
    assert tracker.model.batches == []


def test_frames_of_two_sizes_are_refused():
    frames = [np.zeros((48, 64, 3), np.uint8), np.zeros((48, 32, 3), np.uint8)]
    with pytest.raises(ValueError, match="every frame must be 64x48 RGB like the first"):
        seeing_tracker().track(frames, "red", fps=10)


def test_empty_words_and_boxes_outside_are_refused_by_the_other_tasks():
    tracker, picture = seeing_tracker(), squares(1, STARTS)[0][0]
    with pytest.raises(ValueError, match="text must be words"):
        tracker.ground(picture, "")
    with pytest.raises(ValueError, match="question must be words"):
        tracker.ask(picture, " ")
    with pytest.raises(ValueError, match="is it x,y,w,h"):
        tracker.describe(picture, (30, 20, 10, 10))


def test_words_and_boxes_of_the_same_objects_are_joined():
    prompts = object_prompts(["cup", "dog"], [(1, 2, 3, 4), (5, 6, 7, 8)])
    assert prompts == [ObjectPrompt("cup", (1, 2, 3, 4)), ObjectPrompt("dog", (5, 6, 7, 8))]
