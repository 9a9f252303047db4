"""A saved checkpoint carries its code: it answers in a Python that has transformers and not this package."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import save_tiny_checkpoint, tiny_processor
from transformers import AutoModel, AutoModelForImageTextToText, AutoProcessor

from elysium.modeling_elysium import ElysiumForConditionalGeneration, ElysiumModel
from elysium.processing.processing_elysium import ElysiumProcessor
from elysium.tracking.loading import load_checkpoint

ROOT = Path(__file__).resolve().parents[1]
CODE = {file.name for file in (ROOT / "checkpoints/elysium-tiny").glob("*.py")}  # a test keeps these equal to ours
# Run with -I in another folder; `elysium`, however it is installed, cannot be imported.
SCRIPT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "elysium":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocker())
folder, again = sys.argv[1:]
import numpy as np
from transformers import (
    AutoConfig, AutoImageProcessor, AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText,
    AutoModelForMultimodalLM, AutoProcessor
)
from transformers.models.auto.video_processing_auto import AutoVideoProcessor  # a placeholder without torchvision else

for auto in (AutoConfig, AutoImageProcessor, AutoVideoProcessor):
    name = type(auto.from_pretrained(folder, trust_remote_code=True)).__name__
    assert name == auto.__name__.replace("Auto", "Elysium"), name
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)
for auto in (AutoModelForCausalLM, AutoModelForMultimodalLM, AutoModel):
    name = type(auto.from_pretrained(folder, trust_remote_code=True)).__name__
    assert name == ("ElysiumModel" if auto is AutoModel else "ElysiumForConditionalGeneration"), name

def answer(model, processor):
    frames = np.random.default_rng(0).integers(0, 256, (3, 24, 40, 3), dtype=np.uint8)
    messages = processor.build_messages("rsot", video=frames, text="the red car")
    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    states = [model.box_grammar(processor.answer_template(3)).start()]
    boxes = model.generate(**inputs, custom_generate=model.generate_boxes, states=states, max_new_tokens=1)
    text = processor.decode(boxes[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
    readings = processor.post_process_boxes(text, 3)[0]
    assert len(readings) == 3 and all(reading["status"] in ("ok", "absent") for reading in readings), text
    return model.generate(**inputs, max_new_tokens=6, do_sample=False).tolist()

first = answer(model, processor)
model.save_pretrained(again)
processor.save_pretrained(again)
second = answer(
    AutoModelForImageTextToText.from_pretrained(again, trust_remote_code=True),
    AutoProcessor.from_pretrained(again, trust_remote_code=True),
)
assert first == second
assert not [name for name in sys.modules if name.partition(".")[0] in ("elysium", "torchvision")]
print("answer:", first)
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("hub") / "elysium-tiny")


def test_a_saved_checkpoint_holds_the_code_and_names_it(bundle: Path) -> None:
    assert {file.name for file in bundle.glob("*.py")} == CODE
    config = json.loads((bundle / "config.json").read_text("utf-8"))
    whole = "modeling_elysium.ElysiumForConditionalGeneration"
    assert config["auto_map"] == {
        "AutoConfig": "configuration_elysium.ElysiumConfig",
        "AutoModel": "modeling_elysium.ElysiumModel",
        "AutoModelForImageTextToText": whole,
        "AutoModelForMultimodalLM": whole,
        "AutoModelForCausalLM": whole,
    }
    assert config["architectures"] == ["ElysiumForConditionalGeneration"]
    processor = json.loads((bundle / "processor_config.json").read_text("utf-8"))
    assert processor["auto_map"]["AutoProcessor"] == "processing_elysium.ElysiumProcessor"


def test_a_process_without_the_package_answers_a_video_chat(bundle: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    done = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPT, str(bundle), str(again)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env={"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    model, processor = load_checkpoint(bundle)
    assert type(model) is ElysiumForConditionalGeneration
    local = _answer(model, processor)
    assert done.stdout.strip() == f"answer: {local}"
    assert {file.name for file in again.glob("*.py")} == CODE  # saved from remote code, it is remote code again


@pytest.mark.slow
def test_a_hub_id_is_answered_for_from_the_cache(bundle: Path, tmp_path: Path) -> None:
    """As `from_pretrained("owner/elysium-tiny")` leaves it in the cache, and finds it there without a network."""
    repository = tmp_path / "hf" / "hub" / "models--owner--elysium-tiny"
    snapshot = repository / "snapshots" / ("0" * 40)
    shutil.copytree(bundle, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    done = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPT, "owner/elysium-tiny", str(tmp_path / "again")],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env={"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == f"answer: {_answer(*load_checkpoint(bundle))}"


def test_a_folder_in_the_working_directory_is_found_by_its_name(bundle: Path, tmp_path: Path, monkeypatch) -> None:
    shutil.copytree(bundle, tmp_path / "elysium-7b")
    monkeypatch.chdir(tmp_path)
    model = AutoModel.from_pretrained("elysium-7b", dtype=torch.bfloat16)
    assert (type(model), model.dtype) == (ElysiumModel, torch.bfloat16)


def _answer(model, processor) -> list[list[int]]:
    frames = np.random.default_rng(0).integers(0, 256, (3, 24, 40, 3), dtype=np.uint8)
    messages = processor.build_messages("rsot", video=frames, text="the red car")
    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    return model.generate(**inputs, max_new_tokens=6, do_sample=False).tolist()


def test_with_the_package_imported_the_local_classes_win(bundle: Path) -> None:
    for options in ({}, {"trust_remote_code": True}):
        model = AutoModelForImageTextToText.from_pretrained(bundle, **options)
        processor = AutoProcessor.from_pretrained(bundle, **options)
        assert type(model) is ElysiumForConditionalGeneration
        assert type(processor) is ElysiumProcessor


def test_the_processor_alone_carries_its_code(tmp_path: Path) -> None:
    tiny_processor().save_pretrained(tmp_path)
    own = {name for name in CODE if (ROOT / "processing" / name).is_file()}
    assert {file.name for file in tmp_path.glob("*.py")} == own
