"""Choose the places of labels: beside their boxes, inside the image, off the objects and off each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rectangle = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom exclusive

FITS = 0.05  # share of a box that a label may hide and still fit
STEP_COST = 0.03  # of each step away from the box: a label that is not beside its box fits one step away at most


@dataclass(frozen=True)
class Place:
    """Place of a label.

    Args:
        rectangle: left, top, right and bottom in pixels, inside an image that is as large as the label.
        position: number of the position beside the box, which a later frame can keep.
        cost: the shares of the boxes that it hides, added up; 1 and more where it overlaps another label.
    """

    rectangle: Rectangle
    position: int
    cost: float

    @property
    def fits(self) -> bool:
        """Return whether it overlaps no label and hides next to nothing."""
        return self.cost <= FITS


def choose_place(
    size: tuple[int, int],
    box: Rectangle | None,
    boxes: Sequence[Rectangle],
    taken: Sequence[Rectangle],
    image_size: tuple[int, int],
    kept: int | None = None,
) -> Place:
    """Return the place of a label that hides least; of equal ones the first: above, below, beside, inside the box.

    Args:
        size: width and height of the label in pixels.
        box: rectangle of its object; None for a note in a corner of the image.
        boxes: rectangles of all objects, which are not to be hidden.
        taken: rectangles of labels that have their place.
        image_size: width and height of the image in pixels.
        kept: position of the label in the frame before, which it keeps while it fits.

    >>> choose_place((40, 10), (50, 60, 100, 120), [(50, 60, 100, 120)], [], (320, 240)).rectangle
    (50, 50, 90, 60)
    """
    sides = np.array(_sides(size, box, image_size))
    most = min(2 * len(taken), image_size[1] // size[1])  # another label can stand in the way of two steps
    most = max(most, (kept or 0) // len(sides))
    steps = np.arange(most + 1).repeat(len(sides))  # (P,)
    left, top, step = np.tile(sides, (most + 1, 1)).T
    left = np.maximum(0, np.minimum(left, image_size[0] - size[0]))
    top = np.maximum(0, np.minimum(top + steps * step, image_size[1] - size[1]))
    places = np.stack([left, top, left + size[0], top + size[1]], axis=1)  # (P, 4)
    on_labels = _hidden(places, taken)
    cost = steps * STEP_COST + _hidden(places, boxes).sum(axis=1) + (on_labels + (on_labels > 0)).sum(axis=1)
    best = kept if kept is not None and cost[kept] <= FITS else int(cost.argmin())
    x1, y1, x2, y2 = places[best].tolist()
    return Place((x1, y1, x2, y2), best, float(cost[best]))


def _sides(size: tuple[int, int], box: Rectangle | None, image_size: tuple[int, int]) -> list[tuple[int, int, int]]:
    """Return left and top of a label on each side, and how far down the next step away from the box is."""
    width, height = size
    if box is None:
        margin = height // 5
        right, bottom, step = image_size[0] - width - margin, image_size[1] - height - margin, height + 2
        return [(margin, bottom, -step), (right, bottom, -step), (margin, margin, step), (right, margin, step)]
    x1, y1, x2, y2 = box
    above = [(left, y1 - height, -height) for left in (x1, x2 - width)]
    below = [(left, y2, height) for left in (x1, x2 - width)]
    beside = [(left, y1, height) for left in (x2, x1 - width)]
    return [*above, *below, *beside, (x1, y1, height)]


def _hidden(places: NDArray[np.int64], others: Sequence[Rectangle]) -> NDArray[np.float64]:
    """Return the share of each other rectangle that a label hides at each place, of shape ``(P, others)``."""
    left, top, right, bottom = np.array(others, dtype=np.int64).reshape(-1, 4).T
    wide = np.minimum(places[:, 2:3], right) - np.maximum(places[:, 0:1], left)
    high = np.minimum(places[:, 3:4], bottom) - np.maximum(places[:, 1:2], top)
    return wide.clip(0) * high.clip(0) / ((right - left) * (bottom - top)).clip(1)
