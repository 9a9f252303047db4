"""ElysiumTrack-1M rows in files: JSONL beside a folder of frames, parquet with the frames in it, WebDataset with the
frames as a video.

A row is ``source, id, vid, metadata, frames, object_class, box, object_description, frame_size``; see
`readers/elysium_track.py`, which reads it.
"""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import av
from datatrove.io import DataFolder

from elysium.processing.data_files import parse_json_object

from .chunk_store import CHUNKS, ChunkStore

Row = dict[str, Any]
# What the metadata of a row holds; parquet wants them named.
FIGURES = (
    "detection_score",
    "track_score",
    "forward_backward_iou",
    "tracker_iou",
    "drift",
    "iou_middle",
    "iou_last",
)
NAMES = {"jsonl": "rows.jsonl", "parquet": "rows.parquet", "webdataset": "rows.tar"}
_PARQUET_ROWS = 16  # of a group; each has all frames of its video


class RowWriter(Protocol):
    """Rows of one chunk in files."""

    def add(self, rows: Sequence[Row], pictures: Sequence[bytes], key: str, fps: float) -> None:
        """The rows of one video, without `frames`, and its frames as JPEG.

        Args:
            rows: at least one.
            pictures: all frames of the video.
            key: name of the video that is unique in its chunk and can be a file's; it has no dot.
            fps: of the frames.
        """


def row_writer(form: str, folder: Path, chunk: int) -> AbstractContextManager[RowWriter]:
    """A writer of rows into the folder of a chunk, by the name of the format."""
    if form == "jsonl":
        return _jsonl_writer(folder, f"{CHUNKS}/{chunk:06d}")
    return _parquet_writer(folder) if form == "parquet" else _tar_writer(folder)


class JsonlWriter:
    """A line for each row, and each video's frames once.

    Args:
        lines: open file.
        folder: of the chunk.
        place: of that folder in the output, which paths in rows are relative to.
    """

    def __init__(self, lines: Any, folder: Path, place: str) -> None:
        self._lines, self._folder, self._place = lines, folder, place

    def add(self, rows: Sequence[Row], pictures: Sequence[bytes], key: str, fps: float) -> None:
        """As `RowWriter` has it."""
        names = [f"frames/{key}/{number:04d}.jpg" for number in range(len(pictures))]
        (self._folder / "frames" / key).mkdir(parents=True)
        for name, picture in zip(names, pictures, strict=True):
            (self._folder / name).write_bytes(picture)
        for row in rows:
            whole = row | {"frames": [f"{self._place}/{name}" for name in names]}
            self._lines.write(json.dumps(whole, ensure_ascii=False) + "\n")


@contextmanager
def _jsonl_writer(folder: Path, place: str) -> Iterator[JsonlWriter]:
    with (folder / NAMES["jsonl"]).open("w", encoding="utf-8") as lines:
        yield JsonlWriter(lines, folder, place)


class ParquetWriter:
    """A row for each pair, with its frames in it: what `datasets` streams and the Hub shows."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._waiting: list[Row] = []

    def add(self, rows: Sequence[Row], pictures: Sequence[bytes], key: str, fps: float) -> None:
        """As `RowWriter` has it."""
        frames = [{"bytes": picture, "path": f"{number:04d}.jpg"} for number, picture in enumerate(pictures)]
        self._waiting += [row | {"frames": frames} for row in rows]
        if len(self._waiting) >= _PARQUET_ROWS:
            self.flush()

    def flush(self) -> None:
        """Writes the rows that wait as a group."""
        import pyarrow

        if self._waiting:
            self._writer.write_table(pyarrow.Table.from_pylist(self._waiting, schema=self._writer.schema))
            self._waiting = []


@contextmanager
def _parquet_writer(folder: Path) -> Iterator[ParquetWriter]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetWriter(folder / NAMES["parquet"], row_features().arrow_schema) as file:
        writer = ParquetWriter(file)
        yield writer
        writer.flush()


def row_features() -> Any:
    """The `datasets.Features` of a row."""
    from datasets import Features, Image, List, Value

    text, number = Value("string"), Value("float64")
    metadata: dict[str, Any] = {"caption": text, "name": text, "fps": number, "frame_interval": Value("int64")}
    return Features(
        {
            "source": text,
            "id": text,
            "vid": text,
            "metadata": metadata | dict.fromkeys(FIGURES, number) | {"of_source": text},
            "frames": List(Image()),
            "object_class": text,
            "box": List(List(number)),
            "object_description": text,
            "frame_size": List(Value("int64")),
        }
    )


class TarWriter:
    """A sample for each video: `KEY.json` with its rows, `KEY.mp4` with its frames, which are the JPEG pictures as
    they are."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def add(self, rows: Sequence[Row], pictures: Sequence[bytes], key: str, fps: float) -> None:
        """As `RowWriter` has it."""
        text = json.dumps({"rows": list(rows)}, ensure_ascii=False)
        width, height = rows[0]["frame_size"]
        self._member(f"{key}.json", text.encode("utf-8"))
        self._member(f"{key}.mp4", pack_pictures(pictures, fps, width, height))

    def _member(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)  # its time and owner are zero, so that the same rows make the same file
        member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content))


@contextmanager
def _tar_writer(folder: Path) -> Iterator[TarWriter]:
    with tarfile.open(folder / NAMES["webdataset"], "w") as tar:
        yield TarWriter(tar)


def pack_pictures(pictures: Sequence[bytes], fps: float, width: int, height: int) -> bytes:
    """JPEG pictures as the frames of an mp4, byte for byte (Motion JPEG)."""
    content = io.BytesIO()
    with av.open(content, "w", format="mp4", options={"fflags": "bitexact"}) as container:
        rate = Fraction(fps).limit_denominator(1001)
        stream = container.add_stream("mjpeg", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        for number, picture in enumerate(pictures):
            packet = av.Packet(picture)
            packet.stream, packet.time_base, packet.is_keyframe = stream, 1 / rate, True
            packet.pts = packet.dts = number
            container.mux(packet)
    return content.getvalue()


def read_rows(store: ChunkStore, form: str) -> Iterator[Row]:
    """The rows of all chunks in order. Paths of JSONL rows are relative to the output; other rows bring their frames,
    as `frames` or as `video`."""
    if form == "jsonl":
        yield from store.lines(NAMES[form])
        return
    read = partial(_parquet_rows if form == "parquet" else _tar_rows, store.folder)
    for name in store.files(NAMES[form]):
        yield from read(name)


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
