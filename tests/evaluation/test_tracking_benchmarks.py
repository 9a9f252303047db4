"""`elysium evaluate` on miniatures of the tracking benchmarks, end to end."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from forked import Child
from miniatures import (
    LENGTH,
    build_elysium_track,
    build_got10k,
    build_lasot,
    build_nfs,
    build_otb,
    build_tnl2k,
    build_trackingnet,
    build_uav123,
    pictures_and_boxes,
)
from seeing_model import SeeingModel
from tiny import tiny_model, tiny_processor

import elysium.cli as cli
import elysium.evaluate_command as evaluate_command
import elysium.evaluation.opencv_trackers as opencv_trackers
from elysium.evaluation.benchmark_list import BENCHMARKS
from elysium.evaluation.opencv_trackers import OPENCV_TRACKERS, opencv_boxes
from elysium.evaluation.question_benchmarks import QUESTION_BENCHMARKS
from elysium.processing.overlap import paired_iou
from elysium.tracking.tracker import Tracker

SHIPPED = Path(__file__).parents[2] / "checkpoints" / "elysium-tiny"
BUILDERS = {
    "lasot": build_lasot,
    "lasot-language": build_lasot,
    "got10k": build_got10k,
    "otb": build_otb,
    "uav123": build_uav123,
    "nfs": build_nfs,
    "tnl2k": build_tnl2k,
    "elysium-track-sot": build_elysium_track,
    "elysium-track-rsot": build_elysium_track,
}


def evaluate(*arguments) -> int:
    return cli.run(["evaluate", *map(str, arguments)])


def report_of(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text("utf-8"))


@pytest.fixture
def seeing(monkeypatch):
    """Lets `--model seeing` load a model that sees squares of colour; the list holds the prompts that it was given."""
    tracked, check = [], evaluate_command.check_model
    model, processor = tiny_model(), tiny_processor()

    class Listening(Tracker):
        def track_many(self, items, **options):
            def listened():
                for video, prompt in items:
                    tracked.append(prompt)
                    yield video, prompt

            return super().track_many(listened(), **options)

    def load(name, device):
        if name != "seeing":
            return Tracker.from_pretrained(name, device=device)
        return Listening(SeeingModel(model, processor), processor, name=name)

    monkeypatch.setattr(evaluate_command, "load_tracker", load)
    monkeypatch.setattr(evaluate_command, "check_model", lambda name, device: name == "seeing" or check(name, device))
    return tracked


@pytest.mark.parametrize("benchmark", BUILDERS)
def test_a_model_that_sees_the_shipped_one_and_csrt_are_scored_in_one_report(benchmark, seeing, tmp_path):
    data = BUILDERS[benchmark](tmp_path / "data")
    by_words = "language" in benchmark or "rsot" in benchmark or benchmark == "tnl2k"
    peers = [] if by_words else ["--tracker", "csrt", "--tracker", "first-box"]
    names = ["seeing", "elysium-tiny"] if benchmark in ("lasot", "lasot-language") else ["seeing"]
    models = [word for name in names for word in ("--model", name)]
    out = tmp_path / "out"
    assert evaluate(benchmark, "--data", data, "--output", out, *models, *peers) == 0
    report = report_of(out)
    assert list(report["trackers"]) == [*names, *peers[1::2]]
    for found in report["trackers"].values():
        assert found["success_auc"] == pytest.approx(100 * np.mean(found["curves"]["success"]))
        assert len(found["sequences"]) == report["data"]["sequences"] > 0
    assert report["trackers"]["seeing"]["ao"] > 75
    assert [name for name, found in report["trackers"].items() if "ece" in found] == names
    assert all(isinstance(prompt, str) == by_words for prompt in seeing)
    if not by_words:
        assert report["trackers"]["seeing"]["ao"] > report["trackers"]["first-box"]["ao"]
        assert report["trackers"]["csrt"]["ao"] > report["trackers"]["first-box"]["ao"]
    assert {"report.html", "report.json", "success.png", "success.svg", "model_index.yaml"} <= set(os.listdir(out))


def test_got10k_has_figures_by_class_and_its_own_files(seeing, tmp_path):
    data = build_got10k(tmp_path / "data")
    assert evaluate("got10k", "--data", data, "--output", tmp_path / "out", "--model", "seeing") == 0
    found = report_of(tmp_path / "out")["trackers"]["seeing"]
    assert {"ao", "sr50", "sr75", "mao", "msr50", "msr75"} <= set(found)
    place = tmp_path / "out" / "results" / "seeing" / "GOT-10k_Val_000002"
    boxes = np.loadtxt(place / "GOT-10k_Val_000002_001.txt", delimiter=",")
    assert boxes.shape == (LENGTH, 4)
    assert boxes[5].tolist() == [0, 0, 0, 0]  # the square was hidden, and the model said so
    assert np.loadtxt(place / "GOT-10k_Val_000002_time.txt").shape == (LENGTH,)
    scores = np.loadtxt(place / "GOT-10k_Val_000002_001_confidence.value")
    assert scores.shape == (LENGTH,) and np.isnan(scores).nonzero()[0].tolist() == [5]


@pytest.mark.parametrize(
    ("benchmark", "build", "inside"),
    [
        ("got10k", lambda root: build_got10k(root, "test", ("GOT-10k_Test_000001",)), "GOT-10k_Test_000001_001.txt"),
        ("trackingnet", build_trackingnet, "xyz_1.txt"),
    ],
)
def test_a_split_whose_truth_is_withheld_gives_an_archive_for_the_server(
    benchmark, build, inside, seeing, tmp_path, capsys
):
    arguments = ["--data", build(tmp_path / "data"), "--output", tmp_path / "out", "--model", "seeing"]
    assert evaluate(benchmark, *arguments, "--split", "test") == 0
    names = zipfile.ZipFile(tmp_path / "out" / "seeing.zip").namelist()
    assert any(name.endswith(inside) for name in names)
    assert not any(name.endswith(".value") for name in names)  # servers take boxes and times
    assert not (tmp_path / "out" / "report.json").exists()
    assert "send the archive" in capsys.readouterr().err


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=BENCHMARKS)
def test_the_page_on_evaluation_lists_every_benchmark_with_its_splits_and_prompt(benchmark):
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text("utf-8")
    name = "elysium-track-sot" if benchmark.name.startswith("elysium-track") else benchmark.name
    (line,) = [line for line in page.splitlines() if line.startswith(f"| `{name}`")]
    splits, prompt = line.split("|")[3:5]
    assert all(f"`{split}`" in splits or "the same" in splits for split in benchmark.splits or ())
    assert ("text" if benchmark.task == "rsot" else "box") in prompt


def test_the_help_names_every_benchmark():
    words = set(re.findall(r"[\w+-]+", evaluate_command.evaluate.__doc__ or ""))
    assert words >= {*BENCHMARKS, *QUESTION_BENCHMARKS}


def test_data_that_are_not_there_leave_no_folder(tmp_path, capsys):
    data, output = tmp_path / "no", tmp_path / "out"
    assert evaluate("elysium-track-sot", "--data", data, "--output", output, "--tracker", "first-box") == 1
    assert "check the path" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_data_of_ones_own_have_their_own_title(tmp_path):
    rows = tmp_path / "my drives.jsonl"
    rows.touch()
    benchmark, split = BENCHMARKS["elysium-track-sot"].of_data(rows, None)
    assert (benchmark.title, split) == ("my drives", "all")
    benchmark, split = BENCHMARKS["elysium-track-sot"].of_data("owner/name", None)
    assert (benchmark.title, split) == ("ElysiumTrack", "validation")


def write_results(folder: Path, names, offset: float) -> Path:
    """Results of a tracker that is off to the right by so many pixels."""
    folder.mkdir()
    for number, name in enumerate(names):
        boxes = np.nan_to_num(pictures_and_boxes(colour="red" if number % 2 == 0 else "blue")[1]) + [offset, 0, 0, 0]
        np.savetxt(folder / f"{name}.txt", boxes, delimiter="\t", fmt="%.2f")
    return folder


def test_folders_of_results_are_scored_without_a_model_and_without_pictures(tmp_path, capsys):
    data = build_lasot(tmp_path / "data")
    names = ["airplane-1", "airplane-2", "cup-7"]
    for picture in data.rglob("*.jpg"):
        picture.unlink()
    near = write_results(tmp_path / "near", names, 6)  # 24 px squares, 6 px off: IoU 18/30 = 0.6
    far = write_results(tmp_path / "far", names, 60)
    arguments = ["--results", f"near={near}", "--results", f"far={far}", "--output", tmp_path / "out"]
    assert evaluate("lasot", "--data", data, *arguments) == 0
    trackers = report_of(tmp_path / "out")["trackers"]
    # Frame 1 is the truth (20 of 21 thresholds); in the other nine IoU 0.6 is above 12 of 21 (0 … 0.55).
    expected = 100 * (20 + 9 * 12) / 21 / 10
    assert trackers["near"]["sequences"]["cup-7"]["success_auc"] == pytest.approx(expected)
    assert trackers["near"]["precision"] > trackers["far"]["precision"]
    # In airplane-2 two of ten frames are out of view: no hits, and in the denominator.
    assert trackers["near"]["sequences"]["airplane-2"]["precision"] == 80
    assert trackers["near"]["sequences"]["airplane-2"]["visible_frames"] == 8
    assert "near: success_auc" in capsys.readouterr().out


def test_the_public_script_s_figures_stand_beside_ours_under_their_name(tmp_path, capsys):
    data = build_lasot(tmp_path / "data")
    far = write_results(tmp_path / "far", ["airplane-1", "airplane-2", "cup-7"], 60)
    arguments = ["--results", f"far={far}", "--output", tmp_path / "out", "--protocol", "public-script"]
    assert evaluate("lasot", "--data", data, *arguments) == 0
    found = report_of(tmp_path / "out")["trackers"]["far"]
    assert found["public_script"]["success_auc"] != found["success_auc"]
    assert "public script (not the standard)" in capsys.readouterr().out
    assert "public script" in (tmp_path / "out" / "report.html").read_text("utf-8").lower()


def test_a_finished_sequence_is_not_tracked_again_and_other_settings_are_refused(seeing, tmp_path, capsys):
    arguments = ["lasot", "--data", build_lasot(tmp_path / "data"), "--output", tmp_path / "out", "--model", "seeing"]
    assert evaluate(*arguments) == 0
    assert len(seeing) == 3
    before = report_of(tmp_path / "out")
    (tmp_path / "out" / "results" / "seeing" / "cup-7.txt").unlink()
    assert evaluate(*arguments) == 0
    assert len(seeing) == 4
    assert without_speed(report_of(tmp_path / "out")) == without_speed(before)
    assert evaluate(*arguments, "--window-frames", 4) == 1
    assert "window_frames: None before, 4 now); choose another --output" in capsys.readouterr().err.replace("\n", " ")


def test_zoom_goes_to_the_tracker_and_is_one_of_the_settings(seeing, tmp_path, monkeypatch, capsys):
    used, track = [], Tracker.track_many
    monkeypatch.setattr(
        Tracker, "track_many", lambda self, *a, **o: used.append(o["options"].zoom) or track(self, *a, **o)
    )
    arguments = ["lasot", "--data", build_lasot(tmp_path / "data"), "--output", tmp_path / "out", "--model", "seeing"]
    assert evaluate(*arguments, "--zoom", 2) == 0
    assert used == [2.0]  # the three sequences are tracked together
    assert report_of(tmp_path / "out")["trackers"]["seeing"]["ao"] > 75
    assert evaluate(*arguments) == 1
    assert "zoom: 2.0 before, None now" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("typed", "code", "message"),
    [
        (["--zoom", "0.5"], 2, "zoom must be 0 or a finite number of 1 or more, got 0.5"),
    ],
)
def test_a_wrong_zoom_is_refused_before_anything_is_opened(tmp_path, capsys, typed, code, message):
    assert evaluate("lasot", "--data", tmp_path / "none", "--output", tmp_path / "out", *typed) == code
    assert message in capsys.readouterr().err.replace("\n", " ")


def without_speed(report: dict) -> dict:
    """What must not depend on how a run was made; scores differ by rounding between batches of other sequences."""
    report = json.loads(json.dumps(report), parse_float=lambda number: round(float(number), 4))
    trackers = {
        name: {key: value for key, value in found.items() if key != "frames_per_s"}
        for name, found in report["trackers"].items()
    }
    return {key: value for key, value in report.items() if key != "command"} | {"trackers": trackers}


def lasot_run(out: Path, data: Path) -> list[str]:
    """The shipped checkpoint and CSRT on LaSOT."""
    return [*map(str, ["lasot", "--data", data, "--output", out, "--model", SHIPPED, "--tracker", "csrt"])]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, dict]:
    """LaSOT in small, and the report of a run that nothing stopped."""
    root = tmp_path_factory.mktemp("whole")
    data = build_lasot(root / "lasot", [f"cup-{number}" for number in range(1, 11)])  # eight at once, then two
    assert evaluate(*lasot_run(root / "out", data)) == 0
    report = without_speed(report_of(root / "out"))
    assert set(report["trackers"]) == {"elysium-tiny", "csrt"}
    return data, report


def test_a_killed_run_goes_on_and_nothing_is_tracked_twice(whole, tmp_path):
    data, report = whole
    results = tmp_path / "out" / "results" / "elysium-tiny"
    killed = Child(lambda: evaluate(*lasot_run(tmp_path / "out", data)), tmp_path / "killed.log")
    killed.kill_when(lambda: len(list(results.glob("*.txt"))) >= 2)
    written = {path: path.stat().st_mtime_ns for path in results.glob("*.txt")}
    assert 2 <= len(written) < 10
    assert not (tmp_path / "out" / "report.json").exists()
    assert evaluate(*lasot_run(tmp_path / "out", data)) == 0
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert without_speed(report_of(tmp_path / "out")) == report


@pytest.mark.slow
def test_two_processes_agree_with_one(whole, tmp_path):
    data, report = whole
    launch = ("-m", "accelerate.commands.accelerate_cli", "launch", "--cpu", "--num_processes", "2", "-m")
    command = [sys.executable, *launch, "elysium.cli", "evaluate", *lasot_run(tmp_path / "two", data)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert without_speed(report_of(tmp_path / "two")) == report


def test_an_opencv_without_contributed_modules_is_said_with_what_removed_them(tmp_path, monkeypatch, capsys):
    both = ["opencv-contrib-python-headless", "opencv-python"]
    monkeypatch.setattr(opencv_trackers, "packages_distributions", lambda: {"cv2": both})
    monkeypatch.setattr(opencv_trackers.cv2, "TrackerCSRT_create", None)
    monkeypatch.setattr(opencv_trackers.cv2, "legacy", None)
    data = build_lasot(tmp_path / "data")
    assert evaluate("lasot", "--data", data, "--output", tmp_path / "out", "--tracker", "csrt") == 1
    error = capsys.readouterr().err
    assert "the tracker CSRT needs OpenCV's contributed modules" in error
    assert f"of {' and '.join(both)}; pip uninstall -y {' '.join(both)} and then pip install opencv-contrib" in error


@pytest.mark.parametrize("name", OPENCV_TRACKERS)
def test_every_opencv_tracker_starts_from_the_box_and_answers_for_every_frame(name):
    frames, truth = pictures_and_boxes(num_frames=4)
    corners = np.concatenate([truth[:, :2], truth[:, :2] + truth[:, 2:]], axis=1)
    boxes = opencv_boxes(name, iter(frames), corners[0])
    assert boxes.shape == (4, 4)
    assert paired_iou(boxes[:1], corners[:1]) == 1


def test_a_sequence_that_fails_is_named_costs_none_of_the_others_and_the_same_command_resumes(
    seeing, tmp_path, capsys
):
    data = build_lasot(tmp_path / "data", ["cup-1", "cup-2", "cup-3"])
    broken = sorted((data / "cup" / "cup-2" / "img").iterdir())[4]
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    arguments = ["lasot", "--data", data, "--output", tmp_path / "out", "--model", "seeing", "--tracker", "first-box"]
    assert evaluate(*arguments) == 1
    said = capsys.readouterr().err
    assert "got 1 that failed (cup-2: " in said and "the same command resumes" in said
    files = sorted(path.stem for path in (tmp_path / "out" / "results" / "seeing").glob("*.txt"))
    assert files == ["cup-1", "cup-3"]
    assert len(list((tmp_path / "out" / "results" / "first-box").glob("*.txt"))) == 3
    broken.write_bytes(content)
    assert evaluate(*arguments) == 0
    assert len(seeing) == 5  # the broken one together with the others, alone, and by the second command
    assert report_of(tmp_path / "out")["data"]["sequences"] == 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["losat"], 2, "must be one of lasot, .*got 'losat'"),
        (["lasot", "--protocol", "old"], 2, "'old' is not one of 'standard', 'public-script'"),
        (["lasot", "--results", "DIR"], 2, "must be NAME=DIR, got 'DIR'"),
        (["lasot", "--results", "a=DIR", "--results", "a=DIR"], 2, "different names, got a twice"),
        (["lasot", "--results", "../a=DIR"], 2, "must not hold slashes"),
        (["lasot", "--results", "a=no"], 1, "results must be an existing folder, got no"),
        (["lasot", "--results", "a=empty"], 1, "SEQUENCE.txt or SEQUENCE/SEQUENCE_001.txt, got neither"),
        (["lasot", "--results", "a=part"], 1, "must hold every sequence, got none for airplane-2"),
        (["lasot", "--tracker", "siam"], 2, "a tracker must be one of first-box, .*got 'siam'"),
        (["lasot-language", "--tracker", "csrt"], 2, "prompts by text, which csrt does not understand"),
        (["lasot", "--split", "val"], 1, r"one of its own \(all, test, train\), got 'val'"),
        (["otb"], 1, "laid out as DIR/SEQUENCE/groundtruth_rect.txt"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_evaluated_is_refused_in_one_line_and_leaves_no_report(
    arguments, code, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    build_lasot(tmp_path / "data")
    write_results(tmp_path / "part", ["airplane-1"], 0)
    (tmp_path / "empty").mkdir()
    assert evaluate(*arguments, "--data", "data", "--output", "out") == code
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("Scoring: 0 of ")]
    assert len(said) == 1 and re.search(message, said[0])
    assert not (tmp_path / "out" / "report.json").exists()
