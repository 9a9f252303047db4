"""The clips of `tracking_table`: groups of scenes that nothing was trained on, and real clips with true boxes.

A scene is new by the seed of its world; its cut-outs and photographs are those that the bank holds out, but for the
group `taught`. A target can be seen by 60% or more in frame 1, and in half of the frames after it.
"""

import dataclasses
import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import ROOT
from elysium.processing.structures import VideoClip
from elysium.processing.video_io import read_video
from elysium.training.synthetic import (
    RenderedClip,
    Scene,
    SceneConfig,
    referring_expressions,
    render_clip,
)
from research.scenes.questions import scene_questions
from research.scenes.sprite_bank import Part, SpriteBank
from research.scenes.sprite_world import SpriteMix, SpriteWorld

REAL_CLIPS = ROOT / "tests" / "fixtures" / "real_clips"
FPS = 10.0
# Of the world, and of each group's first scene; training and the other benchmarks use others.
WORLD_SEEDS = {"headline": 900_061, "selection": 900_067}
FIRST_SCENE_SEED, SCENES_OF_A_GROUP = 960_000_000, 1_000_000
MIN_FIRST_FRACTION = 0.6
MIN_SHARE_SEEN = 0.5
SMALL_SIDE = 0.08
# Hidden: by so much of its area behind others, in so many of the frames after the first.
HIDDEN_PART, HIDDEN_SHARE = 0.3, 0.2
# Away: out of sight for so many frames without a break, and in sight for as many before and after.
AWAY_FRAMES = 5
# So many scenes without a clip mean that the bank has none.
_SCENES_IN_VAIN = 2000
_SCENE = SceneConfig(num_objects=(3, 6), side=(0.14, 0.42), speed=(0.005, 0.04), share_leaving=0.2)
_HELD_OUT: tuple[Part, ...] = ("seen_classes", "held_out_classes")


@dataclass(frozen=True, eq=False)
class Clip:
    """A video and the object that is followed in it.

    Args:
        name: unique.
        video: T frames.
        boxes_xyxy_px (`np.ndarray` of shape `(T, 4)`): of its visible part, NaN where it is out of sight.
        words: that fit it alone, by what frame 1 shows; None where there are none.
        target: what it is, such as "reddish tiger"; None where it has no name.
        questions: on the video, with their answers.
        phrasings: several expressions that each fit it alone, `words` first; empty where there is one at most.
    """

    name: str
    video: VideoClip
    boxes_xyxy_px: NDArray[np.float64]
    words: str | None
    target: str | None = None
    questions: list[tuple[str, str]] = field(default_factory=list)
    phrasings: tuple[str, ...] = ()

    @property
    def first_box_xyxy_px(self) -> tuple[float, ...]:
        """The true box of frame 1."""
        return tuple(self.boxes_xyxy_px[0].tolist())

    @property
    def visible(self) -> NDArray[np.bool_]:
        """Where the object can be seen: `(T,)`."""
        return np.asarray(np.isfinite(self.boxes_xyxy_px[:, 0]))


@dataclass(frozen=True, eq=False)
class Candidate:
    """An object of a rendered scene.

    Args:
        name: unique.
        scene: with all its objects.
        clip: the scene rendered.
        index: the object's place among the tracked ones.
        words: that fit it alone, by what frame 1 shows; None where there are none.
        absent_name: of something that the scene does not hold.
    """

    name: str
    scene: Scene
    clip: RenderedClip
    index: int
    words: str | None
    absent_name: str | None

    @property
    def sides(self) -> NDArray[np.float64]:
        """Side of a square of the box's area, over that of the picture's area: `(T,)`, 0 where it is out of sight."""
        boxes = self.clip.boxes_xyxy_norm[:, self.index].astype(np.float64)
        return np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))

    @property
    def hidden(self) -> NDArray[np.float64]:
        """The part of its area that lies behind others, without what lies outside of the picture: `(T,)`."""
        alone = dataclasses.replace(self.scene, objects=[self.scene.objects[self.scene.tracked[self.index]]])
        num_frames, height, width, _ = self.clip.frames.shape
        uncovered = render_clip(alone, num_frames, (width, height)).visible_fraction[:, 0]
        return np.asarray(uncovered - self.clip.visible_fraction[:, self.index], dtype=np.float64)

    @property
    def twins(self) -> list[int]:
        """Other tracked objects of its class, by their places."""
        kinds = [self.scene.objects[place].sprite.kind for place in self.scene.tracked]
        return [i for i, kind in enumerate(kinds) if kind == kinds[self.index] and i != self.index and kind]


def is_small(candidate: Candidate) -> bool:
    """Never as large as 8% of the picture's scale."""
    return bool(candidate.sides.max() < SMALL_SIDE)


def is_hidden(candidate: Candidate) -> bool:
    """Behind others by 30% or more in a fifth of the frames after the first."""
    return bool((candidate.hidden[1:] >= HIDDEN_PART).mean() >= HIDDEN_SHARE)


def is_away(candidate: Candidate) -> bool:
    """Out of sight for 5 frames or more, after 5 frames in sight and before 5 others."""
    visible = candidate.clip.visible[:, candidate.index]
    turns = np.flatnonzero(np.diff(visible)) + 1
    spans = [(bool(part[0]), len(part)) for part in np.split(visible, turns)]
    return any(
        not middle[0] and min(before[1], middle[1], after[1]) >= AWAY_FRAMES
        for before, middle, after in zip(spans, spans[1:], spans[2:], strict=False)
    )


def has_twin(candidate: Candidate) -> bool:
    """Another object of its class can be seen in frame 1, and in half of the frames after it."""
    visible = candidate.clip.visible[:, candidate.twins]
    return bool((visible[0] & (visible[1:].mean(axis=0) >= MIN_SHARE_SEEN)).any()) if candidate.twins else False


@dataclass(frozen=True, kw_only=True)
class Group:
    """Clips with a property.

    Args:
        title: for tables.
        parts: of the bank, one clip from each in turn.
        config: of the scenes.
        mix: of the scenes.
        needs_words: leave out targets without an expression.
        fits: the property of a target.
    """

    title: str
    parts: tuple[Part, ...]
    config: SceneConfig = _SCENE
    mix: SpriteMix = SpriteMix()
    needs_words: bool = True
    fits: Callable[[Candidate], bool] = lambda candidate: True


GROUPS = {
    "seen": Group(title="seen classes", parts=("seen_classes",)),
    "unseen": Group(title="unseen classes", parts=("held_out_classes",)),
    # Few names have a cut-out to hold out: here are all of them, as they were learned, over grounds that are new.
    "taught": Group(title="taught cut-outs", parts=("train",), mix=SpriteMix(share_photos=0.0)),
    "small": Group(
        title="small objects",
        parts=_HELD_OUT,
        config=dataclasses.replace(_SCENE, side=(0.045, 0.085), speed=(0.002, 0.01), share_occluded=0.1),
        needs_words=False,
        fits=is_small,
    ),
    "occlusion": Group(
        title="occlusion",
        parts=_HELD_OUT,
        config=dataclasses.replace(_SCENE, share_leaving=0.0, share_occluded=1.0),
        needs_words=False,
        fits=is_hidden,
    ),
    "distractors": Group(
        title="same class beside it",
        parts=_HELD_OUT,
        mix=SpriteMix(share_named=0.9, share_same_class=1.0),
        fits=has_twin,
    ),
    "away": Group(
        title="leaves and comes back",
        parts=_HELD_OUT,
        config=dataclasses.replace(_SCENE, speed=(0.02, 0.06), share_leaving=1.0),
        needs_words=False,
        fits=is_away,
    ),
}


class ClipMaker:
    """Draws the clips of groups; the same bank and seed give the same clips.

    Args:
        bank: cut-outs and photographs.
        seed: of the worlds.
        num_frames: T.
        width, height: of the frames in pixels.
        names: that were taught; all of the bank's by default.
    """

    def __init__(
        self,
        bank: SpriteBank,
        seed: int,
        *,
        num_frames: int,
        width: int,
        height: int,
        names: Collection[str] | None = None,
    ) -> None:
        self.bank, self.seed, self.names = bank, seed, names
        self.num_frames, self.size = num_frames, (width, height)
        self._worlds: dict[tuple[Part, SpriteMix], SpriteWorld] = {}

    def clips(self, name: str, number: int) -> list[Clip]:
        """The first clips of a group, as `candidates`."""
        return [as_clip(candidate) for candidate in self.candidates(name, number)]

    def candidates(self, name: str, number: int) -> Iterator[Candidate]:
        """The targets of the first clips of a group.

        Args:
            name: one of `GROUPS`.
            number: how many.

        Raises:
            ValueError: the bank has no such clips.
        """
        streams = [self._stream(name, part) for part in GROUPS[name].parts]
        return (next(streams[place % len(streams)]) for place in range(number))

    def _stream(self, name: str, part: Part) -> Iterator[Candidate]:
        group, in_vain = GROUPS[name], 0
        world = self._world(part, group.mix)
        for seed in count(FIRST_SCENE_SEED + SCENES_OF_A_GROUP * list(GROUPS).index(name)):
            found = self._find(world, world.sample(seed, group.config), group, f"{name} {part} {seed}")
            in_vain = in_vain + 1 if found is None else 0
            if found is not None:
                yield found
            if in_vain == _SCENES_IN_VAIN:
                raise ValueError(
                    f"the bank must have cut-outs of the part {part} for clips of {group.title}, got none in "
                    f"{in_vain} scenes of {self.num_frames} frames; give a larger bank or longer clips"
                )

    def _world(self, part: Part, mix: SpriteMix) -> SpriteWorld:
        if (part, mix) not in self._worlds:
            sizes = {"num_backgrounds": 32, "num_unnamed": 80}
            world = SpriteWorld(self.bank, self.seed, part=part, mix=mix, names=self.names, **sizes)
            self._worlds[part, mix] = world
        return self._worlds[part, mix]

    def _find(self, world: SpriteWorld, scene: Scene, group: Group, name: str) -> Candidate | None:
        """A scene's first target that fits."""
        start = render_clip(scene, 1, self.size)
        names = [scene.objects[place].name for place in scene.tracked]
        chosen = np.flatnonzero(start.visible_fraction[0] >= MIN_FIRST_FRACTION).tolist()
        chosen = [index for index in chosen if names[index] is not None or not group.needs_words]
        if not chosen:
            return None
        clip = render_clip(scene, self.num_frames, self.size)
        other = world.absent_name(scene, np.random.default_rng((self.seed, 41, scene.seed)))
        for index in chosen:
            expressions = referring_expressions(scene, index, clip.boxes_xyxy_norm, clip.visible)
            words = next((said for said in expressions if "moving" not in said), None)  # frame 1 shows no motion
            if clip.visible[1:, index].mean() < MIN_SHARE_SEEN or (group.needs_words and words is None):
                continue
            candidate = Candidate(name, scene, clip, index, words, other)
            if group.fits(candidate):
                return candidate
        return None


def as_clip(candidate: Candidate) -> Clip:
    """What trackers get of a candidate, and its truth."""
    clip, index = candidate.clip, candidate.index
    _, height, width, _ = clip.frames.shape
    boxes_px = np.round(
        clip.boxes_xyxy_norm[:, index].astype(np.float64) * [width, height, width, height]
    )  # edges of pixels
    return Clip(
        name=candidate.name,
        video=VideoClip.from_frames(clip.frames, fps=FPS),
        boxes_xyxy_px=np.where(clip.visible[:, index, None], boxes_px, np.nan),
        words=candidate.words,
        target=candidate.scene.objects[index].name,
        questions=scene_questions(candidate.scene, clip.boxes_xyxy_norm, clip.visible, candidate.absent_name),
    )


def real_clips(split: str, folder: Path = REAL_CLIPS) -> list[Clip]:
    """Return the real clips of a split.

    Args:
        split: "headline" or "selection".
        folder: of `index.json`.

    Raises:
        ValueError: a clip has another number of boxes than of frames.
    """
    entries = json.loads((folder / "index.json").read_text("utf-8"))["clips"]
    return [read_real_clip(entry, folder) for entry in entries if entry["split"] == split]


def read_real_clip(entry: dict[str, Any], folder: Path = REAL_CLIPS) -> Clip:
    """Read the frames and boxes of an entry of `index.json`; raises as `real_clips`."""
    video = read_video(folder / entry["video"])
    boxes = read_boxes(folder / entry["boxes"])
    if len(boxes) != len(video):
        raise ValueError(
            f"{entry['name']} must have a box or null for each of its {len(video)} frames, got {len(boxes)}; "
            f"restore {folder}"
        )
    phrasings = tuple(entry.get("phrasings", [entry["words"]]))
    return Clip(entry["name"], video, boxes, entry["words"], phrasings=phrasings)


def read_boxes(path: Path) -> NDArray[np.float64]:
    """Boxes of a file with x1, y1, x2, y2 or null for each frame: `(T, 4)`, NaN for null."""
    return np.array([row or [np.nan] * 4 for row in json.loads(path.read_text("utf-8"))], dtype=np.float64)
