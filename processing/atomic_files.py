"""Atomic files and folders: written under a temporary name beside the target, then renamed."""

import errno
import itertools
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class OutputError(OSError):
    """An output file cannot be written at its path."""


# Errors of a full or failing disk.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_LONGEST_SUFFIX = 16


def temporary_name(path: str | Path) -> Path:
    """Return a hidden name beside ``path`` that nobody else uses, with its suffix; create nothing.

    It is short whatever the length of the name that it stands for, since a name has at most 255 bytes.
    """
    target = Path(path)
    suffix = target.suffix if len(target.suffix) <= _LONGEST_SUFFIX else ""
    return target.with_name(f".elysium-{secrets.token_hex(6)}.part{suffix}")


def free_name(path: Path) -> Path:
    """Return ``path``, or the first of ``NAME-2.ext``, ``NAME-3.ext`` … that nothing has; see `free_names`."""
    return free_names(path.parent, path.stem, path.suffix)[0]


def free_names(folder: Path, stem: str, *endings: str) -> list[Path]:
    """Return a free name for each ending: ``stem + ending``, or all ``stem-2 + ending``, or all with 3.

    Stems are cut where a name would be too long.
    """
    for number in itertools.count(1):
        mark = "" if number == 1 else f"-{number}"
        names = [fit_name(folder, stem, mark + ending) for ending in endings]
        if not any(map(os.path.lexists, names)):
            return names
    raise AssertionError("numbers do not end")


def fit_name(folder: Path, stem: str, ending: str) -> Path:
    """Return ``folder / (stem + ending)``, with a stem that is cut where the name would be too long."""
    room = longest_name(folder) - len(os.fsencode(ending))
    while len(os.fsencode(stem)) > room:
        stem = stem[:-1]
    return folder / f"{stem}{ending}"


def longest_name(folder: Path) -> int:
    """Return how many bytes a name in the folder may have: 255 nearly everywhere."""
    existing = next((place for place in (folder, *folder.parents) if place.is_dir()), Path("."))
    try:
        return os.pathconf(existing, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        return 255


@contextmanager
def full_disk_is_an_output_error(target: str | Path) -> Iterator[None]:
    """Turn what a full or failing disk raises inside the block into an `OutputError` that names ``target``.

    Of blocks inside one another the outermost names its target: the others may be in a temporary folder.
    """
    try:
        yield
    except OSError as error:
        fault = error.__cause__ if isinstance(error, OutputError) else error
        if not isinstance(fault, OSError) or fault.errno not in _FULL:
            raise
        raise OutputError(
            f"{target} must be writable to its end, got: {os.strerror(fault.errno)}; free disk space or choose "
            "another output path"
        ) from fault


def _not_writable(target: Path, error: OSError) -> OutputError:
    reason = error.strerror or type(error).__name__
    return OutputError(
        f"the folder of an output must be writable, got {target.parent} ({reason}); choose another output path"
    )


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it to ``path`` at the end.

    An exception inside the block removes the temporary file, and a file at ``path`` stays as it was. The temporary
    path keeps the suffix, which tells encoders the format; the folder is created where it is missing.

    Raises:
        OutputError: ``path`` is a folder, its folder cannot be made or written, or the disk is full.
    """
    temporary, target = temporary_name(path), Path(path)  # known before: an interrupt at any moment removes it
    if target.is_dir():
        raise OutputError(f"an output must be a file name, got the folder {target}; add a file name to it")
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch(exist_ok=False)
        except OSError as error:
            raise _not_writable(target, error) from error
        with full_disk_is_an_output_error(path):
            yield temporary
            os.replace(temporary, path)
    finally:
        with suppress(OSError):  # where its folder is no folder, too
            temporary.unlink()


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a new temporary folder beside ``path`` and rename it to ``path`` at the end.

    An exception inside the block removes the temporary folder.

    Raises:
        OutputError: ``path`` exists and is not an empty folder, its parent cannot be made or written, or the disk is
            full.
    """
    target = Path(path)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise OutputError(f"an output folder must be new or empty, got {target}; remove it or choose another one")
    temporary = temporary_name(target)
    try:
        try:
            temporary.mkdir(parents=True)
        except OSError as error:
            raise _not_writable(target, error) from error
        with full_disk_is_an_output_error(path):
            yield temporary
            os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
