"""Models behind the page, and what tasks do with them where time or a GPU is short."""

import json
import sys
import threading
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from elysium.processing.overlap import paired_iou
from elysium.spaces_demo.components import EXAMPLES
from elysium.spaces_demo.limits import Limits, RefusedError
from elysium.spaces_demo.models import ModelRegistry, Tasks, on_gpu
from elysium.spaces_demo.page import Page
from elysium.tracking.tracker import Tracker

FIXTURES = Path(__file__).parent.parent / "fixtures"
SHAPES = FIXTURES / "media" / "shapes.mp4"
BOX = (249.0, 146.0, 335.0, 233.0)


@pytest.fixture(scope="module")
def registry() -> ModelRegistry:
    return ModelRegistry(["elysium-tiny"])


def test_the_page_says_when_a_model_is_loaded_and_what_it_was_trained_on(registry, monkeypatch, tmp_path):
    go_on = threading.Event()
    waiting = ModelRegistry(["elysium-tiny"])
    page = Page(waiting, Limits(), tmp_path)
    tracker = registry.tracker()
    monkeypatch.setattr(ModelRegistry, "_load", lambda self, name: go_on.wait(10) and tracker)
    before, ticking = page.show_state("elysium-tiny")
    go_on.set()
    assert waiting.tracker() is tracker
    after, stopped = page.show_state("elysium-tiny")
    assert "elysium-tiny is loading." in before and "elysium-tiny is ready; " in after and "synthetic" in after
    assert (ticking.active, stopped.active) == (True, False)


def test_a_model_is_loaded_once(registry):
    assert registry.tracker("elysium-tiny") is registry.tracker()


def test_names_that_are_not_on_the_registry_are_refused(registry):
    with pytest.raises(RefusedError, match="must be one of elysium-tiny, got another"):
        registry.tracker("owner/other")
    with pytest.raises(ValueError, match="got none"):
        ModelRegistry([])


def test_a_model_that_cannot_be_loaded_is_said_without_details(tmp_path):
    registry = ModelRegistry(["no-such-model"])
    with pytest.raises(RefusedError, match="got an error on the server; choose another model"):
        registry.tracker()
    assert (
        "no-such-model cannot be loaded here; choose another"
        in Page(registry, Limits(), tmp_path).show_state("no-such-model")[0]
    )


def test_tasks_ask_for_a_gpu_where_the_platform_lends_one(monkeypatch):
    asked = []
    platform = ModuleType("spaces")
    platform.GPU = lambda duration: lambda function: asked.append((function.__name__, duration)) or function
    monkeypatch.setitem(sys.modules, "spaces", platform)
    Tasks(ModelRegistry(["elysium-tiny"]), Limits(compute_s=45))
    assert asked == [("_track", 45), ("_call", 45)]


def test_without_the_platform_a_function_stays_itself(monkeypatch):
    monkeypatch.setitem(sys.modules, "spaces", None)
    assert on_gpu(len, seconds=1) is len


def test_tracking_ends_with_a_complete_result(registry, clip):
    results = list(Tasks(registry, Limits()).track(clip, None, [], [BOX]))
    assert [len(result.tracks[0]) for result in results] == [8, 15, 20, 20]
    assert results[-1].complete and results[-1].video == clip.name
    at_once = Tracker.track(registry.tracker(), clip, box_xyxy_px=BOX)
    (track,), (expected,) = results[-1].tracks, at_once.tracks
    assert track.boxes_xyxy_px == pytest.approx(expected.boxes_xyxy_px, nan_ok=True)
    assert track.scores == pytest.approx(expected.scores, abs=1e-4, nan_ok=True)  # frames may be read in other batches
    assert results[-1].to_dict() | {"tracks": []} == at_once.to_dict() | {"video": clip.name, "tracks": []}


@pytest.mark.parametrize("limits", [Limits(compute_s=0), Limits(video_frames=8)], ids=["time", "frames"])
def test_tracking_keeps_what_is_finished_where_time_or_frames_run_out(registry, clip, limits):
    results = list(Tasks(registry, limits).track(clip, None, [], [BOX]))
    assert [len(result.tracks[0]) for result in results] == [8]
    assert not results[-1].complete


def test_only_the_first_window_is_read_alone(registry, monkeypatch):
    tracker = registry.tracker()
    monkeypatch.setitem(tracker.processor.tracking, "zoom", 0)  # a refinement pass would read frames ahead
    ahead = []
    answer = tracker._answerer.answer_windows

    def spy(requests, upcoming=()):
        ahead.append(len(upcoming))
        return answer(requests, upcoming=upcoming)

    monkeypatch.setattr(tracker._answerer, "answer_windows", spy)
    results = Tasks(registry, Limits()).track(SHAPES, None, [], [BOX])
    assert [len(next(results).tracks[0]) for _ in range(2)] == [8, 15]
    results.close()
    assert ahead[0] == 0 and ahead[1] > 0


@pytest.fixture(scope="module")
def small() -> Tracker:
    return Tracker.from_pretrained("elysium-small")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "answer"), zip(EXAMPLES, ("yes", "black", "red"), strict=True), ids=["bird", "cup", "shapes"]
)
def test_the_questions_of_the_examples_have_right_answers(small, example, answer):
    assert small.ask(example.path, example.question) == answer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "truth"),
    zip(EXAMPLES, ("real_clips/cockatoo.boxes.json", "media/cup.boxes.json"), strict=False),
    ids=["bird", "cup"],
)
def test_the_examples_are_tracked(small, example, truth):
    boxes = np.array(json.loads((FIXTURES / truth).read_text()))
    track = small.track(example.path, example.prompt, box_xyxy_px=example.boxes_xyxy_px or None).tracks[0]
    assert track.valid.all() and paired_iou(track.boxes_xyxy_px, boxes).mean() > 0.7
