"""Measure the speed of tracking as it ships, with refinement: against CSRT and against the reference path.

    OMP_NUM_THREADS=1 python -m benchmarks.tracking_speed --output tracking_speed.json
    OMP_NUM_THREADS=1 python -m benchmarks.tracking_speed --clips cup --objects 1 --frames 50 --rounds 3
    OMP_NUM_THREADS=1 python -m benchmarks.tracking_speed --together --frames 24   # `track_many` against `track`

Real clips of `tests/fixtures/real_clips` and one of them at 1280x720, tracked by box from mp4 files, in one process
and in turns:

- tracker: `Tracker.track` with the checkpoint's own options;
- forward: the same, but the language model decodes by its own forward (`decoder_layers_elysium.py` is not used);
- reference: the same options with `decoding="reference"` (transformers' `generate`), and the tower's 1x1 convolutions
  and GELU as torch has them, all images at once;
- CSRT: OpenCV's, on frames that are decoded once for all objects.

Eight objects are the clip's box and seven that are moved by up to half its size. Processor time comes first: on a
shared machine wall-clock says how busy it is. The first box is what `iter_track` gives of the first window; start-up
is `elysium track` on a clip of one window. The last line is JSON: medians over the clips with one object.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
from torch import nn

from benchmarks.bench import ROOT, hardware, markdown_table, write_record
from elysium.evaluation.opencv_trackers import make_opencv_tracker
from elysium.modeling_elysium import generation_elysium, tiny_vit_elysium
from elysium.processing.video_io import VideoReader, VideoWriter
from elysium.tracking.checkpoints import DEFAULT_MODEL
from elysium.tracking.refinement import Crop
from elysium.tracking.tracker import Tracker
from research.tracking_table.clips import REAL_CLIPS, read_real_clip

HD = "hd"  # the cockatoo at 1280x720
CLIPS = ("cup", "cockatoo", "woman_in_red", HD)
PATHS = ("tracker", "forward", "reference", "CSRT")
Box = tuple[float, ...]


def write_clip(name: str, frames: int, folder: Path) -> tuple[Path, Box]:
    """Write the first frames of a clip as mp4 and return its path and first box in pixels."""
    entries = json.loads((REAL_CLIPS / "index.json").read_text("utf-8"))["clips"]
    entry = next(entry for entry in entries if entry["name"] == ("cockatoo" if name == HD else name))
    clip = read_real_clip(entry)
    scale = 2 if name == HD else 1
    images = [np.kron(image, np.ones((scale, scale, 1), np.uint8)) for image in clip.video.frames[:frames]]
    path = folder / f"{name}.mp4"
    with VideoWriter(path, clip.video.fps, images[0].shape[1], images[0].shape[0]) as writer:
        for image in images:
            writer.write(image)
    return path, tuple(float(value) * scale for value in clip.boxes_xyxy_px[0])


def moved_boxes(box: Box, count: int, width: int, height: int) -> list[Box]:
    """Return a box and others of its size that are moved by up to half of it, within the image.

    >>> moved_boxes((0.0, 0.0, 10.0, 20.0), 2, 100, 100)
    [(0.0, 0.0, 10.0, 20.0), (5.0, 0.0, 15.0, 20.0)]
    """
    x1, y1, x2, y2 = box
    wide, high = x2 - x1, y2 - y1
    boxes = [box]
    for across, down in itertools.product((1, -1, 0), (0, 1, -1)):
        left = min(max(x1 + across * wide / 2, 0), width - wide)
        top = min(max(y1 + down * high / 2, 0), height - high)
        boxes.append((left, top, left + wide, top + high))
    return boxes[:count]


def track_by_csrt(video: Path, boxes: Sequence[Box]) -> None:
    """Track boxes by OpenCV's CSRT on one thread."""
    trackers = [make_opencv_tracker("csrt") for _ in boxes]
    cv2.setNumThreads(1)
    with VideoReader(video) as reader:
        for number, frame in enumerate(reader):
            image = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
            for tracker, (x1, y1, x2, y2) in zip(trackers, boxes, strict=True):
                if number == 0:
                    tracker.init(image, tuple(map(round, (x1, y1, x2 - x1, y2 - y1))))
                else:
                    tracker.update(image)


@contextmanager
def plain_tower() -> Iterator[None]:
    """Let the tower compute its 1x1 convolutions and GELU as torch has them, all images at once."""
    with (
        patch.object(tiny_vit_elysium.PointwiseConv2d, "forward", nn.Conv2d.forward),
        patch.object(tiny_vit_elysium, "_gelu", nn.functional.gelu),
        patch.object(tiny_vit_elysium, "_IMAGES_AT_ONCE", 10**6),
    ):
        yield


@contextmanager
def timed_stages(tracker: Tracker, stages: Counter[str]) -> Iterator[None]:
    """Add to ``stages`` the processor seconds of the main thread in each stage of tracking."""
    reader: Any = tracker._answerer._reader
    places = (
        (Crop, "cut", "crops"),
        (tracker.processor.video_processor, "preprocess", "preprocessing"),
        (tracker.model, "get_video_features", "vision"),
        (reader.decoder, "read", "prefixes"),
        (reader.decoder, "write", "answers"),
    )

    def timed(function: Callable, stage: str) -> Callable:
        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                stages[stage] += time.thread_time() - start

        return run

    undo = [patch.object(owner, name, timed(getattr(owner, name), stage)) for owner, name, stage in places]
    for change in undo:
        change.start()
    try:
        yield
    finally:
        for change in undo:
            change.stop()


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Return the processor time and wall-clock of a run."""
    start = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - start[0], time.perf_counter() - start[1]


def first_window(tracker: Tracker, video: Path, box: Box) -> None:
    """Track until the first window is finished."""
    with tracker.iter_track(video, box_xyxy_px=box) as run:
        next(iter(run))


def start_up(model: str, video: Path, box: Box) -> tuple[float, float]:
    """Return processor time and wall-clock of `elysium track`, from its start to its end."""
    command = [sys.executable, "-m", "elysium", "track", str(video), "--box", ",".join(map(str, box)), "--json"]
    before, wall = getrusage(RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([*command, "--model", model], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    after = getrusage(RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.perf_counter() - wall


def measure(
    trackers: dict[str, Tracker], video: Path, boxes: Sequence[Box], frames: int, rounds: int
) -> dict[str, Any]:
    """Return what each path takes for a clip, in turns, and whether its boxes equal the reference's."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in PATHS}
    found: dict[str, Any] = {}
    stages: Counter[str] = Counter()

    def ours(name: str, path: str | None = None) -> None:
        tracks = trackers[name].track(video, box_xyxy_px=list(boxes)).tracks
        found[path or name] = np.array([track.boxes_xyxy_px for track in tracks])

    for _ in range(rounds):
        with timed_stages(trackers["tracker"], stages):
            spent["tracker"].append(seconds(lambda: ours("tracker")))
        with patch.object(generation_elysium, "has_plain_layers", lambda model: False):
            spent["forward"].append(seconds(lambda: ours("tracker", "forward")))
        with plain_tower():
            spent["reference"].append(seconds(lambda: ours("reference")))
        spent["CSRT"].append(seconds(lambda: track_by_csrt(video, boxes)))
    speed = {name: frames / median(cpu for cpu, _ in runs) for name, runs in spent.items()}
    total = sum(cpu for cpu, _ in spent["tracker"])
    return {
        "objects": len(boxes),
        "frames": frames,
        "frames_per_cpu_second": speed,
        "frames_per_second": {name: frames / median(wall for _, wall in runs) for name, runs in spent.items()},
        "ratio_to_csrt": speed["tracker"] / speed["CSRT"],
        "ratio_to_forward": speed["tracker"] / speed["forward"],
        "ratio_to_reference": speed["tracker"] / speed["reference"],
        "stages": {name: spent / total for name, spent in stages.items()} | {"rest": 1 - stages.total() / total},
        "boxes_equal": all(np.array_equal(found["tracker"], other, equal_nan=True) for other in found.values()),
    }


def measure_together(tracker: Tracker, frames: int, rounds: int) -> dict[str, Any]:
    """Return what eight clips take one by one and in shared batches, in turns; frames are decoded before."""
    entries = json.loads((REAL_CLIPS / "index.json").read_text("utf-8"))["clips"][:8]
    clips = [read_real_clip(entry) for entry in entries]
    items = [(clip.video.frames[:frames].copy(), tuple(map(float, clip.boxes_xyxy_px[0]))) for clip in clips]
    found: dict[str, Any] = {}

    def one_by_one() -> None:
        found["one by one"] = [tracker.track(iter(images), box_xyxy_px=box, fps=10) for images, box in items]

    def together() -> None:
        found["together"] = tracker.track_many([(iter(images), box) for images, box in items], fps=10)

    spent: dict[str, list[tuple[float, float]]] = {"one by one": [], "together": []}
    for _ in range(rounds):
        spent["one by one"].append(seconds(one_by_one))
        spent["together"].append(seconds(together))
    boxes = [np.array([result.tracks[0].boxes_xyxy_px for result in results]) for results in found.values()]
    cpu = {name: median(cpu for cpu, _ in runs) for name, runs in spent.items()}
    return {
        "hardware": hardware(),
        "cpu_s": cpu,
        "wall_s": {name: median(wall for _, wall in runs) for name, runs in spent.items()},
        "ratio": cpu["one by one"] / cpu["together"],
        "boxes_equal": np.array_equal(*boxes, equal_nan=True),
    }


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return the results as Markdown."""
    header = ["clip", "objects", *(f"{name}, frames/CPU s (frames/s)" for name in PATHS)]
    header += ["over forward", "over reference", "over CSRT", "boxes equal", "stages"]
    rows = []
    for each in results:
        cpu, wall = each["frames_per_cpu_second"], each["frames_per_second"]
        speeds = [f"{cpu[name]:.1f} ({wall[name]:.1f})" for name in PATHS]
        shares = ", ".join(f"{name} {share:.0%}" for name, share in each["stages"].items())
        ratios = [f"{each[f'ratio_to_{other}']:.2f}x" for other in ("forward", "reference", "csrt")]
        rows.append([each["clip"], each["objects"], *speeds, *ratios, each["boxes_equal"], shares])
    return markdown_table(header, rows)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="Checkpoint.")
    parser.add_argument("--clips", nargs="+", default=CLIPS, help=f"Names of real clips, and {HD}.")
    parser.add_argument("--objects", nargs="+", type=int, default=[1, 8], help="Numbers of objects, 1 to 10.")
    parser.add_argument("--frames", type=int, default=50, help="First frames of each clip.")
    parser.add_argument("--rounds", type=int, default=3, help="Runs of each path; the median counts.")
    parser.add_argument("--together", action="store_true", help="Measure eight clips one by one and at once instead.")
    parser.add_argument("--output", type=Path, help="JSON file to write.")
    args = parser.parse_args()
    if args.together:
        tracker = Tracker.from_pretrained(args.model, device="cpu")
        write_record(measure_together(tracker, args.frames, args.rounds), args.output)
        return
    trackers = {
        "tracker": Tracker.from_pretrained(args.model, device="cpu"),
        "reference": Tracker.from_pretrained(args.model, device="cpu", decoding="reference"),
    }
    results: list[dict[str, Any]] = []
    latencies = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.clips:
            video, box = write_clip(name, args.frames, Path(folder))
            with VideoReader(video) as reader:
                width, height, frames = reader.info.width, reader.info.height, sum(1 for _ in reader)
            first_window(trackers["tracker"], video, box)  # warm
            for _ in range(args.rounds):
                latencies.append(seconds(lambda video=video, box=box: first_window(trackers["tracker"], video, box)))
            for objects in args.objects:
                boxes = moved_boxes(box, objects, width, height)
                results.append({"clip": name} | measure(trackers, video, boxes, frames, args.rounds))
                print(table(results[-1:]), flush=True)
        video, box = write_clip(args.clips[0], 8, Path(folder))
        starts = [start_up(args.model, video, box) for _ in range(args.rounds)]
    print(table(results))
    single = [each for each in results if each["objects"] == min(args.objects)]
    record = {
        "hardware": hardware(),
        "results": results,
        "frames_per_cpu_second_zoom": median(each["frames_per_cpu_second"]["tracker"] for each in single),
        "ratio_to_forward_zoom": median(each["ratio_to_forward"] for each in single),
        "ratio_to_csrt_zoom": median(each["ratio_to_csrt"] for each in single),
        "ratio_to_reference_zoom": median(each["ratio_to_reference"] for each in single),
        # Processor time; the wall-clock of a busy machine beside it.
        "latency_ms_first_box": 1000 * median(cpu for cpu, _ in latencies),
        "latency_wall_ms_first_box": 1000 * median(wall for _, wall in latencies),
        "startup_s": median(cpu for cpu, _ in starts),
        "startup_wall_s": median(wall for _, wall in starts),
    }
    write_record(record, args.output)


if __name__ == "__main__":
    main()
