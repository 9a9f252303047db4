"""List the files of a folder to be published, within bounds: no system or home folder is walked."""

import os
from pathlib import Path

# What the Hub recommends for one repository at most.
MAX_FILES, MAX_BYTES, MAX_DEPTH = 100_000, 300_000_000_000, 20
_SYSTEM = (
    "/Applications /Library /System /Users /Volumes /bin /boot /dev /etc /home /lib /lib64 /media /mnt /opt /proc "
    "/root /run /sbin /srv /sys /tmp /usr /var C:/Windows C:/Users"
).split()
# The kernel's, in which a file need not have an end.
_NO_FILES = ("/dev", "/proc", "/sys")


class PublishError(ValueError):
    """Raised for a folder that cannot be published as it is; the message says why and what to do."""


def check_place(folder: Path) -> None:
    """Raise `PublishError` for a system or home folder, before anything in it is read."""
    path = folder.resolve()
    home = Path.home().resolve()
    is_kernels = any(path.is_relative_to(top) for top in _NO_FILES)
    if is_kernels or path == home or path in home.parents or path == Path(path.anchor) or path.as_posix() in _SYSTEM:
        raise PublishError(
            f"what is published must be one folder with nothing else in it, got {path}, a folder of the system or "
            "your home folder; give the folder that save_pretrained or elysium synth wrote"
        )


def list_files(folder: Path, staying: dict[str, str] | None = None, *, top_only: bool = False) -> list[Path]:
    """Return the files below a folder, in the order of their names, without hidden folders and virtual environments.

    Args:
        folder: to be published.
        staying: filled with the paths of the folders that are left out, and why.
        top_only: leaves out every folder, as for a checkpoint.

    Raises:
        PublishError: a place that `check_place` refuses, or more files, bytes or levels than a repository may hold.
    """
    check_place(folder)
    files: list[Path] = []
    total = 0
    for place, folders, names in os.walk(folder):
        for name in sorted(folders):
            path = Path(place) / name
            reason = "a folder" if top_only and not name.startswith(".") else _reason_to_leave(path)
            if reason:
                folders.remove(name)
                if staying is not None:
                    staying[path.relative_to(folder).as_posix()] = reason
        for name in names:
            files.append(Path(place) / name)
            total += os.stat(files[-1], follow_symlinks=False).st_size
        depth = len(Path(place).relative_to(folder).parts)
        for what, value, most in (
            ("files", len(files), MAX_FILES),
            ("bytes", total, MAX_BYTES),
            ("levels of folders", depth, MAX_DEPTH),
        ):
            if value > most:
                raise PublishError(
                    f"a published folder must hold at most {most:,} {what}, got more in {folder}, at {place}; give "
                    "the folder of one checkpoint, dataset or Space alone, or pack small files into tar or Parquet"
                )
    return sorted(files)


def _reason_to_leave(path: Path) -> str | None:
    """Return why a folder is left out; None for one that is not."""
    if path.name.startswith(".") or path.name == "__pycache__":
        return "hidden"
    if path.name == "logs":
        return "logs of a run"
    if (path / "pyvenv.cfg").is_file():
        return "a virtual environment"
    return "packages of JavaScript" if path.name == "node_modules" else None
