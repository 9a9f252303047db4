"""Objects in images with referring expressions, as all readers of such datasets return them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elysium.processing.boxes_elysium import Box
from elysium.processing.data_files import DatasetError, is_number

from .frame_sources import ImageFrames


@dataclass(frozen=True, kw_only=True)
class ReferredObject:
    """One object in one image, and all expressions that refer to it.

    Args:
        key: unique in its dataset, and the same whenever it is read.
        split: split of the dataset, such as "testA".
        image: path of an image, or the bytes of a JPEG or PNG file.
        sentences: one or more, none of them blank.
        box_xyxy_px: in pixels of the stored image, as annotated: rounding may take it past the edge.
        size: width and height in pixels where the annotation says so, else None.
    """

    key: str
    split: str
    image: Path | bytes
    sentences: tuple[str, ...]
    box_xyxy_px: Box
    size: tuple[int, int] | None = None

    def load_image(self) -> NDArray[np.uint8]:
        """Return the stored image, uint8 RGB `(H, W, 3)`; not rotated by EXIF, since boxes count stored pixels.

        Raises:
            DatasetError: it is missing, does not decode, or has another size than annotated.
        """
        image = ImageFrames([self.image]).read([0])[0]
        height, width = image.shape[:2]
        if self.size is not None and self.size != (width, height):
            raise DatasetError(
                f"an image must have the annotated size {self.size[0]}x{self.size[1]}, got {width}x{height} in "
                f"{'its bytes' if isinstance(self.image, bytes) else self.image} for {self.key}; "
                "get the images in their original size"
            )
        return image

    def box_inside(self, width: int, height: int) -> Box:
        """Return `box_xyxy_px` cut to an image of this size.

        Raises:
            DatasetError: nothing of it is inside.
        """
        x1, y1, x2, y2 = self.box_xyxy_px
        box = (max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2))
        if not (box[0] < box[2] and box[1] < box[3]):
            raise DatasetError(
                f"a box must be inside its {width}x{height} image, got {self.box_xyxy_px} for {self.key}; "
                "check that images and annotations belong together"
            )
        return box


@dataclass(frozen=True, kw_only=True)
class ReferringExpression:
    """One sentence about one object: a sample of referring expression comprehension.

    Args:
        key: unique in its dataset, and the same whenever it is read.
        text: sentence.
        target: object that it refers to.
    """

    key: str
    text: str
    target: ReferredObject


def expressions_of(target: ReferredObject) -> Iterator[ReferringExpression]:
    """Yield each sentence of an object as a sample."""
    for number, text in enumerate(target.sentences):
        yield ReferringExpression(key=f"{target.key}/{number}", text=text, target=target)


def checked_box(values: Any, where: str) -> Box:
    """Return x, y, width and height of an annotation as x1, y1, x2, y2, all in pixels.

    Args:
        values: four numbers.
        where: owner of the box, for the message.

    Raises:
        DatasetError: not four finite numbers, or no area.

    >>> checked_box([10, 20, 30, 40], "row 1")
    (10.0, 20.0, 40.0, 60.0)
    """
    if not isinstance(values, list | tuple) or len(values) != 4 or not all(map(is_number, values)):
        raise DatasetError(f"a box must be four numbers x,y,w,h, got {values!r} for {where}; get it again")
    x, y, width, height = (float(value) for value in values)
    box = (x, y, x + width, y + height)
    if not (all(map(math.isfinite, box)) and box[0] < box[2] and box[1] < box[3]):
        raise DatasetError(
            f"a box x,y,w,h must be finite and have an area, got {list(values)} for {where}; is it x1,y1,x2,y2?"
        )
    return box


def spoken(sentences: Sequence[str | None]) -> tuple[str, ...]:
    """Return the sentences without blanks at their ends; blank ones are left out, since they refer to nothing.

    >>> spoken([" red cup ", ""])
    ('red cup',)
    """
    return tuple(text.strip() for text in sentences if text and text.strip())
