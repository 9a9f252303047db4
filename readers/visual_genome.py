"""Read region descriptions of Visual Genome (Krishna et al., IJCV 2017; https://homes.cs.washington.edu/~ranjay).

    DIR/region_descriptions.json    DIR/image_data.json    DIR/VG_100K/2.jpg    DIR/VG_100K_2/1.jpg

For each image `region_descriptions.json` (versions 1.2 and 1.4) lists ``{"region_id", "image_id", "x", "y", "width",
"height", "phrase"}`` in pixels, and `image_data.json` the size. Boxes are cut to the image; a region of which
nothing is left, or that has no text, is skipped.
"""

import os
from array import array
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elysium.processing.data_files import DatasetError, is_number

from .annotation_files import fields_of, first_file
from .frame_sources import ImageFrames
from .indexed_json import JsonEntries, scan_json_array
from .samples import Sample, SampleList

NAME = "visual-genome"
IMAGE_FOLDERS = ("VG_100K", "VG_100K_2")
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
    file = first_file(root, ("region_descriptions.json",), ("",))
    places, regions, skipped = array("q"), array("i"), Counter[str]()
    for number, (start, stop, entry) in enumerate(scan_json_array(file)):
        for position, region in enumerate(_regions_of(entry)):
            reason = _skip_reason(region, sizes)
            if reason is None:
                regions.extend((number, position))
            else:
                skipped[reason] += 1
        places.extend((start, stop, number))
    if not regions:
        raise DatasetError(f"an annotation must hold regions to learn from, got none in {file}; get it again")
    folder, entries = Path(images) if images else root, JsonEntries(file, places)
    indices = np.array(regions, dtype=np.int32).reshape(-1, 2)
    return SampleList(NAME, indices, partial(_sample, entries=entries, folder=folder, sizes=sizes), skipped)


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


def _regions_of(entry: Any) -> list[Any]:
    """Return the regions of an entry; a malformed one is its own region: its sample names the error."""
    well_formed = isinstance(entry, dict) and isinstance(entry.get("regions"), list)
    return entry["regions"] if well_formed else [entry]


def _skip_reason(region: Any, sizes: dict[int, Size]) -> str | None:
    try:
        size = sizes.get(region["image_id"])
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


def _sample(place: NDArray[np.int32], *, entries: JsonEntries, folder: Path, sizes: dict[int, Size]) -> Sample:
    """Return the region at a position of an entry as a sample.

    Raises:
        DatasetError: it has another form, or its image is missing.
    """
    number, entry = entries[int(place[0])]
    region, where = _regions_of(entry)[int(place[1])], f"entry {number} of {entries.path}"
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
        frames=ImageFrames([_image(folder, image_id)]),
        boxes_xyxy_norm=np.array([box]),
        text=phrase.strip(),
        description=phrase.strip(),
    )


def _image(folder: Path, image_id: int) -> Path:
    places = [folder / part / f"{image_id}.jpg" for part in IMAGE_FOLDERS]
    for place in places:
        if os.path.isfile(place):
            return place
    raise DatasetError(
        f"an image must be in {' or '.join(IMAGE_FOLDERS)}, got no {image_id}.jpg in {folder}; extract images.zip "
        "and images2.zip there"
    )
