"""Step 1: read captioned videos from a table beside a folder of videos, WebVid's layout, WebDataset shards or the Hub.

The input is cut into chunks: a number of records of a table, or a shard of a WebDataset or of the Hub. A chunk has the
same videos in the same order for every reader, so its output depends on nothing else.

Tables are read by `processing/data_files.py` and shards here, because `datasets.load_dataset` names neither file nor
line of a damaged record, and its "webdataset" refuses shards whose samples do not all have the same members.
"""

import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from datatrove.pipeline.base import PipelineStep

from elysium.processing.data_files import DatasetError, parquet_batches, parse_json_object, read_csv, read_json_lines
from elysium.readers.annotation_files import VIDEO_SUFFIXES
from elysium.readers.elysium_track import streamed_rows

from .chunk_store import ChunkStore
from .curation_step import CurationError, StepSettings, number
from .video_records import CaptionedVideo, VideoRecord

STEP = "read"
TABLES = (".csv", ".jsonl", ".parquet")
# The first of these that a record has; WebVid's are videoid, name and page_dir.
ID_COLUMNS = ("videoid", "video_id", "id", "vid", "__key__")
CAPTION_COLUMNS = ("caption", "text", "txt", "title", "name")
VIDEO_COLUMNS = ("video", "path", "file_name", "file", *(suffix[1:] for suffix in VIDEO_SUFFIXES))
WEBVID_FOLDER = "page_dir"
_PARQUET_BATCH = 256
_MEMBER_BYTES = 1 << 32

Record = Mapping[str, Any]
Wanted = Callable[[int], bool]


@dataclass(frozen=True, kw_only=True)
class ReadSettings(StepSettings):
    """Hold the settings of step 1.

    Args:
        chunk_videos: Number of records of a table per chunk. A chunk is processed and written as a whole; a killed
            task loses at most one.
    """

    chunk_videos: int = number(100, 1)


class ReadVideos(PipelineStep):
    """Read the chunks rank, rank + world_size, … that are not yet written; drop repeated ids within a chunk.

    Args:
        source: Input.
        store: Output.
    """

    type, name = "Curation", STEP

    def __init__(self, source: "VideoSource", store: ChunkStore) -> None:
        super().__init__()
        self.source, self.store = source, store

    def run(self, data: Iterable[VideoRecord] | None, rank: int = 0, world_size: int = 1) -> Iterator[VideoRecord]:
        """Yield the videos of a task."""
        done = self.store.done()
        chunk, ids = -1, set[str]()
        for video in self.source.read(lambda number: number % world_size == rank and number not in done):
            if video.chunk != chunk:
                chunk, ids = video.chunk, set()
            record = VideoRecord(video=video)
            yield record if video.video_id not in ids else record.drop_video(STEP, "duplicate_id")
            ids.add(video.video_id)
            self.stat_update("videos")


class VideoSource(Protocol):
    """Define an input: captioned videos in chunks."""

    def read(self, wanted: Wanted) -> Iterator[CaptionedVideo]:
        """Yield the videos of the chunks whose number is wanted, in order."""


@dataclass(frozen=True)
class TableSource:
    """Read a CSV, JSONL or Parquet file with a record for each video.

    Args:
        table: File.
        videos: Folder that paths are relative to; WebVid's videos may be in its ``videos/PAGE_DIR/ID.mp4``.
        chunk_videos: Number of records per chunk.
    """

    table: Path
    videos: Path
    chunk_videos: int

    def read(self, wanted: Wanted) -> Iterator[CaptionedVideo]:
        """Yield the videos of the wanted chunks.

        Raises:
            DatasetError: the table cannot be read, or has no column of captions or of videos.
        """
        for index, record in enumerate(self._records()):
            if index == 0:
                _check_columns(record, self.table)
            chunk = index // self.chunk_videos
            if wanted(chunk):
                video = _first(record, VIDEO_COLUMNS)
                video = video.get("bytes") or video.get("path") if isinstance(video, Mapping) else video
                named = "" if isinstance(video, bytes) else Path(_text(video)).stem
                video_id = _text(_first(record, ID_COLUMNS)) or named or f"row-{index}"
                yield _captioned(record, video_id, video or self._webvid_path(record, video_id), chunk, self.videos)

    def _records(self) -> Iterator[Record]:
        """Yield the records of the table; none is kept in memory."""
        if self.table.suffix == ".parquet":
            for batch in parquet_batches(self.table, rows=_PARQUET_BATCH):
                yield from batch
            return
        rows = read_csv(self.table).rows() if self.table.suffix == ".csv" else read_json_lines(self.table)
        yield from (record for _, record in rows)

    def _webvid_path(self, record: Record, video_id: str) -> Path:
        """Return the path, relative to the videos, of one that the record does not name; it may not exist."""
        folder, name = _text(record.get(WEBVID_FOLDER)), f"{video_id}.mp4"
        places = [Path("videos", folder, name), Path(folder, name), Path(name)]
        return next((place for place in places if os.path.isfile(self.videos / place)), places[0])


@dataclass(frozen=True)
class ShardSource:
    """Read WebDataset shards.

    The members of a sample share the name before the first dot: a video, and a caption in ``.txt`` or a field of
    ``.json``.

    Args:
        shards: Tar files, one chunk each.
    """

    shards: Sequence[Path]

    def read(self, wanted: Wanted) -> Iterator[CaptionedVideo]:
        """Yield the videos of the wanted shards.

        Raises:
            CurationError: a shard is not a tar file.
        """
        for chunk, shard in enumerate(self.shards):
            if wanted(chunk):
                for key, sample in _tar_samples(shard):
                    yield _sample_video(sample, key, chunk)


@dataclass(frozen=True)
class HubSource:
    """Stream a dataset from the Hub; its shards are the chunks.

    Args:
        name: owner/name.
        split: Split of the dataset.
    """

    name: str
    split: str

    def read(self, wanted: Wanted) -> Iterator[CaptionedVideo]:
        """Yield the videos of the wanted shards.

        Raises:
            CurationError: the dataset has no column of captions or of videos.
        """
        records = streamed_rows(self.name, self.split)
        for chunk in range(records.num_shards):
            if not wanted(chunk):
                continue
            for place, record in enumerate(records.shard(num_shards=records.num_shards, index=chunk)):
                if place == 0 and not isinstance(record.get("json"), dict):
                    _check_columns(record, self.name)
                yield _sample_video(record, f"{chunk}-{place}", chunk)


def open_videos(
    place: str, *, chunk_videos: int = 100, videos: Path | None = None, split: str = "train"
) -> VideoSource:
    """Return the source that an argument names.

    Args:
        place: Table of captions, folder with one (or with WebDataset shards), shard, or Hub id owner/name.
        chunk_videos: Number of records of a table per chunk.
        videos: Folder of the videos; by default the table's.
        split: Split of a dataset on the Hub.

    Raises:
        CurationError: there is no such input.
    """
    path = Path(place)
    if not os.path.exists(path):
        if re.fullmatch(r"[\w.-]+/[\w.-]+", place) and path.suffix not in (*TABLES, ".tar"):
            return HubSource(place, split)
        raise CurationError(
            f"the input must be a table of captions, a folder with one, WebDataset shards or a Hub id owner/name, "
            f"got {place}; check the path"
        )
    if os.path.isdir(path):
        shards = sorted(path.glob("*.tar"))
        if shards:
            return ShardSource(shards)
        tables = sorted(file for file in path.iterdir() if file.suffix in TABLES)
        if len(tables) != 1:
            names = ", ".join(file.name for file in tables) or "none"
            raise CurationError(
                f"a folder of videos must hold one table of captions ({', '.join(TABLES)}), got {names} in {path}; "
                "give the table's own path, and --videos for the folder"
            )
        path = tables[0]
    if path.suffix == ".tar":
        return ShardSource([path])
    if path.suffix not in TABLES:
        raise CurationError(f"a table of captions must end in {', '.join(TABLES)}, got {path}; convert it")
    return TableSource(path, videos or path.parent, chunk_videos)


def _tar_samples(shard: Path) -> Iterator[tuple[str, Record]]:
    """Yield the samples of a tar file: key, and members by the rest of their names."""
    key: str | None = None
    sample: dict[str, Any] = {}
    try:
        with tarfile.open(shard) as tar:
            for member in tar:
                if not member.isfile():
                    continue
                folder, _, name = member.name.rpartition("/")
                stem, _, field = name.partition(".")
                own_key = f"{folder}/{stem}".lstrip("./")
                if own_key != key:
                    if key is not None:
                        yield key, sample
                    key, sample = own_key, {}
                if member.size > _MEMBER_BYTES:
                    raise CurationError(
                        f"a member of a shard must be of at most {_MEMBER_BYTES >> 30} GiB, got {member.size} bytes "
                        f"of {member.name} in {shard}; cut the video"
                    )
                content = tar.extractfile(member)
                sample[field.lower()] = content.read() if content is not None else b""
    except CurationError:
        raise
    except (tarfile.TarError, OSError, EOFError, LookupError, OverflowError, ValueError, zlib.error) as error:
        # Damaged headers and streams raise more than tarfile's own errors.
        raise CurationError(f"a shard must be a tar file that can be read, got {shard} ({error})") from error
    if key is not None:
        yield key, sample


def _sample_video(sample: Record, key: str, chunk: int) -> CaptionedVideo:
    """Return the video of a sample of a shard or the Hub; fields of its JSON take precedence."""
    described = sample.get("json")
    if isinstance(described, bytes):
        try:
            described = parse_json_object(described, f"{key}.json")
        except DatasetError:
            described = {}  # its caption is then empty, and dropped as such
    record = {**sample, **(described if isinstance(described, Mapping) else {})}
    video = _first(sample, VIDEO_COLUMNS)
    video = video.get("bytes") or video.get("path") if isinstance(video, Mapping) else video
    return _captioned(record, _text(_first(record, ID_COLUMNS)) or key, video or f"{key}.mp4", chunk, Path())


def _captioned(record: Record, video_id: str, video: Any, chunk: int, root: Path) -> CaptionedVideo:
    """Return the video of a record: the path below ``root`` or the content, the caption and the other plain values."""
    taken = {*ID_COLUMNS, *CAPTION_COLUMNS, *VIDEO_COLUMNS, "json"}
    rest = {str(name): value for name, value in record.items() if name not in taken and value != ""}
    return CaptionedVideo(
        video_id=video_id,
        source=video if isinstance(video, bytes) else root / _text(video),
        caption=_text(_first(record, CAPTION_COLUMNS)),
        metadata={name: value for name, value in rest.items() if isinstance(value, str | int | float)},
        chunk=chunk,
    )


def _check_columns(record: Record, where: object) -> None:
    videos = (*VIDEO_COLUMNS, *ID_COLUMNS)
    for what, names in (("captions", CAPTION_COLUMNS), ("videos", videos)):
        if not any(name in record for name in names):
            raise CurationError(
                f"a table of videos must have a column of {what} ({', '.join(names)}), got "
                f"{', '.join(map(str, record))} in {where}; rename one"
            )


def _first(record: Record, names: Sequence[str]) -> Any:
    """Return the value of the first of these columns that the record has."""
    return next((record[name] for name in names if record.get(name) is not None), None)


def _text(value: Any) -> str:
    """Return a value of a table or a tar member as text; "" for None."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace").strip()
    return "" if value is None else str(value).strip()
