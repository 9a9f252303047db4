"""Measure the speed of training: against no token compression, against a plain loop, and the loader alone.

    OMP_NUM_THREADS=1 python -m benchmarks.training_speed --output benchmarks/results/training_speed.json

Clips of 8 frames from JPEG files in ElysiumTrack's layout, tracked by box, on the shape of the shipped checkpoint:

- ours: `ElysiumSFTTrainer` with 25 of 100 tokens kept a frame; no_compression: with all 100 (`compressor: none`);
- plain_loop: loader, forward with labels, backward, AdamW with 25 tokens kept.

Those three run in turns in one process and without workers, so that loading counts in each; figures are medians of the
rounds in processor time. Then the share of wall-clock that the trainer waits for one worker, and the loader alone.
The last line is JSON.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks.bench import hardware, write_record
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

BATCH = 4
WARM_UP = 2  # first steps, which do not count
MODEL_INPUTS = ("input_ids", "attention_mask", "labels", "pixel_values", "pixel_values_videos")
Mark = tuple[float, int]  # processor time at the end of a step, and the tokens of its batch


def clips(folder: Path, count: int) -> Mixture:
    """Return samples whose frames are JPEG files of 320x240."""
    write_dataset(folder, count=count, seed=21, shape=ClipShape(num_frames=16))
    return mix([open_source({"source": "elysium-track", "path": str(folder)})])


def collator_of(mixture: Mixture, model: Any, processor: Any) -> ElysiumCollator:
    """Return a collator of clips of 8 frames, tracked by box."""
    plan = DrawPlan(tasks={"sot": 1.0}, min_frames=8, max_frames=8, max_interval=2)
    patches = round(model.config.num_patches**0.5)
    return ElysiumCollator(mixture, processor, plan, max_length=None, patches=patches)


def model_and_processor(compressor: str) -> tuple[Any, Any]:
    """Return elysium-tiny, or an untrained model of its shape that keeps every token."""
    model, processor = load_checkpoint("elysium-tiny", device="cpu")
    if compressor == "t_selector":
        return model.train(), processor
    values = model.config.to_dict() | {"compressor": compressor, "num_kept_tokens": model.config.num_patches}
    config = ElysiumConfig(**values)
    return ElysiumForConditionalGeneration(config).train(), build_processor(config, processor.tokenizer)


class Timed(ElysiumSFTTrainer):
    """Record the end of each step, and the wall-clock at which waiting for a batch began and ended."""

    marks: list[Mark]
    waits: list[tuple[float, float]]

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(model, inputs, *args, **kwargs)
        self.marks.append((time.process_time(), int(inputs["attention_mask"].sum())))
        return loss

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        batches = super().get_batch_samples(*args, **kwargs)
        self.waits.append((start, time.perf_counter()))
        return batches


def train(mixture: Mixture, compressor: str, *, steps: int, workers: int = 0) -> Timed:
    """Return our trainer after so many steps and the first ones."""
    model, processor = model_and_processor(compressor)
    with tempfile.TemporaryDirectory() as folder:
        arguments = ElysiumSFTConfig(
            output_dir=folder,
            max_steps=steps + WARM_UP,
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
        trainer = Timed(
            model=model,
            args=arguments,
            train_dataset=mixture.dataset,
            processing_class=processor,
            collator=collator_of(mixture, model, processor),
        )
        trainer.marks, trainer.waits = [], []
        trainer.train()
    return trainer


def run_plain_loop(mixture: Mixture, *, steps: int) -> list[Mark]:
    """Train the same model on the same examples in as few lines as it takes."""
    model, processor = model_and_processor("t_selector")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    loader = DataLoader(mixture.dataset, BATCH, shuffle=True, collate_fn=collator_of(mixture, model, processor))
    marks = []
    for _, batch in zip(range(steps + WARM_UP), loader, strict=False):
        loss = model(**{name: batch[name] for name in MODEL_INPUTS if name in batch}).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        marks.append((time.process_time(), int(batch["attention_mask"].sum())))
    return marks


def rates(rounds: Sequence[list[Mark]]) -> dict[str, float]:
    """Return samples and tokens per second of processor time, medians over the rounds."""
    counted = [(marks[-1][0] - marks[WARM_UP - 1][0], marks[WARM_UP:]) for marks in rounds]
    return {
        "samples_per_cpu_s": round(median(BATCH * len(marks) / spent for spent, marks in counted), 2),
        "tokens_per_cpu_s": round(median(sum(count for _, count in marks) / spent for spent, marks in counted), 1),
    }


def share_waited(trainer: Timed) -> float:
    """Return the share of wall-clock that a trainer waited for its loader, behind the first steps."""
    waits = trainer.waits[WARM_UP:]
    return round(sum(end - start for start, end in waits) / (waits[-1][1] - waits[0][0]), 3)


def loader_clips_per_cpu_s(mixture: Mixture) -> float:
    """Return the clips that a loader reads in a second of processor time."""
    model, processor = model_and_processor("t_selector")
    loader = DataLoader(mixture.dataset, BATCH, collate_fn=collator_of(mixture, model, processor))
    start = time.process_time()
    count = sum(len(batch["input_ids"]) for batch in loader)
    return round(count / (time.process_time() - start), 1)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8, help="Steps of a round that count.")
    parser.add_argument("--rounds", type=int, default=3, help="Rounds; the median counts.")
    parser.add_argument("--clips", type=int, default=60, help="Clips of the dataset.")
    parser.add_argument("--output", type=Path, help="JSON file to write.")
    args = parser.parse_args()
    marks: dict[str, list[list[Mark]]] = {"ours": [], "no_compression": [], "plain_loop": []}
    with tempfile.TemporaryDirectory() as folder:
        mixture = clips(Path(folder) / "clips", args.clips)
        for _ in range(args.rounds):
            marks["ours"].append(train(mixture, "t_selector", steps=args.steps).marks)
            marks["no_compression"].append(train(mixture, "none", steps=args.steps).marks)
            marks["plain_loop"].append(run_plain_loop(mixture, steps=args.steps))
        waited = share_waited(train(mixture, "t_selector", steps=args.steps, workers=1))
        loaded = loader_clips_per_cpu_s(mixture)
    speed = {name: rates(rounds) for name, rounds in marks.items()}
    own = speed["ours"]["samples_per_cpu_s"]
    record = {
        "hardware": hardware(),
        "threads": torch.get_num_threads(),
        "batch": BATCH,
        **speed,
        "ratio_to_no_compression": round(own / speed["no_compression"]["samples_per_cpu_s"], 2),
        "ratio_to_plain_loop": round(own / speed["plain_loop"]["samples_per_cpu_s"], 2),
        "share_waited_for_one_worker": waited,
        "loader_clips_per_cpu_s": loaded,
    }
    for name, value in record.items():
        print(f"{name:28} {value}")
    write_record(record, args.output)


if __name__ == "__main__":
    main()
