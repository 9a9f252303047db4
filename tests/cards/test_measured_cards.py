"""Cards: figures out of files alone, heads that the Hub takes, code that runs as it is printed."""

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from code_blocks import code_blocks
from hub_card_rules import card_errors
from hub_stand_in import HubStandIn
from huggingface_hub import DatasetCard, ModelCard, RepoCard, SpaceCard
from tiny import save_tiny_checkpoint

from elysium import cli
from elysium.cards import render_card
from elysium.cards.measured_results import CardError, read_recipe
from elysium.evaluation.report import write_report
from elysium.spaces_demo.limits import Limits
from elysium.tracking.checkpoints import SHIPPED

ROOT = Path(__file__).resolve().parent.parent.parent
TINY, RECIPE = SHIPPED / "elysium-tiny", ROOT / "cards" / "elysium_tiny.yaml"


@pytest.fixture
def hub(monkeypatch) -> Iterator[HubStandIn]:
    """A Hub that cards can be validated by."""
    with HubStandIn().running() as hub:
        hub.stand_in_here(monkeypatch)
        yield hub


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "rows"
    assert cli.run(["synth", str(folder), "--count", "2", "--frames", "8", "--size", "96x72"]) == 0
    return folder


@pytest.fixture(scope="module")
def conversations(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "conversations"
    options = ["--as", "trl", "--embed", "--count", "2", "--frames", "3", "--size", "96x72"]
    assert cli.run(["synth", str(folder), *options]) == 0
    return folder


def write_recipe(folder: Path, found: dict, **recipe) -> Path:
    (folder / "found.json").write_text(json.dumps(found))
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"files": {"found": "found.json"}} | recipe))
    return path


def table(**row) -> dict:
    row = {"task": "track", "metric": "mean IoU", "type": "mean_iou", "value": "found.iou"} | row
    data = {"type": "some-data", "name": "some data"}
    return {"title": "Some", "command": "python measure.py", "data": data, "rows": [row]}


def validate(card: RepoCard, hub: HubStandIn) -> None:
    """The client's own way to ask the Hub about a card, and that it was asked."""
    card.validate()
    assert hub.asked.pop() == "POST /api/validate-yaml"


def test_the_card_of_elysium_tiny_has_its_measured_figures(hub) -> None:
    card = render_card.render_model_card(TINY, recipe=RECIPE)
    validate(card, hub)
    measured = json.loads((ROOT / "research/results/eval_v1.json").read_text())
    ours, repeated = (measured["sot_8"][name]["mean_iou"] for name in ("model", "repeated"))
    found = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert found["mean IoU: track from a box, 8 frames"] == round(ours, 4)
    assert f"| track from a box, 8 frames | mean IoU | {ours:.3f} | {repeated:.3f} |" in card.text
    assert "`python -m research.eval_v1.run" in card.text
    for heading in ("Use", "Results", "Limits", "Training data", "Compute and carbon", "Licence", "Citation"):
        assert f"\n## {heading}\n" in card.text
    numbers, size = render_card.count_parameters(TINY)
    assert f"- {numbers:,} parameters, {size / 1e6:.1f} MB." in card.text and 1e6 < numbers < size


@pytest.mark.parametrize("name", ["elysium-small", "elysium-tiny"])
def test_the_card_of_a_checkpoint_is_that_of_its_recipe(name) -> None:
    card = render_card.render_model_card(SHIPPED / name, recipe=ROOT / "cards" / f"{name.replace('-', '_')}.yaml")
    assert str(card).strip() == (SHIPPED / name / "README.md").read_text("utf-8").strip()


def test_the_recipe_of_elysium_tiny_holds_no_figure_itself() -> None:
    recipe = yaml.safe_load(RECIPE.read_text())
    texts = [recipe["training_data"], recipe["compute"], *recipe["limits"]]
    for text in texts:
        typed = "".join(part.partition("}}")[2] if "}}" in part else part for part in text.split("{{"))
        assert not [word for word in typed.split() if word[0].isdigit() and "." in word.strip(".,:;")], typed


def test_the_code_on_the_card_runs_as_it_is_printed(rows, tmp_path, monkeypatch) -> None:
    card = render_card.render_model_card(TINY, recipe=RECIPE)
    (tmp_path / "FOLDER_OR_HUB_ID").symlink_to(TINY)
    shutil.copy(rows / "videos" / "000000.mp4", tmp_path / "video.mp4")
    monkeypatch.chdir(tmp_path)
    blocks = code_blocks(card.text)
    assert [block.language for block in blocks] == ["python", "bash"]
    names: dict = {}
    exec(blocks[0].text, names)
    assert len(names["boxes"]) == 8 and all(box["box_xyxy_norm"] or box["reason"] for box in names["boxes"])
    program, *arguments = shlex.split(blocks[1].text)
    assert program == "elysium" and cli.run(arguments) == 0
    assert (tmp_path / "video.tracked.mp4").is_file()


def test_the_name_on_the_hub_stands_in_the_code(tmp_path) -> None:
    card = render_card.render_model_card(TINY, repo_id="owner/name")
    assert 'checkpoint = "owner/name"' in card.text and "FOLDER_OR_HUB_ID" not in card.text


def test_a_figure_that_was_not_measured_is_an_error_that_names_it(tmp_path) -> None:
    recipe = write_recipe(tmp_path, {"iou": 0.5}, results=[table(value="found.auc")])
    with pytest.raises(CardError, match=r"must stand in its files of results, got .*'auc'.* measure again"):
        read_recipe(recipe)
    with pytest.raises(CardError, match="has no attribute 'auc'"):
        read_recipe(write_recipe(tmp_path, {"iou": 0.5}, limits=["only {{ found.auc }}"]))


def test_a_figure_that_is_no_number_is_an_error(tmp_path) -> None:
    with pytest.raises(CardError, match="must be a number, got found.iou = 'high'"):
        read_recipe(write_recipe(tmp_path, {"iou": "high"}, results=[table()]))


def test_figures_of_another_checkpoint_are_refused(tmp_path) -> None:
    recipe = write_recipe(tmp_path, {"iou": 0.5, "trained_on": "trained on this"}, results=[table()])
    assert read_recipe(recipe, trained_on="trained on this").tables[0].rows[0].result.metric_value == 0.5
    with pytest.raises(CardError, match="of a model 'trained on this', and a checkpoint 'trained on that'"):
        read_recipe(recipe, trained_on="trained on that")


@pytest.mark.parametrize("place", ["recipe", "table", "row"])
def test_a_key_that_nothing_reads_is_an_error(place, tmp_path) -> None:
    results = [table(figure=1) if place == "row" else table() | ({"figure": 1} if place == "table" else {})]
    more = {"figure": 1} if place == "recipe" else {}
    with pytest.raises(CardError, match="alone, got figure; fix it"):
        read_recipe(write_recipe(tmp_path, {"iou": 0.5}, results=results, **more))


def test_a_report_of_elysium_evaluate_becomes_a_table_and_a_model_index(tmp_path, hub) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "mine")
    entry = {"kind": "elysium", "origin": "mine", "success_auc": 41.26, "precision": 50.0, "norm_precision": 60.0}
    entry |= {"frames_per_s": None, "sequences": {}}
    entry["curves"] = {"success": [0.9] * 21, "precision": [0.5] * 51, "norm_precision": [0.6] * 51}
    report = {
        "benchmark": "lasot",
        "task": "sot",
        "command": "elysium evaluate lasot --data LaSOT --model mine",
        "elysium_version": "0.1.0",
        "protocol": {"name": "LaSOT one-pass evaluation", "source": "the paper", "rules": []},
        "data": {"split": "test", "sequences": 2},
        "thresholds": {
            "overlap": [i / 20 for i in range(21)],
            "centre_px": list(range(51)),
            "centre_norm": [i / 100 for i in range(51)],
        },
        "trackers": {"mine": entry},
    }
    write_report(report, tmp_path / "report")
    arguments = [str(checkpoint), "--report", str(tmp_path / "report"), "--license", "mit"]
    render_card.main(["model", *arguments])
    card = ModelCard.load(checkpoint / "README.md")
    validate(card, hub)
    assert (card.data.license, card.data.model_name) == ("mit", "mine")
    assert card.data.eval_results[0].metric_value == 41.26
    assert "`elysium evaluate lasot --data LaSOT --model mine`: split: test, sequences: 2" in card.text
    render_card.main(["model", *arguments])  # again, over its own card
    assert ModelCard.load(checkpoint / "README.md").content == card.content


def test_what_a_run_wrote_about_itself_stays(tmp_path) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "mine")
    older = (checkpoint / "README.md").read_text().replace("## Citation", "## Training\n\nSeven steps.\n\n## Citation")
    (checkpoint / "README.md").write_text(older)
    assert "## Training\n\nSeven steps.\n" in render_card.render_model_card(checkpoint).text


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path) -> None:
    with pytest.raises(SystemExit, match="must be of a checkpoint with a config.json"):
        render_card.main(["model", str(tmp_path)])


def test_the_card_of_conversations_is_counted_and_its_code_runs(conversations, hub, tmp_path, monkeypatch) -> None:
    folder = shutil.copytree(conversations, tmp_path / "FOLDER_OR_HUB_ID")
    made_by = "elysium synth FOLDER_OR_HUB_ID --as trl --embed --count 2 --frames 3 --size 96x72"
    render_card.main(["dataset", str(folder), "--license", "apache-2.0", "--made-by", made_by])
    card = DatasetCard.load(folder / "README.md")
    validate(card, hub)
    assert {config["config_name"] for config in card.data.configs} == {"mixed", "images", "videos"}  # kept
    assert made_by in card.text
    monkeypatch.chdir(tmp_path)
    (load,) = [block for block in code_blocks(card.text) if block.language == "python"]
    names: dict = {}
    exec(load.text, names)
    assert set(names["first"]) == {"task", "images", "messages"}


def test_the_card_of_rows_makes_the_hub_read_rows_and_not_pictures(rows, hub, tmp_path, monkeypatch) -> None:
    folder = shutil.copytree(rows, tmp_path / "FOLDER_OR_HUB_ID")
    card = render_card.render_dataset_card(folder)
    (folder / "README.md").write_text(str(card))
    validate(card, hub)
    count = len((folder / "rows.jsonl").read_text().splitlines())
    assert f"| `rows.jsonl` | {count} |" in card.text and "Columns: `source`, `id`," in card.text
    assert "None is given: ask before you use it." in card.text
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(next(block.text for block in code_blocks(card.text) if block.language == "python"), names)
    assert {"frames", "box"} <= set(names["first"])


def test_a_folder_without_data_has_no_card(tmp_path) -> None:
    with pytest.raises(SystemExit, match=r"must hold .parquet"):
        render_card.main(["dataset", str(tmp_path)])


def test_the_card_of_the_space_is_taken_and_keeps_its_head(tmp_path, hub) -> None:
    (tmp_path / "app.py").touch()
    recipe = ROOT / "cards" / "elysium_small.yaml"
    render_card.main(["space", str(tmp_path), "--recipe", str(recipe), "--model", "owner/mine"])
    card = SpaceCard.load(tmp_path / "README.md")
    validate(card, hub)
    assert (card.data.sdk, card.data.app_file, card.data.models) == ("gradio", "app.py", ["owner/mine"])
    measured = json.loads((ROOT / "research/results/small_real_stills.json").read_text())
    assert f"| {measured['splits']['headline']['found']:.3f} |" in card.text and Limits().sentence() in card.text
    (tmp_path / "README.md").write_text((tmp_path / "README.md").read_text().replace("title: Elysium", "title: Mine"))
    again = render_card.render_space_card(tmp_path)
    assert (again.data.title, again.data.models) == ("Mine", ["owner/mine"]) and "[owner/mine](" in again.text


@pytest.mark.parametrize(
    "readme", ["checkpoints/elysium-tiny/README.md", "checkpoints/elysium-small/README.md", "spaces_demo/README.md"]
)
def test_the_cards_that_ship_are_taken_by_the_hub(readme) -> None:
    kind = "space" if readme.startswith("spaces") else "model"
    assert card_errors((ROOT / readme).read_text("utf-8"), kind) == []


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("model", "license: mine"),
        ("model", "pipeline_tag: tracking"),
        ("model", "model-index: [{name: a}]"),
        ("dataset", "size_categories: many"),
        ("space", "title: a\nsdk: gradio\ncolorFrom: mauve"),
        ("space", "sdk: gradio"),
    ],
)
def test_the_rules_of_the_stand_in_refuse(kind, head) -> None:
    assert card_errors(f"---\n{head}\n---\n\n# A\n", kind)
