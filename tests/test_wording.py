"""Docstrings begin with a sentence, and help texts can be read alone."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOT_PRODUCT = ("benchmarks", "checkpoints", "research", "tests")
FOLDERS = sorted({path.parent.name for path in ROOT.glob("*/__init__.py")} - set(NOT_PRODUCT))
NO_SENTENCE = re.compile(r"(What|How|Whether|Where|That|Of|So)\b")
NO_HELP = re.compile(r"(Of|That|In|With|Who|So)\b|[a-z]")


def first_lines(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Give the number and the first line of every docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, text.splitlines()[0]


def help_texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Give the line and the text of every `help=` and of every `help` in the metadata of a field."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found = [(word.arg, word.value) for word in node.keywords]
        elif isinstance(node, ast.Dict):
            found = [(key.value, value) for key, value in zip(node.keys, node.values, strict=True)
                     if isinstance(key, ast.Constant)]  # fmt: skip
        else:
            continue
        for name, value in found:
            if isinstance(value, ast.JoinedStr) and value.values:
                value = value.values[0]
            if name == "help" and isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.lineno, value.value


def trees(folder: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"))


def no_sentence(line: str) -> bool:
    """Say whether a docstring's first line is none that stands alone."""
    return bool(NO_SENTENCE.match(line)) or not line.endswith(".")


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_first_line_of_a_docstring_is_a_sentence(folder: str) -> None:
    found = [(path, *place) for path, tree in trees(folder) for place in first_lines(tree) if no_sentence(place[1])]
    assert not found, f"begin with a verb, and end with a full stop: {found}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_help_text_can_be_read_alone(folder: str) -> None:
    found = [(path, *place) for path, tree in trees(folder) for place in help_texts(tree) if NO_HELP.match(place[1])]
    assert not found, f"begin with a noun or a verb: {found}"


def test_no_page_or_code_calls_the_first_frame_frame_1() -> None:
    files = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    files += [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    found = [str(path.relative_to(ROOT)) for path in files if re.search(r"\bframe 1\b", path.read_text("utf-8"))]
    assert not found, f"frames are counted from 0; 'Frame 1' is a label of the model's own text: {found}"


def test_what_is_no_sentence_or_no_help_is_noticed() -> None:
    tree = ast.parse('"""What it does."""\ndef f():\n    """Return it"""\ndef g():\n    """Return it."""\n')
    assert [line for line, text in first_lines(tree) if no_sentence(text)] == [1, 3]
    tree = ast.parse('option(help="of the page")\nfield(metadata={"help": "Of it."})\noption(help=f"Side of {a}.")\n')
    assert [line for line, text in help_texts(tree) if NO_HELP.match(text)] == [1, 2]
