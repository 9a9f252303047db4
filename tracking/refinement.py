"""Refinement passes over a window: pure functions from the boxes of one pass to the crops of the next."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from elysium.processing.boxes_elysium import Box
from elysium.processing.overlap import paired_iou

from .crop import Crop
from .options import TrackingOptions


@dataclass(frozen=True)
class Refinement:
    """The crops of the next pass over a window.

    Args:
        start: place of the first frame of the pass in the window.
        box_xyxy_norm: box of its first frame, in shares of the image.
        crops: one square for each of its frames.
    """

    start: int
    box_xyxy_norm: Box
    crops: list[Crop]


def plan_refinement(
    boxes_xyxy_norm: Sequence[Box | None],
    options: TrackingOptions,
    width: int,
    height: int,
    *,
    opening: Box | None = None,
) -> Refinement | None:
    """Return the crops around the boxes of a pass; a frame without a box is cropped where the object was last.

    Args:
        boxes_xyxy_norm: one for each frame of the window, in shares of the image; None where there is none.
        options: resolved options.
        width: width of the image in pixels.
        height: height of the image in pixels.
        opening: box that replaces the first one.

    Returns:
        None without zoom, where no frame before the last has a box, or where crops would hold no fewer pixels.
    """
    start = next((place for place, box in enumerate(boxes_xyxy_norm) if box is not None), None)
    if not options.zoom or start is None or start == len(boxes_xyxy_norm) - 1:
        return None
    tracked: list[Box] = []
    for box in boxes_xyxy_norm[start:]:
        tracked.append(box if box is not None else tracked[-1])
    if opening is not None:
        tracked[0] = opening
    crops = Crop.following(
        tracked, options.zoom, width, height, margin=options.crop_margin, min_side_px=options.min_crop_px
    )
    return None if crops is None else Refinement(start, tracked[0], crops)


def first_pass_crop(box_xyxy_norm: Box, options: TrackingOptions, width: int, height: int) -> Crop | None:
    """Return the crop of the first pass around a known box; None without zoom, or where it would hold the image."""
    if not options.zoom:
        return None
    zoom = options.first_pass_crop * options.zoom
    return Crop.around(box_xyxy_norm, zoom, width, height, margin=options.crop_margin, min_side_px=options.min_crop_px)


def needs_refinement(
    pass_number: int,
    previous: Sequence[Box | None],
    boxes_xyxy_norm: Sequence[Box | None],
    options: TrackingOptions,
) -> bool:
    """Return whether another pass follows: always after the first, later where two passes disagree in some frame.

    Args:
        pass_number: number of the pass, from 1.
        previous: boxes of the pass before.
        boxes_xyxy_norm: boxes of the pass.
        options: resolved options.
    """
    if pass_number == 1:
        return bool(options.zoom)
    if pass_number >= options.max_passes:
        return False
    pairs = [pair for pair in zip(previous, boxes_xyxy_norm, strict=True) if None not in pair]
    boxes = np.array(pairs, dtype=np.float64).reshape(-1, 2, 4)
    return not np.all(paired_iou(boxes[:, 0], boxes[:, 1]) >= options.agreement_iou)
