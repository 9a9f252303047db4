"""Draw a contact sheet of some samples: frames with boxes, and texts."""

import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from elysium.visualization.annotate import REASON_NOTES, object_color
from elysium.visualization.contact_sheet import (
    BACKGROUND,
    CAPTION_PX,
    FAINT_INK,
    GAP_PX,
    INK,
    SHEET_WIDTH_PX,
    TITLE_PX,
)
from elysium.visualization.fonts import TextLine

from .samples import Sample

COLUMNS = 2
STRIP_WIDTH_PX = (SHEET_WIDTH_PX - GAP_PX * (COLUMNS + 1)) // COLUMNS
_TILES = 3
_TILE_GAP_PX = 6
_TILE_PX = (STRIP_WIDTH_PX - _TILE_GAP_PX * (_TILES - 1)) // _TILES
_SMALL_PX = 15
_LINE_PX = round(1.4 * _SMALL_PX)
_MOST_LINES = 3


@dataclass(frozen=True, eq=False)
class Strip:
    """Drawing of a sample.

    Args:
        title: name of the sample.
        lines: texts of the sample.
        tiles: images with boxes, each with a caption.
    """

    title: str
    lines: list[str]
    tiles: list[tuple[Image.Image, str]]


def make_strip(sample: Sample, places: Sequence[int], images: NDArray[np.uint8], *, color: int) -> Strip:
    """Return small images with boxes, so that the large ones need not be kept.

    Args:
        sample: sample to draw.
        places: 0-based indices of at most three frames.
        images (`np.ndarray` of shape `(n, H, W, 3)`): uint8 RGB, those frames.
        color: number of the colour, from 1.
    """
    side = _TILE_PX if len(places) > 1 else STRIP_WIDTH_PX // 2
    tiles = []
    for place, image in zip(places, images, strict=True):
        caption = f"frame {place + 1} of {len(sample.frames)}" if len(sample.frames) > 1 else ""
        if sample.boxes_xyxy_norm is not None and not sample.visible[place]:
            caption += f" · {REASON_NOTES['absent']}"
        tiles.append((_draw_tile(sample, place, image, side, color), caption))
    lines = [sample.text] if sample.text else []
    lines += [sample.description] if sample.description and sample.description != sample.text else []
    lines += [f"{question} → {answer}" for question, answer in sample.turns]
    return Strip(sample.key, lines, tiles)


def _draw_tile(sample: Sample, place: int, image: NDArray[np.uint8], side: int, color: int) -> Image.Image:
    """Return an image that fits into a square, with its box and without a label, which could hide small boxes."""
    full = Image.fromarray(image)
    scale = min(side / full.width, side / full.height)
    size = (max(1, round(full.width * scale)), max(1, round(full.height * scale)))
    small = full.resize(size, Image.Resampling.LANCZOS)
    if sample.boxes_xyxy_norm is not None and sample.visible[place]:
        x1, y1, x2, y2 = sample.boxes_xyxy_norm[place] * [*size, *size]
        draw = ImageDraw.Draw(small)
        # A box's right and lower edges are outside of it, PIL's inside; here a box may be narrower than a pixel.
        x2, y2 = max(x1, x2 - 1), max(y1, y2 - 1)
        draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=INK, width=4)  # visible on images of the box's colour
        draw.rectangle((x1, y1, x2, y2), outline=object_color(color).as_hex(), width=2)
    return small


def draw_strips(strips: Sequence[Strip], title: str) -> Image.Image:
    """Return the sheet: strips in two columns under a title; one column for a single strip."""
    drawn = [_draw_strip(strip) for strip in strips]
    rows = [drawn[start : start + COLUMNS] for start in range(0, len(drawn), COLUMNS)]
    width = SHEET_WIDTH_PX if len(strips) > 1 else STRIP_WIDTH_PX + 2 * GAP_PX
    top = 2 * GAP_PX + round(1.6 * TITLE_PX)
    heights = [max(image.height for image in row) + 2 * GAP_PX for row in rows]
    sheet = Image.new("RGB", (width, top + sum(heights)), BACKGROUND)
    TextLine(title, TITLE_PX).draw(sheet, (GAP_PX, GAP_PX), INK)
    for row, height in zip(rows, heights, strict=True):
        for column, image in enumerate(row):
            sheet.paste(image, (GAP_PX + column * (STRIP_WIDTH_PX + GAP_PX), top))
        top += height
    return sheet


def _draw_strip(strip: Strip) -> Image.Image:
    """Draw the title, tiles side by side with captions, and texts below them or beside a single tile."""
    single = len(strip.tiles) == 1
    left = strip.tiles[0][0].width + GAP_PX if single else 0
    words = [line for text in strip.lines for line in _wrapped(text, STRIP_WIDTH_PX - left)]
    most = max(1, strip.tiles[0][0].height // _LINE_PX) if single else _MOST_LINES
    if len(words) > most:
        words = [*words[: most - 1], words[most - 1] + " …"]
    tall = max(tile.height for tile, _ in strip.tiles)
    upper = round(1.5 * CAPTION_PX)
    below = upper + tall + (0 if single else _LINE_PX + 2)
    height = below if single else below + len(words) * _LINE_PX
    image = Image.new("RGB", (STRIP_WIDTH_PX, max(height, upper + len(words) * _LINE_PX)), BACKGROUND)
    TextLine(_cut(strip.title, STRIP_WIDTH_PX), CAPTION_PX).draw(image, (0, 0), INK)
    for position, (tile, caption) in enumerate(strip.tiles):
        x = position * (_TILE_PX + _TILE_GAP_PX)
        image.paste(tile, (x, upper))
        TextLine(caption, _SMALL_PX).draw(image, (x, upper + tile.height + 2), FAINT_INK)
    for number, line in enumerate(words):
        TextLine(line, _SMALL_PX).draw(image, (left, (upper if single else below) + number * _LINE_PX), INK)
    return image


def _wrapped(text: str, width_px: int) -> list[str]:
    """Return lines that fit; letters are taken to be as wide as an average one, those of East Asia twice as wide."""
    text = " ".join(text.split())
    wide = sum(unicodedata.east_asian_width(letter) in ("W", "F") for letter in text)
    letters = int(width_px / (0.56 * _SMALL_PX * (1 + wide / max(1, len(text)))))
    return textwrap.wrap(text, max(8, letters))


def _cut(text: str, width_px: int) -> str:
    letters = int(width_px / (0.6 * CAPTION_PX))
    return text if len(text) <= letters else "…" + text[1 - letters :]
