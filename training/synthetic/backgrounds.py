"""Draw the backgrounds of the synthetic world: gradients, stripes, smooth noise and "dead leaves".

Dead leaves are overlapping textured shapes with statistics close to those of photographs (Lee, Mumford and Huang, IJCV
2001).
"""

import cv2
import numpy as np

BACKGROUND_SIDE = 512


def smooth_noise(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return coarse noise over a flat colour in one to three octaves, (side, side, 3) in 0..255."""
    image = np.broadcast_to(rng.uniform(20, 235, 3), (side, side, 3)).astype(np.float32)
    for cells in rng.choice([2, 3, 5, 9, 17, 40], int(rng.integers(1, 4)), replace=False):
        noise = rng.standard_normal((cells, cells, 3)).astype(np.float32) * rng.choice([8, 20, 45])
        mode = cv2.INTER_CUBIC if rng.random() < 0.75 else cv2.INTER_NEAREST
        image = image + cv2.resize(noise, (side, side), interpolation=mode)
    return np.clip(image, 0, 255)


def gradient(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return a slope between two colours, (side, side, 3) in 0..255."""
    axis = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    mix = np.clip(0.5 + np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None], 0, 1)[..., None]
    return rng.uniform(10, 245, 3) * mix + rng.uniform(10, 245, 3) * (1 - mix)


def stripes(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return soft stripes or a chequered pattern, (side, side, 3) in 0..255."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    angle, frequency = rng.uniform(0, np.pi), rng.uniform(3, 18)
    wave = np.sin(2 * np.pi * frequency * (np.cos(angle) * x + np.sin(angle) * y))
    if rng.random() < 0.5:
        wave = wave * np.sin(2 * np.pi * frequency * (np.sin(angle) * x - np.cos(angle) * y))
    mix = (0.5 + 0.5 * np.tanh(wave * rng.uniform(1, 6)))[..., None]
    return rng.uniform(10, 245, 3) * mix + rng.uniform(10, 245, 3) * (1 - mix)


def dead_leaves(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return overlapping textured shapes with power-law sizes, (side, side, 3) in 0..255."""
    canvas = smooth_noise(rng, side).astype(np.uint8)
    palette = np.clip(rng.uniform(0, 255, (int(rng.integers(3, 9)), 3)), 0, 255)
    for _ in range(int(rng.integers(60, 260))):
        radius = side * 0.012 * rng.random() ** -0.75
        radius = float(min(radius, side * 0.35))
        centre = rng.uniform(0, side, 2)
        colour = np.clip(palette[rng.integers(len(palette))] + rng.normal(0, 18, 3), 0, 255).tolist()
        if rng.random() < 0.4:
            axes = (int(radius) + 1, int(radius * rng.uniform(0.3, 1)) + 1)
            middle = (int(centre[0]), int(centre[1]))
            cv2.ellipse(canvas, middle, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
        else:
            count = int(rng.integers(3, 7))
            angles = np.sort(rng.uniform(0, 2 * np.pi, count))
            points = centre + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
            cv2.fillPoly(canvas, [points.astype(np.int32)], colour, cv2.LINE_AA)
    grain = rng.standard_normal((side // 4, side // 4, 1)).astype(np.float32) * rng.uniform(2, 14)
    return np.clip(canvas + cv2.resize(grain, (side, side))[..., None], 0, 255)


def make_background(rng: np.random.Generator, side: int = BACKGROUND_SIDE) -> list[np.ndarray]:
    """Return a background of a random kind: uint8 RGB, whole, halved and quartered, so that it can be drawn small."""
    makers = (dead_leaves, smooth_noise, gradient, stripes)
    maker = makers[rng.choice(len(makers), p=[0.6, 0.2, 0.12, 0.08])]
    image = np.clip(maker(rng, side), 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 2.5))
    return halved_twice(image)


def halved_twice(image: np.ndarray) -> list[np.ndarray]:
    """Return an image whole, halved and quartered."""
    levels = [image]
    for _ in range(2):
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return levels
