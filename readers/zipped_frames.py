"""Read frames in zip files beside their rows, on a disk or on the Hub, without extracting them."""

import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from elysium.processing.data_files import DatasetError

_MEMBER_BYTES = 1 << 28  # of one frame or video; what says or gives more is refused
_DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError, ValueError)


@dataclass(frozen=True)
class ZippedFolder:
    """Members of some zip files.

    Args:
        archives: paths, or addresses that fsspec opens (``hf://datasets/owner/name/frames.zip``).
    """

    archives: tuple[str, ...]

    @classmethod
    def beside(cls, folder: Path) -> "ZippedFolder | None":
        """Return the zip files of a folder, or None where it has none."""
        found = tuple(str(path) for path in sorted(folder.glob("*.zip")))
        return cls(found) if found else None

    def read(self, path: str) -> bytes:
        """Return the content of a member.

        Args:
            path: as a row has it: from the top of an archive, or with the archive's name before it, as
                ``frames/0.jpg`` of the member ``0.jpg`` of ``frames.zip``.

        Raises:
            DatasetError: no archive has it, it is damaged or too large, or its path leads out of the archive.
        """
        parts = PurePosixPath(path).parts
        if not parts or PurePosixPath(path).is_absolute() or ".." in parts or "\\" in path:
            raise DatasetError(
                f"a member of a zip file must be named by a path below it, got {path!r}; correct the row"
            )
        for archive in self.archives:
            names = ["/".join(parts)]
            if parts[0] == PurePosixPath(archive).stem:
                names.append("/".join(parts[1:]))
            for name in names:
                content = _read_member(archive, name)
                if content is not None:
                    return content
        raise DatasetError(
            f"a frame must be a file, or in a zip file beside its rows, got no {path} in {', '.join(self.archives)}; "
            "write its path from the top of the zip file"
        )


@dataclass(frozen=True)
class ZipMember:
    """A frame or video in one of some zip files; ``path`` is as a row has it."""

    folder: ZippedFolder
    path: str

    def read(self) -> bytes:
        """Return its content; see `ZippedFolder.read`."""
        return self.folder.read(self.path)


@lru_cache(maxsize=8)
def zipped_on_hub(name: str) -> ZippedFolder | None:
    """Return the zip files of a dataset on the Hub, or None where it has none."""
    files = hub_files(name, ".zip")
    return ZippedFolder(tuple(files)) if files else None


def hub_files(name: str, suffix: str) -> list[str]:
    """Return the addresses of files of a dataset on the Hub by name; none where it is out of reach."""
    from huggingface_hub import HfFileSystem

    try:
        found: Sequence[str] = HfFileSystem().find(f"datasets/{name}")
    except OSError:  # opening the dataset says why
        return []
    return sorted(f"hf://{path}" for path in found if path.endswith(suffix))


def _read_member(archive: str, name: str) -> bytes | None:
    """Return the content of a member, or None where there is none of that name."""
    try:
        opened = _opened(archive, os.getpid())
        if name not in opened.NameToInfo:
            return None
        with opened.open(name) as member:
            content = member.read(_MEMBER_BYTES + 1)
    except _DAMAGE as error:
        raise DatasetError(
            f"a zip file must be one that can be read, got {error} for {name!r} of {archive}; get it again"
        ) from error
    if len(content) > _MEMBER_BYTES:
        raise DatasetError(
            f"a frame in a zip file must be of at most {_MEMBER_BYTES >> 20} MiB, got more of {name!r} of {archive}; "
            "store frames as JPEG or PNG"
        )
    return content


@lru_cache(maxsize=16)
def _opened(archive: str, process: int) -> zipfile.ZipFile:
    """Return an archive that stays open; each process has its own, since workers would share a file position."""
    import fsspec

    return zipfile.ZipFile(fsspec.open(archive, "rb").open())
