"""Check a dataset: read every sample, compare sizes, count what is broken, and draw some boxes."""

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
from elysium.processing.data_files import broken_rule

from .check_sheet import Strip, draw_strips, make_strip
from .frame_sources import DatasetError, PictureFrames
from .samples import Sample, SampleList, SampleSource

SHEET, SUMMARY = "overlays.png", "summary.json"
# Upper ends of size classes: side of a square of the box's area, as a share of that of the image.
SIDES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
_COMMON = 5


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
    tally, strips = Tally(), list[Strip]()
    for index in range(count):
        try:
            sample = source[index]
            places, images = look_at(sample)
        except Exception as error:  # training would meet any error too: it is counted and shown
            tally.add_error(index, error)
        else:
            tally.add(sample)
            if index in chosen:
                strips.append(make_strip(sample, places, images, color=len(strips) + 1))
        if progress is not None:
            progress(index + 1, count)
    skipped = dict(source.skipped) if isinstance(source, SampleList) else {}
    summary = {"source": source.name, "rows": len(source), "skipped": skipped} | tally.to_dict()
    if output is not None:
        _write(output, summary, strips)
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
    if isinstance(sample.frames, PictureFrames):
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


def _check_sizes(frames: PictureFrames, where: str) -> None:
    """Check that all images have the same size, without decoding them."""
    for file in frames.files[1:]:
        size = PictureFrames([file]).size
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
    smallest: float = np.inf
    largest: float = 0.0
    sizes: Counter[str] = field(default_factory=Counter)
    with_text: int = 0
    turns: int = 0
    num_words: int = 0
    words: Counter[str] = field(default_factory=Counter)
    errors: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, sample: Sample) -> None:
        """Count a sample that can be read."""
        length, seen = len(sample.frames), int(sample.visible.sum())
        self.good += 1
        kind = "an image" if length == 1 else "a video"
        self.kinds[f"{kind} with {'turns' if sample.boxes_xyxy_norm is None else 'boxes'}"] += 1
        if sample.boxes_xyxy_norm is None:
            self.frames["without_boxes"] += length
        else:
            self.frames.update(boxed=seen, absent=length - seen)
            self._add_boxes(sample.boxes_xyxy_norm[sample.visible])
        width, height = sample.frames.size
        self.sizes[f"{width}x{height}"] += 1
        self.with_text += sample.text is not None
        self.turns += len(sample.turns)
        texts = {sample.text, sample.description} - {None}
        for text in [*texts, *(text for turn in sample.turns for text in turn)]:
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
        """Count a sample that cannot be read; the first message of each reason is kept."""
        first = {"count": 0, "first_row": index, "first": f"{error}" or type(error).__name__}
        self.errors.setdefault(reason_of(error), first)["count"] += 1

    @property
    def broken(self) -> int:
        """Return the number of samples that cannot be read."""
        return sum(found["count"] for found in self.errors.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON values.

        Returns:
            `checked`, `good` and `broken` rows; `kinds` of good rows; `frames` with a box, with the object absent and
            of rows without boxes; `box_sides`, how many boxes have which side (of a square of the same area, as a
            share of the image's), with the smallest and the largest; the commonest `picture_sizes`; `words` of
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
    """Return the rule that was broken, without paths and numbers.

    >>> reason_of(ValueError("a box must be below 640, got 700 in a/b.csv; is it x,y,w,h?"))
    'a box must be below N'
    """
    return re.sub(r"\d+(\.\d+)?", "N", re.sub(r"\S*/\S*", "…", broken_rule(error)))


def _write(output: Path, summary: dict[str, Any], strips: list[Strip]) -> None:
    with atomic_path(output / SUMMARY) as temporary:
        temporary.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if strips:
        title = f"{summary['source']}: {summary['good']} of {summary['checked']} rows can be read"
        with atomic_path(output / SHEET) as temporary:
            draw_strips(strips, title).save(temporary, format="PNG", optimize=True)
