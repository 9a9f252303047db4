"""Check a dataset: read every sample, compare sizes, count what is broken, and draw some boxes."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from elysium.processing.atomic_files import atomic_path
from elysium.processing.data_files import DatasetError, broken_rule
from elysium.visualization.annotate import object_color
from elysium.visualization.contact_sheet import BACKGROUND, CAPTION_PX, FAINT_INK, GAP_PX, INK, TITLE_PX
from elysium.visualization.fonts import TextLine

from .frame_sources import ImageFrames
from .samples import Sample, SampleList, SampleSource

SHEET, SUMMARY = "overlays.png", "summary.json"
# Upper ends of size classes: side of a square of the box's area, as a share of that of the image.
SIDES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
_COMMON = 5
TILE_PX = 320
_ROW_PX = 3 * (TILE_PX + GAP_PX)
_TEXTS = 3  # of a sample


def check_samples(
    source: SampleSource,
    *,
    limit: int | None = None,
    output: Path | None = None,
    num_drawn: int = 12,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, Any]:
    """Read all samples, and summarise them.

    Args:
        source: as `open_source` gives it.
        limit: number of samples to read; all by default.
        output: folder for `overlays.png`, with the boxes of some samples, and `summary.json`; created where it
            is missing.
        num_drawn: samples to draw; broken ones among them are not drawn.
        seed: of the choice of samples to draw.
        progress: called after each sample with the number of samples read and to read.

    Returns:
        Content of `summary.json`: `source`, its number of `rows`, entries `skipped` when it was opened by reason, and
        the result of `Tally.to_dict`.

    Raises:
        OutputError: ``output`` cannot be written.
    """
    count = len(source) if limit is None else min(limit, len(source))
    chosen = set(np.random.default_rng(seed).permutation(count)[:num_drawn].tolist())
    tally, drawn = Tally(), list[Image.Image]()
    for index in range(count):
        try:
            sample = source[index]
            places, images = look_at(sample)
        except Exception as error:  # training would meet any error too: it is counted and shown
            tally.add_error(index, error)
        else:
            tally.add(sample)
            if index in chosen:
                drawn.append(draw_sample(sample, places, images, color=len(drawn) + 1))
        if progress is not None:
            progress(index + 1, count)
    skipped = dict(source.skipped) if isinstance(source, SampleList) else {}
    summary = {"source": source.name, "rows": len(source), "skipped": skipped} | tally.to_dict()
    if output is not None:
        with atomic_path(output / SUMMARY) as temporary:
            temporary.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if drawn:
            title = f"{summary['source']}: {summary['good']} of {summary['checked']} rows can be read"
            with atomic_path(output / SHEET) as temporary:
                draw_sheet(drawn, title).save(temporary, format="PNG", optimize=True)
    return summary


def look_at(sample: Sample) -> tuple[list[int], NDArray[np.uint8]]:
    """Check a sample as far as possible without decoding all frames; return its first, middle and last frame.

    Returns:
        Their 0-based indices, and the images `(n, H, W, 3)`.

    Raises:
        DatasetError: no task possible, different numbers of frames and boxes, or frames of different sizes.
        VideoError, ValueError: raised when frames are read.
    """
    length, boxes = len(sample.frames), sample.boxes_xyxy_norm
    if boxes is not None and len(boxes) != length:
        raise DatasetError(
            f"a sample must have a box for each frame, got {len(boxes)} boxes and {length} frames in {sample.where}; "
            "extract its archive again"
        )
    worded = bool(sample.text or sample.description)
    if not sample.turns and not (sample.visible.any() and (worded or length > 1)):
        got = "an object without a text in an image" if sample.visible.any() else "no visible box"
        raise DatasetError(f"a sample must have something to learn, got {got} in {sample.where}; leave it out")
    if isinstance(sample.frames, ImageFrames):
        _check_sizes(sample.frames, sample.where)
    places = sorted({0, length // 2, length - 1})
    images = sample.frames.read(places)
    height, width = images.shape[1:3]
    if sample.frames.size != (width, height):
        raise DatasetError(
            f"frames must have the size that their file declares, got {width}x{height} after "
            f"{sample.frames.size[0]}x{sample.frames.size[1]} in {sample.where}; get it again"
        )
    return places, images


def _check_sizes(frames: ImageFrames, where: str) -> None:
    """Check that all images have the same size, without decoding them."""
    for file in frames.files[1:]:
        size = ImageFrames([file]).size
        if size != frames.size:
            raise DatasetError(
                f"frames of a sample must have one size, got {size[0]}x{size[1]} after "
                f"{frames.size[0]}x{frames.size[1]} in {where}; get them again"
            )


@dataclass
class Tally:
    """Counts over samples; its size does not grow with their number."""

    good: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    frames: Counter[str] = field(default_factory=lambda: Counter(boxed=0, absent=0, without_boxes=0))
    sides: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(SIDES), np.int64))
    sizes: Counter[str] = field(default_factory=Counter)
    with_text: int = 0
    turns: int = 0
    errors: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, sample: Sample) -> None:
        """Count a sample that can be read."""
        length, boxes = len(sample.frames), sample.boxes_xyxy_norm
        self.good += 1
        kind = "an image" if length == 1 else "a video"
        self.kinds[f"{kind} with {'turns' if boxes is None else 'boxes'}"] += 1
        if boxes is None:
            self.frames["without_boxes"] += length
        else:
            seen = boxes[sample.visible]
            self.frames.update(boxed=len(seen), absent=length - len(seen))
            sides = np.sqrt((seen[:, 2:] - seen[:, :2]).prod(axis=1))
            self.sides += np.bincount(np.searchsorted(SIDES[:-1], sides), minlength=len(SIDES))
        width, height = sample.frames.size
        self.sizes[f"{width}x{height}"] += 1
        self.with_text += sample.text is not None
        self.turns += len(sample.turns)

    def add_error(self, index: int, error: Exception) -> None:
        """Count a sample that cannot be read; the first message of each reason is kept."""
        first = {"count": 0, "first_row": index, "first": f"{error}" or type(error).__name__}
        self.errors.setdefault(reason_of(error), first)["count"] += 1

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON values.

        Returns:
            `checked`, `good` and `broken` rows; `kinds` of good rows; `frames` with a box, with the object absent and
            of rows without boxes; `box_sides`, how many boxes have which side (of a square of the same area, as a
            share of the image's); the most common `image_sizes`; numbers of rows with a text and of turns; `errors`
            by reason, the most common first.
        """
        low = (0.0, *SIDES)
        by_count = sorted(self.errors.items(), key=lambda item: -item[1]["count"])
        broken = sum(found["count"] for found in self.errors.values())
        return {
            "checked": self.good + broken,
            "good": self.good,
            "broken": broken,
            "kinds": dict(self.kinds),
            "frames": dict(self.frames),
            "box_sides": {f"{low[i]:.0%}-{SIDES[i]:.0%}": int(count) for i, count in enumerate(self.sides)},
            "image_sizes": dict(self.sizes.most_common(_COMMON)),
            "rows_with_text": self.with_text,
            "turns": self.turns,
            "errors": [{"reason": reason} | found for reason, found in by_count],
        }


def reason_of(error: Exception) -> str:
    """Return the rule that was broken, without paths and numbers.

    >>> reason_of(ValueError("a box must be below 640, got 700 in a/b.csv; is it x,y,w,h?"))
    'a box must be below N'
    """
    return re.sub(r"\d+(\.\d+)?", "N", re.sub(r"\S*/\S*", "…", broken_rule(error)))


def draw_sample(sample: Sample, places: Sequence[int], images: NDArray[np.uint8], *, color: int) -> Image.Image:
    """Draw frames of a sample side by side, with its name above them, captions and the first texts below.

    Args:
        sample: sample to draw.
        places: 0-based indices of at most three frames.
        images (`np.ndarray` of shape `(n, H, W, 3)`): uint8 RGB, those frames.
        color: number of the colour, from 1.
    """
    line_px = round(1.4 * CAPTION_PX)
    tiles = [_draw_tile(sample, place, image, color) for place, image in zip(places, images, strict=True)]
    texts = [text for text in dict.fromkeys([sample.text, sample.description]) if text]
    texts = [*texts, *(f"{question} → {answer}" for question, answer in sample.turns)][:_TEXTS]
    below = line_px + max(tile.height for tile in tiles) + GAP_PX // 2
    drawn = Image.new("RGB", (_ROW_PX, below + (1 + len(texts)) * line_px), BACKGROUND)
    _fitting_line(sample.key).draw(drawn, (0, 0), INK)
    for column, (place, tile) in enumerate(zip(places, tiles, strict=True)):
        caption = f"frame {place} · {len(sample.frames)} frames"
        if sample.boxes_xyxy_norm is not None and not sample.visible[place]:
            caption += " · not in sight"
        drawn.paste(tile, (column * (TILE_PX + GAP_PX), line_px))
        TextLine(caption, CAPTION_PX).draw(drawn, (column * (TILE_PX + GAP_PX), below), FAINT_INK)
    for row, text in enumerate(texts, start=1):
        _fitting_line(text).draw(drawn, (0, below + row * line_px), INK)
    return drawn


def _fitting_line(text: str) -> TextLine:
    """Return the beginning of a text that fits into the width of a sample."""
    text = " ".join(text[:1000].split())[:200]
    line = TextLine(text, CAPTION_PX)
    while line.width_px > _ROW_PX:
        text = text[: -2 - len(text) // 16] + "…"
        line = TextLine(text, CAPTION_PX)
    return line


def _draw_tile(sample: Sample, place: int, image: NDArray[np.uint8], color: int) -> Image.Image:
    """Return an image that fits into a square, with its box and without a label, which could hide small boxes."""
    full = Image.fromarray(image)
    scale = TILE_PX / max(full.size)
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


def draw_sheet(drawn: Sequence[Image.Image], title: str) -> Image.Image:
    """Return the drawn samples below each other, under a title."""
    top = 2 * GAP_PX + round(1.6 * TITLE_PX)
    heights = [image.height + GAP_PX for image in drawn]
    sheet = Image.new("RGB", (_ROW_PX + GAP_PX, top + sum(heights)), BACKGROUND)
    TextLine(title, TITLE_PX).draw(sheet, (GAP_PX, GAP_PX), INK)
    for image, height in zip(drawn, heights, strict=True):
        sheet.paste(image, (GAP_PX, top))
        top += height
    return sheet
