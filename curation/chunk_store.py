"""The output folder: one folder for each chunk, whole or not there; beside them the rows of all, and the report.

    OUT/rows.jsonl    OUT/report/    OUT/chunks/000012/{rows.jsonl, frames/…, exclusions.jsonl}    OUT/logs/

Anything that fsspec opens can be the output (``hf://datasets/owner/name``, ``s3://bucket``); there a chunk counts as
written when its last file is, the exclusions.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datatrove.io import DataFolder, get_datafolder

from elysium.processing.atomic_files import atomic_folder, atomic_path
from elysium.processing.data_files import parse_json_object

from .curation_settings import CurationError

CHUNKS = "chunks"
EXCLUSIONS = "exclusions.jsonl"
REPORT = "report"
_RUN = "logs/run.json"


class ChunkStore:
    """Where a run writes.

    Args:
        out: folder, or an address that fsspec knows.
    """

    def __init__(self, out: str) -> None:
        self.out = out

    @property
    def folder(self) -> DataFolder:
        """The output as datatrove opens it."""
        return get_datafolder(self.out)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine's file system."""
        return bool(self.folder.is_local())

    @property
    def local(self) -> Path:
        """The output as a path.

        Raises:
            CurationError: it is none.
        """
        if not self.is_local:
            raise CurationError(f"this must be done in a local folder, got {self.out}; copy it here")
        return Path(self.folder.path)

    def done(self) -> set[int]:
        """Numbers of the chunks that are written."""
        return {int(name.split("/")[-2]) for name in self.files(EXCLUSIONS)}

    def files(self, name: str) -> list[str]:
        """That file of every chunk, in order of the chunks, relative to the output."""
        if not self.folder.isdir(CHUNKS):
            return []
        found = self.folder.glob(f"{CHUNKS}/*/{name}")
        return sorted(path for path in found if re.fullmatch(r"\d+", path.split("/")[-2]))

    @contextmanager
    def writing(self, chunk: int) -> Iterator[Path]:
        """A folder to write a chunk into, which takes its place at the end.

        Raises:
            OutputError: it cannot be written.
        """
        name = f"{CHUNKS}/{chunk:06d}"
        if not self.is_local:
            with tempfile.TemporaryDirectory() as folder:
                yield Path(folder)
                self._upload(Path(folder), name)
            return
        place = self.local / name
        try:
            with atomic_folder(place) as unfinished:
                yield unfinished
        except OSError:
            # A task of an earlier run that outlived it may have come first, with the same content.
            if not (place / EXCLUSIONS).is_file():
                raise

    def sweep(self) -> None:
        """Removes what killed runs left unfinished; for when no task is at work."""
        if not self.is_local:
            return
        for folder in (self.local, self.local / CHUNKS, self.local / REPORT):
            for leftover in folder.glob(".*.part*"):  # as `processing.atomic_files` names them
                if leftover.is_dir():
                    shutil.rmtree(leftover, ignore_errors=True)
                else:
                    leftover.unlink(missing_ok=True)

    def _upload(self, folder: Path, name: str) -> None:
        """The exclusions go last: they say that the chunk is whole."""
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        for path in sorted(files, key=lambda path: path.name == EXCLUSIONS):
            self.put(path, f"{name}/{path.relative_to(folder)}")

    def put(self, path: Path, name: str) -> None:
        """Copies a file to a place in the output."""
        self.folder.makedirs(name.rpartition("/")[0], exist_ok=True)
        self.folder.put_file(str(path), name)

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """A path to write a file of the output at, which takes its place at the end."""
        if self.is_local:
            with atomic_path(self.local / name) as path:
                yield path
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            yield path
            self.put(path, name)

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        """The objects of a JSONL file of every chunk, in order."""
        for path in self.files(name):
            with self.folder.open(path, "rt", encoding="utf-8") as file:
                yield from (parse_json_object(line, f"line {n} of {path}") for n, line in enumerate(file, start=1))

    def claim(self, run: dict[str, Any]) -> None:
        """Takes the output for a run, or goes on with the same one.

        Raises:
            CurationError: another run has it, or it holds something else.
        """
        if self.folder.isfile(_RUN):
            with self.folder.open(_RUN, "rt", encoding="utf-8") as file:
                other = parse_json_object(file.read(), f"{self.out}/{_RUN}")
            run = json.loads(json.dumps(run))
            changed = [name for name in sorted({*other, *run}) if other.get(name) != run.get(name)]
            if changed:
                shown = ", ".join(f"{name} {other.get(name)!r}, now {run.get(name)!r}" for name in changed)
                raise CurationError(
                    f"a run must go on with the settings that it began with, got {self.out} with {shown}; "
                    "choose another output folder"
                )
            return
        if self.is_local and self.local.exists() and any(self.local.iterdir()):
            raise CurationError(f"the output must be a new or empty folder, got {self.out}; choose another one")
        with self.file(_RUN) as path:
            path.write_text(json.dumps(run, indent=2, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")
