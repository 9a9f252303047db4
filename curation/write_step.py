"""Step 8: write records and frames of the remaining phrases, and a line for everything that was dropped.

A record has the fields of ElysiumTrack-1M (``source, id, vid, metadata, frames, object_class, box, object_description,
frame_size``; read by `readers/elysium_track.py`) in one of three formats: JSONL beside a folder of frames, Parquet
that holds the frames, or WebDataset with the frames as a video. All are written as they come, since the frames of a
chunk do not fit into memory; `Dataset.to_parquet` would need them all, and nothing kept writes WebDataset with an mp4.
"""

import io
import json
import math
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
from datatrove.io import DataFolder
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray
from PIL import Image

from elysium.processing.data_files import parse_json_object

from .chunk_store import CHUNKS, EXCLUSIONS, VIDEOS, ChunkStore
from .curation_step import CurationError, StepSettings, number
from .video_records import Candidate, VideoRecord

SOURCE = "elysium-curation"
FORMATS = {"jsonl": "rows.jsonl", "parquet": "rows.parquet", "webdataset": "rows.tar"}
# Measures in the metadata of a record; Parquet needs a fixed list.
MEASURES = (
    "detection_score",
    "track_score",
    "forward_backward_iou",
    "tracker_iou",
    "drift",
    "iou_middle",
    "iou_last",
)
_PARQUET_ROWS = 16  # per group; each holds all frames of its video

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class WriteSettings(StepSettings):
    """Hold the settings of step 8.

    Args:
        format: jsonl (records and a folder of frames), parquet or webdataset (with the frames inside).
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
            writer = stack.enter_context(closing(_WRITERS[self.settings.format](folder, f"{CHUNKS}/{chunk:06d}")))
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
                        writer.add(rows, images, key, record.clip.fps / self.frame_interval)
                    line = {"video_id": record.video.video_id, "rows": len(rows), "dropped": len(record.drops)}
                    videos.write(json.dumps(line, ensure_ascii=False) + "\n")
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


class _Writer(Protocol):
    """Write the records of one chunk into a folder, whose path in the output is ``place``."""

    def __init__(self, folder: Path, place: str) -> None: ...

    def add(self, rows: Sequence[Row], images: Sequence[bytes], key: str, fps: float) -> None:
        """Write the records of one video, without `frames`, and its frames as JPEG; ``key`` is a unique file name."""

    def close(self) -> None:
        """Finish the files."""


class _JsonlWriter:
    """Write a line for each record, and the frames of each video once."""

    def __init__(self, folder: Path, place: str) -> None:
        self._folder, self._place = folder, place
        self._lines = (folder / FORMATS["jsonl"]).open("w", encoding="utf-8")

    def add(self, rows: Sequence[Row], images: Sequence[bytes], key: str, fps: float) -> None:
        names = [f"frames/{key}/{index:04d}.jpg" for index in range(len(images))]
        (self._folder / "frames" / key).mkdir(parents=True)
        for name, image in zip(names, images, strict=True):
            (self._folder / name).write_bytes(image)
        for row in rows:
            whole = row | {"frames": [f"{self._place}/{name}" for name in names]}
            self._lines.write(json.dumps(whole, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._lines.close()


class _ParquetWriter:
    """Write a row for each record with its frames in it, as `datasets` streams and the Hub shows it."""

    def __init__(self, folder: Path, place: str) -> None:
        import pyarrow.parquet

        self._file = pyarrow.parquet.ParquetWriter(folder / FORMATS["parquet"], row_features().arrow_schema)
        self._waiting: list[Row] = []

    def add(self, rows: Sequence[Row], images: Sequence[bytes], key: str, fps: float) -> None:
        frames = [{"bytes": image, "path": f"{index:04d}.jpg"} for index, image in enumerate(images)]
        self._waiting += [row | {"frames": frames} for row in rows]
        if len(self._waiting) >= _PARQUET_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow

        if self._waiting:
            self._file.write_table(pyarrow.Table.from_pylist(self._waiting, schema=self._file.schema))
            self._waiting = []

    def close(self) -> None:
        self._flush()
        self._file.close()


class _TarWriter:
    """Write a sample for each video: `KEY.json` with its records, `KEY.mp4` with its JPEG frames, byte for byte."""

    def __init__(self, folder: Path, place: str) -> None:
        self._tar = tarfile.open(folder / FORMATS["webdataset"], "w")  # noqa: SIM115

    def add(self, rows: Sequence[Row], images: Sequence[bytes], key: str, fps: float) -> None:
        text = json.dumps({"rows": list(rows)}, ensure_ascii=False)
        width, height = rows[0]["frame_size"]
        self._add(f"{key}.json", text.encode("utf-8"))
        self._add(f"{key}.mp4", _motion_jpeg(images, fps, width, height))

    def _add(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)  # time and owner stay zero: the same records make the same file
        member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content))

    def close(self) -> None:
        self._tar.close()


_WRITERS: dict[str, type[_Writer]] = {"jsonl": _JsonlWriter, "parquet": _ParquetWriter, "webdataset": _TarWriter}


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


def _motion_jpeg(images: Sequence[bytes], fps: float, width: int, height: int) -> bytes:
    content = io.BytesIO()
    with av.open(content, "w", format="mp4", options={"fflags": "bitexact"}) as container:
        rate = Fraction(fps).limit_denominator(1001)
        stream = container.add_stream("mjpeg", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        for index, image in enumerate(images):
            packet = av.Packet(image)
            packet.stream, packet.time_base, packet.is_keyframe = stream, 1 / rate, True
            packet.pts = packet.dts = index
            container.mux(packet)
    return content.getvalue()


def read_rows(store: ChunkStore, form: str) -> Iterator[Row]:
    """Yield the records of all chunks in order.

    Paths of JSONL are relative to the output; other formats hold their frames, as `frames` or as `video`.
    """
    if form == "jsonl":
        yield from store.lines(FORMATS[form])
        return
    read = _parquet_rows if form == "parquet" else _tar_rows
    for name in store.files(FORMATS[form]):
        yield from read(store.folder, name)


def _parquet_rows(folder: DataFolder, name: str) -> Iterator[Row]:
    import pyarrow.parquet

    with folder.open(name, "rb") as file:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=_PARQUET_ROWS):
            yield from batch.to_pylist()


def _tar_rows(folder: DataFolder, name: str) -> Iterator[Row]:
    with folder.open(name, "rb") as file, tarfile.open(fileobj=file, mode="r|") as tar:
        rows: list[Row] = []
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            if member.name.endswith(".json"):
                rows = parse_json_object(content.read(), f"{member.name} of {name}")["rows"]
            else:
                video = {"bytes": content.read(), "path": member.name}
                yield from (row | {"video": video} for row in rows)
