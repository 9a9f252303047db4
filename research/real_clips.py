"""Measure trackers on the real clips: each figure is the mean and the worst of nine perturbed runs.

    python -m research.real_clips --split selection --by box --out real_box.json
    python -m research.real_clips --split selection --by words --out real_words.json

A tracker that is right by a hair on a clip is wrong on the same clip with a grey level of noise: one run is an
anecdote. The runs are the same for all trackers and always the same (`PLAN_BY_BOX`, `PLAN_BY_WORDS`): the clip as it
is; with Gaussian noise of a deviation of 1 and 2 grey levels, several seeds each; from a first box that is moved by 2
pixels, in several directions; and begun 3 frames later. By words, where there is no box to move, more seeds of noise
stand in its place. `--runs 3` takes the first three of the plan.

A run counts as in `tracking_table`: mean IoU over the frames from 2 on that show the object, 0 without a box. Beside
it stands the share of those frames without a box ("falsely absent"), and of the frames that do not show the object the
share without a box ("absent found"). By box CSRT and the first box repeated are measured, too; by words each clip is
tracked by each of its `phrasings`.

Each run is a line of a log beside the output, and the same command resumes: give a model's output another name than
another's. `--option zoom=0` sets one of `TrackingOptions`. The table goes beside the output as .md.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import hardware, markdown_table
from elysium.evaluation.evaluated_trackers import weights_fingerprint
from elysium.evaluation.opencv_trackers import opencv_boxes
from elysium.evaluation.resumable import JsonLog, Row, check_failures, check_settings, run_items
from elysium.processing.atomic_files import atomic_path
from elysium.processing.structures import VideoClip
from elysium.tracking.checkpoints import DEFAULT_MODEL
from elysium.tracking.options import TrackingOptions
from research.eval_v1.report import versions
from research.tracking_table.clips import REAL_CLIPS, Clip, read_real_clip
from research.tracking_table.scores import FollowedClip, score_track

OURS, CSRT, FIRST_BOX = "ours", "CSRT", "first box"
# Tracks a clip by a text, or by the clip's first box where there is none: boxes `(T, 4)`, NaN for none.
Track = Callable[[Clip, str | None], NDArray[np.float64]]


@dataclass(frozen=True)
class Perturbation:
    """Hold one small change of a clip.

    Args:
        name: unique.
        noise: deviation of Gaussian noise, in grey levels.
        seed: of the noise.
        moved_px: move of the first box, x and y.
        later: number of frames that are cut off the start; more where the frame after them does not show the object.
    """

    name: str
    noise: float = 0
    seed: int = 0
    moved_px: tuple[int, int] = (0, 0)
    later: int = 0

    def apply(self, clip: Clip) -> Clip:
        """Return the changed clip; its first true box is the one that trackers are given."""
        start = self.later + int(np.flatnonzero(clip.visible[self.later :])[0])
        boxes = clip.boxes_xyxy_px[start:].copy()
        size = (clip.video.width, clip.video.height)
        boxes[0] = np.clip(boxes[0] + np.tile(self.moved_px, 2), 0, np.tile(size, 2))
        video = VideoClip.from_frames(self._noisy(clip.video.frames[start:]), fps=clip.video.fps)
        return dataclasses.replace(clip, video=video, boxes_xyxy_px=boxes)

    def _noisy(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if not self.noise:
            return frames
        noisy = np.empty_like(frames)
        for index, frame in enumerate(frames):  # one at a time: floats of a whole clip take gigabytes
            rng = np.random.default_rng((self.seed, index))
            noise = self.noise * rng.standard_normal(frame.shape, dtype=np.float32)
            noisy[index] = np.clip(np.rint(frame + noise), 0, 255)
        return noisy


_AS_IT_IS = Perturbation("as it is")
_LATER = Perturbation("3 frames later", later=3)
PLAN_BY_BOX = (
    _AS_IT_IS,
    Perturbation("noise 2, seed 0", noise=2, seed=0),
    Perturbation("box moved right", moved_px=(2, 0)),
    _LATER,
    Perturbation("noise 1, seed 0", noise=1, seed=0),
    Perturbation("box moved down", moved_px=(0, 2)),
    Perturbation("noise 2, seed 1", noise=2, seed=1),
    Perturbation("box moved up and left", moved_px=(-2, -2)),
    Perturbation("noise 1, seed 1", noise=1, seed=1),
)
PLAN_BY_WORDS = (
    _AS_IT_IS,
    Perturbation("noise 2, seed 0", noise=2, seed=0),
    _LATER,
    Perturbation("noise 1, seed 0", noise=1, seed=0),
    Perturbation("noise 2, seed 1", noise=2, seed=1),
    Perturbation("noise 1, seed 1", noise=1, seed=1),
    Perturbation("noise 2, seed 2", noise=2, seed=2),
    Perturbation("noise 1, seed 2", noise=1, seed=2),
    Perturbation("noise 2, seed 3", noise=2, seed=3),
)
PLANS = {"box": PLAN_BY_BOX, "words": PLAN_BY_WORDS}


@dataclass(frozen=True)
class Run:
    """Hold one track to be made: a clip, a tracker, a text or none, and a perturbation."""

    entry: dict[str, Any]
    tracker: str
    text: str | None
    perturbation: Perturbation

    @property
    def key(self) -> str:
        """Return the unique name of the run."""
        return "; ".join((self.entry["name"], self.tracker, self.text or "by box", self.perturbation.name))


def plan_runs(entries: Iterable[dict[str, Any]], by: str, number: int, trackers: Iterable[str]) -> Iterator[Run]:
    """Give all runs, clip by clip.

    Args:
        entries: of the clips in `index.json`.
        by: "box" or "words".
        number: number of perturbations, from the first of the plan on.
        trackers: names; by words, those that take words.
    """
    trackers = list(trackers)
    for entry in entries:
        texts = [None] if by == "box" else entry.get("phrasings", [entry["words"]])
        for perturbation in PLANS[by][:number]:
            for text in texts:
                for tracker in trackers:
                    yield Run(entry, tracker, text, perturbation)


def measure(runs: Sequence[Run], trackers: dict[str, Track], log: JsonLog, folder: Path = REAL_CLIPS) -> list[Row]:
    """Make the runs that the log lacks, and return the rows of all.

    Args:
        runs: what to measure.
        trackers: by name.
        log: rows that are kept, one for each run.
        folder: of the clips.

    Raises:
        UnfinishedError: a run failed; the others are kept.
    """
    entries = {run.entry["name"]: run.entry for run in runs}
    read = lru_cache(maxsize=1)(lambda name: read_real_clip(entries[name], folder))

    def work(batch: list[Run]) -> None:
        for run in batch:
            clip = run.perturbation.apply(read(run.entry["name"]))
            boxes = trackers[run.tracker](clip, run.text)
            log.append([{"key": run.key} | run_figures(clip, boxes)])

    done = {row["key"] for row in log.read()}
    keys, errors = run_items(
        runs, work, noun="run", key=lambda run: run.key, done=done, total=len(runs), progress=_show_progress
    )
    check_failures("run", errors)
    rows = {row["key"]: row for row in log.read()}
    return [rows[key] for key in keys]


def run_figures(clip: Clip, boxes_xyxy_px: NDArray[np.float64]) -> Row:
    """Return the figures of one track; None for a share of no frames.

    Args:
        clip: with its true boxes.
        boxes_xyxy_px (`np.ndarray` of shape `(T, 4)`): the track, NaN where there is no box.
    """
    reasons = [None if found else "absent" for found in np.isfinite(boxes_xyxy_px[:, 0])]
    score = score_track(clip, FollowedClip(boxes_xyxy_px, reasons))
    return {
        "mean_iou": round(score.mean_iou, 4),
        "falsely_absent": round(score.seen_missed / score.seen, 4),
        "absent_found": round(score.hidden_found / score.hidden, 4) if score.hidden else None,
    }


def summarise(runs: Sequence[Run], rows: Sequence[Row]) -> list[Row]:
    """Return a row for each clip, tracker and text: mean and worst of its runs; and one for the mean of the clips."""
    groups: dict[tuple[str, str, str | None], list[Row]] = {}
    for run, row in zip(runs, rows, strict=True):
        groups.setdefault((run.entry["name"], run.tracker, run.text), []).append(row)
    found: list[Row] = [
        {"clip": clip, "tracker": tracker, "text": text} | _mean_and_worst(part)
        for (clip, tracker, text), part in groups.items()
    ]
    for tracker in dict.fromkeys(run.tracker for run in runs):
        clips = [row for row in found if row["tracker"] == tracker]
        found.append({"clip": "mean", "tracker": tracker, "text": None} | _mean_of_clips(clips))
    return found


FIGURES = ("mean_iou", "worst_iou", "falsely_absent", "worst_falsely_absent", "absent_found")


def _mean_and_worst(runs: Sequence[Row]) -> Row:
    ious, missed = ([run[name] for run in runs] for name in ("mean_iou", "falsely_absent"))
    hidden = [run["absent_found"] for run in runs if run["absent_found"] is not None]
    means = (np.mean(ious), min(ious), np.mean(missed), max(missed), np.mean(hidden) if hidden else None)
    return {"runs": len(runs)} | _rounded(means)


def _mean_of_clips(rows: Sequence[Row]) -> Row:
    """Return the mean over clips, of a clip with several texts the mean over them."""
    clips: dict[str, list[Row]] = {}
    for row in rows:
        clips.setdefault(row["clip"], []).append(row)
    means = []
    for name in FIGURES:
        known = [[row[name] for row in part if row[name] is not None] for part in clips.values()]
        means.append(np.mean([np.mean(part) for part in known if part]) if any(known) else None)
    return {"runs": sum(row["runs"] for row in rows)} | _rounded(means)


def _rounded(values: Iterable[Any]) -> Row:
    return {
        name: None if value is None else round(float(value), 4) for name, value in zip(FIGURES, values, strict=True)
    }


def markdown(record: dict[str, Any]) -> str:
    """Return the table of a record."""
    lines = [
        [row["clip"], row["tracker"], *([row["text"] or ""] if record["by"] == "words" else []), str(row["runs"])]
        + [f"{row['mean_iou']:.3f}", f"{row['worst_iou']:.3f}"]
        + [
            "-" if row[name] is None else f"{100 * row[name]:.1f}"
            for name in ("falsely_absent", "worst_falsely_absent", "absent_found")
        ]
        for row in record["clips"]
    ]
    shares = ["falsely absent, %", "worst run", "absent found, %"]
    header = ["clip", "tracker", *(["text"] if record["by"] == "words" else []), "runs", "mean IoU", "worst run"]
    about = (
        f"`{record['model']}`, {record['split']} clips, by {record['by']}, {record['runs']} perturbed runs of each: "
        f"{'; '.join(record['plan'])}. {record['hardware']}."
    )
    return f"# Real clips\n\n{about}\n\n{markdown_table([*header, *shares], lines)}\n"


def our_tracker(model: str, device: str | None, options: TrackingOptions) -> Track:
    """Return the tracker of a checkpoint, which is loaded when it tracks first."""

    @cache
    def load() -> Any:
        from elysium.tracking.tracker import Tracker  # slow to import, and a finished run needs none

        return Tracker.from_pretrained(model, device=device)

    def track(clip: Clip, text: str | None) -> NDArray[np.float64]:
        box = clip.first_box_xyxy_px if text is None else None
        return np.asarray(load().track(clip.video, text, box_xyxy_px=box, options=options).tracks[0].boxes_xyxy_px)

    return track


def csrt(clip: Clip, text: str | None) -> NDArray[np.float64]:
    """Track by OpenCV's CSRT, from the first box."""
    return opencv_boxes("csrt", clip.video.frames, clip.first_box_xyxy_px)


def first_box(clip: Clip, text: str | None) -> NDArray[np.float64]:
    """Repeat the first box."""
    return np.tile(clip.boxes_xyxy_px[:1], (len(clip.video), 1))


def parse_option(typed: str) -> tuple[str, Any]:
    """Return name and value of a tracking option.

    >>> parse_option("zoom=0")
    ('zoom', 0.0)
    """
    types = {field.name: field.type for field in dataclasses.fields(TrackingOptions)}
    name, _, value = typed.partition("=")
    kind = types.get(name)
    try:
        return name, {"true": True, "false": False}[value] if kind is bool else kind(value)  # type: ignore[operator]
    except (KeyError, TypeError, ValueError):
        raise argparse.ArgumentTypeError(
            f"an option must be NAME=VALUE of {', '.join(types)}, got {typed!r}; such as zoom=0"
        ) from None


def _show_progress(finished: int, total: int | None) -> None:
    print(f"{finished}/{total} runs", file=sys.stderr, flush=True)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the checked arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="checkpoint folder, shipped name or Hub id")
    parser.add_argument("--device", help="such as cpu or cuda (default: the first GPU where there is one)")
    parser.add_argument("--split", choices=("selection", "headline"), default="selection", help="of the clips")
    parser.add_argument("--by", choices=PLANS, default="box", help="prompt: the first box, or words")
    parser.add_argument("--runs", type=int, default=9, help="perturbed runs of each clip, 1 to 9 (default: 9)")
    parser.add_argument("--clips", nargs="+", metavar="NAME", help="only these of the split")
    parser.add_argument("--option", type=parse_option, action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--no-baselines", action="store_true", help="leave out CSRT and the first box")
    parser.add_argument("--out", type=Path, default=Path("real_clips.json"), help="JSON to write")
    arguments = parser.parse_args(argv)
    if not 1 <= arguments.runs <= len(PLAN_BY_BOX):
        parser.error(f"--runs must be 1 to {len(PLAN_BY_BOX)}, got {arguments.runs}")
    return arguments


def chosen_entries(split: str, names: Sequence[str] | None, folder: Path = REAL_CLIPS) -> list[dict[str, Any]]:
    """Return the entries of a split, or those of some names.

    Raises:
        ValueError: the split has no clip of a name.
    """
    entries = json.loads((folder / "index.json").read_text("utf-8"))["clips"]
    entries = [entry for entry in entries if entry["split"] == split]
    known = [entry["name"] for entry in entries]
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(f"--clips must be of the split {split} ({', '.join(known)}), got {', '.join(unknown)}")
    return [entry for entry in entries if names is None or entry["name"] in names]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table and write the figures."""
    arguments = parse_arguments(argv)
    options = TrackingOptions(**dict(arguments.option))
    entries = chosen_entries(arguments.split, arguments.clips)
    trackers: dict[str, Track] = {OURS: our_tracker(arguments.model, arguments.device, options)}
    if arguments.by == "box" and not arguments.no_baselines:
        trackers |= {CSRT: csrt, FIRST_BOX: first_box}
    settings = {"weights": weights_fingerprint(arguments.model), "by": arguments.by, "options": options.explicit()}
    check_settings(arguments.out.with_suffix(".settings.json"), settings)
    runs = list(plan_runs(entries, arguments.by, arguments.runs, trackers))
    rows = measure(runs, trackers, JsonLog(arguments.out.with_suffix(".runs.jsonl")))
    record: dict[str, Any] = {
        "benchmark": "real_clips",
        "model": arguments.model,
        **settings,
        "split": arguments.split,
        "runs": arguments.runs,
        "plan": [each.name for each in PLANS[arguments.by][: arguments.runs]],
        "clips": summarise(runs, rows),
        "each_run": rows,
        "hardware": hardware(),
        "versions": versions(),
    }
    tables = markdown(record)
    files = {arguments.out.with_suffix(".md"): tables, arguments.out: json.dumps(record, indent=1) + "\n"}
    for path, text in files.items():
        with atomic_path(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    print(tables)


if __name__ == "__main__":
    main()
