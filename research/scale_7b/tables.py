"""What training the 7B model takes, on paper: memory of a GPU, FLOPs of a sample, hours of each stage.

    python -m research.scale_7b.tables                           # kept as research/results/scale_7b.txt
    python -m research.scale_7b.tables --card A100 --mfu 0.5 --network 12.5

Everything is computed: the model is the default configuration on the meta device, the stages are the recipes in
training/recipes, the formulas stand in training_flops.py and training_memory.py. Assumed: the share of the peak that a
run reaches (MFU); 32 GPUs in stages 2a and 2b (the paper names 8 for stage 1a and 32 for 1b); 64 tokens for captions
and replies; 450 GB/s from a GPU to the others of its machine (NVLink of an H100), and 400 GB/s from a machine to the
others (eight adapters of 400 Gb/s). Data goes round a ring, so that the slowest link counts; sending and computing
overlap, so that a step takes as long as the longer of the two. Padding, loading and saving are left out. The last line
is JSON.
"""

import argparse
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import elysium.training
from benchmarks.bench import markdown_table
from benchmarks.training_flops import PARTS, PEAK_FLOPS, ModelShape, sequence_tokens, training_flops
from research.scale_7b.full_size import build_on_meta
from research.scale_7b.memory import ParameterCounts, activation_bytes, sent_bytes, state_bytes

RECIPES = Path(elysium.training.__file__).parent / "recipes"
# A recipe, and how many GPUs run it.
STAGES = {"stage1a_align": 8, "stage1b_pretrain": 32, "stage2a_instruct": 32, "stage2b_long": 32, "lora": 1}
TRACKS = ("elysium-track", "folder")  # sources of tracks
PICTURES_1A = 558_128  # pairs of picture and caption in LLaVA-558K; stage 1a sees each once
# With "ddp" every GPU holds the same, however many there are.
PLACES = (("ddp", 1), ("zero2", 8), ("zero2", 32), ("zero3", 8), ("zero3", 32), ("fsdp2", 8), ("fsdp2", 32))
GPUS_IN_MACHINE, NVLINK = 8, 450e9  # bytes/s
USABLE_BYTES = 0.9 * 80e9  # a card of 80 GB, less a tenth for what is not counted
GB = 1e9
# Key of a row -> heading, what it is divided by, and its format.
Column = tuple[str, float, str]
MEMORY_COLUMNS: dict[str, Column] = {
    "stage": ("stage", 1, ""),
    "strategy": ("", 1, ""),
    "gpus": ("GPUs", 1, ""),
    **{part: (part, GB, ".1f") for part in ("weights", "gradients", "optimizer", "working", "activations", "total")},
    "fits_80_gb": ("fits 80 GB", 1, ""),
}
_SAMPLE_COLUMNS: dict[str, Column] = {"frames": ("frames", 1, ""), "tokens": ("tokens", 1, "")}
ACTIVATION_COLUMNS = _SAMPLE_COLUMNS | {"checkpointing": ("with", GB, ".2f"), "none": ("without", GB, ".2f")}
FLOPS_COLUMNS = _SAMPLE_COLUMNS | {part: (part, 1e12, ".2f") for part in (*PARTS, "total")}
STAGE_COLUMNS: dict[str, Column] = {
    "stage": ("stage", 1, ""),
    "gpus": ("GPUs", 1, ""),
    "steps": ("steps", 1, ""),
    "samples_per_step": ("samples/step", 1, ""),
    "frames_per_sample": ("frames", 1, ".1f"),
    "tokens_per_sample": ("tokens", 1, ".0f"),
    "flops_per_sample": ("TFLOP", 1e12, ".1f"),
    "compute_s": ("s computing", 1, ".2f"),
    "send_s": ("s sending", 1, ".2f"),
    "hours": ("hours", 1, ".2f"),
    "gpu_hours": ("GPU hours", 1, ".1f"),
}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of sample in a stage: its share, its frames and whether its answer is a box a frame."""

    share: float
    frames: int
    boxes: bool


def read_recipe(name: str) -> dict[str, Any]:
    """The fields of a recipe; with an adapter, gradient checkpointing is switched on, as 7B needs it."""
    recipe = yaml.safe_load((RECIPES / f"{name}.yaml").read_text("utf-8"))
    return recipe | {"activation_checkpointing": True} if recipe.get("use_peft") else recipe


def learns_of(recipe: dict[str, Any]) -> tuple[str, ...]:
    """Parts of the model that learn in full."""
    if recipe.get("use_peft"):
        return tuple(recipe["lora_modules_to_save"])
    return tuple(recipe.get("train_parts") or PARTS)


def kinds_of(recipe: dict[str, Any]) -> list[Kind]:
    """The samples of a recipe: tracks with every number of frames alike, videos asked about, single pictures."""
    weights = [float(source.get("weight", 1)) for source in recipe["data"]]
    kinds = []
    for source, weight in zip(recipe["data"], weights, strict=True):
        share = weight / sum(weights)
        if source["source"] in TRACKS:
            lengths = range(recipe["min_frames"], recipe["max_frames"] + 1)
            kinds += [Kind(share=share / len(lengths), frames=frames, boxes=True) for frames in lengths]
        else:
            frames = recipe["question_frames"] if source["source"] == "videochat" else 1
            kinds.append(Kind(share=share, frames=frames, boxes=False))
    return kinds


@cache
def model_sizes() -> tuple[ModelShape, dict[str, int]]:
    """Shape and parameters by name of the 7B model, from the meta device."""
    model = build_on_meta()
    return ModelShape.of(model.config), {name: weight.numel() for name, weight in model.named_parameters()}


def parameter_counts(recipe: dict[str, Any]) -> ParameterCounts:
    """Of the 7B model as a recipe trains it; an adapter is taken to be on all linear layers of the language model."""
    shape, sizes = model_sizes()
    learns = learns_of(recipe)
    layers: dict[str, int] = {}
    for name, size in sizes.items():
        stack, within, rest = name.partition(".layers.")
        if within:
            layer = f"{stack}.{rest.split('.')[0]}"
            layers[layer] = layers.get(layer, 0) + size
    learning = sum(size for name, size in sizes.items() if set(name.split(".")) & set(learns))
    return ParameterCounts(
        learning=learning + shape.lora_parameters(recipe.get("lora_r", 0)),
        frozen=sum(sizes.values()) - learning,
        layer=max(layers.values()),
        kept_whole=sum(sizes.values()) - sum(layers.values()),
    )


def memory_rows(name: str) -> list[dict[str, Any]]:
    """Bytes on a GPU for a stage: one row for each way to distribute it, with the longest samples it lets through."""
    recipe, shape = read_recipe(name), model_sizes()[0]
    counts = parameter_counts(recipe)
    sizes = {
        "frames": recipe.get("max_frames", 1),
        "tokens": recipe["max_length"],
        "samples": recipe["per_device_train_batch_size"],
    }
    activations = sum(
        activation_bytes(
            shape,
            **sizes,
            learns=learns_of(recipe),
            lora=bool(recipe.get("lora_r")),
            checkpointing=recipe["activation_checkpointing"],
        ).values()
    )
    rows = []
    for strategy, gpus in PLACES:
        states = state_bytes(strategy, counts, gpus=gpus)
        total = sum(states.values()) + activations
        row = {"stage": name, "strategy": strategy, "gpus": gpus, **states, "activations": activations}
        rows.append(row | {"total": total, "fits_80_gb": "yes" if total <= USABLE_BYTES else "no"})
    return rows


def activation_rows() -> list[dict[str, Any]]:
    """Bytes that one sample of tracking keeps for the backward pass; a micro-batch keeps a multiple."""
    shape, rows = model_sizes()[0], []
    for frames in (1, 2, 8, 16, 32):
        tokens = sequence_tokens(shape.kept, frames)
        kept = {
            on: sum(activation_bytes(shape, frames=frames, tokens=tokens, samples=1, checkpointing=on).values())
            for on in (True, False)
        }
        rows.append({"frames": frames, "tokens": tokens, "checkpointing": kept[True], "none": kept[False]})
    return rows


def flops_rows() -> list[dict[str, Any]]:
    """FLOPs of one sample of tracking, forward and backward, by part; everything learns."""
    shape, rows = model_sizes()[0], []
    for frames in (1, 2, 8, 16, 32):
        tokens = sequence_tokens(shape.kept, frames)
        parts = training_flops(shape, frames=frames, tokens=tokens)
        rows.append({"frames": frames, "tokens": tokens} | parts | {"total": sum(parts.values())})
    return rows


def mean_sample(recipe: dict[str, Any]) -> dict[str, float]:
    """Frames, tokens and FLOPs of a recipe's samples, on average."""
    shape, rank = model_sizes()[0], recipe.get("lora_r", 0)
    mean = {"frames_per_sample": 0.0, "tokens_per_sample": 0.0, "flops_per_sample": 0.0}
    for kind in kinds_of(recipe):
        tokens = sequence_tokens(shape.kept, kind.frames, answers_boxes=kind.boxes)
        flops = training_flops(
            shape,
            frames=kind.frames,
            tokens=tokens,
            learns=learns_of(recipe),
            lora_rank=rank,
            inputs_require_grad=rank > 0 and recipe["activation_checkpointing"],
        )
        for name, value in zip(mean, (kind.frames, tokens, sum(flops.values())), strict=True):
            mean[name] += kind.share * value
    return mean


def stage_row(name: str, *, peak_flops: float, mfu: float, network: float) -> dict[str, Any]:
    """Time of a stage with FSDP2 (with one GPU nothing is sent): its mean sample, its step, its hours."""
    recipe, gpus = read_recipe(name), STAGES[name]
    mean = mean_sample(recipe)
    batch = gpus * recipe["per_device_train_batch_size"] * recipe.get("gradient_accumulation_steps", 1)
    steps = recipe["max_steps"] if "max_steps" in recipe else -(-PICTURES_1A // batch)
    compute_s = batch * mean["flops_per_sample"] / (gpus * peak_flops * mfu)
    link = NVLINK if gpus <= GPUS_IN_MACHINE else min(NVLINK, network)
    send_s = sent_bytes("fsdp2", parameter_counts(recipe), gpus=gpus) / link
    hours = steps * max(compute_s, send_s) / 3600
    row = {"stage": name, "gpus": gpus, "steps": steps, "samples_per_step": batch, **mean}
    return row | {"compute_s": compute_s, "send_s": send_s, "hours": hours, "gpu_hours": gpus * hours}


def table(rows: list[dict[str, Any]], columns: dict[str, Column]) -> str:
    """Return a table of rows, each figure in its column's unit and format."""
    cells = (
        [format(row[key] / unit, form) if form else row[key] for key, (_, unit, form) in columns.items()]
        for row in rows
    )
    return markdown_table([heading for heading, _, _ in columns.values()], cells)


def report(card: str, mfu: float, network: float) -> dict[str, Any]:
    """Prints the tables and returns what they hold."""
    sizes, peak = model_sizes()[1], PEAK_FLOPS[card]
    learning = {name: parameter_counts(read_recipe(name)).learning for name in STAGES}
    print(f"All figures are computed. The model has {sum(sizes.values()):,} parameters; of these learn:")
    for name, count in learning.items():
        print(f"  {name:<18}{count:>15,}")
    found: dict[str, Any] = {"card": card, "mfu": mfu, "network_gb_per_s": network / GB, "learning": learning}
    found["memory"] = [row for name in STAGES for row in memory_rows(name)]
    print("\nGB on a GPU: the recipe's micro-batch of its longest samples, with gradient checkpointing")
    print(table(found["memory"], MEMORY_COLUMNS))
    found["activations"] = activation_rows()
    print("\nGB of activations for each tracking sample of a micro-batch, with and without gradient checkpointing")
    print(table(found["activations"], ACTIVATION_COLUMNS))
    found["flops"] = flops_rows()
    print("\nTFLOP of a tracking sample, forward and backward; everything learns")
    print(table(found["flops"], FLOPS_COLUMNS))
    found["stages"] = [stage_row(name, peak_flops=peak, mfu=mfu, network=network) for name in STAGES]
    print(
        f"\nTime with FSDP2, at an assumed MFU of {mfu:.0%} of {peak / 1e12:.0f} TFLOP/s ({card}, dense bf16, data "
        f"sheet) and {network / GB:g} GB/s between machines"
    )
    print(table(found["stages"], STAGE_COLUMNS))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--card", choices=tuple(PEAK_FLOPS), default="H100")
    parser.add_argument("--mfu", type=float, default=0.4, help="share of the card's peak that training reaches")
    parser.add_argument("--network", type=float, default=400.0, help="GB/s from one machine to the others")
    arguments = parser.parse_args()
    if not 0 < arguments.mfu <= 1:
        parser.error(f"--mfu must be above 0 and at most 1, got {arguments.mfu}; 0.3 to 0.5 is usual")
    if arguments.network <= 0:
        parser.error(f"--network must be above 0, got {arguments.network}; 100 Gb/s are 12.5")
    print(json.dumps(report(arguments.card, arguments.mfu, arguments.network * GB)))


if __name__ == "__main__":
    main()
