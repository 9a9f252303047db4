"""Writers of the files of tracks, from the dictionary of `TrackingResult.to_dict`."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CSV_COLUMNS = ("track_id", "text", "frame_idx", "time_s", "x1", "y1", "x2", "y2", "score", "doubt", "reason")


def json_text(value: Any, *, encoding: str = "utf-8") -> str:
    r"""Return JSON on one line that ``encoding`` can hold, with ``\uXXXX`` for letters where it cannot hold one.

    A file name that is no UTF-8 reaches Python as lone surrogates, which no encoding holds.

    Raises:
        ValueError: NaN, an infinity, or what JSON cannot hold.

    >>> print(json_text("café"), json_text("café", encoding="ascii"), json_text("caf\udce9"))
    "café" "caf\u00e9" "caf\udce9"
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False)
    return text


def write_json(result: dict[str, Any], path: Path) -> None:
    """Write everything as JSON, on one line."""
    path.write_text(json_text(result) + "\n", encoding="utf-8")


def frame_rows(result: dict[str, Any]) -> Iterator[list[Any]]:
    """Yield the values of `CSV_COLUMNS` for every frame of every track; None where a frame has no box, or a box."""
    for track in result["tracks"]:
        for frame in track["frames"]:
            box = frame["box_xyxy_px"] or [None] * 4
            name = (track["id"], track.get("text"), frame["frame_idx"], frame["time_s"])
            yield [*name, *box, frame["score"], frame["doubt"], frame.get("reason")]


def write_csv(result: dict[str, Any], path: Path) -> None:
    """Write one row for every frame of every track; a frame without a box has empty cells and a reason."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(CSV_COLUMNS)
        table.writerows(frame_rows(result))


def write_mot(result: dict[str, Any], path: Path) -> None:
    """Write MOTChallenge rows: frame, id, left, top, width, height, confidence, -1, -1, -1.

    Frames, ids and pixels count from 1, as that format says; frames without a box are left out.
    """
    rows = [
        (frame["frame_idx"] + 1, track["id"], frame["box_xyxy_px"], frame["score"])
        for track in result["tracks"]
        for frame in track["frames"]
        if frame["box_xyxy_px"] is not None
    ]
    rows.sort(key=lambda row: row[:2])
    lines = [
        f"{frame},{track_id},{x1 + 1:.3f},{y1 + 1:.3f},{x2 - x1:.3f},{y2 - y1:.3f},{score:.4f},-1,-1,-1\n"
        for frame, track_id, (x1, y1, x2, y2), score in rows
    ]
    path.write_text("".join(lines), encoding="utf-8")


TRACK_WRITERS: dict[str, Callable[[dict[str, Any], Path], None]] = {
    ".json": write_json,
    ".csv": write_csv,
    ".txt": write_mot,
}
