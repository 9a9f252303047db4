"""Read region descriptions of Visual Genome (Krishna et al., IJCV 2017; https://homes.cs.washington.edu/~ranjay).

    DIR/region_descriptions.json    DIR/image_data.json    DIR/VG_100K/2.jpg    DIR/VG_100K_2/1.jpg

For each image `region_descriptions.json` (versions 1.2 and 1.4) lists ``{"region_id", "image_id", "x", "y", "width",
"height", "phrase"}`` in pixels, and `image_data.json` the size. Boxes are cut to the image; a region of which
nothing is left, or that has no text, is skipped.
"""

import os
from array import array
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elysium.processing.data_files import DatasetError, is_number

from .frame_sources import PictureFrames
from .indexed_json import JsonEntries, scan_json_array
from .media_files import fields_of, first_file
from .samples import Sample, SampleList

NAME = "visual-genome"
PICTURE_FOLDERS = ("VG_100K", "VG_100K_2")
NO_AREA, NO_TEXT = "a region has no area in the image", "a region has no text"
Size = tuple[int, int]


def visual_genome_samples(path: str, *, images: str | None = None) -> SampleList:
    """Return a sample for each region: its box, and its phrase as text prompt and as description.

    Args:
        path: folder of the two JSON files. They are read once; then only sizes and places in the file are kept,
            and the regions of an image are read again when one of them is needed.
        images: folder of `VG_100K` and `VG_100K_2`; by default the same.

    Raises:
        DatasetError: a file is missing or not a JSON list, or has no usable region.
    """
    root = Path(path)
    sizes = _read_sizes(first_file(root, ("image_data.json",), ("",)))
    regions = _Regions(first_file(root, ("region_descriptions.json",), ("",)), sizes)
    folder = Path(images) if images else root
    return SampleList(NAME, regions, partial(_row, folder=folder, sizes=sizes), regions.skipped)


def _read_sizes(path: Path) -> dict[int, Size]:
    """Return width and height of each image in pixels by its id; entries without a size are left out."""
    sizes = {}
    for _, _, entry in scan_json_array(path):
        try:
            width, height = entry["width"], entry["height"]
            if is_number(width) and is_number(height) and min(width, height) >= 1:
                sizes[int(entry["image_id"])] = (int(width), int(height))
        except (KeyError, TypeError, ValueError):
            continue  # the samples of that image will say so
    return sizes


class _Regions(Sequence[tuple[dict[str, Any], str]]):
    """Regions by index, each with its place in the file, for messages."""

    def __init__(self, path: Path, sizes: dict[int, Size]) -> None:
        self._path, self._sizes = path, sizes
        self.skipped: Counter[str] = Counter()
        places, counts = array("q"), array("q", [0])
        for number, (start, stop, entry) in enumerate(scan_json_array(path)):
            kept = self._kept(entry, self.skipped)
            if kept:
                places.extend((start, stop, number))
                counts.append(counts[-1] + len(kept))
        if not places:
            raise DatasetError(f"an annotation must hold regions to learn from, got none in {path}; get it again")
        self._entries = JsonEntries(path, places)
        self._ends: NDArray[np.int64] = np.array(counts, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: Any) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(f"an index must be below {len(self)}, got {index}")
        index %= len(self)
        place = int(np.searchsorted(self._ends, index, side="right")) - 1
        number, entry = self._entries[place]
        regions = self._kept(entry, Counter())
        return regions[index - int(self._ends[place])], f"entry {number} of {self._path}"

    def _kept(self, entry: Any, skipped: Counter[str]) -> list[Any]:
        """Return the regions of an entry that are not skipped; a malformed one stays: its sample names the error."""
        if not isinstance(entry, dict) or not isinstance(entry.get("regions"), list):
            return [entry]
        kept = []
        for region in entry["regions"]:
            reason = self._skip_reason(region)
            if reason is None:
                kept.append(region)
            else:
                skipped[reason] += 1
        return kept

    def _skip_reason(self, region: Any) -> str | None:
        try:
            size = self._sizes.get(region["image_id"])
            if size is not None and _cut_box(region, size) is None:
                return NO_AREA
            return None if region["phrase"].strip() else NO_TEXT
        except (KeyError, TypeError, ValueError, AttributeError):
            return None


def _cut_box(region: dict[str, Any], size: Size) -> list[float] | None:
    """Return x1,y1,x2,y2 in 0..1, cut to the image; None where no area is left."""
    if not all(is_number(region[name]) for name in ("x", "y", "width", "height")):
        raise TypeError("numbers of a region must be numbers")
    x, y = float(region["x"]), float(region["y"])
    x1, x2 = (min(max(edge / size[0], 0.0), 1.0) for edge in (x, x + float(region["width"])))
    y1, y2 = (min(max(edge / size[1], 0.0), 1.0) for edge in (y, y + float(region["height"])))
    return [x1, y1, x2, y2] if x1 < x2 and y1 < y2 else None


def _row(region_and_place: tuple[Any, str], *, folder: Path, sizes: dict[int, Size]) -> Sample:
    """Return a region as a sample.

    Raises:
        DatasetError: it has another form, or its image is missing.
    """
    region, where = region_and_place
    wanted = ("region_id", "image_id", "x", "y", "width", "height", "phrase")
    region_id, image_id, *numbers, phrase = fields_of(region, wanted, where)
    if not isinstance(phrase, str) or not all(map(is_number, numbers)):
        raise DatasetError(f"a region must have four numbers and a phrase, got {numbers} and {phrase!r} in {where}")
    size = sizes.get(image_id) if isinstance(image_id, int) else None
    if size is None:
        raise DatasetError(
            f"image_data.json must hold the size of every image, got none with image_id {image_id} of {where}; take "
            "both files from one version"
        )
    box = _cut_box(region, size)
    return Sample(
        source=NAME,
        key=f"{image_id}/{region_id}",
        frames=PictureFrames([_picture(folder, image_id)]),
        boxes_xyxy_norm=np.array([box]),
        text=phrase.strip(),
        description=phrase.strip(),
    )


def _picture(folder: Path, image_id: int) -> Path:
    places = [folder / part / f"{image_id}.jpg" for part in PICTURE_FOLDERS]
    for place in places:
        if os.path.isfile(place):
            return place
    raise DatasetError(
        f"an image must be in {' or '.join(PICTURE_FOLDERS)}, got no {image_id}.jpg in {folder}; extract images.zip "
        "and images2.zip there"
    )
