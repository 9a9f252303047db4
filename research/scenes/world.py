"""Scenes that trained elysium-tiny: objects that turn, carry others or are held by arms, compression, frames left out.

`StudyWorld` stands where a `World` stands; with the settings of a `SceneConfig` alone it samples what a `World` does.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from elysium.training.synthetic.scene import (
    ObjectPath,
    Scene,
    SceneConfig,
    SceneObject,
    World,
    draw_wave,
    log_uniform,
    waves,
)
from elysium.training.synthetic.sprites import COLOURS, KINDS, Sprite
from research.scenes.arms import make_arm

# Arms of a world, and the share of them that lie behind what they hold.
_NUM_ARMS = 48
_SHARE_ARM_BEHIND = 0.25
# What passes in front of an object: its size over the object's, the frame at which it hides most, the frames in which
# it crosses. It is not turned back at the image's edges.
_PASSER_SIZE, _PASSING_FRAME, _PASSING_FRAMES = (0.8, 2.5), (1.0, 24.0), (2.0, 16.0)
_SHARE_STILL = 0.5
_OUT_OF_SIGHT = 10.0


@dataclass(frozen=True, kw_only=True)
class StudyConfig(SceneConfig):
    """Distribution of scenes with more in them.

    Args:
        share_compressed: of the scenes, those with the marks of JPEG compression.
        frame_steps: frames of the scene from one frame of a clip to the next; one is drawn.
        share_carried: of pairs of objects, those of which one carries the other.
        share_held: of objects, those that an arm holds, which moves with them.
        turning: deviation of the amplitude by which the logarithm of width over height changes.
        share_passed: of the scenes, those in which something crosses an object in front of it, and leaves.
    """

    share_compressed: float = 0.0
    frame_steps: tuple[int, ...] = (1,)
    share_carried: float = 0.0
    share_held: float = 0.0
    turning: float = 0.0
    share_passed: float = 0.0


@dataclass
class StudyObject(SceneObject):
    """An object that changes its shape, or moves with another."""

    squash: tuple[float, float, float] = (0.0, 0.0, 0.0)  # as pulse, of the logarithm of width over height
    carrier: "StudyObject | None" = None  # moves, turns and scales it
    offset: np.ndarray = field(default_factory=lambda: np.zeros(2))  # (2,) from the carrier's centre, in its sizes

    def path(self, scene: Scene, frames: np.ndarray) -> ObjectPath:
        aspect = self.aspect * np.exp(waves(self.squash, frames))
        if self.carrier is None:
            return super().path(scene, frames)._replace(aspect=aspect)
        wobble = np.stack([waves(self.wobble[axis], frames) for axis in range(2)], axis=1)
        carrier = self.carrier.path(scene, frames)
        turn, place = carrier.angle - self.carrier.angle, self.offset + wobble
        along = (place[:, 0] + 1j * place[:, 1]) * np.exp(1j * turn)  # turned with the carrier
        offset = np.stack([along.real, along.imag], axis=1) * carrier.size[:, None]
        size = self.side / self.carrier.side * carrier.size * np.exp(waves(self.pulse, frames))
        return ObjectPath(carrier.centre + offset, size, self.angle + turn, aspect)


@dataclass
class StudyScene(Scene):
    """A scene with a step between frames, and the quality of its JPEG compression, if any."""

    frame_step: int = 1
    jpeg_quality: int | None = None


class StudyWorld(World):
    """Samples scenes of a `StudyConfig`."""

    @cached_property
    def arms(self) -> list[tuple[Sprite, float]]:
        """Arms, with their lengths over their widths."""
        rng = np.random.default_rng((self.seed, 7))
        return [make_arm(rng) for _ in range(_NUM_ARMS)]

    @property
    def colours(self) -> list[str]:
        """Words for colours that objects of this world may have."""
        return list(COLOURS)

    @property
    def kinds(self) -> list[str]:
        """Names that objects of this world may have."""
        return list(KINDS)

    def absent_name(self, scene: Scene, rng: np.random.Generator) -> str | None:
        """A name that fits nothing in the scene; None where there is none."""
        shown = {item.name for item in scene.objects}
        names = [f"{colour} {kind}" for colour in self.colours for kind in self.kinds]
        others = [name for name in names if name not in shown]
        return str(rng.choice(others)) if others else None

    def _build_scene(
        self,
        rng: np.random.Generator,
        sprites: list[Sprite],
        backgrounds: list[list[np.ndarray]],
        config: SceneConfig,
        seed: int,
    ) -> StudyScene:
        scene = super()._build_scene(rng, sprites, backgrounds, config, seed)
        if not isinstance(config, StudyConfig):
            return StudyScene(**vars(scene))
        step = int(rng.choice(config.frame_steps))
        quality = int(rng.integers(20, 75)) if rng.random() < config.share_compressed else None
        return StudyScene(**vars(scene), frame_step=step, jpeg_quality=quality)

    def _place_all(self, rng: np.random.Generator, sprites: list[Sprite], config: SceneConfig) -> list[SceneObject]:
        speed = log_uniform(rng, config.speed)
        objects = [self._place(rng, sprites[i], speed, config) for i in rng.permutation(len(sprites))]
        if isinstance(config, StudyConfig) and config.share_carried:
            self._carry(rng, objects, config.share_carried)
        if isinstance(config, StudyConfig) and config.share_held:
            objects = self._hold(rng, objects, config.share_held)
        if rng.random() < config.share_occluded:
            objects += [self._occluder(rng, speed) for _ in range(int(rng.integers(1, 3)))]
        if isinstance(config, StudyConfig) and config.share_passed and rng.random() < config.share_passed:
            objects.append(self._passer(rng, objects, config))
        return objects

    def _nameless_sprite(self, rng: np.random.Generator) -> Sprite:
        """A sprite that nobody asks about."""
        return self.unnamed[rng.integers(len(self.unnamed))]

    def _passer(self, rng: np.random.Generator, objects: list[StudyObject], config: StudyConfig) -> StudyObject:
        """Something that crosses one of the objects in front of it, and leaves: a person who walks past.

        Half of the objects that are passed stand still.
        """
        passed = [item for item in objects if isinstance(item, StudyObject) and item.tracked and item.carrier is None]
        item = passed[rng.integers(len(passed))]
        if rng.random() < _SHARE_STILL:
            item.velocity = np.zeros(2)
        passer = self._place(rng, self._nameless_sprite(rng), 0.01, config)
        passer.side = min(item.side * log_uniform(rng, _PASSER_SIZE), 0.9)
        passer.aspect = float(np.exp(rng.normal(-0.4, 0.4)))  # rather tall
        direction = rng.choice([-1, 1]) * np.array([1.0, rng.normal(0, 0.2)])
        middle, covered = log_uniform(rng, _PASSING_FRAME), log_uniform(rng, _PASSING_FRAMES)
        crossing = direction * (item.side + passer.side) / covered
        passer.start = item.start + np.array([0.0, rng.normal(0, 0.2) * item.side]) - crossing * middle
        passer.velocity, passer.depth, passer.reach = item.velocity + crossing, item.depth, _OUT_OF_SIGHT
        passer.tracked = False
        return passer

    def _place(self, rng: np.random.Generator, sprite: Sprite, speed: float, config: SceneConfig) -> StudyObject:
        placed = StudyObject(**vars(super()._place(rng, sprite, speed, config)))
        if isinstance(config, StudyConfig) and config.turning:
            placed.squash = draw_wave(rng, config.turning)
        return placed

    def _carry(self, rng: np.random.Generator, objects: list[StudyObject], share: float) -> None:
        """Puts objects on others, as a cup in a hand: they touch or overlap, either may lie in front."""
        places = rng.permutation(len(objects)).tolist()
        for carrier, carried in zip(places[::2], places[1::2], strict=False):
            if rng.random() >= share:
                continue
            item, ratio, direction = objects[carried], log_uniform(rng, (0.4, 1.2)), rng.uniform(0, 2 * np.pi)
            item.carrier, item.side = objects[carrier], objects[carrier].side * ratio
            distance = rng.uniform(0.3, 0.9) * (1 + ratio) / 2
            item.offset = distance * np.array([np.cos(direction), np.sin(direction)])
            item.pulse = draw_wave(rng, 0.04)
            item.wobble = np.array([draw_wave(rng, 0.04), draw_wave(rng, 0.04)])

    def _hold(self, rng: np.random.Generator, objects: list[StudyObject], share: float) -> list[StudyObject]:
        """The objects, and arms that hold some of them: mostly in front, fingers on the object, out of the image."""
        layers: list[StudyObject] = []
        for item in objects:
            layers.append(item)
            if rng.random() >= share:
                continue
            arm, ratio = self.arms[rng.integers(len(self.arms))]
            width, direction = rng.uniform(0.5, 1.2), rng.uniform(0, 2 * np.pi)
            distance = width * ratio / 2 + rng.uniform(-0.25, 0.3)  # of the arm's middle, in sides of the object
            holder = replace(
                item,
                sprite=arm,
                side=item.side * width * float(np.sqrt(ratio)),
                aspect=ratio,
                angle=direction,
                pulse=(0.0, 0.0, 0.0),
                squash=(0.0, 0.0, 0.0),
                wobble=np.array([draw_wave(rng, 0.02), draw_wave(rng, 0.02)]),
                mirrored=False,
                tracked=False,
                carrier=item,
                offset=distance * np.array([np.cos(direction), np.sin(direction)]),
            )
            layers.insert(len(layers) - (rng.random() < _SHARE_ARM_BEHIND), holder)
        return layers
