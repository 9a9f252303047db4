"""Need for Speed: http://ci2cv.net/nfs (Galoogahi et al., ICCV 2017).

    DIR/airboard_1/{30,240}/{airboard_1/00001.jpg …, airboard_1.txt}

A line is ``id x1 y1 x2 y2 frame lost occluded generated "class"``. The annotation of the 30 fps frames is in steps of
240 fps for most sequences; then every eighth line belongs to a frame.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .annotation_files import check_root, check_some, read_text
from .frame_sources import DatasetError, picture_folder
from .records import TrackingSequence

LAYOUT = "DIR/SEQUENCE/{30,240}/SEQUENCE.txt"
SPLITS = ("30", "240")
_STEP = 8  # 240 / 30


def read_nfs(root: str | Path, split: str = "30") -> Iterator[TrackingSequence]:
    """The sequences of a frame rate, in the order of their names.

    Args:
        root: the folder of the sequences.
        split: frames per second, "30" or "240".

    Raises:
        DatasetError: another layout or split, a file that cannot be read, or lengths that do not fit.
    """
    if split not in SPLITS:
        raise DatasetError(f"the split of NfS must be its frames per second, {' or '.join(SPLITS)}, got {split!r}")
    folder = check_root(root, LAYOUT)
    files = sorted(folder.glob(f"*/{split}/*.txt"))
    for file in check_some(files, folder, LAYOUT):
        boxes = _read_boxes(file)
        frames = picture_folder(file.parent / file.stem)
        boxes = _of_frames(boxes, len(frames), file)
        yield TrackingSequence(
            name=file.stem,
            frames=picture_folder(file.parent / file.stem, stop=len(boxes)),
            boxes_xywh_px=boxes,
            visible=np.ones(len(boxes), dtype=bool),
        )


def _read_boxes(file: Path) -> NDArray[np.float64]:
    """The boxes as x,y,w,h."""
    try:
        corners = np.array([line.split()[1:5] for line in read_text(file).splitlines() if line.strip()], dtype=float)
    except ValueError as error:
        raise DatasetError(f"a line must be 'id x1 y1 x2 y2 frame …', got {error} in {file}; get it again") from error
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise DatasetError(f"a line must be 'id x1 y1 x2 y2 frame …', got other lines in {file}; get it again")
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def _of_frames(boxes: NDArray[np.float64], num_frames: int, file: Path) -> NDArray[np.float64]:
    """The boxes that belong to frames; one more or less than frames is in the data set as it is published."""
    if abs(len(boxes) / num_frames - _STEP) < 1:
        boxes = boxes[::_STEP]
    if abs(len(boxes) - num_frames) > 1:
        raise DatasetError(
            f"an annotation must have a line for each of {num_frames} frames, got {len(boxes)} in {file}; extract the "
            "pictures again"
        )
    return boxes[:num_frames]
