"""`elysium curate`: what it prints, what it asks for, and what it says to bad input."""

import errno
import json
import os
from pathlib import Path

import pytest
from curation_parts import write_captioned_videos
from datatrove.executor.local import LocalPipelineExecutor
from hub_stand_in import HubStandIn

from elysium.cli import run

CAPTIONS = 'id,video,caption\na,a.mp4,"A red car and two dogs at sunset."\nb,b.mp4,\n'
STANDING = ["--set", "detector=curation_parts:Standing"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "captions.csv").write_text(CAPTIONS, "utf-8")
    return tmp_path / "captions.csv"


def test_preview_shows_phrases_and_drops_and_writes_nothing(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["curate", str(table), str(table.parent / "out"), "--preview", "5"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines() == [
        "a: A red car and two dogs at sunset.",
        "  kept: red car",
        "  dropped: two dogs (plural)",
        "  dropped: sunset (virtual)",
        "b: ",
        "  kept: nothing",
        "  dropped: the caption (caption_empty)",
    ]
    assert not (table.parent / "out").exists()


def test_preview_as_json_has_a_line_for_each_caption(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["curate", str(table), "out", "--preview", "1", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["phrases"] == ["red car"]


def test_a_run_prints_its_counts_and_keeps_datatrove_s_log_to_itself(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = write_captioned_videos(tmp_path / "videos", count=2)
    monkeypatch.setenv("ELYSIUM_TEST_TRUTH", str(truth))
    command = ["curate", str(tmp_path / "videos"), str(tmp_path / "out"), "--set", "tracker=curation_parts:Standing"]
    command += ["--set", "detector=curation_parts:oracle", "--set", "chunk_videos=1"]
    assert run(command) == 0
    printed = capfd.readouterr()
    summary = json.loads((tmp_path / "out" / "report" / "summary.json").read_text("utf-8"))
    assert printed.out.splitlines()[0] == f"Rows: {tmp_path / 'out'} ({summary['rows']} from 2 videos)"
    assert f"phrases: {summary['steps'][0]['in']} phrases in" in printed.out
    assert printed.out.splitlines()[-1] == f"Report: {tmp_path / 'out'}/report"
    assert "datatrove" not in printed.err
    assert "Curation: agree" in (tmp_path / "out" / "logs" / "run.log").read_text("utf-8")
    assert run([*command, "--json"]) == 0  # the same command again: nothing to do but to say it
    assert json.loads(capfd.readouterr().out) == summary


def test_a_full_disk_is_told_with_the_output_and_the_same_command_resumes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / "out"
    monkeypatch.setenv("ELYSIUM_TEST_TRUTH", str(write_captioned_videos(tmp_path / "videos", count=2)))
    command = ["curate", str(tmp_path / "videos"), str(out), "--set", "tracker=curation_parts:Standing"]
    command += ["--set", "detector=curation_parts:oracle"]
    with monkeypatch.context() as full:
        full.setattr(LocalPipelineExecutor, "mark_rank_as_completed", fail)  # after the chunks, in datatrove itself
        assert run(command) == 1
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err.splitlines() == [
        f"Error: {out} must be writable to its end, got: No space left on device; free disk space or choose another "
        "output path"
    ]
    assert [chunk.name for chunk in (out / "chunks").iterdir()] == ["000000"]
    assert run(command) == 0
    assert capfd.readouterr().out.splitlines()[-1] == f"Report: {out}/report"


def test_a_run_is_compared_with_held_out_records_and_pushed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = write_captioned_videos(tmp_path / "videos", count=2)
    monkeypatch.setenv("ELYSIUM_TEST_TRUTH", str(truth))
    parts = ["--set", "tracker=curation_parts:Standing", "--set", "detector=curation_parts:oracle"]
    assert run(["curate", str(tmp_path / "videos"), str(tmp_path / "val"), *parts]) == 0
    capfd.readouterr()
    command = ["curate", str(tmp_path / "videos"), str(tmp_path / "out"), *parts, "--recipe", "paper"]
    command += ["--set", "format=parquet", "--held-out", str(tmp_path / "val"), "--push", "owner/tracks", "--json"]
    with HubStandIn().running() as hub:
        hub.stand_in_here(monkeypatch)
        assert run(command) == 0
        files = sorted(hub.repositories["dataset", "owner/tracks"].files)
    summary = json.loads(capfd.readouterr().out)
    assert summary["leaks"]["leaked_val_videos"] == summary["near_duplicates"]["videos"] > 0
    assert summary["pushed_to"].endswith("owner/tracks")
    assert "chunks/000000/rows.parquet" in files and "README.md" in files and not any("logs" in name for name in files)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ([], 1, "the detector must be a zero-shot object detector of transformers, got IDEA-Research/grounding-dino"),
        (["--set", "spacy_model=xx_none"], 1, "must be an installed package or a folder, got xx_none; pip install"),
        (["--recipe", "papers"], 1, "the data must be a file that can be read, got papers"),
        (["--set", "max_frames"], 2, "--set must be NAME=VALUE, got 'max_frames'"),
        (["--set", "max_frames=2"], 1, "max_frames must be a whole number 3 or more, got 2"),
        (["--set", "min_track_score=2"], 1, "min_track_score must be a number in 0..1, got 2"),
        ([*STANDING, "--set", "tracker=yolo"], 1, "or a SAM 2 video model, got yolo"),
        (["--push", "owner/name"], 1, "got the format jsonl; curate with --set format=parquet"),
        (["--push", "a/b/c", "--set", "format=parquet"], 1, "got 'a/b/c'"),
        (["--set", "drift_false_alarm=1"], 1, "drift_false_alarm must be a number in 1e-12..0.5, got 1"),
    ],
)
def test_bad_input_is_one_line_before_any_work(
    options: list[str], code: int, said: str, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["curate", str(table), str(table.parent / "out"), *options]) == code
    printed = capsys.readouterr()
    assert printed.out == "" and said in printed.err
    assert len(printed.err.splitlines()) == 1
    assert not (table.parent / "out").exists()


def test_an_input_that_is_not_there_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["curate", str(tmp_path / "missing.csv"), str(tmp_path / "out"), *STANDING]
    assert run(command) == 1
    assert "the input must be a table of captions" in capsys.readouterr().err
