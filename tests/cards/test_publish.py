"""`elysium publish`: what would go, what is missing, what must not go, and what a stand-in of the Hub is sent."""

import json
import os
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_stand_in import HubStandIn, Repository
from huggingface_hub import ModelCard, constants, snapshot_download
from tiny import save_tiny_checkpoint, tiny_config

from elysium import cli
from elysium.cards import folder_files
from elysium.cards import publish as publishing
from elysium.cards.publish import PublishError, kind_of, plan_publish, publish
from elysium.cards.unsafe_files import find_secret
from elysium.modeling_elysium import ElysiumForConditionalGeneration, ElysiumModel
from elysium.modeling_elysium.hub_folder_elysium import model_card
from elysium.tracking.checkpoints import SHIPPED

REPO = "owner/elysium-tiny"
CARD = "---\nlicense: mit\n---\n\n# Mine\n"
# Written in two parts, so that no search for secrets finds this file.
SECRETS = {
    "a Hugging Face token": "hf_" + "aB3" * 12,
    "an OpenAI or Anthropic key": "sk-proj-" + "aB3_" * 8,
    "a GitHub token": "ghp_" + "aB3" * 12,
    "an AWS key": "AKIA" + "ABCD" * 4,
    "a Google key": "AIza" + "aB3-_" * 7,
    "a Slack token": "xoxb-" + "123456-abc",
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "an address with a password": "https://me:" + "secret@example.org",
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("saved") / "checkpoint")


@pytest.fixture
def checkpoint(saved, tmp_path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(saved, tmp_path / "checkpoint")


@pytest.fixture
def dataset(tmp_path) -> Path:
    """Rows with a picture beside them."""
    folder = tmp_path / "rows"
    (folder / "frames" / "a").mkdir(parents=True)
    (folder / "frames" / "a" / "0000.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "rows.jsonl").write_text(json.dumps({"id": "a_0", "frames": ["frames/a/0000.jpg"]}) + "\n")
    (folder / "README.md").write_text(CARD)
    return folder


@pytest.fixture
def hub(monkeypatch) -> Iterator[HubStandIn]:
    """A Hub that takes what this process sends."""
    with HubStandIn().running() as hub:
        hub.stand_in_here(monkeypatch)
        yield hub


def refusal(folder: Path, **options) -> str:
    """Why a folder is not published."""
    with pytest.raises(PublishError) as refused:
        plan_publish(folder, REPO, **options)
    return str(refused.value)


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
    assert f"no {shards[1]}" in refusal(checkpoint)


def test_leftovers_of_training_stay(checkpoint) -> None:
    for name in ("optimizer.pt", "training_args.bin", "training_heads.safetensors", ".DS_Store", "notes.log"):
        (checkpoint / name).write_text("x")
    (checkpoint / "checkpoint-10").mkdir()
    pickled = "pickled, by a trainer: it can run code when it is loaded"
    assert plan_publish(checkpoint, REPO).left_out == {
        ".DS_Store": "hidden",
        "checkpoint-10": "a folder",
        "notes.log": "no part of a checkpoint",
        "optimizer.pt": pickled,
        "training_args.bin": pickled,
        "training_heads.safetensors": "no part of a checkpoint",
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
        (lambda folder: (folder / "README.md").unlink(), "no README.md (python -m elysium.cards.render_card model"),
        (
            lambda folder: (folder / "README.md").write_text("---\n- a\n---\nb"),
            "a README.md whose head is no metadata",
        ),
        (lambda folder: (folder / "README.md").write_text("---\nlicense: mit\n---\n"), "a README.md without a text"),
        (lambda folder: (folder / "model.bin").write_text("x"), "model.bin, which is pickled"),
        (lambda folder: (folder / "notes.txt").write_text(SECRETS["a Hugging Face token"]), "a Hugging Face token in"),
    ],
)
def test_a_checkpoint_that_is_incomplete_or_unsafe_is_refused(damage, message, checkpoint) -> None:
    damage(checkpoint)
    assert message in refusal(checkpoint, kind="model")


def test_everything_that_is_missing_is_named_at_once(checkpoint) -> None:
    for name in ("README.md", "model.safetensors", "selector_elysium.py"):
        (checkpoint / name).unlink()
    message = refusal(checkpoint)
    assert all(f"no {name}" in message for name in ("selector_elysium.py", "model.safetensors", "README.md"))


def test_what_a_folder_holds_is_seen(checkpoint, dataset, tmp_path) -> None:
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "app.py").touch()
    (tmp_path / "nothing").mkdir()
    assert [kind_of(folder) for folder in (checkpoint, dataset, tmp_path / "space")] == ["model", "dataset", "space"]
    assert "must be a checkpoint (with a config.json), a dataset" in refusal(tmp_path / "nothing")


def test_a_data_set_goes_with_its_folders_and_without_what_is_hidden(dataset) -> None:
    (dataset / ".cache").mkdir()
    (dataset / ".cache" / "x.jsonl").touch()
    (dataset / "loading_script.py").touch()
    plan = plan_publish(dataset, REPO)
    assert (plan.kind, set(plan.files)) == ("dataset", {"README.md", "frames/a/0000.jpg", "rows.jsonl"})
    assert plan.left_out == {".cache": "hidden", "loading_script.py": "no part of a dataset"}


def test_rows_that_name_files_of_this_machine_are_refused(dataset) -> None:
    nested = [{"role": "user", "content": [{"type": "video", "video": str(dataset / "a.mp4")}]}]
    pq.write_table(pa.Table.from_pylist([{"messages": nested}]), dataset / "train.parquet")
    assert f"a train.parquet that names a file of this machine, {dataset / 'a.mp4'}" in refusal(dataset)


def test_a_damaged_file_of_a_data_set_is_refused(dataset) -> None:
    (dataset / "train.parquet").write_bytes(b"PAR1")
    (dataset / "rows.jsonl").write_text("{")
    assert "a damaged rows.jsonl" in refusal(dataset) and "a damaged train.parquet" in refusal(dataset)


def test_parquet_that_cannot_be_searched_to_its_end_is_refused(dataset) -> None:
    texts = pa.array([b"fine", b"\xff" + SECRETS["a Hugging Face token"].encode()]).cast(pa.string(), safe=False)
    pq.write_table(pa.table({"words": texts}), dataset / "train.parquet", row_group_size=1)
    assert refusal(dataset).count("a damaged train.parquet") == 1


def test_a_damaged_archive_is_refused(dataset) -> None:
    (dataset / "noise.tar").write_bytes(b"\x93" * 3000)
    with tarfile.open(dataset / "cut.tar", "w") as archive:
        archive.add(dataset / "rows.jsonl", "0.json")
    (dataset / "cut.tar").write_bytes((dataset / "cut.tar").read_bytes()[:520])
    with zipfile.ZipFile(dataset / "more.zip", "w") as archive:
        archive.write(dataset / "rows.jsonl")
    (dataset / "more.zip").write_bytes((dataset / "more.zip").read_bytes().replace(b"PK\x01\x02", b"PK\x09\x09"))
    message = refusal(dataset)
    assert all(f"a damaged {name}" in message for name in ("noise.tar", "cut.tar", "more.zip"))


def test_a_data_set_without_a_card_is_refused_with_what_writes_one(dataset) -> None:
    (dataset / "README.md").unlink()
    assert "no README.md (python -m elysium.cards.render_card dataset writes it)" in refusal(dataset)


def test_pickles_are_found_under_other_names_and_in_archives(dataset) -> None:
    (dataset / "data.json").write_bytes(pickle.dumps({"a": 1}))
    with tarfile.open(dataset / "shard.tar", "w") as archive:
        archive.add(dataset / "data.json", "000.pkl")
    message = refusal(dataset)
    assert "data.json, which is a pickle under another name" in message
    assert "shard.tar, which holds the pickle 000.pkl" in message


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_are_found_and_not_repeated(name, tmp_path) -> None:
    (tmp_path / "a.md").write_text("x" * (1 << 20) + f"\nfirst\nkey = '{SECRETS[name]}'\n")
    assert find_secret(tmp_path / "a.md") == f"{name} in line 3"


def test_secrets_are_found_in_parquet_and_in_shards(tmp_path) -> None:
    token = SECRETS["a Hugging Face token"]
    asked = [{"from": "human", "value": f"is {token} mine?"}]
    said = {"conversations": [asked], "picture": [{"bytes": token.encode()}]}
    pq.write_table(pa.table({"words": ["a", None]}), tmp_path / "clean.parquet")
    pq.write_table(pa.table(said), tmp_path / "rows.parquet")
    pq.write_table(pa.table({"picture": said["picture"]}), tmp_path / "pictures.parquet")
    assert find_secret(tmp_path / "rows.parquet") == "a Hugging Face token in the column conversations"
    assert find_secret(tmp_path / "clean.parquet") is None and find_secret(tmp_path / "pictures.parquet") is None
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, text in (("0.txt", "nothing"), ("1.json", f'{{"caption": "{token}"}}')):
            (tmp_path / name).write_text(text)
            archive.add(tmp_path / name, name)
    assert find_secret(tmp_path / "a.tar") == "a Hugging Face token in 1.json"


def test_code_and_documents_of_the_project_hold_no_secrets() -> None:
    root = Path(publishing.__file__).resolve().parent.parent
    texts = [path for folder in ("cards", "docs", "tests", "training") for path in (root / folder).rglob("*.*")]
    assert len(texts) > 100 and not [path for path in texts if path.is_file() and find_secret(path)]


@pytest.mark.parametrize("kind", [None, "model", "dataset", "space"])
@pytest.mark.parametrize("place", ["/", "/usr", "/proc/self", "/tmp", "~", "~/.."])
def test_a_folder_of_the_system_is_refused_before_it_is_walked(place, kind, monkeypatch) -> None:
    monkeypatch.setattr("os.walk", lambda *_: pytest.fail("it was walked"))
    monkeypatch.setattr("pathlib.Path.rglob", lambda *_: pytest.fail("it was walked"))
    assert "must be one folder with nothing else in it, got /" in refusal(Path(place).expanduser(), kind=kind)


@pytest.mark.parametrize(
    ("name", "most", "what"),
    [("MAX_FILES", 2, "2 files"), ("MAX_BYTES", 40, "40 bytes"), ("MAX_DEPTH", 1, "1 levels")],
)
@pytest.mark.parametrize("kind", [None, "dataset"])
def test_a_folder_beyond_a_bound_is_refused(name, most, what, kind, dataset, monkeypatch) -> None:
    assert plan_publish(dataset, REPO).files
    monkeypatch.setattr(folder_files, name, most)
    assert f"must hold at most {what}" in refusal(dataset, kind=kind)


def test_checkpoints_of_a_run_beside_a_model_do_not_count(checkpoint, monkeypatch) -> None:
    (checkpoint / "checkpoint-10" / "a" / "b").mkdir(parents=True)
    monkeypatch.setattr(folder_files, "MAX_DEPTH", 0)
    assert plan_publish(checkpoint, REPO).left_out == {"checkpoint-10": "a folder"}


def test_the_source_of_a_package_is_not_taken_for_a_data_set(dataset, capsys) -> None:
    (dataset / "pyproject.toml").touch()
    assert cli.run(["publish", str(dataset), REPO, "--dry-run"]) == 1
    assert "the source code of a package; give the folder inside it" in capsys.readouterr().err
    assert plan_publish(dataset, REPO, kind="dataset").left_out["pyproject.toml"] == "no part of a dataset"


def test_environments_and_what_is_no_file_stay(dataset) -> None:
    for folder in ("env", "logs", "node_modules", ".venv"):
        (dataset / folder).mkdir()
        (dataset / folder / "rows.jsonl").write_text("{")
    (dataset / "env" / "pyvenv.cfg").touch()
    os.mkfifo(dataset / "pipe.json")
    assert plan_publish(dataset, REPO).left_out == {
        ".venv": "hidden",
        "env": "a virtual environment",
        "logs": "logs of a run",
        "node_modules": "packages of JavaScript",
        "pipe.json": "a pipe, a socket or a device",
    }


def test_what_changed_since_it_was_checked_is_not_sent(dataset, hub) -> None:
    plan = plan_publish(dataset, REPO)
    (dataset / "later.jsonl").write_text("{}")
    publish(plan)  # what came later was not checked, and stays
    assert sorted(hub.repositories["dataset", REPO].files) == sorted(plan.files)
    (dataset / "rows.jsonl").write_text("{}")
    with pytest.raises(PublishError, match="must stay as they were checked, got .*rows.jsonl with .* and 2 now"):
        publish(plan)
    (dataset / "rows.jsonl").unlink()
    with pytest.raises(PublishError, match="and no such file now"):
        publish(plan)


def test_all_files_of_the_plan_are_sent_and_no_others(checkpoint, hub) -> None:
    (checkpoint / "optimizer.pt").write_text("x")
    (checkpoint / "checkpoint-10").mkdir()
    (checkpoint / "checkpoint-10" / "README.md").write_text("x")
    plan = plan_publish(checkpoint, REPO)
    assert publish(plan, private=True) == f"{hub.endpoint}/{REPO}"
    held = hub.repositories["model", REPO]
    assert held.private and held.commits == [sorted(plan.files)]
    assert all(held.files[name] == (checkpoint / name).read_bytes() for name in plan.files)


def test_an_upload_that_broke_off_goes_on_where_it_stopped(checkpoint, hub) -> None:
    model = ElysiumForConditionalGeneration.from_pretrained(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    model.save_pretrained(checkpoint, max_shard_size="100KB")
    shards = sum(1 for path in checkpoint.glob("*.safetensors"))
    hub.uploads_left = 2
    with pytest.raises(PublishError, match=r"the Hub must take owner/elysium-tiny, got .* publish again"):
        publish(plan_publish(checkpoint, REPO))
    assert len(hub.uploads) == 2 < shards and not hub.repositories["model", REPO].commits
    hub.uploads_left = None
    publish(plan_publish(checkpoint, REPO))
    assert len(hub.uploads) == len(set(hub.uploads)) == shards  # none was sent twice
    publish(plan_publish(checkpoint, REPO))
    assert len(hub.uploads) == shards and len(hub.repositories["model", REPO].commits) == 1


def test_a_head_that_the_hub_does_not_take_stops_before_anything_is_sent(dataset, hub) -> None:
    (dataset / "README.md").write_text("---\nsize_categories: many\n---\n\n# Mine\n")
    with pytest.raises(PublishError, match="size_categories"):
        publish(plan_publish(dataset, REPO))
    assert not hub.uploads and not hub.repositories["dataset", REPO].commits


def test_a_data_set_comes_back_as_it_was(dataset, hub, tmp_path) -> None:
    assert cli.run(["publish", str(dataset), "owner/rows"]) == 0
    back = snapshot_download("owner/rows", repo_type="dataset", cache_dir=tmp_path / "cache")
    sent = {path.relative_to(dataset) for path in dataset.rglob("*") if path.is_file()}
    assert {path.relative_to(back) for path in Path(back).rglob("*") if path.is_file()} == sent
    assert all((Path(back) / name).read_bytes() == (dataset / name).read_bytes() for name in sent)


@pytest.mark.parametrize("offline", [True, False])
def test_a_hub_that_cannot_be_reached_is_said(offline, checkpoint, capsys, monkeypatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    assert cli.run(["publish", str(checkpoint), REPO]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("Error: the Hub must take owner/elysium-tiny, got ") and "hf auth whoami" in error


def test_a_dry_run_lists_and_sends_nothing(checkpoint, capsys, monkeypatch) -> None:
    monkeypatch.setattr(publishing, "HfApi", lambda: pytest.fail("the network was asked"))
    assert cli.run(["publish", str(checkpoint), REPO, "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert "  model.safetensors\n" in shown.out and "would go to model owner/elysium-tiny" in shown.out
    assert "names no license" in shown.err and "README.md says FOLDER_OR_HUB_ID" in shown.err
    assert cli.run(["publish", str(checkpoint), REPO, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["dry_run"] and plan["total_bytes"] == sum(plan["files"].values())


def test_a_dry_run_of_a_data_set_lists_it(dataset, capsys) -> None:
    assert cli.run(["publish", str(dataset), REPO, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "dataset"


def test_a_type_that_does_not_fit_the_folder_is_refused(dataset, capsys) -> None:
    assert cli.run(["publish", str(dataset), REPO, "--type", "space", "--dry-run"]) == 1
    assert "no requirements.txt" in capsys.readouterr().err


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


def test_pushing_gives_a_repository_without_a_card_ours(checkpoint, hub) -> None:
    model = ElysiumModel.from_pretrained(checkpoint)
    hub.repositories["model", "owner/has-one"] = Repository({"README.md": CARD.encode()})
    model.push_to_hub("owner/has-one")
    assert hub.repositories["model", "owner/has-one"].files["README.md"] == CARD.encode()
    model.push_to_hub("owner/new")
    assert hub.repositories["model", "owner/new"].files["README.md"].decode() == model_card(model.config)
