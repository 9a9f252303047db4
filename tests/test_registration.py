"""`import elysium` makes the Auto classes know the model, in whatever order things are imported, and loads nothing."""

import subprocess
import sys

import pytest

import elysium


def run_python(code: str) -> str:
    """What a fresh Python prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_elysium_loads_neither_torch_nor_transformers() -> None:
    assert run_python("import sys, elysium; print({'torch', 'transformers'} & set(sys.modules))") == "set()"


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
    assert run_python(f"{imports}; {check}") == "elysium.modeling_elysium.configuration_elysium"


def test_watching_for_transformers_ends_with_the_registration() -> None:
    code = (
        "import sys, elysium, transformers, inspect, elysium.modeling_elysium.modeling_elysium as m; "
        "assert 'class ElysiumModel' in inspect.getsource(m); "
        "assert 'exec_module' not in vars(m.__loader__); "
        "print([f for f in sys.meta_path if type(f).__module__.startswith('elysium')])"
    )
    assert run_python(code) == "[]"


def test_every_auto_class_gives_the_class_that_its_name_promises() -> None:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        MODEL_MAPPING,
    )
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
    from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING

    config = elysium.ElysiumConfig
    assert MODEL_MAPPING[config] is elysium.ElysiumModel
    assert MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[config] is elysium.ElysiumForConditionalGeneration
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
