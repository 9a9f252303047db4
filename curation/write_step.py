"""Step 8: write records and frames of the remaining phrases, and a line for everything that was dropped.

A record has the fields of ElysiumTrack-1M (``source, id, vid, metadata, frames, object_class, box, object_description,
frame_size``; read by `readers/elysium_track.py`) in one of two formats: JSONL beside a folder of frames, or Parquet
that holds the frames. Both are written as they come, since the frames of a chunk do not fit into memory;
`Dataset.to_parquet` would need them all.
"""

import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray
from PIL import Image

from .chunk_store import CHUNKS, EXCLUSIONS, VIDEOS, ChunkStore
from .curation_step import CurationError, StepSettings, number
from .near_duplicates import VideoPrint
from .video_records import Candidate, VideoRecord

SOURCE = "elysium-curation"
FORMATS = {"jsonl": "rows.jsonl", "parquet": "rows.parquet"}
# Measures in the metadata of a record; Parquet needs a fixed list.
MEASURES = ("detection_score", "track_score", "drift", "iou_middle", "iou_last")
_PARQUET_ROWS = 16  # per group; each holds all frames of its video

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class WriteSettings(StepSettings):
    """Hold the settings of step 8.

    Args:
        format: jsonl (records and a folder of frames) or parquet (with the frames inside).
        jpeg_quality: Quality of the frames, 1 to 95. Higher values need more space.
    """

    format: str = "jsonl"
    jpeg_quality: int = number(92, 1, 95)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.format not in FORMATS:
            raise CurationError(f"format must be one of {', '.join(FORMATS)}, got {self.format!r}")


class WriteChunks(PipelineStep):
    """Write each chunk as a whole.

    Args:
        store: Output.
        settings: Format and quality.
        frame_interval: Distance of the decoded frames, for the metadata.
    """

    type, name = "Curation", "write"

    def __init__(self, store: ChunkStore, settings: WriteSettings, *, frame_interval: int) -> None:
        super().__init__()
        self.store, self.settings, self.frame_interval = store, settings, frame_interval

    def run(self, data: Iterable[VideoRecord] | None, rank: int = 0, world_size: int = 1) -> Iterator[VideoRecord]:
        """Yield every video in order, without its frames."""
        for chunk, records in groupby(data or (), key=lambda record: record.video.chunk):
            with self.store.writing(chunk) as folder:
                yield from self._write_chunk(chunk, records, folder)
            self.stat_update("chunks")

    def _write_chunk(self, chunk: int, records: Iterable[VideoRecord], folder: Path) -> Iterator[VideoRecord]:
        keys: set[str] = set()
        with ExitStack() as stack:
            kind = _JsonlWriter if self.settings.format == "jsonl" else _ParquetWriter
            writer = stack.enter_context(closing(kind(folder, f"{CHUNKS}/{chunk:06d}")))
            exclusions, videos = (
                stack.enter_context((folder / name).open("w", encoding="utf-8")) for name in (EXCLUSIONS, VIDEOS)
            )
            for record in records:
                with self.track_time():
                    for drop in record.drops:
                        exclusions.write(json.dumps(drop.to_dict(), ensure_ascii=False) + "\n")
                    rows = [self._row(record, candidate) for candidate in record.candidates]
                    if record.clip is not None and rows:
                        images = [_jpeg(frame, self.settings.jpeg_quality) for frame in record.clip.frames]
                        key = _key(record.video.video_id, keys)
                        writer.add(rows, images, key)
                    videos.write(json.dumps(_video_line(record, rows), ensure_ascii=False) + "\n")
                self.stat_update("rows", value=len(rows))
                yield VideoRecord(video=record.video, candidates=record.candidates, drops=record.drops)

    def _row(self, record: VideoRecord, candidate: Candidate) -> Row:
        """Return a record without its frames."""
        assert record.clip is not None
        video, phrase, measures = record.video, candidate.phrase, candidate.measures
        return {
            "source": SOURCE,
            "id": f"{video.video_id}_{phrase.span[0]}",
            "vid": video.video_id,
            "metadata": {
                "caption": video.caption,
                "name": phrase.text,
                "fps": round(record.clip.fps, 4),
                "frame_interval": self.frame_interval,
                **{name: round(measures[name], 4) if name in measures else None for name in MEASURES},
                "of_source": json.dumps(dict(video.metadata), ensure_ascii=False, sort_keys=True),
            },
            "object_class": phrase.head,
            "box": [_row_box(box) for box in candidate.trajectory.boxes_xyxy_norm],
            "object_description": phrase.description,
            "frame_size": [record.clip.width, record.clip.height],
        }


def _video_line(record: VideoRecord, rows: Sequence[Row]) -> dict[str, Any]:
    """Return what the report counts of a video, so that it need not read the records with their frames again."""
    boxes = [box for row in rows for box in row["box"]]
    fingerprint = None
    if record.clip is not None and rows:
        fingerprint = VideoPrint.of_frames(record.video.video_id, record.clip.frames).hex()
    return {
        "video_id": record.video.video_id,
        "rows": len(rows),
        "dropped": len(record.drops),
        "classes": [row["object_class"] for row in rows],
        "boxed": sum(box is not None for box in boxes),
        "absent": sum(box is None for box in boxes),
        "fingerprint": fingerprint,
    }


def _jpeg(frame: NDArray[np.uint8], quality: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(frame).save(content, "JPEG", quality=quality)
    return content.getvalue()


def _row_box(box: NDArray[np.float64]) -> list[float] | None:
    """Return a box as written, clipped to the image; None if there is none."""
    edges = [round(min(max(float(edge), 0.0), 1.0), 5) if math.isfinite(edge) else math.nan for edge in box]
    return edges if edges[0] < edges[2] and edges[1] < edges[3] else None


def _key(video_id: str, taken: set[str]) -> str:
    """Return a file name for a video, unique in its chunk.

    >>> taken = {"a_b"}
    >>> _key("a/b", taken), _key("café 1.mp4", taken)
    ('a_b-2', 'café_1_mp4')
    """
    plain = re.sub(r"[^\w-]", "_", video_id)[:100] or "video"
    key, count = plain, 1
    while key.lower() in taken:
        count += 1
        key = f"{plain}-{count}"
    taken.add(key.lower())
    return key


class _JsonlWriter:
    """Write a line for each record of a chunk, and the frames of each video once, by their paths in the output.

    Args:
        folder: Folder of the chunk.
        place: Its path in the output.
    """

    def __init__(self, folder: Path, place: str) -> None:
        self._folder, self._place = folder, place
        self._lines = (folder / FORMATS["jsonl"]).open("w", encoding="utf-8")

    def add(self, rows: Sequence[Row], images: Sequence[bytes], key: str) -> None:
        """Write the records of a video, without `frames`, and its frames as JPEG; ``key`` is a unique file name."""
        names = [f"frames/{key}/{index:04d}.jpg" for index in range(len(images))]
        (self._folder / "frames" / key).mkdir(parents=True)
        for name, image in zip(names, images, strict=True):
            (self._folder / name).write_bytes(image)
        for row in rows:
            whole = row | {"frames": [f"{self._place}/{name}" for name in names]}
            self._lines.write(json.dumps(whole, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Finish the file of records."""
        self._lines.close()


class _ParquetWriter:
    """Write a row for each record with its frames in it, as `datasets` streams and the Hub shows it."""

    def __init__(self, folder: Path, place: str) -> None:
        self._file = pyarrow.parquet.ParquetWriter(folder / FORMATS["parquet"], row_features().arrow_schema)
        self._waiting: list[Row] = []

    def add(self, rows: Sequence[Row], images: Sequence[bytes], key: str) -> None:
        """Write as `_JsonlWriter.add` does, some rows at a time."""
        frames = [{"bytes": image, "path": f"{index:04d}.jpg"} for index, image in enumerate(images)]
        self._waiting += [row | {"frames": frames} for row in rows]
        if len(self._waiting) >= _PARQUET_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._file.write_table(pyarrow.Table.from_pylist(self._waiting, schema=self._file.schema))
            self._waiting = []

    def close(self) -> None:
        """Write the rows that wait, and the end of the file."""
        self._flush()
        self._file.close()


def row_features() -> Any:
    """Return the `datasets.Features` of a record."""
    from datasets import Features, Image, List, Value

    text, value = Value("string"), Value("float64")
    metadata: dict[str, Any] = {"caption": text, "name": text, "fps": value, "frame_interval": Value("int64")}
    return Features(
        {
            "source": text,
            "id": text,
            "vid": text,
            "metadata": metadata | dict.fromkeys(MEASURES, value) | {"of_source": text},
            "frames": List(Image()),
            "object_class": text,
            "box": List(List(value)),
            "object_description": text,
            "frame_size": List(Value("int64")),
        }
    )
