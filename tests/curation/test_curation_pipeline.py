"""Curation as a whole: rows come out, training reads them, every drop is counted, a killed run loses nothing."""

import csv
import hashlib
import json
import random
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from curation_parts import SHAPE, Oracle, Standing, save_tiny_grounding_dino, write_captioned_videos
from forked import Child

from elysium.cards.publish import plan_publish
from elysium.curation.curation_settings import CurationSettings, load_settings
from elysium.curation.curation_step import CurationError
from elysium.curation.pipeline import curate
from elysium.curation.video_records import Trajectory
from elysium.processing.overlap import paired_iou
from elysium.training.catalogue import open_source

FIXTURES = Path(__file__).parent.parent / "fixtures"


@dataclass(frozen=True)
class World:
    """A folder of captioned videos and the path of its truth."""

    folder: Path
    truth: str

    def settings(self, **changes: Any) -> CurationSettings:
        """The paper's, with a detector that knows the truth and a tracker that costs nothing."""
        quick = {"detector": partial(Oracle, self.truth), "tracker": Standing, "chunk_videos": 2}
        return load_settings("paper", {**quick, **changes})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("curation") / "videos"
    return World(folder, str(write_captioned_videos(folder)))


@pytest.fixture(scope="module")
def with_csrt(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The output of a run with the paper's tracker, and its summary."""
    out = tmp_path_factory.mktemp("csrt") / "out"
    summary = curate(world.folder, out, world.settings(tracker="csrt"))
    assert summary is not None
    return out, summary


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def content(out: Path) -> dict[str, str]:
    """Every file of an output but its logs, with a digest."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.relative_to(out).parts[0] != "logs"]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_training_reads_the_rows_and_their_frames(with_csrt: tuple[Path, dict[str, Any]]) -> None:
    out, summary = with_csrt
    rows = open_source({"source": "elysium-track", "path": str(out)})
    assert len(rows) == summary["rows"] >= 8
    for number in range(len(rows)):
        row = rows[number]
        assert row.text is not None and row.text == f"the {row.description}"
        assert row.boxes_xyxy_norm is not None and row.boxes_xyxy_norm.shape == (SHAPE.num_frames, 4)
        assert row.frames.read([0, SHAPE.num_frames - 1]).shape == (2, SHAPE.height, SHAPE.width, 3)


def test_rows_follow_the_object_that_their_words_name(with_csrt: tuple[Path, dict[str, Any]], world: World) -> None:
    truth = json.loads(Path(world.truth).read_text("utf-8"))
    overlaps = []
    for row in lines(with_csrt[0] / "rows.jsonl"):
        true = [[np.nan] * 4 if box is None else box for box in truth[f"{row['vid']}/{row['metadata']['name']}"]]
        found = [[np.nan] * 4 if box is None else box for box in row["box"]]
        iou = paired_iou(np.array(found), np.array(true))
        assert iou[0] == pytest.approx(1, abs=1e-3)
        overlaps.append(iou.mean())
    assert np.mean(overlaps) > 0.6


def test_every_noun_chunk_is_a_row_or_a_line_of_the_exclusions(with_csrt: tuple[Path, dict[str, Any]]) -> None:
    out, summary = with_csrt
    rows, drops = lines(out / "rows.jsonl"), lines(out / "report" / "exclusions.jsonl")
    first = summary["steps"][0]
    assert first["step"] == "phrases" and first["in"] == len(rows) + len(drops)
    assert Counter((drop["step"], drop["reason"]) for drop in drops)[("phrases", "virtual")] == 5  # "sunset"
    assert summary["steps"][-1]["out"] == len(rows) == len({row["id"] for row in rows})


def test_the_report_has_a_card(with_csrt: tuple[Path, dict[str, Any]]) -> None:
    out, summary = with_csrt
    card = (out / "README.md").read_text("utf-8")
    assert f"{summary['rows']} rows from {summary['videos']} captioned videos" in card
    assert "| min_agreement_iou | 0.3 |" in card
    rows = lines(out / "rows.jsonl")
    statistics = summary["statistics"]
    assert statistics["videos"] == len({row["vid"] for row in rows})
    assert statistics["commonest_classes"] == Counter(row["object_class"] for row in rows)
    assert statistics["frames"] == {
        "boxed": sum(box is not None for row in rows for box in row["box"]),
        "absent": sum(box is None for row in rows for box in row["box"]),
    }


def test_parquet_holds_the_same_rows_with_their_frames(world: World, tmp_path: Path) -> None:
    from elysium.readers.elysium_track import sample_of_record

    assert curate(world.folder, tmp_path / "jsonl", world.settings(format="jsonl"))
    assert curate(world.folder, tmp_path / "parquet", world.settings(format="parquet"))
    plain = lines(tmp_path / "jsonl" / "rows.jsonl")
    files = sorted((tmp_path / "parquet" / "chunks").glob("*/rows.parquet"))
    packed = [row for file in files for row in pyarrow.parquet.read_table(file).to_pylist()]
    assert len(plain) == len(packed) > 0
    for one, other in zip(plain, packed, strict=True):
        assert {name: one[name] for name in one if name != "frames"} == {
            name: other[name] for name in one if name != "frames"
        }
        row = sample_of_record(other, "curated")
        assert len(row.frames) == SHAPE.num_frames
        images = sample_of_record(one, "curated", tmp_path / "jsonl").frames.read([0, 3])
        assert (row.frames.read([0, 3]) == images).all()


def test_parquet_is_what_datasets_streams(world: World, tmp_path: Path) -> None:
    from datasets import Image, Sequence, load_dataset

    from elysium.readers.elysium_track import sample_of_record

    assert curate(world.folder, tmp_path / "out", world.settings(format="parquet"))
    files = sorted(str(path) for path in (tmp_path / "out" / "chunks").glob("*/rows.parquet"))
    rows = load_dataset("parquet", data_files=files, split="train", streaming=True)
    rows = rows.cast_column("frames", Sequence(Image(decode=False)))
    row = sample_of_record(next(iter(rows)), "curated")
    assert row.frames.size == (SHAPE.width, SHAPE.height)
    plan = plan_publish(tmp_path / "out", "owner/name")
    assert {"README.md", "chunks/000000/rows.parquet"} <= plan.files.keys() and plan.left_out == {
        "logs": "logs of a run"
    }


def test_two_tasks_give_the_files_that_one_gives(world: World, tmp_path: Path) -> None:
    dino = save_tiny_grounding_dino(tmp_path / "dino", ["red", "star"])
    settings = world.settings(detector=str(dino), chunk_videos=1, min_detection_score=0.1, min_agreement_iou=0)
    one = curate(world.folder, tmp_path / "one", settings)
    two = curate(world.folder, tmp_path / "two", settings, tasks=2, workers=2)
    assert one == two and one is not None and one["rows"] > 0
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_the_real_grounding_dino_class_and_csrt_go_through_real_clips(tmp_path: Path) -> None:
    table = tmp_path / "captions.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "caption"])
        writer.writerow(["media/cup.mp4", "A hand tilts a black cup on a table."])
        writer.writerow(["real_clips/rabbit.mp4", "A grey rabbit looks at the sky."])
    dino = save_tiny_grounding_dino(tmp_path / "dino", ["black", "cup", "grey", "rabbit"])
    changes = {
        "detector": str(dino),
        "min_detection_score": 0.05,
        "min_agreement_iou": 0.0,
        "drift_false_alarm": 1e-12,
    }
    settings = load_settings("paper", {**changes, "max_frames": 4, "frame_interval": 10, "max_side_px": 160})
    summary = curate(table, tmp_path / "out", settings, videos=FIXTURES)
    assert summary is not None
    assert {step["step"]: step["in"] for step in summary["steps"]}["detect"] >= 3
    rows = lines(tmp_path / "out" / "rows.jsonl")
    assert all(len(row["box"]) == len(row["frames"]) == 4 for row in rows)
    assert {tuple(row["frame_size"]) for row in rows} <= {(160, 120), (160, 90)}


def test_what_is_broken_is_counted_and_never_fatal(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    good = sorted(world.folder.glob("*.mp4"))[0].read_bytes()
    (folder / "good.mp4").write_bytes(good)
    (folder / "cut.mp4").write_bytes(good[: len(good) // 3])
    (folder / "text.mp4").write_text("no video")
    (folder / "void.mp4").touch()
    table = [
        ("good", "good.mp4", "A red zebra stands still."),
        ("cut", "cut.mp4", "A red car drives."),
        ("text", "text.mp4", "A red car drives."),
        ("void", "void.mp4", "A red car drives."),
        ("gone", "gone.mp4", "A red car drives."),
        ("gone", "gone.mp4", "A red car drives."),
        ("blank", "good.mp4", "   "),
        ("german", "good.mp4", "Der kleine Hund läuft mit dem Ball über die grüne Wiese."),
        ("verb", "good.mp4", "Running and jumping quickly."),
        ("many", "good.mp4", "Two dogs chase them."),
    ]
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "video", "caption"), *table])
    summary = curate(folder, tmp_path / "out", world.settings(chunk_videos=100))
    assert summary is not None and summary["rows"] == 0 and summary["videos"] == len(table)
    reasons = {(drop["video_id"], drop["reason"]) for drop in lines(tmp_path / "out" / "report" / "exclusions.jsonl")}
    assert reasons == {
        ("good", "score_first"),
        ("cut", "video_unreadable"),
        ("text", "video_unreadable"),
        ("void", "video_unreadable"),
        ("gone", "video_missing"),
        ("gone", "duplicate_id"),
        ("blank", "caption_empty"),
        ("german", "caption_language"),
        ("verb", "caption_no_noun"),
        ("many", "plural"),
        ("many", "pronoun"),
    }


def test_a_video_with_too_few_frames_for_three_looks_is_dropped(world: World, tmp_path: Path) -> None:
    summary = curate(world.folder, tmp_path / "out", world.settings(frame_interval=5))  # 2 of 8 frames
    assert summary is not None and summary["rows"] == 0
    assert summary["steps"][1]["dropped"] == {"video_short": summary["steps"][1]["in"]}


class Jumping(Standing):
    """Leaves its object in the middle of the video for another place of the same size."""

    def follow(self, frames: np.ndarray, boxes_xyxy_norm) -> list[Trajectory]:
        """The first box, then one half a picture away."""
        found = super().follow(frames, boxes_xyxy_norm)
        for trajectory in found:
            box = trajectory.boxes_xyxy_norm[0]
            way = 0.5 if box[0] < 0.4 else -min(0.5, box[0])
            trajectory.boxes_xyxy_norm[len(frames) // 2 :] += [way, 0, way, 0]
        return found


class Losing(Standing):
    """Loses its object in the second half of the video."""

    def follow(self, frames: np.ndarray, boxes_xyxy_norm) -> list[Trajectory]:
        """The first box, then none."""
        found = super().follow(frames, boxes_xyxy_norm)
        for trajectory in found:
            trajectory.boxes_xyxy_norm[len(frames) // 2 :] = np.nan
            trajectory.scores[len(frames) // 2 :] = 0
        return found


class Wandering(Standing):
    """Ends at another place than it starts, whichever way it goes."""

    def follow(self, frames: np.ndarray, boxes_xyxy_norm) -> list[Trajectory]:
        """The first box, shrinking to a third."""
        found = super().follow(frames, boxes_xyxy_norm)
        for trajectory in found:
            shrink = np.linspace(0, 1 / 3, len(frames))[:, None]
            sides = trajectory.boxes_xyxy_norm[:, 2:] - trajectory.boxes_xyxy_norm[:, :2]
            trajectory.boxes_xyxy_norm[:, :2] += shrink * sides
            trajectory.boxes_xyxy_norm[:, 2:] -= shrink * sides
        return found


@pytest.mark.parametrize(
    ("changes", "step", "reason"),
    [
        ({"min_detection_score": 0.95}, "detect", "score_first"),
        ({"tracker": Losing}, "track", "score"),
        ({"tracker": Jumping}, "drift", "jump"),
        ({"tracker": Wandering, "min_agreement_iou": 0.9}, "agree", "iou_middle"),
    ],
)
def test_each_filter_drops_what_it_is_for(
    changes: dict[str, Any], step: str, reason: str, world: World, tmp_path: Path
) -> None:
    summary = curate(world.folder, tmp_path / "out", world.settings(**changes))
    assert summary is not None
    dropped = {one["step"]: one["dropped"] for one in summary["steps"]}
    assert dropped[step].get(reason, 0) > 0
    values = [
        drop["value"] for drop in lines(tmp_path / "out" / "report" / "exclusions.jsonl") if drop["step"] == step
    ]
    assert all(value is not None for value in values)


def test_a_finished_run_is_left_as_it_is_and_another_is_refused(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = curate(world.folder, out, world.settings())
    before = {path: path.stat().st_mtime_ns for path in (out / "chunks").rglob("*.jsonl")}
    assert curate(world.folder, out, world.settings(), tasks=3) == first
    assert {path: path.stat().st_mtime_ns for path in (out / "chunks").rglob("*.jsonl")} == before
    with pytest.raises(CurationError, match="min_track_score 0.8, now 0.7; choose another output folder"):
        curate(world.folder, out, world.settings(min_track_score=0.7))
    with pytest.raises(CurationError, match="the output must be a new or empty folder"):
        curate(world.folder, world.folder, world.settings())


def test_what_a_killed_run_left_unfinished_is_gone_at_the_end(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    curate(world.folder, out, world.settings())
    before = content(out)
    (out / "chunks" / ".000003.1a2b3c4d.part").mkdir()
    for name in (".rows.1a2b3c4d.part.jsonl", "report/.sheet.1a2b3c4d.part.png", "chunks/.000003.1a2b3c4d.part/x.jpg"):
        (out / name).write_text("half")
    curate(world.folder, out, world.settings())
    assert content(out) == before


class Slow(Standing):
    """Takes long enough to be killed at its work."""

    def follow(self, frames: np.ndarray, boxes_xyxy_norm) -> list[Trajectory]:
        """The first box in every frame, a tenth of a second later."""
        time.sleep(0.1)
        return super().follow(frames, boxes_xyxy_norm)


def test_a_run_killed_at_random_moments_ends_as_one_that_was_not(world: World, tmp_path: Path) -> None:
    settings = world.settings(tracker=Slow, chunk_videos=1)

    def written(out: Path) -> int:
        return len(list((out / "chunks").glob("[0-9]*")))

    curate(world.folder, tmp_path / "whole", settings)
    draw, killed = random.Random(5), tmp_path / "killed"
    for kill in range(2):
        before = written(killed)
        child = Child(lambda: curate(world.folder, killed, settings) and None, tmp_path / "child.log")
        child.kill_when(lambda: written(killed) > before and not time.sleep(draw.uniform(0, 0.1)))  # noqa: B023
        assert not (killed / "rows.jsonl").exists(), f"kill {kill} came when the run was done"
    curate(world.folder, killed, settings)
    assert content(killed) == content(tmp_path / "whole")
