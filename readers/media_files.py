"""Check fields of annotations and find media files; shared by the readers."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from elysium.processing.data_files import DatasetError

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".gif")


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


def index_videos(root: Path) -> dict[str, Path]:
    """Return the videos of a folder and of its subfolders by their names without suffix.

    Where a name occurs more than once, the order of `VIDEO_SUFFIXES` decides, then that of the paths.
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
