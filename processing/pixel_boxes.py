"""Boxes in pixels of an image, checked and cut to it."""

import math
import warnings
from collections.abc import Sequence

# A box may lie so far outside the image, in pixels or in shares of its side, and is cut to it.
_EXCESS_PX = 1.0
_EXCESS_NORM = 0.005


def check_box_xyxy_px(box_xyxy_px: Sequence[float], width: int, height: int) -> tuple[float, float, float, float]:
    """Check a box that somebody gives against the image and return it as four floats, cut to the image.

    An excess of at most 1 px or 0.5% of the side is cut off. Boxes are pixels: one that lies within 0..1 is refused as
    shares of the image, and one that is less than a pixel wide or high is taken with a warning.

    Raises:
        ValueError: not four finite numbers, ``x1 >= x2`` or ``y1 >= y2``, within 0..1, or outside the image.

    >>> check_box_xyxy_px((8, 12, 40, 90), 640, 480), check_box_xyxy_px((-0.4, 12, 640.0005, 90), 640, 480)
    ((8.0, 12.0, 40.0, 90.0), (0.0, 12.0, 640.0, 90.0))
    """
    given = _four_in_order(box_xyxy_px)
    if max(given) <= 1 and (width, height) != (1, 1):
        pixels = ",".join(f"{value * side:g}" for value, side in zip(given, (width, height) * 2, strict=True))
        raise ValueError(
            f"box_xyxy_px must be in pixels, got {_shown(given)}, which is within the first pixel of the "
            f"{width}x{height} image; if these are shares of the width and height, give {pixels}"
        )
    box = clip_box_xyxy_px(given, width, height)
    if box[2] - box[0] < 1 or box[3] - box[1] < 1:
        warnings.warn(
            f"box_xyxy_px {_shown(given)} is less than one pixel wide or high in the {width}x{height} image; boxes "
            "are in pixels of the video after rotation",
            stacklevel=2,
        )
    return box


def clip_box_xyxy_px(box_xyxy_px: Sequence[float], width: int, height: int) -> tuple[float, float, float, float]:
    """Return a box as four floats inside the image; a small excess (see `check_box_xyxy_px`) is cut off.

    Raises:
        ValueError: not four finite numbers, ``x1 >= x2`` or ``y1 >= y2``, or outside the image.
    """
    x1, y1, x2, y2 = given = _four_in_order(box_xyxy_px)
    box = max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2)
    if box == given:
        return given
    excesses = {
        "left": (-x1, width),
        "upper": (-y1, height),
        "right": (x2 - width, width),
        "lower": (y2 - height, height),
    }
    edge, (excess, side) = max(excesses.items(), key=lambda item: item[1][0] - _allowed_excess(item[1][1]))
    if excess > _allowed_excess(side) or not (box[0] < box[2] and box[1] < box[3]):
        raise ValueError(
            f"box_xyxy_px must lie inside the {width}x{height} image, got {_shown(given)}, {excess:g} px beyond its "
            f"{edge} edge; give pixels of the video after rotation"
        )
    return box


def _allowed_excess(side: int) -> float:
    return max(_EXCESS_PX, _EXCESS_NORM * side)


def _four_in_order(box_xyxy_px: Sequence[float]) -> tuple[float, float, float, float]:
    """Return four finite numbers with x1 < x2 and y1 < y2."""
    box = tuple(float(value) for value in box_xyxy_px)
    if len(box) != 4 or not all(math.isfinite(value) for value in box):
        raise ValueError(
            f"box_xyxy_px must be four finite numbers x1,y1,x2,y2, got {_shown(box)}; give all four in pixels"
        )
    x1, y1, x2, y2 = box
    if not (x1 < x2 and y1 < y2):
        raise ValueError(f"box_xyxy_px must have x1 < x2 and y1 < y2, got {_shown(box)}; is it x,y,w,h?")
    return x1, y1, x2, y2


def _shown(box: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in box) + ")"
