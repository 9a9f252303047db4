"""LaSOT, its extension, and its language: https://vision.cs.stonybrook.edu/~lasot/ (Fan et al., CVPR 2019).

    DIR/airplane/airplane-1/{img/00000001.jpg …, groundtruth.txt, full_occlusion.txt, out_of_view.txt, nlp.txt}

The folders of the classes may be missing (`DIR/airplane-1/…`). Boxes are x,y,w,h. The two files of flags may be
missing, and then every frame counts as visible.
"""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .annotation_files import check_root, check_some, read_boxes, read_flags, read_text
from .frame_sources import DatasetError, picture_folder
from .lasot_split import TEST_SEQUENCES
from .records import ReadSequence, TrackingSequence

LAYOUT = "DIR/CLASS/SEQUENCE/groundtruth.txt"
SPLITS = ("all", "test", "train")


def read_lasot(root: str | Path, split: str = "all") -> Iterator[TrackingSequence]:
    """The sequences of a folder, in the order of their names.

    Args:
        root: the folder of the classes.
        split: "test" for the 280 sequences of the official test set (or those that `DIR/testing_set.txt` names),
            "train" for the others, "all" for what is there.

    Raises:
        DatasetError: another layout or split, or a file that cannot be read.
    """
    return (read() for read in find_lasot(root, split))


def find_lasot(root: str | Path, split: str = "all") -> list[ReadSequence]:
    """As `read_lasot`; each sequence is read when its entry is called."""
    folder = check_root(root, LAYOUT)
    found = sorted(path.parent for path in [*folder.glob("*/*/groundtruth.txt"), *folder.glob("*/groundtruth.txt")])
    return [partial(_read, place) for place in _of_split(check_some(found, folder, LAYOUT), folder, split)]


def _read(place: Path) -> TrackingSequence:
    boxes = read_boxes(place / "groundtruth.txt")
    return TrackingSequence(
        name=place.name,
        frames=picture_folder(place / "img"),
        boxes_xywh_px=boxes,
        visible=_visible(place, len(boxes)),
        text=read_text(place / "nlp.txt").strip() or None if os.path.isfile(place / "nlp.txt") else None,
        object_class=place.name.rpartition("-")[0] or None,
    )


def _of_split(places: list[Path], folder: Path, split: str) -> list[Path]:
    if split not in SPLITS:
        raise DatasetError(f"the split of LaSOT must be one of {', '.join(SPLITS)}, got {split!r}")
    if split == "all":
        return places
    listed = folder / "testing_set.txt"
    test = set(read_text(listed).split()) if os.path.isfile(listed) else TEST_SEQUENCES
    chosen = [place for place in places if (place.name in test) == (split == "test")]
    return check_some(chosen, folder, f"{LAYOUT}, with sequences of the {split} set")


def _visible(place: Path, length: int) -> NDArray[np.bool_]:
    """True where the object is neither fully occluded nor out of view."""
    hidden = np.zeros(length, dtype=bool)
    for name in ("full_occlusion.txt", "out_of_view.txt"):
        if os.path.isfile(place / name):
            flags = read_flags(place / name)
            if len(flags) != length:
                raise DatasetError(
                    f"{name} must have a flag for each of {length} frames, got {len(flags)} in {place}; get it again"
                )
            hidden |= flags > 0
    return ~hidden
