"""ElysiumTrack-1M rows, as JSONL or from a hub: one object in one video, with words and a box for every frame.

A row is ``source, id, vid, metadata, frames: [path…], object_class, box: [[x1,y1,x2,y2] in 0..1 or null…],
object_description, frame_size: [w, h]``; `video` may stand in place of `frames`, and a picture or video may be
``{"bytes", "path"}`` in place of a path. `elysium synth` writes such rows too.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .annotation_files import check_some, read_text
from .frame_sources import DatasetError, row_frames
from .records import TrackingSequence

Row = dict[str, Any]


def read_elysium_track(source: str | Path, split: str = "validation") -> Iterator[TrackingSequence]:
    """The objects of a JSONL file, of a folder with one, or of a data set on the Hub, streamed.

    Args:
        source: `rows.jsonl`, a folder that holds JSONL files, or a Hub id `owner/name`. Paths in a row are relative
            to the file's folder.
        split: of a data set on the Hub.

    Raises:
        DatasetError: nothing there, or a row that is not as above.
    """
    for row, root in rows_of(source, split):
        yield sequence_of_row(row, root)


def rows_of(source: str | Path, split: str) -> Iterator[tuple[Row, Path | None]]:
    """Rows, each with the folder that its paths are relative to (None for what is streamed from the Hub)."""
    place = Path(source)
    if place.exists():
        files = [place] if place.is_file() else sorted(place.glob("*.jsonl"))
        for file in check_some(files, place, "ROWS.jsonl"):
            for number, line in enumerate(read_text(file).splitlines(), start=1):
                if line.strip():
                    yield _parse(line, f"line {number} of {file}"), file.parent
        return
    if str(source).count("/") != 1 or place.suffix in (".jsonl", ".json"):
        raise DatasetError(f"rows must be an existing JSONL file, a folder or a Hub id owner/name, got {source}")
    for row in streamed_rows(str(source), split):
        yield row, None


def _parse(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DatasetError(f"a row must be JSON, got {error} in {where}; get the file again") from error
    if not isinstance(row, dict):
        raise DatasetError(f"a row must be a JSON object, got {type(row).__name__} in {where}; get the file again")
    return row


def streamed_rows(name: str, split: str) -> Any:
    """The `datasets.IterableDataset` of a data set on the Hub, with pictures and videos undecoded."""
    from datasets import Image, Sequence, Video, load_dataset

    rows = load_dataset(name, split=split, streaming=True)
    for column, feature in dict(rows.features or {}).items():
        if isinstance(feature, Video | Image):
            rows = rows.cast_column(column, type(feature)(decode=False))
        elif isinstance(getattr(feature, "feature", None), Image):
            rows = rows.cast_column(column, Sequence(Image(decode=False)))
    return rows


def sequence_of_row(row: Row, root: Path | None = None) -> TrackingSequence:
    """One row as a sequence; its name is its `id` with every separator of folders replaced.

    Raises:
        DatasetError: a field is missing or not as it must be.
    """
    missing = [name for name in ("id", "box", "frame_size") if row.get(name) is None]
    if missing:
        raise DatasetError(f"a row must have id, box and frame_size, got one without {', '.join(missing)}")
    name = str(row["id"]).replace("/", "_").replace("\\", "_")
    boxes = _boxes_px(row["box"], row["frame_size"], name)
    return TrackingSequence(
        name=name,
        frames=row_frames(row, root),
        boxes_xywh_px=boxes,
        visible=np.isfinite(boxes).all(axis=1),
        text=row.get("object_description") or row.get("object_class"),
        object_class=row.get("object_class"),
        size=(int(row["frame_size"][0]), int(row["frame_size"][1])),
        group=row.get("source"),
    )


def _boxes_px(boxes: list[Any], frame_size: list[int], name: str) -> NDArray[np.float64]:
    """x1,y1,x2,y2 in 0..1, null or without area where there is none, as x,y,w,h in pixels with NaN."""
    try:
        norm = np.array([[np.nan] * 4 if box is None else box for box in boxes], dtype=np.float64)
        norm = norm.reshape(len(boxes), 4)
        scale = np.array([*frame_size, *frame_size], dtype=np.float64).reshape(4)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"a box must be four numbers or null, got other ones in row {name} ({error})") from error
    if np.nanmin(norm, initial=0.0) < -0.01 or np.nanmax(norm, initial=0.0) > 1.01:
        raise DatasetError(
            f"boxes of a row must be in 0..1, got {np.nanmin(norm):g} to {np.nanmax(norm):g} in row {name}; divide "
            "pixels by frame_size"
        )
    px = np.clip(norm, 0, 1) * scale
    boxes_xywh_px = np.concatenate([px[:, :2], px[:, 2:] - px[:, :2]], axis=1)
    boxes_xywh_px[~(boxes_xywh_px[:, 2:] > 0).all(axis=1)] = np.nan
    return boxes_xywh_px
