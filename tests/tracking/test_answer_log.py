"""Answers of the model in a file: a run that is stopped anywhere is resumed to the result of one that was not."""

import json
from functools import cache

import numpy as np
import pytest
from tiny import tiny_model, tiny_processor

from elysium.modeling_elysium.box_drafting_elysium import ShiftRate
from elysium.processing.video_io import VideoWriter
from elysium.tracking.answer_log import CALLS
from elysium.tracking.options import TrackingOptions
from elysium.tracking.tracker import Tracker

BOX = (4.0, 8.0, 36.0, 40.0)
NUM_FRAMES = 90


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A video of noise, of which every window is answered by other boxes and scores."""
    path = tmp_path_factory.mktemp("clip") / "noise.mp4"
    with VideoWriter(path, 10, 64, 48) as writer:
        for frame in np.random.default_rng(0).integers(0, 255, (NUM_FRAMES, 48, 64, 3), dtype=np.uint8):
            writer.write(frame)
    return path


@cache
def tracker() -> Tracker:
    return Tracker(tiny_model(), tiny_processor())


def track(clip, log=None, *, stop_after=None, resume=False, text=None, **options):
    """The result of a run, or of the first object's first windows, and how many calls the file answered."""
    boxes = [BOX, (20.0, 4.0, 60.0, 30.5)] if text is None else None
    run = tracker().iter_track(
        clip, text, box_xyxy_px=boxes, options=TrackingOptions(**{"window_frames": 4} | options)
    )
    replayed = 0 if log is None else run.keep_answers(log, resume=resume)
    with run:
        first = (window.window_idx for window in run if window.track_id == 1)
        while next(first, None) not in (None, stop_after):
            pass
    return run.result().to_dict(), replayed


@pytest.mark.parametrize("options", [{}, {"zoom": 2.0}, {"text": "the red car"}], ids=["boxes", "zoom", "text"])
def test_a_run_that_is_stopped_twice_has_the_result_of_one_that_was_not(clip, tmp_path, options):
    whole, _ = track(clip, tmp_path / "whole", **options)
    log = tmp_path / "log"
    track(clip, log, stop_after=10, **options)
    log.write_bytes(log.read_bytes() + b'{"frames": [[')  # as a killed process leaves it
    _, first = track(clip, log, stop_after=21, resume=True, **options)
    resumed, second = track(clip, log, resume=True, **options)
    assert resumed == whole
    assert 0 < first < second and first % CALLS == second % CALLS == 0
    assert log.read_bytes() == (tmp_path / "whole").read_bytes()


def test_what_the_decoder_learnt_is_dropped_where_a_run_can_be_resumed(clip, tmp_path, monkeypatch):
    decoder, rates = tracker()._answerer._reader.decoder, []
    decoder.rate.learn(3.0, 5.0)  # by another video
    write = decoder.write
    monkeypatch.setattr(decoder, "write", lambda questions: rates.append(decoder.rate) or write(questions))
    monkeypatch.setattr(ShiftRate, "learn", lambda *_: None)
    track(clip, tmp_path / "log")
    assert all(rate == ShiftRate() for rate in rates)  # nothing was learnt since, so that only fresh ones are equal
    assert len({id(rate) for rate in rates}) == -(-len(rates) // CALLS) > 1


def test_a_file_without_resume_is_written_anew(clip, tmp_path):
    log = tmp_path / "new" / "log"
    track(clip, log, stop_after=10)
    before = log.read_bytes()
    result, replayed = track(clip, log, stop_after=3)
    assert replayed == 0 and before.startswith(log.read_bytes())
    assert len(log.read_bytes()) < len(before)


def test_a_run_without_answers_leaves_no_file(clip, tmp_path):
    tracker().iter_track(clip, box_xyxy_px=BOX).keep_answers(tmp_path / "log")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "got"),
    [
        ({"zoom": 2.0}, "got zoom 2.0 in place of zoom 0.0"),
        (
            {"text": "the red car"},
            'got text "the red car", no box in place of no text, box 4,8,36,40 and 20,4,60,30.5',
        ),
    ],
)
def test_other_settings_are_refused_by_name(clip, tmp_path, changed, got):
    track(clip, tmp_path / "log", stop_after=1)
    with pytest.raises(ValueError, match="must have the settings of the stopped one in") as raised:
        track(clip, tmp_path / "log", resume=True, **changed)
    assert str(raised.value).endswith(f"log, {got}; give the same, or start anew with resume=False")


@pytest.mark.parametrize("content", [b"", b"mine", b'{"tracks": []}\n', b"[1]\n"])
@pytest.mark.parametrize("resume", [False, True])
def test_another_file_is_refused_and_stays(clip, tmp_path, content, resume):
    (tmp_path / "log").write_bytes(content)
    with pytest.raises(ValueError, match="must hold the answers of a stopped run, got another file"):
        track(clip, tmp_path / "log", resume=resume)
    assert (tmp_path / "log").read_bytes() == content


def test_answers_about_other_frames_are_refused(clip, tmp_path):
    log = tmp_path / "log"
    track(clip, log, stop_after=20)
    header, *lines = log.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[0])["frames"] == [[0, 1, 2, 3]] * 2
    log.write_bytes(header + b"".join(lines[::-1]))
    with pytest.raises(ValueError, match="must be of this video"):
        track(clip, log, resume=True)


def test_a_file_that_cannot_be_written_costs_a_warning_and_no_box(clip, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.warns(UserWarning, match="cannot be kept in .*: no --resume"):
        result, _ = track(clip, tmp_path / "file" / "log")
    assert result["complete"]
