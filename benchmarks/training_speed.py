"""How fast training goes: against no token compression, against a plain loop, and the loader alone.

    python -m benchmarks.training_speed --output benchmarks/results/training_speed.json

Clips of 8 frames from JPEG files in ElysiumTrack's layout, tracked by box, on the shape of the shipped checkpoint:

- steps: `ElysiumSFTTrainer` with 25 of 100 tokens kept a frame, the same with all 100 (`compressor: none`), and a
  plain loop (loader without workers, forward with labels, backward, AdamW) with 25. Samples/s and tokens/s; loading
  counts in all three.
- loader: clips/s of the loader alone with 0, 1 and 2 workers, and the share of its time that a step of 50 ms would
  wait for the next batch.

All in one process and in turns; the last line is JSON.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks.bench import write_record
from elysium.modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from elysium.processing.build_processor import build_processor
from elysium.tracking.loading import load_checkpoint
from elysium.training.catalogue import open_source
from elysium.training.collator import ElysiumCollator
from elysium.training.mixture import Mixture, mix
from elysium.training.sampling import DrawPlan
from elysium.training.sft_arguments import ElysiumSFTConfig
from elysium.training.sft_trainer import ElysiumSFTTrainer
from elysium.training.synthetic.dataset import ClipShape, write_dataset

STEP_S = 0.05
BATCH = 4
MODEL_INPUTS = ("input_ids", "attention_mask", "labels", "pixel_values", "pixel_values_videos")


def clips(folder: Path, count: int) -> Mixture:
    """Rows whose frames are JPEG files of 320x240."""
    write_dataset(folder, count=count, seed=21, shape=ClipShape(num_frames=16))
    return mix([open_source({"source": "elysium-track", "path": str(folder)})])


def collator_of(mixture: Mixture, model: Any, processor: Any) -> ElysiumCollator:
    """Clips of 8 frames, tracked by box."""
    plan = DrawPlan(tasks={"sot": 1.0}, min_frames=8, max_frames=8, max_interval=2)
    patches = round(model.config.num_patches**0.5)
    return ElysiumCollator(mixture, processor, plan, max_length=None, patches=patches)


def model_and_processor(compressor: str) -> tuple[Any, Any]:
    """elysium-tiny, or an untrained model of its shape that keeps every token."""
    model, processor = load_checkpoint("elysium-tiny", device="cpu")
    if compressor == "t_selector":
        return model.train(), processor
    values = model.config.to_dict() | {"compressor": compressor, "num_kept_tokens": model.config.num_patches}
    config = ElysiumConfig(**values)
    return ElysiumForConditionalGeneration(config).train(), build_processor(config, processor.tokenizer)


def time_trainer(mixture: Mixture, compressor: str, *, steps: int, workers: int) -> dict[str, float]:
    """Samples/s and tokens/s of our trainer, the first two steps left out."""
    model, processor = model_and_processor(compressor)
    marks: list[tuple[float, int]] = []

    class Timed(ElysiumSFTTrainer):
        def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
            loss = super().training_step(model, inputs, *args, **kwargs)
            marks.append((time.perf_counter(), int(inputs["attention_mask"].sum())))
            return loss

    with tempfile.TemporaryDirectory() as folder:
        arguments = ElysiumSFTConfig(
            output_dir=folder,
            max_steps=steps + 2,
            per_device_train_batch_size=BATCH,
            dataloader_num_workers=workers,
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            report_to="none",
            save_strategy="no",
            logging_steps=1000,
            disable_tqdm=True,
            remove_unused_columns=False,
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
        )
        Timed(
            model=model,
            args=arguments,
            train_dataset=mixture.dataset,
            processing_class=processor,
            collator=collator_of(mixture, model, processor),
        ).train()
    return _rate(marks)


def time_plain_loop(mixture: Mixture, *, steps: int) -> dict[str, float]:
    """The same model and the same examples, as few lines as it takes."""
    model, processor = model_and_processor("t_selector")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    loader = DataLoader(mixture.dataset, BATCH, shuffle=True, collate_fn=collator_of(mixture, model, processor))
    marks = []
    for _, batch in zip(range(steps + 2), loader, strict=False):
        loss = model(**{name: batch[name] for name in MODEL_INPUTS if name in batch}).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        marks.append((time.perf_counter(), int(batch["attention_mask"].sum())))
    return _rate(marks)


def _rate(marks: list[tuple[float, int]]) -> dict[str, float]:
    """From the end of each step and its tokens: rates behind the second step."""
    took_s = marks[-1][0] - marks[1][0]
    steps, tokens = len(marks) - 2, sum(count for _, count in marks[2:])
    return {"samples_per_s": round(steps * BATCH / took_s, 2), "tokens_per_s": round(tokens / took_s, 1)}


def time_loader(mixture: Mixture, *, workers: int, batches: int) -> dict[str, float]:
    """Clips/s when nobody waits, and the share of its time that a step of 50 ms waits."""
    model, processor = model_and_processor("t_selector")
    loader = DataLoader(
        mixture.dataset, BATCH, shuffle=True, collate_fn=collator_of(mixture, model, processor), num_workers=workers
    )
    busy_s, _ = _through(loader, batches, 0.0)
    stepping_s, waited_s = _through(loader, batches, STEP_S)
    return {
        "clips_per_s": round(batches * BATCH / busy_s, 1),
        "share_waited_at_50_ms": round(waited_s / stepping_s, 3),
    }


def _through(loader: Iterable[Any], batches: int, step_s: float) -> tuple[float, float]:
    """Seconds of so many batches with a step of so long behind each, and seconds waited for them; starting up is left
    out."""
    iterator = iter(loader)
    next(iterator)
    start_s, waited_s = time.perf_counter(), 0.0
    for _ in range(batches):
        before_s = time.perf_counter()
        next(iterator)
        waited_s += time.perf_counter() - before_s
        time.sleep(step_s)
    return time.perf_counter() - start_s, waited_s


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    record: dict[str, Any] = {
        "batch": BATCH,
        "frames": 8,
        "machine": platform.machine(),
        "cpus": torch.get_num_threads(),
    }
    with tempfile.TemporaryDirectory() as folder:
        mixture = clips(Path(folder) / "clips", arguments.clips)
        record["ours"] = time_trainer(mixture, "t_selector", steps=arguments.steps, workers=1)
        record["no_compression"] = time_trainer(mixture, "none", steps=arguments.steps, workers=1)
        record["plain_loop"] = time_plain_loop(mixture, steps=arguments.steps)
        for workers in (0, 1, 2):
            record[f"loader_{workers}_workers"] = time_loader(
                mixture, workers=workers, batches=min(40, arguments.clips // 2)
            )
    for other in ("no_compression", "plain_loop"):
        record[f"ratio_to_{other}"] = round(record["ours"]["samples_per_s"] / record[other]["samples_per_s"], 2)
    for name, value in record.items():
        print(f"{name:24} {value}")
    write_record(record, arguments.output)


if __name__ == "__main__":
    main()
