"""GOT-10k: http://got-10k.aitestunion.com (Huang et al., TPAMI 2021).

    DIR/val/{list.txt, GOT-10k_Val_000001/{00000001.jpg …, groundtruth.txt, cover.label, absence.label, meta_info.ini}}

Of the test set only the first box is given. `cover.label` (0..8, how much can be seen) and `absence.label` say where
the object cannot be seen; `meta_info.ini` has the class and the size.
"""

import ast
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .annotation_files import check_root, check_some, read_boxes, read_flags, read_text
from .frame_sources import DatasetError, picture_folder
from .records import ReadSequence, TrackingSequence

LAYOUT = "DIR/{train,val,test}/SEQUENCE/groundtruth.txt, beside list.txt"
SPLITS = ("val", "train", "test")


def read_got10k(root: str | Path, split: str = "val") -> Iterator[TrackingSequence]:
    """The sequences of a split, in the order of its `list.txt` (of their names where there is none).

    Args:
        root: the folder of the splits, or of one split.
        split: "val", "train" or "test".

    Raises:
        DatasetError: another layout or split, or a file that cannot be read.
    """
    return (read() for read in find_got10k(root, split))


def find_got10k(root: str | Path, split: str = "val") -> list[ReadSequence]:
    """As `read_got10k`; each sequence is read when its entry is called."""
    if split not in SPLITS:
        raise DatasetError(f"the split of GOT-10k must be one of {', '.join(SPLITS)}, got {split!r}")
    folder = check_root(root, LAYOUT)
    folder = folder / split if os.path.isdir(folder / split) else folder
    if os.path.isfile(folder / "list.txt"):
        places = [folder / name for name in read_text(folder / "list.txt").split()]
    else:
        places = sorted(path.parent for path in folder.glob("*/groundtruth.txt"))
    return [partial(_read, place) for place in check_some(places, folder, LAYOUT)]


def _read(place: Path) -> TrackingSequence:
    boxes = read_boxes(place / "groundtruth.txt")
    facts = _meta(place)
    return TrackingSequence(
        name=place.name,
        frames=picture_folder(place),
        boxes_xywh_px=boxes,
        visible=_visible(place, len(boxes)),
        object_class=facts.get("object_class"),
        size=_resolution(facts, place),
    )


def _meta(place: Path) -> dict[str, str]:
    """The lines ``key: value`` of `meta_info.ini`."""
    if not os.path.isfile(place / "meta_info.ini"):
        return {}
    lines = (line.partition(":") for line in read_text(place / "meta_info.ini").splitlines())
    return {key.strip(): value.strip() for key, colon, value in lines if colon}


def _resolution(facts: dict[str, str], place: Path) -> tuple[int, int] | None:
    if "resolution" not in facts:
        return None
    try:
        width, height = ast.literal_eval(facts["resolution"])
        return int(width), int(height)
    except (ValueError, SyntaxError, TypeError) as error:
        raise DatasetError(
            f"resolution must be (width, height), got {facts['resolution']!r} in {place / 'meta_info.ini'}"
        ) from error


def _visible(place: Path, length: int) -> NDArray[np.bool_]:
    """As the official toolkit has it: where `cover.label` is above 0; else where `absence.label` is 0; else all."""
    for name, seen in (("cover.label", lambda flags: flags > 0), ("absence.label", lambda flags: flags == 0)):
        if os.path.isfile(place / name) and length > 1:
            flags = read_flags(place / name)
            if len(flags) != length:
                raise DatasetError(
                    f"{name} must have a number for each of {length} frames, got {len(flags)} in {place}; get it again"
                )
            return seen(flags)
    return np.ones(length, dtype=bool)
