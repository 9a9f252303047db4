"""What the ecosystem does with a checkpoint: offload, compile, assist, adapters, pipelines."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tiny import save_tiny_checkpoint, tiny_model, tiny_processor
from tiny_prompts import ask, pictures, ragged
from transformers import AutoModelForImageTextToText, pipeline

from elysium.modeling_elysium import ElysiumForConditionalGeneration
from elysium.tracking.tracker import Tracker

GREEDY = {"max_new_tokens": 5, "do_sample": False}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    processor = tiny_processor()
    return ask(processor, *ragged(processor))


@pytest.fixture(scope="module")
def answer(batch) -> torch.Tensor:
    with torch.no_grad():
        return tiny_model().generate(**batch, **GREEDY)


def test_words_alone_are_answered(batch) -> None:
    processor = tiny_processor()
    inputs = ask(processor, [{"role": "user", "content": "Who are you?"}])
    assert not {"pixel_values", "pixel_values_videos"} & set(inputs)
    assert tiny_model().generate(**inputs, **GREEDY).shape[1] > inputs["input_ids"].shape[1]


def test_embeddings_instead_of_ids_are_generated_from(batch, answer) -> None:
    model = tiny_model()
    inputs = {name: value for name, value in batch.items() if name != "input_ids"}
    embeds = model.get_input_embeddings()(batch["input_ids"])
    out = model.generate(inputs_embeds=embeds, **inputs, **GREEDY)
    assert torch.equal(out, answer[:, batch["input_ids"].shape[1] :])


ON_DISK = {
    "model.vision_tower": "cpu",
    "model.vision_feature_norm": "cpu",
    "model.selector": "cpu",
    "model.multi_modal_projector": "cpu",
    "model.kept_position_embedding": "cpu",
    "model.language_model": "disk",
    "lm_head": "cpu",
}


@pytest.mark.parametrize("device_map", ["auto", "cpu", ON_DISK], ids=["auto", "cpu", "disk"])
def test_a_device_map_and_weights_on_the_disk_give_the_same_answer(
    device_map, checkpoint, batch, answer, tmp_path
) -> None:
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, device_map=device_map, offload_folder=tmp_path)
    if device_map is ON_DISK:
        assert model.model.language_model.embed_tokens.weight.device.type == "meta"
    assert torch.equal(model.generate(**batch, **GREEDY), answer)


def test_a_compiled_forward_gives_the_same_logits(batch) -> None:
    model = tiny_model()
    compiled = torch.compile(model.forward, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(**batch).logits, model(**batch).logits, atol=1e-5, rtol=1e-5)


def test_a_compiled_model_generates_the_same_answer(batch, answer) -> None:
    model = tiny_model()
    model.forward = torch.compile(model.forward, fullgraph=True, backend="eager")
    with torch.no_grad():
        assert torch.equal(model.generate(**batch, **GREEDY, cache_implementation="static"), answer)


def test_a_smaller_elysium_may_assist(answer) -> None:
    processor = tiny_processor()
    inputs = ask(processor, ragged(processor)[0])
    model = tiny_model()
    torch.manual_seed(5)
    assistant = ElysiumForConditionalGeneration(model.config).eval()
    plain = model.generate(**inputs, **GREEDY)
    assert torch.equal(model.generate(**inputs, assistant_model=assistant, **GREEDY), plain)


LANGUAGE_ONLY = {"target_modules": r".*language_model.*\.(q|v)_proj"}
EVERYTHING = {"target_modules": "all-linear"}
JOINT_IN_FULL = LANGUAGE_ONLY | {"modules_to_save": ["selector", "multi_modal_projector"]}


def adapted(settings: dict[str, Any], seed: int = 0) -> PeftModel:
    """The tiny model with an adapter that changes its answers."""
    base = tiny_model()
    torch.manual_seed(seed + 1)
    return get_peft_model(base, LoraConfig(r=4, init_lora_weights=False, **settings)).eval()


@pytest.mark.parametrize(
    "settings", [LANGUAGE_ONLY, EVERYTHING, JOINT_IN_FULL], ids=["language", "everything", "joint_in_full"]
)
def test_an_adapter_learns_and_comes_back_and_merges(settings, checkpoint, batch, tmp_path) -> None:
    model = adapted(settings)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert any("vision_tower" in name for name in trained) == (settings is EVERYTHING)
    assert any("modules_to_save" in name and "selector" in name for name in trained) == (settings is JOINT_IN_FULL)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    model(**batch, labels=labels).loss.backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter -= 0.05 * parameter.grad.sign()
        wanted = model(**batch).logits
        model.save_pretrained(tmp_path / "adapter")
        base = AutoModelForImageTextToText.from_pretrained(checkpoint)
        loaded = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
        torch.testing.assert_close(loaded(**batch).logits, wanted, atol=1e-5, rtol=1e-5)
        merged = loaded.merge_and_unload()
        torch.testing.assert_close(merged(**batch).logits, wanted, atol=1e-4, rtol=1e-4)
        merged.save_pretrained(tmp_path / "merged")
        again = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(again(**batch).logits, wanted, atol=1e-4, rtol=1e-4)


SCRIPT = """
import sys, torch
import elysium
from peft import AutoPeftModel, PeftModel
from transformers import AutoModelForImageTextToText

base = AutoModelForImageTextToText.from_pretrained(sys.argv[1])
model = PeftModel.from_pretrained(base, sys.argv[2]).eval()
inputs = torch.load(sys.argv[3], weights_only=True)
with torch.no_grad():
    torch.save(model(**inputs).logits, sys.argv[4])
"""


@pytest.mark.slow
@torch.no_grad()
def test_an_adapter_gives_the_same_logits_in_a_fresh_process(checkpoint, batch, tmp_path) -> None:
    model = adapted(LANGUAGE_ONLY)
    model.save_pretrained(tmp_path / "adapter")
    torch.save(batch, tmp_path / "batch.pt")
    paths = [str(path) for path in (checkpoint, tmp_path / "adapter", tmp_path / "batch.pt", tmp_path / "out.pt")]
    subprocess.run([sys.executable, "-c", SCRIPT, *paths], check=True, capture_output=True)
    found = torch.load(tmp_path / "out.pt", weights_only=True)
    torch.testing.assert_close(found, model(**batch).logits, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_several_adapters_share_one_base(checkpoint, batch, tmp_path) -> None:
    wanted = {}
    for seed, name in enumerate(("cars", "people")):
        model = adapted(LANGUAGE_ONLY, seed)
        model.save_pretrained(tmp_path / name)
        wanted[name] = model(**batch).logits
    model = PeftModel.from_pretrained(
        AutoModelForImageTextToText.from_pretrained(checkpoint), tmp_path / "cars", adapter_name="cars"
    ).eval()
    model.load_adapter(tmp_path / "people", adapter_name="people")
    for name, logits in wanted.items():
        model.set_adapter(name)
        torch.testing.assert_close(model(**batch).logits, logits, atol=1e-5, rtol=1e-5)
    with model.disable_adapter():
        torch.testing.assert_close(model(**batch).logits, tiny_model()(**batch).logits, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(wanted["cars"], wanted["people"])


def test_a_tracker_takes_a_model_with_an_adapter() -> None:
    tracker = Tracker(adapted(LANGUAGE_ONLY), tiny_processor())
    result = tracker.track(list(pictures(3)), text="the red car", fps=5)
    assert len(result.tracks[0]) == 3


def test_the_chat_pipeline_answers_pictures_and_videos(checkpoint, tmp_path) -> None:
    from PIL import Image

    from elysium.processing.video_io import VideoWriter

    video = tmp_path / "video.mp4"
    with VideoWriter(video, 5.0, 64, 48) as writer:
        for _ in range(6):
            writer.write(np.zeros((48, 64, 3), np.uint8))
    chat = pipeline("image-text-to-text", model=str(checkpoint))
    for visual in ({"type": "image", "image": Image.new("RGB", (40, 30))}, {"type": "video", "video": str(video)}):
        messages = [{"role": "user", "content": [visual, {"type": "text", "text": "What is it?"}]}]
        (out,) = chat(text=messages, max_new_tokens=4, return_full_text=False)
        assert isinstance(out["generated_text"], str)


def test_the_tracking_pipeline_gives_the_trackers_tracks(checkpoint) -> None:
    from elysium.processing.structures import VideoClip

    tracker = Tracker.from_pretrained(checkpoint)
    clip = VideoClip(pictures(9), fps=5.0, timestamps_s=np.arange(9) / 5, frame_indices=np.arange(9))
    tracking = pipeline("object-tracking", model=str(checkpoint))
    wanted = tracker.track(clip, box_xyxy_px=[(2, 3, 20, 20), (5, 5, 30, 22)]).to_dict()["tracks"]
    assert tracking(clip, box_xyxy_px=[(2, 3, 20, 20), (5, 5, 30, 22)]) == wanted
    assert tracking([clip, clip], text="the red car")[1] == tracker.track(clip, text="the red car").to_dict()["tracks"]
