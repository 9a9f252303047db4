"""Last step, after all chunks are written: join their records, and write the report.

OUT/rows.jsonl    OUT/report/{exclusions.jsonl, summary.json, histograms.png, sheet.png}    OUT/README.md
"""

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from elysium.processing.atomic_files import atomic_path
from elysium.readers.check import look_at
from elysium.readers.check_sheet import draw_strips, make_strip
from elysium.readers.elysium_track import rows_of
from elysium.readers.samples import sample_of_record

from .chunk_store import EXCLUSIONS, REPORT, VIDEOS, ChunkStore
from .curated_card import dataset_card
from .near_duplicates import VideoPrint, duplicate_report, fingerprints, leak_report
from .row_statistics import RowStatistics, drop_counts, plot_statistics
from .video_records import VideoRecord
from .write_step import FORMATS, Row, read_rows

STEPS = ("phrases", "decode", "detect", "track", "drift", "agree")
_SHEET_ROWS = 16


class MergeChunks(PipelineStep):
    """Join the chunks in order of the input, and report on them.

    Args:
        store: Output.
        form: Format of the records.
        settings: Settings of the run, for the report.
        held_out: Validation records to compare with: JSONL file, folder with one, or Hub id.
    """

    type, name = "Curation", "merge"

    def __init__(self, store: ChunkStore, *, form: str, settings: dict[str, Any], held_out: str | None = None) -> None:
        super().__init__()
        self.store, self.form, self.settings, self.held_out = store, form, settings, held_out

    def run(self, data: Iterable[VideoRecord] | None, rank: int = 0, world_size: int = 1) -> Iterator[VideoRecord]:
        """Write the report; no video is yielded."""
        self.store.sweep()
        if self.form == "jsonl":
            self._join(FORMATS[self.form], FORMATS[self.form])
        self._join(EXCLUSIONS, f"{REPORT}/{EXCLUSIONS}")
        statistics, sample = RowStatistics(), Sample(_SHEET_ROWS)

        def counted() -> Iterator[Row]:
            for row in read_rows(self.store, self.form):
                statistics.add(row)
                sample.add(row)
                yield row

        prints = list(fingerprints(counted(), self._root))
        self._write_report(self._summary(statistics.to_dict(), prints), sample.rows)
        yield from ()

    @property
    def _root(self) -> Path | None:
        """Return the folder that paths in records are relative to; None if records hold their frames."""
        return self.store.local if self.form == "jsonl" else None

    def _join(self, name: str, whole: str) -> None:
        """Write the lines of a file of every chunk into one file."""
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
        with self.store.file(f"{REPORT}/summary.json") as path:  # last: it marks the report as complete
            path.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", "utf-8")


class Sample:
    """Draw a uniform sample from a stream of records (reservoir sampling), reproducibly and in order.

    Args:
        size: Maximum number of records.
    """

    def __init__(self, size: int) -> None:
        self._size, self._count = size, 0
        self._kept: list[tuple[int, Row]] = []
        self._random = random.Random(0)

    def add(self, row: Row) -> None:
        """Add a record to the stream."""
        place = self._count if self._count < self._size else self._random.randint(0, self._count)
        if place < self._size:
            self._kept[place : place + 1] = [(self._count, row)]
        self._count += 1

    @property
    def rows(self) -> list[Row]:
        """Return the sample."""
        return [row for _, row in sorted(self._kept, key=lambda kept: kept[0])]


def held_out_prints(source: str) -> list[VideoPrint]:
    """Return the fingerprint of each video of other records.

    Args:
        source: JSONL file, folder with one, or Hub id, whose split validation is read.

    Raises:
        DatasetError: it cannot be read.
    """
    prints: list[VideoPrint] = []
    for root, rows in groupby(rows_of(source, "validation"), key=lambda found: found[1]):
        prints += fingerprints((row for row, _ in rows), root)
    return prints


def step_counts(drops: dict[str, dict[str, int]], num_rows: int) -> list[dict[str, Any]]:
    """Return how many phrases entered each step, were dropped by each reason, and left it.

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


def row_sheet(rows: Sequence[Mapping[str, Any]], root: str | Path, path: str | Path, *, of: int) -> None:
    """Draw a contact sheet of records, as training reads them; the file is complete or absent.

    Args:
        rows: Records with the fields of ElysiumTrack-1M.
        root: Folder that their paths are relative to.
        path: PNG file to write.
        of: Number of all records, for the heading.

    Raises:
        ValueError: there is no record.
        DatasetError: a record or one of its frames cannot be read.
        OutputError: the sheet cannot be written.
    """
    if not rows:
        raise ValueError("a contact sheet must have a row or more, got 0; keep some")
    strips = []
    for color, record in enumerate(rows, start=1):
        row = sample_of_record(dict(record), "curated", Path(root))
        places, images = look_at(row)
        strips.append(make_strip(row, places, images, color=color))
    sheet = draw_strips(strips, f"{len(rows)} of {of} rows")
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)
