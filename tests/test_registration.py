"""`import elysium` makes the Auto classes know the model, in whatever order things are imported, and loads nothing."""

import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import elysium
from elysium import registration


def run_python(code: str) -> str:
    """What a fresh Python prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_elysium_loads_neither_torch_nor_transformers() -> None:
    assert run_python("import sys, elysium; print({'torch', 'transformers'} & set(sys.modules))") == "set()"


@pytest.mark.parametrize("given", [None, "ACTIVE"])
def test_waiting_threads_sleep_unless_the_environment_says_otherwise(given: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "TRUE"} | ({"OMP_WAIT_POLICY": given} if given else {})
    code = [sys.executable, "-c", "import elysium, torch"]
    shown = subprocess.run(code, capture_output=True, text=True, env=environment, timeout=300).stderr
    assert f"OMP_WAIT_POLICY = '{given or 'PASSIVE'}'" in shown


def test_commands_pause_garbage_collection_while_transformers_is_first_imported() -> None:
    code = """
import gc, sys
from elysium.console import collection_paused
try:
    with collection_paused():
        print(gc.isenabled())
        raise ImportError
except ImportError:
    print(gc.isenabled(), gc.get_freeze_count() > 0)
gc.unfreeze()
sys.modules["transformers"] = None
with collection_paused():
    print(gc.isenabled())
print(gc.get_freeze_count())
"""
    assert run_python(code).split() == ["False", "True", "True", "True", "0"]


def test_too_old_transformers_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8"))["project"]
    (bound,) = (item for item in project["dependencies"] if item.startswith("transformers"))
    monkeypatch.setattr(registration, "version", lambda name: "5.15.1")
    with pytest.raises(ImportError) as caught:
        importlib.reload(elysium)
    lowest = bound.removeprefix("transformers>=")
    assert str(caught.value) == (
        f"transformers must be {lowest} or newer, got 5.15.1; run pip install 'transformers>={lowest}'"
    )
    for enough in (lowest, f"{lowest}.0.dev0", "6.0.0rc1"):
        monkeypatch.setattr(registration, "version", lambda name, enough=enough: enough)
        registration.check_transformers_version()


@pytest.mark.parametrize(
    "imports",
    [
        "import elysium; import transformers",
        "import transformers; import elysium",
        "import elysium.processing.processing_elysium",
    ],
)
def test_auto_classes_know_elysium_whatever_is_imported_first(imports: str) -> None:
    check = "from transformers import AutoConfig; print(type(AutoConfig.for_model('elysium')).__module__)"
    leftovers = "import sys; print([f for f in sys.meta_path if type(f).__module__.startswith('elysium')])"
    loader = "import elysium.modeling_elysium.modeling_elysium as m; print('exec_module' in vars(m.__loader__))"
    assert run_python("; ".join((imports, check, leftovers, loader))).splitlines() == [
        "elysium.modeling_elysium.configuration_elysium",
        "[]",  # the finder that watched for transformers is gone
        "False",  # and so is what it put in front of the loaders
    ]


def test_every_auto_class_gives_the_class_that_its_name_promises() -> None:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        MODEL_FOR_MULTIMODAL_LM_MAPPING,
        MODEL_MAPPING,
    )
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
    from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING

    config = elysium.ElysiumConfig
    assert MODEL_MAPPING[config] is elysium.ElysiumModel
    assert MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[config] is elysium.ElysiumForConditionalGeneration
    assert MODEL_FOR_MULTIMODAL_LM_MAPPING[config] is elysium.ElysiumForConditionalGeneration
    assert MODEL_FOR_CAUSAL_LM_MAPPING[config] is elysium.ElysiumForConditionalGeneration
    assert PROCESSOR_MAPPING[config] is elysium.ElysiumProcessor
    assert set(VIDEO_PROCESSOR_MAPPING[config].values()) == {elysium.ElysiumVideoProcessor}


@pytest.mark.parametrize("name", elysium.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(elysium, name).__name__ == name
    assert name in dir(elysium)


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match="Tracker"):
        elysium.Trakcer  # noqa: B018
