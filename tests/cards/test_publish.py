"""`elysium publish`: what would go, what is missing, and what is sent."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from tiny import save_tiny_checkpoint, tiny_config

from elysium import cli
from elysium.cards import publish as publishing
from elysium.cards.publish import PublishError, plan_publish, publish
from elysium.modeling_elysium import ElysiumForConditionalGeneration, ElysiumModel
from elysium.modeling_elysium.model_card_elysium import model_card
from elysium.tracking.loading import SHIPPED

REPO = "owner/elysium-tiny"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("saved") / "checkpoint")


@pytest.fixture
def checkpoint(saved, tmp_path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(saved, tmp_path / "checkpoint")


def test_what_save_pretrained_writes_is_complete(checkpoint) -> None:
    plan = plan_publish(checkpoint, REPO)
    assert set(plan.files) == {path.name for path in checkpoint.iterdir()} and not plan.left_out
    assert {"README.md", "generation_config.json", "model.safetensors", "chat_template.jinja"} <= set(plan.files)
    assert plan.files["model.safetensors"] == (checkpoint / "model.safetensors").stat().st_size


def test_the_shipped_checkpoint_is_complete_and_names_its_license() -> None:
    assert plan_publish(SHIPPED / "elysium-tiny", REPO).license == "apache-2.0"


def test_a_sharded_checkpoint_is_complete(checkpoint) -> None:
    model = ElysiumForConditionalGeneration.from_pretrained(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    model.save_pretrained(checkpoint, max_shard_size="100KB")
    shards = [name for name in plan_publish(checkpoint, REPO).files if name.endswith(".safetensors")]
    assert len(shards) > 2
    (checkpoint / shards[1]).unlink()
    with pytest.raises(PublishError, match=f"no {shards[1]}"):
        plan_publish(checkpoint, REPO)


def test_leftovers_of_training_stay(checkpoint) -> None:
    for name in ("optimizer.pt", "training_args.bin", ".DS_Store", "notes.log"):
        (checkpoint / name).write_text("x")
    (checkpoint / "checkpoint-10").mkdir()
    plan = plan_publish(checkpoint, REPO)
    assert plan.left_out == {
        ".DS_Store": "hidden",
        "checkpoint-10": "a folder",
        "notes.log": "no part of a checkpoint",
        "optimizer.pt": "pickled: it can run code when it is loaded",
        "training_args.bin": "pickled: it can run code when it is loaded",
    }


def change_config(**values) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "must be a checkpoint folder with a config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "a config.json that is no JSON"),
        (change_config(model_type="llava"), "model_type 'llava' in config.json"),
        (change_config(auto_map={}), "no auto_map in config.json"),
        (lambda folder: (folder / "modeling_elysium.py").unlink(), "no modeling_elysium.py, which the code needs"),
        (lambda folder: (folder / "selector_elysium.py").unlink(), "no selector_elysium.py, which the code needs"),
        (lambda folder: (folder / "boxes_elysium.py").unlink(), "no boxes_elysium.py, which the code needs"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"12345678"), "a damaged model.safetensors"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json (processor.save"),
        (lambda folder: (folder / "README.md").unlink(), "no README.md (model.save"),
    ],
)
def test_an_incomplete_checkpoint_is_refused(damage, message, checkpoint) -> None:
    damage(checkpoint)
    with pytest.raises(PublishError) as refused:
        plan_publish(checkpoint, REPO)
    assert message in str(refused.value)


def test_everything_that_is_missing_is_named_at_once(checkpoint) -> None:
    for name in ("README.md", "model.safetensors", "selector_elysium.py"):
        (checkpoint / name).unlink()
    with pytest.raises(PublishError, match=r"no selector_elysium.py.*no model.safetensors.*no README.md"):
        plan_publish(checkpoint, REPO)


class RecordingHub:
    """Takes the place of the Hub's client, and keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict]] = []

    def create_repo(self, repo_id: str, **options):
        self.calls.append(("create_repo", {"repo_id": repo_id} | options))
        return f"https://huggingface.co/{repo_id}"

    def upload_folder(self, **options) -> None:
        self.calls.append(("upload_folder", options))


def test_the_files_of_the_plan_are_sent_and_no_others(checkpoint, monkeypatch) -> None:
    hub = RecordingHub()
    monkeypatch.setattr(publishing, "HfApi", lambda: hub)
    (checkpoint / "optimizer.pt").write_text("x")
    plan = plan_publish(checkpoint, REPO)
    assert publish(plan, private=True) == "https://huggingface.co/owner/elysium-tiny"
    (created, upload) = hub.calls
    assert created == ("create_repo", {"repo_id": REPO, "private": True, "exist_ok": True})
    assert set(upload[1]["allow_patterns"]) == set(plan.files)


def test_a_hub_that_cannot_be_reached_is_said(checkpoint, capsys) -> None:
    assert cli.run(["publish", str(checkpoint), REPO]) == 1  # the tests run offline
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("Error: the Hub must take owner/elysium-tiny, got ") and "hf auth whoami" in error


def test_a_dry_run_lists_and_sends_nothing(checkpoint, capsys, monkeypatch) -> None:
    monkeypatch.setattr(publishing, "HfApi", lambda: pytest.fail("the network was asked"))
    assert cli.run(["publish", str(checkpoint), REPO, "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert "  model.safetensors\n" in shown.out and "would go to owner/elysium-tiny" in shown.out
    assert "names no license" in shown.err
    assert cli.run(["publish", str(checkpoint), REPO, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["dry_run"] and plan["total_bytes"] == sum(plan["files"].values())


def test_a_name_that_is_no_repository_is_refused(checkpoint, capsys) -> None:
    assert cli.run(["publish", str(checkpoint), "a/b/c", "--dry-run"]) == 1
    assert "a repository must be named owner/name, got 'a/b/c'" in capsys.readouterr().err


def test_the_card_has_the_hubs_metadata_and_the_models_facts() -> None:
    config = tiny_config(trained_on="trained on nothing")
    card = ModelCard(model_card(config))
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "video-text-to-text")
    assert "custom_code" in card.data.tags
    assert "This checkpoint was trained on nothing." in card.text
    assert f"{config.num_kept_tokens} visual tokens per frame" in card.text


def test_saving_keeps_a_card_that_is_there(checkpoint) -> None:
    model = ElysiumModel.from_pretrained(checkpoint)
    (checkpoint / "README.md").write_text("mine")
    model.save_pretrained(checkpoint)
    assert (checkpoint / "README.md").read_text() == "mine"


def test_pushing_gives_a_repository_without_a_card_ours(checkpoint, monkeypatch) -> None:
    sent = []

    class Hub:
        def __init__(self, token=None) -> None:
            pass

        def create_repo(self, repo_id, **options):
            return type("Url", (), {"repo_id": f"owner/{repo_id}"})

        def file_exists(self, repo_id, name) -> bool:
            return repo_id == "owner/has-one"

        def upload_file(self, *, path_or_fileobj, path_in_repo, repo_id) -> None:
            sent.append((repo_id, path_in_repo, path_or_fileobj.decode()))

    base = "transformers.modeling_utils.PreTrainedModel.push_to_hub"
    monkeypatch.setattr("elysium.modeling_elysium.modeling_elysium.HfApi", Hub)
    monkeypatch.setattr(base, lambda self, repo_id, **options: f"pushed {repo_id}")
    model = ElysiumModel.from_pretrained(checkpoint)
    assert model.push_to_hub("has-one") == "pushed owner/has-one" and not sent
    assert model.push_to_hub("new") == "pushed owner/new"
    assert sent == [("owner/new", "README.md", model_card(model.config))]


def test_the_code_on_the_card_runs() -> None:
    (code,) = re.findall(
        r"```python\n(.*?)```", ModelCard.load(SHIPPED / "elysium-tiny" / "README.md").text, re.DOTALL
    )
    shapes = Path(__file__).parent.parent / "fixtures" / "media" / "shapes.mp4"
    for said, meant in {
        "FOLDER_OR_HUB_ID": SHIPPED / "elysium-tiny",
        "video.mp4": shapes,
        "red car": "red cross",
    }.items():
        assert said in code
        code = code.replace(said, str(meant))
    names: dict = {}
    exec(code, names)
    assert len(names["boxes"]) == 8 and all(box["box_xyxy_norm"] for box in names["boxes"])
