"""What an adapter adds on a domain that elysium-tiny was not trained on: the world through a thermal camera.

    python -m research.adapters.adapter_domain --output research/results/adapter_domain.json

Writes conversations about thermal clips (research/adapters/thermal.py), trains a LoRA adapter of
`elysium-tiny` with `trl sft`, then tracks held-out clips of 8 frames with the base and with the adapter merged
into it, from a box and by words. A clip counts by its mean IoU over the frames in which the target can be seen, from
a box without frame 1; a frame without a box counts 0. The interval is the bootstrap's over clips, of the paired
difference.

Backgrounds, cut-outs and scenes of the held-out clips come from seeds of their own. Settings were chosen on those of
`--clips settings`. The last line is JSON.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peft import PeftModel

from benchmarks.bench import hardware, markdown_table, write_record
from elysium.processing.overlap import paired_iou
from elysium.processing.structures import TrackingResult, VideoClip
from elysium.tracking.checkpoints import resolve_checkpoint
from elysium.tracking.loading import load_checkpoint
from elysium.tracking.tracker import PromptLike, Tracker
from elysium.training.synthetic.dataset import ClipShape, LabelledClip
from elysium.training.synthetic.trl_dataset import TrlWriter
from research.adapters.thermal import thermal_clip
from research.bootstrap import bootstrap_interval
from research.scenes.world import StudyWorld

BASE = "elysium-tiny"
WIDTH, HEIGHT, FPS, NUM_FRAMES = 160, 120, 10.0, 8
# Seed of the banks and of the first scene.
TRAINING_SEEDS = (4_321, 0)
CLIP_SEEDS = {"held-out": (900_031, 910_000_000), "settings": (777, 5_000_000)}
TRAINING_CLIPS = 1200
# Short clips are cheap, and leave few earlier boxes to repeat in place of looking.
TRAINING_FRAMES = (2, 3, 4, 8)
TASKS = ("sot", "rsot", "rec")
SETTINGS = (
    "--use_peft --lora_r 16 --lora_alpha 32 --lora_target_modules all-linear --learning_rate 2e-3 --max_length 2048 "
    "--per_device_train_batch_size 8 --assistant_only_loss --gradient_checkpointing False --bf16 False "
    "--save_strategy no --report_to none"
)


@dataclass(frozen=True, eq=False)
class Target:
    """One clip of 8 frames and what is followed in it.

    Args:
        video: the frames.
        words: that fit the target alone.
        boxes_xyxy_px (`np.ndarray` of shape `(T, 4)`): true boxes, NaN where the target is out of sight.
    """

    video: VideoClip
    words: str
    boxes_xyxy_px: NDArray[np.float64]

    def mean_iou(self, boxes_xyxy_px: NDArray[np.float64], *, first: int) -> float:
        """Over the frames from ``first`` (0-based) on in which the target can be seen."""
        seen = np.isfinite(self.boxes_xyxy_px[:, 0])[first:]
        return float(paired_iou(boxes_xyxy_px, self.boxes_xyxy_px)[first:][seen].mean())


class TaskWriter(TrlWriter):
    """Writes the questions of `TASKS` alone."""

    def examples(self, clip: LabelledClip) -> Iterator[dict[str, Any]]:
        return (example for example in super().examples(clip) if example["task"] in TASKS)


def write_training_data(folder: Path) -> int:
    """Conversations about the training clips; the last tenth of the clips is the test split."""
    world, first = StudyWorld(TRAINING_SEEDS[0]), TRAINING_SEEDS[1]

    def clip(number: int) -> LabelledClip:
        num_frames = TRAINING_FRAMES[number % len(TRAINING_FRAMES)]
        return thermal_clip(world, first + number, ClipShape(num_frames=num_frames, width=WIDTH, height=HEIGHT))

    writer = TaskWriter(folder, fps=FPS, seed=TRAINING_SEEDS[0])
    num_train = TRAINING_CLIPS * 9 // 10
    train = writer.write("train", map(clip, range(num_train)))
    return train + writer.write("test", map(clip, range(num_train, TRAINING_CLIPS)))


def train_adapter(data: Path, adapter: Path, steps: int) -> None:
    """Runs `trl sft`, which knows nothing of this package but what the checkpoint brings."""
    command = [
        str(Path(sys.executable).with_name("trl")),
        "sft",
        "--model_name_or_path",
        str(resolve_checkpoint(BASE)),
    ]
    command += ["--trust_remote_code", "--dataset_name", str(data), "--output_dir", str(adapter), *SETTINGS.split()]
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    subprocess.run([*command, "--max_steps", str(steps)], env=offline, check=True, stdout=sys.stderr)


def targets(clips: str, number: int) -> list[Target]:
    """The first clips of a seed range that show a target with words in frame 1 and in a later one."""
    world_seed, first = CLIP_SEEDS[clips]
    world, found = StudyWorld(world_seed), []
    shape = ClipShape(num_frames=NUM_FRAMES, width=WIDTH, height=HEIGHT, fps=FPS)
    for seed in count(first):
        clip = thermal_clip(world, seed, shape)
        rows = [row for row in clip.rows if row["box"][0] and any(row["box"][1:])]
        if rows:
            boxes = np.array([box or [np.nan] * 4 for box in rows[0]["box"]]) * [WIDTH, HEIGHT, WIDTH, HEIGHT]
            words = rows[0]["object_description"]
            found.append(Target(VideoClip.from_frames(clip.frames, fps=FPS), words, boxes))
        if len(found) == number:
            break
    return found


def track(tracker: Tracker, chosen: list[Target]) -> dict[str, NDArray[np.float64]]:
    """Mean IoU of each clip, by task."""

    def follow(prompts: list[PromptLike], first: int) -> NDArray[np.float64]:
        pairs = zip((target.video for target in chosen), prompts, strict=True)
        results: list[TrackingResult] = tracker.track_many(pairs)
        found = (result.tracks[0].boxes_xyxy_px for result in results)
        return np.array([t.mean_iou(boxes, first=first) for t, boxes in zip(chosen, found, strict=True)])

    return {
        "sot": follow([tuple(target.boxes_xyxy_px[0]) for target in chosen], 1),
        "rsot": follow([target.words for target in chosen], 0),
    }


def compare(base: NDArray[np.float64], adapted: NDArray[np.float64]) -> dict[str, Any]:
    """Means, and the paired difference with its 95% interval: percentiles of 10,000 resamples of the clips."""
    difference = adapted - base
    return {
        "base": round(float(base.mean()), 4),
        "adapter": round(float(adapted.mean()), 4),
        "difference": round(float(difference.mean()), 4),
        "interval_95": bootstrap_interval(difference),
        "clips_better": int((difference > 0).sum()),
        "clips_worse": int((difference < 0).sum()),
    }


def evaluate(adapter: Path, clips: str, number: int) -> dict[str, Any]:
    """Base and adapter on the same clips, and the first box repeated."""
    chosen = targets(clips, number)
    model, processor = load_checkpoint(BASE)
    base = track(Tracker(model, processor), chosen)
    merged = PeftModel.from_pretrained(model, adapter).merge_and_unload().eval()
    adapted = track(Tracker(merged, processor), chosen)
    figures = {task: compare(base[task], adapted[task]) for task in base}
    repeated = [t.mean_iou(np.repeat(t.boxes_xyxy_px[:1], NUM_FRAMES, axis=0), first=1) for t in chosen]
    figures["sot"]["first_box_repeated"] = round(float(np.mean(repeated)), 4)
    return figures


def table(figures: dict[str, Any]) -> str:
    """Return a table with a line for each task."""
    lines = []
    for task, title in (("sot", "from a box"), ("rsot", "by words")):
        found = figures[task]
        low, high = found["interval_95"]
        means = [f"{found['base']:.3f}", f"{found['adapter']:.3f}", f"{found['difference']:+.3f}"]
        lines.append([title, *means, f"{low:+.3f} .. {high:+.3f}"])
    lines.append(["first box repeated", f"{figures['sot']['first_box_repeated']:.3f}", "", "", ""])
    return markdown_table(["mean IoU", "base", "adapter", "difference", "95% interval"], lines)


def main() -> None:
    """Trains, measures, prints a table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="of training, 8 conversations each")
    parser.add_argument("--number", type=int, default=200, help="of clips to track")
    parser.add_argument("--clips", choices=list(CLIP_SEEDS), default="held-out", help="which seeds to track")
    parser.add_argument("--keep", type=Path, help="new folder for the data and the adapter; else they are thrown away")
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        conversations = write_training_data(folder / "data")
        start_s = time.perf_counter()
        train_adapter(folder / "data", folder / "adapter", arguments.steps)
        seconds = time.perf_counter() - start_s
        figures = evaluate(folder / "adapter", arguments.clips, arguments.number)
    print(f"mean IoU over 8 frames of {arguments.number} {arguments.clips} thermal clips")
    print(table(figures))
    record = {
        "base": BASE,
        "clips": f"{arguments.number} {arguments.clips}",
        "training": {"conversations": conversations, "steps": arguments.steps, "minutes": round(seconds / 60, 1)},
        "settings": SETTINGS,
        "mean_iou": figures,
        "hardware": hardware(),
    }
    write_record(record, arguments.output)


if __name__ == "__main__":
    main()
