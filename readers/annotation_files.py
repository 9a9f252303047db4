"""Read text files of boxes and flags, check the fields of annotations, and find files; shared by the readers."""

import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elysium.processing.data_files import DatasetError, read_text

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".gif")
_SEPARATORS = str.maketrans(",;\t\r", "    ")


def read_boxes(path: Path, *, columns: int = 4) -> NDArray[np.float64]:
    """Return the boxes of a file with one box a line, with commas, tabs, semicolons or spaces between the numbers.

    Returns:
        `np.ndarray` of shape `(T, columns)`.

    Raises:
        DatasetError: no such file, an empty one, or a line with another number of numbers.
    """
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.translate(_SEPARATORS).split()
        if not fields:
            continue
        try:
            row = [float(field) for field in fields]
        except ValueError:
            row = []
        if len(row) != columns:
            raise DatasetError(f"a line must hold {columns} numbers, got {line!r} in line {number} of {path}")
        rows.append(row)
    if not rows:
        raise DatasetError(f"a file of boxes must hold a line for each frame, got none in {path}; get it again")
    return np.array(rows)


def read_flags(path: Path, length: int) -> NDArray[np.float64]:
    """Return the numbers of a file, on one line or many: LaSOT's `full_occlusion.txt` or GOT-10k's `cover.label`.

    Returns:
        `np.ndarray` of shape `(length,)`.

    Raises:
        DatasetError: no such file, text that is not a number, or another number of them.
    """
    try:
        with warnings.catch_warnings(action="error"):  # text that is not a number
            flags = np.fromstring(read_text(path).translate(_SEPARATORS), dtype=np.float64, sep=" ")
    except (ValueError, DeprecationWarning) as error:
        raise DatasetError(f"a file of labels must hold numbers, got {error} in {path}; get it again") from error
    if len(flags) != length:
        raise DatasetError(f"a file of labels must have {length} flags, one a frame, got {len(flags)} in {path}")
    return flags


def fields_of(row: Any, names: Sequence[str], where: str) -> list[Any]:
    """Return the values of fields that an annotation must have.

    Raises:
        DatasetError: one is missing or null.
    """
    missing = [name for name in names if not isinstance(row, dict) or row.get(name) is None]
    if missing:
        got = ", ".join(sorted(map(str, row))) if isinstance(row, dict) else type(row).__name__
        raise DatasetError(f"an annotation must have {', '.join(names)}, got {got or 'nothing'} in {where}")
    return [row[name] for name in names]


def first_file(root: Path, names: Sequence[str], folders: Sequence[str]) -> Path:
    """Return the first of these files that exists in ``root/folder``, for each folder in order.

    Raises:
        DatasetError: none exists.
    """
    for folder in folders:
        for name in names:
            if os.path.isfile(root / folder / name):
                return root / folder / name
    places = " or ".join(str(root / folder) for folder in folders)
    raise DatasetError(f"a dataset must hold {' or '.join(names)} in {places}, got no such file; check path and split")


def check_some(found: list[Path], root: Path, layout: str) -> list[Path]:
    """Return ``found`` unless it is empty.

    Raises:
        DatasetError: it is empty; ``layout`` says what is expected.
    """
    if not found:
        raise DatasetError(
            f"a dataset must be laid out as {layout}, got nothing like it in {root}; extract its archives there, or "
            "give the folder that holds them"
        )
    return found


def check_present(missing: Iterable[str], total: int, what: str, remedy: str) -> None:
    """Check that no file of a split is missing.

    Args:
        missing: names of files that were not found.
        total: number of files of the split.
        what: kind of the files, in the plural.
        remedy: advice for the message.

    Raises:
        DatasetError: a file is missing; the message has their number and the first name.
    """
    names = list(dict.fromkeys(missing))
    if names:
        raise DatasetError(f"all {total} {what} must be there, got {len(names)} missing, first {names[0]}; {remedy}")
