"""Runs that are killed and gone on with, shared by two processes, and streamed over HTTP."""

import os
import signal
from pathlib import Path

import datasets.config
import pytest
import torch
import yaml
from forked import Child, run_forked
from hub_stand_in import HubStandIn
from safetensors.torch import load_file
from tiny import save_tiny_checkpoint
from transformers import TrainerCallback

from elysium.training import sft
from research.training_runs import (
    SAVE_STEPS,
    base_recipe,
    local_data,
    losses_of,
    random_kills,
    stream_data,
    two_against_one,
)

pytestmark = pytest.mark.usefixtures("small_worlds")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return str(save_tiny_checkpoint(tmp_path_factory.mktemp("tiny")))


class Dies(TrainerCallback):
    """Kills its own process, as SIGKILL does, behind a step."""

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step == 3:
            os.kill(os.getpid(), signal.SIGKILL)


def train(recipe: dict, *callbacks: TrainerCallback) -> None:
    """A run in this process."""
    config = Path(f"{recipe['output_dir']}.yaml")
    config.write_text(yaml.safe_dump(recipe))
    sft.main(["--config", str(config)], callbacks=callbacks)


def test_a_killed_run_ends_with_the_weights_of_one_that_nobody_killed(checkpoint, tmp_path):
    short = local_data() | {"save_steps": 2}
    whole, broken = (base_recipe(checkpoint, tmp_path / name, steps=4) | short for name in ("whole", "broken"))
    run_forked(lambda: train(whole), tmp_path / "whole.log")
    killed = Child(lambda: train(broken, Dies()), tmp_path / "killed.log")
    assert killed.wait() == -signal.SIGKILL, killed.said()
    run_forked(lambda: train(broken), tmp_path / "resumed.log")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken"))
    assert len(before) > 20 and before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert losses_of(tmp_path / "whole") == losses_of(tmp_path / "broken")


@pytest.mark.slow
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


def test_rows_are_streamed_from_a_hub_while_training(checkpoint, tmp_path, monkeypatch):
    stream_data(tmp_path / "rows", count=6)
    recipe = base_recipe(checkpoint, tmp_path / "run", steps=2) | {"stream": ["user/tracks"]}
    with HubStandIn("user/tracks", tmp_path / "rows").running() as hub:
        hub.stand_in_here(monkeypatch)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.endpoint)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        run_forked(lambda: train(recipe), tmp_path / "run.log")
    assert any("train.parquet" in asked for asked in hub.asked)
    assert (tmp_path / "run" / "model.safetensors").exists()
