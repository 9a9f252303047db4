"""What vLLM's Transformers backend asks of a model and its processor, held without vLLM: pictures only, so that a
video goes there as its labelled frames."""

import json
from typing import Any

import pytest
import torch
from tiny import save_tiny_checkpoint, tiny_model, tiny_processor
from tiny_prompts import pictures
from transformers import AttentionInterface, AutoModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

PROMPT = "USER: <image>\nWhat is it? And in Frame 2: <image>\n? ASSISTANT:"


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


@pytest.fixture(scope="module")
def inputs(processor) -> dict[str, Any]:
    images = list(pictures(2))
    return processor(text=[PROMPT], images=images, return_tensors="pt", return_mm_token_type_ids=True)


def test_the_count_of_tokens_is_known_from_sizes_alone(processor, inputs) -> None:
    sizes = [(24, 40), (1080, 1920)]
    counts = processor._get_num_multimodal_tokens(image_sizes=sizes)
    assert counts["num_image_tokens"] == [processor.num_kept_tokens] * 2
    assert sum(counts["num_image_patches"]) == len(inputs["pixel_values"])
    assert sum(counts["num_image_tokens"]) == int((inputs["mm_token_type_ids"] == 1).sum())


def test_a_videos_tokens_are_counted_from_its_frames() -> None:
    processor = tiny_processor()
    counts = processor._get_num_multimodal_tokens(video_sizes=[(4, 24, 40), (7, 1080, 1920)])
    assert counts["num_video_tokens"] == [4 * processor.num_kept_tokens, 7 * processor.num_kept_tokens]


def test_token_types_mark_the_placeholders(processor, inputs) -> None:
    marked = inputs["mm_token_type_ids"] == 1
    assert torch.equal(marked, inputs["input_ids"] == processor.image_token_id)
    assert processor.tokenizer.convert_tokens_to_ids(processor.image_token) == processor.image_token_id


def test_the_processor_says_what_each_placeholder_became(processor) -> None:
    found = processor(
        text=[PROMPT], images=list(pictures(2)), return_tensors="pt", return_text_replacement_offsets=True
    )
    (entries,) = found["text_replacement_offsets"]
    assert [entry["type"] for entry in entries] == ["image", "image"]
    expected = processor.image_token * processor.num_kept_tokens
    assert [entry["replacement"] for entry in entries] == [expected] * 2
    tokens = processor.tokenizer(expected, add_special_tokens=False)["input_ids"]
    assert tokens == [processor.image_token_id] * processor.num_kept_tokens


@torch.no_grad()
def test_features_of_pictures_put_in_by_hand_give_the_same_logits(model, inputs) -> None:
    features = model.get_image_features(inputs["pixel_values"], return_dict=True).pooler_output
    assert len(features) == 2  # one row for each picture, so that they can be told apart
    embeds = model.get_input_embeddings()(inputs["input_ids"])
    places = inputs["input_ids"] == model.config.image_token_id
    embeds[places] = features.flatten(0, 1)
    asked = {name: inputs[name] for name in ("input_ids", "attention_mask", "pixel_values")}
    assert torch.equal(model(inputs_embeds=embeds).logits, model(**asked).logits)


def test_the_parts_are_found_by_their_names(model) -> None:
    assert model.get_encoder(modality="image") is model.model.vision_tower
    assert model.get_decoder() is model.model.language_model
    assert model.get_output_embeddings() is model.lm_head
    assert type(model)._supports_attention_backend and type(model.model)._supports_attention_backend


def test_the_model_is_built_without_weights_and_loads_them_by_name(model) -> None:
    with torch.device("meta"):
        empty = AutoModel.from_config(model.config)
    assert {name for name, _ in empty.named_parameters()} == {name for name, _ in model.model.named_parameters()}


@torch.no_grad()
def test_an_attention_of_the_servers_own_gets_what_it_is_given(model, inputs) -> None:
    seen = []

    def attention(module, query, key, value, attention_mask, **kwargs):
        seen.append((module.layer_idx, kwargs.get("attention_instances")))
        kwargs.pop("attention_instances", None)
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)

    AttentionInterface.register("servers_own", attention)
    other = tiny_model()
    other.model.language_model.set_attn_implementation("servers_own")
    embeds = other.get_input_embeddings()(inputs["input_ids"])
    marker = object()
    ours = other(inputs_embeds=embeds, attention_instances=marker).logits
    assert seen == [(0, marker), (1, marker)]
    torch.testing.assert_close(ours, model(inputs_embeds=embeds).logits, atol=1e-5, rtol=0)


def test_layers_can_be_split_over_devices_by_plan(model) -> None:
    """Tensor-parallel and pipeline plans of the language model are kept, under its own name."""
    plan = model.model.language_model.config.base_model_tp_plan
    assert "layers.*.self_attn.q_proj" in plan
    assert any(name.endswith("layers.*.self_attn.q_proj") for name in model.tp_plan)
    assert model.model.language_model.config.base_model_pp_plan


def test_a_saved_folder_names_its_classes(tmp_path) -> None:
    config = json.loads((save_tiny_checkpoint(tmp_path) / "config.json").read_text("utf-8"))
    for auto in ("AutoConfig", "AutoModel"):
        module, name = config["auto_map"][auto].split(".")
        assert f"class {name}(" in (tmp_path / f"{module}.py").read_text("utf-8")
