"""GRPO by TRL's trainer: questions, labelled frames instead of videos, and runs from recipe to checkpoint."""

import itertools
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny import save_tiny_checkpoint, tiny_model, tiny_processor
from trl import GRPOConfig, TrlParser

from elysium.processing.boxes_elysium import format_frames
from elysium.tracking.answering import Answerer
from elysium.tracking.loading import load_checkpoint
from elysium.training import grpo
from elysium.training.grpo import GrpoArguments, as_images, questions, to_dataset
from elysium.training.rewards import iou_reward
from elysium.training.synthetic import SceneConfig, World

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "training" / "recipes" / "grpo.yaml"
SCRIPT = GrpoArguments(tasks=["rec", "sot", "rsot"], num_frames=3, image_size=[64, 48], side=[0.2, 0.4])
# What makes a run of the recipe short: two steps of two questions with four answers each.
SHORT = ["--max_steps", "2", "--num_questions", "4", "--per_device_train_batch_size", "8", "--num_generations", "4"]
SHORT += ["--image_size", "64", "48", "--max_completion_length", "12", "--logging_steps", "1"]


@pytest.fixture(scope="module", autouse=True)
def _small_worlds():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grpo, "World", lambda seed: World(seed, num_backgrounds=2, num_unnamed=4, num_variants=1))
        yield


@pytest.fixture(scope="module")
def asked(_small_worlds) -> list[grpo.Question]:
    return list(itertools.islice(questions(SCRIPT), 9))


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("start") / "tiny")


def run(start: Path, output: Path, *more: str) -> dict[str, torch.Tensor]:
    """A short run of the recipe in this process: the weights that it saved."""
    grpo.main(["--config", str(RECIPE), "--model", str(start), "--output_dir", str(output), *SHORT, *more])
    return load_file(output / "final" / "model.safetensors")


def test_questions_take_the_tasks_in_turns_and_hold_one_box_a_frame(asked) -> None:
    assert [question.task for question in asked] == ["rec", "sot", "rsot"] * 3
    for question in asked:
        num_frames = 1 if question.task == "rec" else 3
        assert question.frames.shape == (num_frames, 48, 64, 3)
        assert len(question.boxes_xyxy_norm) == num_frames
        assert question.boxes_xyxy_norm[0] is not None
        assert (question.text is None) == (question.task == "sot")


def test_the_same_arguments_give_the_same_questions_and_another_world_gives_others(asked) -> None:
    again = list(itertools.islice(questions(SCRIPT), 9))
    assert all(np.array_equal(one.frames, other.frames) for one, other in zip(asked, again, strict=True))
    assert [question.boxes_xyxy_norm for question in asked] == [question.boxes_xyxy_norm for question in again]
    other = next(questions(replace(SCRIPT, world_seed=2)))
    assert not np.array_equal(asked[0].frames, other.frames)


def test_an_object_that_leaves_has_no_box_in_that_frame(monkeypatch) -> None:
    monkeypatch.setattr(grpo, "SceneConfig", partial(SceneConfig, speed=(0.2, 0.3), share_leaving=1.0))
    clips = replace(SCRIPT, tasks=["sot"], num_frames=8)
    found = [question.boxes_xyxy_norm for question in itertools.islice(questions(clips), 12)]
    assert all(boxes[0] is not None for boxes in found)
    assert any(box is None for boxes in found for box in boxes)


@torch.no_grad()
def test_labelled_pictures_give_the_logits_of_the_video(asked) -> None:
    model, processor = tiny_model(), tiny_processor()
    for question in asked[:3]:
        messages = question.messages(processor)
        prompt, images = as_images(messages)
        assert len(images) == len(question.frames)
        pictures = iter(images)
        for part in prompt[0]["content"]:
            if part["type"] == "image":
                part["image"] = next(pictures)
        one, other = (
            model(**processor.apply_chat_template(asked_so, tokenize=True, return_dict=True, return_tensors="pt"))
            for asked_so in (messages, prompt)
        )
        assert torch.equal(one.logits, other.logits)


def test_a_row_holds_prompt_pictures_and_truth(asked) -> None:
    rows = to_dataset(iter(asked), 9, tiny_processor())
    assert len(rows) == 9
    for question, row in zip(asked, rows, strict=True):
        kinds = [part["type"] for part in row["prompt"][0]["content"]]
        assert kinds.count("image") == len(row["images"]) == len(question.frames)
        assert np.array_equal(np.stack(row["images"]), question.frames)
        assert row["prompt"][0]["content"][-1]["text"] == question.messages(tiny_processor())[0]["content"][-1]["text"]
        truth = [None if box is None else np.float32(box).tolist() for box in question.boxes_xyxy_norm]
        assert row["boxes_xyxy_norm"] == truth
        # The reward of a perfect answer reads the column as it comes out of the data set.
        assert iou_reward([format_frames(truth)], [row["boxes_xyxy_norm"]])[0] > 0.8


def test_a_run_learns_in_the_parts_that_were_named_and_saves_a_whole_checkpoint(start, tmp_path) -> None:
    parts = ["--train_parts", "language_model", "selector"]
    after = run(start, tmp_path / "run", "--rewards", "iou", "format", "--tasks", "rec", "sot", *parts)
    before = load_file(start / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert all("language_model" in name or "selector" in name for name in changed)
    final = tmp_path / "run" / "final"
    assert {path.name for path in final.iterdir()} == {path.name for path in start.iterdir()} | {"training_args.bin"}
    model, processor = load_checkpoint(final, device="cpu")
    assert model.generation_config.to_dict() == load_checkpoint(start, device="cpu")[0].generation_config.to_dict()
    question = next(questions(SCRIPT))
    (answer,) = Answerer(model, processor).answer([question.messages(processor)], max_new_tokens=4)
    assert isinstance(answer.text, str)


def test_a_reward_that_tells_answers_apart_moves_the_weights_the_same_way_every_time(
    start, tmp_path, monkeypatch
) -> None:
    def length(completions, boxes_xyxy_norm, **kwargs) -> list[float]:
        return [float(len(said[0]["content"])) for said in completions]

    monkeypatch.setitem(grpo.REWARDS, "iou", length)
    first, second = run(start, tmp_path / "first"), run(start, tmp_path / "second")
    before = load_file(start / "model.safetensors")
    assert any(not torch.equal(before[name], first[name]) for name in before)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_recipes_command_runs(start, tmp_path, monkeypatch, capsys) -> None:
    (command,) = re.findall(r"^# +(python -m .*)$", RECIPE.read_text("utf-8"), re.MULTILINE)
    monkeypatch.chdir(ROOT)
    python, flag, module, *options = command.split()
    assert (python, flag, module) == ("python", "-m", grpo.__name__)
    grpo.main([*options, "--model", str(start), "--output_dir", str(tmp_path / "run"), *SHORT])
    assert capsys.readouterr().out.count("'rewards/iou_reward/mean'") == 2
    assert (tmp_path / "run" / "final" / "model.safetensors").is_file()


def test_the_recipe_names_only_what_is_read() -> None:
    script, config = TrlParser((GrpoArguments, GRPOConfig)).parse_args_and_config(["--config", str(RECIPE)])
    values = yaml.safe_load(RECIPE.read_text("utf-8"))
    assert script.rewards == ["iou"]
    assert config.per_device_train_batch_size % config.num_generations == 0
    assert all(hasattr(script, name) or hasattr(config, name) for name in values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rewards", "length"], r"rewards must be some of iou, format, got \['length'\]"),
        (["--tasks", "reg"], r"tasks must be some of rec, sot, rsot, got \['reg'\]"),
        (["--num_frames", "0"], "num_questions and num_frames must be 1 or more, got .* and 0"),
        (["--train_parts", "brain"], "train_parts must name parts of the model, got brain; such as vision_tower"),
        (["--side", "0.4", "0.2"], "side must be"),
    ],
)
def test_a_mistake_in_the_arguments_is_said_in_a_sentence(start, tmp_path, arguments, message) -> None:
    with pytest.raises(SystemExit, match=message):
        run(start, tmp_path, *arguments)
