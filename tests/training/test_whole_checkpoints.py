"""Checkpoints are whole or not there: a save that fails in the middle, half ones of others, rotation, the best one."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import TrainerCallback, TrainingArguments

from elysium.processing.atomic_files import OutputError
from elysium.training.grpo import ElysiumGRPOTrainer
from elysium.training.sft_trainer import ElysiumSFTTrainer
from elysium.training.whole_checkpoints import WholeCheckpoints, checkpoint_fault, last_whole_checkpoint


class Line(nn.Module):
    """y = ax + b."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1)

    def forward(self, x, labels):
        guess = self.line(x)
        return {"loss": ((guess - labels) ** 2).mean(), "logits": guess}


class Points(torch.utils.data.Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, index):
        x = torch.tensor([index / 16])
        return {"x": x, "labels": 3 * x + 1}


def trainer_of(folder, steps=4, callbacks=(), **options):
    torch.manual_seed(0)
    settings = {"save_steps": 1, "save_strategy": "steps", "max_steps": steps, "logging_steps": 1, "seed": 0} | options
    args = TrainingArguments(
        output_dir=str(folder), use_cpu=True, report_to="none", disable_tqdm=True, learning_rate=0.1, **settings
    )
    return WholeCheckpoints(
        model=Line(), args=args, train_dataset=Points(), eval_dataset=Points(), callbacks=list(callbacks)
    )


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Interrupt(TrainerCallback):
    """Spoils one of the trainer's own steps of a save from some step on."""

    def __init__(self, step, method, fault):
        self.step, self.method, self.fault, self.trainer = step, method, fault, None

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step + 1 == self.step:
            setattr(self.trainer, self.method, self.fault)


def test_both_other_trainers_save_whole_checkpoints():
    for trainer in (ElysiumSFTTrainer, ElysiumGRPOTrainer):
        assert trainer._save_checkpoint.__qualname__ == "WholeCheckpoints._save_checkpoint"


@pytest.mark.parametrize("method", ["_save", "_save_optimizer_and_scheduler", "_save_rng_state"])
@pytest.mark.parametrize("error", [full_disk, KeyboardInterrupt], ids=["full disk", "interrupt"])
def test_a_save_that_fails_leaves_nothing_and_the_run_resumes_to_the_same_end(method, error, tmp_path):
    whole = trainer_of(tmp_path / "whole")
    whole.train()

    def fault(*args, **kwargs):
        if error is full_disk:
            full_disk()
        raise error

    spoil = Interrupt(3, method, fault)
    trainer = trainer_of(tmp_path / "run", callbacks=[spoil])
    spoil.trainer = trainer
    with pytest.raises(OutputError if error is full_disk else KeyboardInterrupt) as caught:
        trainer.train()
    if error is full_disk:
        assert "No space left on device" in str(caught.value) and "start again with the same command" in str(
            caught.value
        )
    assert names(tmp_path / "run") == ["checkpoint-1", "checkpoint-2"]

    again = trainer_of(tmp_path / "run")
    again.train(resume_from_checkpoint=True)
    assert names(tmp_path / "run") == [f"checkpoint-{step}" for step in (1, 2, 3, 4)]
    ends = [load_file(tmp_path / run / "checkpoint-4" / "model.safetensors") for run in ("whole", "run")]
    assert ends[0].keys() == ends[1].keys() and all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_leftovers_of_a_killed_process_are_swept_by_the_next_save(tmp_path):
    (tmp_path / ".saving.part" / "checkpoint-7").mkdir(parents=True)
    trainer_of(tmp_path, steps=1).train()
    assert names(tmp_path) == ["checkpoint-1"]


def test_old_checkpoints_go_but_not_the_best_which_is_named_by_its_own_place(tmp_path):
    losses = {1: 5.0, 2: 1.0, 3: 4.0, 4: 3.0}

    class Scripted(WholeCheckpoints):
        def evaluate(self, *args, **kwargs):
            metrics = {"eval_loss": losses[self.state.global_step]}
            self.log(metrics)
            return metrics

    trainer = trainer_of(
        tmp_path, eval_strategy="steps", eval_steps=1, load_best_model_at_end=True, save_total_limit=2
    )
    trainer.__class__ = Scripted
    trainer.train()
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-4"]
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-2")
    for step in (2, 4):
        state = json.loads((tmp_path / f"checkpoint-{step}" / "trainer_state.json").read_text())
        assert state["best_model_checkpoint"] == str(tmp_path / "checkpoint-2")
    best = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    assert all(torch.equal(value, best[name]) for name, value in trainer.model.state_dict().items())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    trainer_of(folder, steps=3).train()
    return folder


@pytest.mark.parametrize(
    ("name", "kept", "fault"),
    [
        ("trainer_state.json", 0, "no trainer_state.json"),
        ("trainer_state.json", 40, "no trainer_state.json"),
        ("trainer_state.json", None, "no trainer_state.json"),
        ("model.safetensors", 100, "model.safetensors cut short"),
        ("optimizer.pt", 200, "optimizer.pt cut short"),
        ("rng_state.pth", 0, "rng_state.pth cut short"),
    ],
)
def test_a_resume_takes_the_newest_whole_checkpoint_and_warns(name, kept, fault, run, tmp_path):
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    spoilt = tmp_path / "checkpoint-3" / name
    content = spoilt.read_bytes()
    spoilt.unlink()
    if kept is not None:
        spoilt.write_bytes(content[:kept])
    assert checkpoint_fault(tmp_path / "checkpoint-2") is None
    with pytest.warns(UserWarning, match=f"checkpoint-3 is not whole .*{fault}"):
        assert last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    with (
        pytest.warns(UserWarning, match="checkpoint-3 is not whole"),
        pytest.raises(ValueError, match=rf"must be whole, got .*checkpoint-3 with .*{fault}.*whole one is .*-2"),
    ):
        trainer_of(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    trainer = trainer_of(tmp_path)
    with pytest.warns(UserWarning, match="checkpoint-3 is not whole"):
        trainer.train(resume_from_checkpoint=True)
    assert checkpoint_fault(tmp_path / "checkpoint-3") is checkpoint_fault(tmp_path / "checkpoint-4") is None


def test_a_run_without_a_whole_checkpoint_begins_anew(tmp_path):
    assert last_whole_checkpoint(tmp_path) is last_whole_checkpoint(tmp_path / "no") is None
    with pytest.raises(ValueError, match="a whole checkpoint to resume, got none"):
        trainer_of(tmp_path).train(resume_from_checkpoint=True)


def test_the_model_at_the_end_is_whole_or_as_it_was(run, tmp_path, monkeypatch):
    trainer = trainer_of(tmp_path)
    trainer.save_model()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {"model.safetensors", "training_args.bin"} <= before.keys()
    with torch.no_grad():
        trainer.model.line.weight.add_(1)
    monkeypatch.setattr(torch, "save", full_disk)  # of training_args.bin, which comes last
    with pytest.raises(OutputError, match="No space left on device"):
        trainer.save_model()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
