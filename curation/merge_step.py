"""The last step, when all chunks are written: the rows of all in one file, and the report on them.

OUT/rows.jsonl    OUT/report/{exclusions.jsonl, summary.json, histograms.png, sheet.png}    OUT/README.md
"""

import json
import random
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from elysium.readers.elysium_track import rows_of

from .chunk_store import EXCLUSIONS, REPORT, ChunkStore
from .curated_card import dataset_card
from .near_duplicates import VideoPrint, duplicate_report, fingerprints, leak_report
from .row_files import NAMES, Row, read_rows
from .row_sheet import row_sheet
from .row_statistics import RowStatistics, drop_counts, plot_statistics
from .video_records import VideoRecord
from .write_step import VIDEOS

STEPS = ("phrases", "decode", "detect", "track", "drift", "agree")
SUMMARY = f"{REPORT}/summary.json"
_SHEET_ROWS = 16


class MergeChunks(PipelineStep):
    """Puts the chunks together, in order of the input, and says what they hold.

    Args:
        store: the output.
        form: of the rows.
        settings: of the run, for the report.
        held_out: rows of a validation set that the new ones are compared with: a JSONL file, a folder with one, or a
            Hub id.
    """

    type, name = "Curation", "merge"

    def __init__(self, store: ChunkStore, *, form: str, settings: dict[str, Any], held_out: str | None = None) -> None:
        super().__init__()
        self.store, self.form, self.settings, self.held_out = store, form, settings, held_out

    def run(self, data: Iterable[VideoRecord] | None, rank: int = 0, world_size: int = 1) -> Iterator[VideoRecord]:
        """Nothing comes out of it."""
        self.store.sweep()
        if self.form == "jsonl":
            self._join(NAMES[self.form], NAMES[self.form])
        self._join(EXCLUSIONS, f"{REPORT}/{EXCLUSIONS}")
        statistics, sample = RowStatistics(), Sample(_SHEET_ROWS)
        prints = list(fingerprints(_looked_at(read_rows(self.store, self.form), statistics, sample), self._root))
        self._write_report(self._summary(statistics.to_dict(), prints), sample.rows)
        yield from ()

    @property
    def _root(self) -> Path | None:
        """What the paths of rows are relative to; None where rows hold their frames."""
        return self.store.local if self.form == "jsonl" else None

    def _join(self, name: str, whole: str) -> None:
        """The lines of a file of every chunk in one file."""
        with self.store.file(whole) as path, path.open("wb") as joined:
            for part in self.store.files(name):
                with self.store.folder.open(part, "rb") as file:
                    joined.writelines(file)

    def _summary(self, statistics: dict[str, Any], prints: list[VideoPrint]) -> dict[str, Any]:
        of_videos, of_phrases = (
            drop_counts(line for line in self.store.lines(EXCLUSIONS) if (line["phrase"] is None) == whole)
            for whole in (True, False)
        )
        summary = {
            "videos": sum(1 for _ in self.store.lines(VIDEOS)),
            "dropped_videos": of_videos,
            "rows": statistics["rows"],
            "format": self.form,
            "steps": step_counts(of_phrases, statistics["rows"]),
            "settings": self.settings,
            "statistics": statistics,
            "near_duplicates": duplicate_report(prints),
        }
        if self.held_out is not None:
            summary["leaks"] = {"held_out": self.held_out, **leak_report(prints, held_out_prints(self.held_out))}
        return summary

    def _write_report(self, summary: dict[str, Any], rows: list[Row]) -> None:
        if rows:
            with self.store.file(f"{REPORT}/histograms.png") as path:
                plot_statistics(summary["statistics"], path)
            with self.store.file(f"{REPORT}/sheet.png") as path:
                row_sheet(rows, self._root or Path(), path, of=summary["rows"])
        with self.store.file("README.md") as path:
            path.write_text(str(dataset_card(summary)), "utf-8")
        with self.store.file(SUMMARY) as path:  # last: it says that all is there
            path.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _looked_at(rows: Iterable[Row], statistics: RowStatistics, sample: "Sample") -> Iterator[Row]:
    """The rows, counted and sampled on their way."""
    for row in rows:
        statistics.add(row)
        sample.add(row)
        yield row


class Sample:
    """Some of very many rows, each as likely as the others, in their order; the same rows give the same.

    Args:
        size: at most so many.
    """

    def __init__(self, size: int) -> None:
        self._size, self._count = size, 0
        self._kept: list[tuple[int, Row]] = []
        self._random = random.Random(0)

    def add(self, row: Row) -> None:
        """Looks at one row (reservoir sampling)."""
        place = self._count if self._count < self._size else self._random.randint(0, self._count)
        if place < self._size:
            self._kept[place : place + 1] = [(self._count, row)]
        self._count += 1

    @property
    def rows(self) -> list[Row]:
        """The sample."""
        return [row for _, row in sorted(self._kept, key=lambda kept: kept[0])]


def held_out_prints(source: str) -> list[VideoPrint]:
    """A print of each video of other rows.

    Args:
        source: a JSONL file, a folder with one, or a Hub id, of which the split validation is read.

    Raises:
        DatasetError: it cannot be read.
    """
    prints: list[VideoPrint] = []
    for root, rows in groupby(rows_of(source, "validation"), key=lambda found: found[1]):
        prints += fingerprints((row for row, _ in rows), root)
    return prints


def step_counts(drops: dict[str, dict[str, int]], num_rows: int) -> list[dict[str, Any]]:
    """How many phrases every step took in, dropped by which reason, and gave on.

    >>> step_counts({"agree": {"iou_last": 2}}, 5)[-1]
    {'step': 'agree', 'in': 7, 'dropped': {'iou_last': 2}, 'out': 5}
    """
    counts: list[dict[str, Any]] = []
    out = num_rows
    for step in reversed(STEPS):
        dropped = drops.get(step, {})
        counts.append({"step": step, "in": out + sum(dropped.values()), "dropped": dropped, "out": out})
        out = counts[-1]["in"]
    return counts[::-1]
