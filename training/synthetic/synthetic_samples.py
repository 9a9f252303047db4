"""Rows of the synthetic world, rendered when they are asked for; nothing is stored."""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elysium.readers.frame_sources import DatasetError, Picture
from elysium.readers.samples import Sample

from .dataset import ClipShape
from .expressions import description, referring_expressions, simple_questions
from .render import RenderedClip, render_clip
from .scene import Scene, SceneConfig, World
from .sprite_bank import PARTS, Part, SpriteBank
from .sprite_world import SpriteWorld

NAME = "synthetic"
ABOUT = ("objects", "questions")
_TRIES = 16  # scenes of a row until one has something to ask; one in 25 has nothing


class ArrayFrames:
    """Frames in memory.

    Args:
        frames (`np.ndarray` of shape `(T, H, W, 3)`): uint8 RGB.
    """

    def __init__(self, frames: NDArray[np.uint8]) -> None:
        self._frames = frames

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[Picture]:
        return iter(self._frames)

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Those frames, `(n, H, W, 3)`."""
        return self._frames[list(indices)]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width = self._frames.shape[1:3]
        return width, height


class SyntheticSamples:
    """One row for each clip: row i is drawn from (seed, i) alone, whatever the count.

    Args:
        count: rows.
        seed: of the world and its scenes; another one than evaluation's, so that its pictures were never seen.
        frames: of a clip; 1 gives pictures.
        width: of a frame in pixels.
        height: of a frame in pixels.
        about: "objects" gives one object of each clip with its boxes and words (an object without a name has no
            words), "questions" gives questions on the scene as turns.
        bank: of cut-outs and photographs, the file that `fetch_sprites` writes; by default coloured shapes are drawn.
        part: of the bank, "train", "seen_classes" or "held_out_classes".

    Raises:
        DatasetError: another value of ``about`` or ``part``, questions on a bank (they are about colours and shapes),
            no bank where one is named, or a count or shape without anything in it.
    """

    name = NAME

    def __init__(
        self,
        *,
        count: int,
        seed: int = 0,
        frames: int = 16,
        width: int = 320,
        height: int = 240,
        about: str = "objects",
        bank: str = "",
        part: Part = "train",
    ) -> None:
        if about not in ABOUT:
            raise DatasetError(f"about must be {' or '.join(ABOUT)}, got {about!r}")
        if count < 1 or seed < 0:
            raise DatasetError(f"count must be 1 or more and seed 0 or more, got {count} and {seed}")
        if part not in PARTS or (bank and about == "questions"):
            raise DatasetError(
                f"a bank must be asked for objects of {', '.join(PARTS)}, got {about} of {part}; questions need shapes"
            )
        if bank and not os.path.isfile(Path(bank)):
            raise DatasetError(
                f"a bank of sprites must be an existing file, got {bank}; run "
                "python -m elysium.training.synthetic.fetch_sprites"
            )
        try:
            self._shape = ClipShape(num_frames=frames, width=width, height=height)
        except ValueError as error:
            raise DatasetError(str(error)) from error
        self._count, self._seed, self._about = count, seed, about
        self._bank, self._part = bank, part
        self._config = SceneConfig(num_objects=(3, 6), share_twins=0.1, share_leaving=0.2)

    @cached_property
    def _world(self) -> World:
        """Built by the process that renders: it takes about two seconds and 160 MB."""
        return (
            SpriteWorld(SpriteBank.load(self._bank), self._seed, part=self._part) if self._bank else World(self._seed)
        )

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._count:
            raise IndexError(f"a row's index must be from 0 to {self._count - 1}, got {index}")
        return self._questions(index) if self._about == "questions" else self._object(index)

    def _render(self, scene: Scene) -> RenderedClip:
        return render_clip(scene, self._shape.num_frames, (self._shape.width, self._shape.height))

    def _questions(self, index: int) -> Sample:
        for number in range(_TRIES):
            scene = self._world.sample(index * _TRIES + number, self._config)
            pairs = simple_questions(scene)
            if pairs:
                return Sample(
                    source=NAME,
                    key=f"{self._seed}/{index}/questions",
                    frames=ArrayFrames(self._render(scene).frames),
                    turns=tuple(pairs),
                )
        raise DatasetError(f"a scene must have something to ask, got none in row {index}; use another seed")

    def _object(self, index: int) -> Sample:
        scene = self._world.sample(index * _TRIES, self._config)
        clip = self._render(scene)
        rng = np.random.default_rng((self._seed, 21, index))
        chosen, expressions = _choose(scene, clip, rng)
        boxes = clip.boxes_xyxy_norm[:, chosen].astype(np.float64)
        boxes[~clip.visible[:, chosen]] = np.nan
        return Sample(
            source=NAME,
            key=f"{self._seed}/{index}",
            frames=ArrayFrames(clip.frames),
            boxes_xyxy_norm=boxes,
            text=str(rng.choice(expressions)) if expressions else None,
            description=description(scene, scene.tracked[chosen]),
        )


def _choose(scene: Scene, clip: RenderedClip, rng: np.random.Generator) -> tuple[int, list[str]]:
    """An object that can be seen, rather one that words single out, and those words."""
    objects = range(clip.visible.shape[1])
    words = [referring_expressions(scene, o, clip.boxes_xyxy_norm, clip.visible) for o in objects]
    seen = [o for o in objects if clip.visible[:, o].any()] or list(objects)
    chosen = int(rng.choice([o for o in seen if words[o]] or seen))
    return chosen, words[chosen]
