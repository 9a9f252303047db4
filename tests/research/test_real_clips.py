"""Runs over real clips are perturbed as their plan says, kept one by one, and summed up as by hand."""

import json

import numpy as np
import pytest

from elysium.evaluation.resumable import JsonLog, UnfinishedError
from elysium.processing.structures import VideoClip
from elysium.training.synthetic.dataset import write_video
from research import real_clips
from research.real_clips import (
    FIRST_BOX,
    OURS,
    PLAN_BY_BOX,
    PLAN_BY_WORDS,
    Perturbation,
    chosen_entries,
    first_box,
    main,
    measure,
    parse_arguments,
    plan_runs,
    run_figures,
    summarise,
)
from research.tracking_table.clips import Clip

NOTHING = [np.nan] * 4
ENTRY = {"name": "a", "split": "selection", "video": "a.mp4", "boxes": "a.json", "words": "the cup"}


def clip_of(boxes) -> Clip:
    frames = np.full((len(boxes), 48, 64, 3), 100, np.uint8)
    return Clip("a", VideoClip.from_frames(frames, fps=10), np.array(boxes, float), None)


@pytest.fixture
def folder(tmp_path):
    """One clip of 5 frames, the object hidden in the third."""
    write_video(tmp_path / "a.mp4", np.random.default_rng(0).integers(0, 255, (5, 48, 64, 3), np.uint8), 10.0)
    (tmp_path / "index.json").write_text(json.dumps({"clips": [ENTRY, ENTRY | {"name": "b", "split": "headline"}]}))
    box = [10, 10, 30, 40]
    (tmp_path / "a.json").write_text(json.dumps([box, box, None, box, box]))
    return tmp_path


@pytest.mark.parametrize("plan", [PLAN_BY_BOX, PLAN_BY_WORDS])
def test_a_plan_has_nine_runs_of_different_names_and_begins_with_the_clip_as_it_is(plan):
    assert len({each.name for each in plan}) == len(plan) == 9
    assert plan[0] == Perturbation("as it is")
    assert {each.noise for each in plan} == {0, 1, 2} and any(each.later == 3 for each in plan)
    assert any(each.moved_px != (0, 0) for each in plan) == (plan is PLAN_BY_BOX)


def test_noise_has_its_deviation_and_is_the_same_again_and_another_by_another_seed():
    clip = clip_of([[1, 2, 30, 40]] * 3)
    first, again, other = (Perturbation("", noise=2, seed=seed).apply(clip).video.frames for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any() and (first[0] != first[1]).any()
    assert (first.astype(float) - 100).std() == pytest.approx(2, rel=0.05)
    assert (clip.video.frames == 100).all()


def test_a_moved_box_stays_in_the_image_and_a_later_start_waits_for_the_object():
    clip = clip_of([[1, 2, 64, 40], NOTHING, NOTHING, NOTHING, [5, 5, 9, 9], [6, 5, 9, 9]])
    moved = Perturbation("", moved_px=(2, -2)).apply(clip)
    assert moved.first_box_xyxy_px == (3, 0, 64, 38) and clip.first_box_xyxy_px == (1, 2, 64, 40)
    assert (moved.boxes_xyxy_px[4:] == clip.boxes_xyxy_px[4:]).all()
    later = Perturbation("", later=3).apply(clip)
    assert len(later.video) == len(later.boxes_xyxy_px) == 2 and later.first_box_xyxy_px == (5, 5, 9, 9)


def test_a_run_counts_frames_without_a_box_apart_by_whether_they_show_the_object():
    clip = clip_of([[0, 0, 4, 4], [0, 0, 4, 4], NOTHING, NOTHING, [0, 0, 4, 4]])
    track = np.array([NOTHING, [0, 0, 4, 2], NOTHING, [0, 0, 4, 4], NOTHING], float)
    assert run_figures(clip, track) == {"mean_iou": 0.25, "falsely_absent": 0.5, "absent_found": 0.5}
    assert run_figures(clip_of([[0, 0, 4, 4]] * 2), track[:2])["absent_found"] is None


def test_by_words_each_phrasing_is_a_run_and_words_where_there_are_none():
    said = [ENTRY | {"phrasings": ["the cup", "a mug", "the thing"]}, ENTRY | {"name": "b"}]
    runs = list(plan_runs(said, "words", 2, [OURS]))
    assert [run.text for run in runs] == ["the cup", "a mug", "the thing"] * 2 + ["the cup"] * 2
    assert len({run.key for run in runs}) == len(runs)


def test_a_run_that_fails_is_made_again_and_no_other(folder):
    runs = list(plan_runs([ENTRY], "box", 3, [OURS, FIRST_BOX]))
    log, made = JsonLog(folder / "runs.jsonl"), []

    def scripted(clip, text):
        made.append(clip.first_box_xyxy_px)
        if len(made) == 2:
            raise RuntimeError("no memory")
        return clip.boxes_xyxy_px

    trackers = {OURS: scripted, FIRST_BOX: first_box}
    with pytest.raises(UnfinishedError, match="1 that failed"):
        measure(runs, trackers, log, folder)
    rows = measure(runs, trackers, log, folder)
    assert len(made) == 4 and [row["key"] for row in rows] == [run.key for run in runs]
    ours, repeated, mean, _ = summarise(runs, rows)
    assert (ours["mean_iou"], ours["worst_iou"], ours["absent_found"], ours["runs"]) == (1, 1, 1, 3)
    assert repeated["worst_iou"] < repeated["mean_iou"] < 1 and repeated["absent_found"] == 0
    assert (mean["clip"], mean["mean_iou"]) == ("mean", 1)


def test_the_mean_counts_every_clip_once_however_many_texts_it_has():
    runs = list(plan_runs([ENTRY | {"phrasings": ["a", "b"]}, ENTRY | {"name": "b"}], "words", 1, [OURS]))
    rows = [{"mean_iou": iou, "falsely_absent": 1 - iou, "absent_found": None} for iou in (0.2, 0.4, 0.9)]
    mean = summarise(runs, rows)[-1]
    assert mean["mean_iou"] == mean["worst_iou"] == 0.6 and mean["falsely_absent"] == 0.4


def test_the_command_writes_json_and_a_table(folder, monkeypatch, capsys):
    monkeypatch.setattr(real_clips, "REAL_CLIPS", folder)
    monkeypatch.setattr(real_clips, "our_tracker", lambda *_: first_box)
    monkeypatch.setattr(real_clips, "chosen_entries", lambda *_: [ENTRY])
    monkeypatch.setattr(real_clips, "read_real_clip", lambda entry, _: clip_of([[1, 1, 9, 9]] * 3))
    main(["--runs", "2", "--out", str(folder / "out.json")])
    record = json.loads((folder / "out.json").read_text("utf-8"))
    assert [row["tracker"] for row in record["clips"][:3]] == ["ours", "CSRT", "first box"]
    assert len(record["each_run"]) == 6 and record["plan"] == ["as it is", "noise 2, seed 0"]
    assert "| a    | ours      | 2    | 1.000" in (folder / "out.md").read_text("utf-8")
    assert "6/6 runs" in capsys.readouterr().err


def test_unknown_clips_numbers_and_options_are_refused(folder, capsys):
    assert chosen_entries("selection", None, folder) == [ENTRY]
    with pytest.raises(ValueError, match=r"of the split selection \(a\), got b"):
        chosen_entries("selection", ["b"], folder)
    for wrong, said in ((["--runs", "10"], "must be 1 to 9"), (["--option", "zom=1"], "must be NAME=VALUE")):
        with pytest.raises(SystemExit):
            parse_arguments(wrong)
        assert said in capsys.readouterr().err
    assert parse_arguments(["--option", "reground=true", "--option", "reask_after=2"]).option == [
        ("reground", True),
        ("reask_after", 2),
    ]
