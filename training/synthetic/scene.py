"""Scenes of the synthetic world: objects from back to front, their motion and the camera's.

Lengths are fractions of the picture's "scale", the square root of its area; time is counted in frames.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from .arms import make_arm
from .backgrounds import make_background
from .sprites import COLOURS, KINDS, SPRITE_SIDE, Sprite, make_shape, make_thing

# Arms of a world, and the share of them that lie behind what they hold.
_NUM_ARMS = 48
_SHARE_ARM_BEHIND = 0.25


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """Distribution of scenes. Ranges are inclusive (low, high); sizes and speeds are drawn log-uniformly."""

    num_objects: tuple[int, int] = (3, 6)
    side: tuple[float, float] = (0.14, 0.42)
    stretch: float = 0.1  # deviation of the logarithm of a named object's width over its height; twice it of others
    speed: tuple[float, float] = (0.004, 0.06)
    share_things: float = 0.3
    share_leaving: float = 0.12
    share_occluded: float = 0.35
    share_camera_motion: float = 0.7
    share_twins: float = 0.0
    share_compressed: float = 0.0
    frame_steps: tuple[int, ...] = (1,)
    share_carried: float = 0.0  # of pairs of objects, those of which one carries the other
    share_held: float = 0.0  # of objects, those that an arm holds, which moves with them
    turning: float = 0.0  # deviation of the amplitude by which the logarithm of width over height changes

    def __post_init__(self) -> None:
        low, high = self.num_objects
        if not 1 <= low <= high:
            raise ValueError(f"num_objects must be (low, high) with 1 <= low <= high, got {self.num_objects}.")
        for name in ("side", "speed"):
            low_value, high_value = getattr(self, name)
            if not 0 < low_value <= high_value:
                raise ValueError(f"{name} must be (low, high) with 0 < low <= high, got {(low_value, high_value)}.")
        for name, value in vars(self).items():
            if name.startswith("share_") and not 0 <= value <= 1:
                raise ValueError(f"{name} must be in 0..1, got {value}.")


@dataclass
class SceneObject:
    """One cut-out and its path: `centre` reflects at the bounds, so that it stays, or leaves and comes back."""

    sprite: Sprite
    side: float
    aspect: float
    start: np.ndarray  # (2,) fraction of width and height
    velocity: np.ndarray  # (2,) fraction a frame
    reach: float  # how far beyond the picture's edge the centre may go, in fractions
    angle: float
    spin: float
    pulse: tuple[float, float, float]  # amplitude, frequency and phase of the logarithm of its size
    wobble: np.ndarray  # (2, 3): amplitude, frequency and phase for x and y
    depth: float  # how strongly the camera's motion moves it
    mirrored: bool
    tracked: bool = True
    squash: tuple[float, float, float] = (0.0, 0.0, 0.0)  # as pulse, of the logarithm of width over height
    carrier: "SceneObject | None" = None  # moves, turns and scales it
    offset: np.ndarray = field(default_factory=lambda: np.zeros(2))  # (2,) from the carrier's centre, in its sizes

    @property
    def name(self) -> str | None:
        """Colour and kind, such as "red circle", or the kind alone; None for a thing without a name."""
        colour, kind = self.sprite.colour, self.sprite.kind
        return kind if kind is None or colour is None else f"{colour} {kind}"


@dataclass
class Scene:
    """Objects from back to front, a background, the camera and the picture's finish."""

    objects: list[SceneObject]
    background: list[np.ndarray]  # three sizes
    background_zoom: float
    background_start: np.ndarray
    colour_matrix: np.ndarray
    camera_pan: np.ndarray  # (2, 3): amplitude, frequency and phase
    camera_zoom: np.ndarray  # (3,)
    shake: float
    light: np.ndarray  # (3,)
    blur: bool
    noise: float
    frame_step: int
    seed: int
    jpeg_quality: int | None = None
    tracked: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tracked = [index for index, item in enumerate(self.objects) if item.tracked]


def reflect(values: np.ndarray, low: np.ndarray | float, high: np.ndarray | float) -> np.ndarray:
    """Folds values into low..high like a ball between walls."""
    span = np.maximum(np.asarray(high) - low, 1e-6)
    folded = np.mod(values - low, 2 * span)
    return low + np.where(folded > span, 2 * span - folded, folded)


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]))))


def _wave(rng: np.random.Generator, amplitude: float) -> tuple[float, float, float]:
    return amplitude * float(rng.standard_normal()), float(rng.uniform(0.03, 0.3)), float(rng.uniform(0, 2 * np.pi))


class World:
    """Banks of backgrounds and cut-outs, drawn once from a seed, and the sampling of scenes from them.

    Args:
        seed: of the banks. Evaluation uses another seed than training, so that its pictures were never seen.
        num_backgrounds, num_things: sizes of the banks.
        num_variants: drawings of each coloured shape.
    """

    def __init__(self, seed: int, *, num_backgrounds: int = 96, num_things: int = 320, num_variants: int = 8):
        rng = np.random.default_rng((seed, 1))
        self.seed = seed
        self.backgrounds = [make_background(rng) for _ in range(num_backgrounds)]
        self.things = [make_thing(rng, self._texture(rng)) for _ in range(num_things)]
        self.shapes = {
            (colour, kind): [make_shape(rng, colour, kind) for _ in range(num_variants)]
            for colour in COLOURS
            for kind in KINDS
        }

    def _texture(self, rng: np.random.Generator) -> np.ndarray:
        picture = self.backgrounds[rng.integers(len(self.backgrounds))][0]
        step = int(rng.choice([1, 2, 3]))
        span = SPRITE_SIDE * step
        y, x = rng.integers(0, picture.shape[0] - span + 1, 2)
        return picture[y : y + span : step, x : x + span : step]

    def _colour_matrix(self, rng: np.random.Generator) -> np.ndarray:
        """(3, 3): tints a background and takes colour out of it, so that its patches seldom look like named shapes."""
        saturation = rng.uniform(0.1, 0.75)
        matrix = saturation * np.eye(3) + (1 - saturation) / 3
        return (matrix * rng.uniform(0.7, 1.15) + 0.06 * rng.standard_normal((3, 3))).astype(np.float32)

    def _shape_names(self, rng: np.random.Generator, count: int, twins: bool) -> list[tuple[str, str]]:
        """Distinct (colour, kind) pairs; the second shares the first's colour, the third its kind."""
        colours, kinds = rng.permutation(list(COLOURS)).tolist(), rng.permutation(KINDS).tolist()
        names = [(colours[0], kinds[0]), (colours[0], kinds[1]), (colours[1], kinds[0])]
        others = [(c, k) for c in colours for k in kinds if (c, k) not in names]
        names += [others[i] for i in rng.permutation(len(others))]
        names = names[:count]
        if twins and count >= 2:
            names[-1] = names[0]
        return names

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
        """Names of things that objects of this world may have."""
        return list(KINDS)

    def absent_name(self, scene: Scene, rng: np.random.Generator) -> str | None:
        """A name that fits nothing in the scene; None where there is none."""
        shown = {item.name for item in scene.objects}
        names = [f"{colour} {kind}" for colour in self.colours for kind in self.kinds]
        others = [name for name in names if name not in shown]
        return str(rng.choice(others)) if others else None

    def sample(self, seed: int, config: SceneConfig) -> Scene:
        """The scene of a seed: the same seed, banks and configuration give the same scene."""
        rng = np.random.default_rng((self.seed, 2, seed))
        count = int(rng.integers(config.num_objects[0], config.num_objects[1] + 1))
        num_things = int(rng.binomial(count, config.share_things))
        names = self._shape_names(rng, count - num_things, rng.random() < config.share_twins)
        sprites = [self.shapes[name][rng.integers(len(self.shapes[name]))] for name in names]
        sprites += [self.things[i] for i in rng.integers(len(self.things), size=num_things)]
        return self._build_scene(rng, sprites, self.backgrounds, config, seed)

    def _build_scene(
        self,
        rng: np.random.Generator,
        sprites: list[Sprite],
        grounds: list[list[np.ndarray]],
        config: SceneConfig,
        seed: int,
    ) -> Scene:
        """Sprites on their paths over one of the grounds, with a camera and a finish."""
        speed = _log_uniform(rng, config.speed)
        objects = [self._place(rng, sprites[i], speed, config) for i in rng.permutation(len(sprites))]
        if config.share_carried:
            self._carry(rng, objects, config.share_carried)
        if config.share_held:
            objects = self._hold(rng, objects, config.share_held)
        if rng.random() < config.share_occluded:
            objects += [self._occluder(rng, speed) for _ in range(int(rng.integers(1, 3)))]
        moving = rng.random() < config.share_camera_motion
        background = grounds[rng.integers(len(grounds))]
        return Scene(
            objects=objects,
            background=background,
            background_zoom=float(rng.uniform(0.45, 1.0)),
            background_start=rng.uniform(0, 1, 2),
            colour_matrix=self._colour_matrix(rng),
            camera_pan=np.array([_wave(rng, 0.08 * moving), _wave(rng, 0.06 * moving)]),
            camera_zoom=np.array(_wave(rng, 0.06 * moving)),
            shake=float(0.004 * rng.random() * (moving and rng.random() < 0.4)),
            light=np.array(_wave(rng, 0.08 * (rng.random() < 0.4))),
            blur=bool(rng.random() < 0.2),
            noise=float(rng.choice([0, 2, 4, 9])),
            frame_step=int(rng.choice(config.frame_steps)),
            seed=seed,
            jpeg_quality=int(rng.integers(20, 75)) if rng.random() < config.share_compressed else None,
        )

    def _place(self, rng: np.random.Generator, sprite: Sprite, speed: float, config: SceneConfig) -> SceneObject:
        named = sprite.kind is not None
        side = _log_uniform(rng, config.side) * (1.0 if named else 1.15)
        direction = rng.uniform(0, 2 * np.pi)
        pace = speed * rng.uniform(0.4, 1.5) * (rng.random() < 0.9)
        return SceneObject(
            sprite=sprite,
            side=side,
            aspect=float(np.exp(rng.normal(0, config.stretch * (1 if named else 2)))),
            start=rng.uniform(0.1, 0.9, 2),
            velocity=pace * np.array([np.cos(direction), np.sin(direction)]),
            reach=0.35 if rng.random() < config.share_leaving else -0.45 * side,
            angle=float(rng.normal(0, 0.2 if named or rng.random() < 0.7 else 1.2)),
            spin=float(rng.normal(0, 0.03) * (rng.random() < 0.5)),
            pulse=_wave(rng, 0.18 * (rng.random() < 0.6)),
            wobble=np.array([_wave(rng, speed * 0.8), _wave(rng, speed * 0.8)]),
            depth=float(rng.uniform(0.5, 1.5)),
            mirrored=bool(rng.random() < 0.5),
            squash=_wave(rng, config.turning) if config.turning else (0.0, 0.0, 0.0),
        )

    def _carry(self, rng: np.random.Generator, objects: list[SceneObject], share: float) -> None:
        """Puts objects on others, as a cup in a hand: they touch or overlap, either may lie in front."""
        places = rng.permutation(len(objects)).tolist()
        for carrier, carried in zip(places[::2], places[1::2], strict=False):
            if rng.random() >= share:
                continue
            item, ratio, direction = objects[carried], _log_uniform(rng, (0.4, 1.2)), rng.uniform(0, 2 * np.pi)
            item.carrier, item.side = objects[carrier], objects[carrier].side * ratio
            distance = rng.uniform(0.3, 0.9) * (1 + ratio) / 2
            item.offset = distance * np.array([np.cos(direction), np.sin(direction)])
            item.pulse = _wave(rng, 0.04)
            item.wobble = np.array([_wave(rng, 0.04), _wave(rng, 0.04)])

    def _hold(self, rng: np.random.Generator, objects: list[SceneObject], share: float) -> list[SceneObject]:
        """The objects, and arms that hold some of them: mostly in front, fingers on the object, out of the picture."""
        layers: list[SceneObject] = []
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
                wobble=np.array([_wave(rng, 0.02), _wave(rng, 0.02)]),
                mirrored=False,
                tracked=False,
                carrier=item,
                offset=distance * np.array([np.cos(direction), np.sin(direction)]),
            )
            layers.insert(len(layers) - (rng.random() < _SHARE_ARM_BEHIND), holder)
        return layers

    def _occluder(self, rng: np.random.Generator, speed: float) -> SceneObject:
        """A thing in front of all others that nobody asks about: a post, a leaf, a passer-by."""
        config = SceneConfig(side=(0.2, 0.45), share_leaving=0.5)
        thing = self._place(rng, self.things[rng.integers(len(self.things))], speed, config)
        thing.aspect = float(np.exp(rng.normal(0, 0.7)))
        thing.velocity = thing.velocity * rng.uniform(0, 0.6)
        thing.tracked = False
        return thing
