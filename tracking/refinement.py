"""Refinement passes over a window, on square crops of frames around boxes: from the boxes of a pass to the next crops.

A model sees a frame at its own size and writes boxes in whole percent: an object that is 3% of the image wide covers
few pixels, and one percent is a third of it. In a crop of twice its side the model sees all the pixels that the frame
has of it, and one percent is a fiftieth of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from elysium.processing.boxes_elysium import Box, ParsedBox, norm_to_px
from elysium.processing.overlap import paired_iou

from .options import DEFAULTS, TrackingOptions

# A box that is narrower than this at the edge of the image comes from the rounding of floats.
_LEAST_BOX_PX = 1e-3


@dataclass(frozen=True)
class Crop:
    """Hold a square of whole pixels, which may reach beyond the image.

    Args:
        left: left edge of the square, in pixels of the image; negative beyond its edge.
        top: top edge, likewise.
        side: side of the square, in pixels.
        width: width of the image in pixels.
        height: height of the image in pixels.
    """

    left: int
    top: int
    side: int
    width: int
    height: int

    @classmethod
    def around(
        cls,
        boxes_xyxy_norm: Sequence[Box],
        zoom: float,
        width: int,
        height: int,
        options: TrackingOptions = DEFAULTS,
    ) -> "list[Crop] | None":
        """Return squares of one size with boxes in their middles, the size by their median; the first box fits.

        Args:
            boxes_xyxy_norm: T boxes in shares of the image.
            zoom: side of the squares over the side of a square of the boxes' median area.
            width: width of the image in pixels.
            height: height of the image in pixels.
            options: resolved options; `crop_margin` and `min_crop_px` are read.

        Returns:
            T squares; None where they would hold no fewer pixels than the image.

        >>> Crop.around([(0.5, 0.5, 0.55, 0.6)], 2, 640, 480)
        [Crop(left=296, top=224, side=79, width=640, height=480)]
        """
        boxes = np.array([norm_to_px(box, width, height) for box in boxes_xyxy_norm])
        sides = boxes[:, 2:] - boxes[:, :2]
        by_area = zoom * float(np.median(np.sqrt(sides.prod(axis=1))))
        longest = max(float(np.median(sides.max(axis=1))), float(sides[0].max()))
        wanted = max(by_area, options.crop_margin * longest, options.min_crop_px)
        if wanted**2 >= width * height:
            return None
        side = math.ceil(wanted)
        corners = ((boxes[:, :2] + boxes[:, 2:] - side) / 2).round().astype(int)
        return [cls(left, top, side, width, height) for left, top in corners.tolist()]

    def cut(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the square of an image: its own pixels, and beyond its edges those at the edge again.

        Args:
            image (`np.ndarray` of shape `(H, W, 3)`): uint8 RGB.

        Returns:
            `np.ndarray` of shape `(side, side, 3)`.
        """
        rows, above = _clipped(self.top, self.side, self.height)
        columns, left = _clipped(self.left, self.side, self.width)
        inner = image[rows, columns]
        if inner.shape[:2] == (self.side, self.side):
            return inner.copy()
        below, right = self.side - above - inner.shape[0], self.side - left - inner.shape[1]
        return np.pad(inner, ((above, below), (left, right), (0, 0)), mode="edge")

    def from_image(self, box_xyxy_norm: Box) -> Box:
        """Return a box in shares of the image as one in shares of the square."""
        x1, y1, x2, y2 = box_xyxy_norm
        return (
            (x1 * self.width - self.left) / self.side,
            (y1 * self.height - self.top) / self.side,
            (x2 * self.width - self.left) / self.side,
            (y2 * self.height - self.top) / self.side,
        )

    def to_image(self, box_xyxy_norm: Box) -> Box:
        """Return a box in shares of the square as one in shares of the image; the inverse of `from_image`."""
        x1, y1, x2, y2 = box_xyxy_norm
        return (
            (self.left + x1 * self.side) / self.width,
            (self.top + y1 * self.side) / self.height,
            (self.left + x2 * self.side) / self.width,
            (self.top + y2 * self.side) / self.height,
        )

    def parsed_in_image(self, parsed: ParsedBox) -> ParsedBox:
        """Return a box parsed in shares of the square as one in shares of the image, clipped to it.

        A box that lies beyond the image's edge has the status ``"empty"``.
        """
        if parsed.box_xyxy_norm is None:
            return parsed
        x1, y1, x2, y2 = (min(max(value, 0.0), 1.0) for value in self.to_image(parsed.box_xyxy_norm))
        if min((x2 - x1) * self.width, (y2 - y1) * self.height) < _LEAST_BOX_PX:
            return replace(parsed, status="empty", box_xyxy_norm=None)
        return replace(parsed, box_xyxy_norm=(x1, y1, x2, y2))


def _clipped(start: int, side: int, size: int) -> tuple[slice, int]:
    """Return the part of an image's axis that a square covers, at least its nearest pixel, and the padding before it.

    >>> _clipped(-5, 20, 100), _clipped(-30, 20, 100), _clipped(120, 20, 100)
    ((slice(0, 15, None), 5), (slice(0, 1, None), 19), (slice(99, 100, None), 0))
    """
    first, last = (min(max(place, 0), size - 1) for place in (start, start + side - 1))
    return slice(first, last + 1), min(max(first - start, 0), side - (last + 1 - first))


def plan_refinement(
    boxes_xyxy_norm: Sequence[Box | None],
    options: TrackingOptions,
    width: int,
    height: int,
    *,
    opening: Box | None = None,
) -> tuple[int, Box, list[Crop]] | None:
    """Plan the next pass over a window, on crops around boxes; a frame without one is cropped where the object was.

    Args:
        boxes_xyxy_norm: one for each frame of the window, in shares of the image; None where there is none.
        options: resolved options.
        width: width of the image in pixels.
        height: height of the image in pixels.
        opening: box that replaces the first one.

    Returns:
        Place of its first frame in the window, the box of that frame, and a crop for each frame from there on; None
        without zoom, where no frame before the last has a box, or where crops would hold no fewer pixels.
    """
    start = next((place for place, box in enumerate(boxes_xyxy_norm) if box is not None), None)
    if not options.zoom or start is None or start == len(boxes_xyxy_norm) - 1:
        return None
    tracked: list[Box] = []
    for box in boxes_xyxy_norm[start:]:
        tracked.append(box if box is not None else tracked[-1])
    if opening is not None:
        tracked[0] = opening
    crops = Crop.around(tracked, options.zoom, width, height, options)
    return None if crops is None else (start, tracked[0], crops)


def first_pass_crops(
    boxes_xyxy_norm: Sequence[Box], options: TrackingOptions, width: int, height: int
) -> list[Crop] | None:
    """Return the crops of a first pass around known boxes; None without zoom, or where they would hold the image."""
    if not options.zoom:
        return None
    return Crop.around(boxes_xyxy_norm, options.first_pass_crop * options.zoom, width, height, options)


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
