"""Runs in processes of their own: killed and gone on with, shared by two, and streamed over HTTP."""

import os
import subprocess
import sys

import pytest
import yaml
from hub_stand_in import HubStandIn
from tiny import save_tiny_checkpoint

from research.training_runs import (
    SAVE_STEPS,
    base_recipe,
    killed_and_resumed,
    local_data,
    random_kills,
    stream_data,
    two_against_one,
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return str(save_tiny_checkpoint(tmp_path_factory.mktemp("tiny")))


def test_a_killed_run_ends_with_the_weights_of_one_that_nobody_killed(checkpoint, tmp_path):
    kills = [SAVE_STEPS + 2]
    found = killed_and_resumed(checkpoint, tmp_path, local_data(), steps=SAVE_STEPS + 4, kills=kills)
    assert found["really_killed"]
    assert found["tensors_equal_bit_for_bit"] == found["tensors"] > 20
    assert found["losses_equal"]


def test_two_processes_have_the_losses_of_one_also_from_a_stream(checkpoint, tmp_path):
    data = stream_data(tmp_path / "rows", count=12)
    found = two_against_one(checkpoint, tmp_path, data, steps=SAVE_STEPS)
    assert found["steps"] == SAVE_STEPS
    assert found["largest_difference_of_loss"] < 1e-4


def test_kills_lie_between_saves():
    for seed in range(20):
        kills = random_kills(seed)
        assert len(kills) == 3 and not any(step % SAVE_STEPS == 0 for step in kills)
        assert [step // SAVE_STEPS for step in kills] == [1, 2, 3]


def test_rows_are_streamed_from_a_hub_while_training(checkpoint, tmp_path):
    stream_data(tmp_path / "rows", count=6)
    recipe = base_recipe(checkpoint, tmp_path / "run", steps=2) | {"stream": ["user/tracks"]}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(recipe))
    with HubStandIn("user/tracks", tmp_path / "rows").running() as hub:
        environment = os.environ | {
            "HF_ENDPOINT": hub.endpoint,
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(tmp_path / "hf"),
        }
        command = [sys.executable, "-m", "elysium.training.sft", "--config", str(tmp_path / "run.yaml")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert any("train.parquet" in asked for asked in hub.asked)
    assert (tmp_path / "run" / "model.safetensors").exists()
