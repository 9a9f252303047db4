"""Your own video: a real clip with boxes, checked, an adapter trained on its first frames, and the frames behind them.

    python -m research.adapters.own_video --output research/results/own_video.json

What a user would do with `cup.mp4`: a folder with the video and a CSV of boxes for its first 120 frames, `elysium data
check`, `python -m elysium.training.sft --config training/recipes/lora.yaml`. Then frames 120 to 216, which were held
out, are tracked from their first true box, by the checkpoint before and after, beside the first box repeated and CSRT.
The commands run as typed; the last line is JSON.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench import ROOT, write_record
from elysium.evaluation.opencv_trackers import opencv_boxes
from elysium.processing.overlap import paired_iou
from elysium.processing.video_io import read_video
from elysium.tracking.checkpoints import DEFAULT_MODEL
from elysium.tracking.tracker import Tracker
from elysium.visualization.contact_sheet import contact_sheet

MEDIA = ROOT / "tests" / "fixtures" / "media"
RECIPE = ROOT / "training" / "recipes" / "lora.yaml"
TRAINED = 120
WORDS = "the black cup"


def write_folder(folder: Path, boxes: list[list[float]]) -> None:
    """The video and a CSV of the boxes of its first frames, as a user would have them."""
    folder.mkdir()
    shutil.copyfile(MEDIA / "cup.mp4", folder / "cup.mp4")
    with (folder / "boxes.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["video", "frame_idx", "x1", "y1", "x2", "y2", "text"])
        rows.writerows(["cup.mp4", index, *box, WORDS] for index, box in enumerate(boxes[:TRAINED]))


def run(command: list[str]) -> None:
    """Runs a command, and shows what it says.

    Raises:
        SystemExit: it fails.
    """
    print("$", " ".join(command), flush=True)
    if subprocess.run(command).returncode:
        sys.exit(f"Error: {' '.join(command)} failed")


def measure(boxes: np.ndarray, model: str, adapter: Path, sheets: Path | None) -> dict[str, Any]:
    """Mean IoU on the held-out frames behind the first of them, which is given."""
    clip = read_video(MEDIA / "cup.mp4")[TRAINED : len(boxes)]
    truth = boxes[TRAINED : TRAINED + len(clip)]
    found: dict[str, np.ndarray] = {
        "first box repeated": np.repeat(truth[:1], len(clip), axis=0),
        "CSRT": opencv_boxes("csrt", clip.frames, truth[0]),
    }
    for name, trained in ((model, model), (f"{model} + adapter", str(adapter))):
        result = Tracker.from_pretrained(trained).track(clip, box_xyxy_px=tuple(truth[0]))
        found[name] = result.tracks[0].boxes_xyxy_px
        if sheets is not None:
            contact_sheet(clip, result, sheets / f"{name.replace(' + ', '_')}.png")
    return {name: round(float(paired_iou(box, truth)[1:].mean()), 4) for name, box in found.items()}


def main() -> None:
    """Checks, trains, measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets and overlays")
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    boxes = json.loads((MEDIA / "cup.boxes.json").read_text("utf-8"))
    with tempfile.TemporaryDirectory() as place:
        folder, adapter = Path(place) / "my_videos", Path(place) / "adapter"
        write_folder(folder, boxes)
        overlays = str(arguments.sheets or Path(place) / "overlays")
        run([sys.executable, "-m", "elysium.cli", "data", "check", str(folder), "--output", overlays])
        data = json.dumps({"source": "folder", "path": str(folder)})
        options = ["--data", data, "--output_dir", str(adapter), "--max_steps", str(arguments.steps)]
        options += ["--seed", str(arguments.seed), "--use_cpu", "true", "--disable_tqdm", "true"]
        options += ["--config", str(RECIPE), "--model", arguments.model]
        run([sys.executable, "-m", "elysium.training.sft", *options])
        figures = measure(np.array(boxes, dtype=float), arguments.model, adapter, arguments.sheets)
    record = {"video": "cup.mp4", "frames_trained": TRAINED, "steps": arguments.steps, "mean_iou_held_out": figures}
    for name, value in figures.items():
        print(f"{name:24} {value}")
    write_record(record, arguments.output)


if __name__ == "__main__":
    main()
