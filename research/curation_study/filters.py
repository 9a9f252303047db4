"""How well the filters of `elysium curate` tell good pairs of phrase and trajectory from bad ones, by exact truth.

    python -m research.curation_study.filters --output research/results/curation.json

500 generated videos with captions, and an oracle detector and CSRT with faults put in (`curation_faults.py` says which
and how often), go through the real pipeline with the paper's thresholds. A pair is bad where
its words are of nothing in the video, or where the trajectory's mean IoU with the object that they name is below 0.5,
over the frames in which it can be seen. So a fault need not make a pair bad, and a pair without one can
be: CSRT loses objects by itself. A filter finds bad pairs: its precision is the share of bad ones in what it drops,
its recall the share of the bad ones that it drops.

Noun phrases are measured on the generated captions, and on the hand-labelled ones of tests/fixtures/captions. The
figures of detection are those of an oracle with made-up noise, and say nothing of Grounding DINO.

The last line is JSON.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.bench import ROOT, hardware, markdown_table, write_record
from elysium.curation.agree_step import agreement
from elysium.curation.curation_settings import CurationSettings, load_settings
from elysium.curation.drift_step import chi_square_gate, drift
from elysium.curation.phrase_step import PhraseFinder
from elysium.curation.pipeline import curate
from elysium.curation.track_step import load_tracker
from elysium.curation.video_records import key_frames
from elysium.evaluation.opencv_trackers import OPENCV_TRACKERS
from elysium.processing.atomic_files import atomic_path
from elysium.processing.overlap import paired_iou
from elysium.readers.elysium_track import elysium_track_samples
from elysium.training.synthetic.dataset import ClipShape
from research.curation_study.faults import Faults, FaultyWorld, TrueVideo, write_videos
from research.scenes.sprite_bank import SpriteBank
from research.scenes.sprite_world import SpriteWorld
from research.scenes.world import StudyWorld

LABELLED = ROOT / "tests" / "fixtures" / "captions" / "captions.yaml"
# Of the measurement; the noise model of the drift test was chosen on another.
SEED = 900_103
MIN_IOU = 0.5
STEPS = ("detect", "track", "drift", "agree")
# Everything that has words goes to the tracker, so that there is a trajectory to judge by.
LOOSE = {"min_detection_score": 0.0, "min_track_score": 0.0, "min_agreement_iou": 0.0, "drift_false_alarm": 1e-12}
Key = tuple[str, str]
Figures = dict[str, Any]


@dataclass
class Outcome:
    """What a run left.

    Args:
        ious: mean IoU with the truth of each row.
        dropped: step that dropped each pair.
        seconds: that it took.
    """

    ious: dict[Key, float]
    dropped: dict[Key, str]
    seconds: float


@dataclass
class Bench:
    """Videos with truth, and the faulty world that looks at them.

    Args:
        folder: of the videos and what is made of them.
        videos: what is true, by name.
        world: detector and tracker.
        ious: mean IoU with the truth of every pair's trajectory; 0 for words of nothing.
    """

    folder: Path
    videos: dict[str, TrueVideo]
    world: FaultyWorld
    ious: dict[Key, float] = field(default_factory=dict)

    @property
    def bad(self) -> set[Key]:
        """Pairs that should be no rows."""
        return {key for key, iou in self.ious.items() if iou < MIN_IOU}

    def run(self, name: str, changes: Mapping[str, Any]) -> Outcome:
        """The pipeline, from the table of captions to rows that training's reader reads."""
        start_s = time.perf_counter()
        parts = {"detector": lambda: self.world, "tracker": lambda: self.world}
        out = self.folder / name
        curate(self.folder / "videos", out, load_settings("paper", {**changes, **parts}))
        seconds = time.perf_counter() - start_s
        lines = [json.loads(line) for line in (out / "rows.jsonl").read_text("utf-8").splitlines()]
        ious = {}
        if lines:
            for line, row in zip(lines, list_rows(out / "rows.jsonl"), strict=True):
                key = (line["vid"], line["metadata"]["name"].lower())
                ious[key] = self.mean_iou(key, row)
        drops = (out / "report" / "exclusions.jsonl").read_text("utf-8").splitlines()
        dropped = {(drop["video_id"], str(drop["phrase"]).lower()): drop["step"] for drop in map(json.loads, drops)}
        return Outcome(ious, {key: step for key, step in dropped.items() if step in STEPS}, seconds)

    def mean_iou(self, key: Key, boxes_xyxy_norm: np.ndarray) -> float:
        """Of boxes with the object that a pair's words name, over the frames in which it can be seen."""
        video = self.videos[key[0]]
        if key[1] not in video.objects:
            return 0.0
        truth = video.boxes_xyxy_norm[:, video.objects[key[1]]]
        return float(paired_iou(boxes_xyxy_norm, truth)[np.isfinite(truth[:, 0])].mean())

    def judge(self) -> None:
        """Finds out which pairs are bad, once all have been tracked."""
        self.ious = {
            key: self.mean_iou(key, trajectory.boxes_xyxy_norm) for key, trajectory in self.world.trajectories.items()
        }


def list_rows(path: Path) -> list[np.ndarray]:
    """The boxes of rows as training reads them."""
    rows = elysium_track_samples("curated", path)
    found = [rows[index].boxes_xyxy_norm for index in range(len(rows))]
    return [boxes for boxes in found if boxes is not None]


def as_filter(dropped: set[Key], seen: set[Key], bad: set[Key]) -> Figures:
    """Precision and recall of what was dropped of the pairs that a filter saw.

    >>> as_filter({("a", "x"), ("b", "x")}, {("a", "x"), ("b", "x"), ("c", "x")}, {("a", "x"), ("c", "x")})
    {'seen': 3, 'bad': 2, 'dropped': 2, 'precision': 0.5, 'recall': 0.5, 'good_dropped': 1.0}
    """
    hit, wrong, good = len(dropped & bad), len(dropped - bad), len(seen - bad)
    return {
        "seen": len(seen),
        "bad": len(seen & bad),
        "dropped": len(dropped),
        "precision": share(hit, len(dropped)),
        "recall": share(hit, len(seen & bad)),
        "good_dropped": share(wrong, good),
    }


def share(part: int, whole: int) -> float | None:
    """A part of a whole, None of nothing."""
    return round(part / whole, 4) if whole else None


def filters_in_order(outcome: Outcome, bad: set[Key]) -> dict[str, Figures]:
    """Each filter on the pairs that those before it have left, and all of them."""
    seen = set(outcome.dropped) | set(outcome.ious)
    everything, figures = set(seen), {}
    for step in STEPS:
        dropped = {key for key, other in outcome.dropped.items() if other == step}
        figures[step] = as_filter(dropped, seen, bad)
        seen -= dropped
    return figures | {"all": as_filter(set(outcome.dropped), everything, bad)}


def filters_alone(bench: Bench, settings: CurationSettings) -> dict[str, Figures]:
    """Each filter on all pairs."""
    dropped: dict[str, set[Key]] = {step: set() for step in STEPS}
    gate = chi_square_gate(settings.drift_false_alarm)
    for key, trajectory in bench.world.trajectories.items():
        frames = key_frames(len(trajectory.frame_indices))
        found = [bench.world.pairs[key].detect(frames[name]) for name in ("first", "middle", "last")]
        fails = {
            "detect": min(one.score for one in found) <= settings.min_detection_score,
            "track": trajectory.scores.mean() <= settings.min_track_score,
            "drift": drift(trajectory, gate=gate).first_bad_frame is not None,
            "agree": min(agreement(trajectory, found[1:]).values()) < settings.min_agreement_iou,
        }
        for step, failed in fails.items():
            if failed:
                dropped[step].add(key)
    return {step: as_filter(dropped[step], set(bench.ious), bench.bad) for step in STEPS}


def of_whole(ious: Mapping[Key, float], bench: Bench) -> Figures:
    """What a run's rows are worth: share of good ones, of the good pairs that are among them, and mean IoU."""
    kept, bad = set(ious), bench.bad
    values = np.array(list(ious.values()))
    return {
        "rows": len(kept),
        "precision": share(len(kept - bad), len(kept)),
        "recall": share(len(kept - bad), len(set(bench.ious) - bad)),
        "mean_iou": round(float(values.mean()), 4) if len(kept) else None,
        "rows_under_0.3": share(int((values < 0.3).sum()), len(kept)),
    }


def by_fault(bench: Bench, outcome: Outcome) -> dict[str, Figures]:
    """For each fault how many pairs have it, how many of these are bad, and what became of them."""
    figures: dict[str, Figures] = {}
    for fault in (*asdict(Faults()), "absent", "none"):
        keys = {key for key, pair in bench.world.pairs.items() if pair.fault == fault and key in bench.ious}
        steps = Counter(outcome.dropped[key] for key in keys if key in outcome.dropped)
        figures[fault] = {
            "pairs": len(keys),
            "bad": len(keys & bench.bad),
            **{step: steps[step] for step in STEPS},
            "kept": len(keys & set(outcome.ious)),
            "bad_kept": len(keys & bench.bad & set(outcome.ious)),
        }
    return figures


def labelled_captions(finder: PhraseFinder) -> dict[str, Figures]:
    """Precision and recall of phrases on the hand-labelled captions; whole captions refused with the right reason."""
    figures = {}
    for part, entries in yaml.safe_load(LABELLED.read_text("utf-8")).items():
        found = list(finder.find_all(entry["caption"] for entry in entries))
        kept = [{phrase.text.lower() for phrase in one.phrases} for one in found]
        wanted = [set(entry.get("keep", [])) for entry in entries]
        refused = [
            one.dropped[0][1] == entry["reason"]
            for one, entry in zip(found, entries, strict=True)
            if "reason" in entry
        ]
        right = sum(len(one & other) for one, other in zip(kept, wanted, strict=True))
        figures[part] = {
            "captions": len(entries),
            "phrases": sum(map(len, wanted)),
            "precision": share(right, sum(map(len, kept))),
            "recall": share(right, sum(map(len, wanted))),
            "refused_rightly": f"{sum(refused)} of {len(refused)}",
        }
    return figures


def generated_captions(finder: PhraseFinder, videos: Mapping[str, TrueVideo]) -> Figures:
    """Noun phrases as a filter of chunks: which of those that name no single thing it drops, and which others."""
    bad_dropped = bad_kept = good_kept = good = 0
    for video in videos.values():
        found = finder.find(video.caption)
        things = set(video.objects) | video.absent
        kept = {phrase.text.lower() for phrase in found.phrases}
        good, good_kept, bad_kept = good + len(things), good_kept + len(kept & things), bad_kept + len(kept - things)
        bad_dropped += sum(not any(thing in text.lower() for thing in things) for text, _ in found.dropped)
    good_lost = good - good_kept
    return {
        "captions": len(videos),
        "things": good,
        "dropped": bad_dropped + good_lost,
        "precision": share(bad_dropped, bad_dropped + good_lost),
        "recall": share(bad_dropped, bad_dropped + bad_kept),
        "things_kept": share(good_kept, good),
    }


def measure(folder: Path, world: StudyWorld, count: int, shape: ClipShape, *, tracker: str, seed: int) -> Figures:
    """All figures of that many videos."""
    videos = write_videos(folder / "videos", world, count, shape)
    bench = Bench(folder, videos, FaultyWorld(videos, load_tracker(tracker), Faults(), seed))
    loose = bench.run("loose", LOOSE)
    bench.judge()
    outcome = bench.run("paper", {})
    finder = PhraseFinder()
    paper = load_settings()
    return {
        "nouns": {"generated": generated_captions(finder, videos), **labelled_captions(finder)},
        "pairs": len(bench.ious),
        "bad_pairs": len(bench.bad),
        "filters_in_order": filters_in_order(outcome, bench.bad),
        "filters_alone": filters_alone(bench, paper),
        "by_fault": by_fault(bench, outcome),
        "rows": {"no filter": of_whole(bench.ious, bench), "paper": of_whole(outcome.ious, bench)},
        "seconds": {"all pairs tracked": round(loose.seconds, 1), "paper": round(outcome.seconds, 1)},
    }


FILTER_COLUMNS = ("seen", "bad", "dropped", "precision", "recall", "good_dropped")
ROW_COLUMNS = ("rows", "precision", "recall", "mean_iou", "rows_under_0.3")
FAULT_COLUMNS = ("pairs", "bad", *STEPS, "kept", "bad_kept")
CAPTION_COLUMNS = ("captions", "phrases", "precision", "recall", "refused_rightly")


def table(first: str, columns: Sequence[str], rows: Mapping[str, Figures]) -> str:
    """Return a table with a line for each of the rows."""
    lines = [[name, *(cell(row[column]) for column in columns)] for name, row in rows.items()]
    return markdown_table([first, *(column.replace("_", " ") for column in columns)], lines)


def cell(value: Any) -> str:
    """A figure as a table shows it."""
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def markdown(record: Figures) -> str:
    """The tables of a record."""
    nouns = record["nouns"]
    generated = nouns["generated"]
    width, height = record["size"]
    return "\n\n".join(
        [
            "# Curation against truth",
            f"{record['videos']} generated videos of {record['frames']} frames, {width}x{height}: {record['world']}. "
            f"{record['pairs']} pairs of a phrase and a trajectory ({record['tracker']}, faults put in), "
            f"{record['bad_pairs']} of them bad. {record['hardware']}.",
            "Noun phrases, on captions labelled by hand:",
            table("captions", CAPTION_COLUMNS, {part: nouns[part] for part in ("tuned", "held_out")}),
            f"On the generated captions, as a filter of chunks: precision {cell(generated['precision'])}, recall "
            f"{cell(generated['recall'])}; {cell(generated['things_kept'])} of the {generated['things']} things named "
            "are kept.",
            "Filters in the pipeline's order, with the paper's thresholds:",
            table("filter", FILTER_COLUMNS, record["filters_in_order"]),
            "Each filter on all pairs:",
            table("filter", FILTER_COLUMNS, record["filters_alone"]),
            "What became of the faults, by the step that dropped their pairs:",
            table("fault", FAULT_COLUMNS, record["by_fault"]),
            "Rows against truth:",
            table("recipe", ROW_COLUMNS, record["rows"]),
        ]
    )


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Checked arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=500)
    parser.add_argument("--frames", type=int, default=24, help="of each video")
    parser.add_argument("--size", type=int, nargs=2, default=(240, 180), metavar=("W", "H"), help="of a frame")
    parser.add_argument("--seed", type=int, default=SEED, help="of the world and the faults")
    parser.add_argument("--tracker", default="csrt", choices=sorted(OPENCV_TRACKERS))
    parser.add_argument("--bank", type=Path, help="sprites of fetch_sprites, in place of coloured shapes")
    parser.add_argument("--folder", type=Path, help="keeps videos and rows here; new or empty")
    parser.add_argument("--output", type=Path, help="JSON to write, and beside it the tables as .md")
    arguments = parser.parse_args(argv)
    for name, least in (("videos", 1), ("frames", 8)):
        if getattr(arguments, name) < least:
            parser.error(f"--{name} must be {least} or more, got {getattr(arguments, name)}")
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints the tables and writes the figures."""
    arguments = parse_arguments(argv)
    width, height = arguments.size
    shape = ClipShape(num_frames=arguments.frames, width=width, height=height)
    if arguments.bank is None:
        world = StudyWorld(arguments.seed)
    else:
        world = SpriteWorld(SpriteBank.load(arguments.bank), arguments.seed, part="seen_classes")
    with tempfile.TemporaryDirectory() as place:
        folder = arguments.folder or Path(place)
        figures = measure(folder, world, arguments.videos, shape, tracker=arguments.tracker, seed=arguments.seed)
    record: Figures = {
        "benchmark": "curation",
        "videos": arguments.videos,
        "frames": arguments.frames,
        "size": [width, height],
        "seed": arguments.seed,
        "world": "coloured shapes" if arguments.bank is None else "sprites",
        "tracker": arguments.tracker,
        "faults": asdict(Faults()),
        **figures,
        "hardware": hardware(),
    }
    tables = markdown(record)
    print(tables)
    if arguments.output is not None:
        with atomic_path(arguments.output.with_suffix(".md")) as temporary:
            temporary.write_text(tables + "\n", "utf-8")
    write_record(record, arguments.output)


if __name__ == "__main__":
    main()
