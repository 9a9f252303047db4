"""Doubt of a box: the probability that it is wrong, from what tracking knows already.

A track that went over to another object looks right from then on: its boxes are steady and their scores high. Two
signs are left, which a logistic function joins: the lowest score that the track had, of which half is forgotten every
32 frames, and how far the colours in the box are from those in the track's first box. The overlap of passes, jumps
and changes of size were measured, too, and did not pay beside these (`research/doubt.py`).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from elysium.processing.boxes_elysium import Box

HALF_LIFE_FRAMES = 32
_SIDE_PX, _LEVELS = 24, 4  # of the histogram's thumbnail; levels of each colour
_MIN_SCORE = 1e-3


def color_histogram(image: NDArray[np.uint8], box_xyxy_px: Box) -> NDArray[np.float64]:
    """Return the shares of 64 colours in a box, in which its middle counts most: `(64,)`, of sum 1.

    Args:
        image (`np.ndarray` of shape `(H, W, 3)`): uint8 RGB.
        box_xyxy_px: box inside the image.
    """
    x1, y1, x2, y2 = box_xyxy_px
    left, top = math.floor(x1), math.floor(y1)
    part = Image.fromarray(np.ascontiguousarray(image[top : math.ceil(y2), left : math.ceil(x2)]))
    inside = (x1 - left, y1 - top, x2 - left, y2 - top)
    small = part.resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BOX, box=inside)
    red, green, blue = np.moveaxis(np.asarray(small).astype(int) * _LEVELS // 256, -1, 0)
    squares = np.linspace(-1, 1, _SIDE_PX) ** 2
    weights = np.exp(-2 * (squares[:, None] + squares))
    counts = np.bincount(((red * _LEVELS + green) * _LEVELS + blue).ravel(), weights.ravel(), _LEVELS**3)
    return counts / counts.sum()


@dataclass(eq=False)
class DoubtMeter:
    """Doubt of one track's boxes, frame by frame.

    Args:
        weights: of the lowest score (its negative logarithm), of the distance of colours, and the constant.
    """

    weights: tuple[float, ...]
    _worst: float = 0.0
    _first_colors: NDArray[np.float64] | None = None

    def add(self, image: NDArray[np.uint8], box_xyxy_px: Box | None, score: float) -> float:
        """Return the doubt of the next frame's box in 0..1; NaN without a box.

        Args:
            image (`np.ndarray` of shape `(H, W, 3)`): the frame.
            box_xyxy_px: its box, or None.
            score: raw score of the box.
        """
        self._worst *= 0.5 ** (1 / HALF_LIFE_FRAMES)
        if box_xyxy_px is None:
            return math.nan
        self._worst = max(self._worst, -math.log(max(score, _MIN_SCORE)))
        colors = color_histogram(image, box_xyxy_px)
        if self._first_colors is None:
            self._first_colors = colors
        distance = 1 - float(np.sqrt(colors * self._first_colors).sum())
        of_score, of_colors, constant = self.weights
        return 1 / (1 + math.exp(-(of_score * self._worst + of_colors * distance + constant)))
