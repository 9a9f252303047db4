"""Read your own data: a folder of videos, and boxes for them in CSV, JSONL, or JSON of ``elysium track --boxes``.

    DIR/cup.mp4    DIR/walk/street.mp4    DIR/boxes.csv

    video,frame_idx,x1,y1,x2,y2,object,text
    cup.mp4,0,307,124,414,383,1,the black cup
    cup.mp4,9,,,,,1,

A sample is one object in one video. Frames that no line names are unknown, and left out. A line of CSV, or an object
of JSONL, has `video`, `frame_idx` (0-based), and `x1`, `y1`, `x2`, `y2` in pixels of the video after rotation, all
four empty (null) where the object is absent. Cells are separated by commas, semicolons or tabs; numbers may have a
decimal comma ("10,5"). `object` tells objects of one video apart, and `text` is a text prompt for the object. Other
columns are ignored. A wrong line affects its own object alone: the error is kept, with the line number.
"""

import math
import os
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elysium.processing.data_files import DatasetError, json_lines, parse_json_object, read_csv
from elysium.processing.structures import load_tracking_result
from elysium.processing.video_io import VideoError, VideoInfo, VideoReader, probe_video

from .annotation_files import check_some
from .frame_sources import SomeFrames, VideoFrames
from .samples import Sample

NAME = "folder"
BOX_FILES = (".csv", ".jsonl", ".json")
COLUMNS = ("video", "frame_idx", "x1", "y1", "x2", "y2")
_CORNERS = COLUMNS[2:]
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]{1,3})?")
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")
Record = dict[str, Any]


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
    objects: dict[tuple[str, str], ObjectBoxes] = {}
    for file in files:
        _read_objects(file, objects)
    if not objects:
        raise DatasetError(f"a file of boxes must hold lines, got none in {files[0]}; write a line for each frame")
    return FolderSamples(folder, list(objects.values()))


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


@dataclass(eq=False)
class ObjectBoxes:
    """Annotation of one object in one video.

    Args:
        video: as written in the file.
        name: of the object within the video; empty for an object without a name.
        file: that holds it.
        lines: number of the line of each entry, from 1.
        frame_indices: 0-based, in the order of the lines.
        corners_px: four numbers of each entry, x1, y1, x2, y2, NaN where the object is absent.
        text: text prompt, or None.
        size: width and height in pixels of the annotated video, or None where the file does not say.
        error: message about its first wrong line, or None.
    """

    video: str
    name: str
    file: Path
    lines: array = field(default_factory=lambda: array("q"))
    frame_indices: array = field(default_factory=lambda: array("q"))
    corners_px: array = field(default_factory=lambda: array("d"))
    text: str | None = None
    size: tuple[int, int] | None = None
    error: str | None = None

    def where(self, position: int) -> str:
        """Return the place of an entry, for messages."""
        return f"line {self.lines[position]} of {self.file}"


def _read_objects(path: Path, objects: dict[tuple[str, str], ObjectBoxes]) -> None:
    """Add the objects of a file by video and name; a line without either is an object of its own with an error.

    Raises:
        DatasetError: the file cannot be read, or has another suffix, header or form of JSON.
    """
    suffix = path.suffix.lower()
    if suffix not in BOX_FILES:
        raise DatasetError(f"a file of boxes must end in {', '.join(BOX_FILES)}, got {path}; change the suffix")
    if suffix == ".json":
        _read_result(path, objects)
        return
    for line, record in _csv_records(path) if suffix == ".csv" else _json_records(path):
        try:
            if isinstance(record, DatasetError):
                raise record
            _add(record, path, line, objects)
        except DatasetError as error:
            where = f"line {line} of {path}"
            objects[where, ""] = ObjectBoxes("", where, path, error=str(error))


def _read_result(path: Path, objects: dict[tuple[str, str], ObjectBoxes]) -> None:
    """Add the tracks of a result of ``elysium track``; frames whose answer could not be read are left out."""
    try:
        result = load_tracking_result(path)
    except ValueError as error:
        raise DatasetError(str(error)) from error
    texts = [result.video, *(track.text or "" for track in result.tracks)]
    if not all(isinstance(text, str) for text in texts):
        raise DatasetError(f"video and text of a tracking result must be text, got others in {path}; track it again")
    for number, track in enumerate(result.tracks, start=1):
        known = [position for position, reason in enumerate(track.reasons) if reason != "unreadable"]
        name = f"{path.stem}:{number}"  # tracks of several files are numbered from 1 again
        found = ObjectBoxes(result.video, name, path, text=track.text, size=(track.width, track.height))
        found.lines.extend([1] * len(known))
        found.frame_indices.extend(track.frame_indices[known].tolist())
        found.corners_px.extend(track.boxes_xyxy_px[known].ravel().tolist())
        objects[result.video, name] = found


def _csv_records(path: Path) -> Iterator[tuple[int, Record | DatasetError]]:
    """Yield the last line number and the cells by column of each record, or an error."""
    table = read_csv(path)
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        header = table.delimiter.join(table.columns)
        raise DatasetError(
            f"the first line must name the columns {', '.join(COLUMNS)} (and object and text where wanted), got "
            f"{header[:80]!r} without {', '.join(missing)} in {path}; add a header"
        )
    for line, cells in table.records:
        try:
            yield line, table.row(line, cells)
        except DatasetError as error:
            yield line, error


def _json_records(path: Path) -> Iterator[tuple[int, Record | DatasetError]]:
    """Yield the number and the object of each line that is not blank, or an error.

    Raises:
        DatasetError: a record of another source.
    """
    for line, text in json_lines(path):
        try:
            record: Record | DatasetError = parse_json_object(text, f"line {line} of {path}")
        except DatasetError as error:
            record = error
        if isinstance(record, dict) and "frames" in record and "frame_idx" not in record:
            raise DatasetError(
                f"a line of boxes must have {', '.join(COLUMNS)}, got a record of the schema of ElysiumTrack-1M in "
                f"line {line} of {path}; read it as the source elysium-track (elysium data check --source "
                "elysium-track)"
            )
        yield line, record


def _add(record: Record, path: Path, line: int, objects: dict[tuple[str, str], ObjectBoxes]) -> None:
    """Add an entry to its object; an error of the entry is kept there.

    Raises:
        DatasetError: the entry belongs to no object.
    """
    where = f"line {line} of {path}"
    for name in ("video", "object", "text"):
        if isinstance(record.get(name), bool | list | dict):
            raise DatasetError(f"{name} must be text, got {type(record[name]).__name__} in {where}")
    video, name, text = (_cell(record.get(column)) for column in ("video", "object", "text"))
    if not video:
        raise DatasetError(f"a line must name its video, got none in {where}; fill in the column video")
    found = objects.setdefault((video, name), ObjectBoxes(video, name, path))
    try:
        if text and found.text and text != found.text:
            raise DatasetError(
                f"an object must have one text, got {text!r} after {found.text!r} in {where}; tell objects apart "
                "by the column object"
            )
        frame_idx, corners = _frame_idx(record.get("frame_idx"), where), _corners(record, where)
    except DatasetError as error:
        found.error = found.error or str(error)
        return
    found.text = found.text or text or None
    found.lines.append(line)
    found.frame_indices.append(frame_idx)
    found.corners_px.extend(corners)


def _cell(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _number(value: Any, decimal_comma: bool = False) -> float:
    """Return a number of JSON or of a CSV cell.

    Raises:
        ValueError: it is not a number, or not finite.
    """
    cell = "" if isinstance(value, bool) else _cell(value)
    if not _NUMBER.fullmatch(cell.replace(",", ".", 1) if decimal_comma else cell):
        raise ValueError(cell)
    number = float(cell.replace(",", ".", 1) if decimal_comma else cell)
    if not math.isfinite(number):
        raise ValueError(cell)
    return number


def _frame_idx(value: Any, where: str) -> int:
    """Return a whole number from 0, also of ``3.0``, as spreadsheets write it."""
    try:
        number = _number(value)
        if 0 <= number < 2**53 and number.is_integer():
            return int(number)
    except ValueError:
        pass
    raise DatasetError(f"frame_idx must be a whole number from 0, got {value!r} in {where}")


def _corners(record: Record, where: str) -> list[float]:
    """Return x1, y1, x2, y2 in pixels; four NaN where all of them are empty."""
    missing = [name for name in _CORNERS if name not in record]
    if missing:
        raise DatasetError(
            f"a line must have x1, y1, x2 and y2, got none for {missing[0]} in {where}; write null for all four where "
            "the object is absent"
        )
    cells = [_cell(record[name]) for name in _CORNERS]
    if not any(cells):
        return [math.nan] * 4
    shown = repr((";" if any("," in cell for cell in cells) else ",").join(cells))
    comma = _has_decimal_comma(cells, shown, where)
    try:
        x1, y1, x2, y2 = corners = [_number(record[name], comma) for name in _CORNERS]
    except ValueError:
        raise DatasetError(
            f"a box must be four numbers, got {shown} in {where}; leave all four empty where the object "
            "is absent, and write 1234.5 without marks between thousands"
        ) from None
    if not (x1 < x2 and y1 < y2):
        raise DatasetError(f"a box must have x1 < x2 and y1 < y2, got {shown} in {where}; is it x,y,w,h?")
    return corners


def _has_decimal_comma(cells: list[str], shown: str, where: str) -> bool:
    """Return whether the numbers of a line have a decimal comma, as "10,5".

    A comma before three digits may also separate thousands: another number of the line must decide.

    Raises:
        DatasetError: no number does.
    """
    commas = [cell for cell in cells if _COMMA.fullmatch(cell)]
    if commas and all(_THOUSANDS.fullmatch(cell) for cell in commas):
        raise DatasetError(
            f"a box must be four numbers, got {shown} in {where}, where a comma may be a decimal comma or stand "
            "between thousands; write decimal points, and nothing between thousands"
        )
    return bool(commas)


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
