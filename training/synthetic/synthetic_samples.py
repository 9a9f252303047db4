"""Samples of the synthetic world, rendered when they are read; nothing is stored."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from elysium.processing.data_files import DatasetError
from elysium.readers.samples import Sample

from .dataset import CLIP_SCENE, ClipShape
from .expressions import referring_expressions, simple_questions
from .render import RenderedClip, render_clip
from .scene import Scene, World

NAME = "synthetic"
ABOUT = ("objects", "questions")
_TRIES = 16  # scenes of a sample until one has something to ask; one in 25 has nothing


class ArrayFrames:
    """Frames in memory.

    Args:
        frames (`np.ndarray` of shape `(T, H, W, 3)`): uint8 RGB.
    """

    def __init__(self, frames: NDArray[np.uint8]) -> None:
        self._frames = frames

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return iter(self._frames)

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Return some frames, `(n, H, W, 3)`."""
        return self._frames[list(indices)]

    @property
    def size(self) -> tuple[int, int]:
        """Return width and height in pixels."""
        height, width = self._frames.shape[1:3]
        return width, height


class SyntheticSamples:
    """Render one sample for each clip: sample i is drawn from (seed, i) alone, whatever the count.

    Args:
        count: number of samples.
        seed: of the world and its scenes; another one than evaluation's, so that its images were never seen.
        shape: of a clip; one frame gives an image.
        about: "objects" gives one object of each clip with its boxes and an expression (an unnamed object has none),
            "questions" gives questions on the scene as turns.

    Raises:
        DatasetError: another value of ``about``, or a count or seed out of range.
    """

    name = NAME

    def __init__(self, *, count: int, seed: int = 0, shape: ClipShape | None = None, about: str = "objects") -> None:
        if about not in ABOUT:
            raise DatasetError(f"about must be {' or '.join(ABOUT)}, got {about!r}")
        if count < 1 or seed < 0:
            raise DatasetError(f"count must be 1 or more and seed 0 or more, got {count} and {seed}")
        self._count, self._seed, self._shape, self._about = count, seed, shape or ClipShape(), about

    @cached_property
    def _world(self) -> World:
        """Return the world; built by the process that renders, since it takes about two seconds and 160 MB."""
        return World(self._seed)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._count:
            raise IndexError(f"a sample's index must be from 0 to {self._count - 1}, got {index}")
        return self._questions(index) if self._about == "questions" else self._object(index)

    def _render(self, scene: Scene) -> RenderedClip:
        return render_clip(scene, self._shape.num_frames, (self._shape.width, self._shape.height))

    def _questions(self, index: int) -> Sample:
        for number in range(_TRIES):
            scene = self._world.sample(index * _TRIES + number, CLIP_SCENE)
            turns = tuple(simple_questions(scene))
            if turns:
                frames = ArrayFrames(self._render(scene).frames)
                return Sample(source=NAME, key=f"{self._seed}/{index}/questions", frames=frames, turns=turns)
        raise DatasetError(f"a scene must have something to ask, got none in sample {index}; use another seed")

    def _object(self, index: int) -> Sample:
        """Return an object that is visible, preferably one with an expression."""
        scene = self._world.sample(index * _TRIES, CLIP_SCENE)
        clip = self._render(scene)
        rng = np.random.default_rng((self._seed, 21, index))
        objects = range(clip.visible.shape[1])
        expressions = [referring_expressions(scene, o, clip.boxes_xyxy_norm, clip.visible) for o in objects]
        seen = [o for o in objects if clip.visible[:, o].any()] or list(objects)
        chosen = int(rng.choice([o for o in seen if expressions[o]] or seen))
        boxes = clip.boxes_xyxy_norm[:, chosen].astype(np.float64)
        boxes[~clip.visible[:, chosen]] = np.nan
        return Sample(
            source=NAME,
            key=f"{self._seed}/{index}",
            frames=ArrayFrames(clip.frames),
            boxes_xyxy_norm=boxes,
            text=str(rng.choice(expressions[chosen])) if expressions[chosen] else None,
            description=scene.objects[scene.tracked[chosen]].name,
        )
