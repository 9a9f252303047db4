"""Fields that an annotation must have, and media files that must be there: shared by readers of datasets."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from elysium.processing.data_files import DatasetError

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".gif")


def fields_of(row: Any, names: Sequence[str], where: str) -> list[Any]:
    """The values of fields that an annotation must have.

    Raises:
        DatasetError: one is missing or null.
    """
    missing = [name for name in names if not isinstance(row, dict) or row.get(name) is None]
    if missing:
        got = ", ".join(sorted(map(str, row))) if isinstance(row, dict) else type(row).__name__
        raise DatasetError(f"an annotation must have {', '.join(names)}, got {got or 'nothing'} in {where}")
    return [row[name] for name in names]


def first_file(root: Path, names: Sequence[str], folders: Sequence[str]) -> Path:
    """The first of these files that is there, looked for in ``root/folder`` for each folder in order.

    Raises:
        DatasetError: none is.
    """
    for folder in folders:
        for name in names:
            if os.path.isfile(root / folder / name):
                return root / folder / name
    places = " or ".join(str(root / folder) for folder in folders)
    raise DatasetError(
        f"a data set must hold {' or '.join(names)} in {places}, got no such file; check path and split"
    )


def index_videos(root: Path) -> dict[str, Path]:
    """The videos of a folder and of the folders in it, by their names without suffix.

    Where a name stands more than once, the order of `VIDEO_SUFFIXES` decides, then that of the paths.
    """
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")]
    files = [
        file
        for folder in folders
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in VIDEO_SUFFIXES and file.name[0] != "."
    ]
    files.sort(key=lambda file: VIDEO_SUFFIXES.index(file.suffix.lower()))  # stable
    found: dict[str, Path] = {}
    for file in files:
        found.setdefault(file.stem, file)
    return found


def check_present(missing: Iterable[str], total: int, what: str, remedy: str) -> None:
    """Nothing that a split needs is missing.

    Args:
        missing: names that were not found.
        total: how many are needed.
        what: they are, in the plural.
        remedy: what to do.

    Raises:
        DatasetError: something is; the message names the first and how many there are.
    """
    names = list(dict.fromkeys(missing))
    if names:
        raise DatasetError(f"all {total} {what} must be there, got {len(names)} missing, first {names[0]}; {remedy}")
