"""A file of JSON lines that is only ever added to, and that survives being killed while it is written."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elysium.processing.atomic_files import full_disk_is_an_output_error
from elysium.processing.data_files import DatasetError, parse_json_object
from elysium.processing.track_files import json_text

Row = dict[str, Any]


class LogError(ValueError):
    """A log does not hold what it must; the message says where."""


class JsonLog:
    """Rows in the order in which they were added.

    A process that is killed can leave a last line that is torn: reading leaves it out, and the next row that is added
    takes its place. Anything else that cannot be read is an error.

    Args:
        path: of the file, made with its folder when the first rows are added.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Row]:
        """All whole rows.

        Raises:
            LogError: a line before the last is no JSON object.
        """
        return self._whole()[0]

    def append(self, rows: Sequence[Row]) -> None:
        """Adds rows, and returns when they are on the disk.

        Raises:
            LogError: as `read`.
            OutputError: the disk is full; what is torn is left out when the log is read.
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
        """Whether the file ends with a line that is finished, as far as its last two characters tell."""
        if not self.path.exists() or not self.path.stat().st_size:
            return True
        with self.path.open("rb") as file:
            file.seek(-min(2, self.path.stat().st_size), os.SEEK_END)
            return file.read() == b"}\n"

    def _whole(self) -> tuple[list[Row], int]:
        """The whole rows, and how many bytes they take."""
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
                            "remove that line, and what it answered is asked again"
                        )
                    break
                rows.append(row)
                end += len(line)
        return rows, end


def _parse(line: bytes) -> Row | None:
    """A line that is whole; None of any other."""
    try:
        row = parse_json_object(line, "")
    except DatasetError:
        return None
    return row if line.endswith(b"\n") else None
