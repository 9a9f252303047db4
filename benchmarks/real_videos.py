"""The shipped checkpoint on real videos: what works and what does not.

    python benchmarks/real_videos.py --output benchmarks/results/real_videos.json

Every video is tracked by a box and by words to its end. cup.mp4 has a true box for every frame: there the model stands
beside the first box repeated and OpenCV's CSRT. The last line is JSON.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

from elysium.evaluation.opencv_trackers import opencv_boxes
from elysium.evaluation.overlap import paired_iou
from elysium.processing.atomic_files import atomic_path
from elysium.processing.structures import Track
from elysium.processing.video_io import read_video
from elysium.tracking.tracker import Tracker
from elysium.visualization.contact_sheet import contact_sheet

# The box in the first frame and the words; the box of cup.mp4 is its first true one.
VIDEOS: dict[str, tuple[tuple[float, float, float, float] | None, str]] = {
    "cup.mp4": (None, "the black cup"),
    "pedestrians.mp4": ((254, 220, 284, 309), "the person"),
    "cockatoo.mp4": ((205, 8, 400, 353), "the white bird"),
}
MEDIA = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "media"


def _answers(track: Track, seconds: float) -> dict[str, Any]:
    return {
        "frames": len(track.valid),
        "boxes": int(track.valid.sum()),
        "absent": track.reasons.count("absent"),
        "unreadable": track.reasons.count("unreadable"),
        "frames_per_s": round(len(track.valid) / seconds, 1),
    }


def measure(tracker: Tracker, media: Path, sheets: Path | None) -> dict[str, dict[str, Any]]:
    """Figures of each video by box and by words; contact sheets into `sheets`."""
    truth = np.array(json.loads((media / "cup.boxes.json").read_text("utf-8")), dtype=float)
    figures: dict[str, dict[str, Any]] = {}
    for name, (box, words) in VIDEOS.items():
        clip = read_video(media / name)
        first_box = box or tuple(truth[0])
        for kind, text, prompt in (("box", None, first_box), ("words", words, None)):
            start_s = time.perf_counter()
            result = tracker.track(clip, text, box_xyxy_px=prompt)
            found = _answers(result.tracks[0], time.perf_counter() - start_s)
            if name == "cup.mp4":
                ious = paired_iou(result.tracks[0].boxes_xyxy_px, truth[: len(clip)])[1:]
                found["mean_iou"] = round(float(ious.mean()), 4)
            figures[f"{name} by {kind}"] = found
            if sheets is not None:
                contact_sheet(clip, result, sheets / f"{Path(name).stem}_{kind}.png")
        if name == "cup.mp4":
            repeated = np.repeat(truth[:1], len(clip), axis=0)
            for baseline, boxes in (
                ("first box repeated", repeated),
                ("CSRT", opencv_boxes("csrt", clip.frames, first_box)),
            ):
                figures[f"cup.mp4, {baseline}"] = {
                    "mean_iou": round(float(paired_iou(boxes, truth[: len(clip)])[1:].mean()), 4)
                }
    return figures


def main() -> None:
    """Measures, prints a table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="elysium-tiny", help="checkpoint folder, shipped name or Hub id")
    parser.add_argument("--media", type=Path, default=MEDIA, help="folder of the videos")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets")
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    figures = measure(Tracker.from_pretrained(arguments.model), arguments.media, arguments.sheets)
    for name, values in figures.items():
        print(f"{name:32}", "  ".join(f"{key} {value}" for key, value in values.items()))
    record = {"model": arguments.model, "machine": platform.machine(), "videos": figures}
    if arguments.output is not None:
        with atomic_path(arguments.output) as temporary:
            temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
