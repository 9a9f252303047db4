"""Stops `track`, `evaluate` and a loop over many videos at random moments, and looks at what is left. Run by hand:

    python tests/interruption_sweep.py [--moments 20] [--seed 0] [--only track]

Every trial is a process of its own, forked from this one so that nothing is imported or loaded anew. It is stopped by
SIGTERM, by SIGINT, or by an exception that a timer raises wherever the work stands. After each: the exit code says so,
every window that was finished is kept as in a run that nobody stopped, no temporary file stays, and no file changes
that nobody named. What can be resumed is resumed to the end.
"""

import argparse
import functools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from miniatures import build_lasot
from seeing_model import squares

import elysium.cli as cli
import elysium.evaluate_command as evaluate_command
import elysium.track_command as track_command
from elysium.interruptions import Terminated, terminations_interrupt
from elysium.processing.structures import load_tracking_result
from elysium.processing.video_io import VideoWriter
from elysium.tracking.session import TrackingSession
from elysium.tracking.tracker import Tracker

MEANS = ("SIGTERM", "SIGINT", "exception")
CODES = {"SIGTERM": 143, "SIGINT": 130, "exception": 1}
STARTS = {"red": (4, 8), "green": (20, 56)}
BOX = (4.0, 8.0, 36.0, 40.0)


class Injected(Exception):
    """What the timer raises."""


def write_clip(path: Path, num_frames: int) -> Path:
    """An mp4 in which squares move."""
    frames, _ = squares(num_frames, STARTS, width=128, height=96, side=32)
    with VideoWriter(path, 10, 128, 96) as writer:
        for frame in frames:
            writer.write(frame)
    return path


# --- the three kinds of work: each runs in the trial's folder and returns an exit code ---
def track() -> int:
    """Tracks a clip: boxes as CSV, so that what is unfinished needs another name, and a video."""
    options = ["--boxes", "a.csv", "--output", "a.mp4", "--zoom", "0", "--model", "elysium-tiny"]
    return cli.run(["track", "clip.mp4", "--box", "4,8,36,40", *options])


def evaluate() -> int:
    """Tracks and scores six sequences."""
    options = ["--data", "../lasot", "--output", "out", "--zoom", "0"]
    return cli.run(["evaluate", "lasot", *options, "--tracker", "first-box", "--model", "elysium-tiny"])


def batch() -> int:
    """Tracks six clips together, and saves what is finished whatever stops it."""
    tracker = track_command.load_tracker("elysium-tiny", None)
    results, code = [], 0
    try:
        with terminations_interrupt():
            results = tracker.track_many([(f"clip-{number}.mp4", BOX) for number in range(6)], zoom=0)
    except BaseException as error:
        by_hand = "SIGINT" if isinstance(error, KeyboardInterrupt) else "exception"
        code = CODES["SIGTERM" if isinstance(error, Terminated) else by_hand]
        results = getattr(error, "finished", [])
    for number, result in enumerate(results):
        if result is not None:
            result.save(f"b-{number}.json")
    return code


# --- a trial ---
def run_trial(work: Callable[[], int], folder: Path, means: str | None, after_s: float) -> tuple[int, float]:
    """Runs the work in a child and stops it; its exit code and seconds."""
    start_s = time.monotonic()
    child = os.fork()
    if child == 0:
        os._exit(_as_child(work, folder, means, after_s))
    if means in ("SIGTERM", "SIGINT"):
        time.sleep(after_s)
        os.kill(child, getattr(signal, means))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), time.monotonic() - start_s


def _as_child(work: Callable[[], int], folder: Path, means: str | None, after_s: float) -> int:
    os.chdir(folder)
    log = os.open("stderr.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if means == "exception":

        def inject(*_: object) -> None:
            raise Injected("a moment of chance")

        signal.signal(signal.SIGALRM, inject)
        signal.setitimer(signal.ITIMER_REAL, after_s)
    try:
        return work()
    except KeyboardInterrupt:  # before the work had begun
        return CODES["SIGINT"]
    except Injected:
        return CODES["exception"]
    except BaseException:
        traceback.print_exc()
        return 99


def log_finished_frames() -> None:
    """Lets every trial write down, window by window, how many frames are finished: what must not be lost."""
    accept = TrackingSession.accept

    @functools.wraps(accept)
    def logged(self, readings, scores):
        finished = accept(self, readings, scores)
        with open("finished.log", "a") as log:
            log.write(f"{id(self)} {self.num_finished}\n")
        return finished

    TrackingSession.accept = logged


def finished_by_object(folder: Path) -> dict[str, int]:
    """Frames of each object whose window was accepted before the stop."""
    path = folder / "finished.log"
    lines = path.read_text().splitlines() if path.is_file() else []
    counts: dict[str, int] = {}
    for line in lines:
        parts = line.split()
        if len(parts) == 2:
            counts[parts[0]] = max(counts.get(parts[0], 0), int(parts[1]))
    return counts


# --- what is looked at ---
def check(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def same_frames(path: Path, whole: Path) -> int:
    """A file of boxes holds the first frames of that of a run that nobody stopped; how many."""
    found, wanted = load_tracking_result(path).tracks[0], load_tracking_result(whole).tracks[0]
    count = len(found)
    check(np.array_equal(found.boxes_xyxy_px, wanted.boxes_xyxy_px[:count], equal_nan=True), f"other boxes in {path}")
    return count


def check_track(folder: Path, code: int, whole: Path) -> str:
    check((folder / "a.json").read_text() == "mine\n", "a file that nobody named was overwritten")
    kept = sum(finished_by_object(folder).values())
    if (folder / "a.csv").is_file():  # all windows were finished
        check((folder / "a.csv").read_bytes() == (whole / "a.csv").read_bytes(), "another CSV")
        check(code != 0 or (folder / "a.mp4").is_file(), "no video")
        return "whole boxes"
    partial = folder / "a.csv.stopped.json"
    if not partial.exists():
        check(kept == 0, f"{kept} finished frames are lost")
        return "nothing finished"
    check(same_frames(partial, whole / "whole.json") >= kept, f"fewer than the {kept} finished frames")
    check("a.csv.stopped.json" in (folder / "stderr.log").read_text(), "not said where")
    return "part of the boxes"


def check_evaluate(folder: Path, code: int, whole: Path) -> str:
    results = sorted(path.relative_to(folder) for path in (folder / "out").rglob("results/*/*.txt"))
    for path in results:
        check((folder / path).read_bytes() == (whole / path).read_bytes(), f"another {path}")
    before = {path: (folder / path).stat().st_mtime_ns for path in results}
    resumed, _ = run_trial(evaluate, folder, None, 0)
    check(resumed == 0, f"the resumed run ended with {resumed}")
    check({path: (folder / path).stat().st_mtime_ns for path in results} == before, "finished work was done again")
    for path in (path.relative_to(whole) for path in (whole / "out").rglob("results/*/*.txt")):
        check((folder / path).read_bytes() == (whole / path).read_bytes(), f"another {path} after the resume")
    return f"{len(results)} of 12 sequences, resumed whole"


def check_batch(folder: Path, code: int, whole: Path) -> str:
    counts = [same_frames(path, whole / path.name) for path in sorted(folder.glob("b-*.json"))]
    kept = sum(finished_by_object(folder).values())
    check(sum(counts) >= kept, f"{kept - sum(counts)} finished frames are lost")
    return "all videos" if code == 0 else "part of the videos" if sum(counts) else "nothing finished"


KINDS = {"track": (track, check_track), "evaluate": (evaluate, check_evaluate), "batch": (batch, check_batch)}


def fill(folder: Path, clips: Path) -> Path:
    """A new folder with the inputs and a file that nobody names."""
    shutil.copytree(clips, folder)
    (folder / "a.json").write_text("mine\n")
    return folder


def sweep(kind: str, root: Path, moments: int, chance: random.Random) -> tuple[Counter[str], list[str]]:
    """All trials of one kind of work; what was left, and what was wrong."""
    work, look = KINDS[kind]
    whole = fill(root / f"{kind}-whole", root / "clips")
    code, seconds = run_trial(work, whole, None, 0)
    check(code == 0, f"{kind} ended with {code}: {(whole / 'stderr.log').read_text()}")
    if kind == "track":
        os.chdir(whole)
        track_command.load_tracker("", None).track("clip.mp4", box_xyxy_px=BOX, zoom=0).save("whole.json")
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    for means in MEANS:
        for number in range(moments):
            folder = fill(root / f"{kind}-{means}-{number}", root / "clips")
            after_s = chance.uniform(0.01, seconds)
            code, _ = run_trial(work, folder, means, after_s)
            try:
                check(code in (0, CODES[means]), f"exit code {code}")
                parts = [str(path) for path in folder.rglob("*") if path.name.endswith(".part")]
                check(not parts, f"temporary files {parts}")
                check((folder / "a.json").read_text() == "mine\n", "a file that nobody named was overwritten")
                left = look(folder, code, whole)
                seen[f"{means}: exit {code}, {left}"] += 1
            except AssertionError as error:
                said = (folder / "stderr.log").read_text()[-800:] if (folder / "stderr.log").exists() else ""
                wrong.append(f"{kind}, {means} after {after_s:.2f} s: {error}\n{said}")
            shutil.rmtree(folder)
    return seen, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=KINDS)
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    tracker = Tracker.from_pretrained("elysium-tiny")
    for command in (track_command, evaluate_command):
        command.load_tracker = lambda *_: tracker
    import elysium.evaluation.report
    import elysium.visualization.annotate  # noqa: F401

    log_finished_frames()
    failed = 0
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "clips").mkdir()
        write_clip(root / "clips" / "clip.mp4", 60)
        for number in range(6):
            write_clip(root / "clips" / f"clip-{number}.mp4", 10 + 6 * number)
        build_lasot(root / "lasot", [f"cup-{number}" for number in range(1, 7)])
        for kind in [asked.only] if asked.only else KINDS:
            seen, wrong = sweep(kind, root, asked.moments, chance)
            print(f"{kind}: {sum(seen.values())} of {3 * asked.moments} as they must be", flush=True)
            for what, count in sorted(seen.items()):
                print(f"  {count:3} {what}", flush=True)
            for message in wrong:
                print(f"  WRONG {message}", flush=True)
            failed += len(wrong)
    print(json.dumps({"wrong": failed}))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
