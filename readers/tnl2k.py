"""TNL2K, tracking by natural language: https://github.com/wangxiao5791509/TNL2K_evaluation_toolkit (CVPR 2021).

    DIR/SEQUENCE/{imgs/00001.png …, groundtruth.txt, language.txt}

Frames without the object have a box without area.
"""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .annotation_files import check_root, check_some, read_boxes, read_text
from .frame_sources import picture_folder
from .records import ReadSequence, TrackingSequence

LAYOUT = "DIR/SEQUENCE/groundtruth.txt beside language.txt and imgs"


def read_tnl2k(root: str | Path) -> Iterator[TrackingSequence]:
    """The sequences of a folder, in the order of their names.

    Raises:
        DatasetError: another layout, or a file that cannot be read.
    """
    return (read() for read in find_tnl2k(root))


def find_tnl2k(root: str | Path) -> list[ReadSequence]:
    """As `read_tnl2k`; each sequence is read when its entry is called."""
    folder = check_root(root, LAYOUT)
    places = sorted(path.parent for path in folder.glob("*/groundtruth.txt"))
    return [partial(_read, place) for place in check_some(places, folder, LAYOUT)]


def _read(place: Path) -> TrackingSequence:
    boxes = read_boxes(place / "groundtruth.txt")
    words = place / "language.txt"
    return TrackingSequence(
        name=place.name,
        frames=picture_folder(place / "imgs"),
        boxes_xywh_px=boxes,
        visible=(boxes[:, 2:] > 0).all(axis=1),
        text=read_text(words).strip() or None if os.path.isfile(words) else None,
    )
