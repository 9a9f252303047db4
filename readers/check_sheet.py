"""One sheet of a sample of rows: some frames of each with its box, and its words."""

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

from .rows import Row

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
    """A row as it is drawn.

    Args:
        title: its name.
        lines: its words.
        tiles: pictures with boxes, each with a caption.
    """

    title: str
    lines: list[str]
    tiles: list[tuple[Image.Image, str]]


def make_strip(row: Row, places: Sequence[int], pictures: NDArray[np.uint8], *, color: int) -> Strip:
    """Small pictures with boxes, so that the large ones need not be kept.

    Args:
        row: what is drawn.
        places: 0-based frames, at most three.
        pictures (`np.ndarray` of shape `(n, H, W, 3)`): uint8 RGB, those frames.
        color: number of the colour, from 1.
    """
    side = _TILE_PX if len(places) > 1 else STRIP_WIDTH_PX // 2
    tiles = []
    for place, picture in zip(places, pictures, strict=True):
        caption = f"frame {place + 1} of {len(row.frames)}" if len(row.frames) > 1 else ""
        if row.boxes_xyxy_norm is not None and not row.visible[place]:
            caption += f" · {REASON_NOTES['absent']}"
        tiles.append((_draw_tile(row, place, picture, side, color), caption))
    lines = [row.text] if row.text else []
    lines += [row.description] if row.description and row.description != row.text else []
    lines += [f"{question} → {answer}" for question, answer in row.turns]
    return Strip(row.key, lines, tiles)


def _draw_tile(row: Row, place: int, picture: NDArray[np.uint8], side: int, color: int) -> Image.Image:
    """A picture that fits into a square, with its box; a label would hide small ones, so the words stand beside it."""
    image = Image.fromarray(picture)
    scale = min(side / image.width, side / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.resize(size, Image.Resampling.LANCZOS)
    if row.boxes_xyxy_norm is not None and row.visible[place]:
        x1, y1, x2, y2 = row.boxes_xyxy_norm[place] * [*size, *size]
        draw = ImageDraw.Draw(small)
        # A box's right and lower edges are outside of it, PIL's inside; here a box may be narrower than a pixel.
        x2, y2 = max(x1, x2 - 1), max(y1, y2 - 1)
        draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=INK, width=4)  # shows on pictures of the box's colour
        draw.rectangle((x1, y1, x2, y2), outline=object_color(color).as_hex(), width=2)
    return small


def draw_strips(strips: Sequence[Strip], title: str) -> Image.Image:
    """The sheet: strips in two columns under a title, or one where there is one."""
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
    """Title, tiles side by side with captions, words below them; beside a single tile, where there is room."""
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
