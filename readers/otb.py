"""OTB-100 and its subsets: http://cvlab.hanyang.ac.kr/tracker_benchmark (Wu et al., TPAMI 2015).

    DIR/Basketball/{img/0001.jpg …, groundtruth_rect.txt}

Some folders hold two objects (`groundtruth_rect.1.txt` and `.2.txt`: Jogging, Skating2, and one of Human4's files is
empty); they are named as the benchmark's own list does, `Jogging-1`. Five annotations cover a part of the frames.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .annotation_files import check_root, check_some, read_boxes
from .frame_sources import picture_folder
from .records import TrackingSequence

LAYOUT = "DIR/SEQUENCE/groundtruth_rect.txt"
# First and last frame (from 1) of the sequences whose annotation covers a part; from the benchmark's page.
PARTS = {
    "David": (300, 770),
    "Football1": (1, 74),
    "Freeman3": (1, 460),
    "Freeman4": (1, 283),
    "Diving": (1, 215),
}


def read_otb(root: str | Path) -> Iterator[TrackingSequence]:
    """The sequences of a folder, in the order of their names.

    Raises:
        DatasetError: another layout, or a file that cannot be read.
    """
    folder = check_root(root, LAYOUT)
    places = sorted({path.parent for path in folder.glob("*/groundtruth_rect*.txt")})
    for place in check_some(places, folder, LAYOUT):
        files = [file for file in sorted(place.glob("groundtruth_rect*.txt")) if file.stat().st_size > 2]
        first, last = PARTS.get(place.name, (1, None))
        for number, file in enumerate(files, start=1):
            boxes = read_boxes(file)
            yield TrackingSequence(
                name=place.name if len(files) == 1 else f"{place.name}-{number}",
                frames=picture_folder(place / "img", first=first - 1, stop=last),
                boxes_xywh_px=boxes,
                visible=np.ones(len(boxes), dtype=bool),
            )
