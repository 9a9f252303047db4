"""`objective`: data and losses of one's own in `elysium.training.sft`, alone, resumed, and on two processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny import save_tiny_checkpoint

from elysium.modeling_elysium import ElysiumForConditionalGeneration
from elysium.tracking.tracker import Tracker
from elysium.training import sft
from elysium.training.objective import HEADS_FILE

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


def recipe(checkpoint: Path, folder: Path, **changes: Any) -> Path:
    values = {
        "model_name_or_path": str(checkpoint),
        "train_parts": ["vision_tower.encoder.layers.1", "selector"],
        "objective": "own_objective:build",
        "objective_args": {"log": str(folder / "log")},
        "max_steps": 4,
        "save_steps": 2,
        "logging_steps": 1,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 1,
        "train_sampling_strategy": "sequential",
        "max_grad_norm": 1.0,
        "use_cpu": True,
        "bf16": False,
        "activation_checkpointing": False,
        "report_to": "none",
        "disable_tqdm": True,
        "output_dir": str(folder),
    } | changes
    config = folder.parent / f"{folder.name}.yaml"
    config.write_text(yaml.safe_dump(values))
    return config


def steps(folder: Path, rank: int = 0) -> tuple[list[list[int]], list[str]]:
    """Return the items of every step of a process, and digests of the weights before it."""
    lines = [json.loads(line) for line in (folder / "log" / f"rank{rank}.jsonl").read_text().splitlines()]
    return [items for items, _ in lines], [weights for _, weights in lines]


def logged(folder: Path, step: int = 4) -> list[dict[str, float]]:
    state = json.loads((folder / f"checkpoint-{step}" / "trainer_state.json").read_text())
    return [entry for entry in state["log_history"] if "loss" in entry]


def test_model_and_heads_are_trained_and_frozen_parts_keep_their_bits(checkpoint, tmp_path):
    sft.main(["--config", str(recipe(checkpoint, tmp_path / "run", trained_on="trained on noise"))])
    before, after = (load_file(folder / "model.safetensors") for folder in (checkpoint, tmp_path / "run"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("vision_tower.encoder.layers.1." in name for name in changed)
    first, last = (load_file(tmp_path / "run" / f"checkpoint-{step}" / HEADS_FILE) for step in (2, 4))
    assert first.keys() == {"told.weight", "told.bias", "size.weight", "size.bias"}
    assert not any(torch.equal(first[name], last[name]) for name in first)
    assert all(torch.equal(last[name], value) for name, value in load_file(tmp_path / "run" / HEADS_FILE).items())
    assert steps(tmp_path / "run")[0] == [[0], [1], [2], [3]]
    entries = logged(tmp_path / "run")
    assert all({"told", "largest"} <= entry.keys() and "size" not in entry for entry in entries)
    assert len({entry["told"] for entry in entries}) == 4
    assert Tracker.from_pretrained(tmp_path / "run").trained_on == "trained on noise"
    card = (tmp_path / "run" / "README.md").read_text()
    assert "objective: own_objective:build" in card and "tasks" not in card.split("## Training")[1]
    assert (tmp_path / "run" / "training.png").stat().st_size > 1000


def test_the_sentence_on_the_data_names_the_objective(checkpoint, tmp_path):
    sft.main(["--config", str(recipe(checkpoint, tmp_path / "run", max_steps=1))])
    assert Tracker.from_pretrained(tmp_path / "run").trained_on.endswith("fine-tuned on own_objective:build")


def test_a_stopped_run_resumes_to_the_same_weights_and_heads(checkpoint, tmp_path):
    sft.main(["--config", str(recipe(checkpoint, tmp_path / "whole"))])
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", tmp_path / "stopped" / "checkpoint-2")
    sft.main(["--config", str(recipe(checkpoint, tmp_path / "stopped"))])
    whole, stopped = steps(tmp_path / "whole"), steps(tmp_path / "stopped")
    assert stopped[0] == [[2], [3]] and stopped[1] == whole[1][2:]
    for file in ("model.safetensors", HEADS_FILE):
        one, other = (load_file(tmp_path / name / file) for name in ("whole", "stopped"))
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_starts_with_the_heads_of_its_checkpoint_but_for_those_of_another_shape(checkpoint, tmp_path):
    sft.main(["--config", str(recipe(checkpoint, tmp_path / "first"))])
    for outputs, kept in (
        (4, {"told.weight", "told.bias", "size.weight", "size.bias"}),
        (7, {"size.weight", "size.bias"}),
    ):
        folder = tmp_path / f"second{outputs}"
        arguments = {"log": str(folder / "log"), "outputs": outputs}
        changes = {"learning_rate": 0.0, "max_steps": 1, "objective_args": arguments}
        sft.main(["--config", str(recipe(tmp_path / "first", folder, **changes))])
        before, after = (load_file(run / HEADS_FILE) for run in (tmp_path / "first", folder))
        assert after["told.weight"].shape[0] == outputs
        assert {name for name in after if torch.equal(before[name], after[name])} == kept


def test_weights_of_a_finished_run_may_be_stored_in_half_precision(checkpoint, tmp_path):
    sft.main(["--config", str(recipe(checkpoint, tmp_path / "run", half_precision_output=True))])
    final, kept = (load_file(tmp_path / "run" / name / "model.safetensors") for name in (".", "checkpoint-4"))
    assert all(value.dtype == torch.float32 for value in kept.values())
    assert all(torch.equal(value, kept[name].half()) for name, value in final.items())
    assert ElysiumForConditionalGeneration.from_pretrained(tmp_path / "run").dtype == torch.float32


def test_two_processes_see_different_items_and_keep_the_same_weights(checkpoint, tmp_path):
    config = recipe(checkpoint, tmp_path / "two")
    path = os.pathsep.join([str(TESTS), *sys.path])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run(
        [*command, "-m", "elysium.training.sft", "--config", str(config)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=300,
    )
    first, second = steps(tmp_path / "two", 0), steps(tmp_path / "two", 1)
    assert first[0] == [[0], [2], [4], [6]] and second[0] == [[1], [3], [5], [7]]
    assert first[1] == second[1] and len(set(first[1])) == 4
    # One process that sums the gradients of the same items comes to the same weights.
    sft.main(["--config", str(recipe(checkpoint, tmp_path / "one", gradient_accumulation_steps=2))])
    assert steps(tmp_path / "one")[0] == [[item] for item in range(8)]
    for file in ("model.safetensors", HEADS_FILE):
        one, two = (load_file(tmp_path / name / file) for name in ("one", "two"))
        for name, value in one.items():
            torch.testing.assert_close(value, two[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "nothing"}, "objective must be package.module:factory, got 'nothing'"),
        ({"objective": "own_objective:no"}, "objective must be package.module:factory.*has no attribute 'no'"),
        ({"objective_args": {"speed": 3}}, "objective_args must be arguments of own_objective:build, got speed"),
        ({"stream": ["a/b"]}, "data, stream or objective, one of the three"),
        ({"objective": None, "stream": ["a/b"]}, "objective_args must come with an objective, got log alone"),
        ({"train_parts": ["vision_tower.eyes"]}, "train_parts must name parts of the model, got vision_tower.eyes"),
    ],
)
def test_an_objective_that_cannot_be_built_is_refused_in_one_line(changes, message, checkpoint, tmp_path):
    with pytest.raises(SystemExit, match=message):
        sft.main(["--config", str(recipe(checkpoint, tmp_path / "run", **changes))])
