"""What trackers answered, in the files that the benchmarks exchange: one text file for each sequence."""

import os
import re
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from elysium.processing.atomic_files import atomic_path
from elysium.readers.annotation_files import read_boxes
from elysium.readers.frame_sources import DatasetError

Layout = Literal["flat", "got10k"]


class ResultError(ValueError):
    """A folder of results is not as it must be; the message says what and what to do."""


def result_path(folder: Path, name: str, layout: Layout) -> Path:
    """Where the boxes of a sequence stand: `SEQUENCE.txt`, or GOT-10k's `SEQUENCE/SEQUENCE_001.txt`."""
    return folder / name / f"{name}_001.txt" if layout == "got10k" else folder / f"{name}.txt"


def time_path(folder: Path, name: str, layout: Layout) -> Path:
    """Where the seconds of each frame stand: GOT-10k's and OTB's places in the got10k toolkit."""
    return folder / name / f"{name}_time.txt" if layout == "got10k" else folder / "times" / f"{name}_time.txt"


def write_result(
    folder: Path, name: str, layout: Layout, boxes_xywh_px: NDArray[np.float64], seconds: NDArray[np.float64]
) -> None:
    """Writes a sequence's seconds and then its boxes, so that a sequence with boxes is whole.

    Args:
        folder: of the tracker.
        name: of the sequence.
        layout: of the benchmark.
        boxes_xywh_px (`np.ndarray` of shape `(T, 4)`): 0,0,0,0 where there is none.
        seconds (`np.ndarray` of shape `(T,)`): that each frame took.
    """
    for path, values, digits in (
        (time_path(folder, name, layout), seconds[:, None], "%.6f"),
        (result_path(folder, name, layout), boxes_xywh_px, "%.4f"),
    ):
        with atomic_path(path) as temporary:
            np.savetxt(temporary, values, fmt=digits, delimiter=",")


class ResultFolder:
    """Results of one tracker, written by this package or by others.

    `SEQUENCE.txt` (LaSOT, OTB, TrackingNet …) and `SEQUENCE/SEQUENCE_001.txt` (GOT-10k) are found; where there are
    several repetitions of a sequence, each is given. A file may be named with a tracker's or data set's prefix as
    `TRACKER_SEQUENCE.txt`, as OTB's results are.

    Raises:
        ResultError: no such folder, or nothing of the kind in it.
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
        """The boxes of a sequence, x,y,w,h in pixels; a list with an array for each repetition.

        Raises:
            ResultError: no file for the sequence, or one that cannot be read.
        """
        files = [self._files[name]] if name in self._files else sorted((self.folder / name).glob(f"{name}_[0-9]*.txt"))
        files = files or [path for stem, path in self._files.items() if re.fullmatch(rf".+_{re.escape(name)}", stem)]
        if not files:
            raise ResultError(
                f"results must hold every sequence, got none for {name} in {self.folder}; finish the run, or choose "
                "a split that the results cover"
            )
        return [_read(path, 4) for path in files]

    def frames_per_s(self) -> float | None:
        """Mean speed over the sequences whose times stand beside their boxes.

        Raises:
            ResultError: a file of times cannot be read.
        """
        files = [*self.folder.glob("times/*_time.txt"), *self.folder.glob("*/*_time.txt")]
        times = [_read(path, 1)[:, 0] for path in sorted(set(files))]
        speeds = [1 / seconds.mean() for seconds in times if len(seconds) and seconds.mean() > 0]
        return float(np.mean(speeds)) if speeds else None


def _read(path: Path, columns: int) -> NDArray[np.float64]:
    try:
        return read_boxes(path, columns=columns)
    except DatasetError as error:
        raise ResultError(str(error)) from error


def write_submission(folder: Path, archive: Path) -> None:
    """Packs a tracker's results as a benchmark's server takes them."""
    with atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("[!.]*.txt")):  # no unfinished file of a run that was killed
            packed.write(path, path.relative_to(folder))
