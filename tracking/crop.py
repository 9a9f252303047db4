"""Square crops of frames around boxes, and boxes in shares of a crop and back.

A model sees a frame at its own size and writes boxes in whole percent: an object that is 3% of the image wide covers
few pixels, and one percent is a third of it. In a crop of twice its side the model sees all the pixels that the frame
has of it, and one percent is a fiftieth of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from elysium.processing.boxes_elysium import Box, BoxReading, norm_to_px

from .options import DEFAULTS

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
        box_xyxy_norm: Box,
        zoom: float,
        width: int,
        height: int,
        *,
        margin: float = DEFAULTS.crop_margin,
        min_side_px: int = DEFAULTS.min_crop_px,
    ) -> "Crop | None":
        """Return the square with a box in its middle.

        Args:
            box_xyxy_norm: box in shares of the image.
            zoom: side of the square over the side of a square of the box's area.
            width: width of the image in pixels.
            height: height of the image in pixels.
            margin: minimum side of the square over the longer side of the box.
            min_side_px: minimum side of the square.

        Returns:
            None where the square would hold no fewer pixels than the image.

        >>> Crop.around((0.5, 0.5, 0.55, 0.6), 2, 640, 480)
        Crop(left=296, top=224, side=79, width=640, height=480)
        """
        crops = cls.following([box_xyxy_norm], zoom, width, height, margin=margin, min_side_px=min_side_px)
        return None if crops is None else crops[0]

    @classmethod
    def following(
        cls,
        boxes_xyxy_norm: Sequence[Box],
        zoom: float,
        width: int,
        height: int,
        *,
        margin: float = DEFAULTS.crop_margin,
        min_side_px: int = DEFAULTS.min_crop_px,
    ) -> "list[Crop] | None":
        """Return squares of one size with boxes in their middles, the size by their median; the first box fits.

        Args:
            boxes_xyxy_norm: T boxes in shares of the image.
            zoom, width, height, margin, min_side_px: as in `around`.

        Returns:
            T squares; None where they would hold no fewer pixels than the image.
        """
        boxes = np.array([norm_to_px(box, width, height) for box in boxes_xyxy_norm])
        sides = boxes[:, 2:] - boxes[:, :2]
        by_area = zoom * float(np.median(np.sqrt(sides.prod(axis=1))))
        longest = max(float(np.median(sides.max(axis=1))), float(sides[0].max()))
        wanted = max(by_area, margin * longest, min_side_px)
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
        rows = np.arange(self.top, self.top + self.side).clip(0, self.height - 1)
        columns = np.arange(self.left, self.left + self.side).clip(0, self.width - 1)
        return image[rows[:, None], columns]

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

    def parsed_in_image(self, parsed: BoxReading) -> BoxReading:
        """Return a box parsed in shares of the square as one in shares of the image, clipped to it.

        A box that lies beyond the image's edge has the status ``"empty"``.
        """
        if parsed.box_xyxy_norm is None:
            return parsed
        x1, y1, x2, y2 = (min(max(value, 0.0), 1.0) for value in self.to_image(parsed.box_xyxy_norm))
        if min((x2 - x1) * self.width, (y2 - y1) * self.height) < _LEAST_BOX_PX:
            return replace(parsed, status="empty", box_xyxy_norm=None)
        return replace(parsed, box_xyxy_norm=(x1, y1, x2, y2))
