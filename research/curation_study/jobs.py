"""`elysium curate` as a job: killed and run again, shared by two tasks, and what ten million videos would take.

    python -m research.curation_study.jobs --output research/results/curation_runs.json

Generated videos go through the whole pipeline with CSRT and a detector that knows the true boxes:

- once without a stop, once by two tasks at a time: the outputs must have the same bytes;
- once killed with -9 (the whole group of processes) at random moments of the run's length, each time run again: the
  output must again have the same bytes, so that nothing is lost or there twice.

Then real clips of this repository, with captions and hand-made boxes in the detector's place, are timed step by step.
From that, and from counted operations of Grounding DINO, follow the hours and bytes of ten million videos; what is
assumed stands in the table. The last line is JSON.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks.bench import ROOT, hardware, markdown_table, write_record
from elysium.curation.chunk_store import ChunkStore
from elysium.curation.curation_settings import load_settings
from elysium.curation.detect_step import Query
from elysium.curation.phrase_step import PhraseFinder
from elysium.curation.pipeline import curate
from elysium.curation.video_records import Detection
from elysium.curation.write_step import FORMATS
from elysium.processing.video_io import VideoReader
from elysium.training.synthetic.dataset import ClipShape, write_dataset

REAL_CLIPS = ROOT / "tests" / "fixtures" / "real_clips"
# The clips of the recorded run; those added to the folder later are left out, so that its figures can be repeated.
STUDY_CLIPS = ("cup", "cockatoo", "woman_in_red", "woman_on_grass", "box", "rabbit")
MEDIA = ROOT / "tests" / "fixtures" / "media"
CAPTIONS = ROOT / "tests" / "fixtures" / "captions" / "captions.yaml"
VIDEOS, TRUTH = "videos", "truth.json"
NUM_VIDEOS = 10_000_000
# What is assumed and not measured: frames of a video, the paper's yield of 1.27M pairs from 10M videos
# (arXiv 2403.16558), and how much of an A100's bfloat16 peak a detector gets.
FRAMES, YIELD, GPU_FLOPS, GPU_SHARE = 300, 0.127, 312e12, 0.3
Figures = dict[str, Any]


class TrueBoxes:
    """A detector that gives the true box of a phrase, with a score of 0.9, and nothing for other words.

    Args:
        path: JSON, ``{"video/words": [box or null, …]}``, boxes in 0..1 for each frame.
    """

    def __init__(self, path: str) -> None:
        self._boxes: dict[str, list[Any]] = json.loads(Path(path).read_text("utf-8"))

    def detect(self, queries: Sequence[Query]) -> list[list[Detection]]:
        """At most one box each."""
        found: list[list[Detection]] = []
        for query in queries:
            boxes = self._boxes.get(f"{query.video_id}/{query.text}", [])
            box = boxes[query.frame_idx] if query.frame_idx < len(boxes) else None
            found.append([] if box is None else [Detection(query.frame_idx, tuple(box), 0.9)])
        return found


def write_generated(folder: Path, count: int, seed: int) -> None:
    """Generated videos with captions, and their truth; every tenth video is cut short, and none says what it is."""
    world = folder / "world"
    write_dataset(world, count=count, seed=seed, shape=ClipShape(num_frames=24, width=240, height=180))
    names: dict[str, list[str]] = {}
    truth: dict[str, list[Any]] = {}
    for line in (world / "rows.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        names.setdefault(row["vid"], []).append(row["metadata"]["name"])
        truth[f"{row['vid']}/{row['metadata']['name']}"] = row["box"]
    (folder / VIDEOS).mkdir()
    with (folder / VIDEOS / "captions.jsonl").open("w", encoding="utf-8") as table:
        for number, (vid, phrases) in enumerate(names.items()):
            content = (world / "videos" / f"{vid}.mp4").read_bytes()
            (folder / VIDEOS / f"{vid}.mp4").write_bytes(content[: len(content) // 3] if number % 10 == 9 else content)
            caption = "A " + " and a ".join(dict.fromkeys(phrases)) + " in slow motion at sunset."
            table.write(json.dumps({"id": vid, "video": f"{vid}.mp4", "caption": caption}) + "\n")
    (folder / TRUTH).write_text(json.dumps(truth), "utf-8")


def write_real(folder: Path) -> None:
    """The clips of this repository with captions that name their objects, and the hand-made boxes of six of them; of
    the other two, nothing is known, so that their phrases are dropped."""
    (folder / VIDEOS).mkdir(parents=True)
    truth: dict[str, list[Any]] = {}
    lines = [
        {"id": "birds", "video": str(MEDIA / "cockatoo.mp4"), "caption": "A white cockatoo sits on a branch."},
        {"id": "square", "video": str(MEDIA / "pedestrians.mp4"), "caption": "A man crosses the square with others."},
    ]
    for clip in json.loads((REAL_CLIPS / "index.json").read_text("utf-8"))["clips"]:
        if clip["name"] not in STUDY_CLIPS:
            continue
        words, size = clip["words"].removeprefix("the ").split(" in ")[0], clip["size"] * 2
        video = (REAL_CLIPS / clip["video"]).resolve()
        caption = f"A close-up view of the {words} on a sunny day."
        lines.append({"id": clip["name"], "video": str(video), "caption": caption})
        boxes = json.loads((REAL_CLIPS / clip["boxes"]).read_text("utf-8"))
        truth[f"{clip['name']}/{words}"] = [
            None if box is None else [edge / side for edge, side in zip(box, size, strict=True)] for box in boxes
        ]
    (folder / VIDEOS / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    (folder / TRUTH).write_text(json.dumps(truth), "utf-8")


def run(folder: str, out: str, tasks: int, **changes: Any) -> Figures:
    """A run of the pipeline over what one of the above wrote."""
    parts = {"detector": partial(TrueBoxes, str(Path(folder) / TRUTH)), "chunk_videos": 2, **changes}
    summary = curate(Path(folder) / VIDEOS, out, load_settings("paper", parts), tasks=tasks, workers=tasks)
    assert summary is not None
    return summary


def start(folder: Path, out: Path, tasks: int) -> "subprocess.Popen[bytes]":
    """The same in a process of its own, the first of a new group."""
    code = f"from research.curation_study.jobs import run; run({str(folder)!r}, {str(out)!r}, {tasks})"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True, **quiet)  # type: ignore[call-overload]


def timed(folder: Path, out: Path, tasks: int) -> float:
    """Seconds of a run that nothing stops.

    Raises:
        RuntimeError: it fails.
    """
    start_s = time.perf_counter()
    if start(folder, out, tasks).wait():
        raise RuntimeError(f"the run into {out} must succeed, got an error; see {out}/logs")
    return time.perf_counter() - start_s


def content(out: Path) -> dict[str, str]:
    """Digests of all files of an output but its logs."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.relative_to(out).parts[0] != "logs"]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def kill_again_and_again(folder: Path, kills: int, length_s: float, seed: int) -> Figures:
    """Starts a run, kills it at a moment drawn from its length, starts it again, and so on, until that many kills have
    hit a run; where one ends before its kill, the next begins in a new output.

    Returns:
        How many chunks were written after each kill, how many outputs there are, and whether all have the bytes of
        the run that was not killed.
    """
    draw = random.Random(seed)
    chunks: list[int] = []
    expected, same, outputs = content(folder / "one"), True, 0
    while len(chunks) < kills:
        out = folder / f"killed-{outputs}"
        outputs += 1
        while len(chunks) < kills:
            process = start(folder, out, 2)
            try:
                process.wait(draw.uniform(0, length_s))
                break
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                chunks.append(len(ChunkStore(str(out)).done()))
        timed(folder, out, 2)  # ends what is left, or finds that nothing is
        same = same and content(out) == expected
    return {"kills": len(chunks), "chunks_after_each": chunks, "outputs": outputs, "same_bytes": same}


def step_seconds(out: Path, tasks: int) -> dict[str, float]:
    """Seconds that each step took, by datatrove's own statistics."""
    stats = json.loads((out / "logs" / f"{tasks}-tasks" / "stats.json").read_text("utf-8"))
    totals = {step["name"].split()[-1]: step["time_stats"] for step in stats}
    # A step that was timed once, or never, has a number in the place of statistics.
    return {name: round(spent["total"] if isinstance(spent, dict) else spent, 3) for name, spent in totals.items()}


def real_costs(folder: Path) -> Figures:
    """What the real clips take by step, and their rows by bytes in each format."""
    write_real(folder)
    figures: Figures = {"bytes_a_frame": {}}
    for form in FORMATS:
        out = folder / form
        summary = run(str(folder), str(out), 1, format=form, chunk_videos=100, min_agreement_iou=0.0)
        files = [path for path in (out / "chunks").rglob("*") if path.suffix in (".jpg", ".parquet", ".tar")]
        frames = sum(summary["statistics"]["frames"].values())
        figures["bytes_a_frame"][form] = round(sum(path.stat().st_size for path in files) / frames)
        figures |= {"steps": summary["steps"], "seconds": step_seconds(out, 1), "frames_of_rows": frames}
    figures["frames_decoded"] = decoded_frames(folder / VIDEOS / "captions.jsonl")
    return figures


def decoded_frames(table: Path) -> int:
    """Frames of the videos of a table, as far as a run decodes them."""
    most = load_settings().max_frames
    videos = [json.loads(line)["video"] for line in table.read_text("utf-8").splitlines()]
    return sum(min(most, VideoReader(video).count()) for video in videos)


def caption_costs() -> Figures:
    """Seconds for a caption, and phrases of it, on the hand-labelled captions."""
    captions = [one["caption"] for part in yaml.safe_load(CAPTIONS.read_text("utf-8")).values() for one in part]
    finder = PhraseFinder()
    finder.find(captions[0])  # loads the model
    start_s = time.process_time()
    found = [finder.find(caption) for caption in captions]
    seconds = (time.process_time() - start_s) / len(captions)
    phrases = sum(len(one.phrases) for one in found) / len(captions)
    return {"captions": len(captions), "seconds_a_caption": round(seconds, 5), "phrases_a_caption": round(phrases, 3)}


def detector_flops() -> float:
    """Floating-point operations of Grounding DINO base (Swin-B) on one picture of 800x1333 with one short phrase,
    counted in a pass with random weights; those of its deformable sampling are not among them."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection, SwinConfig

    backbone = SwinConfig(
        image_size=384,
        embed_dim=128,
        depths=[2, 2, 18, 2],
        num_heads=[4, 8, 16, 32],
        window_size=12,
        out_features=["stage2", "stage3", "stage4"],
    )
    model = GroundingDinoForObjectDetection(GroundingDinoConfig(backbone_config=backbone)).eval()
    words = {"input_ids": torch.tensor([[101, 2417, 2482, 1012, 102]])}  # [CLS] red car . [SEP]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(pixel_values=torch.zeros(1, 3, 800, 1333), **words)
    return float(counter.get_total_flops())


def extrapolate(captions: Figures, real: Figures, flops: float) -> dict[str, Figures]:
    """Hours and bytes of ten million videos; what is tracked lies between the paper's yield and all phrases."""
    seconds, tracked = real["seconds"], next(one for one in real["steps"] if one["step"] == "track")["in"]
    decode_s = seconds["decode"] / real["frames_decoded"] * FRAMES
    frames_tracked = real["frames_of_rows"] * tracked / max(1, real["steps"][-1]["out"])
    track_s = seconds["track"] / frames_tracked * FRAMES
    rows_frames = FRAMES * YIELD * NUM_VIDEOS
    looks = 3 * captions["phrases_a_caption"]
    gpu_s = looks * flops / (GPU_FLOPS * GPU_SHARE)

    def hours(seconds_a_video: float) -> int:
        return round(seconds_a_video * NUM_VIDEOS / 3600)

    return {
        "noun phrases": {"core_hours": hours(captions["seconds_a_caption"])},
        "frames": {"core_hours": hours(decode_s)},
        "detection": {"gpu_hours": hours(gpu_s), "pictures": round(looks * NUM_VIDEOS)},
        "trajectories, at the paper's yield": {"core_hours": hours(track_s * YIELD)},
        "trajectories, of every phrase": {"core_hours": hours(track_s * captions["phrases_a_caption"])},
    } | {
        f"rows as {form}, at the paper's yield": {"terabytes": round(size * rows_frames / 1e12, 1)}
        for form, size in real["bytes_a_frame"].items()
    }


def measure_runs(folder: Path, *, videos: int, kills: int, seed: int) -> Figures:
    """One task against two, and a run that is killed again and again."""
    write_generated(folder, videos, seed)
    one_s = timed(folder, folder / "one", 1)
    two_s = timed(folder, folder / "two", 2)
    rows = (folder / "one" / FORMATS["jsonl"]).read_text("utf-8").splitlines()
    return {
        "videos": sum(1 for _ in (folder / VIDEOS / "captions.jsonl").open(encoding="utf-8")),
        "rows": len(rows),
        "chunks": len(ChunkStore(str(folder / "one")).done()),
        "files": len(content(folder / "one")),
        "one_task_s": round(one_s, 1),
        "two_tasks_s": round(two_s, 1),
        "two_tasks_same_bytes": content(folder / "two") == content(folder / "one"),
        "killed": kill_again_and_again(folder, kills, two_s, seed),
        "seconds": step_seconds(folder / "one", 1),
    }


def table(rows: Mapping[str, Figures]) -> str:
    """Return a table with a line for each part of the work."""
    units = ("core_hours", "gpu_hours", "terabytes")
    lines = [[name, *(f"{row[unit]:,}" if unit in row else "" for unit in units)] for name, row in rows.items()]
    return markdown_table([f"{NUM_VIDEOS:,} videos", "core hours", "GPU hours", "terabytes"], lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints the table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=24, help="generated ones")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=7, help="of the videos and the moments of the kills")
    parser.add_argument("--output", type=Path, help="JSON to write")
    asked = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        runs = measure_runs(Path(place) / "generated", videos=asked.videos, kills=asked.kills, seed=asked.seed)
        real = real_costs(Path(place) / "real")
    captions, flops = caption_costs(), detector_flops()
    whole = extrapolate(captions, real, flops)
    record: Figures = {
        "benchmark": "curation_runs",
        "runs": runs,
        "real_clips": real,
        "captions": captions,
        "detector_gflops_a_picture": round(flops / 1e9),
        "assumed": {"frames": FRAMES, "yield": YIELD, "gpu_flops": GPU_FLOPS, "gpu_share": GPU_SHARE},
        "ten_million": whole,
        "hardware": hardware(),
    }
    print(table(whole))
    write_record(record, asked.output)


if __name__ == "__main__":
    main()
