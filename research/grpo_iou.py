"""GRPO on elysium-tiny: IoU on held-out questions before and after, with the IoU as reward and, as control,
with a reward for the format alone.

    OMP_NUM_THREADS=1 python -m research.grpo_iou --output research/results/grpo.json

Each run is `python -m elysium.training.grpo` with its recipe, and a seed of its own for the scenes of the training
questions, their order and the sampling. The held-out questions are the same for all runs, and come from other banks of
backgrounds and cut-outs; nothing was tuned on them. Three kinds: large objects, which the recipe is about; smaller
ones, and tracking, which show what it costs.

IoU is over the frames in which the object can be seen, a missing box counts 0; `sot` is measured from frame 2 on,
since frame 1 is given. "Greedy" is the most likely answer; "sampled" one drawn at the recipe's temperature, which is
what the reward sees. "Complete" is the share of answers that earn the format's reward. The last line is JSON.
"""

import argparse
import itertools
import json
import multiprocessing
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from trl import GRPOConfig, TrlParser

from benchmarks.bench import ROOT, hardware, markdown_table
from elysium.processing.atomic_files import atomic_path
from elysium.processing.boxes_elysium import parse_frames
from elysium.processing.overlap import paired_iou
from elysium.tracking.answering import Answerer
from elysium.tracking.loading import load_checkpoint
from elysium.training.grpo import GrpoArguments, Question, questions
from elysium.training.rewards import format_reward
from research.eval_v1.report import versions

RECIPE = ROOT / "training" / "recipes" / "grpo.yaml"
MODEL = "elysium-tiny"
HELD_OUT_WORLD_SEED = 900_501
FIRST_TRAINING_WORLD_SEED = 1001
HELD_OUT: dict[str, dict[str, Any]] = {
    "rec, large": {"tasks": ["rec"], "side": [0.6, 1.0], "num_objects": [2, 3]},
    "rec, smaller": {"tasks": ["rec"], "side": [0.14, 0.42], "num_objects": [3, 6]},
    "sot, smaller": {"tasks": ["sot"], "side": [0.14, 0.42], "num_objects": [3, 6], "num_frames": 4},
}
MAX_NEW_TOKENS = 80  # more than four frames need
REWARDS = ("iou", "format")
BATCH = 32
Figures = dict[str, dict[str, float]]


def read_recipe() -> tuple[GrpoArguments, GRPOConfig]:
    """What the recipe says."""
    return TrlParser((GrpoArguments, GRPOConfig)).parse_args_and_config(["--config", str(RECIPE), "--model", MODEL])


def draw_questions(script: GrpoArguments, world_seed: int, count: int) -> dict[str, list[Question]]:
    """So many questions for each line of `HELD_OUT`, from a world of their own."""
    plans = {name: replace(script, world_seed=world_seed, **changes) for name, changes in HELD_OUT.items()}
    return {name: list(itertools.islice(questions(plan), count)) for name, plan in plans.items()}


def answers(model: Any, processor: Any, asked: Sequence[Question], *, temperature: float | None) -> list[str]:
    """Answers to the questions: the most likely ones, or samples, the same every time."""
    if temperature is None:
        conversations = (question.messages(processor) for question in asked)
        said = Answerer(model, processor, batch_size=BATCH).answer(conversations, max_new_tokens=MAX_NEW_TOKENS)
        return [answer.text for answer in said]
    texts = []
    torch.manual_seed(0)
    for start in range(0, len(asked), BATCH):
        inputs = processor.apply_chat_template(
            [question.messages(processor) for question in asked[start : start + BATCH]],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
        )
        with torch.inference_mode():
            output = model.generate(
                **inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=True, temperature=temperature, top_k=0
            )
        texts += processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def frame_ious(question: Question, text: str, rounding: str) -> list[float]:
    """IoU of each frame that counts: in which the object can be seen, without the one that was given."""
    readings = parse_frames(text, len(question.boxes_xyxy_norm), rounding=rounding)
    pairs = list(zip(readings, question.boxes_xyxy_norm, strict=True))[question.task == "sot" :]
    said = np.array([reading.box_xyxy_norm or [np.nan] * 4 for reading, true in pairs if true is not None])
    true = np.array([true for _, true in pairs if true is not None])
    return paired_iou(said.reshape(-1, 4), true.reshape(-1, 4)).tolist()


def measure(checkpoint: Path | str, held_out: dict[str, list[Question]], *, temperature: float) -> Figures:
    """Figures of a checkpoint for each line of `HELD_OUT`."""
    model, processor = load_checkpoint(checkpoint, device="cpu", dtype="float32")
    found: Figures = {}
    for name, asked in held_out.items():
        found[name] = {}
        for way, heat in (("greedy", None), ("sampled", temperature)):
            texts = answers(model, processor, asked, temperature=heat)
            pairs = zip(asked, texts, strict=True)
            ious = [iou for question, text in pairs for iou in frame_ious(question, text, processor.box_rounding)]
            complete = format_reward(texts, [question.boxes_xyxy_norm for question in asked])
            found[name] |= {f"{way}_iou": statistics.mean(ious), f"{way}_complete": statistics.mean(complete)}
    return found


def train(reward: str, seed: int, output: Path, arguments: Sequence[str]) -> tuple[Path, list[float]]:
    """One run by the recipe's command: its checkpoint, and the mean reward each time that it was logged."""
    command = [sys.executable, "-m", "elysium.training.grpo", "--config", str(RECIPE), "--model", MODEL]
    command += ["--rewards", reward, "--seed", str(seed), "--world_seed", str(FIRST_TRAINING_WORLD_SEED + seed)]
    command += ["--output_dir", str(output), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the run must end well, got exit code {done.returncode}:\n{done.stderr[-2000:]}")
    logged = re.findall(r"'reward': '([0-9.e+-]+)'", done.stdout)
    return output / "final", [float(value) for value in logged]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation over the seeds, least and most."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    found = {"mean": statistics.mean(values), "std": deviation, "min": min(values), "max": max(values)}
    return {name: round(value, 4) for name, value in found.items()}


def summarise(before: Figures, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """For each task and figure: before, and by reward the spread over the seeds after."""
    rewards = list(dict.fromkeys(run["reward"] for run in runs))
    return {
        task: {
            name: {"before": round(value, 4)}
            | {
                reward: spread([run["after"][task][name] for run in runs if run["reward"] == reward])
                for reward in rewards
            }
            for name, value in figures.items()
        }
        for task, figures in before.items()
    }


def table(summary: dict[str, Any]) -> str:
    """Return a table of figures before and after: mean (standard deviation; least to most)."""
    lines = []
    for task, figures in summary.items():
        for name, row in figures.items():
            after = [row[reward] for reward in REWARDS if reward in row]
            cells = [f"{v['mean']:.3f} ({v['std']:.3f}; {v['min']:.3f} to {v['max']:.3f})" for v in after]
            empty = [""] * (len(REWARDS) - len(after))
            lines.append([task, name.replace("_", " "), f"{row['before']:.3f}", *cells, *empty])
    return markdown_table(["held out", "figure", "before", *(f"after, reward {reward}" for reward in REWARDS)], lines)


def main(argv: list[str] | None = None) -> int:
    """Trains, measures, prints a table and a line of JSON."""
    parser = argparse.ArgumentParser(description="Measures GRPO on held-out questions, before and after.")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs for each reward")
    parser.add_argument("--questions", type=int, default=300, metavar="N", help="held-out questions of each kind")
    parser.add_argument("--output", type=Path, help="JSON to write")
    parser.add_argument("overrides", nargs="*", help="further arguments of the runs, behind --")
    arguments = parser.parse_args(argv)
    script, config = read_recipe()
    held_out = draw_questions(script, HELD_OUT_WORLD_SEED, arguments.questions)
    before, runs = measure(MODEL, held_out, temperature=config.temperature), []
    with tempfile.TemporaryDirectory() as folder:
        for seed, reward in itertools.product(range(arguments.seeds), REWARDS):
            start_s = time.perf_counter()
            checkpoint, rewards = train(reward, seed, Path(folder) / f"{reward}_{seed}", arguments.overrides)
            seconds = round(time.perf_counter() - start_s)
            after = measure(checkpoint, held_out, temperature=config.temperature)
            runs.append({"reward": reward, "seed": seed, "seconds": seconds, "rewards": rewards, "after": after})
            print(f"seed {seed}, reward {reward}: {seconds} s", file=sys.stderr)
    summary = summarise(before, runs)
    print(f"GRPO on held-out questions, {arguments.seeds} seeds: mean (standard deviation; least to most)")
    print(table(summary))
    record = {
        "benchmark": "grpo_iou",
        "recipe": yaml.safe_load(RECIPE.read_text("utf-8")),
        "overrides": arguments.overrides,
        "held_out_questions": arguments.questions,
        "summary": summary,
        "runs": runs,
        "hardware": f"{hardware()} ({multiprocessing.cpu_count()} cores)",
        "versions": versions(),
    }
    if arguments.output is not None:
        with atomic_path(arguments.output) as temporary:
            temporary.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    print(json.dumps({name: record[name] for name in ("benchmark", "held_out_questions", "summary", "hardware")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
