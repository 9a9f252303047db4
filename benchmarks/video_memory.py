"""Does memory grow with the length of a video? Peak of tracking and annotating a long video against a short one.

    python -m benchmarks.video_memory                  # tracks by box, then writes the annotated copy
    python -m benchmarks.video_memory --decode-only    # reads, annotates and writes, without a model

Each video is made with PyAV in a temporary folder and run through in a process of its own; the peak is that process's
largest resident memory. The baseline is the short video. Beside it stands, computed, what the frames alone would take
if they were all held. The last line is JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.bench import hardware, peak_mb
from elysium.processing.structures import Track, TrackingResult
from elysium.processing.video_io import VideoReader, VideoWriter, probe_video
from elysium.tracking.checkpoints import DEFAULT_MODEL
from elysium.visualization.annotate import annotate_video

FPS = 25.0
SIDE_PX = 160


def box_at(frame_idx: int, width: int, height: int) -> tuple[int, int, int, int]:
    """Where the square of the made video is: x1, y1, x2, y2 in pixels, back and forth along a diagonal."""
    phase = 1 - abs((frame_idx % 240) / 120 - 1)
    x1, y1 = round(phase * (width - SIDE_PX)), round(phase * (height - SIDE_PX))
    return x1, y1, x1 + SIDE_PX, y1 + SIDE_PX


def make_video(path: Path, num_frames: int, width: int, height: int) -> None:
    """A red square over a coloured gradient."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    background = np.stack([np.full_like(across, 60), across, down], axis=-1).astype(np.uint8)
    with VideoWriter(path, FPS, width, height) as writer:
        for frame_idx in range(num_frames):
            x1, y1, x2, y2 = box_at(frame_idx, width, height)
            image = background.copy()
            image[y1:y2, x1:x2] = (220, 30, 30)
            writer.write(image)


def known_result(video: Path) -> TrackingResult:
    """The track of the square, as it was drawn; the video is decoded once for it, as a tracker would."""
    with VideoReader(video) as reader:
        info = reader.info
        times_s = [frame.timestamp_s for frame in reader]
    length = len(times_s)
    track = Track(
        frame_indices=np.arange(length),
        timestamps_s=np.array(times_s),
        boxes_xyxy_px=np.array([box_at(i, info.width, info.height) for i in range(length)], dtype=np.float64),
        valid=np.ones(length, dtype=np.bool_),
        scores=np.ones(length),
        reasons=[None] * length,
        track_id=1,
        text="the red square",
        width=info.width,
        height=info.height,
    )
    return TrackingResult(str(video), info.fps, info.width, info.height, "drawn", True, [track])


def run_one(video: Path, model: str | None) -> None:
    """The child process: tracks (or takes the known boxes), annotates, and prints its peak as JSON."""
    if model is None:
        result = known_result(video)
    else:
        import elysium

        info = probe_video(video)
        tracker = elysium.Tracker.from_pretrained(model, device="cpu")
        result = tracker.track(video, box_xyxy_px=box_at(0, info.width, info.height))
    frames = annotate_video(video, result, video.with_name("annotated.mp4"))
    print(json.dumps({"frames": frames, "tracked": len(result.tracks[0]), "peak_mb": round(peak_mb(), 1)}))


def measure(num_frames: int, args: argparse.Namespace) -> dict[str, float]:
    """Makes a video of so many frames and runs a child process over it."""
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        make_video(video, num_frames, args.width, args.height)
        command = [sys.executable, "-m", __spec__.name, "--run", str(video), "--model", args.model]
        start_s = time.perf_counter()
        done = subprocess.run(
            command + ["--decode-only"] * args.decode_only, check=True, stdout=subprocess.PIPE, text=True
        )
        measured = json.loads(done.stdout.splitlines()[-1])
        if not measured["frames"] == measured["tracked"] == num_frames:
            raise RuntimeError(f"every one of the {num_frames} frames must be tracked and written, got {measured}")
        return {"peak_mb": measured["peak_mb"], "seconds": round(time.perf_counter() - start_s, 1)}


def main() -> None:
    """Prints a table, and one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="folder, packaged name or Hub id of a checkpoint")
    parser.add_argument("--decode-only", action="store_true", help="no model: read, annotate and write only")
    parser.add_argument("--frames", type=int, nargs=2, default=(200, 2000), metavar=("SHORT", "LONG"))
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run is not None:
        run_one(args.run, None if args.decode_only else args.model)
        return
    record: dict[str, object] = {
        "benchmark": "video_memory",
        "what": "decode and annotate" if args.decode_only else f"track with {args.model} and annotate",
        "hardware": hardware(),
        "size": f"{args.width}x{args.height}",
    }
    peaks = []
    print(f"{'frames':>8} {'peak MB':>10} {'seconds':>9} {'MB if all frames were held':>28}")
    for num_frames in args.frames:
        measured = measure(num_frames, args)
        held_mb = num_frames * args.width * args.height * 3 / 1e6
        print(f"{num_frames:>8} {measured['peak_mb']:>10.1f} {measured['seconds']:>9.1f} {held_mb:>28.0f}", flush=True)
        record |= {f"{name}_{num_frames}": value for name, value in measured.items()}
        peaks.append(measured["peak_mb"])
    record["ratio"] = round(peaks[1] / peaks[0], 4)
    print(json.dumps(record))


if __name__ == "__main__":
    main()
