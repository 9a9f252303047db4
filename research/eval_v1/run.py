"""`eval_v1`: what a model does on 500 frozen synthetic clips, against the first box repeated and OpenCV's CSRT.

    python -m research.eval_v1.run                                  # all of it, with the model that the package ships
    python -m research.eval_v1.run --long 100 --csrt-long 100       # 64-frame videos of the first 100 clips only
    python -m research.eval_v1.run --clips 8 --long 2 --skip-csrt   # a trial: marked as partial

The clips and their targets stand in `eval_v1_scenes.py`, and are checked against `scenes.sha256` as they are drawn.
IoU is over the frames in which the target can be seen; a missing box counts 0. SOT starts from the true box of frame 1
and is measured from frame 2 on, as are both baselines; RSOT starts from words and is measured from frame 1 on. Where a
clip is tracked over 64 frames, its figures over 8 frames are those of the first window: the model is asked the same.
Success and accuracy at 0.5 are strict (IoU > 0.5), as in one-pass evaluation. The last line is JSON.
"""

import argparse
import datetime
import json
import multiprocessing
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from multiprocessing.pool import AsyncResult, Pool
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.bench import ROOT, hardware
from elysium.evaluation.opencv_trackers import make_opencv_tracker, opencv_boxes
from elysium.processing.atomic_files import atomic_path
from elysium.tracking.checkpoints import DEFAULT_MODEL
from research.eval_v1.metrics import AbsenceTally, GateTally, OverlapTally, ScoreTally, patch_coverage
from research.eval_v1.report import check_targets, print_report, save_score_plot, versions
from research.eval_v1.scenes import (
    LONG_FRAMES,
    NUM_CLIPS,
    SHORT_FRAMES,
    ClipFacts,
    EvalClip,
    FrozenClips,
    eval_clips,
)

if TYPE_CHECKING:
    from elysium.tracking.tracker import Tracker

TASKS = ("rec", "reg", "video_reg", "sot", "rsot", "gate", "csrt")
CLIPS_AT_ONCE = 32  # their 64 frames take 470 MB
RESULTS = ROOT / "research" / "results" / "eval_v1.json"
PARTIAL_RESULTS = Path("outputs") / "eval_v1_partial.json"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure.

    Args:
        clips: how many of the 500.
        long_clips: how many of them the model also tracks over 64 frames.
        csrt_long_clips: how many of those CSRT tracks over 64 frames.
        tasks: some of `TASKS`.
    """

    clips: int
    long_clips: int
    csrt_long_clips: int
    tasks: tuple[str, ...]

    @property
    def partial(self) -> bool:
        """Whether the figures are a trial and not those of eval_v1."""
        return self.clips < NUM_CLIPS or set(self.tasks) < set(TASKS)

    def frames_of(self, clip: EvalClip) -> int:
        """Frames of the clip that the model tracks over."""
        return LONG_FRAMES if clip.number < self.long_clips else SHORT_FRAMES

    def csrt_frames_of(self, clip: EvalClip) -> int:
        """Frames of the clip that CSRT tracks over."""
        return LONG_FRAMES if clip.number < self.csrt_long_clips else SHORT_FRAMES


class Evaluation:
    """Takes in clips, chunk by chunk, and adds up what the model and the baselines do on them.

    Args:
        tracker: the model.
        plan: what to measure.
        pool: processes for CSRT; None where it is left out.
    """

    def __init__(self, tracker: "Tracker", plan: Plan, pool: Pool | None) -> None:
        self.tracker, self.plan, self.pool = tracker, plan, pool
        self.facts = ClipFacts()
        self.overlap: dict[tuple[str, str], OverlapTally] = defaultdict(OverlapTally)  # by task and who
        self.absence: dict[str, AbsenceTally] = defaultdict(AbsenceTally)
        self.scores: dict[int, ScoreTally] = defaultdict(ScoreTally)  # by length
        self.exact: dict[str, list[bool]] = defaultdict(list)
        self.gate = GateTally()
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Adds the wall time of a block to ``seconds``."""
        start_s = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - start_s

    def add(self, clips: Sequence[EvalClip]) -> None:
        """Measures everything on some clips."""
        pending = self._start_csrt(clips)
        for task, measure in (
            ("rec", self._ground),
            ("reg", self._describe_pictures),
            ("video_reg", self._describe_videos),
            ("sot", self._track_by_box),
            ("rsot", self._track_by_words),
            ("gate", self._watch_gate),
        ):
            if task in self.plan.tasks:
                with self.timed(task):
                    measure(clips)
        for clip in clips:
            self.facts.add(clip)
            repeated = np.tile(clip.boxes_xyxy_px[:1], (LONG_FRAMES, 1))
            self._add_baseline("repeated", clip, repeated[: self.plan.frames_of(clip)])
        with self.timed("csrt_waiting"):
            for clip, boxes in zip(clips, pending, strict=False):
                self._add_baseline("csrt", clip, boxes.get())

    def _start_csrt(self, clips: Sequence[EvalClip]) -> list[AsyncResult]:
        if self.pool is None:
            return []
        arguments = [(clip.frames[: self.plan.csrt_frames_of(clip)], clip.first_box_xyxy_px) for clip in clips]
        return [self.pool.apply_async(opencv_boxes, ("csrt", *pair)) for pair in arguments]

    def _add_baseline(self, who: str, clip: EvalClip, boxes_xyxy_px: NDArray[np.float64]) -> None:
        for length in {SHORT_FRAMES, len(boxes_xyxy_px)}:
            tally = self.overlap[f"sot_{length}", who]
            tally.add(boxes_xyxy_px[:length], clip.boxes_xyxy_px[:length], clip.visible[:length], first=1)

    def _ground(self, clips: Sequence[EvalClip]) -> None:
        groundings = self.tracker.ground_many((clip.frames[0], clip.expression) for clip in clips)
        for clip, grounding in zip(clips, groundings, strict=True):
            box = np.array([grounding.box_xyxy_px or [np.nan] * 4], dtype=np.float64)
            self.overlap["rec", "model"].add(box, clip.boxes_xyxy_px[:1], clip.visible[:1])

    def _describe_pictures(self, clips: Sequence[EvalClip]) -> None:
        said = self.tracker.describe_many((clip.frames[0], clip.first_box_xyxy_px) for clip in clips)
        self.exact["reg"] += [words == clip.name for words, clip in zip(said, clips, strict=True)]

    def _describe_videos(self, clips: Sequence[EvalClip]) -> None:
        said = self.tracker.describe_many((clip.video(SHORT_FRAMES), clip.first_box_xyxy_px) for clip in clips)
        self.exact["video_reg"] += [words == clip.name for words, clip in zip(said, clips, strict=True)]

    def _track_by_box(self, clips: Sequence[EvalClip]) -> None:
        self._track("sot", clips, [clip.first_box_xyxy_px for clip in clips], first=1)

    def _track_by_words(self, clips: Sequence[EvalClip]) -> None:
        self._track("rsot", clips, [clip.expression for clip in clips], first=0)

    def _track(self, task: str, clips: Sequence[EvalClip], prompts: Sequence[Any], *, first: int) -> None:
        videos = (clip.video(self.plan.frames_of(clip)) for clip in clips)
        results = self.tracker.track_many(zip(videos, prompts, strict=True))
        for clip, result in zip(clips, results, strict=True):
            (track,) = result.tracks
            for length in {SHORT_FRAMES, len(track.valid)}:
                name, boxes, true = f"{task}_{length}", track.boxes_xyxy_px[:length], clip.boxes_xyxy_px[:length]
                visible = clip.visible[:length]
                self.overlap[name, "model"].add(boxes, true, visible, first=first)
                self.absence[name].add(track.reasons[:length], visible, first=first)
                self.scores[length].add(track.scores[:length], boxes, true, first=first)

    def _watch_gate(self, clips: Sequence[EvalClip]) -> None:
        import torch

        model = self.tracker.model
        for clip in clips:
            frames = [clip.frames[:SHORT_FRAMES]]
            pixels = self.tracker.processor.video_processor(videos=frames, return_tensors="pt")["pixel_values_videos"]
            with torch.inference_mode():
                kept = model.get_video_features(pixels.to(model.device, model.dtype)).selector_indices
            if kept is not None:  # compressors that merge tokens keep none
                grid = round(model.config.num_patches**0.5)
                self.gate.add(patch_coverage(clip.on_objects, grid), kept.cpu().numpy())

    def figures(self) -> dict[str, Any]:
        """All figures by task."""
        found: dict[str, Any] = {"data": self.facts.summary()}
        for (task, who), tally in sorted(self.overlap.items()):
            found.setdefault(task, {})[who] = tally.summary()
        for task, absence in self.absence.items():
            found[task]["absence"] = absence.summary()
        for task, right in self.exact.items():
            found[task] = {"exact": round(sum(right) / len(right), 4), "clips": len(right)}
        for length, scores in sorted(self.scores.items()):
            found[f"score_{length}"] = scores.summary()
        if "gate" in self.plan.tasks:
            found["gate"] = self.gate.summary()
        for length in (SHORT_FRAMES, LONG_FRAMES):
            self._compare(found.get(f"sot_{length}", {}), length)
        return found

    def _compare(self, sot: dict[str, Any], length: int) -> None:
        """Adds how far the model stands above the baselines, each on the same frames."""
        model = sot.get("model")
        if not model:
            return
        if sot.get("repeated"):
            sot["above_repeated"] = round(model["mean_iou"] - sot["repeated"]["mean_iou"], 4)
        if sot.get("csrt"):
            shared = self.overlap[f"sot_{length}", "model"].summary(sot["csrt"]["clips"])
            if shared != model:
                sot["model_on_csrt_clips"] = shared
            if shared:
                sot["above_csrt"] = round(shared["mean_iou"] - sot["csrt"]["mean_iou"], 4)


def evaluate(tracker: "Tracker", plan: Plan, pool: Pool | None) -> dict[str, Any]:
    """Draws the clips, checks that they are the frozen ones, and measures everything on them."""
    evaluation, frozen = Evaluation(tracker, plan, pool), FrozenClips()
    clips = eval_clips(plan.clips)
    bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    started_s = time.perf_counter()
    with Progress(*bars, console=Console(stderr=True)) as progress:
        bar = progress.add_task("eval_v1, clips", total=plan.clips)
        while True:
            with evaluation.timed("drawing_clips"):
                chunk = list(islice(clips, CLIPS_AT_ONCE))
            if not chunk:
                break
            for clip in chunk:
                frozen.check(clip)
            evaluation.add(chunk)
            progress.update(bar, advance=len(chunk))
            del chunk, clip  # their pictures go before the next ones are drawn
            if not progress.console.is_terminal:
                done, elapsed_s = progress.tasks[0].completed, time.perf_counter() - started_s
                progress.console.print(f"eval_v1: {done:.0f}/{plan.clips} clips in {elapsed_s:.0f} s", highlight=False)
    seconds = {what: round(value, 1) for what, value in evaluation.seconds.items()}
    seconds["all"] = round(time.perf_counter() - started_s, 1)
    return {"sha256": frozen.sha256, **evaluation.figures(), "seconds": seconds}


def device_name(tracker: "Tracker") -> str:
    """The processor's name, and the accelerator's where the model is on one."""
    import torch

    device = tracker.model.device
    extra = f" + {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return f"{hardware()} ({multiprocessing.cpu_count()} cores){extra}"


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Checked arguments; counts that were left out follow the others."""
    parser = argparse.ArgumentParser(description="Measures a model on the 500 frozen synthetic clips of eval_v1.")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="folder, shipped checkpoint or Hub id")
    parser.add_argument("--clips", type=int, default=NUM_CLIPS, metavar="N", help="only the first N clips: partial")
    parser.add_argument("--long", type=int, metavar="N", help="clips tracked over 64 frames too (default: all)")
    parser.add_argument("--csrt-long", type=int, metavar="N", help="of those, clips for CSRT (default: all of those)")
    parser.add_argument("--only", choices=TASKS, nargs="+", default=TASKS, help="measure only these: partial")
    parser.add_argument("--skip-csrt", action="store_true", help="leave out the CSRT baseline")
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="windows that the model answers at once"
    )
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes for CSRT")
    parser.add_argument("--device", help="such as cpu or cuda (default: the first GPU where there is one)")
    parser.add_argument(
        "--output", type=Path, help=f"results (default: {RESULTS.name}, of partial runs {PARTIAL_RESULTS})"
    )
    arguments = parser.parse_args(argv)
    arguments.long = arguments.clips if arguments.long is None else arguments.long
    arguments.csrt_long = arguments.long if arguments.csrt_long is None else arguments.csrt_long
    if not 1 <= arguments.clips <= NUM_CLIPS:
        parser.error(f"--clips must be 1..{NUM_CLIPS}, got {arguments.clips}")
    if not 0 <= arguments.csrt_long <= arguments.long <= arguments.clips:
        parser.error(
            "there must be 0 <= --csrt-long <= --long <= --clips, got "
            f"{arguments.csrt_long}, {arguments.long}, {arguments.clips}; lower --long or --csrt-long"
        )
    if arguments.jobs < 1:
        parser.error(f"--jobs must be 1 or more, got {arguments.jobs}")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Measures, prints tables and a line of JSON, and writes results and plot."""
    arguments = parse_arguments(argv)
    from elysium.tracking.tracker import Tracker  # slow to import, and CSRT's processes need no model

    skipped = {"csrt"} if arguments.skip_csrt else set()
    tasks = tuple(task for task in TASKS if task in set(arguments.only) - skipped)
    with_csrt = "csrt" in tasks
    csrt_long = arguments.csrt_long if with_csrt else 0
    plan = Plan(clips=arguments.clips, long_clips=arguments.long, csrt_long_clips=csrt_long, tasks=tasks)
    output = arguments.output or (PARTIAL_RESULTS if plan.partial else RESULTS)
    tracker = Tracker.from_pretrained(arguments.model, device=arguments.device, batch_size=arguments.batch_size)
    if with_csrt:
        make_opencv_tracker("csrt")  # fails now rather than after the first clips
    cv2.setNumThreads(1)
    processes = multiprocessing.get_context("spawn").Pool(arguments.jobs) if with_csrt else nullcontext()
    with processes as pool:
        figures = evaluate(tracker, plan, pool)
    results = {
        "benchmark": "eval_v1",
        "partial": plan.partial,
        "model": str(arguments.model),
        "zoom": tracker.processor.tracking.get("zoom", 0),
        "trained_on": tracker.trained_on,
        "hardware": device_name(tracker),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": versions(),
        "clips": plan.clips,
        "long_clips": plan.long_clips,
        "csrt_long_clips": plan.csrt_long_clips,
        "tasks": list(tasks),
        "batch_size": arguments.batch_size,
        **figures,
    }
    results["targets"] = check_targets(results)
    with atomic_path(output) as part:
        part.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    save_score_plot(results, output.with_suffix(".png"))
    console = Console(width=None if sys.stdout.isatty() else 110)
    print_report(results, console)
    console.print(f"written: {output}", highlight=False)
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
