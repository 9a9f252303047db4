"""Files and folders that are either whole or not there: written under a temporary name beside it, then renamed."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class OutputError(OSError):
    """An output file cannot be written where it was asked for."""


def temporary_sibling(path: str | Path) -> Path:
    """A hidden name beside ``path`` that nobody else uses; it keeps the suffix, from which encoders take the format.

    Makes the folder of ``path`` where it is missing.

    Raises:
        OutputError: ``path`` is a folder, or its folder cannot be made or written.
    """
    target = Path(path)
    if target.is_dir():
        raise OutputError(f"an output must be a file name, got the folder {target}; add a file name to it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.part{target.suffix}")
        temporary.touch(exist_ok=False)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OutputError(
            f"the folder of an output must be writable, got {target.parent} ({reason}); choose another output path"
        ) from error
    return temporary


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` and renames it to ``path`` at the end.

    An exception inside the block removes the temporary file, and what stood at ``path`` before stays as it was.

    Raises:
        OutputError: the folder of ``path`` cannot be made or written.
    """
    temporary = temporary_sibling(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yields a new temporary folder beside ``path`` and renames it to ``path`` at the end.

    An exception inside the block removes the temporary folder.

    Raises:
        OutputError: ``path`` exists and is not an empty folder, or its parent cannot be made or written.
    """
    target = Path(path)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise OutputError(f"an output folder must be new or empty, got {target}; remove it or choose another one")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OutputError(
            f"the folder of an output must be writable, got {target.parent} ({reason}); choose another output path"
        ) from error
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
