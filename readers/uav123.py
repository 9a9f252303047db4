"""UAV123 and UAV20L: https://cemse.kaust.edu.sa/ivul/uav123 (Mueller et al., ECCV 2016).

    DIR/{anno/UAV123/bird1_1.txt, anno/UAV20L/bird1.txt, data_seq/UAV123/bird1/000001.jpg …}

Frames without a box have NaN. Fifty-one sequences of UAV123 are parts of longer ones.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .annotation_files import check_root, check_some, read_boxes
from .frame_sources import DatasetError, picture_folder
from .records import TrackingSequence

LAYOUT = "DIR/anno/UAV123/SEQUENCE.txt with DIR/data_seq/UAV123/SEQUENCE"
SPLITS = ("UAV123", "UAV20L")
# Folder: first and last frame (from 1) of its parts _1, _2, …; from the benchmark's own list (configSeqs.m).
_PARTS = {
    "bird1": "1-253 775-1477 1573-2437",
    "car1": "1-751 751-1627 1627-2629",
    "car6": "1-487 487-1807 1807-2953 2953-3925 3925-4861",
    "car8": "1-1357 1357-2575",
    "car16": "1-415 415-1993",
    "group1": "1-1333 1333-2515 2515-3925 3925-4873",
    "group2": "1-907 907-1771 1771-2683",
    "group3": "1-1567 1567-2827 2827-4369 4369-5527",
    "person2": "1-1189 1189-2623",
    "person4": "1-1501 1501-2743",
    "person5": "1-877 877-2101",
    "person7": "1-1249 1249-2065",
    "person8": "1-1075 1075-1525",
    "person12": "1-601 601-1621",
    "person14": "1-847 847-1813 1813-2923",
    "person17": "1-1501 1501-2347",
    "person19": "1-1243 1243-2791 2791-4357",
    "truck4": "1-577 577-1261",
    "uav1": "1-1555 1555-2377 2473-3469",
}
PARTS = {
    f"{folder}_{number}": (folder, *map(int, part.split("-")))
    for folder, parts in _PARTS.items()
    for number, part in enumerate(parts.split(), start=1)
}


def read_uav123(root: str | Path, split: str = "UAV123") -> Iterator[TrackingSequence]:
    """The sequences of a list, in the order of their names.

    Args:
        root: the folder that holds `anno` and `data_seq`.
        split: "UAV123" or "UAV20L", whose pictures are those of UAV123.

    Raises:
        DatasetError: another layout or split, or a file that cannot be read.
    """
    if split not in SPLITS:
        raise DatasetError(f"the split must be one of {', '.join(SPLITS)}, got {split!r}")
    folder = check_root(root, LAYOUT)
    files = sorted((folder / "anno" / split).glob("*.txt"))
    for file in check_some(files, folder, LAYOUT.replace("anno/UAV123", f"anno/{split}")):
        boxes = read_boxes(file)
        place, first, last = PARTS.get(file.stem, (file.stem, 1, None))
        yield TrackingSequence(
            name=file.stem,
            frames=picture_folder(folder / "data_seq" / "UAV123" / place, first=first - 1, stop=last),
            boxes_xywh_px=boxes,
            visible=np.isfinite(boxes).all(axis=1),
        )
