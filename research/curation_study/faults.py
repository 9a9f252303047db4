"""Captioned videos with exact truth, and a detector and a tracker that go wrong on purpose: what `curation` measures.

Videos are scenes of the synthetic world. A caption names one to three of the objects, each by words that fit it alone,
and beside them, by its template, plurals, abstract nouns, or an object that is not there. `Faults` says how often each
fault is put into a pair of phrase and object. The figures of the noise are made up; those of real detectors differ:

- the oracle's boxes have every edge moved by a normal 4% of the side; where it is right it scores Beta(12, 2.5), mean
  0.83 (96% above 0.6); on another object Beta(6, 4), mean 0.6; where the object cannot be seen, and half the time for
  a phrase of what is not there, it takes an object at random and scores Beta(2, 6), mean 0.25;
- `wrong_first`, `wrong_late`, `wrong_always`: it takes another object in the first frame, in the frames after it, or
  in all of them: always the same one;
- `drift`: the tracker's box slides off, from a frame in the first half on, by 1 to 2.5 sides until the last frame;
- `swap`: from a frame in the middle half on, the box is that of another object;
- `lost`: from a frame in the first half on, the tracker says that it has lost the object.
"""

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elysium.curation.detect_step import Query
from elysium.curation.track_step import BoxTracker
from elysium.curation.video_records import Detection, Trajectory
from elysium.processing.boxes_elysium import Box
from elysium.training.synthetic import RenderedClip, Scene, SceneConfig, render_clip
from elysium.training.synthetic.dataset import ClipShape, write_video
from research.scenes.questions import with_article
from research.scenes.world import StudyWorld

CAPTIONS = "captions.jsonl"
MIN_FIRST_FRACTION, MIN_SHARE_SEEN = 0.6, 0.5
_SCENE = SceneConfig(num_objects=(3, 5), share_leaving=0.1, share_occluded=0.25, share_twins=0.1)
_JITTER = 0.04
# {a}, {b}, {c}: objects; {n}: one that is not there; {p}: a plural; {v}: an abstract noun; {s}: how it was filmed.
TEMPLATES = (
    "{a} moves from one side to the other.",
    "{s} of {a} and {b}",
    "{a} floats past {b}, {v}",
    "{p} around {a}",
    "{a} turns beside {p}. {s}.",
    "{s}: {a} slides behind {b} and {c}",
    "{a} next to {n}, concept of {v}",
    "{a}, {b} and {p}",
    "{v} and {v}: {a} glides above {b}",
    "There is {a} with {b} in {v}",
    "{a} bumps into {n}",
    "{p} and {p}, {s}",
)
_ABSTRACT = "harmony freedom happiness summer friendship sunset education peace motion success".split()
_SHOTS = ("Slow motion", "Close-up view", "Time lapse", "Footage", "Aerial shot", "An animation")
_MANY = ("two {}", "many {}", "several {}", "{}", "a group of {}", "the {}")


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Share of the pairs that each fault is put into; the rest have none."""

    wrong_first: float = 0.08
    wrong_late: float = 0.05
    wrong_always: float = 0.08
    drift: float = 0.1
    swap: float = 0.1
    lost: float = 0.05

    def draw(self, rng: np.random.Generator) -> str:
        """The fault of a pair, or "none"."""
        names = [field.name for field in fields(self)]
        shares = [getattr(self, name) for name in names]
        return str(rng.choice([*names, "none"], p=[*shares, 1 - sum(shares)]))


@dataclass(frozen=True, eq=False)
class TrueVideo:
    """A video and what is true of it.

    Args:
        video_id: its name.
        caption: what is said of it.
        objects: phrases of the caption that name one object, and which.
        absent: phrases that name an object that is not there.
        boxes_xyxy_norm (`np.ndarray` of shape `(T, O, 4)`): NaN where an object cannot be seen.
    """

    video_id: str
    caption: str
    objects: dict[str, int]
    absent: frozenset[str]
    boxes_xyxy_norm: NDArray[np.float64]


def true_videos(world: StudyWorld, count: int, shape: ClipShape) -> Iterator[tuple[TrueVideo, NDArray[np.uint8]]]:
    """Videos with their frames `(T, H, W, 3)`; a scene without an object to name is passed over."""
    number = scene_seed = 0
    while number < count:
        scene = world.sample(scene_seed, _SCENE)
        scene_seed += 1
        clip = render_clip(scene, shape.num_frames, (shape.width, shape.height))
        names = _names(scene, clip)
        if not names:
            continue
        rng = np.random.default_rng((world.seed, 31, scene_seed))
        caption, objects, absent = _caption(world, scene, names, rng)
        boxes = clip.boxes_xyxy_norm.astype(np.float64)
        boxes[~clip.visible] = np.nan
        yield TrueVideo(f"video-{number:05d}", caption, objects, absent, boxes), clip.frames
        number += 1


def write_videos(folder: Path, world: StudyWorld, count: int, shape: ClipShape) -> dict[str, TrueVideo]:
    """The videos and their table of captions, as a user has them: OUT/captions.jsonl, OUT/video-00000.mp4, …"""
    folder.mkdir(parents=True, exist_ok=True)
    videos = {}
    with (folder / CAPTIONS).open("w", encoding="utf-8") as table:
        for video, frames in true_videos(world, count, shape):
            write_video(folder / f"{video.video_id}.mp4", frames, shape.fps)
            line = {"video_id": video.video_id, "video": f"{video.video_id}.mp4", "caption": video.caption}
            table.write(json.dumps(line) + "\n")
            videos[video.video_id] = video
    return videos


def _names(scene: Scene, clip: RenderedClip) -> dict[str, int]:
    """Names that fit one object alone, which can be seen in frame 1 and in half of the frames."""
    all_names = [scene.objects[place].name for place in scene.tracked]
    return {
        name: index
        for index, name in enumerate(all_names)
        if name is not None
        and all_names.count(name) == 1
        and clip.visible_fraction[0, index] >= MIN_FIRST_FRACTION
        and clip.visible[:, index].mean() >= MIN_SHARE_SEEN
    }


def _caption(
    world: StudyWorld, scene: Scene, names: dict[str, int], rng: np.random.Generator
) -> tuple[str, dict[str, int], frozenset[str]]:
    """A caption of a template that has names enough, the objects in it, and the names of what is not there."""
    order = rng.permutation(list(names)).tolist()
    fitting = [text for text in TEMPLATES if sum(f"{{{slot}}}" in text for slot in "abc") <= len(order)]
    template = str(rng.choice(fitting))
    absent_name = world.absent_name(scene, rng)
    if absent_name is None and "{n}" in template:
        template = TEMPLATES[0]
    told = {slot: order[place] for place, slot in enumerate("abc") if f"{{{slot}}}" in template}
    absent = frozenset({absent_name} if absent_name is not None and "{n}" in template else ())
    fillers: dict[str, Callable[[], str]] = {
        "p": lambda: str(rng.choice(_MANY)).format(_plural(str(rng.choice(world.kinds)))),
        "v": lambda: str(rng.choice(_ABSTRACT)),
        "s": lambda: str(rng.choice(_SHOTS)),
        "n": lambda: with_article(str(absent_name)),
    }
    for slot, name in told.items():
        article = str(rng.choice(["", "the "]))
        template = template.replace(f"{{{slot}}}", f"{article}{name}" if article else with_article(name))
    for slot, fill in fillers.items():
        while f"{{{slot}}}" in template:
            template = template.replace(f"{{{slot}}}", fill(), 1)
    return template[0].upper() + template[1:], {name: names[name] for name in told.values()}, absent


def _plural(name: str) -> str:
    """
    >>> _plural("star"), _plural("cross")
    ('stars', 'crosses')
    """
    return name + ("es" if name.endswith(("s", "x", "z", "ch", "sh")) else "s")


class FaultyPair:
    """A phrase of a video, with the fault that is put into it; the same seed gives the same.

    Args:
        video: what is true.
        text: the phrase.
        faults: how often which is drawn.
        seed: of the draws.
    """

    def __init__(self, video: TrueVideo, text: str, faults: Faults, seed: int) -> None:
        self.video, self.text, self._seed = video, text.lower(), seed
        self.target = video.objects.get(self.text)
        rng = self.rng("fault")
        self.fault = faults.draw(rng) if self.target is not None else "absent"
        others = [index for index in range(video.boxes_xyxy_norm.shape[1]) if index != self.target]
        seen = np.isfinite(video.boxes_xyxy_norm[..., 0]).mean(axis=0)
        self.other = max(others, key=lambda index: (seen[index] > MIN_SHARE_SEEN, rng.random()))

    def rng(self, what: str | int) -> np.random.Generator:
        """Draws for one purpose."""
        return np.random.default_rng((self._seed, zlib.crc32(f"{self.video.video_id}/{self.text}/{what}".encode())))

    def detect(self, frame_idx: int) -> Detection:
        """What the oracle says of a frame."""
        rng = self.rng(frame_idx)
        late = frame_idx > 0
        wrong = self.fault in ("absent", "wrong_always", "wrong_late" if late else "wrong_first")
        boxes = self.video.boxes_xyxy_norm[frame_idx]
        index = self.other if wrong or self.target is None else self.target
        shape = (6.0, 4.0) if wrong else (12.0, 2.5)
        if not np.isfinite(boxes[index, 0]) or (self.target is None and rng.random() < 0.5):
            index, shape = int(rng.choice(np.flatnonzero(np.isfinite(boxes[:, 0])))), (2.0, 6.0)
        return Detection(frame_idx, _jittered(boxes[index], rng), float(rng.beta(*shape)))

    def spoil(self, trajectory: Trajectory) -> Trajectory:
        """A tracker's trajectory with the fault in it."""
        rng, length = self.rng("trajectory"), len(trajectory.frame_indices)
        boxes, scores = trajectory.boxes_xyxy_norm.copy(), trajectory.scores.copy()
        start = int(rng.integers(1, max(2, length // 2)))
        if self.fault == "drift":
            angle, sides = rng.uniform(0, 2 * np.pi), rng.uniform(1, 2.5)
            way = np.clip((np.arange(length) - start) / (length - 1 - start), 0, None)[:, None]
            shift = way * sides * np.array([np.cos(angle), np.sin(angle)]) * (boxes[:1, 2:] - boxes[:1, :2])
            boxes = np.clip(boxes + np.tile(shift, 2), 0, 1)
        elif self.fault == "swap":
            start = int(rng.integers(length // 4, max(length // 4 + 1, 3 * length // 4)))
            for frame_idx in range(start, length):
                other = self.video.boxes_xyxy_norm[frame_idx, self.other]
                boxes[frame_idx] = _jittered(other, rng) if np.isfinite(other[0]) else np.nan
        elif self.fault == "lost":
            boxes[start:] = np.nan
        boxes[~(boxes[:, :2] < boxes[:, 2:]).all(axis=1)] = np.nan
        scores[np.isnan(boxes[:, 0])] = 0.0
        return Trajectory(trajectory.frame_indices, boxes, scores)


def _jittered(box: NDArray[np.float64], rng: np.random.Generator) -> Box:
    """A box with noise on its edges, inside the picture."""
    sides = np.tile(box[2:] - box[:2], 2)
    x1, y1, x2, y2 = np.clip(box + np.clip(rng.normal(0, _JITTER, 4), -0.2, 0.2) * sides, 0, 1).tolist()
    return x1, y1, x2, y2


class FaultyWorld:
    """Detector and tracker with faults; the tracker knows which pair a first box is of by what the detector gave.

    Args:
        videos: what is true, by name.
        tracker: that follows boxes until a fault is put in.
        faults: how often which is drawn.
        seed: of the draws.
    """

    def __init__(self, videos: dict[str, TrueVideo], tracker: BoxTracker, faults: Faults, seed: int) -> None:
        self._videos, self._tracker, self._faults, self._seed = videos, tracker, faults, seed
        self.pairs: dict[tuple[str, str], FaultyPair] = {}
        self.trajectories: dict[tuple[str, str], Trajectory] = {}
        self._by_first_box: dict[Box, tuple[str, str]] = {}

    def detect(self, queries: Sequence[Query]) -> list[list[Detection]]:
        """One box for each query."""
        return [[self._detect(query)] for query in queries]

    def _detect(self, query: Query) -> Detection:
        key = (query.video_id, query.text.lower())
        if key not in self.pairs:
            self.pairs[key] = FaultyPair(self._videos[query.video_id], query.text, self._faults, self._seed)
        found = self.pairs[key].detect(query.frame_idx)
        if query.frame_idx == 0:
            self._by_first_box[found.box_xyxy_norm] = key
        return found

    def follow(self, frames: NDArray[np.uint8], boxes_xyxy_norm: Sequence[Box]) -> list[Trajectory]:
        """A trajectory for each box; without faults where the detector did not give it, as when tracking back."""
        found = []
        for box in boxes_xyxy_norm:
            key = self._by_first_box.get(box)
            if key is None:
                found += self._tracker.follow(frames, [box])
                continue
            if key not in self.trajectories:
                (trajectory,) = self._tracker.follow(frames, [box])
                self.trajectories[key] = self.pairs[key].spoil(trajectory)
            found.append(self.trajectories[key])
        return found
