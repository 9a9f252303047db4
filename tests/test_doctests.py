"""The examples in the docstrings, run under the names that users import the modules by."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Modules of research that import what nothing else needs.
NEEDS = {"research.scenes.model_renderer": "panda3d"}


def modules_with_examples() -> list[str]:
    """Names of the package's modules whose source has a doctest prompt."""
    names = []
    for init in sorted(ROOT.glob("*/__init__.py")):
        for path in sorted(init.parent.rglob("*.py")):
            is_module = (path.parent / "__init__.py").exists()  # not what a checkpoint carries for the Hub
            if is_module and ">>> " in path.read_text("utf-8"):
                parts = path.relative_to(ROOT).with_suffix("").parts
                outside = parts[0] in ("benchmarks", "research")  # not in the wheel, imported from the clone's root
                names.append(".".join(parts if outside else ("elysium", *parts[parts[0] == "package" :])))
    return names


@pytest.mark.parametrize("name", modules_with_examples())
def test_docstring_examples_give_what_they_show(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted > 0
    assert results.failed == 0


def test_the_box_codec_has_docstring_examples() -> None:
    assert "elysium.processing.boxes_elysium" in modules_with_examples()
