"""Keep an append-only file of JSON lines that survives being killed while it is written."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elysium.processing.atomic_files import full_disk_is_an_output_error
from elysium.processing.data_files import DatasetError, parse_json_object
from elysium.processing.track_files import json_text

Row = dict[str, Any]


class LogError(ValueError):
    """Raised for a log with a damaged line; the message says which."""


class JsonLog:
    """Append-only log of rows.

    A killed process can leave a torn last line: reading leaves it out, and the next row replaces it. Any other line
    that cannot be read is an error.

    Args:
        path: of the file, made with its folder when the first rows are added.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Row]:
        """Return all complete rows.

        Raises:
            LogError: a line before the last is no JSON object.
        """
        return self._whole()[0]

    def append(self, rows: Sequence[Row]) -> None:
        """Append rows, and return when they are on disk.

        Raises:
            LogError: as `read`.
            OutputError: the disk is full; a torn line is left out when the log is read.
            ValueError: a row holds NaN, or what JSON cannot hold.
        """
        text = "".join(json_text(row) + "\n" for row in rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        end = self._whole()[1] if not self._ends_whole() else None
        exists = self.path.exists()
        with full_disk_is_an_output_error(self.path), self.path.open("r+b" if exists else "wb") as file:
            if end is not None:
                file.truncate(end)
            file.seek(0, os.SEEK_END)
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())

    def _ends_whole(self) -> bool:
        """Return whether the file ends with a complete line, by its last two characters."""
        if not self.path.exists() or not self.path.stat().st_size:
            return True
        with self.path.open("rb") as file:
            file.seek(-min(2, self.path.stat().st_size), os.SEEK_END)
            return file.read() == b"}\n"

    def _whole(self) -> tuple[list[Row], int]:
        """Return the complete rows, and their size in bytes."""
        rows: list[Row] = []
        end = 0
        if not self.path.exists():
            return rows, end
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                row = _parse(line)
                if row is None:
                    if file.read(1):
                        raise LogError(
                            f"a line must be a JSON object, got {line[:60]!r} in line {number} of {self.path}; "
                            "remove that line, and its item is run again"
                        )
                    break
                rows.append(row)
                end += len(line)
        return rows, end


def _parse(line: bytes) -> Row | None:
    """Return the row of a complete line; None for any other."""
    try:
        row = parse_json_object(line, "")
    except DatasetError:
        return None
    return row if line.endswith(b"\n") else None
