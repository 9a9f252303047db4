"""The commands: what they write and print, and what they say to bad input."""

import json
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from seeing_model import SeeingModel, squares
from tiny import save_tiny_checkpoint, tiny_model, tiny_processor

import elysium
import elysium.cli as cli
import elysium.track_command as track_command
from elysium.console import ProgressLines
from elysium.processing.structures import load_tracking_result
from elysium.processing.video_io import VideoWriter, read_video
from elysium.tracking.tracker import Tracker

STARTS = {"red": (4, 8), "green": (20, 56)}
WIDTH, HEIGHT = 128, 96
BOX = "4,8,36,40"


def write_clip(path: Path, num_frames: int) -> Path:
    """An mp4 in which a red and a green square move."""
    frames, _ = squares(num_frames, STARTS, width=WIDTH, height=HEIGHT, side=32)
    with VideoWriter(path, 10, WIDTH, HEIGHT) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """A folder with clip.mp4 (20 frames), one.mp4 (1 frame) and picture.png."""
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "clip.mp4", 20)
    write_clip(folder / "one.mp4", 1)
    Image.fromarray(squares(1, STARTS, width=WIDTH, height=HEIGHT, side=32)[0][0]).save(folder / "picture.png")
    return folder


@pytest.fixture
def workplace(clips, tmp_path, monkeypatch) -> Path:
    """An empty working directory with the clips beside it."""
    for clip in clips.iterdir():
        (tmp_path / clip.name).symlink_to(clip)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def seeing(monkeypatch):
    """Lets the commands load a model that sees squares of colour; called with options of `SeeingModel`."""

    def use(**options) -> None:
        def load(model: str, device: str | None, decoding: str = "fast") -> Tracker:
            return Tracker(SeeingModel(tiny_model(), tiny_processor(), **options), tiny_processor(), name=model)

        monkeypatch.setattr(cli, "load_tracker", load)
        monkeypatch.setattr(track_command, "load_tracker", load)

    use()
    return use


@pytest.fixture
def no_model(monkeypatch) -> None:
    """Lets a test fail where a command loads a model before it has checked its input."""

    def load(model: str, device: str | None, decoding: str = "fast") -> Tracker:
        raise AssertionError("the model was loaded before the input was checked")

    monkeypatch.setattr(cli, "load_tracker", load)
    monkeypatch.setattr(track_command, "load_tracker", load)


def names(folder: Path) -> list[str]:
    """What is in a folder and below it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def error_line(capsys) -> str:
    """The one line on stderr, which is an error."""
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("Error: ")
    return line


# --- help ---
SHAPES = str(Path(__file__).parent / "fixtures" / "media" / "shapes.mp4")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["track", "--help"], 0),
        (["train", "--list"], 0),
        (["track", "no-such.mp4", "--text", "a cup"], 1),
        (["track", SHAPES, "--text", "a cup", "--model", "elysium-tinny"], 1),
        (["track", SHAPES, "--text", "a cup", "--device", "gpu"], 1),
        (["ask", SHAPES, "what?", "--model", "no/such/folder"], 1),
        (["serve", "--model", "elysium-tinny"], 1),
        (["demo", "--model", "elysium-tinny"], 1),
        (["evaluate", "lasott", "--data", ".", "--output", "out"], 2),
        (["evaluate", "lasot", "--data", ".", "--output", "out", "--model", "elysium-tinny"], 1),
        (["evaluate", "lasot", "--data", ".", "--output", "out", "--tracker", "csrrt"], 2),
        (["evaluate", "refcoco", "--data", ".", "--output", "out", "--device", "gpu"], 1),
        (["train", "gpu"], 1),
        (["convert", "no-such-folder", "out"], 1),
    ],
)
def test_help_and_mistyped_arguments_load_neither_torch_nor_transformers(args, expected, tmp_path):
    code = (
        "import sys; from elysium.cli import run; "
        f"code = run({args!r}); print('loaded', code, {{'torch', 'transformers'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == f"loaded {expected} set()"


def test_the_module_is_the_command(tmp_path):
    done = subprocess.run([sys.executable, "-m", "elysium", "--version"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"elysium-vlm {elysium.__version__}\n")


def test_the_help_of_every_command_shows_flags_by_their_names_alone(capsys):
    groups = [([], typer.main.get_command(cli.app))]
    while groups:
        words, command = groups.pop()
        assert cli.run([*words, "--help"]) == 0
        shown = capsys.readouterr().out
        assert "--help" in shown and "bool" not in shown
        groups += [([*words, name], sub) for name, sub in getattr(command, "commands", {}).items()]


def test_the_help_of_evaluate_has_common_options_first(capsys):
    assert cli.run(["evaluate", "--help"]) == 0
    shown = capsys.readouterr().out
    places = [shown.index(word) for word in ("--data", "Tracking benchmarks", "Question benchmarks", "--zoom")]
    assert places == sorted(places)


def test_no_arguments_show_the_help(capsys):
    assert cli.run([]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in ("track", "ground", "describe", "ask", "synth"))


# --- track ---
def test_track_by_words_writes_an_annotated_video_and_the_boxes(workplace, seeing, capsys):
    args = ["track", "../clip.mp4", "--text", "the red square", "--output", "out/a.mp4", "--boxes", "out/a.json"]
    assert cli.run(args) == 0
    assert names(workplace) == ["out", "out/a.json", "out/a.mp4"]
    result = load_tracking_result("out/a.json")
    assert result.complete
    assert len(result.tracks[0]) == len(read_video("out/a.mp4")) == 20
    _, true_boxes = squares(20, STARTS, width=WIDTH, height=HEIGHT, side=32)
    assert np.abs(result.tracks[0].boxes_xyxy_px - true_boxes["red"]).max() < 6
    assert capsys.readouterr().out.splitlines()[-2:] == ["Boxes: out/a.json", "Video: out/a.mp4"]


def test_the_boxes_have_the_documented_fields(workplace, seeing):
    assert cli.run(["track", "../clip.mp4", "--box", BOX, "--boxes", "a.json"]) == 0
    record = json.loads(Path("a.json").read_text())
    assert set(record) == {"video", "fps", "width", "height", "model", "complete", "tracks"}
    assert (record["video"], record["width"], record["height"], record["model"]) == (
        "../clip.mp4",
        WIDTH,
        HEIGHT,
        "elysium-small",
    )
    (track,) = record["tracks"]
    assert track["init_box_xyxy_px"] == track["frames"][0]["box_xyxy_px"] == [4, 8, 36, 40]
    assert set(track["frames"][5]) == {"frame_idx", "time_s", "box_xyxy_px", "score", "doubt"}


def test_several_objects_get_a_track_each(workplace, seeing, capsys):
    args = ["track", "../clip.mp4", "--text", "the red square", "--text", "the green square", "--json"]
    assert cli.run(args) == 0
    record = json.loads(capsys.readouterr().out)
    assert [(track["id"], track["text"]) for track in record["tracks"]] == [
        (1, "the red square"),
        (2, "the green square"),
    ]
    assert names(workplace) == []


@pytest.fixture
def used(monkeypatch):
    """The options of every call of a tracker that sees, in the place of the shipped model's."""
    calls = []

    class Listening(Tracker):
        def iter_track(self, video, text=None, **options):
            calls.append(options)
            return super().iter_track(video, text, **options)

    tracker = Listening(SeeingModel(tiny_model(), tiny_processor()), tiny_processor())
    monkeypatch.setattr(track_command, "load_tracker", lambda *_: tracker)
    return calls


def test_reground_goes_to_the_tracker(workplace, used):
    for typed in ([], ["--reground"]):
        assert cli.run(["track", "../clip.mp4", "--text", "the red square", *typed, "--boxes", "a.json"]) == 0
    assert [options["options"].reground for options in used] == [None, True]


@pytest.mark.parametrize(
    ("typed", "zoom"),
    [([], None), (["--zoom", "0"], 0.0), (["--zoom", "3.5"], 3.5), (["--zoom=3"], 3.0)],
)
def test_zoom_goes_to_the_tracker(workplace, used, typed, zoom):
    assert cli.run(["track", "../clip.mp4", "--box", BOX, *typed, "--boxes", "a.json"]) == 0
    assert [options["options"].zoom for options in used] == [zoom]
    _, true_boxes = squares(20, STARTS, width=WIDTH, height=HEIGHT, side=32)
    assert np.abs(load_tracking_result("a.json").tracks[0].boxes_xyxy_px - true_boxes["red"]).max() < 6


@pytest.mark.parametrize("suffix", ["csv", "txt"])
def test_the_suffix_chooses_the_format_of_the_boxes(workplace, seeing, suffix):
    assert cli.run(["track", "../clip.mp4", "--box", BOX, "--boxes", f"a.{suffix}"]) == 0
    lines = Path(f"a.{suffix}").read_text().splitlines()
    assert len(lines) == 20 + (suffix == "csv")
    assert lines[0].startswith("track_id," if suffix == "csv" else "1,1,5.000,9.000,32.000,32.000")


def test_without_outputs_a_video_and_the_boxes_are_written_here(workplace, seeing):
    assert cli.run(["track", "../clip.mp4", "--box", BOX]) == 0
    assert names(workplace) == ["clip.boxes.json", "clip.tracked.mp4"]


def test_a_contact_sheet_is_a_picture(workplace, seeing):
    assert cli.run(["track", "../clip.mp4", "--box", BOX, "--sheet", "a.png"]) == 0
    assert Image.open("a.png").size[0] > 1000


@pytest.mark.parametrize("video", ["../one.mp4", "../picture.png"])
def test_one_frame_alone_is_tracked(workplace, seeing, video):
    assert cli.run(["track", video, "--text", "the red square", "--output", "a.mp4", "--boxes", "a.json"]) == 0
    assert load_tracking_result("a.json").tracks[0].valid.tolist() == [True]
    assert len(read_video("a.mp4")) == 1


def test_a_video_that_is_cut_short_is_tracked_as_far_as_it_decodes(workplace, seeing, capsys):
    with VideoWriter("../noise.mp4", 10, WIDTH, HEIGHT) as writer:  # noise, so that every frame takes many bytes
        for frame in np.random.default_rng(0).integers(0, 255, (20, HEIGHT, WIDTH, 3), dtype=np.uint8):
            writer.write(frame)
    content = Path("../noise.mp4").read_bytes()
    Path("../cut.mp4").write_bytes(content[: int(0.75 * len(content))])
    assert cli.run(["track", "../cut.mp4", "--box", BOX, "--boxes", "a.json"]) == 0
    num_frames = len(load_tracking_result("a.json").tracks[0])
    assert 0 < num_frames < 20
    warning = capsys.readouterr().err
    assert "\nWarning: " in warning
    assert f"{num_frames} of 20" in warning


def folder_of_images(folder: Path, num_frames: int = 12) -> Path:
    folder.mkdir()
    frames, _ = squares(num_frames, STARTS, width=WIDTH, height=HEIGHT, side=32)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{index}.png")
    return folder


def test_the_frame_rate_of_a_folder_is_an_option(workplace, seeing):
    folder_of_images(Path("../frames"))
    args = ["track", "../frames", "--box", BOX, "--fps", "25", "--boxes", "a.json", "--output", "a.mp4"]
    assert cli.run(args) == 0
    assert load_tracking_result("a.json").fps == 25
    assert load_tracking_result("a.json").tracks[0].timestamps_s.tolist() == pytest.approx([i / 25 for i in range(12)])
    assert read_video("a.mp4").timestamps_s == pytest.approx([i / 25 for i in range(12)], abs=1e-3)


@pytest.mark.parametrize(
    ("video", "fps", "reason"),
    [
        ("../clip.mp4", "25", "a file, which has its own times (10 frames per second)"),
        ("../frames", "0", "above 0"),
        ("../frames", "nan", "above 0"),
        ("../frames", "1e9", "at most 100000"),
    ],
)
def test_a_frame_rate_that_cannot_be_used_is_refused_before_the_model(workplace, no_model, capsys, video, fps, reason):
    folder_of_images(Path("../frames"))
    args = ["track", video, "--box", BOX, "--fps", fps, "--boxes", "a.json", "--output", "a.mp4"]
    assert cli.run(args) == 2
    assert reason in capsys.readouterr().err
    assert names(workplace) == []


def test_what_drawing_warns_of_is_one_line(workplace, seeing, capsys):
    args = ["track", "../clip.mp4", "--text", "the red square \U0010fffd", "--output", "a.mp4", "--progress", "none"]
    assert cli.run(args) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("Warning: the label")] == lines
    assert len(lines) == 1


# --- interrupted ---
def test_ctrl_c_keeps_the_finished_windows_and_says_so(workplace, seeing, capsys):
    seeing(interrupt_at=3)
    args = ["track", "../clip.mp4", "--box", BOX, "--boxes", "a.json", "--output", "a.mp4"]
    assert cli.run(args) == 130
    assert names(workplace) == ["a.json", "a.json.partial"]
    result = load_tracking_result("a.json")
    assert not result.complete
    assert len(result.tracks[0]) == 15
    assert "first 15 frames" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--boxes=a.csv", "--output=a.mp4"])
def test_ctrl_c_writes_json_where_the_other_formats_cannot_say_that_it_is_not_complete(workplace, seeing, option):
    seeing(interrupt_at=2)
    assert cli.run(["track", "../clip.mp4", "--box", BOX, option]) == 130
    name = option.partition("=")[2]
    assert names(workplace) == [f"{name}.partial", f"{name}.stopped.json"]
    assert json.loads(Path(f"{name}.stopped.json").read_text())["complete"] is False


def test_ctrl_c_prints_the_finished_windows_for_other_programs(workplace, seeing, capsys):
    seeing(interrupt_at=2)
    assert cli.run(["track", "../clip.mp4", "--box", BOX, "--json"]) == 130
    assert json.loads(capsys.readouterr().out)["complete"] is False


def test_ctrl_c_in_the_first_window_leaves_nothing(workplace, seeing, capsys):
    seeing(interrupt_at=1)
    assert cli.run(["track", "../clip.mp4", "--box", BOX, "--boxes", "a.json"]) == 130
    assert names(workplace) == []
    assert "nothing was written" in capsys.readouterr().err


def test_ctrl_c_while_drawing_keeps_the_boxes_and_no_part_of_the_video(workplace, seeing, monkeypatch):
    import elysium.visualization.annotate as annotate

    def interrupted(self, image, marks):
        raise KeyboardInterrupt

    monkeypatch.setattr(annotate.FrameAnnotator, "annotate", interrupted)
    assert cli.run(["track", "../clip.mp4", "--box", BOX, "--boxes", "a.json", "--output", "a.mp4"]) == 130
    assert names(workplace) == ["a.json", "a.json.partial"]
    assert load_tracking_result("a.json").complete


# --- the other commands ---
def test_ground_prints_a_box_and_its_score_for_each_phrase(workplace, seeing, capsys):
    args = ["ground", "../picture.png", "--text", "the red square", "--text", "the blue square"]
    assert cli.run([*args, "--output", "a.png"]) == 0
    found, absent = capsys.readouterr().out.splitlines()
    name, _, numbers = found.partition(": ")
    box, _, score = numbers.partition(" ")
    assert (name, score) == ("the red square", "(score 0.90)")
    assert np.abs(np.array(box.split(","), dtype=float) - (4, 8, 36, 40)).max() < 4
    assert absent == "the blue square: none (absent)"
    assert Image.open("a.png").size == (WIDTH, HEIGHT)


def test_ground_prints_json_for_other_programs(workplace, seeing, capsys):
    assert cli.run(["ground", "../picture.png", "--text", "the blue square", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["groundings"][0]["box_xyxy_px"] is None
    assert record["groundings"][0]["reason"] == "absent"


@pytest.mark.parametrize("video", ["../clip.mp4", "../picture.png"])
def test_describe_says_what_is_in_the_box(workplace, seeing, capsys, video):
    assert cli.run(["describe", video, "--box", "22,58,50,86"]) == 0
    assert capsys.readouterr().out == "the green square\n"


def test_ask_answers_about_a_video_and_about_a_picture(workplace, seeing, capsys):
    assert cli.run(["ask", "../clip.mp4", "how many frames?"]) == 0
    assert cli.run(["ask", "../picture.png", "how many frames?", "--json"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert (first, json.loads(second)["answer"]) == ("16", "1")


def test_synth_writes_clips_with_rows(workplace, capsys):
    assert cli.run(["synth", "out", "--count", "2", "--seed", "5"]) == 0
    rows = [json.loads(line) for path in Path("out").rglob("*.jsonl") for line in path.read_text().splitlines()]
    assert rows
    assert all((Path("out") / row["video"]).is_file() for row in rows)
    assert not [name for name in names(workplace) if name.endswith(".part")]
    assert cli.run(["synth", "out", "--count", "2"]) == 2
    assert "must be a new or empty folder" in capsys.readouterr().err


# --- bad input ---
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (None, "must be an existing file"),
        (lambda path: path.write_bytes(b""), "0 bytes"),
        (lambda path: path.write_text("these are no pictures\n" * 50), "bad.mp4"),
        (lambda path: write_sound(path), "audio|no video"),
    ],
    ids=["missing", "zero bytes", "text renamed", "audio only"],
)
@pytest.mark.parametrize("command", ["track", "ground", "describe", "ask"])
def test_a_file_that_is_no_video_is_refused_before_the_model_is_loaded(
    workplace, no_model, capsys, command, make, message
):
    if make is not None:
        make(Path("../bad.mp4"))
    more = {"track": ["--box", BOX, "--boxes", "a.json"], "ground": ["--text", "a cup", "--output", "a.png"]}
    args = [command, "../bad.mp4", *more.get(command, ["--box", BOX] if command == "describe" else ["what?"])]
    assert cli.run(args) == 1
    line = error_line(capsys)
    assert any(part in line for part in message.split("|"))
    assert "; " in line
    assert names(workplace) == []


def write_sound(path: Path) -> None:
    """A tenth of a second of silence."""
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(1600))


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ("4,8,300,40", "inside the 128x96 image"),
        ("-4,8,30,40", "inside the 128x96 image"),
        ("36,8,4,40", "x1 < x2"),
        ("60,50,32,32", "is it x,y,w,h?"),
        ("4,8,4,40", "x1 < x2"),
        ("4,8,36", "four numbers"),
        ("a cup", "four numbers"),
        ("4,8,36,nan", "finite"),
        ("", "four numbers"),
    ],
)
@pytest.mark.parametrize("command", ["track", "describe"])
def test_a_wrong_box_is_refused_before_the_model_is_loaded(workplace, no_model, capsys, command, box, message):
    more = ["--boxes", "a.json", "--output", "a.mp4"] if command == "track" else []
    assert cli.run([command, "../clip.mp4", f"--box={box}", *more]) == 2
    line = error_line(capsys)
    assert message in line
    assert "--box" in line
    assert names(workplace) == []


@pytest.mark.parametrize(
    "args",
    [
        ["track", "../clip.mp4", "--text", ""],
        ["track", "../clip.mp4", "--text", "a cup", "--text", "  "],
        ["ground", "../picture.png", "--text", " "],
        ["ask", "../clip.mp4", ""],
    ],
)
def test_empty_words_are_refused_before_the_model_is_loaded(workplace, no_model, capsys, args):
    assert cli.run(args) == 2
    assert "must be words" in error_line(capsys)
    assert names(workplace) == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["track", "../clip.mp4"], "neither text nor box"),
        (["track", "../clip.mp4", "--text", "a", "--box", BOX, "--box", BOX], "one --text for each --box"),
        (["track", "../clip.mp4", "--text", "a", "--boxes", "a.xml"], ".json, .csv, .txt"),
        (["track", "../clip.mp4", "--text", "a", "--output", "a.avi"], ".mp4"),
        (["track", "../clip.mp4", "--text", "a", "--output", "../clip.mp4"], "another file than the input"),
        (["track", "../clip.mp4", "--text", "a", "--sheet", "a.jpg"], ".png"),
        (
            ["track", "../clip.mp4", "--text", "a", "--zoom", "0.5"],
            "zoom must be 0 or a finite number of 1 or more, got 0.5",
        ),
        (
            ["track", "../clip.mp4", "--text", "a", "--zoom", "-1"],
            "zoom must be 0 or a finite number of 1 or more, got -1",
        ),
        (
            ["track", "../clip.mp4", "--text", "a", "--zoom", "nan"],
            "zoom must be 0 or a finite number of 1 or more, got nan",
        ),
        (["track", "../clip.mp4", "--text", "a", "--zoom", "much"], "--zoom"),
        (["track", "../clip.mp4", "--box", BOX, "--reground"], "--reground must have a text prompt, got a box alone"),
        (["track", "--text", "a", "--zoom", "../clip.mp4"], "--zoom"),
        (["ground", "../picture.png", "--text", "a", "--output", "../picture.png"], "another file than the input"),
        (["ground", "../picture.png", "--text", "a", "--output", "a.webp"], "the file must end in .png, got a.webp"),
        (["track", "../clip.mp4", "--txt", "a"], "--txt"),
        (["trakc", "../clip.mp4"], "track"),
        (["track"], "VIDEO"),
        (["synth", "out", "--count", "0"], "--count"),
    ],
)
def test_a_wrong_argument_is_refused_with_a_remedy(workplace, no_model, capsys, args, message):
    assert cli.run(args) == 2
    assert message in error_line(capsys)
    assert names(workplace) == []


@pytest.mark.parametrize(
    "option", ["--output=../one.mp4/a.mp4", "--boxes=../one.mp4/new/a.json", "--sheet=/proc/a.png"]
)
def test_an_output_folder_that_cannot_be_written_is_found_before_the_work(workplace, no_model, capsys, option):
    assert cli.run(["track", "../clip.mp4", "--box", BOX, option]) == 1
    assert "folder of an output must be writable" in error_line(capsys)
    assert names(workplace) == []


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A folder with the tiny random model."""
    folder = tmp_path_factory.mktemp("checkpoint") / "random"
    save_tiny_checkpoint(folder)
    return folder


def pickled(folder: Path, checkpoint: Path) -> None:
    """A checkpoint whose weights are a pickle."""
    folder.mkdir()
    for path in checkpoint.iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).symlink_to(path)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04N.")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder, _: None, "check the name"),
        (lambda folder, _: folder.mkdir(), "config.json"),
        (lambda folder, _: folder.write_text("weights"), "must be a folder"),
        (pickled, "can run code"),
    ],
    ids=["unknown", "no checkpoint", "a file", "pickle"],
)
def test_a_model_that_cannot_be_loaded_is_named_with_a_remedy(workplace, checkpoint, capsys, make, message):
    make(Path("../model"), checkpoint)
    args = ["track", "../clip.mp4", "--box", BOX, "--model", "../model", "--output", "a.mp4", "--boxes", "a.json"]
    assert cli.run(args) == 1
    line = error_line(capsys)
    assert message in line
    assert "../model" in line
    assert names(workplace) == []


def test_a_device_that_is_not_there_is_named(workplace, checkpoint, capsys):
    assert cli.run(["ask", "../picture.png", "what?", "--model", str(checkpoint), "--device", "gpu"]) == 1
    assert "device must be" in error_line(capsys)


def test_a_checkpoint_trained_on_synthetic_scenes_says_so(workplace, checkpoint, tmp_path, capsys):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in checkpoint.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"trained_on": "trained on synthetic scenes (squares)"}))
    assert cli.run(["track", "../one.mp4", "--box", BOX, "--model", str(copy), "--boxes", "a.json"]) == 0
    assert f"Note on {copy}: trained on synthetic scenes (squares)." in capsys.readouterr().err


def test_an_error_that_nobody_foresaw_is_one_line_too(workplace, monkeypatch, capsys):
    def broken(path):
        raise KeyError("frames")

    monkeypatch.setattr(cli, "open_info", broken)
    assert cli.run(["ask", "../clip.mp4", "what?"]) == 1
    assert "unexpected KeyError" in error_line(capsys)
    assert cli.run(["--debug", "ask", "../clip.mp4", "what?"]) == 1
    assert "Traceback" in capsys.readouterr().err


# --- resumed ---
@pytest.fixture
def long_clip(workplace) -> Path:
    """A video of 100 frames: 15 windows."""
    return write_clip(workplace.parent / "long.mp4", 100)


def whole_boxes(*args: str) -> bytes:
    """The JSON of a run that nobody stops."""
    assert cli.run(["track", "../long.mp4", *args, "--boxes", "whole.json"]) == 0
    return Path("whole.json").read_bytes()


def test_a_stopped_run_is_resumed_to_the_same_bytes(workplace, long_clip, seeing, capsys):
    args = ["--box", BOX, "--text", "the red square"]
    expected = whole_boxes(*args)
    seeing(interrupt_at=12)
    assert cli.run(["track", "../long.mp4", *args, "--boxes", "a.json"]) == 130
    assert "The same command with --resume resumes this run." in capsys.readouterr().err
    seeing(interrupt_at=4)  # 8 of 11 calls are in the file, and 3 follow
    assert cli.run(["track", "../long.mp4", *args, "--boxes", "a.json", "--resume"]) == 130
    assert len(load_tracking_result("a.json").tracks[0]) == 1 + 11 * 7
    seeing()
    assert cli.run(["track", "../long.mp4", *args, "--boxes", "a.json", "--resume"]) == 0
    assert Path("a.json").read_bytes() == expected
    assert names(workplace) == ["a.json", "whole.json"]


def test_a_run_that_is_stopped_twice_and_resumed_leaves_what_was_asked_for_alone(workplace, long_clip, seeing):
    args = ["track", "../long.mp4", "--box", BOX, "--boxes", "r.csv"]
    seeing(interrupt_at=12)
    assert cli.run(args) == 130
    seeing(interrupt_at=4)
    assert cli.run([*args, "--resume"]) == 130
    assert names(workplace) == ["r.csv.partial", "r.csv.stopped.json"]
    assert len(load_tracking_result("r.csv.stopped.json").tracks[0]) == 1 + 11 * 7
    seeing()
    assert cli.run([*args, "--resume"]) == 0
    assert names(workplace) == ["r.csv"]


def test_a_run_without_resume_sets_aside_what_a_stopped_one_left(workplace, long_clip, seeing, capsys):
    args = ["track", "../long.mp4", "--box", BOX, "--boxes", "r.csv"]
    seeing(interrupt_at=12)
    assert cli.run(args) == 130
    left = [Path(name).read_bytes() for name in names(workplace)]
    capsys.readouterr()
    seeing()
    assert cli.run(["track", "../long.mp4", "--text", "the red square", "--boxes", "r.csv"]) == 0
    assert names(workplace) == ["r.csv", "r.csv-2.partial", "r.csv.stopped-2.json"]
    assert [Path(name).read_bytes() for name in names(workplace)[1:]] == left
    said = capsys.readouterr().err
    assert "Note: r.csv.partial of a stopped run is now r.csv-2.partial." in said
    assert "mv r.csv-2.partial r.csv.partial, then its command with --resume." in said
    Path("r.csv-2.partial").rename("r.csv.partial")
    seeing(interrupt_at=8)  # 8 of 15 calls are in the file
    assert cli.run([*args, "--resume"]) == 0


def test_names_that_nobody_gave_are_those_of_the_run_that_is_resumed(workplace, long_clip, seeing, capsys):
    seeing(interrupt_at=12)
    assert cli.run(["track", "../long.mp4", "--box", BOX]) == 130
    assert names(workplace) == ["long.boxes.json", "long.boxes.json.partial"]
    seeing()
    assert cli.run(["track", "../long.mp4", "--box", BOX, "--resume"]) == 0
    assert names(workplace) == ["long.boxes.json", "long.tracked.mp4"]
    assert load_tracking_result("long.boxes.json").complete


def test_a_run_that_was_stopped_while_drawing_is_resumed_without_the_model(
    workplace, long_clip, seeing, monkeypatch, capsys
):
    import elysium.visualization.annotate as annotate

    def interrupted(self, image, marks):
        raise KeyboardInterrupt

    with monkeypatch.context() as once:
        once.setattr(annotate.FrameAnnotator, "annotate", interrupted)
        assert cli.run(["track", "../long.mp4", "--box", BOX, "--output", "a.mp4"]) == 130
    seeing(interrupt_at=8)  # 8 of 15 calls are in the file
    assert cli.run(["track", "../long.mp4", "--box", BOX, "--output", "a.mp4", "--resume"]) == 0
    assert len(read_video("a.mp4")) == 100


def test_resume_without_a_stopped_run_starts_at_the_first_frame_and_says_so(workplace, seeing, capsys):
    assert cli.run(["track", "../clip.mp4", "--box", BOX, "--boxes", "a.json", "--resume"]) == 0
    assert "no stopped run has left a.json.partial" in capsys.readouterr().err
    assert names(workplace) == ["a.json"]


def test_a_run_with_other_arguments_is_not_resumed(workplace, long_clip, seeing, capsys):
    seeing(interrupt_at=3)
    assert cli.run(["track", "../long.mp4", "--box", BOX, "--boxes", "a.json"]) == 130
    capsys.readouterr()
    assert cli.run(["track", "../long.mp4", "--text", "a cup", "--boxes", "a.json", "--resume"]) == 2
    line = error_line(capsys)
    assert 'in a.json.partial, got text "a cup", no box in place of no text, box 4,8,36,40; give the same, or' in line
    assert line.endswith("leave out --resume")
    assert cli.run(["track", "../long.mp4", "--box", BOX, "--json", "--resume"]) == 2
    assert "--resume must have the file of a stopped run" in error_line(capsys)


# --- progress ---
@pytest.fixture
def slow_clock(monkeypatch) -> None:
    """A clock that goes on by four seconds whenever it is read."""
    seconds = iter(range(0, 10**6, 4))
    monkeypatch.setattr("elysium.console.monotonic", lambda: float(next(seconds)))


@pytest.mark.parametrize(("typed", "lines"), [([], 6), (["--progress", "plain"], 6), (["--progress", "none"], 0)])
def test_progress_is_a_line_at_the_start_and_every_ten_seconds_without_a_terminal(
    workplace, long_clip, seeing, slow_clock, capsys, typed, lines
):
    assert cli.run(["track", "../long.mp4", "--box", BOX, "--boxes", "a.json", *typed]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Tracking: ")]
    assert len(said) == lines
    if said:
        assert said[0] == "Tracking: 0 of 100 frames"
        assert said[1] == "Tracking: 22 of 100 frames, 1.8 frames/s, 0:00:45 left"
        assert said[-1] == "Tracking: 100 of 100 frames, 1.6 frames/s, 0:00:00 left"


def test_the_time_of_what_is_done_first_is_no_part_of_the_rate(monkeypatch, capsys):
    seconds = iter([0, 100, 100, 101, 120])
    monkeypatch.setattr("elysium.console.monotonic", lambda: next(seconds))
    lines = ProgressLines("Tracking", 217, "frames")
    for done in (0, 1, 8, 41):
        lines.update(done)
    assert capsys.readouterr().err.splitlines() == [
        "Tracking: 0 of 217 frames",
        "Tracking: 1 of 217 frames",
        "Tracking: 41 of 217 frames, 2.0 frames/s, 0:01:28 left",
    ]
