"""From a data set's folder to a report: a model that sees coloured squares, and the shipped checkpoint."""

import json
from functools import cache

import numpy as np
import pytest
from judge_stand_in import GOOD, StandIn
from miniatures import build_elysium_track
from question_miniatures import (
    build_activitynet_qa,
    build_msrvtt_qa,
    build_msvd_qa,
    build_plain_qa,
    build_refer,
    build_tgif_qa,
    encoded_rows,
    write_parquet,
)
from seeing_model import SeeingModel
from tiny import tiny_model as build_model
from tiny import tiny_processor as build_processor

from elysium.evaluation import answer_benchmark
from elysium.evaluation import judge as judging
from elysium.evaluation.answer_benchmark import evaluate_questions
from elysium.evaluation.judge import Judge
from elysium.evaluation.question_benchmarks import QUESTION_BENCHMARKS, first_box
from elysium.evaluation.report import write_report
from elysium.evaluation.resumable import Processes, RunError
from elysium.readers.elysium_track import read_elysium_track
from elysium.readers.frame_sources import DatasetError
from elysium.tracking.tracker import Tracker

BUILDERS = {
    "msvd-qa": build_msvd_qa,
    "msrvtt-qa": build_msrvtt_qa,
    "tgif-qa": build_tgif_qa,
    "activitynet-qa": build_activitynet_qa,
    "video-qa": build_plain_qa,
}
tiny_model, tiny_processor = cache(build_model), cache(build_processor)


@pytest.fixture
def seeing(monkeypatch, small_wordnet):
    """Stands in for any checkpoint; the trackers that were loaded."""
    loaded = []

    def load(model, *, device=None, batch_size=8):
        loaded.append(Tracker(SeeingModel(tiny_model(), tiny_processor()), tiny_processor(), batch_size=batch_size))
        return loaded[-1]

    monkeypatch.setattr(answer_benchmark.Tracker, "from_pretrained", load)
    return loaded


def evaluate(benchmark, data, folder, **options):
    return evaluate_questions(benchmark, data=data, folder=folder, **{"model": "seeing", **options})


def count_or_red(self, question, seen, *, is_image):
    """In place of the seeing model's way to answer: how many frames there are, and `red` to all else."""
    return str(len(seen)) if "how many" in question else "red"


def figures_of(report):
    ((_, entry),) = report["models"].items()
    return entry


# --- boxes ---
@pytest.mark.parametrize(
    ("benchmark", "split", "samples"), [("refcoco", "val,testA", 5), ("refcoco+", "testB", 1), ("refcocog", None, 3)]
)
def test_a_model_that_sees_is_right_about_every_expression_with_a_colour(benchmark, split, samples, seeing, tmp_path):
    report = evaluate(benchmark, build_refer(tmp_path / "data"), tmp_path / "out", split=split)
    figures = figures_of(report)
    assert (report["task"], report["data"]) == ("rec", {"samples": samples, "split": split or "val"})
    assert figures["metrics"]["accuracy_at_0.5"] == 100
    assert figures["metrics"]["mean_iou"] > 70  # the model sees 32x32 pixels
    assert sum(figures["histogram"]["counts"]) == samples


def test_parts_of_several_splits_have_their_own_figures(seeing, tmp_path):
    groups = figures_of(evaluate("refcoco", build_refer(tmp_path / "d"), tmp_path / "o", split="val,test"))["groups"]
    assert {name: part["samples"] for name, part in groups.items()} == {
        "split testA": 2,
        "split testB": 1,
        "split val": 3,
        "size small": 6,  # 24x24 < 32x32
    }


def test_parquet_and_the_official_layout_give_the_same_answers(seeing, tmp_path):
    write_parquet(tmp_path / "parquet" / "val-00000-of-00001.parquet", encoded_rows())
    official = evaluate("refcoco", build_refer(tmp_path / "refer"), tmp_path / "a", split="val")
    parquet = evaluate("refcoco", tmp_path / "parquet", tmp_path / "b", split="val")
    assert figures_of(parquet)["histogram"] == figures_of(official)["histogram"]


# --- words ---
def test_descriptions_are_held_against_all_sentences_about_an_object(seeing, tmp_path):
    report = evaluate("refcoco-reg", build_refer(tmp_path / "data"), tmp_path / "out", split="val")
    metrics = figures_of(report)["metrics"]
    assert (report["task"], report["data"]["samples"]) == ("reg", 2)  # objects, not sentences
    # `the green square` and `the blue square` are said word for word: 1 - 0.5 * (1/3)^3
    assert metrics["meteor"] == pytest.approx(100 * (1 - 0.5 / 27))
    assert metrics["rouge_l"] == pytest.approx(100)
    assert metrics["empty"] == 0
    rows = [json.loads(line) for line in (tmp_path / "out/predictions/part-0.jsonl").read_text().splitlines()]
    assert rows[0]["truth"]["sentences"] == ["the green square", "green one"]
    assert rows[0]["answer"] == {"text": "the green square"}


def test_objects_in_videos_are_described_from_the_first_frame_that_shows_them(seeing, tmp_path):
    data = build_elysium_track(tmp_path / "data")
    rows = [json.loads(line) for line in (data / "rows.jsonl").read_text().splitlines()]
    rows[0]["box"][:3] = [None] * 3
    (data / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sequence = next(iter(read_elysium_track(data)))
    frame, box = first_box(sequence)
    assert frame == 3
    assert box == pytest.approx(np.array(rows[0]["box"][3]) * [96, 72, 96, 72])
    report = evaluate("video-reg", data, tmp_path / "out")
    assert (report["task"], report["data"]) == ("video_reg", {"samples": 2, "split": "validation"})
    assert figures_of(report)["metrics"]["rouge_l"] == pytest.approx(100)


def test_an_object_without_words_or_without_a_box_is_named(seeing, tmp_path):
    data = build_elysium_track(tmp_path / "data")
    rows = [json.loads(line) for line in (data / "rows.jsonl").read_text().splitlines()]
    for change, message in (
        ({"box": [None] * 10}, "no box in part_a"),
        ({"object_description": "", "object_class": ""}, "no object_description in part_a"),
    ):
        (data / "rows.jsonl").write_text(json.dumps(rows[0] | change) + "\n")
        with pytest.raises(DatasetError, match=message):
            evaluate("video-reg", data, tmp_path / "out")


# --- questions ---
@pytest.mark.parametrize(
    ("benchmark", "normalised", "groups"),
    [
        # the model counts the 16 frames that it is shown, and answers other questions with a box
        ("msvd-qa", 25, {"type how": 50, "type what": 0, "type who": 0}),
        ("msrvtt-qa", 100, {"type how": 100}),
        ("tgif-qa", 50, {"type number": 100, "type object": 0}),  # "sixteen" is 16
        ("activitynet-qa", 100 / 3, {"type number": 50, "type yes/no": 0}),
        ("video-qa", 50, {"type count": 100, "type other": 0}),
    ],
)
def test_answers_to_questions_are_scored_by_type(benchmark, normalised, groups, seeing, tmp_path, monkeypatch):
    monkeypatch.setattr(SeeingModel, "_say", count_or_red)
    report = evaluate(benchmark, BUILDERS[benchmark](tmp_path / "data"), tmp_path / "out")
    figures = figures_of(report)
    assert figures["metrics"]["normalised_match"] == pytest.approx(normalised)
    assert {name: part["normalised_match"] for name, part in figures["groups"].items()} == pytest.approx(groups)


def test_a_judge_adds_its_figures_and_its_name(seeing, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(SeeingModel, "_say", count_or_red)
    stand_in = StandIn([GOOD, "hm", '{"correct": "no", "score": 0}'])
    monkeypatch.setattr(judging, "CONCURRENT_REQUESTS", 1)
    judge = Judge(stand_in.url, "judge-1")
    data = build_msvd_qa(tmp_path / "data")
    report = evaluate("msvd-qa", data, tmp_path / "out", judge=judge)
    metrics = figures_of(report)["metrics"]
    assert (metrics["judged_correct"], metrics["judge_score"], metrics["judge_unreadable"]) == (25, 1, 25)
    assert figures_of(report)["groups"]["type how"]["judged_correct"] == 50
    assert any("judge-1" in rule for rule in report["protocol"]["rules"])
    evaluate("msvd-qa", data, tmp_path / "out", judge=judge)
    stand_in.stop()
    assert len(stand_in.requests) == 4
    assert len(seeing) == 1  # nothing was left to answer, so no model was loaded again


# --- the run ---
def test_two_processes_give_the_report_of_one(seeing, tmp_path):
    data = build_refer(tmp_path / "data")
    waited = []
    first, second = (Processes(index, 2, lambda: waited.append(1)) for index in range(2))
    shared = {"split": "val,test"}
    assert evaluate("refcoco", data, tmp_path / "two", processes=second, **shared) is None
    two = evaluate("refcoco", data, tmp_path / "two", processes=first, **shared)
    one = evaluate("refcoco", data, tmp_path / "one", split="val,test")
    assert two == one
    assert waited == [1, 1]
    assert sorted(path.name for path in (tmp_path / "two/predictions").iterdir()) == ["part-0.jsonl", "part-1.jsonl"]


def test_a_process_that_has_not_finished_is_no_zero_but_an_error(seeing, tmp_path):
    data = build_refer(tmp_path / "data")
    with pytest.raises(RunError, match="got 1 without an answer"):
        evaluate("refcoco", data, tmp_path / "out", split="val", processes=Processes(0, 2))


def test_a_run_goes_on_after_a_kill_with_the_same_report(seeing, tmp_path):
    data = build_refer(tmp_path / "data")
    whole = evaluate("refcoco", data, tmp_path / "a", split="val")
    evaluate("refcoco", data, tmp_path / "b", split="val", batch_size=1)
    part = tmp_path / "b/predictions/part-0.jsonl"
    part.write_bytes(part.read_bytes()[:-30])
    assert evaluate("refcoco", data, tmp_path / "b", split="val") == whole
    assert len(seeing[-1].model.batches) == 1 and len(seeing[-1].model.batches[0]) == 1


def test_a_limit_is_told_in_the_report_and_a_longer_run_goes_on_from_it(seeing, tmp_path):
    data = build_refer(tmp_path / "data")
    short = evaluate("refcoco", data, tmp_path / "out", split="val", limit=2)
    assert short["data"] == {"samples": 2, "split": "val", "limit": 2}
    assert "only the first 2 samples" in short["protocol"]["rules"][-1]
    assert evaluate("refcoco", data, tmp_path / "out", split="val")["data"] == {"samples": 3, "split": "val"}
    assert sum(len(batch) for batch in seeing[-1].model.batches) == 1


@pytest.mark.parametrize("change", [{"model": "other"}, {"split": "testA"}, {"benchmark": "refcoco+"}])
def test_a_folder_is_of_one_benchmark_split_and_model(change, seeing, tmp_path):
    data = build_refer(tmp_path / "data")
    asked = {"benchmark": "refcoco", "split": "val", "model": "seeing"}
    evaluate(data=data, folder=tmp_path / "out", **asked)
    with pytest.raises(RunError, match="a run must be resumed with the settings it began with"):
        evaluate(data=data, folder=tmp_path / "out", **(asked | change))


def test_what_cannot_be_done_is_said_before_the_model_is_loaded(seeing, tmp_path, monkeypatch):
    def no_wordnet():
        raise ValueError("METEOR needs WordNet")

    monkeypatch.setattr(answer_benchmark, "CaptionScorer", no_wordnet)
    data = build_refer(tmp_path / "data")
    for benchmark, options, message in (
        ("refcoco", {"judge": Judge("http://x", "m")}, "leave the judge out"),
        ("refcoco", {"limit": 0}, "limit must be 1 or more"),
        ("coco", {}, "must be one of refcoco, "),
        ("refcoco-reg", {}, "METEOR needs WordNet"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(benchmark, data, tmp_path / "out", **options)
    assert not seeing


@pytest.mark.parametrize("benchmark", QUESTION_BENCHMARKS)
def test_every_report_is_one_that_can_be_written(benchmark, seeing, tmp_path, monkeypatch):
    if QUESTION_BENCHMARKS[benchmark].task == "video_qa":
        monkeypatch.setattr(SeeingModel, "_say", count_or_red)
    build = build_elysium_track if benchmark == "video-reg" else BUILDERS.get(benchmark, build_refer)
    report = evaluate(benchmark, build(tmp_path / "data"), tmp_path / "out")
    written = write_report(report | {"command": "elysium evaluate", "elysium_version": "0"}, tmp_path / "report")
    assert {"report.json", "report.html"} <= {path.name for path in written}


# --- the shipped checkpoint ---
def test_the_shipped_checkpoint_is_evaluated_on_expressions_and_on_questions(tmp_path):
    report = evaluate(
        "refcoco", build_refer(tmp_path / "refer"), tmp_path / "a", model="elysium-tiny", split="train,test"
    )
    assert list(report["models"]) == ["elysium-tiny"]
    assert figures_of(report)["metrics"]["accuracy_at_0.5"] >= 50  # of four; it was not trained on such pictures
    settings = json.loads((tmp_path / "a" / "settings.json").read_text())
    assert settings["model"] == "elysium-tiny" and len(settings["weights"]) == 16
    report = evaluate("msvd-qa", build_msvd_qa(tmp_path / "msvd"), tmp_path / "b", model="elysium-tiny", limit=2)
    assert report["data"]["samples"] == 2
    rows = [json.loads(line) for line in (tmp_path / "b/predictions/part-0.jsonl").read_text().splitlines()]
    assert all(row["answer"]["text"] for row in rows)
