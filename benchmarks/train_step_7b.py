"""One training step of stage 2a, measured: tokens/s, share of the peak (MFU) and peak memory, in full and with LoRA.

    python -m benchmarks.train_step_7b                              # the same parts, small, on this machine's CPU
    python -m benchmarks.train_step_7b --shape 7b --dtype bfloat16  # the 7B model, random weights, on a GPU of 80 GB

A batch is made of synthetic clips: 8 frames a sample, through the processor, labels on the answers. A step is forward,
backward and AdamW. The baseline learns in full without gradient checkpointing; beside it stand full training and LoRA
(rank 16 on every linear layer of the language model) with it. Each runs in processes of its own, in turns with the
others; its first steps are left out, and the fastest of the rest counts, since other work on a machine only slows it.

Weights, gradients and Adam states have the type of `--dtype`, so that all 7B fit one card (8 bytes a parameter in
bfloat16; a real run keeps 16, shared out over GPUs); an adapter is fp32. The words are those of elysium-tiny's
tokenizer, of the 7B model a part of its vocabulary. A case that the device has no memory for says so.

MFU counts the FLOPs of training_flops.py against the card's data sheet, or, where none is known, against a product of
two large matrices measured beside it. The last line is JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, BatchFeature

import elysium  # noqa: F401  (registers the Auto classes)
from benchmarks.bench import hardware, markdown_table, peak_mb
from benchmarks.training_flops import LORA_TARGETS, PARTS, PEAK_FLOPS, ModelShape, training_flops, utilisation
from elysium.modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from elysium.processing.build_processor import build_processor
from elysium.processing.processing_elysium import ElysiumProcessor
from elysium.tracking.checkpoints import resolve_checkpoint
from elysium.training.synthetic import SceneConfig, World, render_clip
from elysium.training.synthetic.dataset import clip_rows, task_examples

CASES = ("full", "full-checkpointing", "lora-checkpointing")
LORA_RANK = 16
WARM_STEPS = 2
# A CLIP tower and a Llama, as the 7B model's, of 4.4M parameters in all.
SMALL: dict[str, Any] = {
    "vision_config": {
        "model_type": "clip_vision_model",
        "hidden_size": 160,
        "intermediate_size": 640,
        "num_hidden_layers": 4,
        "num_attention_heads": 5,
        "image_size": 96,
        "patch_size": 8,
    },
    "text_config": {
        "model_type": "llama",
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "num_key_value_heads": 6,
        "vocab_size": 4096,
    },
    "num_kept_tokens": 36,
    "selector_hidden_size": 64,
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def build(shape: str, device: str, dtype: torch.dtype) -> tuple[ElysiumForConditionalGeneration, ElysiumProcessor]:
    """A model of random weights, the 7B one or a small one of its parts, with elysium-tiny's tokenizer."""
    tokenizer = ElysiumProcessor.from_pretrained(resolve_checkpoint("elysium-tiny")).tokenizer
    image_token, video_token = tokenizer.convert_tokens_to_ids(["<image>", "<video>"])
    parts = SMALL if shape == "small" else {}
    config = ElysiumConfig(image_token_id=image_token, video_token_id=video_token, **parts)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype)
    return model, build_processor(config, tokenizer)


def build_batch(processor: ElysiumProcessor, *, samples: int, frames: int) -> BatchFeature:
    """Clips of the synthetic world, each with a question by words or by box and its answer.

    Returns:
        `input_ids`, `attention_mask`, `labels` `(B, L)`, -100 outside answers; `pixel_values_videos` (sum T, 3, S, S).
    """
    world, scene_config = World(0), SceneConfig(num_objects=(3, 3))
    conversations: list[list[dict[str, Any]]] = []
    number = 0
    while len(conversations) < samples:
        scene = world.sample(number, scene_config)
        clip = render_clip(scene, frames, (320, 240))
        for row in clip_rows(scene, clip, f"{number:06d}"):
            asked = next(example for example in task_examples(row) if example["task"] == "rsot")
            text, answer = asked["values"]["text"], asked["answer"]
            conversations.append(processor.build_messages("rsot", video=clip.frames, text=text, answer=answer))
        number += 1
    batch = processor.apply_chat_template(
        conversations[:samples],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        return_assistant_tokens_mask=True,
        processor_kwargs={"add_special_tokens": False, "padding": True},
    )
    told = torch.as_tensor(batch.pop("assistant_masks")).bool()
    batch["labels"] = torch.where(told, batch["input_ids"], -100)
    return batch


def make_learn(model: ElysiumForConditionalGeneration, case: str) -> Any:
    """The model as a case trains it."""
    model.train()
    if "checkpointing" in case:
        model.gradient_checkpointing_enable()
    if not case.startswith("lora"):
        return model
    from peft import LoraConfig, get_peft_model

    targets = rf".*language_model.*\.({'|'.join(LORA_TARGETS)})"
    adapted = get_peft_model(model, LoraConfig(r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules=targets))
    model.enable_input_require_grads()  # as TRL does with gradient checkpointing
    return adapted


def timed(work: Callable[[], Any], device: str) -> float:
    """Seconds of a piece of work, until the device has finished it."""
    start_s = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start_s


def matrix_flops(device: str, dtype: torch.dtype) -> float:
    """FLOP/s of the fastest of ten products of two square matrices."""
    side = 8192 if device == "cuda" else 1024
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / min(timed(lambda: left @ right, device) for _ in range(10))


def peak_flops(device: str, dtype: torch.dtype) -> tuple[float, str]:
    """The device's peak and where it is known from."""
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    known = next((card for card in PEAK_FLOPS if card in name), None)
    if known is not None and dtype == torch.bfloat16:
        return PEAK_FLOPS[known], f"data sheet of the {known}"
    return matrix_flops(device, dtype), "a measured product of matrices"


def run_case(case: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Trains for a few steps and measures; for a process of its own."""
    device, dtype = arguments.device, DTYPES[arguments.dtype]
    peak, source = peak_flops(device, dtype)
    model, processor = build(arguments.shape, device, dtype)
    batch = build_batch(processor, samples=arguments.samples, frames=arguments.frames).to(device)
    learner = make_learn(model, case)
    learning = [weight for weight in learner.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-5, fused=True)

    def step() -> None:
        learner(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    seconds = [timed(step, device) for _ in range(WARM_STEPS + arguments.steps)][WARM_STEPS:]
    step_s = min(seconds)
    samples, length = batch["input_ids"].shape
    lora = case.startswith("lora")
    parts = training_flops(
        ModelShape.of(model.config),
        frames=arguments.frames,
        tokens=length,
        learns=() if lora else PARTS,
        lora_rank=LORA_RANK if lora else 0,
        inputs_require_grad=lora,
    )
    states = [value for state in optimizer.state.values() for value in state.values()]
    return {
        "case": case,
        "learning": sum(weight.numel() for weight in learning),
        "tokens": int(batch["attention_mask"].sum()),
        "step_s": step_s,
        "tokens_per_s": int(batch["attention_mask"].sum()) / step_s,
        "frames_per_s": samples * arguments.frames / step_s,
        "flops_per_step": samples * sum(parts.values()),
        "peak_flops": peak,
        "peak_from": source,
        "state_mb": sum(t.nbytes for t in [*learner.parameters(), *learning, *states]) / 1e6,
        "peak_mb": torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else peak_mb(),
    }


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments, without what picks a case."""
    return {name: value for name, value in vars(arguments).items() if name != "case"}


def measure(case: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """`run_case` in a fresh process; a case that the device has no memory for says so."""
    given = settings(arguments)
    command = [
        sys.executable,
        "-m",
        __spec__.name,
        "--case",
        case,
        *(f"--{name}={value}" for name, value in given.items()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    if done.returncode and "OutOfMemoryError" in done.stderr:
        return {"case": case, "error": "out of memory"}
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def measure_in_turns(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The fastest measurement of every case."""
    rounds = [[measure(case, arguments) for case in CASES] for _ in range(arguments.rounds)]
    return [min(measured, key=lambda row: row.get("step_s", 0)) for measured in zip(*rounds, strict=True)]


def add_utilisation(rows: list[dict[str, Any]]) -> None:
    """MFU of every case, all against the fastest reference that one of them saw."""
    measured = [row for row in rows if "error" not in row]
    for row in measured:
        peak = max(other["peak_flops"] for other in measured)
        row["mfu"] = utilisation(row["flops_per_step"], row["step_s"], peak)


def table(rows: list[dict[str, Any]]) -> str:
    """Return a table with a line for each case, with its speed against the first one's."""
    baseline, lines = rows[0].get("tokens_per_s"), []
    for row in rows:
        if "error" in row:
            lines.append([row["case"], row["error"], *[""] * 6])
            continue
        ratio = f"{row['tokens_per_s'] / baseline:.2f}" if baseline else "-"
        speed = [f"{row['step_s']:.3f}", f"{row['tokens_per_s']:.0f}", ratio, f"{row['mfu']:.1%}"]
        lines.append(
            [row["case"], f"{row['learning']:,}", *speed, f"{row['state_mb']:,.0f}", f"{row['peak_mb']:,.0f}"]
        )
    return markdown_table(["case", "learn", "s/step", "tokens/s", "ratio", "MFU", "states MB", "peak MB"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=("small", "7b"), default="small")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="float32", help="of weights and computing")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--samples", type=int, default=2, help="samples of a batch")
    parser.add_argument("--frames", type=int, default=8, help="frames of a sample")
    parser.add_argument("--steps", type=int, default=8, help="steps that are measured, after the first ones")
    parser.add_argument("--rounds", type=int, default=3, help="how often the cases take turns")
    parser.add_argument("--case", choices=CASES, help="measure this one, in this process")
    arguments = parser.parse_args()
    for name in ("samples", "frames", "steps", "rounds"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(arguments, name)}")
    if arguments.case:
        print(json.dumps(run_case(arguments.case, arguments)))
        return
    rows = measure_in_turns(arguments)
    add_utilisation(rows)
    where = torch.cuda.get_device_name() if arguments.device == "cuda" else hardware()
    threads = torch.get_num_threads()
    print(
        f"{arguments.shape}, {arguments.dtype}, {arguments.samples} samples of {arguments.frames} frames, on {where}"
        + (f", {threads} threads" if arguments.device == "cpu" else "")
    )
    print(table(rows))
    print(json.dumps(settings(arguments) | {"hardware": where, "threads": threads, "rows": rows}))


if __name__ == "__main__":
    main()
