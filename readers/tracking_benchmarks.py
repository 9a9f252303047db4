"""Read the tracking benchmarks in their official layouts; `LAYOUTS` has a row for each.

lasot        DIR/airplane/airplane-1/{img/00000001.jpg …, groundtruth.txt, full_occlusion.txt, out_of_view.txt,
             nlp.txt}; folders of classes and files of flags may be missing      Fan et al., CVPR 2019
got10k       DIR/val/{list.txt, GOT-10k_Val_000001/{00000001.jpg …, groundtruth.txt, cover.label, absence.label,
             meta_info.ini}}; of the test set only the first box is given        Huang et al., TPAMI 2021
trackingnet  DIR/{TRAIN_0 … TRAIN_11, TEST}/{anno/SEQUENCE.txt, frames/SEQUENCE/0.jpg …}; of the test set only the
             first box is given                                                  Mueller et al., ECCV 2018
tnl2k        DIR/SEQUENCE/{imgs/00001.png …, groundtruth.txt, language.txt}; a box without area means absent
                                                                                 Wang et al., CVPR 2021
otb          DIR/Basketball/{img/0001.jpg …, groundtruth_rect.txt}; `groundtruth_rect.1.txt` and `.2.txt` are two
             objects of one video, named Jogging-1 and Jogging-2                 Wu et al., TPAMI 2015
uav123       DIR/{anno/UAV123/bird1_1.txt, anno/UAV20L/bird1.txt, data_seq/UAV123/bird1/000001.jpg …}; NaN means
             absent, and 51 sequences are parts of longer ones                   Mueller et al., ECCV 2016
nfs          DIR/airboard_1/{30,240}/{airboard_1/00001.jpg …, airboard_1.txt}    Galoogahi et al., ICCV 2017
"""

import ast
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elysium.processing.data_files import DatasetError, read_json, read_text

from .annotation_files import check_some, read_boxes, read_flags
from .frame_sources import ImageFrames, image_folder
from .samples import ReadSequence, TrackingSequence

_NFS_STEP = 8  # 240 / 30 fps
# From the benchmarks' pages and toolkits: the four test sequences of each class in LaSOT's protocol II
# (`testing_set.txt`); first and last frame (from 1) of OTB's sequences whose annotation covers a part, and of UAV123's
# parts _1, _2, … of a folder (configSeqs.m).
_LISTED = read_json(Path(__file__).with_name("tracking_sequences.json"))
LASOT_TEST = frozenset(f"{name}-{number}" for name, numbers in _LISTED["lasot_test"].items() for number in numbers)
OTB_PARTS: dict[str, list[int]] = _LISTED["otb_parts"]
UAV_PARTS: dict[str, tuple[str, int, int]] = {
    f"{folder}_{number}": (folder, first, last)
    for folder, parts in _LISTED["uav123_parts"].items()
    for number, (first, last) in enumerate(parts, start=1)
}


def read_tracking(name: str, root: str | Path, split: str | None = None) -> Iterator[TrackingSequence]:
    """Yield the sequences of a benchmark; see `find_tracking`."""
    return (read() for read in find_tracking(name, root, split))


def find_tracking(name: str, root: str | Path, split: str | None = None) -> list[ReadSequence]:
    """Return a function for each sequence of a benchmark, in the benchmark's order, that reads its annotation.

    Args:
        name: one of `LAYOUTS`.
        root: folder in the layout of the benchmark.
        split: one of the benchmark's splits; by default the first one.

    Raises:
        DatasetError: another layout or split; a function raises it for a file that cannot be read.
    """
    layout = LAYOUTS[name]
    split = split or next(iter(layout.files))
    if split not in layout.files:
        raise DatasetError(f"the split of {layout.title} must be one of {', '.join(layout.files)}, got {split!r}")
    folder = Path(root)
    if not os.path.isdir(folder):
        raise DatasetError(f"a dataset must be an existing folder ({layout.shown}), got {folder}; check the path")
    if layout.split_folders and os.path.isdir(folder / split):
        folder = folder / split
    found = layout.select([file for glob in layout.files[split] for file in sorted(folder.glob(glob))], folder, split)
    return [partial(layout.read, file) for file in check_some(found, folder, f"{layout.shown}, split {split}")]


@dataclass(frozen=True)
class TrackingLayout:
    """Layout of the files of a tracking benchmark.

    Args:
        title: name of the benchmark, for errors.
        shown: place of a file of boxes, for errors.
        files: globs of the files of boxes for each split, the default split first.
        read: read a sequence by its file of boxes.
        select: choose and order the files of a split; given the files, the folder and the split.
        split_folders: a split lies in a folder of its name, unless that folder is given.
    """

    title: str
    shown: str
    files: Mapping[str, tuple[str, ...]]
    read: Callable[[Path], TrackingSequence]
    select: Callable[[list[Path], Path, str], list[Path]] = lambda files, folder, split: files
    split_folders: bool = False


def _sequence(
    file: Path,
    frames: ImageFrames,
    boxes_xywh_px: NDArray[np.float64],
    visible: NDArray[np.bool_] | None = None,
    **facts: Any,
) -> TrackingSequence:
    """Return a sequence that is named after its folder and always visible, unless ``facts`` say otherwise."""
    if visible is None:
        visible = np.ones(len(boxes_xywh_px), dtype=bool)
    named = {"name": file.parent.name} | facts
    return TrackingSequence(frames=frames, boxes_xywh_px=boxes_xywh_px, visible=visible, **named)


def _text(path: Path) -> str | None:
    """Return the text of a file, or None where there is no file or no text."""
    return read_text(path).strip() or None if os.path.isfile(path) else None


def _read_lasot(file: Path) -> TrackingSequence:
    """Read a sequence of LaSOT; the object is visible where it is neither fully occluded nor out of view."""
    place, boxes = file.parent, read_boxes(file)
    files = [place / name for name in ("full_occlusion.txt", "out_of_view.txt")]
    hidden = [read_flags(path, len(boxes)) > 0 for path in files if os.path.isfile(path)]
    return _sequence(
        file,
        image_folder(place / "img"),
        boxes,
        ~np.any(hidden, axis=0) if hidden else None,
        text=_text(place / "nlp.txt"),
        object_class=place.name.rpartition("-")[0] or None,
    )


def _select_lasot(files: list[Path], folder: Path, split: str) -> list[Path]:
    """Choose the official test sequences (those of `testing_set.txt` where it exists), the others, or all."""
    files = sorted(files)
    if split == "all":
        return files
    listed = folder / "testing_set.txt"
    test = set(read_text(listed).split()) if os.path.isfile(listed) else LASOT_TEST
    return [file for file in files if (file.parent.name in test) == (split == "test")]


def _read_got10k(file: Path) -> TrackingSequence:
    """Read a sequence of GOT-10k; visibility as in the official toolkit: `cover.label`, else `absence.label`."""
    place, boxes = file.parent, read_boxes(file)
    lines = (line.partition(":") for line in (_text(place / "meta_info.ini") or "").splitlines())
    facts = {key.strip(): value.strip() for key, colon, value in lines if colon}
    visible = None
    if len(boxes) > 1 and os.path.isfile(place / "cover.label"):
        visible = read_flags(place / "cover.label", len(boxes)) > 0
    elif len(boxes) > 1 and os.path.isfile(place / "absence.label"):
        visible = read_flags(place / "absence.label", len(boxes)) == 0
    return _sequence(
        file,
        image_folder(place),
        boxes,
        visible,
        object_class=facts.get("object_class"),
        size=_resolution(facts, place),
    )


def _resolution(facts: dict[str, str], place: Path) -> tuple[int, int] | None:
    """Return width and height in pixels from `meta_info.ini`, or None where it does not give them."""
    if "resolution" not in facts:
        return None
    try:
        width, height = ast.literal_eval(facts["resolution"])
        return int(width), int(height)
    except (ValueError, SyntaxError, TypeError) as error:
        raise DatasetError(
            f"resolution must be (width, height), got {facts['resolution']!r} in {place / 'meta_info.ini'}"
        ) from error


def _select_got10k(files: list[Path], folder: Path, split: str) -> list[Path]:
    """Choose the sequences of `list.txt` in its order, or all where there is no such file."""
    listed = folder / "list.txt"
    return [folder / n / "groundtruth.txt" for n in read_text(listed).split()] if os.path.isfile(listed) else files


def _read_trackingnet(file: Path) -> TrackingSequence:
    frames = image_folder(file.parent.parent / "frames" / file.stem)
    return _sequence(file, frames, read_boxes(file), name=file.stem)


def _read_tnl2k(file: Path) -> TrackingSequence:
    boxes = read_boxes(file)
    visible = (boxes[:, 2:] > 0).all(axis=1)
    return _sequence(
        file, image_folder(file.parent / "imgs"), boxes, visible, text=_text(file.parent / "language.txt")
    )


def _select_otb(files: list[Path], folder: Path, split: str) -> list[Path]:
    """Leave out files without boxes: one of Human4's is empty."""
    return [file for file in files if file.stat().st_size > 2]


def _read_otb(file: Path) -> TrackingSequence:
    place = file.parent
    objects = _select_otb(sorted(place.glob(file.name.split(".")[0] + "*.txt")), place, "all")
    first, last = OTB_PARTS.get(place.name, (1, None))
    frames = image_folder(place / "img", first=first - 1, stop=last)
    name = place.name if len(objects) == 1 else f"{place.name}-{objects.index(file) + 1}"
    return _sequence(file, frames, read_boxes(file), name=name)


def _read_uav123(file: Path) -> TrackingSequence:
    boxes = read_boxes(file)
    folder, first, last = UAV_PARTS.get(file.stem, (file.stem, 1, None))
    frames = image_folder(file.parents[2] / "data_seq" / "UAV123" / folder, first=first - 1, stop=last)
    return _sequence(file, frames, boxes, np.isfinite(boxes).all(axis=1), name=file.stem)


def _read_nfs(file: Path) -> TrackingSequence:
    """Read a sequence of NfS, whose lines are ``id x1 y1 x2 y2 frame lost occluded generated "class"``.

    The annotation of most 30 fps sequences is in steps of 240 fps: then every eighth line belongs to a frame. One line
    more or less than frames is in the dataset as it is published.

    Raises:
        DatasetError: other lines, or another number of lines.
    """
    frames = image_folder(file.parent / file.stem)
    try:
        corners = np.array([line.split()[1:5] for line in read_text(file).splitlines() if line.strip()], dtype=float)
        corners = corners.reshape(len(corners), 4)
    except ValueError as error:
        raise DatasetError(f"a line must be 'id x1 y1 x2 y2 frame …', got {error} in {file}; get it again") from error
    if abs(len(corners) / len(frames) - _NFS_STEP) < 1:
        corners = corners[::_NFS_STEP]
    if abs(len(corners) - len(frames)) > 1:
        raise DatasetError(
            f"an annotation must have a line for each of {len(frames)} frames, got {len(corners)} in {file}; extract "
            "the images again"
        )
    corners = corners[: len(frames)]
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    return _sequence(file, image_folder(file.parent / file.stem, stop=len(boxes)), boxes, name=file.stem)


_LASOT_FILES = ("*/*/groundtruth.txt", "*/groundtruth.txt")
_GOT10K_FILES = ("*/groundtruth.txt",)
_TRACKINGNET_TRAIN = tuple(f"TRAIN_{n}/anno/*.txt" for n in range(12))
LAYOUTS = {
    "lasot": TrackingLayout(
        "LaSOT",
        "DIR/CLASS/SEQUENCE/groundtruth.txt",
        dict.fromkeys(("all", "test", "train"), _LASOT_FILES),
        _read_lasot,
        _select_lasot,
    ),
    "got10k": TrackingLayout(
        "GOT-10k",
        "DIR/{train,val,test}/SEQUENCE/groundtruth.txt, beside list.txt",
        dict.fromkeys(("val", "train", "test"), _GOT10K_FILES),
        _read_got10k,
        _select_got10k,
        split_folders=True,
    ),
    "trackingnet": TrackingLayout(
        "TrackingNet",
        "DIR/{TRAIN_0,TEST}/anno/SEQUENCE.txt",
        {"test": ("TEST/anno/*.txt",), "train": _TRACKINGNET_TRAIN},
        _read_trackingnet,
    ),
    "tnl2k": TrackingLayout(
        "TNL2K", "DIR/SEQUENCE/groundtruth.txt beside language.txt and imgs", {"all": _GOT10K_FILES}, _read_tnl2k
    ),
    "otb": TrackingLayout(
        "OTB", "DIR/SEQUENCE/groundtruth_rect.txt", {"all": ("*/groundtruth_rect*.txt",)}, _read_otb, _select_otb
    ),
    "uav123": TrackingLayout(
        "UAV123",
        "DIR/anno/{UAV123,UAV20L}/SEQUENCE.txt with DIR/data_seq/UAV123/SEQUENCE",
        {split: (f"anno/{split}/*.txt",) for split in ("UAV123", "UAV20L")},
        _read_uav123,
    ),
    "nfs": TrackingLayout(
        "NfS",
        "DIR/SEQUENCE/{30,240}/SEQUENCE.txt",
        {split: (f"*/{split}/*.txt",) for split in ("30", "240")},
        _read_nfs,
    ),  # 30 and 240 frames per second
}
