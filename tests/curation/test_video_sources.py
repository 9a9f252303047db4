"""Captioned videos out of tables, WebVid's layout, shards and the Hub."""

import csv
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from elysium.curation.read_step import HubSource, open_videos
from elysium.curation.video_records import CaptionedVideo
from elysium.processing.data_files import DatasetError

ROWS = [
    {"video_id": "a", "video": "clips/a.mp4", "caption": "A red car", "licence": "CC0"},
    {"video_id": "b", "video": "clips/b.mp4", "caption": "", "licence": ""},
    {"video_id": "c", "video": "clips/c.mp4", "caption": "Ein Hund, schön", "licence": ""},
]


def write_table(path: Path, rows: Sequence[Mapping[str, Any]] = ROWS) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), path)
    return path


def write_shard(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def read_all(place: Path | str, **options: Any) -> list[CaptionedVideo]:
    return list(open_videos(str(place), **options).read(lambda chunk: True))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("by", ["folder", "file"])
def test_a_table_gives_its_videos_with_captions_whatever_its_format(suffix: str, by: str, tmp_path: Path) -> None:
    table = write_table(tmp_path / f"captions{suffix}")
    videos = read_all(tmp_path if by == "folder" else table, chunk_videos=2)
    assert [(video.video_id, video.source, video.caption, video.chunk) for video in videos] == [
        ("a", tmp_path / "clips/a.mp4", "A red car", 0),
        ("b", tmp_path / "clips/b.mp4", "", 0),
        ("c", tmp_path / "clips/c.mp4", "Ein Hund, schön", 1),
    ]
    assert videos[0].metadata == {"licence": "CC0"}


def test_webvid_s_table_finds_its_videos_in_the_folder_of_their_page(tmp_path: Path) -> None:
    table = [
        {"videoid": "21", "contentUrl": "http://x", "duration": "PT10S", "page_dir": "000001_000050", "name": "A dog"},
        {"videoid": "22", "contentUrl": "http://y", "duration": "PT9S", "page_dir": "000001_000050", "name": "A cat"},
    ]
    write_table(tmp_path / "results_2M_train.csv", table)
    place = tmp_path / "data" / "videos" / "000001_000050" / "21.mp4"
    place.parent.mkdir(parents=True)
    place.touch()
    first, second = read_all(tmp_path, videos=tmp_path / "data")
    assert (first.video_id, first.caption, first.source) == ("21", "A dog", place)
    assert second.source == place.with_name("22.mp4")  # missing, and found to be so when it is decoded
    assert first.metadata == {"contentUrl": "http://x", "duration": "PT10S", "page_dir": "000001_000050"}


def test_only_the_wanted_chunks_come_and_all_together_are_everything(tmp_path: Path) -> None:
    rows = [{"id": str(number), "caption": "A dog"} for number in range(7)]
    source = open_videos(str(write_table(tmp_path / "c.jsonl", rows)), chunk_videos=2)
    shares = [[v.video_id for v in source.read(lambda chunk, rank=rank: chunk % 2 == rank)] for rank in range(2)]
    assert shares == [["0", "1", "4", "5"], ["2", "3", "6"]]


def test_shards_of_a_webdataset_bring_bytes_and_captions_from_text_or_json(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", {"x/1.mp4": b"one", "x/1.txt": b" A dog ", "x/2.mp4": b"two"})
    write_shard(tmp_path / "1.tar", {"3.json": b'{"caption": "A cat", "fps": 25}', "3.mp4": b"three"})
    write_shard(tmp_path / "2.tar", {"4.json": b"{", "4.mp4": b"four"})
    videos = read_all(tmp_path)
    assert [(video.video_id, video.source, video.caption, video.chunk) for video in videos] == [
        ("x/1", b"one", "A dog", 0),
        ("x/2", b"two", "", 0),
        ("3", b"three", "A cat", 1),
        ("4", b"four", "", 2),
    ]
    assert videos[2].metadata == {"fps": 25}


def test_a_data_set_by_name_is_streamed_shard_by_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, row in enumerate(ROWS[:2]):
        Path("owner/name/data").mkdir(parents=True, exist_ok=True)
        filled = {"id": row["video_id"], "video": {"bytes": b"film", "path": None}, "caption": row["caption"]}
        write_table(Path(f"owner/name/data/train-{number}.parquet"), [filled])
    videos = list(HubSource("owner/name", "train").read(lambda chunk: chunk == 1))
    assert [(video.video_id, video.source, video.caption, video.chunk) for video in videos] == [("b", b"film", "", 1)]


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda folder: None, r"must hold one table of captions \(.csv, .jsonl, .parquet\), got none"),
        (lambda folder: (write_table(folder / "a.csv"), write_table(folder / "b.csv")), "got a.csv, b.csv"),
        (lambda folder: write_table(folder / "a.csv", [{"video": "x", "words": "y"}]), "a column of captions"),
        (lambda folder: write_table(folder / "a.csv", [{"film": "x", "caption": "y"}]), "a column of videos"),
        (lambda folder: (folder / "a.jsonl").write_text("{"), "must be JSON, got .* in line 1 of"),
        (lambda folder: (folder / "a.jsonl").write_text("[1]"), "must be a JSON object, got list in line 1"),
        (lambda folder: (folder / "a.parquet").write_text("no"), "must be one that can be read"),
        (lambda folder: (folder / "a.tar").write_text("no"), "must be a tar file that can be read"),
    ],
)
def test_an_input_that_is_no_source_says_what_is_missing(prepare: Any, said: str, tmp_path: Path) -> None:
    prepare(tmp_path)
    with pytest.raises(DatasetError, match=said):
        read_all(tmp_path)


@pytest.mark.parametrize("place", ["nowhere", "no/such/path", "owner/rows.jsonl"])
def test_a_path_that_is_not_there_is_an_error(place: str) -> None:
    with pytest.raises(DatasetError, match="the input must be a table of captions"):
        open_videos(place)
