# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Animated GIFs as browsers show them: what a frame clears becomes transparent, whatever the background's colour."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from PIL import Image


def shown_delay_s(delay_ms: float) -> float:
    """Return the seconds that a frame stands; a delay of 0 or 10 ms is shown as 100 ms, as browsers do."""
    return delay_ms / 1000 if delay_ms > 10 else 0.1


@dataclass(frozen=True)
class _Tile:
    """Hold one frame as it is stored: a rectangle of the canvas.

    Args:
        control: its graphic control extension, empty where there is none.
        image: its descriptor, palette and pixels.
    """

    control: bytes
    image: bytes

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom in pixels."""
        left, top, width, height = struct.unpack("<4H", self.image[1:9])
        return left, top, left + width, top + height

    @property
    def disposal(self) -> int:
        """Return the disposal before the next frame: 2 clears its rectangle, 3 restores the canvas."""
        return (self.control[3] >> 2) & 7 if self.control else 0

    @property
    def delay_s(self) -> float:
        """Return the seconds that it stands."""
        return shown_delay_s(10 * struct.unpack("<H", self.control[4:6])[0] if self.control else 0)


def gif_delays_s(data: bytes) -> list[float]:
    """Return how long each whole frame of a GIF stands, in seconds, without decoding."""
    return [tile.delay_s for tile in _tiles(data)]


def gif_frames(data: bytes) -> Iterator[Image.Image]:
    """Yield the whole frames of a GIF as RGBA images of the canvas's size.

    Raises:
        OSError: pixels of a frame that do not decode.
    """
    canvas = None
    for tile in _tiles(data):
        left, top, right, bottom = tile.box
        if canvas is None:
            width, height = struct.unpack("<2H", data[6:10])
            canvas = Image.new("RGBA", (width or right, height or bottom))
        before = canvas.copy() if tile.disposal == 3 else None
        pixels = _decode(tile, data)
        canvas.paste(pixels, (left, top), pixels)
        yield canvas.copy()
        if tile.disposal == 2:
            canvas.paste((0, 0, 0, 0), (left, top, min(right, canvas.width), min(bottom, canvas.height)))
        elif before is not None:
            canvas = before


def _decode(tile: _Tile, data: bytes) -> Image.Image:
    """Decode a frame alone, as a GIF of its own."""
    left, top, right, bottom = tile.box
    size = struct.pack("<2H", right - left, bottom - top)
    alone = data[:6] + size + data[10 : _palette_end(data, 10)] + tile.control
    with Image.open(BytesIO(alone + b",\0\0\0\0" + tile.image[5:] + b";"), formats=("GIF",)) as image:
        return image.convert("RGBA")


def _palette_end(data: bytes, flags_at: int) -> int:
    """Return where the palette ends that a screen or image descriptor's flags announce."""
    flags = data[flags_at]
    start = 13 if flags_at == 10 else flags_at + 1
    return start + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)


def _tiles(data: bytes) -> Iterator[_Tile]:
    """Yield the frames in the order of the file; one that the file's end cuts off is left out."""
    control = b""
    try:
        at = _palette_end(data, 10)
        while True:
            start, kind = at, data[at]
            if kind == 0x21:
                at = _after_blocks(data, at + 2)
                control = data[start:at] if data[start + 1] == 0xF9 else control
            elif kind == 0x2C:
                at = _after_blocks(data, _palette_end(data, at + 9) + 1)
                yield _Tile(control, data[start:at])
                control = b""
            else:
                return
    except IndexError:
        return


def _after_blocks(data: bytes, at: int) -> int:
    """Return the place after a chain of sub-blocks, which one of length 0 ends."""
    while data[at]:
        at += 1 + data[at]
    return at + 1
