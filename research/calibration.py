"""Fit the map from a checkpoint's raw tracking scores to the expected IoU of its boxes, on held-out synthetic scenes.

    python -m research.calibration --bank sprites.npz --clips 8 \\
        --out research/results/calibration.json
    python -m research.calibration --model runs/mine --bank sprites.npz --clips 40 --out runs/mine.json --write

Scenes are the selection part of `research.tracking_table`: classes that were taught, by cut-outs that were held out;
classes that were never taught; small objects; objects behind others; objects that leave and come back. Each is tracked
from the true box of frame 1 and, where it has words, from a text prompt, with the checkpoint's own options. Every
frame with a box counts by its IoU, 0 where the object cannot be seen; frame 1 does not where its box was given.

The map is isotonic regression (pool adjacent violators) of IoU on score, thinned to the means of ten groups of as many
boxes each, from (0, 0) to (1, 1): it rises everywhere, so that the order of scores stays. Each kind of prompt has a
map of its own: one for both was worse than none. Figures before and after are on clips that the map was not fitted on:
one half of the clips by the map of the other half, and the reverse. What is written is fitted on all of them.
The last line is JSON.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.stats import rankdata

from benchmarks.bench import hardware, markdown_table, write_record
from elysium.evaluation.reliability import Reliability
from elysium.processing.atomic_files import atomic_path
from elysium.processing.overlap import paired_iou
from elysium.tracking.checkpoints import DEFAULT_MODEL
from elysium.tracking.options import Calibration, TrackingOptions
from research.scenes.sprite_bank import SpriteBank, everyday_names
from research.tracking_table.clips import WORLD_SEEDS, Clip, ClipMaker

if TYPE_CHECKING:
    from elysium.tracking.tracker import Tracker

GROUPS = ("seen", "unseen", "small", "occlusion", "away")
NUM_GROUPS = 10  # of boxes, a knot each; with both ends the map has at most 12
HIT_IOU = 0.5
RAW = TrackingOptions(score_calibration=(), text_score_calibration=())
OPTION_OF_PROMPT = {"box": "score_calibration", "text": "text_score_calibration"}


@dataclass(frozen=True, eq=False)
class ScoredTrack:
    """Boxes of one track.

    Args:
        group: of its clip.
        prompt: "box" or "text".
        fold: 0 or 1, the half of the clips that it belongs to.
        scores (`np.ndarray` of shape `(n,)`): raw.
        ious (`np.ndarray` of shape `(n,)`): with the true box, 0 where there is none.
    """

    group: str
    prompt: str
    fold: int
    scores: NDArray[np.float64]
    ious: NDArray[np.float64]


def score_tracks(tracker: "Tracker", clips: Sequence[Clip], group: str) -> list[ScoredTrack]:
    """Track clips from a box and from text, and return their boxes with raw scores."""
    folds = [place // 2 % 2 for place in range(len(clips))]  # two parts of the bank alternate in some groups
    numbered = list(zip(folds, clips, strict=True))
    prompts = [("box", fold, clip, clip.first_box_xyxy_px) for fold, clip in numbered]
    prompts += [("text", fold, clip, clip.words) for fold, clip in numbered if clip.words is not None]
    items = ((clip.video, prompt) for *_, clip, prompt in prompts)
    results = tracker.track_many(items, options=RAW)
    tracks = []
    for (kind, fold, clip, _), result in zip(prompts, results, strict=True):
        track = result.tracks[0]
        counted = track.valid & (np.arange(len(track)) >= (kind == "box"))
        ious = paired_iou(track.boxes_xyxy_px, clip.boxes_xyxy_px)
        tracks.append(ScoredTrack(group, kind, fold, track.scores[counted], ious[counted]))
    return tracks


def fit_calibration(scores: NDArray[np.float64], ious: NDArray[np.float64]) -> Calibration:
    """Return the map from score to expected IoU, of at most 12 knots.

    Args:
        scores (`np.ndarray` of shape `(n,)`): raw.
        ious (`np.ndarray` of shape `(n,)`): of the same boxes.

    >>> fit_calibration(np.array([0.1, 0.1, 0.3, 0.3]), np.array([0.2, 0.4, 0.9, 0.5]))
    ((0.0, 0.0), (0.1, 0.3), (0.3, 0.7), (1.0, 1.0))
    """
    values, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    means = np.bincount(places, ious) / counts
    rising = isotonic_regression(means, weights=counts).x[places]
    order = np.argsort(scores, kind="stable")
    knots = [(0.0, 0.0)]
    for group in np.array_split(order, min(NUM_GROUPS, len(values))):
        knot = (round(float(scores[group].mean()), 4), round(float(rising[group].mean()), 4))
        if knots[-1][0] < knot[0] < 1 and knots[-1][1] < knot[1] < 1:
            knots.append(knot)
    return (*knots, (1.0, 1.0))


def calibrate(scores: NDArray[np.float64], calibration: Calibration) -> NDArray[np.float64]:
    """Return scores `(n,)` by a map."""
    return np.interp(scores, *zip(*calibration, strict=True))


def auroc(scores: NDArray[np.float64], hits: NDArray[np.bool_]) -> float | None:
    """Return the probability that a hit has a higher score than a miss, half for equal ones; None without both.

    >>> auroc(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))
    0.875
    """
    num_hits, num_misses = int(hits.sum()), int((~hits).sum())
    if not num_hits or not num_misses:
        return None
    above = rankdata(scores)[hits].sum() - num_hits * (num_hits + 1) / 2
    return float(above / (num_hits * num_misses))


def joined(tracks: Sequence[ScoredTrack]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the scores and IoUs of all boxes of tracks."""
    return np.concatenate([each.scores for each in tracks]), np.concatenate([each.ious for each in tracks])


def figures(tracks: Sequence[ScoredTrack], maps: Mapping[tuple[str, int], Calibration]) -> dict[str, Any]:
    """Return figures before and after calibration.

    Args:
        tracks: of any clips.
        maps: for each prompt and fold the map that was fitted on the other fold.
    """
    raw, ious = joined(tracks)
    found: dict[str, Any] = {"tracks": len(tracks), "boxes": len(raw), "mean_iou": round(float(ious.mean()), 4)}
    after = np.concatenate([calibrate(each.scores, maps[each.prompt, each.fold]) for each in tracks])
    for name, scores in (("before", raw), ("after", after)):
        reliability = Reliability()
        reliability.add(scores, ious)
        area = auroc(scores, ious > HIT_IOU)
        found[name] = {
            "mean_score": round(float(scores.mean()), 4),
            "ece": round(reliability.expected_calibration_error, 4),
            "auroc": None if area is None else round(area, 4),
            "reliability": reliability.record(),
        }
    return found


def cross_validate(tracks: Sequence[ScoredTrack]) -> dict[str, dict[str, Any]]:
    """Return figures on clips that the map was not fitted on: of all tracks, of each prompt and of each group.

    Raises:
        ValueError: a half of the clips has no box.
    """
    halves = {
        (prompt, fold): [
            each for each in tracks if (each.prompt, each.fold) == (prompt, 1 - fold) and len(each.scores)
        ]
        for prompt in dict.fromkeys(each.prompt for each in tracks)
        for fold in (0, 1)
    }
    if not all(halves.values()):
        counts = [len(half) for half in halves.values()]
        raise ValueError(f"both halves of the clips must have boxes, got {counts}; raise --clips")
    maps = {key: fit_calibration(*joined(half)) for key, half in halves.items()}
    parts = {"all": list(tracks)}
    for name in ("prompt", "group"):
        for value in dict.fromkeys(getattr(each, name) for each in tracks):
            parts[value] = [each for each in tracks if getattr(each, name) == value]
    return {name: figures(part, maps) for name, part in parts.items() if sum(len(each.scores) for each in part)}


def write_options(folder: Path, options: Mapping[str, Any]) -> None:
    """Write options, by their names, into the `tracking` of a checkpoint folder's processor configuration.

    Raises:
        ValueError: the folder has no processor configuration.
    """
    path = folder / "processor_config.json"
    if not path.is_file():
        raise ValueError(f"--model must be a checkpoint folder to be written to, got {folder}; leave out --write")
    config = json.loads(path.read_text("utf-8"))
    config["tracking"] = config.get("tracking", {}) | dict(options)
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    """Tracks the clips, fits the maps, prints a table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="checkpoint folder, shipped name or Hub id")
    parser.add_argument("--bank", type=Path, required=True, help="sprites, an .npz file of fetch_sprites")
    parser.add_argument("--clips", type=int, default=8, help="clips of each group")
    parser.add_argument("--frames", type=int, default=48, help="frames of each clip")
    parser.add_argument("--device", help="such as cpu or cuda (default: the first GPU where there is one)")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    parser.add_argument("--write", action="store_true", help="store the maps in the checkpoint")
    arguments = parser.parse_args(argv)
    if arguments.clips < 3 or arguments.frames < 2:
        parser.error(f"there must be 3 clips of 2 frames or more, got {arguments.clips} of {arguments.frames}")
    from elysium.tracking.checkpoints import resolve_checkpoint
    from elysium.tracking.tracker import Tracker

    bank, start_s = SpriteBank.load(arguments.bank), time.perf_counter()
    seed = WORLD_SEEDS["selection"]
    maker = ClipMaker(bank, seed, num_frames=arguments.frames, width=320, height=240, names=everyday_names())
    tracker = Tracker.from_pretrained(arguments.model, device=arguments.device)
    tracks: list[ScoredTrack] = []
    for group in GROUPS:
        tracks += score_tracks(tracker, maker.clips(group, arguments.clips), group)
        print(
            f"{group}: {len(tracks)} tracks after {time.perf_counter() - start_s:.0f} s", file=sys.stderr, flush=True
        )
    parts = cross_validate(tracks)
    calibrations = {
        OPTION_OF_PROMPT[prompt]: fit_calibration(*joined([each for each in tracks if each.prompt == prompt]))
        for prompt in dict.fromkeys(each.prompt for each in tracks)
    }
    columns = ["tracks", "boxes", "mean IoU", "mean score", "ECE", "ECE after", "AUROC", "AUROC after"]
    lines = [
        [name, row["tracks"], row["boxes"], row["mean_iou"], row["before"]["mean_score"]]
        + [row[when][figure] for figure in ("ece", "auroc") for when in ("before", "after")]
        for name, row in parts.items()
    ]
    print(markdown_table(["on", *columns], lines))
    record = {
        "benchmark": "calibration",
        "model": arguments.model,
        "seed": seed,
        "clips_of_each_group": arguments.clips,
        "frames": arguments.frames,
        "cut_outs": len(bank.keys),
        "options": RAW.resolve(tracker.processor.tracking).explicit(),
        "other_clips": parts,
        **calibrations,
        "hardware": hardware(),
        "seconds": round(time.perf_counter() - start_s),
    }
    if arguments.write:
        write_options(Path(resolve_checkpoint(arguments.model)), calibrations)
    write_record(record, arguments.out)


if __name__ == "__main__":
    main()
