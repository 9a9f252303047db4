"""Write labels on coloured plates beside their boxes; the size goes by image and object, the place is kept."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from PIL import Image, ImageDraw

from .fonts import TextLine
from .label_layout import Place, Rectangle, choose_place

INK = "#111111"  # at least 5:1 against every colour of an object; white is below 4:1 on all
SMALLEST_PX = 11  # of letters that can still be read
LARGE_OBJECT = 6  # times the large letters: a smaller object has small letters
PATIENCE_FRAMES = 15  # a label grows again once it has fitted for so long; it shrinks at once


@dataclass(frozen=True)
class Label:
    """Label of one object in one frame.

    Args:
        track_id: number of the object, by which its label keeps its place from frame to frame.
        text: text; shortened where it is too wide.
        ending: text behind it; never shortened.
        color: colour of the plate.
        box_xyxy_px: box of the object; None for a note in a corner of the image.
    """

    track_id: int
    text: str
    ending: str
    color: tuple[int, int, int]
    box_xyxy_px: Sequence[float] | None

    @property
    def key(self) -> tuple[int, bool]:
        """Return by what it is known in the next frame: the object, and whether it has a box."""
        return self.track_id, self.box_xyxy_px is not None


@dataclass(frozen=True)
class Plate:
    """Placed label.

    Args:
        label: the label.
        line: its text, as it is drawn.
        form: number of its form, from the largest.
        place: its place on the image.
        waited: frames for which a larger form has fitted.
    """

    label: Label
    line: TextLine
    form: int
    place: Place
    waited: int = 0

    def stays(self, before: "Plate | None") -> bool:
        """Return whether it has the form and the position that it had in the frame before."""
        return before is not None and (before.form, before.place.position) == (self.form, self.place.position)


class LabelWriter:
    """Write labels on the images of one video, in order.

    A label is whole in large or small letters, or only the number of its object where nothing else fits.

    Args:
        width: width of the images in pixels.
        height: height of the images in pixels.
        size: size of the large letters in pixels.
        line_px: width of the lines of the boxes, which labels keep off.
    """

    def __init__(self, width: int, height: int, size: int, *, line_px: int = 2) -> None:
        self.image_size, self.size, self._line_px = (width, height), size, line_px
        self._small = max(SMALLEST_PX, round(0.75 * size))
        self._set = lru_cache(maxsize=1024)(self._fit)  # the same labels recur in every frame
        self._before: dict[tuple[int, bool], Plate] = {}  # of the frame before, by the label's key

    def write(self, image: Image.Image, labels: Sequence[Label]) -> None:
        """Write the labels of one frame on an RGB image, which is changed."""
        draw = ImageDraw.Draw(image)
        for plate in self.layout(labels):
            left, top, right, bottom = plate.place.rectangle
            radius, padding = max(2, plate.line.size // 5), _padding(plate.line.size)
            draw.rounded_rectangle((left, top, right - 1, bottom - 1), radius=radius, fill=plate.label.color)
            plate.line.draw(image, (left + padding, top + padding), INK)

    def layout(self, labels: Sequence[Label]) -> list[Plate]:
        """Return where the labels of one frame go, in their order."""
        boxes = [drawn for label in labels if (drawn := self._drawn(label)) is not None]
        plates: dict[int, Plate] = {}
        for moving in (False, True):  # labels that keep their places first, so that those that move avoid them
            for number, label in enumerate(labels):
                if number not in plates:
                    plate = self._plate(label, boxes, [other.place.rectangle for other in plates.values()])
                    if moving or plate.stays(self._before.get(label.key)):
                        plates[number] = plate
        self._before |= {plate.label.key: plate for plate in plates.values()}
        return [plates[number] for number in range(len(labels))]

    def _drawn(self, label: Label) -> Rectangle | None:
        """Return the pixels of a label's box with its lines, None without a box."""
        if label.box_xyxy_px is None:
            return None
        edge = self._line_px // 2
        x1, y1, x2, y2 = (int(side) for side in label.box_xyxy_px)
        return x1 - edge, y1 - edge, x2 + edge + 1, y2 + edge + 1

    def _plate(self, label: Label, boxes: Sequence[Rectangle], taken: Sequence[Rectangle]) -> Plate:
        """Return the label in the largest form that fits, where it was in the frame before if it can."""
        box, forms, before = self._drawn(label), self._forms(label), self._before.get(label.key)

        def placed(form: int) -> Plate:
            line = self._set(*forms[form])
            size = line.width_px + 2 * _padding(line.size), line.height_px + 2 * _padding(line.size)
            kept = before.place.position if before is not None and before.form == form else None
            return Plate(label, line, form, choose_place(size, box, boxes, taken, self.image_size, kept))

        plates = (placed(form) for form in range(self._first_form(box), len(forms)))
        plate = next((plate for plate in plates if plate.place.fits), None) or placed(len(forms) - 1)
        if before is not None and plate.form < before.form and before.waited < PATIENCE_FRAMES:
            same = placed(before.form)
            plate = replace(same, waited=before.waited + 1) if same.place.fits else plate
        return plate

    def _forms(self, label: Label) -> list[tuple[str, str, int]]:
        """Return text, ending and size of the letters of a label's forms, from the largest to the smallest."""
        forms = [(label.text, label.ending, size) for size in (self.size, self._small)]
        return forms if label.box_xyxy_px is None else [*forms, (f"#{label.track_id}", "", self._small)]

    def _first_form(self, box: Rectangle | None) -> int:
        """Return the largest form for an object of this size; notes have small letters."""
        large = box is not None and (box[2] - box[0]) * (box[3] - box[1]) >= (LARGE_OBJECT * self.size) ** 2
        return 0 if large else 1

    def _fit(self, text: str, ending: str, size: int) -> TextLine:
        """Return the longest beginning of the text that is not too wide together with the ending."""
        width = self.image_size[0]
        room = min(width - 2 * _padding(size), max(0.4 * width, 16 * size))
        line = TextLine(text + ending, size)
        if line.width_px <= room:
            return line
        fits, beyond = 1, len(text)  # a length that fits, and one that does not
        while beyond - fits > 1:
            middle = (fits + beyond) // 2
            if TextLine(f"{text[:middle].rstrip()}…{ending}", size).width_px <= room:
                fits = middle
            else:
                beyond = middle
        return TextLine(f"{text[:fits].rstrip()}…{ending}", size)


def _padding(size: int) -> int:
    """Return the space in pixels between the letters and the edge of their plate."""
    return max(2, size // 4)
