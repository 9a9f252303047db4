"""What a data set holds, and what of it is broken: every row read, sizes compared, some boxes drawn."""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elysium.processing.atomic_files import atomic_path

from .check_sheet import Strip, draw_strips, make_strip
from .frame_sources import DatasetError, PictureFrames
from .rows import ListRows, Row, RowSource

SHEET, SUMMARY = "overlays.png", "summary.json"
# Upper ends of classes: the side of a square of the box's area, as a share of that of the picture's.
SIDES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
_COMMON = 5


def check_rows(
    source: RowSource,
    *,
    limit: int | None = None,
    output: Path | None = None,
    num_drawn: int = 12,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, Any]:
    """Goes through the rows, and says what they hold.

    Args:
        source: as `open_source` gives it.
        limit: only the first rows.
        output: folder for `overlays.png`, with the boxes of a sample of the rows, and `summary.json`; made where it
            is missing.
        num_drawn: rows in that sample; those of them that are broken are not drawn.
        seed: of the sample.
        progress: called after each row with the rows read and how many there are to read.

    Returns:
        What `summary.json` holds: `source`, its number of `rows`, entries `skipped` when it was opened by reason, and
        what `Tally.to_dict` says.

    Raises:
        OutputError: ``output`` cannot be written.
    """
    count = len(source) if limit is None else min(limit, len(source))
    chosen = set(np.random.default_rng(seed).permutation(count)[:num_drawn].tolist())
    tally, strips = Tally(), list[Strip]()
    for index in range(count):
        try:
            row = source[index]
            places, pictures = look_at(row)
        except Exception as error:  # whatever it is, training would meet it too: it is counted and shown
            tally.add_error(index, error)
        else:
            tally.add(row)
            if index in chosen:
                strips.append(make_strip(row, places, pictures, color=len(strips) + 1))
        if progress is not None:
            progress(index + 1, count)
    skipped = dict(source.skipped) if isinstance(source, ListRows) else {}
    summary = {"source": source.name, "rows": len(source), "skipped": skipped} | tally.to_dict()
    if output is not None:
        _write(output, summary, strips)
    return summary


def look_at(row: Row) -> tuple[list[int], NDArray[np.uint8]]:
    """The first, middle and last frame of a row, after everything that can be checked without decoding them all.

    Returns:
        Their 0-based places, and the pictures `(n, H, W, 3)`.

    Raises:
        DatasetError: nothing to learn, another number of frames than of boxes, or frames of different sizes.
        VideoError, ValueError: what reading them raises.
    """
    length, boxes = len(row.frames), row.boxes_xyxy_norm
    if boxes is not None and len(boxes) != length:
        raise DatasetError(
            f"a row must have a box for each frame, got {len(boxes)} boxes and {length} frames in {row.where}; "
            "extract its archive again"
        )
    worded = bool(row.text or row.description)
    if not row.turns and not (row.visible.any() and (worded or length > 1)):
        got = "an object without words in a picture" if row.visible.any() else "no visible box"
        raise DatasetError(f"a row must have something to learn, got {got} in {row.where}; leave it out")
    if isinstance(row.frames, PictureFrames):
        _check_sizes(row.frames, row.where)
    places = sorted({0, length // 2, length - 1})
    pictures = row.frames.read(places)
    height, width = pictures.shape[1:3]
    if row.frames.size != (width, height):
        raise DatasetError(
            f"frames must have the size that their file declares, got {width}x{height} after "
            f"{row.frames.size[0]}x{row.frames.size[1]} in {row.where}; get it again"
        )
    return places, pictures


def _check_sizes(frames: PictureFrames, where: str) -> None:
    """Reads the size of every picture, without decoding it."""
    for file in frames.files[1:]:
        size = PictureFrames([file]).size
        if size != frames.size:
            raise DatasetError(
                f"frames of a row must have one size, got {size[0]}x{size[1]} after {frames.size[0]}x{frames.size[1]} "
                f"in {where}; get them again"
            )


@dataclass
class Tally:
    """Counts of what was seen; its size does not grow with the number of rows."""

    good: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    frames: Counter[str] = field(default_factory=lambda: Counter(boxed=0, absent=0, without_boxes=0))
    sides: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(SIDES), np.int64))
    smallest: float = np.inf
    largest: float = 0.0
    sizes: Counter[str] = field(default_factory=Counter)
    with_text: int = 0
    turns: int = 0
    num_words: int = 0
    words: Counter[str] = field(default_factory=Counter)
    errors: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """A row that can be learnt from."""
        length, seen = len(row.frames), int(row.visible.sum())
        self.good += 1
        kind = "a picture" if length == 1 else "a video"
        self.kinds[f"{kind} with {'turns' if row.boxes_xyxy_norm is None else 'boxes'}"] += 1
        if row.boxes_xyxy_norm is None:
            self.frames["without_boxes"] += length
        else:
            self.frames.update(boxed=seen, absent=length - seen)
            self._add_boxes(row.boxes_xyxy_norm[row.visible])
        width, height = row.frames.size
        self.sizes[f"{width}x{height}"] += 1
        self.with_text += row.text is not None
        self.turns += len(row.turns)
        texts = {row.text, row.description} - {None}
        for text in [*texts, *(text for turn in row.turns for text in turn)]:
            found = re.findall(r"[^\W_]+(?:['’][^\W_]+)*", str(text).lower())
            self.num_words += len(found)
            self.words.update(found)

    def _add_boxes(self, boxes_xyxy_norm: NDArray[np.float64]) -> None:
        if not len(boxes_xyxy_norm):
            return
        sides = np.sqrt((boxes_xyxy_norm[:, 2:] - boxes_xyxy_norm[:, :2]).prod(axis=1))
        self.sides += np.bincount(np.searchsorted(SIDES[:-1], sides), minlength=len(SIDES))
        self.smallest, self.largest = min(self.smallest, sides.min()), max(self.largest, sides.max())

    def add_error(self, index: int, error: Exception) -> None:
        """A row that cannot be read; the first of each reason is kept whole."""
        first = {"count": 0, "first_row": index, "first": f"{error}" or type(error).__name__}
        self.errors.setdefault(reason_of(error), first)["count"] += 1

    @property
    def broken(self) -> int:
        """Rows that cannot be read."""
        return sum(found["count"] for found in self.errors.values())

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON holds them.

        Returns:
            `checked`, `good` and `broken` rows; `kinds` of good rows; `frames` with a box, with the object absent and
            of rows without boxes; `box_sides`, how many boxes have which side (of a square of the same area, as a
            share of the picture's), with the smallest and the largest; the commonest `picture_sizes`; `words` of
            texts, descriptions and turns; `errors` by reason, the commonest first.
        """
        low = (0.0, *SIDES)
        boxed = self.frames["boxed"] > 0
        by_count = sorted(self.errors.items(), key=lambda item: -item[1]["count"])
        return {
            "checked": self.good + self.broken,
            "good": self.good,
            "broken": self.broken,
            "kinds": dict(self.kinds),
            "frames": dict(self.frames),
            "box_sides": {f"{low[i]:.0%}-{SIDES[i]:.0%}": int(count) for i, count in enumerate(self.sides)},
            "smallest_box_side": round(float(self.smallest), 4) if boxed else None,
            "largest_box_side": round(float(self.largest), 4) if boxed else None,
            "picture_sizes": dict(self.sizes.most_common(_COMMON)),
            "rows_with_text": self.with_text,
            "turns": self.turns,
            "words": {"all": self.num_words, "different": len(self.words)},
            "commonest_words": dict(self.words.most_common(2 * _COMMON)),
            "errors": [{"reason": reason} | found for reason, found in by_count],
        }


def reason_of(error: Exception) -> str:
    """The rule that was broken: the message up to what was found, without paths and numbers.

    >>> reason_of(ValueError("a box must be below 640, got 700 in a/b.csv; is it x,y,w,h?"))
    'a box must be below N'
    """
    rule, got, _ = str(error).partition(", got ")
    if not got:
        return type(error).__name__
    return re.sub(r"\d+(\.\d+)?", "N", re.sub(r"\S*/\S*", "…", rule))


def _write(output: Path, summary: dict[str, Any], strips: list[Strip]) -> None:
    with atomic_path(output / SUMMARY) as temporary:
        temporary.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if strips:
        title = f"{summary['source']}: {summary['good']} of {summary['checked']} rows can be read"
        with atomic_path(output / SHEET) as temporary:
            draw_strips(strips, title).save(temporary, format="PNG", optimize=True)
