"""Draw the sprites of the synthetic world: coloured shapes with names, and textured ones without a name.

A sprite is RGBA with premultiplied colour, in three sizes (full, half, quarter) so that it can be drawn small without
aliasing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 38, 40),
    "green": (44, 160, 60),
    "blue": (40, 80, 220),
    "yellow": (240, 220, 50),
    "orange": (245, 135, 25),
    "purple": (145, 60, 190),
    "white": (242, 242, 242),
    "black": (22, 22, 24),
}
KINDS = ("circle", "square", "triangle", "star", "cross", "ring")
SPRITE_SIDE = 128
_MARGIN = 4
_SUPERSAMPLE = 4
ToPixels = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Sprite:
    """Sprite in three sizes.

    Args:
        levels: RGBA uint8 arrays of sides 128, 64 and 32, colour premultiplied.
        colour: word for its colour; None where it has none.
        kind: its name; None for an unnamed sprite.
    """

    levels: tuple[np.ndarray, np.ndarray, np.ndarray]
    colour: str | None = None
    kind: str | None = None


def _regular_points(count: int, radii: tuple[float, ...], phase: float) -> np.ndarray:
    angles = phase + np.arange(count) * 2 * np.pi / count
    radius = np.array([radii[i % len(radii)] for i in range(count)])
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)  # (count, 2) in -1..1


_POLYGONS = {
    "square": np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.88,
    "triangle": np.array([[0, -1], [1, 0.8], [-1, 0.8]], dtype=float),
    "star": _regular_points(10, (1.0, 0.42), -np.pi / 2),
    "cross": np.array(
        [[-0.33, -1], [0.33, -1], [0.33, -0.33], [1, -0.33], [1, 0.33], [0.33, 0.33], [0.33, 1], [-0.33, 1]]
        + [[-0.33, 0.33], [-1, 0.33], [-1, -0.33], [-0.33, -0.33]]
    ),
}


def _draw_mask(draw: Callable[[np.ndarray, ToPixels], None]) -> np.ndarray:
    """Return a (128, 128) mask in 0..1; `draw(canvas, to_px)` fills it on a canvas four times larger."""
    side = SPRITE_SIDE * _SUPERSAMPLE
    canvas = np.zeros((side, side), np.uint8)
    radius = side / 2 - _MARGIN * _SUPERSAMPLE
    draw(canvas, lambda points: np.round(np.asarray(points) * radius + side / 2).astype(np.int32))
    return cv2.resize(canvas, (SPRITE_SIDE, SPRITE_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _shape_mask(kind: str) -> np.ndarray:
    side = SPRITE_SIDE * _SUPERSAMPLE
    centre, radius = (side // 2, side // 2), side // 2 - _MARGIN * _SUPERSAMPLE

    def draw(canvas: np.ndarray, to_px: ToPixels) -> None:
        if kind in ("circle", "ring"):
            cv2.circle(canvas, centre, radius, 255, -1)
            if kind == "ring":
                cv2.circle(canvas, centre, int(radius * 0.55), 0, -1)
        else:
            cv2.fillPoly(canvas, [to_px(_POLYGONS[kind])], 255)

    return _draw_mask(draw)


SHAPE_MASKS = {kind: _shape_mask(kind) for kind in KINDS}


def make_levels(rgb: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return premultiplied RGBA at sides 128, 64 and 32, from colour (128, 128, 3) in 0..255 and mask in 0..1."""
    full = np.dstack([np.clip(rgb, 0, 255) * mask[..., None], mask * 255]).astype(np.float32)
    levels = [full]
    for _ in range(2):
        half = levels[-1].shape[0] // 2
        levels.append(cv2.resize(levels[-1], (half, half), interpolation=cv2.INTER_AREA))
    first, second, third = (np.round(level).astype(np.uint8) for level in levels)
    return first, second, third


def _shading(rng: np.random.Generator) -> np.ndarray:
    """Return (128, 128, 1) multiplicative light: a slope and faint grain."""
    axis = np.linspace(-1, 1, SPRITE_SIDE, dtype=np.float32)
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.22)
    light = 1 + strength * (np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None])
    grain = rng.standard_normal((8, 8)).astype(np.float32) * rng.uniform(0, 0.06)
    light = light + cv2.resize(grain, (SPRITE_SIDE, SPRITE_SIDE), interpolation=cv2.INTER_LINEAR)
    return light[..., None]


def make_shape(rng: np.random.Generator, colour: str, kind: str) -> Sprite:
    """Return a shape whose colour varies a little, with shading and maybe an outline; its name stays true."""
    rgb = np.array(COLOURS[colour], np.float32) + rng.uniform(-14, 14, 3)
    image = np.broadcast_to(rgb, (SPRITE_SIDE, SPRITE_SIDE, 3)) * _shading(rng)
    mask = SHAPE_MASKS[kind]
    if rng.random() < 0.25:
        inner = cv2.erode(mask, np.ones((7, 7), np.uint8))
        image = image * (1 - 0.45 * (mask - inner))[..., None]
    return Sprite(make_levels(image, mask), colour, kind)


def _blob_mask(rng: np.random.Generator) -> np.ndarray:
    """Return the mask of an unnamed sprite: a polygon, or a union of one to four parts, longer than wide."""
    slim = np.exp(rng.uniform(-1.0, 0))

    def draw(canvas: np.ndarray, to_px: ToPixels) -> None:
        if rng.random() < 0.5:
            count = int(rng.integers(4, 11))
            angles = np.sort(rng.uniform(0, 2 * np.pi, count))
            radius = rng.uniform(0.55, 1, count)
            points = np.stack([slim * radius * np.cos(angles), radius * np.sin(angles)], 1)
            pixels = to_px(points)
            cv2.fillPoly(canvas, [cv2.convexHull(pixels) if rng.random() < 0.5 else pixels], 255)
            return
        for part in range(int(rng.integers(1, 5))):
            spread = 0.0 if part == 0 else 0.6
            centre = np.array([slim * rng.uniform(-spread, spread), rng.uniform(-spread, spread)])
            half = np.array([slim * rng.uniform(0.3, 0.95), rng.uniform(0.3, 0.95)]) * (1.0 if part == 0 else 0.55)
            low, high = to_px(np.clip(centre - half, -1, 1)), to_px(np.clip(centre + half, -1, 1))
            if rng.random() < 0.5:
                cv2.rectangle(canvas, low.tolist(), high.tolist(), 255, -1)
            else:
                middle, axes = (low + high) // 2, (high - low) // 2
                cv2.ellipse(canvas, middle.tolist(), axes.tolist(), float(rng.uniform(-30, 30)), 0, 360, 255, -1)

    return _draw_mask(draw)


def make_unnamed(rng: np.random.Generator, texture: np.ndarray) -> Sprite:
    """Return an unnamed sprite with a texture (128, 128, 3); it makes what is learned carry over to real video."""
    image = texture.astype(np.float32) * _shading(rng)
    for _ in range(int(rng.integers(0, 4))):
        y, x = rng.integers(0, SPRITE_SIDE, 2)
        height, width = rng.integers(10, 70, 2)
        patch = image[y : y + height, x : x + width]
        patch *= rng.choice([0.0, 0.5])
        patch += rng.uniform(0, 200, 3) * 0.6
    mask = _blob_mask(rng)
    while mask.mean() < 0.12:
        mask = _blob_mask(rng)
    return Sprite(make_levels(image, mask))
