"""The frozen clips of `eval_v1`: which scenes, which target, and a fingerprint that tells when the generator changed.

    python -m research.eval_v1.scenes               # checks all 500 clips and says what is in them, without a model
    python -m research.eval_v1.scenes --freeze      # writes scenes.sha256 anew: only for a new version of the clips

Every constant here is part of the definition. The banks of `EVAL_WORLD_SEED` are drawn for this alone, so that none of
its backgrounds, cut-outs and scenes was ever trained on.
"""

import argparse
import hashlib
import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track as progress_bar

from elysium.processing.atomic_files import atomic_path
from elysium.processing.overlap import paired_iou
from elysium.processing.structures import VideoClip
from elysium.training.synthetic import (
    RenderedClip,
    Scene,
    SceneConfig,
    World,
    referring_expressions,
    render_clip,
)
from elysium.training.synthetic.render import NOBODY

EVAL_WORLD_SEED = 900_001
FIRST_SCENE_SEED = 900_000_000
NUM_CLIPS = 500
WIDTH, HEIGHT = 320, 240
FPS = 10.0
LONG_FRAMES = 64
SHORT_FRAMES = 8
MIN_OBJECTS = 4
MIN_FIRST_FRACTION = 0.6
OCCLUDED_BELOW = 0.9
SCENE = SceneConfig(
    num_objects=(4, 6),
    side=(0.16, 0.42),
    speed=(0.012, 0.05),
    share_unnamed=0.2,
    share_leaving=0.2,
    share_occluded=0.5,
    share_camera_motion=1.0,
)
FINGERPRINTS = Path(__file__).with_name("scenes.sha256")


@dataclass(frozen=True, eq=False)
class EvalClip:
    """One clip of 64 frames and its target; the task over 8 frames takes the first 8.

    Args:
        number: 0-based among the 500.
        seed: of the scene.
        name: what the target is, such as "red circle".
        expression: words that fit the target alone, such as "the red circle".
        frames (`np.ndarray` of shape `(T, H, W, 3)`): uint8 RGB.
        boxes_xyxy_px (`np.ndarray` of shape `(T, 4)`): of the target's visible part, NaN where not visible.
        visible (`np.ndarray` of shape `(T,)`): at least 12% of the target can be seen.
        visible_fraction (`np.ndarray` of shape `(T,)`): of the target's area.
        on_objects (`np.ndarray` of shape `(8, H, W)`): bool, the pixels of tracked objects in the first 8 frames.
        fingerprint: SHA-256 over the scene's seed, the target, its expression and the boxes of all tracked objects.
    """

    number: int
    seed: int
    name: str
    expression: str
    frames: NDArray[np.uint8]
    boxes_xyxy_px: NDArray[np.float64]
    visible: NDArray[np.bool_]
    visible_fraction: NDArray[np.float32]
    on_objects: NDArray[np.bool_]
    fingerprint: str

    @property
    def first_box_xyxy_px(self) -> tuple[float, float, float, float]:
        """The true box of frame 1."""
        x1, y1, x2, y2 = self.boxes_xyxy_px[0].tolist()
        return x1, y1, x2, y2

    def video(self, num_frames: int) -> VideoClip:
        """The first frames as the tracker takes them."""
        return VideoClip.from_frames(self.frames[:num_frames], fps=FPS)


def find_target(scene: Scene, first: RenderedClip) -> int | None:
    """The first tracked object that can be asked for: the target of the scene, None where the scene does not qualify.

    It has a name that no other has, at least 60% of it can be seen in frame 1, and there, too, another object of its
    colour and another of its kind can be seen.

    Args:
        scene: with all its objects.
        first: its frame 1.
    """
    objects = [scene.objects[index] for index in scene.tracked]
    if len(objects) < MIN_OBJECTS:
        return None
    for index, item in enumerate(objects):
        if item.name is None or first.visible_fraction[0, index] < MIN_FIRST_FRACTION:
            continue
        others = [other for i, other in enumerate(objects) if i != index and other.name and first.visible[0, i]]
        same_colour = any(other.sprite.colour == item.sprite.colour for other in others)
        same_kind = any(other.sprite.kind == item.sprite.kind for other in others)
        unique = sum(other.name == item.name for other in objects) == 1
        if unique and same_colour and same_kind:
            return index
    return None


def eval_clips(count: int = NUM_CLIPS) -> Iterator[EvalClip]:
    """The first so many clips, drawn one by one as they are asked for.

    Raises:
        ValueError: a count outside 1..500.
    """
    if not 1 <= count <= NUM_CLIPS:
        raise ValueError(f"eval_v1 has 1..{NUM_CLIPS} clips, got {count}; ask for as many as there are")
    world = World(EVAL_WORLD_SEED)
    found = 0
    for seed in itertools.count(FIRST_SCENE_SEED):
        scene = world.sample(seed, SCENE)
        target = find_target(scene, render_clip(scene, 1, (WIDTH, HEIGHT)))
        if target is None:
            continue
        yield _build(found, seed, scene, target, render_clip(scene, LONG_FRAMES, (WIDTH, HEIGHT)))
        found += 1
        if found == count:
            return


def _build(number: int, seed: int, scene: Scene, target: int, clip: RenderedClip) -> EvalClip:
    name = str(scene.objects[target].name)
    expression = f"the {name}"
    if expression not in referring_expressions(scene, target, clip.boxes_xyxy_norm, clip.visible):
        raise RuntimeError(
            f"{expression!r} must fit one object alone, scene {seed}; the generator's words have changed"
        )
    boxes_px = np.round(clip.boxes_xyxy_norm.astype(np.float64) * [WIDTH, HEIGHT, WIDTH, HEIGHT])  # pixel edges
    visible = clip.visible[:, target]
    return EvalClip(
        number=number,
        seed=seed,
        name=name,
        expression=expression,
        frames=clip.frames,
        boxes_xyxy_px=np.where(visible[:, None], boxes_px[:, target], np.nan),
        visible=visible,
        visible_fraction=clip.visible_fraction[:, target],
        on_objects=clip.owners[:SHORT_FRAMES] != NOBODY,
        fingerprint=_fingerprint(f"{seed} {target} {expression}", boxes_px, clip.visible),
    )


def _fingerprint(words: str, boxes_xyxy_px: NDArray[np.float64], visible: NDArray[np.bool_]) -> str:
    """SHA-256 over words and whole-pixel boxes (T, O, 4), -1 where not visible."""
    whole = np.where(visible[..., None], boxes_xyxy_px, -1).astype("<i2")
    return hashlib.sha256(words.encode() + repr(whole.shape).encode() + whole.tobytes()).hexdigest()


def fingerprint_lines(fingerprints: Iterable[str]) -> list[str]:
    """Lines of `scenes.sha256`: one for each clip, and last the SHA-256 over all of them."""
    lines = [f"{fingerprint}  clip {number}" for number, fingerprint in enumerate(fingerprints)]
    whole = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return [*lines, f"{whole}  all {len(lines)} clips"]


class FrozenClips:
    """The fingerprints that the clips must have.

    Args:
        path: `scenes.sha256`.

    Raises:
        ValueError: the file holds something else than 500 clips and their sum.
    """

    def __init__(self, path: Path = FINGERPRINTS) -> None:
        lines = path.read_text("utf-8").splitlines()
        self._expected = [line.split()[0] for line in lines[:-1]]
        if len(self._expected) != NUM_CLIPS or fingerprint_lines(self._expected) != lines:
            raise ValueError(
                f"{path} must hold {NUM_CLIPS} fingerprints and their sum; restore it from the repository"
            )
        self.sha256 = lines[-1].split()[0]

    def check(self, clip: EvalClip) -> None:
        """Raises:
        ValueError: the clip is not the one that was frozen.
        """
        if clip.fingerprint != self._expected[clip.number]:
            raise ValueError(
                f"eval_v1 must be as it was frozen, but the boxes or the expression of clip {clip.number} (scene "
                f"{clip.seed}) differ; undo the change of the synthetic world (or of numpy's or OpenCV's drawing), or "
                "give the changed evaluation a new name"
            )


class ClipFacts:
    """What is in the clips, counted as they pass by: occlusion, absence, motion."""

    def __init__(self) -> None:
        self._fraction: list[NDArray[np.float32]] = []
        self._visible: list[NDArray[np.bool_]] = []
        self._repeated: list[NDArray[np.float64]] = []

    def add(self, clip: EvalClip) -> None:
        """Takes one clip in."""
        self._fraction.append(clip.visible_fraction)
        self._visible.append(clip.visible)
        self._repeated.append(paired_iou(np.tile(clip.boxes_xyxy_px[:1], (LONG_FRAMES, 1)), clip.boxes_xyxy_px))

    def summary(self) -> dict[str, float]:
        """Shares of the target's frames, and the mean IoU of the first box repeated over visible frames after it."""
        fraction, visible = np.stack(self._fraction), np.stack(self._visible)
        repeated = np.stack(self._repeated)
        facts: dict[str, float] = {"clips": len(fraction)}
        for length in (SHORT_FRAMES, LONG_FRAMES):
            seen = visible[:, :length]
            occluded = fraction[:, :length] < OCCLUDED_BELOW
            facts[f"share_occluded_{length}"] = round(float(occluded.mean()), 4)
            facts[f"share_occluded_yet_visible_{length}"] = round(float((occluded & seen).mean()), 4)
            facts[f"share_not_visible_{length}"] = round(float(1 - seen.mean()), 4)
            facts[f"repeated_box_iou_{length}"] = round(float(repeated[:, 1:length][seen[:, 1:]].mean()), 4)
        return facts


def main(argv: list[str] | None = None) -> int:
    """Checks or freezes all clips; prints what is in them, last as one line of JSON."""
    parser = argparse.ArgumentParser(description="Checks the 500 clips of eval_v1 and says what is in them.")
    parser.add_argument("--freeze", action="store_true", help=f"write {FINGERPRINTS.name} anew")
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(1)
    frozen = None if arguments.freeze else FrozenClips()
    facts, fingerprints = ClipFacts(), []
    for clip in progress_bar(eval_clips(), "clips", total=NUM_CLIPS):
        if frozen is not None:
            frozen.check(clip)
        facts.add(clip)
        fingerprints.append(clip.fingerprint)
    lines = fingerprint_lines(fingerprints)
    if arguments.freeze:
        with atomic_path(FINGERPRINTS) as part:
            part.write_text("\n".join(lines) + "\n", "utf-8")
    print(json.dumps({"benchmark": "eval_v1_scenes", "sha256": lines[-1].split()[0], **facts.summary()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
