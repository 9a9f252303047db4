"""`elysium.training.sft` end to end on a model of a second: recipes, stages, frozen parts, streams, broken data."""

import dataclasses
import inspect
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from miniatures import build_elysium_track
from row_miniatures import build_llava_pretrain
from safetensors.torch import load_file
from tiny import save_tiny_checkpoint
from trl import TrlParser

from elysium.tracking.checkpoints import CheckpointError
from elysium.tracking.tracker import Tracker
from elysium.training import sft
from elysium.training.catalogue import SOURCES
from elysium.training.model_parts import part_name
from elysium.training.sft_arguments import DataArguments, ElysiumSFTConfig, ModelArguments
from elysium.training.sft_trainer import DROPPED_FILE, selector_loss

pytestmark = pytest.mark.usefixtures("small_worlds")
RECIPES = Path(sft.__file__).parent / "recipes"
SMALL = {
    "use_cpu": True,
    "bf16": False,
    "dtype": "float32",
    "activation_checkpointing": False,
    "dataloader_num_workers": 0,
    "per_device_train_batch_size": 2,
    "logging_steps": 1,
    "save_steps": 100,
    "max_length": 600,
    "question_frames": 3,
    "warmup_steps": 0,
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


def run(recipe: str | None, folder: Path, *, model: str, **changes) -> dict[str, torch.Tensor]:
    """Trains by a recipe with values changed, and returns the weights."""
    values = yaml.safe_load((RECIPES / f"{recipe}.yaml").read_text()) if recipe else {}
    values = values | SMALL | {"output_dir": str(folder), "report_to": "none", "model_name_or_path": model} | changes
    config = folder.parent / f"{folder.name}.yaml"
    config.write_text(yaml.safe_dump(values))
    sft.main(["--config", str(config)])
    return load_file(folder / "model.safetensors")


def history(folder: Path) -> list[dict]:
    """What the last checkpoint of a run had logged."""
    last = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return json.loads((last / "trainer_state.json").read_text())["log_history"]


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """The parts of the model of which a tensor is not the same, bit for bit."""
    assert before.keys() == after.keys()
    return {part_name(name) or name for name in before if not torch.equal(before[name], after[name])}


ALL_PARTS = {"vision_tower", "selector", "multi_modal_projector", "language_model", "lm_head"}
SYNTHETIC = {"source": "synthetic", "count": 40, "width": 64, "height": 48, "frames": 8}


def test_the_four_stages_follow_one_another_and_each_changes_what_it_trains(checkpoint, tmp_path):
    llava = build_llava_pretrain(tmp_path / "llava")
    pictures = {"source": "llava-pretrain", "path": str(next(llava.glob("*.json"))), "images": str(llava)}
    tracks = {"source": "elysium-track", "path": str(build_elysium_track(tmp_path / "tracks") / "rows.jsonl")}
    start = load_file(checkpoint / "model.safetensors")

    aligned = run("stage1a_align", tmp_path / "1a", model=str(checkpoint), data=[pictures], max_steps=3)
    assert changed(start, aligned) == {"selector", "multi_modal_projector"}
    mixed = [pictures | {"weight": 1}, SYNTHETIC | {"frames": 1, "weight": 2}]
    pretrained = run("stage1b_pretrain", tmp_path / "1b", model=str(tmp_path / "1a"), data=mixed, max_steps=3)
    assert changed(aligned, pretrained) >= ALL_PARTS
    videos = [tracks | {"weight": 2}, SYNTHETIC | {"weight": 1}, SYNTHETIC | {"about": "questions", "weight": 1}]
    instructed = run("stage2a_instruct", tmp_path / "2a", model=str(tmp_path / "1b"), data=videos, max_steps=3)
    assert changed(pretrained, instructed) >= ALL_PARTS
    # The miniature has ten frames a video: a clip of 32 falls back to what there is.
    long = run("stage2b_long", tmp_path / "2b", model=str(tmp_path / "2a"), data=[tracks], max_steps=2)
    assert changed(instructed, long) >= ALL_PARTS
    tracker = Tracker.from_pretrained(tmp_path / "2b")
    assert len(tracker.track(tmp_path / "tracks" / "frames" / "a", "it").tracks[0]) == 10


def test_parts_have_rates_of_their_own_and_the_selector_its_loss(checkpoint, tmp_path):
    start = load_file(checkpoint / "model.safetensors")
    common = {
        "model": str(checkpoint),
        "data": [SYNTHETIC],
        "tasks": {"sot": 1},
        "max_steps": 1,
        "min_frames": 2,
    }
    frozen_tower = run(None, tmp_path / "rate", learning_rates={"vision_tower": 0.0}, learning_rate=1e-3, **common)
    assert changed(start, frozen_tower) == ALL_PARTS - {"vision_tower"}
    alone = run(None, tmp_path / "gate", train_parts=["selector"], selector_loss=1.0, save_steps=1, **common)
    assert changed(start, alone) == {"selector"}
    logged = history(tmp_path / "gate")[0]
    assert logged["selector_loss"] > 0 and 0 <= logged["sot_token_accuracy"] <= 1


def test_the_selector_s_loss_counts_known_frames_alone():
    # Scores of 0 say a half everywhere: the loss of a known frame is log 2, whatever its targets are.
    scores = torch.zeros(3, 4)
    targets = torch.tensor([[0, 0.5, 1, 0], [float("nan")] * 4, [1, 1, 1, 1]])
    assert selector_loss(scores, targets).item() == pytest.approx(0.6931, abs=1e-4)
    assert selector_loss(scores, targets * float("nan")).item() == 0


def test_held_out_boxes_curves_and_card_come_with_a_run(checkpoint, tmp_path):
    run(
        "cpu",
        tmp_path / "run",
        model=str(checkpoint),
        data=[SYNTHETIC | {"weight": 2}],
        eval_data=[SYNTHETIC | {"count": 4, "seed": 9}],
        eval_boxes=3,
        max_steps=2,
        eval_steps=2,
        save_steps=2,
        trained_on="trained on a test",
    )
    names = {name for entry in history(tmp_path / "run") for name in entry}
    assert {"loss", "eval_loss", "selector_loss", "learning_rate"} <= names
    assert any(name.endswith("_iou") for name in names) and any(name.endswith("_token_accuracy") for name in names)
    card = (tmp_path / "run" / "README.md").read_text()
    assert "source: synthetic" in card and "weight: 2" in card and "| loss |" in card and "trained on a test" in card
    assert (tmp_path / "run" / "training.png").stat().st_size > 1000


def train_adapter(folder: Path, *, model: str, **changes) -> Path:
    """Trains an adapter by its recipe with values changed, and returns its folder."""
    values = yaml.safe_load((RECIPES / "lora.yaml").read_text()) | SMALL
    values |= {"data": [SYNTHETIC], "max_steps": 2, "output_dir": str(folder), "model_name_or_path": model} | changes
    config = folder.parent / f"{folder.name}.yaml"
    config.write_text(yaml.safe_dump(values))
    sft.main(["--config", str(config)])
    return folder


def test_a_fine_tuned_checkpoint_names_its_start_and_its_data(checkpoint, tmp_path):
    start = tmp_path / "start"
    shutil.copytree(checkpoint, start)
    config = json.loads((start / "config.json").read_text())
    assert "synthetic scenes" in config["trained_on"]
    common = {"tasks": {"sot": 1}, "max_steps": 1, "min_frames": 2}
    run(None, tmp_path / "one", model=str(start), data=[SYNTHETIC], **common)
    tracks = {"source": "elysium-track", "path": str(build_elysium_track(tmp_path / "tracks") / "rows.jsonl")}
    run(None, tmp_path / "two", model=str(tmp_path / "one"), data=[tracks], **common)
    sentence = "derived from start, fine-tuned on synthetic, fine-tuned on rows.jsonl"
    assert Tracker.from_pretrained(tmp_path / "two").trained_on == sentence
    assert f"This checkpoint was {sentence}." in (tmp_path / "two" / "README.md").read_text()


def test_an_adapter_names_its_base_absolutely_and_loads_from_any_folder(checkpoint, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(checkpoint, tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    train_adapter(tmp_path / "first", model="base")
    written = json.loads(Path("first/adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == str(tmp_path / "base")
    train_adapter(tmp_path / "second", model="first")  # an adapter on an adapter: its base is not the first one's
    monkeypatch.chdir(tmp_path / "elsewhere")
    sentence = "derived from base, with the adapter first, with the adapter second"
    assert Tracker.from_pretrained(tmp_path / "second").trained_on == sentence
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(CheckpointError, match="must find its base model, got .*base in .*base_model_name_or_path"):
        Tracker.from_pretrained(tmp_path / "second")


def test_an_adapter_is_saved_with_the_parts_that_learn_in_full(checkpoint, tmp_path):
    train_adapter(tmp_path / "adapter", model=str(checkpoint))
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert any("lora_B" in name and tensor.abs().sum() > 0 for name, tensor in saved.items())
    assert any("multi_modal_projector" in name for name in saved)
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    Tracker.from_pretrained(tmp_path / "adapter")


def test_broken_rows_are_counted_and_training_goes_on(checkpoint, tmp_path):
    tracks = build_elysium_track(tmp_path / "tracks")
    (tracks / "frames" / "a" / "0003.jpg").write_bytes(b"no picture")
    rows = (tracks / "rows.jsonl").read_text().splitlines()
    broken = json.loads(rows[1]) | {"box": [[0.5, 0.5, 7.0, 0.9]] * 10, "id": "outside"}
    (tracks / "rows.jsonl").write_text("\n".join([*rows, json.dumps(broken)]) + "\n")
    data = [{"source": "elysium-track", "path": str(tracks / "rows.jsonl")}]
    options = {
        "model": str(checkpoint),
        "data": data,
        "tasks": {"sot": 1},
        "min_frames": 8,
        "max_interval": 1,
    }
    run(None, tmp_path / "run", max_steps=6, save_steps=6, **options)
    dropped = [json.loads(line) for line in (tmp_path / "run" / DROPPED_FILE).read_text().splitlines()]
    assert {item["reason"] for item in dropped} == {
        "a frame must be an image that opens",
        "boxes of a row must be in 0..1",
    }
    assert history(tmp_path / "run")[-1]["dropped"] == len(dropped)


def test_too_much_that_is_broken_in_a_row_stops_the_run_with_counts(checkpoint, tmp_path):
    tracks = build_elysium_track(tmp_path / "tracks")
    for picture in tracks.rglob("*.jpg"):
        picture.unlink()
    data = [{"source": "elysium-track", "path": str(tracks / "rows.jsonl")}]
    with pytest.raises(SystemExit, match="fewer than 4 items in a row may be broken, got 4 .*4 x a frame must be"):
        run(None, tmp_path / "run", model=str(checkpoint), data=data, max_steps=9, max_broken_in_row=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": [{"source": "nothing"}]}, "a source must be one of elysium-track"),
        ({"data": [SYNTHETIC, SYNTHETIC | {"weight": 1}]}, "all sources or none must have a weight"),
        ({"data": []}, "name data, stream or objective"),
        ({"data": [SYNTHETIC], "train_parts": ["eyes"]}, "parts must be of vision_tower.*got eyes"),
        ({"data": [SYNTHETIC], "tasks": {"fly": 1}}, "weights above 0 of rec"),
        ({"data": [SYNTHETIC], "model": "no/such/folder"}, "model must be an existing folder"),
        ({"stream": ["a/b"], "max_steps": -1}, "max_steps must be above 0"),
        ({"data": [SYNTHETIC], "max_length": 20, "max_steps": 1}, r"at most max_length \(20\)"),
        ({"data": [SYNTHETIC], "use_peft": True, "train_parts": ["selector"]}, "must be empty with use_peft"),
        ({"data": [SYNTHETIC], "load_in_4bit": True}, "model_revision must be left out"),
    ],
    ids=lambda value: next(iter(value)) + str(len(str(value))) if isinstance(value, dict) else None,
)
def test_a_recipe_that_cannot_be_trained_is_refused_in_one_line(changes, message, checkpoint, tmp_path):
    with pytest.raises(SystemExit, match=message):
        run(None, tmp_path / "run", **({"model": str(checkpoint)} | changes))
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    "name", ["stage1a_align", "stage1b_pretrain", "stage2a_instruct", "stage2b_long", "lora", "cpu"]
)
def test_a_recipe_names_only_what_the_trainer_reads_and_is_headed_by_its_command(name):
    path = RECIPES / f"{name}.yaml"
    assert f"training/recipes/{name}.yaml" in path.read_text().partition("model_name_or_path:")[0]
    parser = TrlParser((ModelArguments, DataArguments, ElysiumSFTConfig))
    model, data, training = parser.parse_args_and_config(
        ["--config", str(path), "--use_cpu", "true", "--bf16", "false"]
    )
    named = set(yaml.safe_load(path.read_text()))
    assert named <= {field.name for kind in (model, data, training) for field in dataclasses.fields(kind)}
    for spec in data.sources:
        known = inspect.signature(SOURCES[spec["source"]]).parameters
        assert set(spec) - {"source", "weight"} <= set(known)
