"""Read and write trackers' results in the formats that benchmarks exchange: one text file for each sequence."""

import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from elysium.processing.atomic_files import atomic_path
from elysium.processing.data_files import DatasetError
from elysium.readers.annotation_files import read_boxes

Layout = Literal["flat", "got10k"]


class ResultError(ValueError):
    """Raised for a folder of results that is not as it must be; the message says what to do."""


@dataclass(frozen=True)
class ResultFiles:
    """The result files that this package writes for one tracker; `name in files` tells whether a sequence is finished.

    Scores stand beside the boxes, in `SEQUENCE_confidence.value` or `SEQUENCE_001_confidence.value` as the VOT toolkit
    names them: a number in 0..1 on each line, nan where there is no box.

    Args:
        folder: of the tracker.
        layout: "flat" for `SEQUENCE.txt` and `times/SEQUENCE_time.txt`, "got10k" for `SEQUENCE/SEQUENCE_001.txt` and
            `SEQUENCE/SEQUENCE_time.txt`: the places of the got10k toolkit.
    """

    folder: Path
    layout: Layout

    def __contains__(self, name: object) -> bool:
        return self._paths(str(name))[0].is_file()

    def _paths(self, name: str) -> tuple[Path, Path]:
        """Return the paths of a sequence's boxes and times."""
        if self.layout == "got10k":
            return self.folder / name / f"{name}_001.txt", self.folder / name / f"{name}_time.txt"
        return self.folder / f"{name}.txt", self.folder / "times" / f"{name}_time.txt"

    def write(
        self,
        name: str,
        boxes_xywh_px: NDArray[np.float64],
        seconds: NDArray[np.float64],
        scores: NDArray[np.float64] | None = None,
    ) -> None:
        """Write a sequence's times and scores and then its boxes, so that a sequence with boxes is complete.

        Args:
            name: of the sequence.
            boxes_xywh_px (`np.ndarray` of shape `(T, 4)`): 0,0,0,0 where there is none.
            seconds (`np.ndarray` of shape `(T,)`): processing time of each frame.
            scores (`np.ndarray` of shape `(T,)`): NaN where there is no box; None for a tracker without scores.
        """
        boxes_path, times_path = self._paths(name)
        files = [(times_path, seconds), (boxes_path, boxes_xywh_px)]
        if scores is not None:
            files.insert(0, (_scores_path(boxes_path), scores))
        for path, values in files:
            digits = "%.4f" if path == boxes_path else "%.6f"
            with atomic_path(path) as temporary:
                np.savetxt(temporary, values, fmt=digits, delimiter=",")


class ResultFolder:
    """Results of one tracker, written by this package or by others.

    `SEQUENCE.txt` (LaSOT, OTB, TrackingNet …) and `SEQUENCE/SEQUENCE_001.txt` (GOT-10k) are found, with all
    repetitions of a sequence. A file may have a tracker's or dataset's prefix (`TRACKER_SEQUENCE.txt`), as OTB's do.
    Scores stand beside the boxes, as in `ResultFiles`.

    Raises:
        ResultError: no such folder, or no result files in it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not os.path.isdir(self.folder):
            raise ResultError(f"results must be an existing folder, got {self.folder}; check the path")
        self._files = {path.stem: path for path in sorted(self.folder.glob("[!.]*.txt"))}
        repeated = [path for path in sorted(self.folder.glob("*/[!.]*_[0-9]*.txt")) if path.parent.name in path.stem]
        if not self._files and not repeated:
            raise ResultError(
                f"results must be SEQUENCE.txt or SEQUENCE/SEQUENCE_001.txt, got neither in {self.folder}; give the "
                "folder that holds them"
            )

    def boxes(self, name: str) -> list[NDArray[np.float64]]:
        """Return the boxes of a sequence (x,y,w,h in pixels), an array for each repetition.

        Raises:
            ResultError: no file for the sequence, or one that cannot be read.
        """
        return [_read(path, 4) for path in self._boxes_paths(name)]

    def scores(self, name: str) -> list[NDArray[np.float64]] | None:
        """Return the scores of a sequence, an array for each of its `boxes`; None where one has no scores.

        Raises:
            ResultError: no boxes for the sequence, a file that cannot be read, or not a score for each box.
        """
        found = []
        for boxes_path in self._boxes_paths(name):
            path = _scores_path(boxes_path)
            if not path.is_file():
                return None
            scores, num_boxes = _read(path, 1)[:, 0], len(_read(boxes_path, 4))
            if len(scores) != num_boxes:
                raise ResultError(
                    f"a file of scores must have a line for each of {num_boxes} boxes, got {len(scores)} in {path}; "
                    "write nan where there is none, or remove the file"
                )
            found.append(scores)
        return found

    def _boxes_paths(self, name: str) -> list[Path]:
        """Return the files of a sequence's boxes, one for each repetition."""
        files = [self._files[name]] if name in self._files else sorted((self.folder / name).glob(f"{name}_[0-9]*.txt"))
        files = files or [path for stem, path in self._files.items() if re.fullmatch(rf".+_{re.escape(name)}", stem)]
        if not files:
            raise ResultError(
                f"results must hold every sequence, got none for {name} in {self.folder}; finish the run, or choose "
                "a split that the results cover"
            )
        return files

    def frames_per_s(self) -> float | None:
        """Return the mean speed over the sequences that have times.

        Raises:
            ResultError: a file of times cannot be read.
        """
        files = [*self.folder.glob("times/*_time.txt"), *self.folder.glob("*/*_time.txt")]
        times = [_read(path, 1)[:, 0] for path in sorted(set(files))]
        speeds = [1 / seconds.mean() for seconds in times if len(seconds) and seconds.mean() > 0]
        return float(np.mean(speeds)) if speeds else None


def _scores_path(boxes_path: Path) -> Path:
    return boxes_path.with_name(f"{boxes_path.stem}_confidence.value")


def _read(path: Path, columns: int) -> NDArray[np.float64]:
    try:
        return read_boxes(path, columns=columns)
    except DatasetError as error:
        raise ResultError(str(error)) from error


def write_submission(folder: Path, archive: Path) -> None:
    """Pack a tracker's results into the archive that a benchmark's server takes."""
    with atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("[!.]*.txt")):  # no unfinished file of a run that was killed
            packed.write(path, path.relative_to(folder))
