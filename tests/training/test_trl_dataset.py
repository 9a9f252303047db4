"""The data set for `trl sft`: what TRL's own collator makes of it is what inference asks and what the answer lists."""

import base64
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import load_dataset
from tiny import tiny_processor
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from elysium import cli
from elysium.processing.boxes_elysium import parse_frames
from elysium.processing.video_io import read_video
from elysium.training.synthetic.dataset import ClipShape, synthetic_clips
from elysium.training.synthetic.trl_dataset import IMAGE_TASKS, VIDEO_TASKS, write_trl_dataset

SHAPE = ClipShape(num_frames=5, width=64, height=48)

pytestmark = pytest.mark.usefixtures("small_worlds")


@pytest.fixture(scope="module")
def folder(small_worlds, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("trl") / "tracks"
    write_trl_dataset(out, count=6, seed=3, shape=SHAPE)
    return out


def rows_of(folder: Path, split: str = "train", **options) -> list[dict]:
    """The rows of a split as TRL gets them."""
    return list(load_dataset(str(folder), streaming=True, **options)[split])


def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
    """What TRL trains on, with the loss on answers alone."""
    return DataCollatorForVisionLanguageModeling(tiny_processor(), max_length=4096, assistant_only_loss=True)(rows)


def decoded(ids: torch.Tensor) -> str:
    return tiny_processor().tokenizer.decode(ids[ids >= 0], skip_special_tokens=False)


def question_and_answer(row: dict) -> tuple[str, str]:
    user, assistant = row["messages"]
    return user["content"][-1]["text"], assistant["content"][0]["text"]


def test_every_task_is_asked_of_pictures_or_videos_in_the_processors_own_words(folder: Path) -> None:
    rows = rows_of(folder)
    assert {row["task"] for row in rows} == {*IMAGE_TASKS, *VIDEO_TASKS}
    prompts = tiny_processor().task_prompts
    for row in rows:
        kind = row["messages"][0]["content"][0]["type"]
        assert (kind, len(row["images"])) == (("image", 1) if row["task"] in IMAGE_TASKS else ("video", 0))
        before, _, behind = prompts[row["task"]].replace("}", "{").split("{")
        question = question_and_answer(row)[0]
        assert question.startswith(before) and question.endswith(behind) and "{" not in question


@pytest.mark.parametrize(
    ("config", "tasks"), [("mixed", (*IMAGE_TASKS, *VIDEO_TASKS)), ("images", IMAGE_TASKS), ("videos", VIDEO_TASKS)]
)
def test_a_configuration_holds_pictures_videos_or_both(folder: Path, config: str, tasks: tuple[str, ...]) -> None:
    wanted = Counter(row["task"] for row in rows_of(folder) if row["task"] in tasks)
    assert Counter(row["task"] for row in rows_of(folder, name=config)) == wanted
    assert set(wanted) == set(tasks)


def test_the_answer_lists_exactly_the_frames_that_the_model_is_given(folder: Path) -> None:
    tracked = [row for row in rows_of(folder) if row["task"] in ("sot", "rsot")]
    batch = collate(tracked)
    assert batch["pixel_values_videos"].shape[0] == SHAPE.num_frames * len(tracked)
    for row, ids, labels in zip(tracked, batch["input_ids"], batch["labels"], strict=True):
        answer = question_and_answer(row)[1]
        shown = decoded(ids).split("ASSISTANT:")[0].split("\n")[0]
        assert shown.count("Frame ") == answer.count("Frame ") == SHAPE.num_frames
        assert int((ids == tiny_processor().video_token_id).sum()) == SHAPE.num_frames * 5
        assert decoded(labels).strip() == answer + "</s>"
        assert [found.status for found in parse_frames(answer, SHAPE.num_frames + 1)][-1] == "missing"


def test_a_box_of_the_answer_is_where_the_object_is_in_that_frame_of_the_video(folder: Path) -> None:
    clips = {clip.name: clip for clip in synthetic_clips(6, 3, SHAPE)}
    tracked = [row for row in rows_of(folder) if row["task"] == "rsot"]
    for row in tracked:
        video = Path(row["messages"][0]["content"][0]["video"])
        question, answer = question_and_answer(row)
        words = question.removeprefix("Track ").removesuffix(" in the video.")
        (source,) = [known for known in clips[video.stem].rows if known["object_description"] == words]
        for found, box in zip(parse_frames(answer, SHAPE.num_frames), source["box"], strict=True):
            assert (found.box_xyxy_norm is None) == (box is None)
            assert box is None or np.abs(np.array(found.box_xyxy_norm) - box).max() <= 0.011
        shown, true = read_video(video).frames.astype(int), clips[video.stem].frames.astype(int)
        errors = np.abs(shown[:, None] - true[None]).mean(axis=(2, 3, 4))  # (T, T)
        assert errors.argmin(axis=1).tolist() == list(range(SHAPE.num_frames))
    assert len(tracked) > 5


def test_the_words_of_the_loss_are_the_answers_alone(folder: Path) -> None:
    rows = rows_of(folder)[:12]
    batch = collate(rows)
    assert [decoded(labels).strip() for labels in batch["labels"]] == [
        question_and_answer(row)[1] + "</s>" for row in rows
    ]
    assert {"pixel_values", "pixel_values_videos"} <= set(batch)  # both kinds in one batch


def test_no_clip_is_in_both_splits_and_no_question_is_asked_twice(folder: Path) -> None:
    clips, asked = {}, Counter()
    for split in ("train", "test"):
        videos = [row["messages"][0]["content"][0]["video"] for row in rows_of(folder, split, name="videos")]
        clips[split] = set(videos)
        questions = [question_and_answer(row)[0] for row in rows_of(folder, split, name="videos")]
        asked.update(zip(videos, questions, strict=True))
    assert (len(clips["train"]), len(clips["test"])) == (5, 1)
    assert not clips["train"] & clips["test"]
    assert set(asked.values()) == {1}


def test_the_same_seed_gives_the_same_rows_in_the_same_mixed_order(folder: Path, tmp_path: Path) -> None:
    write_trl_dataset(tmp_path, count=6, seed=3, shape=SHAPE, home=folder)
    assert (tmp_path / "data/train.parquet").read_bytes() == (folder / "data/train.parquet").read_bytes()
    tasks = [row["task"] for row in rows_of(folder)]
    assert sum(one != other for one, other in zip(tasks, tasks[1:], strict=False)) > len(tasks) / 2


def test_a_folder_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    seen = []
    for seed in (3, 4, 3):
        write_trl_dataset(tmp_path / "rows", count=2, seed=seed, shape=SHAPE, embed=True)
        for name in ("mixed", "videos"):  # not streamed: a copy of the rows is kept
            loaded = load_dataset(str(tmp_path / "rows"), name=name, cache_dir=str(tmp_path / "cache"))
            seen.append([row["messages"] for row in loaded["train"]])
    assert seen[0] != seen[2] and seen[1] != seen[3] and seen[:2] == seen[4:]


def test_embedded_videos_give_the_batch_of_the_file_in_them_and_need_no_other(tmp_path: Path, monkeypatch) -> None:
    write_trl_dataset(tmp_path / "first", count=2, seed=3, shape=SHAPE, embed=True)
    (tmp_path / "first").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert {file.name for file in Path("moved").iterdir()} == {"README.md", "data"}
    rows = rows_of(Path("moved"), name="videos")[:4]
    embedded = collate(rows)
    for number, row in enumerate(rows):
        part = row["messages"][0]["content"][0]
        kind, _, payload = part["video"].partition(",")
        assert kind == "data:video/mp4;base64"
        part["video"] = f"{number}.mp4"
        Path(part["video"]).write_bytes(base64.b64decode(payload))
    for name, value in collate(rows).items():
        assert torch.equal(value, embedded[name])


def test_frames_as_labelled_images_give_the_tokens_and_pictures_of_the_video(folder: Path) -> None:
    """The third form, for data sets that hold frames: TRL takes them in `images`."""
    processor = tiny_processor()
    row = next(row for row in rows_of(folder) if row["task"] == "rsot")
    frames = read_video(Path(row["messages"][0]["content"][0]["video"])).frames
    content = []
    for number in range(1, len(frames) + 1):
        content += [{"type": "text", "text": f"{', ' if number > 1 else ''}Frame {number}: "}, {"type": "image"}]
    user, assistant = row["messages"]
    labelled = row | {
        "images": list(frames),
        "messages": [{"role": "user", "content": [*content, user["content"][-1]]}, assistant],
    }
    video, images = collate([row]), collate([labelled])
    as_video = images["input_ids"].where(images["input_ids"] != processor.image_token_id, processor.video_token_id)
    assert torch.equal(as_video, video["input_ids"]) and torch.equal(images["labels"], video["labels"])
    assert torch.equal(images["pixel_values"], video["pixel_values_videos"])


def test_synth_names_videos_where_the_finished_folder_stands(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    size = ["--count", "2", "--frames", "3", "--size", "48x32"]
    assert cli.run(["synth", "out", "--as", "trl", *size]) == 0
    assert capsys.readouterr().out.startswith("Clips: out (2 videos, ")
    names = [row["messages"][0]["content"][0]["video"] for row in rows_of(tmp_path / "out", name="videos")]
    assert names and all(Path(name).is_file() and Path(name).is_absolute() for name in names)
    assert cli.run(["synth", "embedded", "--as", "trl", "--embed", *size]) == 0
    assert not (tmp_path / "embedded/videos").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--as", "trl", "--count", "1"], "2 clips or more, one to test on, got 1"),
        (["--embed"], "--embed goes with --as trl alone"),
    ],
)
def test_synth_refuses_what_cannot_be(tmp_path: Path, arguments: list[str], message: str, capsys) -> None:
    assert cli.run(["synth", str(tmp_path / "out"), *arguments]) in (1, 2)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
