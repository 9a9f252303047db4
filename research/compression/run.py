"""The paper's ablation of token compression, with controls: what to keep of a frame, and how much of it.

    python -m research.tiny.fetch_tower runs/tower.safetensors
    python -m research.scenes.fetch_sprites runs/sprites.npz --photos
    python -m research.compression.run --tower runs/tower.safetensors --bank runs/sprites.npz

The vision tower is frozen; its features are computed once. On them a small language model learns to ground words and
to track from a box, without compression and guided by further losses (the base). From these weights every variant is
trained for the same steps on the same clips with the same losses; only a supervised gate, where that is the variant,
has one more. Weights that the base does not have start fresh (the gates, the comb, all of cross-attention, which so
short a run may leave behind); the projector of `concat` starts as that of the mean. A learned position embedding is
added to the patches before each compressor: the tower's features carry no place.

Boxes are decoded greedily from what the model itself wrote, on held-out clips (see compression_features.py). Intervals
are standard deviations over seeds. Which of the improved selectors gets further seeds is chosen by the first seed.

Everything is kept in `--cache`: started again with the same settings, the program goes on where it was stopped.
Results: a table (.md), figures (.json) and two pictures (.png) beside `--output`. The last line is JSON.
"""

import argparse
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bench import hardware, write_record
from research.compression.features import NUM_PATCHES, build_features, example_frames, load_features
from research.compression.report import (
    Outcome,
    draw_accuracy,
    draw_kept,
    gather,
    sentence,
    table,
)
from research.compression.runs import Place, Run, do_run, do_runs, measure_costs, say
from research.compression.variants import variants

TRAINING_CLIPS = {"rec": 8000, "sot": 3000}
HELD_OUT_CLIPS = {"rec": 300, "sot": 240}
SEVERAL_SEEDS = ("none", "selector", "selector+gate", "average", "random", "stride")
PICTURED = ("stride", "selector", "selector+gate")
PEAK, HOLD = 1.5e-3, 0.2
BASE_PEAK, BASE_HOLD = 2e-3, 0.8
# Freed memory stays in the process: without these the kernel hands the same pages out anew at every step.
_MEMORY = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What this benchmark and that of coordinate forms have in common."""
    parser.add_argument("--tower", default="runs/tower.safetensors", help="file of fetch_tower")
    parser.add_argument("--bank", default="runs/sprites.npz", help="file of fetch_sprites")
    parser.add_argument("--cache", type=Path, default=Path("runs/compression"), help="folder for features and runs")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")


def start_pool(workers: int) -> ProcessPoolExecutor:
    """Processes that see `_MEMORY` from their start on."""
    os.environ.update(_MEMORY)
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def prepare(arguments: argparse.Namespace, pool: ProcessPoolExecutor) -> Place:
    """Features and tokenizer, made where they are missing."""
    cache: Path = arguments.cache
    place = Place(features=str(cache / "features.pt"), results=str(cache / "finished"))
    Path(place.results).mkdir(parents=True, exist_ok=True)
    if not Path(place.features).is_file():
        start = time.perf_counter()
        sources = {"bank": arguments.bank, "tower": arguments.tower}
        build_features(Path(place.features), pool, **sources, sizes=TRAINING_CLIPS, held_out=HELD_OUT_CLIPS)
        say(f"features: {time.perf_counter() - start:.0f} s")
    return place


def run_all(arguments: argparse.Namespace, place: Place, base: Path, pool: ProcessPoolExecutor) -> list[dict]:
    """Every variant with the first seed, then the further seeds of some."""
    known = variants(arguments.kept, NUM_PATCHES)
    settings = {"steps": arguments.steps, "learning_rate": PEAK, "hold": HOLD, "start": str(base)}
    first = [Run(variant=variant, seed=0, **settings) for variant in known.values()]
    records = do_runs(first, place, pool)
    chosen = [*SEVERAL_SEEDS, *({best_improved(gather(records))} - set(SEVERAL_SEEDS))]
    further = [
        replace(run, seed=seed) for seed in range(1, arguments.seeds) for run in first if run.variant.name in chosen
    ]
    return records + do_runs(further, place, pool)


def best_improved(outcomes: dict[str, Outcome]) -> str:
    """The improved selector with the highest sum of both mean IoUs, by the first seed."""
    improved = [outcome for name, outcome in outcomes.items() if name.startswith("selector+")]
    return max(improved, key=lambda o: o.of("rec_iou", [0])[0] + o.of("sot_iou", [0])[0]).name


def sentences(outcomes: dict[str, Outcome], seeds: int) -> list[str]:
    """What the figures support. The chosen selector is judged without the seed that chose it."""
    every, best = range(seeds), best_improved(outcomes)
    pairs = [
        ("selector", "random"),
        ("selector", "stride"),
        ("selector", "average"),
        ("selector+gate", "selector"),
        ("selector+gate", "average"),
    ]
    said = [sentence(outcomes[a], outcomes[b], every) for a, b in pairs]
    if best != "selector+gate" and seeds > 2:
        said += [sentence(outcomes[best], outcomes[b], every[1:]) for b in ("selector+gate", "average")]
    return said


def write_results(
    records: list[dict[str, Any]], costs: list[dict[str, float]], arguments: argparse.Namespace, place: Place
) -> dict[str, Any]:
    """Table, sentences and pictures beside `--output`; returns the record that is kept.

    Args:
        costs: of each variant, in the order of `variants`.
    """
    outcomes, output = gather(records), arguments.output
    for outcome, cost in zip(outcomes.values(), costs, strict=True):
        outcome.values.update({key: np.array([value]) for key, value in cost.items()})
    said = sentences(outcomes, arguments.seeds)
    repeated = outcomes["none"].values["first_box_repeated"][0]
    chance = outcomes["none"].values["gate_objects"][0]
    notes = [
        f"First box repeated: SOT IoU {repeated:.3f}. Chance: recall {arguments.kept / NUM_PATCHES:.2f}, "
        f"precision {chance:.2f}.",
        f"{arguments.steps} steps each from one base ({arguments.base_steps} steps); "
        f"{sum(record['figures']['cpu_minutes'] for record in records):.0f} core-minutes of {hardware()}.",
    ]
    text = "\n\n".join([table(outcomes), *notes, *said]) + "\n"
    output.with_suffix(".md").write_text(text, "utf-8")
    print(text)
    draw_accuracy(outcomes, arguments.kept, output.with_suffix(".png"))
    examples = {
        record["settings"]["variant"]["name"]: record["figures"]["example_places"]
        for record in reversed(records)
        if "example_places" in record["figures"]
    }
    held_out, example = load_features(Path(place.features))["held_out_sot"], arguments.example
    followed = held_out.asked[example][0].object_index
    draw_kept(
        example_frames(Path(place.features))[example],
        held_out.boxes_xyxy_norm[example, :, followed],
        {name: torch.tensor(examples[name][example]) for name in PICTURED},
        output.with_name(f"{output.stem}_kept.png"),
    )
    return {
        "benchmark": "compression",
        "hardware": hardware(),
        "steps": arguments.steps,
        "base_steps": arguments.base_steps,
        "clips": {"train": TRAINING_CLIPS, "held_out": HELD_OUT_CLIPS},
        "sentences": said,
        "first_box_repeated": repeated,
        "chance": {"recall": arguments.kept / NUM_PATCHES, "precision": chance},
        "variants": {
            outcome.name: {"kept": outcome.kept, "seeds": list(outcome.seeds)}
            | {key: [round(float(value), 4) for value in values] for key, values in outcome.values.items()}
            for outcome in outcomes.values()
        },
    }


def main() -> None:
    """Trains, measures, prints a table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--steps", type=int, default=120, help="of each variant")
    parser.add_argument("--base-steps", type=int, default=700, help="of the weights that all start from")
    parser.add_argument("--seeds", type=int, default=3, help="of the variants with several")
    parser.add_argument("--kept", type=int, default=25, help="tokens a frame of controls and improved selectors")
    parser.add_argument("--example", type=int, default=0, help="which held-out clip is pictured, 0..11")
    parser.add_argument("--output", type=Path, default=Path("research/results/compression.json"))
    arguments = parser.parse_args()
    with start_pool(arguments.workers) as pool:
        place = prepare(arguments, pool)
        base = arguments.cache / f"base-{arguments.base_steps}.safetensors"
        whole = variants(arguments.kept, NUM_PATCHES)["none"]
        shown = Run(
            variant=whole,
            seed=0,
            steps=arguments.base_steps,
            guided=True,
            learning_rate=BASE_PEAK,
            hold=BASE_HOLD,
        )
        start = pool.submit(do_run, shown, place, str(base)).result()["figures"]
        say(f"base: REC {start['rec_iou']:.3f}  SOT {start['sot_iou']:.3f}  {start['cpu_minutes']:.1f} min")
        records = run_all(arguments, place, base, pool)
        known = variants(arguments.kept, NUM_PATCHES).values()
        costs = list(pool.map(partial(measure_costs, place=place), known))
    record = write_results(records, costs, arguments, place) | {"base": {k: start[k] for k in ("rec_iou", "sot_iou")}}
    write_record(record, arguments.output)


if __name__ == "__main__":
    main()
