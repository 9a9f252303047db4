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

from elysium.processing.data_files import DatasetError, read_text

from .annotation_files import check_some, read_boxes, read_flags
from .frame_sources import PictureFrames, picture_folder
from .samples import ReadSequence, TrackingSequence

_NFS_STEP = 8  # 240 / 30 fps
# The 280 test sequences of LaSOT's protocol II (`testing_set.txt` of its toolkit), four numbers for each class.
_LASOT_TEST = """
airplane:1,9,13,15 basketball:1,6,7,11 bear:2,4,6,17 bicycle:2,7,9,18 bird:2,3,15,17 boat:3,4,12,17 book:3,10,11,19
bottle:1,12,14,18 bus:2,5,17,19 car:2,6,9,17 cat:1,3,18,20 cattle:2,7,12,13 chameleon:3,6,11,20 coin:3,6,7,18
crab:3,6,12,18 crocodile:3,4,10,14 cup:1,4,7,17 deer:4,8,10,14 dog:1,7,15,19 drone:2,7,13,15 electricfan:1,10,18,20
elephant:1,12,16,18 flag:2,3,5,9 fox:2,3,5,20 frog:3,4,9,20 gametarget:1,2,7,13 gecko:1,5,16,19 giraffe:2,10,13,15
goldfish:3,7,8,10 gorilla:4,6,9,13 guitar:3,8,10,16 hand:2,3,9,16 hat:1,2,5,18 helmet:5,11,13,19 hippo:1,7,9,20
horse:1,4,12,15 kangaroo:2,5,11,14 kite:4,6,10,15 leopard:1,7,16,20 licenseplate:6,12,13,15 lion:1,5,12,20
lizard:1,3,6,13 microphone:2,6,14,16 monkey:3,4,9,17 motorcycle:1,3,9,18 mouse:1,8,9,17 person:1,5,10,12
pig:2,10,13,18 pool:3,7,12,15 rabbit:10,13,17,19 racing:10,15,16,20 robot:1,5,8,19 rubicCube:1,6,14,19 sepia:6,8,13,16
shark:2,3,5,6 sheep:3,5,7,9 skateboard:3,8,16,19 spider:14,16,18,20 squirrel:8,11,13,19 surfboard:4,5,8,12
swing:10,14,17,20 tank:6,9,14,16 tiger:4,6,12,18 train:1,7,11,20 truck:3,6,7,16 turtle:5,8,9,16 umbrella:2,9,17,19
volleyball:1,13,18,19 yoyo:7,15,17,19 zebra:10,14,16,17
"""
LASOT_TEST = frozenset(
    f"{name}-{number}"
    for name, numbers in (item.split(":") for item in _LASOT_TEST.split())
    for number in numbers.split(",")
)
# First and last frame (from 1) of OTB's sequences whose annotation covers a part; from the benchmark's page.
OTB_PARTS = {
    "David": (300, 770),
    "Football1": (1, 74),
    "Freeman3": (1, 460),
    "Freeman4": (1, 283),
    "Diving": (1, 215),
}
# First and last frame (from 1) of UAV123's parts _1, _2, … of a folder; from the benchmark's list (configSeqs.m).
_UAV_PARTS = {
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
UAV_PARTS = {
    f"{folder}_{number}": (folder, *map(int, part.split("-")))
    for folder, parts in _UAV_PARTS.items()
    for number, part in enumerate(parts.split(), start=1)
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


@dataclass(frozen=True, kw_only=True)
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
    frames: PictureFrames,
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


def _flags(path: Path, length: int) -> NDArray[np.float64]:
    """Return the flags of a file, one for each frame.

    Raises:
        DatasetError: another number of flags.
    """
    flags = read_flags(path)
    if len(flags) != length:
        raise DatasetError(
            f"{path.name} must have a flag for each of {length} frames, got {len(flags)} in {path.parent}; "
            "get it again"
        )
    return flags


def _read_lasot(file: Path) -> TrackingSequence:
    """Read a sequence of LaSOT; the object is visible where it is neither fully occluded nor out of view."""
    place, boxes = file.parent, read_boxes(file)
    files = [place / name for name in ("full_occlusion.txt", "out_of_view.txt")]
    hidden = [_flags(path, len(boxes)) > 0 for path in files if os.path.isfile(path)]
    return _sequence(
        file,
        picture_folder(place / "img"),
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
        visible = _flags(place / "cover.label", len(boxes)) > 0
    elif len(boxes) > 1 and os.path.isfile(place / "absence.label"):
        visible = _flags(place / "absence.label", len(boxes)) == 0
    return _sequence(
        file,
        picture_folder(place),
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
    frames = picture_folder(file.parent.parent / "frames" / file.stem)
    return _sequence(file, frames, read_boxes(file), name=file.stem)


def _read_tnl2k(file: Path) -> TrackingSequence:
    boxes = read_boxes(file)
    visible = (boxes[:, 2:] > 0).all(axis=1)
    return _sequence(
        file, picture_folder(file.parent / "imgs"), boxes, visible, text=_text(file.parent / "language.txt")
    )


def _select_otb(files: list[Path], folder: Path, split: str) -> list[Path]:
    """Leave out files without boxes: one of Human4's is empty."""
    return [file for file in files if file.stat().st_size > 2]


def _read_otb(file: Path) -> TrackingSequence:
    place = file.parent
    objects = _select_otb(sorted(place.glob(file.name.split(".")[0] + "*.txt")), place, "all")
    first, last = OTB_PARTS.get(place.name, (1, None))
    frames = picture_folder(place / "img", first=first - 1, stop=last)
    name = place.name if len(objects) == 1 else f"{place.name}-{objects.index(file) + 1}"
    return _sequence(file, frames, read_boxes(file), name=name)


def _read_uav123(file: Path) -> TrackingSequence:
    boxes = read_boxes(file)
    folder, first, last = UAV_PARTS.get(file.stem, (file.stem, 1, None))
    frames = picture_folder(file.parents[2] / "data_seq" / "UAV123" / folder, first=first - 1, stop=last)
    return _sequence(file, frames, boxes, np.isfinite(boxes).all(axis=1), name=file.stem)


def _read_nfs(file: Path) -> TrackingSequence:
    """Read a sequence of NfS, whose lines are ``id x1 y1 x2 y2 frame lost occluded generated "class"``.

    The annotation of most 30 fps sequences is in steps of 240 fps: then every eighth line belongs to a frame. One line
    more or less than frames is in the dataset as it is published.

    Raises:
        DatasetError: other lines, or another number of lines.
    """
    frames = picture_folder(file.parent / file.stem)
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
    return _sequence(file, picture_folder(file.parent / file.stem, stop=len(boxes)), boxes, name=file.stem)


_LASOT_FILES = ("*/*/groundtruth.txt", "*/groundtruth.txt")
_GOT10K_FILES = ("*/groundtruth.txt",)
LAYOUTS = {
    "lasot": TrackingLayout(
        title="LaSOT",
        shown="DIR/CLASS/SEQUENCE/groundtruth.txt",
        files=dict.fromkeys(("all", "test", "train"), _LASOT_FILES),
        read=_read_lasot,
        select=_select_lasot,
    ),
    "got10k": TrackingLayout(
        title="GOT-10k",
        shown="DIR/{train,val,test}/SEQUENCE/groundtruth.txt, beside list.txt",
        files=dict.fromkeys(("val", "train", "test"), _GOT10K_FILES),
        read=_read_got10k,
        select=_select_got10k,
        split_folders=True,
    ),
    "trackingnet": TrackingLayout(
        title="TrackingNet",
        shown="DIR/{TRAIN_0,TEST}/anno/SEQUENCE.txt",
        files={"test": ("TEST/anno/*.txt",), "train": tuple(f"TRAIN_{n}/anno/*.txt" for n in range(12))},
        read=_read_trackingnet,
    ),
    "tnl2k": TrackingLayout(
        title="TNL2K",
        shown="DIR/SEQUENCE/groundtruth.txt beside language.txt and imgs",
        files={"all": ("*/groundtruth.txt",)},
        read=_read_tnl2k,
    ),
    "otb": TrackingLayout(
        title="OTB",
        shown="DIR/SEQUENCE/groundtruth_rect.txt",
        files={"all": ("*/groundtruth_rect*.txt",)},
        read=_read_otb,
        select=_select_otb,
    ),
    "uav123": TrackingLayout(
        title="UAV123",
        shown="DIR/anno/{UAV123,UAV20L}/SEQUENCE.txt with DIR/data_seq/UAV123/SEQUENCE",
        files={split: (f"anno/{split}/*.txt",) for split in ("UAV123", "UAV20L")},
        read=_read_uav123,
    ),
    "nfs": TrackingLayout(
        title="NfS",
        shown="DIR/SEQUENCE/{30,240}/SEQUENCE.txt",
        files={split: (f"*/{split}/*.txt",) for split in ("30", "240")},  # frames per second
        read=_read_nfs,
    ),
}
