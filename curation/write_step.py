"""Step 8: rows and frames of what is left, a line for everything that was dropped."""

import io
import json
import math
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray
from PIL import Image

from .chunk_store import EXCLUSIONS, ChunkStore
from .row_files import FIGURES, Row, RowWriter, row_writer
from .video_records import Candidate, VideoRecord

SOURCE = "elysium-curation"
VIDEOS = "videos.jsonl"


class WriteChunks(PipelineStep):
    """Writes each chunk when its last video has come.

    Args:
        store: the output.
        form: jsonl, parquet or webdataset.
        frame_interval: of the decoded frames, for the rows.
        jpeg_quality: of the frames.
    """

    type, name = "Curation", "write"

    def __init__(self, store: ChunkStore, *, form: str, frame_interval: int, jpeg_quality: int) -> None:
        super().__init__()
        self.store, self.form = store, form
        self.frame_interval, self.jpeg_quality = frame_interval, jpeg_quality

    def run(self, data: Iterable[VideoRecord] | None, rank: int = 0, world_size: int = 1) -> Iterator[VideoRecord]:
        """Every video in order, without its frames."""
        for chunk, records in groupby(data or (), key=lambda record: record.video.chunk):
            with self.store.writing(chunk) as folder:
                yield from self._write_chunk(chunk, records, folder)
            self.stat_update("chunks")

    def _write_chunk(self, chunk: int, records: Iterable[VideoRecord], folder: Path) -> Iterator[VideoRecord]:
        keys: set[str] = set()
        with (
            row_writer(self.form, folder, chunk) as writer,
            (folder / EXCLUSIONS).open("w", encoding="utf-8") as exclusions,
            (folder / VIDEOS).open("w", encoding="utf-8") as videos,
        ):
            for record in records:
                with self.track_time():
                    for drop in record.drops:
                        exclusions.write(json.dumps(drop.to_dict(), ensure_ascii=False) + "\n")
                    rows = [self._row(record, candidate) for candidate in record.candidates]
                    if rows:
                        self._add(writer, record, rows, keys)
                    line = {"video_id": record.video.video_id, "rows": len(rows), "dropped": len(record.drops)}
                    videos.write(json.dumps(line, ensure_ascii=False) + "\n")
                self.stat_update("rows", value=len(rows))
                yield VideoRecord(video=record.video, candidates=record.candidates, drops=record.drops)

    def _add(self, writer: RowWriter, record: VideoRecord, rows: list[Row], keys: set[str]) -> None:
        assert record.clip is not None
        key = _key(record.video.video_id, keys)
        pictures = [self._jpeg(frame) for frame in record.clip.frames]
        writer.add(rows, pictures, key, record.clip.fps / self.frame_interval)

    def _row(self, record: VideoRecord, candidate: Candidate) -> Row:
        """A row without its frames."""
        assert record.clip is not None and candidate.trajectory is not None
        video, phrase, measures = record.video, candidate.phrase, candidate.measures
        figures = {name: round(measures[name], 4) if name in measures else None for name in FIGURES}
        return {
            "source": SOURCE,
            "id": f"{video.video_id}_{phrase.span[0]}",
            "vid": video.video_id,
            "metadata": {
                "caption": video.caption,
                "name": phrase.text,
                "fps": round(record.clip.fps, 4),
                "frame_interval": self.frame_interval,
                **figures,
                "of_source": json.dumps(dict(video.metadata), ensure_ascii=False, sort_keys=True),
            },
            "object_class": phrase.head,
            "box": [_row_box(box) for box in candidate.trajectory.boxes_xyxy_norm],
            "object_description": phrase.description,
            "frame_size": [record.clip.width, record.clip.height],
        }

    def _jpeg(self, frame: NDArray[np.uint8]) -> bytes:
        content = io.BytesIO()
        Image.fromarray(frame).save(content, "JPEG", quality=self.jpeg_quality)
        return content.getvalue()


def _row_box(box: NDArray[np.float64]) -> list[float] | None:
    """A box as a row has it, cut to the picture; None where there is none."""
    edges = [round(min(max(float(edge), 0.0), 1.0), 5) if math.isfinite(edge) else math.nan for edge in box]
    return edges if edges[0] < edges[2] and edges[1] < edges[3] else None


def _key(video_id: str, taken: set[str]) -> str:
    """A file name for a video that no other of its chunk has.

    >>> taken = {"a_b"}
    >>> _key("a/b", taken), _key("café 1.mp4", taken)
    ('a_b-2', 'café_1_mp4')
    """
    plain = re.sub(r"[^\w-]", "_", video_id)[:100] or "video"
    key, number = plain, 1
    while key.lower() in taken:
        number += 1
        key = f"{plain}-{number}"
    taken.add(key.lower())
    return key
