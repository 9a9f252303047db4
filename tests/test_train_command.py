"""`elysium train`: recipes by name, and what goes to the trainers."""

import sys
from types import ModuleType

import pytest

from elysium import cli
from elysium.training.recipe_files import RECIPES, find_recipe, list_recipes


@pytest.fixture
def trainers(monkeypatch) -> list[tuple[str, list[str]]]:
    """The calls of both trainers, which do nothing."""
    calls = []
    for name in ("sft", "grpo"):
        module = ModuleType(f"elysium.training.{name}")
        module.main = lambda arguments, name=name: calls.append((name, arguments))
        monkeypatch.setitem(sys.modules, f"elysium.training.{name}", module)
    return calls


def test_the_recipes_of_the_package_are_listed_with_a_sentence_and_their_folder(capsys):
    assert cli.run(["train", "--list"]) == 0
    *recipes, place = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in recipes] == sorted(path.stem for path in RECIPES.glob("*.yaml"))
    assert all(about.endswith(".") for about in list_recipes().values())
    assert place == f"Files: {RECIPES}"


@pytest.mark.parametrize(
    ("typed", "trainer", "given"),
    [
        (["cpu"], "sft", ["--config", str(RECIPES / "cpu.yaml")]),
        (["grpo", "--beta", "0"], "grpo", ["--config", str(RECIPES / "grpo.yaml"), "--beta", "0"]),
        (["--max_steps", "3", "--data", "{}"], "sft", ["--max_steps", "3", "--data", "{}"]),
        (["lora", "--help"], "sft", ["--config", str(RECIPES / "lora.yaml"), "--help"]),
        (["--help-all"], "sft", ["--help"]),
    ],
)
def test_the_recipe_chooses_the_trainer_and_fields_go_to_it(trainers, typed, trainer, given):
    assert cli.run(["train", *typed]) == 0
    assert trainers == [(trainer, given)]


def test_a_file_goes_before_a_recipe_of_the_same_name(tmp_path, monkeypatch, trainers):
    (tmp_path / "mine.yaml").write_text("max_steps: 3")
    (tmp_path / "lora").write_text("rewards: [iou]")
    monkeypatch.chdir(tmp_path)
    assert cli.run(["train", "mine.yaml"]) == cli.run(["train", "lora"]) == 0
    assert trainers == [("sft", ["--config", "mine.yaml"]), ("grpo", ["--config", "lora"])]
    assert find_recipe("cpu") == RECIPES / "cpu.yaml"


@pytest.mark.parametrize(
    ("typed", "code", "message"),
    [
        ([], 2, "elysium train --list shows the recipes"),
        (["gpu"], 1, "or one of cpu, grpo, lora, "),
        (["../recipes/lora"], 1, "must be a YAML file or one of"),
    ],
)
def test_what_is_no_recipe_is_refused_with_a_remedy(trainers, capsys, typed, code, message):
    assert cli.run(["train", *typed]) == code
    assert message in capsys.readouterr().err
    assert trainers == []


def test_an_error_of_the_trainer_is_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["train", "--output_dir", "out"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("Error: a recipe must name data, stream or objective")
