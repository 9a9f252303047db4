"""Quantized weights on a CPU: memory is saved, the eyes are untouched, and the answers stay close."""

import shutil

import numpy as np
import pytest
import torch
from tiny_prompts import ask, pictures
from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig

from elysium.tracking.checkpoints import SHIPPED
from elysium.tracking.tracker import Tracker

CHECKPOINT = SHIPPED / "elysium-tiny"
# What decides which tokens are kept stays as it is; it is a few percent of a large model.
EYES = ["model.vision_tower", "model.selector", "model.multi_modal_projector", "lm_head"]
CONFIGS = {
    "int8": BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=EYES),
    "nf4": BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=EYES,
    ),
}
LARGEST_SHARE = {"int8": 0.30, "nf4": 0.18}  # of the memory of the quantized layers; 1/4 and 1/8 plus their scales
SMALLEST_LIKENESS = {"int8": 0.998, "nf4": 0.96}  # cosine of the logits with those of float32


def load(**options):
    return AutoModelForImageTextToText.from_pretrained(CHECKPOINT, **options).eval()


@pytest.fixture(scope="module")
def full():
    return load()


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    processor = AutoProcessor.from_pretrained(CHECKPOINT)
    return ask(processor, processor.build_messages("rsot", video=pictures(4), text="the red cross"))


def layer_bytes(model) -> int:
    """Memory of the language model's layers, without embeddings; scales of quantized weights included."""
    total = 0
    for module in model.model.language_model.layers.modules():
        for weight in module.parameters(recurse=False):
            total += weight.untyped_storage().nbytes()
            state = getattr(weight, "quant_state", None)
            total += state.absmax.nbytes + state.code.nbytes if state is not None else 0
            scales = getattr(weight, "SCB", None)
            total += scales.nbytes if scales is not None else 0
    return total


@pytest.mark.parametrize("kind", CONFIGS)
def test_quantized_layers_take_less_and_answer_alike(kind, full, batch) -> None:
    quantized = load(quantization_config=CONFIGS[kind], device_map="cpu")
    assert layer_bytes(quantized) / layer_bytes(full) < LARGEST_SHARE[kind]
    with torch.no_grad():
        seen = [model.get_video_features(batch["pixel_values_videos"]) for model in (full, quantized)]
        assert torch.equal(seen[0].selector_indices, seen[1].selector_indices)
        torch.testing.assert_close(seen[0].pooler_output, seen[1].pooler_output, rtol=0, atol=1e-5)
        logits = [model(**batch).logits.float() for model in (full, quantized)]
    likeness = torch.nn.functional.cosine_similarity(*logits, dim=-1)
    assert SMALLEST_LIKENESS[kind] < likeness.min() < 1 - 1e-6  # close, and really quantized


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_quantized_model_is_saved_and_loaded_again(kind, batch, tmp_path) -> None:
    quantized = load(quantization_config=CONFIGS[kind], device_map="cpu")
    quantized.save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path, device_map="cpu").eval()
    with torch.no_grad():
        torch.testing.assert_close(again(**batch).logits, quantized(**batch).logits)
    bytes_in_float32 = sum(4 * parameter.numel() for parameter in load().parameters())
    assert (tmp_path / "model.safetensors").stat().st_size < 0.8 * bytes_in_float32


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_tracker_takes_a_quantization_config(kind) -> None:
    tracker = Tracker.from_pretrained("elysium-tiny", device="cpu", quantization_config=CONFIGS[kind])
    frames = np.zeros((3, 48, 64, 3), dtype=np.uint8)
    assert type(tracker.model.model.language_model.layers[0].mlp.up_proj).__module__.startswith("bitsandbytes")
    assert tracker.track(frames, "the red cross", fps=5).complete


def test_a_quantized_checkpoint_is_tracked_with(tmp_path) -> None:
    folder = shutil.copytree(CHECKPOINT, tmp_path / "quantized")
    load(quantization_config=CONFIGS["nf4"], device_map="cpu").save_pretrained(folder)
    tracker = Tracker.from_pretrained(folder, device="cpu")
    assert tracker.track(np.zeros((2, 48, 64, 3), dtype=np.uint8), "the red cross", fps=5).complete
