"""Read rows of ElysiumTrack-1M from JSONL or the Hub: one object in one video, with a text and a box per frame.

A row is ``source, id, vid, metadata, frames: [path…], object_class, box: [[x1,y1,x2,y2] in 0..1 or null…],
object_description, frame_size: [w, h]``; `video` may replace `frames`, and an image or video may be
``{"bytes", "path"}`` instead of a path. `elysium synth` writes such rows too.
"""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elysium.processing.data_files import DatasetError, in_place, is_number, read_json_lines

from .annotation_files import check_some
from .frame_sources import row_frames
from .indexed_json import index_json_lines
from .samples import Sample, SampleList, TrackingSequence, Turn, tracking_sample
from .zipped_frames import ZippedFolder, hub_files

Row = dict[str, Any]


def read_elysium_track(source: str | Path, split: str = "validation") -> Iterator[TrackingSequence]:
    """Yield the objects of a JSONL file, of a folder of such files, or of a dataset on the Hub, streamed.

    Args:
        source: `rows.jsonl`, a folder that holds JSONL files, or a Hub id `owner/name`. Paths in a row are relative
            to the file's folder.
        split: of a dataset on the Hub.

    Raises:
        DatasetError: no such source, or a row that is not as above.
    """
    for number, (row, root) in enumerate(rows_of(source, split)):
        with in_place(f"row {number} of {source}"):
            sequence = sequence_of_row(row, root)
        yield sequence


def rows_of(source: str | Path, split: str) -> Iterator[tuple[Row, Path | None]]:
    """Yield rows, each with the folder that its paths are relative to; None for rows streamed from the Hub."""
    place = Path(source)
    if os.path.exists(place):
        files = [place] if os.path.isfile(place) else sorted(place.glob("*.jsonl"))
        for file in check_some(files, place, "ROWS.jsonl"):
            yield from ((row, file.parent) for _, row in read_json_lines(file))
        return
    if str(source).count("/") != 1 or place.suffix in (".jsonl", ".json"):
        raise DatasetError(
            f"rows must be an existing JSONL file, a folder or a Hub id owner/name, got {source}; check the path"
        )
    for row in streamed_rows(str(source), split):
        yield row, None


def streamed_rows(name: str, split: str) -> Any:
    """Return the `datasets.IterableDataset` of a dataset on the Hub, with images and videos undecoded."""
    from datasets import Image, Sequence, Video, load_dataset

    lines = hub_files(name, ".jsonl") if hub_files(name, ".zip") else []
    if lines:  # frames in zip files beside the rows, which `datasets` would read as rows too
        named = [path for path in lines if PurePosixPath(path).stem.startswith(split)] or lines
        return load_dataset("json", data_files=named, split="train", streaming=True)
    rows = load_dataset(name, split=split, streaming=True)
    for column, feature in dict(rows.features or {}).items():
        if isinstance(feature, Video | Image):
            rows = rows.cast_column(column, type(feature)(decode=False))
        elif isinstance(getattr(feature, "feature", None), Image):
            rows = rows.cast_column(column, Sequence(Image(decode=False)))
    return rows


def sequence_of_row(row: Row, root: Path | ZippedFolder | None = None) -> TrackingSequence:
    """Return a row as a sequence; its name is its `id` with path separators replaced.

    Raises:
        DatasetError: a field is missing or has another form.
    """
    missing = [name for name in ("id", "box", "frame_size") if row.get(name) is None]
    if missing:
        raise DatasetError(f"a row must have id, box and frame_size, got one without {', '.join(missing)}")
    if not isinstance(row["id"], str | int):
        raise DatasetError(f"the id of a row must be text or a whole number, got {type(row['id']).__name__}")
    name = str(row["id"]).replace("/", "_").replace("\\", "_")
    object_class = row_text(row, "object_class")
    size = _frame_size(row["frame_size"], name)
    boxes = _boxes_px(row["box"], size, name)
    return TrackingSequence(
        name=name,
        frames=row_frames(row, root),
        boxes_xywh_px=boxes,
        visible=np.isfinite(boxes).all(axis=1),
        text=row_text(row, "object_description") or object_class,
        object_class=object_class,
        size=size,
    )


def row_text(row: Row, field: str) -> str | None:
    """Return the text in a field of a row; None where there is none.

    Raises:
        DatasetError: the field is not text.
    """
    text = row.get(field)
    if text is not None and not isinstance(text, str):
        raise DatasetError(f"{field} of a row must be text, got {type(text).__name__} in row {row.get('id')!r}")
    return text


def _frame_size(size: Any, name: str) -> tuple[int, int]:
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(is_number(side) and side >= 1 for side in size):
        raise DatasetError(f"frame_size must be width and height in pixels, got {size!r} in row {name}")
    return int(size[0]), int(size[1])


def _boxes_px(boxes: Any, frame_size: tuple[int, int], name: str) -> NDArray[np.float64]:
    """Convert x1,y1,x2,y2 in 0..1 (absent: null or no area) to x,y,w,h in pixels (absent: NaN)."""
    for box in boxes if isinstance(boxes, list | tuple) and boxes else [boxes]:
        if box is not None and not (isinstance(box, list | tuple) and len(box) == 4 and all(map(is_number, box))):
            raise DatasetError(f"a box must be four numbers or null, got {box!r} in row {name}; box is a list of them")
    norm = np.array([[np.nan] * 4 if box is None else box for box in boxes], dtype=np.float64)
    if np.nanmin(norm, initial=0.0) < -0.01 or np.nanmax(norm, initial=0.0) > 1.01:
        raise DatasetError(
            f"boxes of a row must be in 0..1, got {np.nanmin(norm):g} to {np.nanmax(norm):g} in row {name}; divide "
            "pixels by frame_size"
        )
    px = np.clip(norm, 0, 1) * [*frame_size, *frame_size]
    boxes_xywh_px = np.concatenate([px[:, :2], px[:, 2:] - px[:, :2]], axis=1)
    boxes_xywh_px[~(boxes_xywh_px[:, 2:] > 0).all(axis=1)] = np.nan
    return boxes_xywh_px


def elysium_track_samples(name: str, path: Path) -> SampleList:
    """Return the samples of a JSONL file of ElysiumTrack-1M, or of one that `elysium synth` wrote."""
    return SampleList(name, index_json_lines(path), partial(_row_of_line, source=name, path=path))


def _row_of_line(numbered: tuple[int, dict[str, Any]], source: str, path: Path) -> Sample:
    number, record = numbered
    with in_place(f"line {number} of {path}"):
        return sample_of_record(record, source, path.parent)


def sample_of_record(record: dict[str, Any], source: str, root: Path | ZippedFolder | None = None) -> Sample:
    """Return a row of a JSONL file or of a streamed dataset as a sample.

    Args:
        record: ElysiumTrack's columns, or `frames` or `video` with `turns` (a list of ``{"question", "answer"}``).
        source: name of the dataset.
        root: folder or zip files that relative paths are relative to.

    Raises:
        DatasetError: the record has neither form.
    """
    if record.get("turns"):
        turns = tuple(_turn(turn) for turn in record["turns"]) if isinstance(record["turns"], list) else (_turn(None),)
        return Sample(source=source, key=str(record.get("id")), frames=row_frames(record, root), turns=turns)
    metadata = record.get("metadata")
    name = row_text(metadata, "name") if isinstance(metadata, dict) else None
    return tracking_sample(sequence_of_row(record, root), source, description=name)


def _turn(turn: Any) -> Turn:
    """Return a question and its answer, both text."""
    question, answer = (turn.get("question"), turn.get("answer")) if isinstance(turn, dict) else (None, None)
    if not (isinstance(question, str) and isinstance(answer, str) and question.strip() and answer.strip()):
        raise DatasetError(f'turns must be a list of {{"question": TEXT, "answer": TEXT}}, got {turn!r} among them')
    return question, answer
