"""One run: a variant is trained for some steps and judged on held-out clips, and its figures are written to a file.

Runs are independent, so that several processes share them; one that has its file is not run again.
"""

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from elysium.processing.atomic_files import atomic_path
from elysium.processing.build_processor import build_processor
from elysium.processing.overlap import paired_iou
from research.compression.answers import AnswerCoder, BoxForm
from research.compression.features import (
    CLIP_FRAMES,
    EXAMPLES,
    FeatureSet,
    load_features,
)
from research.compression.model import CompressionModel, build_network, small_config
from research.compression.variants import KeptClips, Variant
from research.tiny.checkpoint import load_tiny_tokenizer
from research.tiny.optimizers import MuonWithAdamW, linear_decay

TASKS = ("rec", "sot")
CLIPS_PER_STEP = {"rec": 24, "sot": 8}
INTEGERS = BoxForm(name="integers")
# A model that learns from nothing sees single frames alone for this share of its steps.
SINGLE_FRAMES_FIRST = 0.4
LOSS_WEIGHTS = {"gate": 0.3, "attention": 0.2, "tokens": 2.0}
# A patch counts as an object's from this share on.
ON_OBJECT = 0.3
_EVALUATION_CLIPS = 40


@dataclass(frozen=True, kw_only=True)
class Run:
    """All that decides a run's figures.

    Args:
        variant, form: what is compared.
        start: weights to start from, or None for none.
        guided: whether the language model has the losses of one that learns from nothing.
        learning_rate, hold: the peak, and the share of the run after which it falls in a line.
    """

    variant: Variant
    seed: int
    steps: int
    learning_rate: float
    hold: float
    start: str | None = None
    guided: bool = False
    form: BoxForm = field(default=INTEGERS)

    @property
    def name(self) -> str:
        """Of its file."""
        kind = f"guided {self.form.name} " if self.guided else ""
        return re.sub(r"[^a-z0-9]+", "-", f"{kind}{self.variant.name} {self.steps} seed {self.seed}")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where runs read and write: the file of features, the folder of finished runs."""

    features: str
    results: str


def load_coder(form: BoxForm) -> AnswerCoder:
    """Writes questions and answers of a form."""
    tokenizer = load_tiny_tokenizer()
    return AnswerCoder(build_processor(small_config(tokenizer), tokenizer), form)


def train(network: CompressionModel, data: dict[str, FeatureSet], run: Run) -> Iterator[dict[str, float]]:
    """Trains, single frames and clips in turn; gives the losses of each step. The same seed draws the same clips."""
    rng = np.random.default_rng(run.seed)
    optimizer = MuonWithAdamW(network, lr=run.learning_rate, weight_decay=0.02)
    schedule = linear_decay(optimizer, steps=run.steps, warmup=max(10, run.steps // 20), hold=run.hold)
    for step in range(run.steps):
        alone = run.guided and step < SINGLE_FRAMES_FIRST * run.steps
        task = "rec" if alone else TASKS[step % 2]
        clips = data[f"train_{task}"]
        batch = clips.select(torch.from_numpy(np.sort(rng.integers(len(clips), size=CLIPS_PER_STEP[task]))))
        with torch.autocast("cpu", torch.bfloat16):
            losses = network.losses(batch, guided=run.guided)
        total = sum(LOSS_WEIGHTS.get(name, 1.0) * value for name, value in losses.items())
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        yield {f"{task}_{name}": float(value.detach()) for name, value in losses.items()}


@torch.no_grad()
def gate_evidence(kept: KeptClips, clips: FeatureSet) -> dict[str, list[float]]:
    """Of each clip: the share of object patches that were kept, of kept patches that show one, and of all that do."""
    if kept.places is None:
        return {}
    on_object = ((clips.coverage.float() / 255).sum(2) > ON_OBJECT).flatten(1).float()  # (B, T * N)
    hits = on_object.gather(1, kept.places).sum(1)
    return {
        "recall": (hits / on_object.sum(1).clamp(min=1)).tolist(),
        "precision": (hits / kept.places.shape[1]).tolist(),
        "objects": on_object.mean(1).tolist(),
    }


@torch.no_grad()
def evaluate(network: CompressionModel, data: dict[str, FeatureSet], *, seed: int) -> dict[str, Any]:
    """Figures on the held-out clips, from boxes that the model writes itself; frame 1 of a track does not count."""
    torch.manual_seed(seed)  # of random tokens
    figures: dict[str, Any] = {}
    evidence: dict[str, list[float]] = {}
    for task in TASKS:
        clips, overlaps, repeated = data[f"held_out_{task}"], [], []
        for start in range(0, len(clips), _EVALUATION_CLIPS):
            batch = clips.select(torch.arange(start, min(start + _EVALUATION_CLIPS, len(clips))))
            with torch.autocast("cpu", torch.bfloat16):
                boxes, rows, kept = network.answer(batch)
            first = 0 if task == "rec" else 1
            owners, places = [row.object_index for row in rows], [row.clip for row in rows]
            true = batch.boxes_xyxy_norm[places, :, owners].double().numpy()
            overlaps += [paired_iou(a, b)[first:].mean() for a, b in zip(boxes.double().numpy(), true, strict=True)]
            repeated += [paired_iou(np.repeat(b[:1], len(b), 0), b)[first:].mean() for b in true]
            for name, values in gate_evidence(kept, batch).items():
                evidence[name] = evidence.get(name, []) + values
            if task == "sot" and start == 0 and kept.places is not None:
                figures["example_places"] = kept.places[:EXAMPLES].tolist()
        figures |= {
            f"{task}_iou": float(np.mean(overlaps)),
            f"{task}_over_half": float(np.mean(np.array(overlaps) > 0.5)),
            f"{task}_questions": len(overlaps),
        }
    figures["first_box_repeated"] = float(np.mean(repeated))
    return figures | {f"gate_{name}": float(np.mean(values)) for name, values in evidence.items()}


def measure_costs(variant: Variant, place: Place, *, times: int = 3) -> dict[str, float]:
    """What a variant costs on one core, weights aside: a training step, and a clip's frames; the fastest of some.

    Measured apart from the runs, so that all variants are measured under one load.
    """
    torch.set_num_threads(1)
    data, network = load_features(Path(place.features)), build_network(variant, load_coder(INTEGERS))
    steps = train(network, data, Run(variant=variant, seed=0, steps=2 * times, learning_rate=1e-4, hold=1.0))
    batch, step_s, clip_s = data["held_out_sot"].select(torch.arange(16)), [], []
    for _ in range(times):
        start = time.process_time()
        next(steps), next(steps)  # one of each task
        step_s.append((time.process_time() - start) / 2)
        start = time.process_time()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            network.read(batch)
        clip_s.append((time.process_time() - start) / len(batch))
    return {"train_s_per_step": min(step_s), "forward_ms_per_clip": 1000 * min(clip_s)}


def do_run(run: Run, place: Place, weights: str | None = None) -> dict[str, Any]:
    """Trains and judges, unless that was done before; returns and keeps the figures.

    Args:
        weights: file that the trained weights are kept in, for others to start from; its losses are told now and then.

    Raises:
        ValueError: the file of a finished run of other settings stands in the way.
    """
    path = Path(place.results) / f"{run.name}.json"
    settings = json.loads(json.dumps(asdict(run)))
    if path.is_file():
        found = json.loads(path.read_text("utf-8"))
        if found["settings"] != settings:
            raise ValueError(f"{path.name} must be of the same settings, got {found['settings']}; remove the file")
        return found
    torch.set_num_threads(1)
    torch.manual_seed(run.seed)
    data = load_features(Path(place.features))
    network = build_network(run.variant, load_coder(run.form))
    if run.start is not None:
        network.start_from(load_file(run.start))
    start, losses = time.process_time(), list[dict[str, float]]()
    for step in train(network, data, run):
        losses.append(step)
        if weights is not None and len(losses) % 50 == 0:
            minutes = (time.process_time() - start) / 60
            say(f"{run.name} {len(losses)}/{run.steps} {minutes:.1f} min {mean_losses(losses[-50:])}")
    figures = evaluate(network, data, seed=run.seed) | {
        "cpu_minutes": (time.process_time() - start) / 60,
        "prefix_tokens_of_a_clip": len(network.coder.prefix(CLIP_FRAMES)) + CLIP_FRAMES * (run.variant.kept - 1),
        "last_losses": mean_losses(losses[-50:]),
    }
    record = {"run": run.name, "settings": settings, "figures": figures}
    if weights is not None:
        with atomic_path(Path(weights)) as unfinished:
            save_file({name: value.contiguous() for name, value in network.state_dict().items()}, unfinished)
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(record) + "\n", "utf-8")
    return record


def mean_losses(steps: list[dict[str, float]]) -> dict[str, float]:
    """Of each loss, over the steps that have it."""
    names = sorted({name for step in steps for name in step})
    return {name: round(float(np.mean([step[name] for step in steps if name in step])), 3) for name in names}


def say(line: str) -> None:
    """Prints at once."""
    print(line, flush=True)


def do_runs(runs: list[Run], place: Place, pool: Executor) -> list[dict[str, Any]]:
    """All runs, in the order given; each is told of as soon as it and those before it are done."""
    records = []
    for done in [pool.submit(do_run, run, place) for run in runs]:
        record = done.result()
        figures = record["figures"]
        accuracy = f"REC {figures['rec_iou']:.3f}  SOT {figures['sot_iou']:.3f}"
        say(f"{record['run']:44} {accuracy}  {figures['cpu_minutes']:.1f} min")
        records.append(record)
    return records
