"""Scenes of named sprites over photographs and generated backgrounds, moving as in the world of shapes.

A `SpriteWorld` stands where a `StudyWorld` stands: it samples the same `Scene`, and the same renderer draws it.
"""

from collections.abc import Collection
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from elysium.training.synthetic.backgrounds import BACKGROUND_SIDE, halved_twice, make_background
from elysium.training.synthetic.scene import Scene, SceneConfig
from elysium.training.synthetic.sprites import Sprite, make_unnamed
from research.scenes.sprite_bank import Part, SpriteBank, as_sprite, is_held_out_class, model_of
from research.scenes.world import StudyScene, StudyWorld

# What turned colours are called; each keeps a image's light and shade.
_GREY = np.full((3, 3), 1 / 3, np.float32)
ATTRIBUTES: dict[str, NDArray[np.float32]] = {
    "grey": _GREY,
    "dark": 0.4 * np.eye(3, dtype=np.float32),
    "reddish": 0.35 * np.eye(3, dtype=np.float32) + np.diag(np.array([1.9, 0.4, 0.4], np.float32)) @ _GREY,
    "bluish": 0.35 * np.eye(3, dtype=np.float32) + np.diag(np.array([0.4, 0.6, 1.9], np.float32)) @ _GREY,
    "greenish": 0.35 * np.eye(3, dtype=np.float32) + np.diag(np.array([0.5, 1.7, 0.5], np.float32)) @ _GREY,
}


@dataclass(frozen=True, kw_only=True)
class SpriteMix:
    """Composition of a scene of sprites.

    Args:
        share_named: of the objects, sprites with a name (an expression can ask for them).
        share_photos: of the backgrounds, photographs; the others are made up.
        share_same_class: of the scenes, those in which two objects have one name and are told apart by colour, place,
            size or motion.
        share_attribute: of those scenes, the ones in which colour tells them apart.
        share_turned: of the other sprites, those with colours changed a little, unsaid.

    Raises:
        ValueError: a share outside of 0..1.
    """

    share_named: float = 0.6
    share_photos: float = 0.7
    share_same_class: float = 0.3
    share_attribute: float = 0.5
    share_turned: float = 0.5

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in 0..1, got {value}")


class SpriteWorld(StudyWorld):
    """Samples scenes from one part of a bank.

    Args:
        bank: sprites and photographs.
        seed: of the made-up backgrounds and unnamed sprites, and of the scenes.
        part: which sprites and photographs: those to learn from, or those that were held out.
        mix: what scenes are made of.
        num_backgrounds: made-up backgrounds, beside the photographs.
        num_unnamed: made-up unnamed sprites, textured by the backgrounds.
        names: trained ones (held-out classes keep theirs); sprites of other names stay, nameless. None: all.
    """

    def __init__(
        self,
        bank: SpriteBank,
        seed: int,
        *,
        part: Part = "train",
        mix: SpriteMix | None = None,
        num_backgrounds: int = 64,
        num_unnamed: int = 160,
        names: Collection[str] | None = None,
    ) -> None:
        rng = np.random.default_rng((seed, 5))
        self.seed, self.bank, self.mix = seed, bank, mix or SpriteMix()
        self.photos = [_photo_levels(bank.backgrounds[place]) for place in bank.chosen_backgrounds(part)]
        self.made = [make_background(rng) for _ in range(num_backgrounds)]
        self.backgrounds = self.photos + self.made
        self.unnamed = [make_unnamed(rng, self._texture(rng)) for _ in range(num_unnamed)]
        kept = set(bank.names) if names is None else {*names, *filter(is_held_out_class, bank.names)}
        self._names = [name if name in kept else "" for name in bank.names]
        # A model is drawn as often as a sprite of one view; its first view stands for all of them.
        views: dict[str | int, list[int]] = {}
        for place in bank.chosen(part):
            key = bank.keys[place]
            views.setdefault(model_of(key) if "#" in key else place, []).append(place)
        self._views = {each[0]: each for each in views.values()}
        self.named = [place for place in self._views if self._names[place]]
        self.nameless = [place for place in self._views if not self._names[place]]

    @property
    def colours(self) -> list[str]:
        """Words for colours that sprites may be turned to."""
        return list(ATTRIBUTES)

    @property
    def kinds(self) -> list[str]:
        """Names of the sprites of this part."""
        return sorted({self._names[place] for place in self.named})

    def absent_name(self, scene: Scene, rng: np.random.Generator) -> str | None:
        """A name of this part that nothing in the scene has; None where there is none."""
        shown = {item.sprite.kind for item in scene.objects}
        others = [place for place in self.named if self._names[place] not in shown]
        return self._names[others[rng.integers(len(others))]] if others else None

    def sample(self, seed: int, config: SceneConfig) -> StudyScene:
        """The scene of a seed; objects of one name at most twice."""
        rng = np.random.default_rng((self.seed, 6, seed))
        count = int(rng.integers(config.num_objects[0], config.num_objects[1] + 1))
        sprites = self._draw_sprites(rng, count)
        use_photo = bool(self.photos) and rng.random() < self.mix.share_photos
        backgrounds = self.photos if use_photo else self.made
        return self._build_scene(rng, sprites, backgrounds, config, seed)

    def _draw_sprites(self, rng: np.random.Generator, count: int) -> list[Sprite]:
        num_named = int(rng.binomial(count, self.mix.share_named)) if self.named else 0
        chosen: list[int] = []
        for place in rng.permutation(self.named)[: 4 * num_named].tolist():
            if len(chosen) < num_named and self._names[place] not in {self._names[p] for p in chosen}:
                chosen.append(place)
        attributes: list[str | None] = [None] * len(chosen)
        if len(chosen) >= 2 and rng.random() < self.mix.share_same_class:
            name = self._names[chosen[0]]
            chosen[1] = int(rng.choice([place for place in self.named if self._names[place] == name]))
            if rng.random() < self.mix.share_attribute:
                first, second = rng.permutation(list(ATTRIBUTES))[:2].tolist()
                attributes[0], attributes[1] = first, second
        sprites = [self._sprite(rng, place, attribute) for place, attribute in zip(chosen, attributes, strict=True)]
        for _ in range(count - len(sprites)):
            sprites.append(self._nameless_sprite(rng))
        return sprites

    def _nameless_sprite(self, rng: np.random.Generator) -> Sprite:
        if self.nameless and rng.random() < 0.7:
            return self._sprite(rng, int(rng.choice(self.nameless)), None)
        return super()._nameless_sprite(rng)

    def _sprite(self, rng: np.random.Generator, place: int, attribute: str | None) -> Sprite:
        views, colours = self._views[place], None
        if len(views) > 1:
            place = int(rng.choice(views))
        if attribute is not None:
            colours = ATTRIBUTES[attribute]
        elif rng.random() < self.mix.share_turned:
            light = rng.uniform(0.75, 1.2)
            colours = (light * np.eye(3) + 0.07 * rng.standard_normal((3, 3))).astype(np.float32)
        return as_sprite(self.bank.sprites[place], self._names[place], colours=colours, attribute=attribute)


def _photo_levels(image: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """A photograph as backgrounds are drawn: a square, whole, halved and quartered."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = cv2.resize(
        image[top : top + side, left : left + side], (BACKGROUND_SIDE, BACKGROUND_SIDE), interpolation=cv2.INTER_AREA
    )
    return halved_twice(square)
