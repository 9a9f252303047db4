"""Every reader of files that others bring, on hostile files: it reads them, or raises its own error and no other.

`ELYSIUM_FUZZ_SECONDS=300 pytest tests/test_fuzzed_readers.py` takes so long for each reader.
"""

import io
import json
import os
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import miniatures
import numpy as np
import pytest
import question_miniatures as questions
import row_miniatures as rows
from hostile_files import hostile_content
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from elysium.cards.folder_checks import dataset_problems
from elysium.curation.curation_settings import load_settings
from elysium.curation.read_step import open_videos
from elysium.evaluation.result_files import ResultError, ResultFiles, ResultFolder
from elysium.evaluation.resumable import JsonLog, RunError
from elysium.processing.data_files import DatasetError
from elysium.processing.structures import load_tracking_result
from elysium.readers.elysium_track import read_elysium_track
from elysium.readers.refcoco import read_refcoco
from elysium.readers.tracking_benchmarks import read_tracking
from elysium.readers.video_qa import read_video_questions
from elysium.training.catalogue import open_source

SECONDS = float(os.environ.get("ELYSIUM_FUZZ_SECONDS", "0"))
EXAMPLES = 300 if SECONDS else 25


@dataclass(frozen=True)
class Reader:
    """A reader: what builds its input, which files of it are spoilt, and what reads all of it."""

    build: Callable[[Path], object]
    files: str
    read: Callable[[Path], object]
    errors: tuple[type[Exception], ...] = (DatasetError,)


def read_rows(source: str, path: Path, **options: object) -> None:
    """Every row of a source of training, each on its own as the collator has it."""
    opened = open_source({"source": source, "path": str(path)} | options)
    for index in range(len(opened)):
        try:
            opened[index]
        except DatasetError:
            continue


def build_results(root: Path) -> None:
    for name in ("a", "b"):
        ResultFiles(root, "got10k" if name == "b" else "flat").write(name, np.ones((5, 4)), np.ones(5))


def read_results(root: Path) -> None:
    results = ResultFolder(root)
    for name in ("a", "b"):
        for boxes in results.boxes(name):
            assert boxes.shape[1] == 4
    results.frames_per_s()


def build_table(suffix: str, root: Path) -> None:
    table = [{"video": f"{n}.mp4", "caption": "a red car", "id": str(n), "views": n, "score": 0.5} for n in range(3)]
    if suffix == "jsonl":
        (root / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    elif suffix == "csv":
        lines = [",".join(table[0]), *(",".join(map(str, row.values())) for row in table)]
        (root / "a.csv").write_text("\n".join(lines) + "\n")
    else:
        questions.write_parquet(root / "a.parquet", table)


def build_shard(root: Path) -> None:
    with tarfile.open(root / "a.tar", "w") as tar:
        for name, content in (("1.mp4", b"video"), ("1.json", b'{"caption": "a car", "id": 1}'), ("2.txt", b"a cup")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def build_log(root: Path) -> None:
    JsonLog(root / "answers.jsonl").append([{"key": "a", "answer": "b"}, {"key": "c", "score": 1.5}])


def build_tracks(root: Path) -> None:
    frames = [
        {"frame_idx": n, "time_s": n / 10, "box_xyxy_px": [1.0, 2.0, 30.0, 40.0], "score": 0.5, "reason": None}
        for n in range(2)
    ]
    frames.append({"frame_idx": 2, "time_s": 0.2, "box_xyxy_px": None, "score": None, "reason": "absent"})
    track = {"id": 1, "text": "a cup", "frames": frames}
    record = {"video": "cup.mp4", "fps": 10.0, "width": 96, "height": 72, "model": "m", "complete": True}
    rows.build_user_folder(root)
    (root / "boxes.csv").unlink()
    (root / "boxes.json").write_text(json.dumps(record | {"tracks": [track]}))


def jsonl_folder(root: Path) -> None:
    rows.build_user_folder(root)
    (root / "boxes.csv").unlink()
    lines = [
        {"video": "cup.mp4", "frame_idx": n, "x1": 1, "y1": 2, "x2": 30, "y2": 40.5, "object": "a", "text": "a cup"}
        for n in range(3)
    ]
    (root / "boxes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def build_recipe(root: Path) -> None:
    (root / "a.yaml").write_text("detector: some/detector\nmax_frames: 30\ntracker: kcf\n")


def encoded_parquet(root: Path) -> None:
    questions.write_parquet(root / "val.parquet", questions.encoded_rows())


def exhaust(read: Callable[..., object], *args: object) -> Callable[[Path], None]:
    def run(root: Path) -> None:
        for _ in read(root, *args):
            pass

    return run


def curation(root: Path) -> None:
    for _ in open_videos(str(root)).read(lambda chunk: True):
        pass


READERS = {
    "elysium-track rows": Reader(miniatures.build_elysium_track, "*.jsonl", partial(read_rows, "elysium-track")),
    "elysium-track": Reader(miniatures.build_elysium_track, "*.jsonl", exhaust(read_elysium_track)),
    "llava-pretrain": Reader(rows.build_llava_pretrain, "*.json", partial(read_rows, "llava-pretrain")),
    "llava-instruct": Reader(rows.build_llava_instruct, "*.json", partial(read_rows, "llava-instruct")),
    "visual-genome": Reader(rows.build_visual_genome, "*.json", partial(read_rows, "visual-genome")),
    "videochat": Reader(rows.build_videochat, "*.json", partial(read_rows, "videochat")),
    "refcoco rows": Reader(
        questions.build_refer, "refcoco/[ir]*", lambda root: read_rows("refcoco", root, split="train")
    ),
    "refcoco": Reader(questions.build_refer, "refcoco/[ir]*", exhaust(read_refcoco, "refcoco", "val")),
    "refcoco parquet": Reader(encoded_parquet, "*.parquet", exhaust(read_refcoco, "refcoco", "val")),
    "lasot": Reader(miniatures.build_lasot, "*/*/*.txt", lambda root: read_rows("lasot", root, split="all")),
    "got10k": Reader(partial(miniatures.build_got10k, split="train"), "train/**/*.*t*", partial(read_rows, "got10k")),
    "trackingnet": Reader(miniatures.build_trackingnet, "*/anno/*.txt", partial(read_rows, "trackingnet")),
    "tnl2k": Reader(miniatures.build_tnl2k, "*/*.txt", partial(read_rows, "tnl2k")),
    "otb": Reader(miniatures.build_otb, "*/*.txt", lambda root: list(read_tracking("otb", root))),
    "uav123": Reader(miniatures.build_uav123, "anno/*/*.txt", lambda root: list(read_tracking("uav123", root))),
    "nfs": Reader(miniatures.build_nfs, "*/*/*.txt", lambda root: list(read_tracking("nfs", root))),
    "user folder, CSV": Reader(rows.build_user_folder, "boxes.csv", partial(read_rows, "folder")),
    "user folder, JSONL": Reader(jsonl_folder, "boxes.jsonl", partial(read_rows, "folder")),
    "user folder, tracks": Reader(build_tracks, "boxes.json", partial(read_rows, "folder")),
    **{
        name: Reader(build, files, lambda root, name=name: [None for _ in read_video_questions(name, root, limit=50)])
        for name, build, files in (
            ("msvd-qa", questions.build_msvd_qa, "**/*.[jt]*"),
            ("msrvtt-qa", questions.build_msrvtt_qa, "**/*.json"),
            ("tgif-qa", questions.build_tgif_qa, "**/*.csv"),
            ("activitynet-qa", questions.build_activitynet_qa, "**/*.json"),
            ("video-qa", questions.build_plain_qa, "**/*.jsonl"),
        )
    },
    **{
        f"curation {suffix}": Reader(partial(build_table, suffix), "a.*", curation)
        for suffix in ("csv", "jsonl", "parquet")
    },
    "curation shard": Reader(build_shard, "*.tar", curation),
    "curation recipe": Reader(build_recipe, "*.yaml", lambda root: load_settings(root / "a.yaml")),
    "results": Reader(build_results, "**/*.txt", read_results, (ResultError,)),
    "log": Reader(build_log, "*.jsonl", lambda root: JsonLog(root / "answers.jsonl").read(), (RunError,)),
    "dataset check": Reader(partial(build_table, "jsonl"), "*.jsonl", dataset_problems, ()),
    "tracking result": Reader(
        build_tracks, "boxes.json", lambda root: load_tracking_result(root / "boxes.json"), (ValueError,)
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_a_reader_raises_its_own_error_alone(name, tmp_path):
    reader = READERS[name]
    reader.build(tmp_path)
    files = [path for path in sorted(tmp_path.glob(reader.files)) if path.is_file()]
    assert files
    reader.read(tmp_path)  # what is whole can be read
    contents = {path: path.read_bytes() for path in files}
    spoilt = st.sampled_from(files).flatmap(
        lambda path: st.tuples(st.just(path), hostile_content(path.name, contents[path]))
    )

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False
    )
    @given(spoilt)
    def fuzz(chosen):
        path, content = chosen
        path.write_bytes(content)
        try:
            reader.read(tmp_path)
        except reader.errors as error:
            str(error).encode("utf-8", "surrogateescape")  # it can be shown
        finally:
            path.write_bytes(contents[path])

    started, round_number = time.monotonic(), 0
    while round_number == 0 or time.monotonic() - started < SECONDS:
        seed(round_number)(fuzz)()
        round_number += 1
