"""Training that is killed and gone on with, or shared by two processes, against one run that is neither.

    python -m research.training_runs --output research/results/training_runs.json

1. Resume: a run of 40 steps is killed with SIGKILL at three random steps between its saves, ten steps apart, and
   started again with the same command each time; its weights are compared bit for bit with those of a run that nobody
   killed.
2. Two processes (gloo) with half the batch each against one process with the whole: the loss of every step.

Both on places in local sources and on a stream, from the shipped checkpoint on the CPU. The last line is JSON.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from datasets import Dataset
from safetensors.torch import load_file
from transformers import TrainerCallback

from benchmarks.bench import write_record
from elysium.training import sft
from elysium.training.catalogue import open_source

KILLS, SAVE_STEPS = 3, 10


def base_recipe(model: str, folder: Path, *, steps: int) -> dict[str, Any]:
    """What all runs share; `model` is a checkpoint."""
    return {
        "model_name_or_path": model,
        "tasks": {"sot": 1, "rsot": 1, "video_reg": 1, "rec": 1},
        "max_frames": 4,
        "max_interval": 2,
        "max_steps": steps,
        "learning_rate": 1e-4,
        "per_device_train_batch_size": 2,
        "max_length": 800,
        "logging_steps": 1,
        "save_steps": SAVE_STEPS,
        "use_cpu": True,
        "bf16": False,
        "activation_checkpointing": False,
        "report_to": "none",
        "disable_tqdm": True,
        "output_dir": str(folder),
    }


def local_data() -> dict[str, Any]:
    """Two sources by weights."""
    clips = {"source": "synthetic", "width": 96, "height": 96, "frames": 6}
    return {"data": [clips | {"count": 120, "weight": 2}, clips | {"count": 60, "seed": 5, "weight": 1}]}


def stream_data(folder: Path, count: int = 48) -> dict[str, Any]:
    """Rows of the synthetic world in a parquet file, to be streamed with pictures as bytes."""
    import datasets
    from PIL import Image

    source = open_source({"source": "synthetic", "count": count, "seed": 8, "width": 96, "height": 96, "frames": 6})
    records = []
    for index in range(count):
        row = source[index]
        found = np.zeros((0, 4)) if row.boxes_xyxy_norm is None else row.boxes_xyxy_norm
        boxes = [box.tolist() if seen else None for box, seen in zip(found, row.visible, strict=True)]
        frames = [Image.fromarray(picture) for picture in row.frames]
        words = row.text or "the thing"
        records.append(
            {"id": row.key, "frames": frames, "box": boxes, "frame_size": [96, 96], "object_description": words}
        )
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "frames": datasets.List(datasets.Image()),
            "box": datasets.List(datasets.List(datasets.Value("float64"))),
            "frame_size": datasets.List(datasets.Value("int64")),
            "object_description": datasets.Value("string"),
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    Dataset.from_list(records, features=features).to_parquet(folder / "train.parquet")
    return {"stream": [str(folder)], "stream_buffer": 16}


def start(recipe: dict[str, Any], *, processes: int = 1, die_at: int | None = None) -> int:
    """Trains in processes of their own, and returns the exit code."""
    config = Path(f"{recipe['output_dir']}.yaml")
    config.write_text(yaml.safe_dump(recipe), "utf-8")
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes)] if processes > 1 else []
    command = [sys.executable, *launcher, "-m", __spec__.name, "--child", str(config)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "DIE_AT": str(die_at or 0)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(done.stderr[-3000:])
    return done.returncode


class Dies(TrainerCallback):
    """Kills its own process, as SIGKILL does, behind a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Whether this is the step."""
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def losses_of(folder: Path) -> list[float]:
    """The loss of every step, as the last save had them."""
    last = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return [
        e["loss"] for e in json.loads((last / "trainer_state.json").read_text("utf-8"))["log_history"] if "loss" in e
    ]


def killed_and_resumed(
    model: str, root: Path, data: dict[str, Any], *, steps: int, kills: list[int]
) -> dict[str, Any]:
    """Figures of a run that dies behind each of the steps `kills`, against one that does not."""
    whole, broken = root / "whole", root / "broken"
    start(base_recipe(model, whole, steps=steps) | data)
    codes = [start(base_recipe(model, broken, steps=steps) | data, die_at=step) for step in kills]
    start(base_recipe(model, broken, steps=steps) | data)
    before, after = load_file(whole / "model.safetensors"), load_file(broken / "model.safetensors")
    return {
        "killed_at": kills,
        "really_killed": codes == [-signal.SIGKILL] * len(kills),
        "tensors": len(before),
        "tensors_equal_bit_for_bit": sum(torch.equal(before[name], after[name]) for name in before),
        "losses_equal": losses_of(whole) == losses_of(broken),
    }


def two_against_one(model: str, root: Path, data: dict[str, Any], *, steps: int) -> dict[str, Any]:
    """Figures of two processes with half the batch each, against one with the whole."""
    one, two = root / "one", root / "two"
    start(base_recipe(model, one, steps=steps) | data | {"per_device_train_batch_size": 4})
    start(base_recipe(model, two, steps=steps) | data, processes=2)
    pairs = list(zip(losses_of(one), losses_of(two), strict=True))
    return {"steps": len(pairs), "largest_difference_of_loss": max(abs(a - b) for a, b in pairs)}


def random_kills(seed: int, count: int = KILLS) -> list[int]:
    """Steps between saves, one in each of as many stretches behind the first save."""
    rng = random.Random(seed)
    return [SAVE_STEPS * (number + 1) + rng.randint(1, SAVE_STEPS - 1) for number in range(count)]


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--model", default="elysium-tiny", help="checkpoint folder or shipped name")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0, help="of the steps at which runs are killed")
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    if arguments.child:
        sft.main(["--config", arguments.child], callbacks=[Dies(int(os.environ["DIE_AT"]))])
        return
    record: dict[str, Any] = {"model": arguments.model, "steps": arguments.steps}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        kinds = {"local": local_data(), "stream": stream_data(root / "rows")}
        for number, (kind, data) in enumerate(kinds.items()):
            place = root / kind
            place.mkdir()
            kills = random_kills(arguments.seed + number)
            resumed = killed_and_resumed(arguments.model, place, data, steps=arguments.steps, kills=kills)
            shared = two_against_one(arguments.model, place, data, steps=SAVE_STEPS)
            record[kind] = {"resumed": resumed, "two_processes": shared}
            print(kind, json.dumps(record[kind]), flush=True)
    write_record(record, arguments.output)


if __name__ == "__main__":
    main()
