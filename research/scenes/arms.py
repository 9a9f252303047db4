"""Synthetic arms that hold objects and occlude them."""

import cv2
import numpy as np

from elysium.training.synthetic.sprites import SPRITE_SIDE, Sprite, make_levels

# Light and dark skin; an arm's lies between.
_SKIN = np.array([[255, 214, 185], [82, 50, 34]], np.float32)
# An arm is drawn lying along x, hand at the left, on a canvas so many pixels high.
_CANVAS_HEIGHT = 160


def make_arm(rng: np.random.Generator) -> tuple[Sprite, float]:
    """An arm with its hand at the left edge, and its length over its width.

    As all sprites it fills a square: whoever draws it stretches it to its length again.
    """
    ratio = float(np.exp(rng.uniform(np.log(2.5), np.log(6.0))))
    height, width = _CANVAS_HEIGHT, round(_CANVAS_HEIGHT * ratio)
    mask, folds = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    middle, palm = height / 2, height * rng.uniform(0.24, 0.32)
    palm_x = height * rng.uniform(0.75, 1.0)
    _draw_fingers(rng, mask, folds, np.array([palm_x, middle]), palm)
    cv2.ellipse(mask, _point(palm_x, middle), _point(1.15 * palm, palm), 0, 0, 360, 255, -1)
    wrist_x, wrist, shoulder = palm_x + 1.2 * palm, palm * rng.uniform(0.6, 0.85), palm * rng.uniform(1.0, 1.6)
    bend = height * rng.uniform(-0.12, 0.12)
    outline = [
        (palm_x, middle - 0.9 * palm),
        (wrist_x, middle - wrist),
        (width, middle + bend - shoulder),
        (width, middle + bend + shoulder),
        (wrist_x, middle + wrist),
        (palm_x, middle + 0.9 * palm),
    ]
    cv2.fillPoly(mask, [np.array([_point(*corner) for corner in outline], np.int32)], 255)
    colour = _SKIN[0] + rng.beta(1.0, 1.6) * (_SKIN[1] - _SKIN[0]) + rng.uniform(-12, 12, 3)
    image = np.broadcast_to(colour, (height, width, 3)).astype(np.float32).copy()
    if rng.random() < 0.5:
        sleeve_x = int(rng.uniform(wrist_x, max(wrist_x + 1, 0.7 * width)))
        image[:, sleeve_x:] = rng.uniform(15, 235, 3)
    image *= _roundness(mask, rng.uniform(0.15, 0.5))
    image *= 1 - rng.uniform(0.15, 0.4) * cv2.GaussianBlur(folds, (5, 5), 0)[..., None] / np.float32(255)
    grain = rng.standard_normal((12, 24)).astype(np.float32) * rng.uniform(0.01, 0.06)
    image *= 1 + cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    side = (SPRITE_SIDE, SPRITE_SIDE)
    squeezed = cv2.resize(image, side, interpolation=cv2.INTER_AREA)
    return Sprite(make_levels(squeezed, cv2.resize(mask, side, interpolation=cv2.INTER_AREA) / np.float32(255))), ratio


def _point(x: float, y: float) -> tuple[int, int]:
    return round(x), round(y)


def _draw_fingers(
    rng: np.random.Generator, mask: np.ndarray, folds: np.ndarray, palm: np.ndarray, radius: float
) -> None:
    """A thumb and two to four fingers, from the palm to the left; dark lines between them."""
    count = int(rng.integers(3, 6))
    spread, thick = rng.uniform(0.2, 1.0), max(4, round(radius * rng.uniform(0.42, 0.62)))
    for angle in np.pi + np.linspace(-spread, spread, count) + rng.normal(0, 0.08, count):
        towards = np.array([np.cos(angle), np.sin(angle)])
        start, end = palm + 0.6 * radius * towards, palm + radius * rng.uniform(1.5, 2.4) * towards
        end = np.clip(end, thick, np.array(mask.shape[::-1]) - thick)
        across = np.array([-towards[1], towards[0]]) * thick / 2
        cv2.line(mask, _point(*start), _point(*end), 255, thick)
        cv2.line(folds, _point(*(start + across)), _point(*(end + across)), 255, 2)


def _roundness(mask: np.ndarray, strength: float) -> np.ndarray:
    """(H, W, 1): darker towards the outline, as a limb is in light from the front."""
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
    return (1 - strength * np.exp(-depth / (0.12 * mask.shape[0])))[..., None].astype(np.float32)
