"""Sample scenes of the synthetic world: objects from back to front, their motion and the camera's.

Lengths are fractions of the image's "scale", the square root of its area; time is counted in frames.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .backgrounds import make_background
from .sprites import COLOURS, KINDS, SPRITE_SIDE, Sprite, make_shape, make_unnamed


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """Distribution of scenes. Ranges are inclusive (low, high); sizes and speeds are drawn log-uniformly."""

    num_objects: tuple[int, int] = (3, 6)
    share_unnamed: float = 0.3
    share_leaving: float = 0.12
    share_occluded: float = 0.35
    share_camera_motion: float = 0.7
    share_twins: float = 0.0
    stretch: float = 0.1  # deviation of the logarithm of a named object's width over its height; twice it of others
    side: tuple[float, float] = (0.14, 0.42)
    speed: tuple[float, float] = (0.004, 0.06)

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


class ObjectPath(NamedTuple):
    """Path of an object over T frames.

    Centres (T, 2) in fractions of the image, sizes (T,) in scales, angles (T,) in radians, widths over heights (T,).
    """

    centre: np.ndarray
    size: np.ndarray
    angle: np.ndarray
    aspect: np.ndarray


@dataclass
class SceneObject:
    """Sprite and its path: `start` + `velocity` reflects at the bounds, so that it stays, or leaves and returns."""

    sprite: Sprite
    side: float
    aspect: float
    start: np.ndarray  # (2,) fraction of width and height
    velocity: np.ndarray  # (2,) fraction a frame
    reach: float  # how far beyond the image's edge the centre may go, in fractions
    angle: float
    spin: float
    pulse: tuple[float, float, float]  # amplitude, frequency and phase of the logarithm of its size
    wobble: np.ndarray  # (2, 3): amplitude, frequency and phase for x and y
    depth: float  # how strongly the camera's motion moves it
    mirrored: bool
    tracked: bool = True
    opacity: float = 1.0  # below a half it counts as behind all others

    @property
    def name(self) -> str | None:
        """Return colour and kind, such as "red circle", or the kind alone; None for an unnamed object."""
        colour, kind = self.sprite.colour, self.sprite.kind
        return kind if kind is None or colour is None else f"{colour} {kind}"

    def path(self, scene: "Scene", frames: np.ndarray) -> ObjectPath:
        """Return the path at some frames of a scene, counted from 0."""
        wobble = np.stack([waves(self.wobble[axis], frames) for axis in range(2)], axis=1)
        centre = reflect(self.start + self.velocity * frames[:, None] + wobble, -self.reach, 1 + self.reach)
        pan = np.stack([waves(scene.camera_pan[axis], frames) for axis in range(2)], axis=1)
        zoom = np.exp(waves(scene.camera_zoom, frames))
        jitter = np.random.default_rng((scene.seed, 3)).standard_normal((int(frames.max()) + 1, 2))[frames.astype(int)]
        centre = 0.5 + (centre - 0.5) * zoom[:, None] + pan * self.depth + scene.shake * jitter
        size = self.side * np.exp(waves(self.pulse, frames)) * zoom
        return ObjectPath(centre, size, self.angle + self.spin * frames, np.full(len(frames), self.aspect))


@dataclass
class Scene:
    """Objects from back to front, a background, the camera, light, blur and noise."""

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
    seed: int
    tracked: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tracked = [index for index, item in enumerate(self.objects) if item.tracked]


def reflect(values: np.ndarray, low: np.ndarray | float, high: np.ndarray | float) -> np.ndarray:
    """Fold values into low..high like a ball between walls.

    >>> reflect(np.array([0.5, 1.25, 2.5]), 0.0, 1.0).tolist()
    [0.5, 0.75, 0.5]
    """
    span = np.maximum(np.asarray(high) - low, 1e-6)
    folded = np.mod(values - low, 2 * span)
    return low + np.where(folded > span, 2 * span - folded, folded)


def waves(parameters: np.ndarray | tuple[float, float, float], frames: np.ndarray) -> np.ndarray:
    """Return a sine of some amplitude, frequency and phase at some frames; 0 at frame 0."""
    amplitude, frequency, phase = parameters
    return amplitude * (np.sin(frequency * frames + phase) - np.sin(phase))


def log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    """Draw a number whose logarithm is uniform within bounds."""
    return float(np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]))))


def draw_wave(rng: np.random.Generator, amplitude: float) -> tuple[float, float, float]:
    """Draw amplitude, frequency and phase of a wave."""
    return amplitude * float(rng.standard_normal()), float(rng.uniform(0.03, 0.3)), float(rng.uniform(0, 2 * np.pi))


class World:
    """Backgrounds and sprites, drawn once from a seed, and the sampling of scenes from them.

    Args:
        seed: of the drawings. Evaluation uses another seed than training, so that its images were never seen.
        num_backgrounds: number of backgrounds.
        num_unnamed: number of textured sprites without a name.
        num_variants: drawings of each coloured shape.
    """

    def __init__(self, seed: int, *, num_backgrounds: int = 96, num_unnamed: int = 320, num_variants: int = 8):
        rng = np.random.default_rng((seed, 1))
        self.seed = seed
        self.backgrounds = [make_background(rng) for _ in range(num_backgrounds)]
        self.unnamed = [make_unnamed(rng, self._texture(rng)) for _ in range(num_unnamed)]
        self.shapes = {
            (colour, kind): [make_shape(rng, colour, kind) for _ in range(num_variants)]
            for colour in COLOURS
            for kind in KINDS
        }

    def _texture(self, rng: np.random.Generator) -> np.ndarray:
        image = self.backgrounds[rng.integers(len(self.backgrounds))][0]
        step = int(rng.choice([1, 2, 3]))
        span = SPRITE_SIDE * step
        y, x = rng.integers(0, image.shape[0] - span + 1, 2)
        return image[y : y + span : step, x : x + span : step]

    def _colour_matrix(self, rng: np.random.Generator) -> np.ndarray:
        """Return a (3, 3) matrix that tints a background and mutes it, so that its patches seldom look like shapes."""
        saturation = rng.uniform(0.1, 0.75)
        matrix = saturation * np.eye(3) + (1 - saturation) / 3
        return (matrix * rng.uniform(0.7, 1.15) + 0.06 * rng.standard_normal((3, 3))).astype(np.float32)

    def _shape_names(self, rng: np.random.Generator, count: int, twins: bool) -> list[tuple[str, str]]:
        """Return distinct (colour, kind) pairs; the second shares the first's colour, the third its kind."""
        colours, kinds = rng.permutation(list(COLOURS)).tolist(), rng.permutation(KINDS).tolist()
        names = [(colours[0], kinds[0]), (colours[0], kinds[1]), (colours[1], kinds[0])]
        others = [(c, k) for c in colours for k in kinds if (c, k) not in names]
        names += [others[i] for i in rng.permutation(len(others))]
        names = names[:count]
        if twins and count >= 2:
            names[-1] = names[0]
        return names

    def sample(self, seed: int, config: SceneConfig) -> Scene:
        """Return the scene of a seed; the same seed, world and configuration give the same scene."""
        rng = np.random.default_rng((self.seed, 2, seed))
        count = int(rng.integers(config.num_objects[0], config.num_objects[1] + 1))
        num_unnamed = int(rng.binomial(count, config.share_unnamed))
        names = self._shape_names(rng, count - num_unnamed, rng.random() < config.share_twins)
        sprites = [self.shapes[name][rng.integers(len(self.shapes[name]))] for name in names]
        sprites += [self.unnamed[i] for i in rng.integers(len(self.unnamed), size=num_unnamed)]
        return self._build_scene(rng, sprites, self.backgrounds, config, seed)

    def _build_scene(
        self,
        rng: np.random.Generator,
        sprites: list[Sprite],
        backgrounds: list[list[np.ndarray]],
        config: SceneConfig,
        seed: int,
    ) -> Scene:
        """Return sprites on their paths over one of the backgrounds, with camera, light and noise."""
        objects = self._place_all(rng, sprites, config)
        moving = rng.random() < config.share_camera_motion
        background = backgrounds[rng.integers(len(backgrounds))]
        return Scene(
            objects=objects,
            background=background,
            background_zoom=float(rng.uniform(0.45, 1.0)),
            background_start=rng.uniform(0, 1, 2),
            colour_matrix=self._colour_matrix(rng),
            camera_pan=np.array([draw_wave(rng, 0.08 * moving), draw_wave(rng, 0.06 * moving)]),
            camera_zoom=np.array(draw_wave(rng, 0.06 * moving)),
            shake=float(0.004 * rng.random() * (moving and rng.random() < 0.4)),
            light=np.array(draw_wave(rng, 0.08 * (rng.random() < 0.4))),
            blur=bool(rng.random() < 0.2),
            noise=float(rng.choice([0, 2, 4, 9])),
            seed=seed,
        )

    def _place_all(self, rng: np.random.Generator, sprites: list[Sprite], config: SceneConfig) -> list[SceneObject]:
        """Return the sprites as objects in any order, and the occluders in front of them."""
        speed = log_uniform(rng, config.speed)
        objects = [self._place(rng, sprites[i], speed, config) for i in rng.permutation(len(sprites))]
        if rng.random() < config.share_occluded:
            objects += [self._occluder(rng, speed) for _ in range(int(rng.integers(1, 3)))]
        return objects

    def _place(self, rng: np.random.Generator, sprite: Sprite, speed: float, config: SceneConfig) -> SceneObject:
        named = sprite.kind is not None
        side = log_uniform(rng, config.side) * (1.0 if named else 1.15)
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
            pulse=draw_wave(rng, 0.18 * (rng.random() < 0.6)),
            wobble=np.array([draw_wave(rng, speed * 0.8), draw_wave(rng, speed * 0.8)]),
            depth=float(rng.uniform(0.5, 1.5)),
            mirrored=bool(rng.random() < 0.5),
        )

    def _occluder(self, rng: np.random.Generator, speed: float) -> SceneObject:
        """Return an unnamed object in front of all others that nobody asks about: a post, a leaf, a passer-by."""
        config = SceneConfig(side=(0.2, 0.45), share_leaving=0.5)
        item = self._place(rng, self.unnamed[rng.integers(len(self.unnamed))], speed, config)
        item.aspect = float(np.exp(rng.normal(0, 0.7)))
        item.velocity = item.velocity * rng.uniform(0, 0.6)
        item.tracked = False
        return item
