"""Measure how the cost of tracking grows with frames, objects, videos and the size of frames.

    OMP_NUM_THREADS=1 python -m benchmarks.scaling --output benchmarks/results/scaling.jsonl \\
        --plot docs/images/scaling.png
    python -m benchmarks.scaling --axes objects --largest 8 --model elysium-tiny --output tiny.jsonl

Objects that move over a still background (`decoding_models.py`) are written as mp4 and tracked by box with the
checkpoint's own options; several videos by `track_many`. Every point is a process of its own, which tracks once:
seconds are of the tracking alone, and the peak is the largest resident memory of the whole process, the model
included. One of the four axes varies; the others stay at one object, one video, 320x240 and `--frames` frames. Every
point is a line of the output; the same command measures those that it lacks, and plots.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.bench import ROOT, hardware, peak_mb
from benchmarks.decoding_models import MovingScene
from elysium.evaluation.resumable import JsonLog
from elysium.tracking.checkpoints import DEFAULT_MODEL
from elysium.tracking.tracker import Tracker

Row = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """Hold what one process tracks; `objects` above 1 and `videos` above 1 exclude each other."""

    frames: int
    objects: int = 1
    videos: int = 1
    size: tuple[int, int] = (320, 240)

    def write(self, folder: Path) -> list[tuple[Path, list[Any]]]:
        """Write the videos and return their paths and first boxes in pixels."""
        width, height = self.size
        found = []
        for number in range(self.videos):
            scene = MovingScene.make(self.objects, self.frames, seed=number, width=width, height=height)
            found.append((scene.write(folder / f"{number}.mp4"), scene.first_boxes_px()))
        return found


AXES: dict[str, tuple[Any, ...]] = {
    "frames": (100, 300, 1000, 3000),
    "objects": (1, 2, 4, 8, 16, 32),
    "videos": (1, 2, 4, 8, 16, 32),
    "size": ((320, 240), (640, 480), (1280, 720), (1920, 1080)),
}


def track(model: str, videos: list[tuple[str, list[Any]]]) -> Row:
    """Track in this process and return seconds, boxes and peak memory."""
    tracker = Tracker.from_pretrained(model, device="cpu")
    start_cpu_s, start_s = time.process_time(), time.perf_counter()
    if len(videos) == 1:
        ((path, boxes),) = videos
        results = [tracker.track(path, box_xyxy_px=boxes)]
    else:
        results = tracker.track_many([(path, boxes[0]) for path, boxes in videos])
    cpu_s, wall_s = time.process_time() - start_cpu_s, time.perf_counter() - start_s
    frames = sum(len(result.tracks[0]) for result in results)
    return {
        "cpu_s": round(cpu_s, 2),
        "wall_s": round(wall_s, 2),
        "frames_per_cpu_s": round(frames / cpu_s, 2),
        "frames_per_s": round(frames / wall_s, 2),
        "peak_mb": round(peak_mb(), 1),
    }


def measure(point: Point, model: str) -> Row:
    """Write the videos of a point and track them in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        videos = [(str(path), boxes) for path, boxes in point.write(Path(folder))]
        command = [sys.executable, "-m", __spec__.name, "--model", model, "--run", json.dumps(videos)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])


def plot(axes: dict[str, list[Row]], path: Path) -> None:
    """Draw processor seconds and peak memory against each axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 2, figsize=(9, 6), layout="constrained")
    for panel, (name, rows) in zip(panels.flat, axes.items(), strict=False):
        places = [row["size"][0] * row["size"][1] / 1e6 if name == "size" else row[name] for row in rows]
        panel.plot(places, [row["cpu_s"] for row in rows], "o-", color="tab:blue")
        panel.set(xlabel="megapixels a frame" if name == "size" else name, xlim=(0, None), ylim=(0, None))
        panel.set_ylabel("processor seconds", color="tab:blue")
        if name != "frames":
            panel.set_title(f"{rows[0]['frames']} frames" + " each" * (name == "videos"), fontsize=10)
        memory = panel.twinx()
        memory.plot(places, [row["peak_mb"] for row in rows], "s--", color="tab:orange")
        memory.set_ylim(0, None)
        memory.set_ylabel("peak memory, MB", color="tab:orange")
    figure.savefig(path, dpi=80)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="Checkpoint.")
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES), help="What varies.")
    parser.add_argument("--frames", type=int, default=15, help="Frames where they do not vary; 15 are two windows.")
    parser.add_argument("--largest", type=int, default=10**6, help="Leave out more frames, objects or videos.")
    parser.add_argument("--output", type=Path, default=Path("scaling.jsonl"), help="JSON lines to add to.")
    parser.add_argument("--plot", type=Path, help="Plot to write.")
    parser.add_argument("--run", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run is not None:
        print(json.dumps(track(args.model, args.run)))
        return
    log = JsonLog(args.output)
    rows = {row["point"]: row for row in log.read()}
    axes: dict[str, list[Row]] = {}
    for name in args.axes:
        values = [value for value in AXES[name] if name == "size" or value <= args.largest]
        for point in [replace(Point(args.frames), **{name: value}) for value in values]:
            key = f"{args.model}: {point}"
            if key not in rows:
                rows[key] = {"point": key, **asdict(point), **measure(point, args.model), "hardware": hardware()}
                log.append([rows[key]])
            axes.setdefault(name, []).append(rows[key])
            print(json.dumps(rows[key]), flush=True)
    if args.plot is not None:
        plot(axes, args.plot)


if __name__ == "__main__":
    main()
