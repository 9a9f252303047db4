"""Captioned videos in: a table beside a folder of videos, WebVid's layout, WebDataset shards, a data set on the Hub.

The input is cut into chunks: so many rows of a table, or a shard of a WebDataset or of the Hub. A chunk holds the same
videos in the same order whoever reads it, so that what is made of it depends on nothing else.
"""

import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from elysium.processing.data_files import DatasetError, parquet_batches, parse_json_object, read_csv, read_json_lines
from elysium.readers.elysium_track import streamed_rows
from elysium.readers.media_files import VIDEO_SUFFIXES

from .curation_settings import CurationError
from .video_records import CaptionedVideo

TABLES = (".csv", ".jsonl", ".parquet")
# The first of these that a table has; WebVid's are videoid, name and page_dir.
ID_COLUMNS = ("videoid", "video_id", "id", "vid", "__key__")
CAPTION_COLUMNS = ("caption", "text", "txt", "title", "name")
VIDEO_COLUMNS = ("video", "path", "file_name", "file", *(suffix[1:] for suffix in VIDEO_SUFFIXES))
WEBVID_FOLDER = "page_dir"
_PARQUET_BATCH = 256
_MEMBER_BYTES = 1 << 32

Row = Mapping[str, Any]
Wanted = Callable[[int], bool]


class VideoSource(Protocol):
    """Captioned videos in chunks."""

    def read(self, wanted: Wanted) -> Iterator[CaptionedVideo]:
        """The videos of those chunks whose number is wanted, in order."""


@dataclass(frozen=True)
class TableSource:
    """A CSV, JSONL or parquet file with a row for each video.

    Args:
        table: the file.
        videos: folder that paths are relative to; WebVid's videos may stand in ``videos/PAGE_DIR/ID.mp4`` of it.
        chunk_videos: rows of a chunk.
    """

    table: Path
    videos: Path
    chunk_videos: int

    def read(self, wanted: Wanted) -> Iterator[CaptionedVideo]:
        """The videos of the wanted chunks.

        Raises:
            CurationError: the table cannot be read, or has no column of captions or of videos.
        """
        for number, row in enumerate(_table_rows(self.table)):
            if number == 0:
                _check_columns(row, self.table)
            chunk = number // self.chunk_videos
            if wanted(chunk):
                yield self._video(row, number, chunk)

    def _video(self, row: Row, number: int, chunk: int) -> CaptionedVideo:
        video = _first(row, VIDEO_COLUMNS)
        video_id = _text(_first(row, ID_COLUMNS)) or (Path(_text(video)).stem if video else f"row-{number}")
        return CaptionedVideo(
            video_id=video_id,
            source=self._place(row, video, video_id),
            caption=_text(_first(row, CAPTION_COLUMNS)),
            metadata=_rest(row),
            chunk=chunk,
        )

    def _place(self, row: Row, video: Any, video_id: str) -> Path | bytes:
        """The video's file, whether it is there or not; its content where the table holds that."""
        if isinstance(video, Mapping) and isinstance(video.get("bytes"), bytes):
            return bytes(video["bytes"])
        video = video.get("path") if isinstance(video, Mapping) else video
        if video:
            return self.videos / _text(video)
        name = f"{video_id}.mp4"
        folder = _text(row.get(WEBVID_FOLDER))
        places = [self.videos / "videos" / folder / name, self.videos / folder / name, self.videos / name]
        return next((place for place in places if os.path.isfile(place)), places[0])


@dataclass(frozen=True)
class ShardSource:
    """WebDataset: tar files in which the members of a sample share the name before the first dot: a video, and a
    caption in ``.txt`` or in a field of ``.json``.

    Args:
        shards: the files, one chunk each.
    """

    shards: Sequence[Path]

    def read(self, wanted: Wanted) -> Iterator[CaptionedVideo]:
        """The videos of the wanted shards.

        Raises:
            CurationError: a shard is no tar file.
        """
        for chunk, shard in enumerate(self.shards):
            if wanted(chunk):
                for key, sample in _tar_samples(shard):
                    yield _sample_video(sample, key, chunk)


@dataclass(frozen=True)
class HubSource:
    """A data set on the Hub, streamed; its shards are the chunks.

    Args:
        name: owner/name.
        split: of it.
    """

    name: str
    split: str

    def read(self, wanted: Wanted) -> Iterator[CaptionedVideo]:
        """The videos of the wanted shards.

        Raises:
            CurationError: the data set has no column of captions or of videos.
        """
        rows = streamed_rows(self.name, self.split)
        for chunk in range(rows.num_shards):
            if not wanted(chunk):
                continue
            for number, row in enumerate(rows.shard(num_shards=rows.num_shards, index=chunk)):
                if number == 0 and not isinstance(row.get("json"), dict):
                    _check_columns(row, self.name)
                yield _sample_video(row, f"{chunk}-{number}", chunk)


def open_videos(
    place: str, *, chunk_videos: int = 100, videos: Path | None = None, split: str = "train"
) -> VideoSource:
    """The source that an argument names.

    Args:
        place: a table of captions, a folder with one (or with WebDataset shards), a shard, or a Hub id owner/name.
        chunk_videos: rows of a table that make a chunk.
        videos: folder of the videos, where it is not the table's.
        split: of a data set on the Hub.

    Raises:
        CurationError: nothing like that is there.
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


def _table_rows(path: Path) -> Iterator[Row]:
    """The rows of a table, one after the other, none kept."""
    try:
        if path.suffix == ".csv":
            yield from (row for _, row in read_csv(path).rows())
        elif path.suffix == ".jsonl":
            yield from (row for _, row in read_json_lines(path))
        else:
            for batch in parquet_batches(path, rows=_PARQUET_BATCH):
                yield from batch
    except DatasetError as error:
        raise CurationError(str(error)) from error


def _tar_samples(shard: Path) -> Iterator[tuple[str, Row]]:
    """The samples of a tar file: the members that share a key, by what stands behind its first dot."""
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
    except (tarfile.TarError, OSError, EOFError, LookupError, OverflowError, ValueError, zlib.error) as error:
        # What is no error of tarfile comes out of damaged headers and streams.
        if isinstance(error, CurationError):
            raise
        raise CurationError(f"a shard must be a tar file that can be read, got {shard} ({error})") from error
    if key is not None:
        yield key, sample


def _sample_video(sample: Row, key: str, chunk: int) -> CaptionedVideo:
    """A sample of a shard, or a row from the Hub: its fields, with those of its JSON before them."""
    described = sample.get("json")
    if isinstance(described, bytes):
        try:
            described = parse_json_object(described, f"{key}.json")
        except DatasetError:
            described = {}  # its caption is then empty, and counted so
    row = {**sample, **(described if isinstance(described, Mapping) else {})}
    video = _first(sample, VIDEO_COLUMNS)
    if isinstance(video, Mapping):
        video = video.get("bytes") or video.get("path")
    return CaptionedVideo(
        video_id=_text(_first(row, ID_COLUMNS)) or key,
        source=bytes(video) if isinstance(video, bytes) else Path(_text(video) or f"{key}.mp4"),
        caption=_text(_first(row, CAPTION_COLUMNS)),
        metadata=_rest(row),
        chunk=chunk,
    )


def _check_columns(row: Row, where: object) -> None:
    videos = (*VIDEO_COLUMNS, *ID_COLUMNS)
    for what, names in (("captions", CAPTION_COLUMNS), ("videos", videos)):
        if not any(name in row for name in names):
            raise CurationError(
                f"a table of videos must have a column of {what} ({', '.join(names)}), got {', '.join(map(str, row))} "
                f"in {where}; rename one"
            )


def _first(row: Row, names: Sequence[str]) -> Any:
    """The value of the first of these columns that the row has."""
    return next((row[name] for name in names if row.get(name) is not None), None)


def _text(value: Any) -> str:
    """A value of a table as text, of text in a tar as well; "" for none."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace").strip()
    return "" if value is None else str(value).strip()


def _rest(row: Row) -> dict[str, Any]:
    """What else a row says: plain values under names that have no place of their own."""
    taken = {*ID_COLUMNS, *CAPTION_COLUMNS, *VIDEO_COLUMNS, "json"}
    return {
        str(name): value
        for name, value in row.items()
        if name not in taken and isinstance(value, str | int | float) and value != ""
    }
