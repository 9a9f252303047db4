"""Fit and measure the doubt of a box: the probability that it is wrong, IoU below 0.3 with the true box.

    python -m research.doubt --bank runs/sprites.npz --log LOG --out research/results/small_doubt.json --write

Tracks clips from the true box of frame 1 with the checkpoint's own options, and keeps a file of each track in LOG, so
that a second run fits at once. Weights are fitted on the selection clips, real ones (three perturbed runs each) and
generated scenes; figures are on the headline clips (two runs each) and scenes, which nothing was chosen on. Frames
without a box do not count, nor does the given one. Every clip weighs the same, and real clips together as much as all
scenes.

Signs that were measured, each the larger, the more doubtful: "score", the negative logarithm of the raw score, and
"worst score", its largest value, of which half is forgotten every 32 frames; "colours", the distance of the colours
in the box from those in the first one; "passes", the disagreement of the last two passes, and "jump", off a steady
motion, over the box's side, both with the same memory; "size", the change since the first box. `left_out` in the
output has the log loss and areas under the ROC of sets of signs on selection clips that the fit did not see. A switch
is a box that covers another object of the scene by more than 0.3 and more than its own. Tracks whose summary says
that they may have switched are counted, of those with 8 wrong boxes or more ("lost") and of the others. The last line
is JSON.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import minimize

from benchmarks.bench import hardware, write_record
from elysium.evaluation.reliability import Reliability
from elysium.processing.atomic_files import atomic_folder
from elysium.processing.overlap import paired_iou
from elysium.processing.structures import SWITCH_BOXES
from elysium.tracking.checkpoints import DEFAULT_MODEL, resolve_checkpoint
from elysium.tracking.doubt import HALF_LIFE_FRAMES, color_histogram
from elysium.tracking.session import TrackingSession
from elysium.tracking.tracker import Tracker
from research.calibration import auroc, write_options
from research.real_clips import PLAN_BY_BOX, chosen_entries
from research.scenes.sprite_bank import SpriteBank, everyday_names
from research.tracking_table.clips import WORLD_SEEDS, Clip, ClipMaker, as_clip, read_real_clip

Array = NDArray[np.float64]
GROUPS = ("seen", "occlusion", "distractors", "away", "small")
RUNS = {"selection": 3, "headline": 2}
SIDE_PX = 24
WRONG_IOU = SWITCH_IOU = 0.3
LOST = 8  # wrong boxes of a lost track
CHOSEN = ("worst score", "colours")
OTHERS = ("score", "passes", "jump", "size")
SETS = [(name,) for name in CHOSEN + OTHERS] + [CHOSEN] + [(*CHOSEN, name) for name in OTHERS]
L2 = 5e-3


def clips_of(split: str, bank: SpriteBank) -> Iterator[tuple[str, Clip, Array]]:
    """Give the name of each clip, the clip, and the boxes of the scene's other objects `(T, O, 4)`."""
    for entry in chosen_entries(split, None):
        for perturbation in PLAN_BY_BOX[: RUNS[split]]:
            clip = perturbation.apply(read_real_clip(entry))
            yield f"real {entry['name']}-{perturbation.name}", clip, np.zeros((len(clip.video), 0, 4))
    maker = ClipMaker(bank, WORLD_SEEDS[split], num_frames=48, width=320, height=240, names=everyday_names())
    for group in GROUPS:
        for candidate in maker.candidates(group, 7):
            boxes = candidate.clip.boxes_xyxy_norm * [320, 240, 320, 240]
            others = np.where(candidate.clip.visible[..., None], boxes, np.nan)
            yield candidate.name, as_clip(candidate), np.delete(others, candidate.index, axis=1)


def track_clip(tracker: Tracker, clip: Clip, others: Array) -> dict[str, Any]:
    """Track a clip from its first box, and return what the signs and the truth are made of."""
    rows: list[tuple[Any, Any, float]] = []
    finish = TrackingSession._finish

    def keep(self: Any, position: int, frame: Any, parsed: Any, score: float, *, detected: bool) -> Any:
        plan = self._request.plan
        before = [box for box, _ in self._last_pass[len(self._last_pass) - plan.num_unseen :]]
        previous = before[position - plan.first_unseen] if before else parsed
        rows.append((previous.box_xyxy_norm, parsed.box_xyxy_norm, score))
        return finish(self, position, frame, parsed, score, detected=detected)

    with patch.object(TrackingSession, "_finish", keep):
        track = tracker.track(clip.video, box_xyxy_px=clip.first_box_xyxy_px).tracks[0]
    before, after, scores = zip(*rows, strict=True)
    passes = [np.array([box or [np.nan] * 4 for box in boxes]) for boxes in (before, after)]
    small = np.zeros((len(track), SIDE_PX, SIDE_PX, 3), np.uint8)
    for place in np.flatnonzero(track.valid):
        image, box = Image.fromarray(clip.video.frames[place]), tuple(track.boxes_xyxy_px[place])
        small[place] = image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX, box=box)
    boxes = {"boxes": track.boxes_xyxy_px, "truth": clip.boxes_xyxy_px, "others": others}
    return boxes | {"agreement": paired_iou(*passes), "scores": np.array(scores), "small": small}


def remembered(values: Array) -> Array:
    """Return the largest of the values so far, each halved every 32 frames; NaN counts as 0.

    >>> remembered(np.array([1.0] + [0.0] * 32)).round(2)[[0, 32]]
    array([1. , 0.5])
    """
    worst = [0.0]
    for value in np.nan_to_num(values).tolist():
        worst.append(max(worst[-1] * 0.5 ** (1 / HALF_LIFE_FRAMES), value))
    return np.array(worst[1:])


def signs(log: dict[str, Any]) -> dict[str, Array]:
    """Return every sign of a track `(T,)`, NaN without a box."""
    boxes = log["boxes"]
    low = np.where(np.isfinite(boxes[:, 0]), -np.log(np.maximum(log["scores"], 1e-3)), np.nan)
    disagreement, jump = 1 - log["agreement"], np.zeros(len(boxes))
    low[0] = disagreement[0] = 0  # the given box
    colors = np.stack([color_histogram(image, (0, 0, SIDE_PX, SIDE_PX)) for image in log["small"]])
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    jump[2:] = np.linalg.norm(np.diff(centres, 2, axis=0), axis=1) / sides[2:]
    return {
        "worst score": remembered(low),
        "colours": 1 - np.sqrt(colors * colors[0]).sum(axis=1),
        "score": low,
        "passes": remembered(disagreement),
        "jump": remembered(np.minimum(jump, 4)),
        "size": np.abs(np.log(sides / sides[0])),
    }


class Boxes:
    """Signs, truth and weights of all boxes of a folder of logs."""

    def __init__(self, folder: Path) -> None:
        parts = []
        for path in sorted(folder.glob("*.npz")):
            log = dict(np.load(path))
            counted = np.isfinite(log["boxes"][:, 0])
            counted[0] = False
            overlap = [paired_iou(log["boxes"], boxes) for boxes in np.moveaxis(log["others"], 1, 0)]
            iou, other = paired_iou(log["boxes"], log["truth"]), np.max([np.zeros(len(counted)), *overlap], axis=0)
            about = {"wrong": iou < WRONG_IOU, "switched": (other > iou) & (other > SWITCH_IOU)}
            about |= {"clip": np.full(len(iou), path.stem.split("-")[0]), "track": np.full(len(iou), path.stem)}
            parts.append({key: value[counted] for key, value in (signs(log) | about).items()})
        values = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        self.wrong, self.switched = values.pop("wrong"), values.pop("switched")
        self.clips, self.tracks = values.pop("clip"), values.pop("track")
        self.signs = {key: np.nan_to_num(value) for key, value in values.items()}
        self.real = np.char.startswith(self.clips, "real ")
        _, place, counts = np.unique(self.clips, return_inverse=True, return_counts=True)
        self.weights = 1 / counts[place]
        for part in (self.real, ~self.real):
            self.weights[part] /= 2 * self.weights[part].sum()

    def doubts(self, chosen: Sequence[str], by: Array) -> Array:
        """Return the doubts `(n,)` by weights of signs and the constant."""
        return np.asarray(
            1 / (1 + np.exp(-(sum(self.signs[n] * w for n, w in zip(chosen, by, strict=False)) + by[-1])))
        )

    def fit(self, chosen: Sequence[str], part: NDArray[np.bool_]) -> Array:
        """Return the weights of a logistic regression, 0 or more but for the constant: a sign never lowers doubt."""
        table = np.stack([*(self.signs[name][part] for name in chosen), np.ones(part.sum())], axis=1)
        scale = np.append(table[:, :-1].std(axis=0) + 1e-9, 1.0)
        table, wrong, weights = table / scale, self.wrong[part], self.weights[part] / self.weights[part].sum()

        def loss(by: Array) -> tuple[float, Array]:
            logits, kept = table @ by, np.append(by[:-1], 0.0)
            error = 1 / (1 + np.exp(-logits)) - wrong
            value = weights @ (np.logaddexp(0, logits) - wrong * logits) + L2 * kept @ kept
            return float(value), table.T @ (weights * error) + 2 * L2 * kept

        bounds = [(0, None)] * len(chosen) + [(None, None)]
        return np.asarray(minimize(loss, [0.1] * len(chosen) + [-1.0], jac=True, bounds=bounds).x / scale)

    def left_out(self, chosen: Sequence[str]) -> dict[str, Any]:
        """Return figures of signs, each clip by a fit on the others."""
        doubts = np.zeros(len(self.clips))
        for clip in np.unique(self.clips):
            inside = self.clips == clip
            doubts[inside] = self.doubts(chosen, self.fit(chosen, ~inside))[inside]
        loss = -np.log(np.clip(np.where(self.wrong, doubts, 1 - doubts), 1e-6, None))
        found: dict[str, Any] = {"auroc_of_switches": figure(auroc(doubts[~self.real], self.switched[~self.real]))}
        for name, part in (("real", self.real), ("scenes", ~self.real)):
            found[f"{name}_log_loss"] = figure(np.average(loss[part], weights=self.weights[part]))
            found[f"{name}_auroc"] = figure(auroc(doubts[part], self.wrong[part]))
        return found

    def report(self, doubts: Array, part: NDArray[np.bool_]) -> dict[str, Any]:
        """Return how doubts tell the wrong boxes of a part, and how well they are calibrated there."""
        doubts, wrong, doubted = doubts[part], self.wrong[part], doubts[part] >= 0.5
        reliability = Reliability()
        reliability.add(doubts, wrong.astype(float))
        figures = {
            "wrong": wrong.mean(),
            "auroc": auroc(doubts, wrong),
            "auroc_of_score": auroc(self.signs["score"][part], wrong),
            "auroc_of_switches": auroc(doubts, self.switched[part]),
            "ece": reliability.expected_calibration_error,
            "wrong_doubted": doubted[wrong].mean() if wrong.any() else None,
            "right_doubted": doubted[~wrong].mean() if not wrong.all() else None,
        }
        said: dict[str, list[int]] = {"lost_tracks_said": [], "good_tracks_said": []}
        for track in np.unique(self.tracks[part]):
            inside = self.tracks[part] == track
            in_a_row = np.convolve(doubted[inside], np.ones(SWITCH_BOXES)).max() == SWITCH_BOXES
            said["lost_tracks_said" if wrong[inside].sum() >= LOST else "good_tracks_said"].append(int(in_a_row))
        by_bin = {key.replace("iou", "wrong").replace("score", "doubt"): v for key, v in reliability.record().items()}
        tracks = {name: [sum(each), len(each)] for name, each in said.items()}
        return {"boxes": len(wrong)} | {name: figure(value) for name, value in figures.items()} | tracks | by_bin


def figure(value: float | None) -> float | None:
    """Return a figure with four digits."""
    return None if value is None else round(float(value), 4)


def main(argv: Sequence[str] | None = None) -> None:
    """Track, fit and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="checkpoint folder, shipped name or Hub id")
    parser.add_argument("--bank", type=Path, required=True, help="sprites, an .npz file of fetch_sprites")
    parser.add_argument("--log", type=Path, required=True, help="folder of tracks")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    parser.add_argument("--write", action="store_true", help="store the weights in the checkpoint")
    arguments = parser.parse_args(argv)
    for split in RUNS:
        if not (arguments.log / split).exists():
            bank, tracker = SpriteBank.load(arguments.bank), Tracker.from_pretrained(arguments.model)
            with atomic_folder(arguments.log / split) as unfinished:
                for name, clip, others in clips_of(split, bank):
                    np.savez_compressed(unfinished / f"{name}.npz", **track_clip(tracker, clip, others))
    selection, headline = (Boxes(arguments.log / split) for split in RUNS)
    by = selection.fit(CHOSEN, np.ones(len(selection.clips), dtype=bool)).round(3)
    doubts = headline.doubts(CHOSEN, by)
    parts = {"real": headline.real, "scenes": ~headline.real}
    parts |= {clip: headline.clips == clip for clip in np.unique(headline.clips[headline.real]).tolist()}
    record = {
        "benchmark": "doubt",
        "model": arguments.model,
        "signs": CHOSEN,
        "weights": by.tolist(),
        "selection": selection.report(selection.doubts(CHOSEN, by), np.ones(len(selection.clips), dtype=bool)),
        "headline": {name: headline.report(doubts, part) for name, part in parts.items()},
        "left_out": {" + ".join(chosen): selection.left_out(chosen) for chosen in SETS},
        "hardware": hardware(),
    }
    if arguments.write:
        write_options(Path(resolve_checkpoint(arguments.model)), {"doubt_weights": by.tolist()})
    write_record(record, arguments.out)


if __name__ == "__main__":
    main()
