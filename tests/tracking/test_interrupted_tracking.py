"""Whatever stops tracking leaves what was finished before it."""

from functools import cache

import numpy as np
import pytest
from PIL import Image
from seeing_model import SeeingModel, squares
from tiny import tiny_model, tiny_processor

from elysium.processing.video_io import VideoError
from elysium.tracking.run import BatchError
from elysium.tracking.tracker import Tracker

pytestmark = pytest.mark.filterwarnings("ignore:decoding must fit")
STARTS = {"red": (2, 4), "green": (10, 28)}
model, processor = cache(tiny_model), cache(tiny_processor)


def seeing_tracker(**options):
    return Tracker(SeeingModel(model(), processor()), processor(), **options)


def failing_at(tracker, call, error):
    """Let the model fail at a call, counted from 1."""
    answer, calls = tracker.model.generate, []

    def generate(**inputs):
        calls.append(1)
        if len(calls) == call:
            raise error
        return answer(**inputs)

    tracker.model.generate = generate
    return tracker


def damaged_folder(folder, bad, count=30):
    """Images of which one is cut in the middle."""
    folder.mkdir()
    for number, frame in enumerate(squares(count, STARTS)[0]):
        Image.fromarray(frame).save(folder / f"f{number:03}.png")
    path = folder / f"f{bad:03}.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return folder


@pytest.mark.parametrize("error", [RuntimeError("CUDA error"), MemoryError(), KeyboardInterrupt(), SystemExit(3)])
def test_what_stops_the_model_carries_the_finished_windows(error):
    frames, _ = squares(30, STARTS)
    whole = seeing_tracker().track(frames, "red", fps=10)
    with pytest.raises(type(error)) as raised:
        failing_at(seeing_tracker(), 3, error).track(frames, "red", fps=10)
    finished = raised.value.finished
    assert (finished.complete, len(finished.tracks[0])) == (False, 15)
    np.testing.assert_array_equal(finished.tracks[0].boxes_xyxy_px, whole.tracks[0].boxes_xyxy_px[:15])


def test_what_the_callers_own_function_raises_carries_the_finished_windows():
    def progress(done, total):
        if done >= 15:
            raise RuntimeError("the window was closed")

    with pytest.raises(RuntimeError) as raised:
        seeing_tracker().track(squares(30, STARTS)[0], "red", fps=10, progress=progress)
    assert len(raised.value.finished.tracks[0]) == 15


@pytest.mark.parametrize("bad", [3, 20, 29])
def test_the_frames_before_a_damaged_image_are_finished(bad, tmp_path):
    with pytest.raises(VideoError, match=f"f{bad:03}.png") as raised:
        seeing_tracker().track(damaged_folder(tmp_path / "frames", bad), "red", fps=10)
    finished = raised.value.finished
    assert (finished.complete, len(finished.tracks[0])) == (False, bad)


@pytest.mark.parametrize("count", [1, 9, 12])
def test_the_frames_before_a_camera_fails_are_finished(count):
    def camera():
        yield from squares(count, STARTS)[0]
        raise ConnectionError("unplugged")

    run = seeing_tracker().iter_track(camera(), ["red", "green"], fps=10)
    windows = []
    with pytest.raises(ConnectionError):
        windows.extend(run)
    assert [len(track) for track in run.result().tracks] == [count, count]
    assert (run.complete, type(run.failure)) == (False, ConnectionError)


def test_the_frames_before_an_image_of_another_size_are_finished():
    frames = [*squares(10, STARTS)[0], np.zeros((8, 8, 3), np.uint8)]
    with pytest.raises(ValueError, match="every frame must be 64x48") as raised:
        seeing_tracker().track(frames, "red", fps=10)
    assert len(raised.value.finished.tracks[0]) == 10


# --- many ---
def test_a_video_that_fails_costs_none_of_the_others(tmp_path):
    (tmp_path / "empty").mkdir()
    items = [
        (damaged_folder(tmp_path / "whole", 29, count=30), "red"),
        (tmp_path / "empty", "red"),
        (damaged_folder(tmp_path / "bad", 4), "red"),
        (tmp_path / "whole", "green"),
    ]
    content = (tmp_path / "whole" / "f028.png").read_bytes()
    (tmp_path / "whole" / "f029.png").write_bytes(content)
    told = []
    with pytest.raises(BatchError, match=r"got 2 of 4 that failed \(item 1: .*empty.*item 2: .*f004.png") as raised:
        seeing_tracker(batch_size=2).track_many(items, fps=10, finished=lambda *each: told.append(each))
    assert [(number, len(result.tracks[0])) for number, result in told] == [(0, 30), (3, 30)]
    finished, errors = raised.value.finished, raised.value.errors
    assert [None if result is None else (result.complete, len(result.tracks[0])) for result in finished] == [
        (True, 30),
        None,
        (False, 4),
        (True, 30),
    ]
    assert sorted(errors) == [1, 2]
    assert isinstance(errors[1], VideoError)


def test_what_stops_many_videos_carries_all_that_is_finished():
    items = [(squares(length, STARTS)[0], "red") for length in (8, 30, 30)]
    with pytest.raises(KeyboardInterrupt) as raised:
        failing_at(seeing_tracker(), 3, KeyboardInterrupt()).track_many(items, fps=10)
    found = [(result.complete, len(result.tracks[0])) for result in raised.value.finished]
    assert found == [(True, 8), (False, 15), (False, 15)]


def test_an_only_video_raises_its_own_error():
    with pytest.raises(VideoError, match=r"missing\.mp4"):
        seeing_tracker().track_many([("missing.mp4", "red")])


def test_an_image_that_fails_costs_none_of_the_others():
    image = squares(1, STARTS)[0][0]
    items = [(image, "red"), ("missing.png", "red"), (image, " "), (image, "green")]
    tracker = seeing_tracker(batch_size=2)
    with pytest.raises(BatchError, match="got 2 of 4 that failed") as raised:
        tracker.ground_many(items)
    assert [found and found.text for found in raised.value.finished] == ["red", None, None, "green"]
    with pytest.raises(BatchError, match="got 1 of 2"):
        tracker.describe_many([(image, (0, 0, 900, 900)), (image, (2, 4, 18, 20))])
    with pytest.raises(VideoError):
        tracker.ask("missing.png", "what?")


def test_what_stops_many_questions_carries_the_answers_so_far():
    image = squares(1, STARTS)[0][0]
    tracker = failing_at(seeing_tracker(batch_size=1), 3, MemoryError())
    with pytest.raises(MemoryError) as raised:
        tracker.ask_many([(image, "how many?")] * 4)
    assert raised.value.finished == ["1", "1"]
