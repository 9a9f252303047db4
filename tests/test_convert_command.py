"""`elysium convert` and `elysium assemble` from the command line."""

import json
from pathlib import Path

import pytest
from pretrained_parts import GOLDEN, RELEASES, clip, llama, make
from transformers import AutoModelForImageTextToText

from elysium import cli


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_convert_says_what_the_release_holds(workplace, capsys) -> None:
    assert cli.run(["convert", str(GOLDEN / RELEASES[0]), "out"]) == 0
    shown = capsys.readouterr().out
    assert "Checkpoint: out (496,866 parameters, float32, 1 shard)" in shown
    assert "The release's gate was trained." in shown and "--tokenizer DIR" in shown
    assert AutoModelForImageTextToText.from_pretrained("out").config.num_kept_tokens == 9


def test_convert_prints_json_for_other_programs(workplace, capsys) -> None:
    assert cli.run(["convert", str(GOLDEN / RELEASES[1]), "out", "--dtype", "bfloat16", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["folder"], report["dtype"], report["has_processor"]) == ("out", "bfloat16", False)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["nothing", "out"], 1, "a release must be a folder with a config.json, got nothing"),
        ([str(GOLDEN / RELEASES[0]), "out", "--dtype", "int8"], 2, "'int8' is not one of 'float32', 'bfloat16'"),
        ([str(GOLDEN / RELEASES[0]), "full"], 2, "the output must be a new or empty folder"),
        ([str(GOLDEN / RELEASES[0]), "out", "--tokenizer", "full"], 1, "Error: "),
    ],
    ids=["release", "dtype", "out", "tokenizer"],
)
def test_convert_refuses_what_cannot_work(workplace, capsys, args, code: int, message: str) -> None:
    (workplace / "full").mkdir()
    (workplace / "full" / "mine.txt").write_text("kept")
    assert cli.run(["convert", *args]) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "unexpected" not in error
    assert sorted(path.name for path in workplace.iterdir()) == ["full"]


def test_assemble_counts_what_is_new(workplace, capsys) -> None:
    make(workplace / "vision", clip)
    make(workplace / "llm", llama)
    assert cli.run(["assemble", "out", "--vision", "vision", "--llm", "llm", "--kept", "4"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Checkpoint: out (") and "are new and untrained" in shown and "selector:" in shown
    assert AutoModelForImageTextToText.from_pretrained("out").config.num_kept_tokens == 4
    assert cli.run(["assemble", "other", "--vision", "llm", "--llm", "llm"]) == 1
    assert "--vision must be a tower of type" in capsys.readouterr().err
    assert not (workplace / "other").exists()
