"""Measure how soon an object is found again after something passed in front of it, tracked from its first box.

    python -m research.occlusions --bank runs/sprites.npz --out research/results/occlusions.json
    python -m research.occlusions --bank runs/sprites.npz --selection --option absent_log_odds=0

60 scenes of held-out sprites at 320x240 and 10 frames a second: the target is in view for 12 frames or more, then
something passes and covers all of it for 5 to 20 frames, and then it is in view again for 30 frames. In as many
further cases the target is gone when it would come back: what is followed then is a mistake. `--selection` draws other
scenes, which choose settings and are no result.

Found again: the share of cases with an IoU above 0.5 in one of the first 5, 10 or 30 frames in which the target is
back (12% of it can be seen). Falsely absent: of the frames after it is back, the share without a box. Wrong boxes: of
the frames in which it is covered or gone, the share with a box. Passes: requests to the model, over the number of
windows that a video takes. The last line is JSON.
"""

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import hardware, markdown_table, write_record
from elysium.processing.overlap import paired_iou
from elysium.tracking.checkpoints import DEFAULT_MODEL
from elysium.tracking.options import TrackingOptions
from elysium.training.synthetic.render import MIN_VISIBLE_FRACTION, render_clip
from elysium.training.synthetic.scene import ObjectPath, Scene, SceneConfig, SceneObject
from research.eval_v1.report import versions
from research.real_clips import parse_option
from research.scenes.sprite_bank import Part, SpriteBank, as_sprite
from research.scenes.sprite_world import SpriteWorld
from research.scenes.world import StudyObject
from research.tracking_table.clips import Candidate, Clip, as_clip

if TYPE_CHECKING:
    from elysium.tracking.tracker import Tracker

SIZE, FPS = (320, 240), 10.0
WORLD_SEEDS = {"headline": 900_073, "selection": 900_079}
FIRST_SCENE_SEED = 980_000_000
PARTS: tuple[Part, ...] = ("seen_classes", "held_out_classes")
BEFORE, COVERED, AFTER = 12, (5, 20), 30
# So much of a target may show where it is covered most; and so many frames after it is back half of it shows.
COVERED_FRACTION, SETTLED = 0.02, 6
FOUND_WITHIN = (5, 10, 30)
_SCENE = SceneConfig(num_objects=(3, 5), side=(0.12, 0.3), speed=(0.003, 0.02), share_leaving=0.0, share_occluded=0.0)


@dataclass
class Passer(StudyObject):
    """An object that comes from one side, stays before another for some frames, and leaves to the other side."""

    target: SceneObject | None = None
    first: int = 0
    last: int = 0
    pace: NDArray[np.float64] = dataclasses.field(default_factory=lambda: np.zeros(2))  # a frame, outside of the stay

    def path(self, scene: Scene, frames: NDArray[np.float64]) -> ObjectPath:
        """Return a path over that of the target."""
        assert self.target is not None
        path, target = super().path(scene, frames), self.target.path(scene, frames)
        away = np.minimum(frames - self.first, 0) + np.maximum(frames - self.last, 0)
        return path._replace(centre=target.centre + away[:, None] * self.pace, size=np.full(len(frames), self.side))


@dataclass
class Leaver(StudyObject):
    """An object that is nowhere from some frame on."""

    gone_from: int = 0

    def path(self, scene: Scene, frames: NDArray[np.float64]) -> ObjectPath:
        """Return a path that ends far outside of the image."""
        path = super().path(scene, frames)
        return path._replace(centre=np.where((frames >= self.gone_from)[:, None], -9.0, path.centre))


@dataclass(frozen=True, eq=False)
class Case:
    """Hold a clip and the frame in which its target is back, or would be."""

    clip: Clip
    back: int


def draw_cases(bank: SpriteBank, seed: int, *, comes_back: bool) -> Iterator[Case]:
    """Give cases without end; the same bank and seed give the same, one part of the bank after the other."""
    worlds = [SpriteWorld(bank, seed, part=part, num_backgrounds=32, num_unnamed=80) for part in PARTS]
    cases = (draw_case(worlds[number % len(worlds)], number, comes_back=comes_back) for number in count())
    return (case for case in cases if case is not None)


def draw_case(world: SpriteWorld, number: int, *, comes_back: bool) -> Case | None:
    """Return the case of a scene; None where the target is not in view before and after, or not covered in between."""
    rng = np.random.default_rng((world.seed, 43, number))
    scene = world.sample(FIRST_SCENE_SEED + number, _SCENE)
    *others, target = scene.objects
    first = BEFORE + int(rng.integers(1, 6))
    last = first + int(rng.integers(1, COVERED[1]))
    passer = _passer(rng, world, target, first, last)
    whole = replace(scene, objects=[*others, target, passer])
    place = whole.tracked.index(len(others))
    fraction = render_clip(whole, last + COVERED[1] + AFTER, SIZE).visible_fraction[:, place]
    gap = np.flatnonzero(fraction < MIN_VISIBLE_FRACTION)
    if not len(gap):
        return None
    start, back = int(gap[0]), int(gap[-1]) + 1
    num_frames, after = back + AFTER, fraction[back + SETTLED : back + AFTER]
    is_one_gap = len(gap) == back - start and COVERED[0] <= len(gap) <= COVERED[1] and start >= BEFORE
    if not is_one_gap or len(after) < AFTER - SETTLED or min(after.min(), fraction[: BEFORE // 2].min()) < 0.5:
        return None
    if fraction[gap].min() > COVERED_FRACTION:
        return None
    if not comes_back:
        gone_from = int(gap[fraction[gap].argmin()])
        leaver = Leaver(**vars(target), gone_from=gone_from)
        whole = replace(whole, objects=[*others, leaver, passer])
    rendered = render_clip(whole, num_frames, SIZE)
    candidate = Candidate(f"{world.seed} {number}", whole, rendered, place, None, None)
    return Case(as_clip(candidate), back)


def _passer(rng: np.random.Generator, world: SpriteWorld, target: SceneObject, first: int, last: int) -> Passer:
    """Return something large enough to cover the target, on a straight way."""
    nameless = [world.unnamed[rng.integers(len(world.unnamed))]]
    if world.nameless:
        nameless.append(as_sprite(world.bank.sprites[rng.choice(world.nameless)], ""))
    direction, pace = rng.uniform(0, 2 * np.pi), rng.uniform(0.06, 0.14)
    drawn = vars(world._place(rng, nameless[rng.integers(len(nameless))], 0.01, _SCENE))
    drawn |= {"side": target.side * rng.uniform(2.0, 3.2), "spin": 0.0, "tracked": False}
    way = pace * np.array([np.cos(direction), np.sin(direction)])
    return Passer(**drawn, target=target, first=first, last=last, pace=way)


def case_figures(case: Case, boxes_xyxy_px: NDArray[np.float64]) -> dict[str, float]:
    """Return the figures of one track: shares of frames, and 1 or 0 for found within so many frames.

    Args:
        case: of either kind; the last figures are those of a target that comes back.
        boxes_xyxy_px (`np.ndarray` of shape `(T, 4)`): the track, NaN where there is no box.
    """
    ious = np.nan_to_num(paired_iou(boxes_xyxy_px, case.clip.boxes_xyxy_px))
    visible, has_box = case.clip.visible, np.isfinite(boxes_xyxy_px[:, 0])
    after = visible[case.back :]
    if not after.any():
        return {"wrong_boxes_gone": float(has_box[~visible].mean())}
    hits = np.flatnonzero(ious[case.back :] > 0.5)
    wait = hits[0] if len(hits) else np.inf
    return {
        **{f"found_within_{number}": float(wait < number) for number in FOUND_WITHIN},
        "falsely_absent_after": float((~has_box[case.back :])[after].mean()),
        "mean_iou_after": float(ious[case.back :][after].mean()),
        "wrong_boxes_covered": float(has_box[~visible].mean()),
    }


def measure(tracker: "Tracker", cases: Sequence[Case], options: TrackingOptions) -> dict[str, float]:
    """Return the mean figures over cases, and the passes of the model over those of one pass over every window."""
    passes = 0
    answer_windows = tracker._answerer.answer_windows

    def counted(requests: Any, **settings: Any) -> Any:
        nonlocal passes
        passes += len(requests)
        return answer_windows(requests, **settings)

    with patch.object(tracker._answerer, "answer_windows", counted):
        clips = [case.clip for case in cases]
        results = tracker.track_many([(clip.video, clip.first_box_xyxy_px) for clip in clips], options=options)
    rows = [case_figures(case, result.tracks[0].boxes_xyxy_px) for case, result in zip(cases, results, strict=True)]
    steps = tracker._resolve(options, None, None).window_frames - 1
    windows = sum(-(-(len(clip.video) - 1) // steps) for clip in clips)
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return {name: round(value, 4) for name, value in (means | {"passes_a_window": passes / windows}).items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table and the record, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", type=Path, required=True, help="sprites, an .npz file of fetch_sprites")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="checkpoint folder, shipped name or Hub id")
    parser.add_argument("--device", help="such as cpu or cuda (default: the first GPU where there is one)")
    parser.add_argument("--number", type=int, default=60, help="cases of each kind (default: 60)")
    parser.add_argument("--selection", action="store_true", help="the cases that choose settings")
    parser.add_argument("--option", type=parse_option, action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, help="JSON to write")
    arguments = parser.parse_args(argv)
    if arguments.number < 1:
        parser.error(f"--number must be 1 or more, got {arguments.number}")
    from elysium.tracking.tracker import Tracker  # slow to import, and the arguments are checked first

    bank = SpriteBank.load(arguments.bank)
    options = TrackingOptions(**dict(arguments.option))
    seed = WORLD_SEEDS["selection" if arguments.selection else "headline"]
    tracker = Tracker.from_pretrained(arguments.model, device=arguments.device)
    figures = {}
    for name, comes_back in (("comes_back", True), ("gone", False)):
        cases = list(islice(draw_cases(bank, seed, comes_back=comes_back), arguments.number))
        figures[name] = measure(tracker, cases, options)
    rows = [[kind, name, value] for kind, values in figures.items() for name, value in values.items()]
    print(markdown_table(["cases", "figure", "mean"], rows))
    record = {"benchmark": "occlusions", "model": arguments.model, "options": options.explicit(), "seed": seed}
    record |= {"number": arguments.number, **figures, "hardware": hardware(), "versions": versions()}
    write_record(record, arguments.out)


if __name__ == "__main__":
    main()
