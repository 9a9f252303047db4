"""Checkpoints that load, and clear errors for those that do not."""

import json
import shutil
import warnings
from functools import cache

import numpy as np
import pytest
import torch
from tiny import tiny_model as build_model
from tiny import tiny_processor as build_processor
from transformers import AutoModel

import elysium.tracking.checkpoints as checkpoints
from elysium.modeling_elysium.modeling_elysium import ElysiumModel
from elysium.tracking.checkpoints import CheckpointError
from elysium.tracking.loading import load_checkpoint
from elysium.tracking.tracker import Tracker

tiny_model, tiny_processor = cache(build_model), cache(build_processor)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with the tiny random model."""
    folder = tmp_path_factory.mktemp("saved") / "tiny"
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


@pytest.fixture
def checkpoint(saved, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(saved, tmp_path / "checkpoint")


def test_a_saved_checkpoint_answers_as_the_model_that_was_saved(saved):
    frames = np.random.default_rng(0).integers(0, 255, (3, 48, 64, 3), dtype=np.uint8)
    loaded = Tracker.from_pretrained(saved, device="cpu")
    answers = [
        next(t.iter_track(frames, "a dog", fps=5)).answer for t in (loaded, Tracker(tiny_model(), tiny_processor()))
    ]
    assert answers[0] == answers[1]
    assert loaded.name == str(saved)


def test_dtype_and_device_are_those_asked_for(saved):
    tracker = Tracker.from_pretrained(saved, device="cpu", dtype=torch.bfloat16)
    assert (tracker.model.dtype, tracker.model.device.type, tracker.model.training) == (torch.bfloat16, "cpu", False)
    frames = np.zeros((2, 48, 64, 3), dtype=np.uint8)
    assert tracker.track(frames, "a dog", fps=5).complete


def test_a_checkpoint_that_comes_with_the_package_is_found_by_its_name(saved, tmp_path, monkeypatch):
    shutil.copytree(saved, tmp_path / "shipped" / "some-tiny")
    monkeypatch.setattr(checkpoints, "SHIPPED", tmp_path / "shipped")
    monkeypatch.chdir(tmp_path)
    assert Tracker.from_pretrained("some-tiny", device="cpu").name == "some-tiny"
    (tmp_path / "some-tiny").mkdir()
    with pytest.raises(CheckpointError, match="with a config.json, got some-tiny with nothing in it"):
        Tracker.from_pretrained("some-tiny")


@pytest.mark.parametrize("name", ["nobody/no-such-model", "no-such-model", "not a name", "/no/such/folder"])
def test_an_unknown_model_is_named_with_a_remedy(name):
    with pytest.raises(CheckpointError, match=f"an existing folder or a Hub id .* got {name}.*check the name"):
        Tracker.from_pretrained(name)


@pytest.mark.parametrize(
    ("device", "message"), [("banana", "must be cpu, cuda"), ("cuda:99", "must be on this machine")]
)
def test_a_device_that_is_not_there_is_refused_before_anything_is_loaded(device, message):
    with pytest.raises(ValueError, match=f"device {message}.*{device}"):
        Tracker.from_pretrained("no-such-model", device=device)


def test_a_mistyped_name_is_answered_with_what_comes_with_the_package():
    with pytest.raises(CheckpointError, match=r"check the name \(elysium-small comes with the package\)"):
        Tracker.from_pretrained("elysium tinny")


def test_a_folder_that_is_no_checkpoint_is_refused_with_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(CheckpointError, match="must be a checkpoint with a config.json, got .* with notes.txt"):
        Tracker.from_pretrained(tmp_path)


def test_a_file_in_place_of_a_folder_is_refused(saved):
    with pytest.raises(CheckpointError, match="got the file .*model.safetensors; give the folder"):
        Tracker.from_pretrained(saved / "model.safetensors")


def test_an_adapter_is_merged_into_the_base_model_that_it_names(saved, tmp_path):
    from peft import LoraConfig, get_peft_model

    model, _ = load_checkpoint(saved)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of libraries, too: a command would print them
        merged, _ = load_checkpoint(tmp_path / "adapter")
    expected = adapted.merge_and_unload().state_dict()
    assert merged.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in merged.state_dict().items())
    plain, _ = load_checkpoint(saved)
    assert any(not torch.equal(value, expected[name]) for name, value in plain.state_dict().items())


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ({}, {}, "must name its base model, got none"),
        (
            {"base_model_name_or_path": "no/such/base"},
            {},
            "must find its base model, got no/such/base in .*absolute path or Hub id there",
        ),
        ({"base_model_name_or_path": "elysium-tiny"}, {}, "must fit its base model.* for elysium-tiny"),
        (
            {"base_model_name_or_path": "elysium-tiny"},
            {"quantization_config": object()},
            "merged before its model is quantized",
        ),
    ],
    ids=["no base", "unknown base", "no weights", "quantized"],
)
def test_an_adapter_that_cannot_be_merged_is_refused(config, options, message, tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | ({"peft_type": "LORA"} if config else {})))
    with pytest.raises(CheckpointError, match=message):
        Tracker.from_pretrained(tmp_path, **options)


def test_another_kind_of_model_is_refused_rather_than_started_with_random_weights(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))
    with pytest.raises(CheckpointError, match="model_type 'elysium'.* with 'llama'"):
        Tracker.from_pretrained(checkpoint)


def test_a_config_that_is_no_json_is_refused(checkpoint):
    (checkpoint / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="config.json must be the config of a model"):
        Tracker.from_pretrained(checkpoint)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth"])
def test_a_pickle_checkpoint_is_refused_with_a_remedy(checkpoint, name):
    (checkpoint / "model.safetensors").unlink()
    torch.save(tiny_model().state_dict(), checkpoint / name)
    with pytest.raises(
        CheckpointError, match=f"must be safetensors, got only {name} .* can run code.*save_pretrained"
    ):
        Tracker.from_pretrained(checkpoint)


def test_a_checkpoint_without_weights_is_refused(checkpoint):
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="must hold weights"):
        Tracker.from_pretrained(checkpoint)


def test_weights_that_are_cut_short_are_refused(checkpoint):
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="must be safetensors that fit the config"):
        Tracker.from_pretrained(checkpoint)


def test_weights_with_missing_parameters_are_refused(checkpoint):
    from safetensors.torch import load_file, save_file

    tensors = load_file(checkpoint / "model.safetensors")
    removed = next(name for name in tensors if "multi_modal_projector" in name)
    del tensors[removed]
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="without 1 of them, such as .*multi_modal_projector"):
        Tracker.from_pretrained(checkpoint)


def test_a_checkpoint_without_its_processor_is_refused(checkpoint):
    for file in checkpoint.iterdir():
        if file.name not in ("config.json", "generation_config.json", "model.safetensors"):
            file.unlink()
    with pytest.raises(CheckpointError, match="must hold its processor"):
        Tracker.from_pretrained(checkpoint)


def test_what_automodel_gives_is_refused_with_the_class_to_use(saved):
    model = AutoModel.from_pretrained(saved)
    assert isinstance(model, ElysiumModel)
    with pytest.raises(TypeError, match="must have generate, got ElysiumModel.*AutoModelForImageTextToText"):
        Tracker(model, tiny_processor())


def test_a_processor_of_another_model_is_refused_with_both_numbers(saved):
    tracker = Tracker.from_pretrained(saved)
    kept = tracker.processor.num_kept_tokens
    tracker.processor.num_kept_tokens = kept + 1
    with pytest.raises(ValueError, match=f"got num_kept_tokens {kept} and {kept + 1}"):
        Tracker(tracker.model, tracker.processor)
