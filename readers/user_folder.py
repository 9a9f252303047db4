"""Read your own data: a folder of videos, and boxes for them in one CSV, JSONL or JSON file.

    DIR/cup.mp4    DIR/walk/street.mp4    DIR/boxes.csv

    video,frame_idx,x1,y1,x2,y2,object,text
    cup.mp4,0,307,124,414,383,1,the black cup
    cup.mp4,9,,,,,1,

A sample is one object in one video. Frames that no line names are unknown, and left out; `user_boxes` says
what a line holds.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elysium.processing.video_io import VideoError, VideoInfo, VideoReader, probe_video

from .annotation_files import check_some
from .frame_sources import DatasetError, SomeFrames, VideoFrames
from .samples import Sample
from .user_boxes import BOX_FILES, BoxTable, ObjectBoxes

NAME = "folder"


def folder_rows(path: str, *, boxes: str | None = None) -> "FolderSamples":
    """Return a sample for each object in each video.

    Args:
        path: folder of the videos; or a file of boxes beside them.
        boxes: file of boxes, relative to the folder; by default the one CSV or JSONL file in it, or all its JSON
            files as `elysium track --boxes` writes them, one for each video.

    Raises:
        DatasetError: no such folder or file, several files of boxes, or a file that cannot be used at all.
    """
    place = Path(path)
    if not os.path.exists(place):
        raise DatasetError(f"the data must be an existing folder of videos, got {place}; check the path")
    folder = place if os.path.isdir(place) else place.parent
    files = _box_files(place, boxes)
    table = BoxTable()
    for file in files:
        table.read(file)
    if not table.objects:
        raise DatasetError(f"a file of boxes must hold lines, got none in {files[0]}; write a line for each frame")
    return FolderSamples(folder, table.objects)


def _box_files(place: Path, named: str | None) -> list[Path]:
    """Return the named file; else the given file; else the files of boxes in the given folder."""
    folder = place if os.path.isdir(place) else place.parent
    if named is not None or os.path.isfile(place):
        return [folder / named if named is not None else place]
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in BOX_FILES and file.name[0] != ".")
    tables = [file for file in files if file.suffix.lower() != ".json"]
    if len(tables) > 1:
        names = ", ".join(file.name for file in tables)
        raise DatasetError(f"a folder must hold one CSV or JSONL file of boxes, got {names} in {folder}; name boxes")
    return tables or check_some(files, folder, "DIR/VIDEO.mp4 beside DIR/BOXES.csv, .jsonl or .json")


class FolderSamples:
    """Samples of `folder_rows`; only size and length of each video are kept in memory.

    Args:
        folder: folder that video paths are relative to.
        objects: one for each sample.
    """

    name = NAME

    def __init__(self, folder: Path, objects: Sequence[ObjectBoxes]) -> None:
        self._folder, self._objects = folder, objects
        self._infos: dict[Path, VideoInfo] = {}
        self._counts: dict[Path, int] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def __getitem__(self, index: int) -> Sample:
        found = self._objects[index]
        if found.error is not None:
            raise DatasetError(found.error)
        if not found.lines:
            raise DatasetError(f"an object must have frames, got none for {found.video} {found.name} in {found.file}")
        video = self._find(found)
        order = _order(found)
        frames = np.array(found.frame_indices, dtype=np.int64)[order]
        self._check_last(video, found, int(order[-1]))
        return Sample(
            source=NAME,
            key=f"{found.video}#{found.name}" if found.name else found.video,
            frames=SomeFrames(VideoFrames(video), frames.tolist()),
            boxes_xyxy_norm=self._boxes_norm(video, found)[order],
            text=found.text,
            description=found.text,
        )

    def _find(self, found: ObjectBoxes) -> Path:
        """Return the video below the folder; a file of `elysium track` may have a path relative to another folder."""
        places = [self._folder / found.video]
        if found.size is not None:
            places.append(self._folder / Path(found.video).name)
        for place in places:
            if os.path.exists(place):
                return place
        raise DatasetError(
            f"a video must be in the folder, got no {found.video} in {self._folder} for {found.where(0)}; paths are "
            "relative to the folder"
        )

    def _info(self, video: Path) -> VideoInfo:
        if video not in self._infos:
            try:
                self._infos[video] = probe_video(video)
            except VideoError as error:
                raise DatasetError(str(error)) from error
        return self._infos[video]

    def _check_last(self, video: Path, found: ObjectBoxes, position: int) -> None:
        """Check that the video has the last frame; frames are counted where its declared length is too short."""
        last, declared = found.frame_indices[position], self._info(video).num_frames
        if declared is None or last < declared:
            return
        if video not in self._counts:
            with VideoReader(video) as reader:
                self._counts[video] = reader.count()
        if last >= self._counts[video]:
            raise DatasetError(
                f"frame_idx must be below the video's {self._counts[video]} frames, got {last} in "
                f"{found.where(position)}; count from 0"
            )

    def _boxes_norm(self, video: Path, found: ObjectBoxes) -> NDArray[np.float64]:
        """Return boxes in 0..1 in the order of the lines `(n, 4)`, cut to the image."""
        info = self._info(video)
        if found.size not in (None, (info.width, info.height)):
            raise DatasetError(
                f"boxes must be for the video's size {info.width}x{info.height}, got {found.size[0]}x{found.size[1]} "
                f"in {found.file}; track the video again"
            )
        corners = np.array(found.corners_px, dtype=np.float64).reshape(-1, 4)
        if np.isfinite(corners).any() and not (corners > 1).any() and (info.width, info.height) != (1, 1):
            shown = ",".join(f"{value:g}" for value in corners[np.isfinite(corners).all(axis=1)][0])
            raise DatasetError(
                f"boxes must be in pixels, got {shown} and no number above 1 in {found.file}; multiply shares "
                f"of the image by its width and height, {info.width} and {info.height}"
            )
        norm = np.clip(corners / [info.width, info.height, info.width, info.height], 0, 1)
        outside = np.flatnonzero((norm[:, :2] >= norm[:, 2:]).any(axis=1))
        if len(outside):
            shown = ",".join(f"{value:g}" for value in corners[outside[0]])
            raise DatasetError(
                f"a box must be inside the {info.width}x{info.height} image, got {shown} in "
                f"{found.where(int(outside[0]))}; give pixels of the original video after rotation"
            )
        return norm


def _order(found: ObjectBoxes) -> NDArray[np.int64]:
    """Return the positions of the entries in the order of frames.

    Raises:
        DatasetError: two entries have the same frame.
    """
    frames = np.array(found.frame_indices, dtype=np.int64)
    order = np.argsort(frames, kind="stable")
    twice = np.flatnonzero(np.diff(frames[order]) == 0)
    if len(twice):
        first, second = order[twice[0]], order[twice[0] + 1]
        raise DatasetError(
            f"an object must have one box in a frame, got two in frame {frames[first]} of {found.video}, "
            f"{found.where(int(first))} and line {found.lines[int(second)]}; tell objects apart by the column object"
        )
    return order
