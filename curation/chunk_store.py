"""Output of a run: a folder per chunk, complete or absent, the records of all chunks, and the report.

    OUT/rows.jsonl    OUT/report/    OUT/chunks/000012/{rows.jsonl, frames/…, exclusions.jsonl}    OUT/logs/

The output can be any place that fsspec opens (``hf://datasets/owner/name``, ``s3://bucket``); there a chunk counts as
written when its last file is, the exclusions. Runs resume by chunk, since datatrove's own completions skip whole tasks
only, and a killed task would start again.
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

from .curation_step import CurationError

CHUNKS = "chunks"
EXCLUSIONS = "exclusions.jsonl"
REPORT = "report"
VIDEOS = "videos.jsonl"
_RUN = "logs/run.json"


class ChunkStore:
    """Read and write the output of a run.

    Args:
        out: Folder, or an address that fsspec knows.
    """

    def __init__(self, out: str) -> None:
        self.out = out

    @property
    def folder(self) -> DataFolder:
        """Return the output as datatrove opens it."""
        return get_datafolder(self.out)

    @property
    def is_local(self) -> bool:
        """Return whether it is a folder of the local file system."""
        return bool(self.folder.is_local())

    @property
    def local(self) -> Path:
        """Return the output as a path.

        Raises:
            CurationError: it is remote.
        """
        if not self.is_local:
            raise CurationError(f"this must be done in a local folder, got {self.out}; copy it here")
        return Path(self.folder.path)

    def done(self) -> set[int]:
        """Return the numbers of the written chunks."""
        return {int(name.split("/")[-2]) for name in self.files(EXCLUSIONS)}

    def files(self, name: str) -> list[str]:
        """Return the path of a file in every chunk, in order, relative to the output."""
        if not self.folder.isdir(CHUNKS):
            return []
        found = self.folder.glob(f"{CHUNKS}/*/{name}")
        return sorted(path for path in found if re.fullmatch(r"\d+", path.split("/")[-2]))

    @contextmanager
    def writing(self, chunk: int) -> Iterator[Path]:
        """Yield a temporary folder for a chunk, and move it into place at the end.

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
            # A surviving task of an earlier run may have written the same chunk first.
            if not (place / EXCLUSIONS).is_file():
                raise

    def sweep(self) -> None:
        """Remove unfinished files of killed runs; only while no task runs."""
        if not self.is_local:
            return
        for folder in (self.local, self.local / CHUNKS, self.local / REPORT):
            for leftover in folder.glob(".*.part*"):  # as `processing.atomic_files` names them
                if leftover.is_dir():
                    shutil.rmtree(leftover, ignore_errors=True)
                else:
                    leftover.unlink(missing_ok=True)

    def _upload(self, folder: Path, name: str) -> None:
        """Upload a chunk, its exclusions last: they mark it as complete."""
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        for path in sorted(files, key=lambda path: path.name == EXCLUSIONS):
            self.put(path, f"{name}/{path.relative_to(folder)}")

    def put(self, path: Path, name: str) -> None:
        """Copy a file into the output."""
        self.folder.makedirs(name.rpartition("/")[0], exist_ok=True)
        self.folder.put_file(str(path), name)

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """Yield a temporary path for a file of the output, and move it into place at the end."""
        if self.is_local:
            with atomic_path(self.local / name) as path:
                yield path
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            yield path
            self.put(path, name)

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the objects of a JSONL file of every chunk, in order."""
        for path in self.files(name):
            with self.folder.open(path, "rt", encoding="utf-8") as file:
                yield from (parse_json_object(line, f"line {n} of {path}") for n, line in enumerate(file, start=1))

    def claim(self, run: dict[str, Any]) -> None:
        """Claim the output for a run, or resume the same run.

        Raises:
            CurationError: another run has claimed it, or it holds other files.
        """
        if self.folder.isfile(_RUN):
            with self.folder.open(_RUN, "rt", encoding="utf-8") as file:
                other = parse_json_object(file.read(), f"{self.out}/{_RUN}")
            run = json.loads(json.dumps(run))
            changed = [name for name in sorted({*other, *run}) if other.get(name) != run.get(name)]
            if changed:
                shown = ", ".join(f"{name} {other.get(name)!r}, now {run.get(name)!r}" for name in changed)
                raise CurationError(
                    f"a run must resume with the settings that it began with, got {self.out} with {shown}; "
                    "choose another output folder"
                )
            return
        if self.is_local and self.local.exists() and any(self.local.iterdir()):
            raise CurationError(f"the output must be a new or empty folder, got {self.out}; choose another one")
        with self.file(_RUN) as path:
            path.write_text(json.dumps(run, indent=2, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")
