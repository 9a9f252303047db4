"""TrackingNet: https://tracking-net.org (Mueller et al., ECCV 2018).

    DIR/{TRAIN_0 … TRAIN_11, TEST}/{anno/SEQUENCE.txt, frames/SEQUENCE/0.jpg …}

Of the test set only the first box is given.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from .annotation_files import check_root, check_some, read_boxes
from .frame_sources import DatasetError, picture_folder
from .records import ReadSequence, TrackingSequence

LAYOUT = "DIR/{TRAIN_0,TEST}/anno/SEQUENCE.txt"
SPLITS = ("test", "train")


def read_trackingnet(root: str | Path, split: str = "test") -> Iterator[TrackingSequence]:
    """The sequences of a split, in the order of their folders and names.

    Args:
        root: the folder of `TEST` and `TRAIN_0`.
        split: "test" or "train", which is as many of its twelve parts as are there.

    Raises:
        DatasetError: another layout or split, or a file that cannot be read.
    """
    return (read() for read in find_trackingnet(root, split))


def find_trackingnet(root: str | Path, split: str = "test") -> list[ReadSequence]:
    """As `read_trackingnet`; each sequence is read when its entry is called."""
    if split not in SPLITS:
        raise DatasetError(f"the split of TrackingNet must be test or train, got {split!r}")
    folder = check_root(root, LAYOUT)
    parts = ["TEST"] if split == "test" else [f"TRAIN_{number}" for number in range(12)]
    files = [file for part in parts for file in sorted((folder / part / "anno").glob("*.txt"))]
    return [partial(_read, file) for file in check_some(files, folder, LAYOUT)]


def _read(file: Path) -> TrackingSequence:
    boxes = read_boxes(file)
    return TrackingSequence(
        name=file.stem,
        frames=picture_folder(file.parent.parent / "frames" / file.stem),
        boxes_xywh_px=boxes,
        visible=np.ones(len(boxes), dtype=bool),
    )
