"""Read files of boxes of users: CSV, JSONL, or JSON of ``elysium track --boxes OUT.json``.

A line of CSV, or an object of JSONL, has `video`, `frame_idx` (0-based), and `x1`, `y1`, `x2`, `y2` in pixels of the
video after rotation, all four empty (null) where the object is absent. Cells are separated by commas, semicolons or
tabs; numbers may have a decimal comma ("10,5"). `object` tells objects of one video apart, and `text` is a text prompt
for the object. Other columns are ignored. A wrong line affects its own object alone: the error is kept, with the line
number.
"""

import math
import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elysium.processing.data_files import DatasetError, is_number, json_lines, parse_json_object, read_csv, read_json
from elysium.processing.structures import Track

from .annotation_files import fields_of

COLUMNS = ("video", "frame_idx", "x1", "y1", "x2", "y2")
_CORNERS = COLUMNS[2:]
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]{1,3})?")
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")
Record = dict[str, Any]


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


class BoxTable:
    """Objects of one or more files, in the order of their first lines."""

    def __init__(self) -> None:
        self._objects: dict[tuple[str, str], ObjectBoxes] = {}

    @property
    def objects(self) -> list[ObjectBoxes]:
        """Return an object for each video and name; a line without either is an object of its own with an error."""
        return list(self._objects.values())

    def read(self, path: Path) -> None:
        """Add the objects of a file.

        Raises:
            DatasetError: the file cannot be read, or has another suffix, header or form of JSON.
        """
        if path.suffix.lower() not in BOX_FILES:
            raise DatasetError(f"a file of boxes must end in {', '.join(BOX_FILES)}, got {path}; change the suffix")
        for line, record in _READERS[path.suffix.lower()](path):
            where = f"line {line} of {path}"
            try:
                if isinstance(record, DatasetError):
                    raise record
                if "tracks" in record:
                    self._add_tracks(record, path, line)
                else:
                    self._add(record, path, line)
            except DatasetError as error:
                self._object("", where, path).error = str(error)

    def _object(self, video: str, name: str, path: Path) -> ObjectBoxes:
        return self._objects.setdefault((video, name), ObjectBoxes(video, name, path))

    def _add(self, record: Record, path: Path, line: int) -> None:
        where = f"line {line} of {path}"
        for name in ("video", "object", "text"):
            if isinstance(record.get(name), bool | list | dict):
                raise DatasetError(f"{name} must be text, got {type(record[name]).__name__} in {where}")
        video = _cell(record.get("video"))
        if not video:
            raise DatasetError(f"a line must name its video, got none in {where}; fill in the column video")
        found = self._object(video, _cell(record.get("object")), path)
        try:
            text = _cell(record.get("text")) or None
            if text and found.text and text != found.text:
                raise DatasetError(
                    f"an object must have one text, got {text!r} after {found.text!r} in {where}; tell objects apart "
                    "by the column object"
                )
            frame_idx, corners = _frame_idx(record.get("frame_idx"), where), _corners(record, where)
        except DatasetError as error:
            found.error = found.error or str(error)
            return
        found.text = found.text or text
        found.lines.append(line)
        found.frame_indices.append(frame_idx)
        found.corners_px.extend(corners)

    def _add_tracks(self, record: Record, path: Path, line: int) -> None:
        """Add the tracks of one video; frames whose answer could not be read are unknown, and left out."""
        where = f"line {line} of {path}"
        video, tracks, width, height = fields_of(record, ("video", "tracks", "width", "height"), where)
        for number, written in enumerate(tracks if isinstance(tracks, list) else [tracks], start=1):
            # Tracks of several files and runs are numbered from 1 again.
            found = self._object(str(video), f"{path.stem}:{line}:{number}", path)
            try:
                _check_track(written, width, height)
                track = Track.from_dict(written, width=width, height=height)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError) as error:
                found.error = (
                    f"a track must be as elysium track --boxes writes it, got {type(error).__name__}: {error} in "
                    f"{where}; track the video again"
                )
                continue
            known = [position for position, reason in enumerate(track.reasons) if reason != "unreadable"]
            found.text, found.size = track.text, (track.width, track.height)
            found.lines.extend([line] * len(known))
            found.frame_indices.extend(track.frame_indices[known].tolist())
            found.corners_px.extend(track.boxes_xyxy_px[known].ravel().tolist())


def _check_track(written: Any, width: Any, height: Any) -> None:
    """Refuse values that `Track.from_dict` would misread: true for 1, 1.5 for 1.

    Raises:
        TypeError: a value is not a number.
    """
    boxes = [frame["box_xyxy_px"] for frame in written["frames"]]
    whole = [width, height, *(frame["frame_idx"] for frame in written["frames"])]
    others = [number for box in boxes if box is not None for number in box]
    if not all(map(is_number, [*whole, *others])) or any(number != int(number) or number < 0 for number in whole):
        raise TypeError("width, height, frame_idx and boxes must be numbers")
    if not isinstance(written.get("text"), str | None):
        raise TypeError("text must be text or null")


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


def _json_lines(path: Path) -> Iterator[tuple[int, Record | DatasetError]]:
    """Yield the number and the object of each line that is not blank, or an error."""
    for line, text in json_lines(path):
        try:
            yield line, parse_json_object(text, f"line {line} of {path}")
        except DatasetError as error:
            yield line, error


def _json_file(path: Path) -> Iterator[tuple[int, Record | DatasetError]]:
    """Yield the JSON object that `elysium track` wrote, on one line or several."""
    record = read_json(path, byte_names=True)
    if not isinstance(record, dict) or "tracks" not in record:
        raise DatasetError(
            f"a JSON file of boxes must be as elysium track --boxes writes it, got {type(record).__name__} without "
            f"tracks in {path}; use CSV or JSONL for boxes of your own"
        )
    yield 1, record


_READERS: dict[str, Callable[[Path], Iterator[tuple[int, Record | DatasetError]]]] = {
    ".csv": _csv_records,
    ".jsonl": _json_lines,
    ".json": _json_file,
}
BOX_FILES = tuple(_READERS)


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
