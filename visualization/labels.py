"""Place labels on coloured plates beside their boxes, inside the image and without overlap."""

from collections.abc import Sequence
from functools import lru_cache

from PIL import Image, ImageDraw

from .fonts import TextLine

Rectangle = tuple[int, int, int, int]  # left, top, right, bottom in pixels
INK = "#111111"  # at least 5:1 against every colour of an object; white is below 4:1 on all


class LabelWriter:
    """Write labels on images of one size.

    Args:
        width: width of the images in pixels.
        height: height of the images in pixels.
        size: font size in pixels.
    """

    def __init__(self, width: int, height: int, size: int) -> None:
        self.width, self.height, self.size = width, height, size
        self._padding = max(3, size // 3)
        self._set = lru_cache(maxsize=1024)(self._fit)  # the same labels recur in every frame

    def write(
        self,
        image: Image.Image,
        text: str,
        ending: str,
        color: tuple[int, int, int],
        box_xyxy_px: Sequence[float] | None,
        taken: list[Rectangle],
        other_boxes_xyxy_px: Sequence[Sequence[float]] = (),
    ) -> None:
        """Write a label on ``image``.

        Args:
            image: RGB image; it is changed.
            text: label; shortened if it is too wide.
            ending: text after the label; never shortened.
            color: colour of the plate.
            box_xyxy_px: box of the label; None for a note in the lower left corner.
            taken: plates already on the image, which are avoided; the new one is added.
            other_boxes_xyxy_px: boxes of other objects, avoided if another place beside the box is free.
        """
        line = self._set(text, ending)
        wide, high = line.width_px + 2 * self._padding, line.height_px + 2 * self._padding
        left, top = self._place(wide, high, box_xyxy_px, taken, other_boxes_xyxy_px)
        taken.append((left, top, left + wide, top + high))
        draw = ImageDraw.Draw(image)
        draw.rounded_rectangle((left, top, left + wide - 1, top + high - 1), radius=max(2, self.size // 5), fill=color)
        line.draw(image, (left + self._padding, top + self._padding), INK)

    def _fit(self, text: str, ending: str) -> TextLine:
        """Return the longest beginning of the text that fits the image together with the ending."""
        room = min(self.width - 2 * self._padding, max(0.7 * self.width, 12 * self.size))
        line = TextLine(text + ending, self.size)
        if line.width_px <= room:
            return line
        fits, beyond = 1, len(text)  # a length that fits, and one that does not
        while beyond - fits > 1:
            middle = (fits + beyond) // 2
            if TextLine(f"{text[:middle].rstrip()}…{ending}", self.size).width_px <= room:
                fits = middle
            else:
                beyond = middle
        return TextLine(f"{text[:fits].rstrip()}…{ending}", self.size)

    def _place(
        self,
        wide: int,
        high: int,
        box_xyxy_px: Sequence[float] | None,
        taken: list[Rectangle],
        others: Sequence[Sequence[float]],
    ) -> tuple[int, int]:
        """Return the upper left corner: above the box, inside its top, below it, or the next free place."""
        if box_xyxy_px is None:
            left = self._padding
            lowest = self.height - self._padding - high
            tops = [lowest - i * (high + self._padding // 2) for i in range(len(taken) + 1)]
        else:
            left = max(0, min(int(box_xyxy_px[0]), self.width - wide))
            above, bottom = int(box_xyxy_px[1]) - high, int(box_xyxy_px[3])
            steps = [i * high for i in range(1, 2 + len(taken))]
            beside = [above, above + high, bottom]
            clear = [y for y in beside if not any(_overlap(left, y, wide, high, other) for other in others)]
            tops = [*clear, *beside, *(above - step for step in steps), *(above + step for step in steps)]
        fitting = [top for top in tops if 0 <= top <= self.height - high] or [max(0, min(tops[0], self.height - high))]
        free = (top for top in fitting if not any(_overlap(left, top, wide, high, other) for other in taken))
        return left, next(free, fitting[0])


def _overlap(left: int, top: int, wide: int, high: int, other: Sequence[float]) -> bool:
    return left < other[2] and other[0] < left + wide and top < other[3] and other[1] < top + high
