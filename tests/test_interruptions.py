"""Commands that are stopped: what they keep, where, and what they leave as it was. At random moments, by hand:
`python tests/interruption_sweep.py`."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from seeing_model import SeeingModel, squares
from tiny import tiny_model, tiny_processor

import elysium.cli as cli
import elysium.track_command as track_command
import elysium.visualization.annotate as annotate
from elysium.interruptions import Terminated, signals_wait, terminations_interrupt
from elysium.processing.structures import TrackingResult, load_tracking_result
from elysium.processing.video_io import VideoWriter
from elysium.tracking.tracker import Tracker

pytestmark = pytest.mark.filterwarnings("ignore:decoding must fit")
WIDTH, HEIGHT = 128, 96
BOX = "4,8,36,40"
NUM_FRAMES = 30


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """A working directory with a folder of 30 frames, a video of them, and a file of the user's."""
    frames, _ = squares(NUM_FRAMES, {"red": (4, 8)}, width=WIDTH, height=HEIGHT, side=32)
    (tmp_path / "frames").mkdir()
    with VideoWriter(tmp_path / "clip.mp4", 10, WIDTH, HEIGHT) as writer:
        for number, frame in enumerate(frames):
            writer.write(frame)
            Image.fromarray(frame).save(tmp_path / "frames" / f"f{number:03}.png")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("a.json").write_text("mine")
    return tmp_path / "here"


@pytest.fixture
def model(monkeypatch) -> SeeingModel:
    """The model that the commands load; it sees squares of colour."""
    model = SeeingModel(tiny_model(), tiny_processor())
    tracker = Tracker(model, tiny_processor())
    monkeypatch.setattr(cli, "load_tracker", lambda *_: tracker)
    monkeypatch.setattr(track_command, "load_tracker", lambda *_: tracker)
    return model


def names() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def at_call(monkeypatch, owner, name, call, action) -> None:
    """Let a function do something else at one of its calls, counted from 1."""
    function, calls = getattr(owner, name), []

    def replaced(*args, **options):
        calls.append(1)
        if len(calls) == call:
            action()
        return function(*args, **options)

    monkeypatch.setattr(owner, name, replaced)


def raises(error):
    def action():
        raise error

    return action


def track(*arguments: str, video="../clip.mp4") -> int:
    return cli.run(["track", video, "--box", BOX, *arguments])


# --- exceptions ---
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("CUDA error: device-side assert"), 1),
        (MemoryError(), 1),
        (OSError(errno.EIO, "Input/output error"), 1),
        (KeyboardInterrupt(), 130),
        (SystemExit(7), 7),
    ],
    ids=repr,
)
def test_what_stops_the_model_keeps_the_finished_windows_in_a_file_of_their_own(
    workplace, model, monkeypatch, capsys, error, code
):
    at_call(monkeypatch, model, "generate", 3, raises(error))
    assert track("--boxes", "a.csv", "--output", "a.mp4") == code
    assert names() == ["a.csv.partial", "a.csv.stopped.json", "a.json"]
    assert Path("a.json").read_text() == "mine"
    kept = load_tracking_result("a.csv.stopped.json")
    assert (kept.complete, len(kept.tracks[0])) == (False, 15)
    said = capsys.readouterr().err
    assert "the boxes of the first 15 frames are in a.csv.stopped.json, marked as not complete" in said


@pytest.mark.parametrize("bad", [3, 20, 29])
def test_the_frames_before_a_damaged_image_are_kept(workplace, model, capsys, bad):
    damaged = Path(f"../frames/f{bad:03}.png")
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    assert track("--boxes", "b.json", video="../frames") == 1
    kept = load_tracking_result("b.json")
    assert (kept.complete, len(kept.tracks[0])) == (False, bad)
    assert f"first {bad} frames are in b.json" in (said := capsys.readouterr().err)
    assert f"must decode whole, got ../frames/f{bad:03}.png" in said


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [(annotate.FrameAnnotator, "annotate", 5), (VideoWriter, "write", 9), (VideoWriter, "_finish", 1)],
)
@pytest.mark.parametrize("error", [FULL, ValueError("no font"), KeyboardInterrupt(), Terminated(15)], ids=repr)
def test_what_stops_the_drawing_keeps_all_boxes_and_no_part_of_the_video(
    workplace, model, monkeypatch, capsys, owner, name, call, error
):
    at_call(monkeypatch, owner, name, call, raises(error))
    assert track("--output", "a.mp4") != 0
    assert names() == ["a.json", "a.mp4.partial", "a.mp4.stopped.json"]
    kept = load_tracking_result("a.mp4.stopped.json")
    assert (kept.complete, len(kept.tracks[0])) == (True, NUM_FRAMES)
    assert f"the boxes of all {NUM_FRAMES} frames are in a.mp4.stopped.json." in capsys.readouterr().err


def test_what_stops_the_sheet_leaves_what_is_written_and_says_what(workplace, model, monkeypatch, capsys):
    import elysium.visualization.contact_sheet as sheet

    at_call(monkeypatch, sheet, "contact_sheet", 1, raises(FULL))
    assert track("--output", "b.mp4", "--boxes", "b.csv", "--sheet", "b.png") == 1
    assert names() == ["a.json", "b.csv", "b.csv.partial", "b.mp4"]
    said = capsys.readouterr().err
    assert "Boxes: b.csv" in said and "Video: b.mp4" in said


def test_a_full_disk_keeps_the_boxes_in_the_temporary_folder(workplace, model, monkeypatch, tmp_path, capsys):
    save = TrackingResult.save

    def full_here(self, path):
        if not str(path).startswith(str(tmp_path / "elsewhere")):
            raise FULL
        save(self, path)

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(track_command.tempfile, "gettempdir", lambda: str(tmp_path / "elsewhere"))
    monkeypatch.setattr(TrackingResult, "save", full_here)
    assert track("--boxes", "b.csv") == 1
    assert names() == ["a.json", "b.csv.partial"]
    assert load_tracking_result(tmp_path / "elsewhere" / "b.csv.stopped.json").complete
    assert f"{tmp_path / 'elsewhere' / 'b.csv.stopped.json'}." in capsys.readouterr().err


# --- names that nobody gave ---
def test_names_that_nobody_gave_are_free_ones(workplace, model):
    for name in ("clip.tracked.mp4", "clip-2.boxes.json"):
        Path(name).write_text("mine")
    assert track() == 0
    assert names() == ["a.json", "clip-2.boxes.json", "clip-3.boxes.json", "clip-3.tracked.mp4", "clip.tracked.mp4"]
    assert [Path(name).read_text() for name in ("clip.tracked.mp4", "clip-2.boxes.json")] == ["mine", "mine"]


def test_a_long_name_of_a_video_gives_names_that_can_be(workplace, model):
    video = Path("../" + "é" * 125 + ".mp4")  # 254 bytes
    video.write_bytes(Path("../clip.mp4").read_bytes())
    assert track(video=str(video)) == 0
    assert sum(name.endswith((".tracked.mp4", ".boxes.json")) for name in names()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--boxes", "b" * 251 + ".json"], "at most 255 bytes here, got 256"),
        (["--boxes", "new/" + "b" * 256 + "/b.json"], "at most 255 bytes here, got 256"),
        (["--sheet", "../frames/sheet.png"], "must not be a frame of the input"),
        (["--text", os.fsdecode(b"caf\xe9")], "must be text in UTF-8"),
        (["--box", "0.1,0.1,0.5,0.5"], "must be in pixels"),
    ],
)
def test_what_cannot_be_is_refused_before_the_model_is_loaded(workplace, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(track_command, "load_tracker", raises(AssertionError))
    assert track(*arguments, video="../frames") == 2
    assert message in capsys.readouterr().err
    assert names() == ["a.json"]


def test_a_file_name_that_is_no_utf_8_is_read_and_written(workplace, model):
    name = os.fsdecode(b"caf\xe9")
    Path(f"../{name}.mp4").write_bytes(Path("../clip.mp4").read_bytes())
    assert track(video=f"../{name}.mp4") == 0
    assert load_tracking_result(f"{name}.boxes.json").video == f"../{name}.mp4"
    assert names() == ["a.json", f"{name}.boxes.json", f"{name}.tracked.mp4"]


@pytest.mark.parametrize("excess", [0.0005, 0.9])
def test_a_small_excess_of_a_box_is_cut_off_and_a_box_below_a_pixel_is_warned_of(workplace, model, capsys, excess):
    assert cli.run(["track", "../clip.mp4", f"--box={-excess},8,36,40", "--boxes", "b.json"]) == 0
    assert load_tracking_result("b.json").tracks[0].init_box_xyxy_px == (0, 8, 36, 40)
    assert cli.run(["track", "../clip.mp4", "--box=4,8,4.5,40", "--boxes", "b.json"]) == 0
    assert capsys.readouterr().err.count("box_xyxy_px (4, 8, 4.5, 40) is less than one pixel") == 1


# --- signals ---
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_keeps_the_finished_windows(workplace, model, monkeypatch, signum, code):
    at_call(monkeypatch, model, "generate", 3, lambda: os.kill(os.getpid(), signum))
    with handled(signum):
        assert track("--boxes", "b.json") == code
    assert len(load_tracking_result("b.json").tracks[0]) == 15
    assert names() == ["a.json", "b.json", "b.json.partial"]


class handled:  # noqa: N801
    """Ctrl-C and terminations as a program finds them that was started from a terminal."""

    def __init__(self, signum):
        self.signum = signum

    def __enter__(self):
        usual = signal.default_int_handler if self.signum == signal.SIGINT else signal.SIG_DFL
        self.before = signal.signal(self.signum, usual)

    def __exit__(self, *_):
        signal.signal(self.signum, self.before)


def test_a_second_signal_does_not_break_off_the_saving(workplace, model, monkeypatch):
    def twice(self, path):
        os.kill(os.getpid(), signal.SIGTERM)
        save(self, path)

    save = TrackingResult.save
    monkeypatch.setattr(TrackingResult, "save", twice)
    at_call(monkeypatch, model, "generate", 2, raises(KeyboardInterrupt()))
    with handled(signal.SIGTERM):
        assert track("--boxes", "b.json") == 130
    assert len(load_tracking_result("b.json").tracks[0]) == 8


def test_handlers_are_put_back_and_an_ignored_signal_stays_ignored():
    with handled(signal.SIGHUP), handled(signal.SIGTERM):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        with terminations_interrupt() as came:
            os.kill(os.getpid(), signal.SIGHUP)
            with signals_wait():
                os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(Terminated, match="SIGTERM"):
                os.kill(os.getpid(), signal.SIGTERM)
        assert came == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def start(*arguments: str, **variables: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "elysium.cli", *arguments]
    usual = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  (ignored where a shell put us behind)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **pipes, preexec_fn=usual, env=os.environ | variables)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_process_that_is_signalled_keeps_its_boxes_and_leaves_no_other_file(workplace, signum, code):
    options = ["--zoom", "0", "--boxes", "a.csv", "--output", "b.mp4", "--model", "elysium-tiny"]
    process = start("track", "../clip.mp4", "--box", BOX, *options)
    deadline = time.monotonic() + 120
    # a.csv.partial, a.csv, then b.mp4's beginning
    while len(names()) < 4 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signum)
    _, said = process.communicate(timeout=120)
    assert process.returncode == code, said
    assert names() == ["a.csv", "a.csv.partial", "a.json"]
    assert len(Path("a.csv").read_text().splitlines()) == 1 + NUM_FRAMES
    assert Path("a.json").read_text() == "mine"
    assert b"Boxes: a.csv" in said


# --- terminals ---
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_an_answer_is_printed_with_escapes_where_the_terminal_lacks_its_letters(workplace, encoding):
    code = (
        "import elysium.cli as cli, sys; from elysium.tracking.tracker import Grounding\n"
        "class Seen:\n"
        "    def ground_many(self, items): return [Grounding(t, (1, 2, 3, 4), 0.5, None, 9, 9) for _, t in items]\n"
        "cli.load_tracker = lambda *_: Seen()\n"
        "sys.exit(cli.run(sys.argv[1:]))"
    )
    arguments = ["ground", "../frames/f000.png", "--text", "红色 é 🙂"]
    for more in ([], ["--json"]):
        command = [sys.executable, "-c", code, *arguments, *more]
        done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding})
        assert done.returncode == 0, done.stderr
        printed = done.stdout.decode(encoding)
        assert "\\u7ea2" in printed
    assert json.loads(printed)["groundings"][0]["text"] == "红色 é 🙂"


def test_a_reader_that_leaves_ends_the_command_quietly(workplace):
    code = (
        "import elysium.cli as cli, sys\n"
        "class Long:\n"
        "    def ask(self, video, question): return 'x' * 10**6\n"
        "cli.load_tracker = lambda *_: Long()\n"
        "sys.exit(cli.run(sys.argv[1:]))"
    )
    for typed in ("-m elysium.cli track --help", f'-c "{code}" ask ../frames/f000.png what?'):
        line = f"{sys.executable} {typed} | head -c 10; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
        assert done.returncode in (0, 1)
        assert (len(done.stdout), done.stderr) == (10, "")
