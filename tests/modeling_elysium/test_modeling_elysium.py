"""The model: every compressor and projector, and equal results by every way of computing, saving and generating."""

from typing import Any

import pytest
import torch
from tiny import tiny_config, tiny_model, tiny_processor
from tiny_prompts import ask, pictures, ragged

from elysium.modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration, ElysiumModel

PLAIN = {"kept_position_embedding": False}
COMPRESSORS = {
    "t_selector": {},
    "public_affine": {"selector_gate": "public_affine"},
    "none": {"compressor": "none", "num_kept_tokens": 16},
    "concat": {"compressor": "concat", "num_kept_tokens": 4, **PLAIN},
    "cross_attention": {"compressor": "cross_attention", **PLAIN},
}


@pytest.fixture(scope="module")
def processor() -> Any:
    return tiny_processor()


@pytest.fixture(scope="module")
def model() -> ElysiumForConditionalGeneration:
    return tiny_model()


@pytest.fixture(scope="module")
def batch(processor) -> dict[str, torch.Tensor]:
    return ask(processor, *ragged(processor))


PAIRS = [
    (name, projector_type)
    for name in COMPRESSORS
    for projector_type in ("mlp2x_gelu", "linear", "identity")
    if (name, projector_type) != ("concat", "identity")  # widths differ: see the configuration's tests
]


@pytest.mark.parametrize(("name", "projector_type"), PAIRS)
def test_every_compressor_and_projector_learns(name: str, projector_type: str) -> None:
    changes = COMPRESSORS[name] | {"projector_type": projector_type}
    processor, model = tiny_processor(**changes), tiny_model(**changes)
    inputs = ask(processor, *ragged(processor, "[1,2,3,4]"), answer=True)
    output = model(**inputs, labels=inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100))
    assert output.video_hidden_states.shape == (4, processor.num_kept_tokens, 64)
    assert output.image_hidden_states.shape == (1, processor.num_kept_tokens, 64)
    assert output.logits.shape == (*inputs["input_ids"].shape, len(processor.tokenizer))
    output.loss.backward()
    without = [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert model.model.vision_tower.embeddings.patch_embedding.weight.grad.abs().max() > 0


def test_only_the_layers_that_are_read_are_built() -> None:
    last, penultimate = tiny_model(), tiny_model(vision_feature_layer=-2)
    assert len(last.model.vision_tower.encoder.layers) == 2
    assert len(penultimate.model.vision_tower.encoder.layers) == 1
    assert penultimate.config.vision_config.num_hidden_layers == 2  # the configuration stays that of the whole tower
    assert not any("post_layernorm" in name for name, _ in penultimate.named_parameters())


def test_the_penultimate_layer_is_the_hidden_state_before_the_last_layer() -> None:
    whole, part = tiny_model(vision_feature_layer=-1), tiny_model(vision_feature_layer=-2)
    part.model.vision_tower.load_state_dict(whole.model.vision_tower.state_dict(), strict=False)
    pixels = torch.randn(2, 3, 32, 32)
    states = whole.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    expected = part.model.vision_feature_norm(states[-2][:, 1:])
    torch.testing.assert_close(part.get_image_features(pixels).last_hidden_state, expected)


def test_gradient_checkpointing_gives_the_same_loss_and_gradients(batch) -> None:
    grads, losses = [], []
    for checkpointing in (False, True):
        model = tiny_model().train()
        if checkpointing:
            model.gradient_checkpointing_enable()
            assert model.is_gradient_checkpointing
        loss = model(**batch, labels=batch["input_ids"], use_cache=False).loss
        loss.backward()
        losses.append(loss.item())
        grads.append({name: p.grad for name, p in model.named_parameters()})
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("by_embeddings", [False, True])
def test_placeholders_that_do_not_match_raise_with_both_counts(model, processor, by_embeddings: bool) -> None:
    inputs = ask(processor, ragged(processor)[0])
    inputs["pixel_values_videos"] = inputs["pixel_values_videos"][:2]
    if by_embeddings:
        inputs["inputs_embeds"] = model.get_input_embeddings()(inputs.pop("input_ids"))
    with pytest.raises(Exception, match="got 15 placeholders and 10 visual tokens.*num_kept_tokens"):
        model(**inputs)


def test_a_processor_that_keeps_another_count_than_the_model_raises_with_both(model) -> None:
    other = tiny_processor(num_kept_tokens=7)
    with pytest.raises(Exception, match="got 21 placeholders and 15 visual tokens.*num_kept_tokens equal"):
        model(**ask(other, ragged(other)[0]))


def test_ids_and_embeddings_exclude_each_other(model) -> None:
    with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
        model.model(input_ids=torch.ones(1, 2, dtype=torch.long), inputs_embeds=torch.zeros(1, 2, 64))
    with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
        model.model()


@torch.no_grad()
def test_embeddings_give_the_logits_of_ids(model, batch) -> None:
    embedded = {name: value for name, value in batch.items() if name != "input_ids"}
    embedded["inputs_embeds"] = model.get_input_embeddings()(batch["input_ids"])
    torch.testing.assert_close(model(**embedded).logits, model(**batch).logits)


@torch.no_grad()
@pytest.mark.parametrize("max_shard_size", ["50GB", "200KB"])
def test_saving_and_loading_gives_the_same_logits(model, batch, tmp_path, max_shard_size: str) -> None:
    model.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    shards = list(tmp_path.glob("*.safetensors"))
    assert len(shards) > 1 if max_shard_size == "200KB" else len(shards) == 1
    loaded, info = ElysiumForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not (info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"])
    assert torch.equal(loaded.eval()(**batch).logits, model(**batch).logits)
    base = ElysiumModel.from_pretrained(tmp_path).eval()
    assert torch.equal(model.lm_head(base(**batch).last_hidden_state), model(**batch).logits)


@torch.no_grad()
def test_tied_embeddings_are_saved_once_and_loaded_tied(batch, tmp_path) -> None:
    text = tiny_model().config.to_dict()["text_config"] | {"tie_word_embeddings": True}
    model = tiny_model(tie_word_embeddings=True, text_config=text)
    model.save_pretrained(tmp_path)
    loaded = ElysiumForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)


@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 3},
        {"do_sample": True, "top_k": 50},
        {"cache_implementation": "static"},
        {"num_beams": 2, "num_return_sequences": 2},
    ],
)
def test_generate_answers_every_conversation(model, batch, options: dict) -> None:
    torch.manual_seed(0)
    prompt = batch["input_ids"].shape[1]
    sequences = model.generate(**batch, max_new_tokens=4, **options)
    assert len(sequences) == 4 * options.get("num_return_sequences", 1)
    assert prompt < sequences.shape[1] <= prompt + 4


@torch.no_grad()
def test_a_static_cache_gives_the_greedy_answer(model, batch) -> None:
    options = {"max_new_tokens": 5, "do_sample": False}
    static = model.generate(**batch, cache_implementation="static", **options)
    assert torch.equal(static, model.generate(**batch, **options))


@torch.no_grad()
def test_features_computed_beforehand_give_the_same_logits(model, batch) -> None:
    encoded = {
        "image": model.get_image_features(batch["pixel_values"]),
        "video": model.get_video_features(batch["pixel_values_videos"]),
    }
    texts = {name: batch[name] for name in ("input_ids", "attention_mask")}
    assert torch.equal(model(**texts, mm_encoder_outputs=encoded).logits, model(**batch).logits)


@torch.no_grad()
def test_the_vision_tower_runs_once_in_generate(model, batch) -> None:
    calls = []
    hook = model.model.vision_tower.register_forward_hook(lambda *_: calls.append(1))
    model.generate(**batch, max_new_tokens=4, num_beams=2)
    hook.remove()
    assert len(calls) == 2  # the images, and the frames


@torch.no_grad()
def test_images_labelled_by_hand_are_a_video(model, processor) -> None:
    frames = pictures(3)
    question = {"type": "text", "text": "\nWhat is it?"}
    as_video = [{"role": "user", "content": [{"type": "video", "video": frames}, question]}]
    content: list[dict] = []
    for number, frame in enumerate(frames, 1):
        label = f"Frame {number}: " if number == 1 else f", Frame {number}: "
        content += [{"type": "text", "text": label}, {"type": "image", "image": frame}]
    as_images = [{"role": "user", "content": [*content, question]}]
    video, images = ask(processor, as_video), ask(processor, as_images)
    by_hand = images["input_ids"].masked_fill(
        images["input_ids"] == processor.image_token_id, processor.video_token_id
    )
    assert torch.equal(by_hand, video["input_ids"])
    one, other = model(**video), model(**images)
    assert torch.equal(one.video_hidden_states, other.image_hidden_states)
    assert torch.equal(one.logits, other.logits)


def test_features_name_the_patches_that_were_kept(model) -> None:
    features = model.get_image_features(torch.randn(2, 3, 32, 32))
    assert features.selector_scores.shape == (2, 16)
    assert features.selector_indices.shape == (2, 5)
    assert features.last_hidden_state.shape == (2, 16, 64)


def test_outputs_come_as_a_tuple_where_asked_for(model, batch) -> None:
    output = model(**batch)
    logits, *_ = model(**batch, return_dict=False)
    assert torch.equal(logits, output.logits)


def test_images_and_frames_go_through_the_vision_tower_together(model, batch, monkeypatch) -> None:
    assert {"pixel_values", "pixel_values_videos"} <= set(batch)
    calls = []
    forward = model.model.vision_tower.forward
    monkeypatch.setattr(model.model.vision_tower, "forward", lambda *a, **k: calls.append(1) or forward(*a, **k))
    together = model(**batch).logits
    assert len(calls) == 1  # processes of a sharded run must call it equally often
    apart = {
        "image": model.get_image_features(batch["pixel_values"], return_dict=True),
        "video": model.get_video_features(batch["pixel_values_videos"], return_dict=True),
    }
    assert torch.allclose(model(**batch, mm_encoder_outputs=apart).logits, together, atol=1e-5)


def test_a_model_that_torch_has_wrapped_is_saved_with_its_own_code(tmp_path) -> None:
    model = tiny_model()
    ElysiumForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")
    # What FSDP2's fully_shard does to a model's class.
    wrapper = type("FSDPElysium", (type(model),), {"__module__": "torch.distributed.fsdp"})
    model.__class__ = wrapper
    model.save_pretrained(tmp_path)
    assert type(model) is wrapper
    assert (tmp_path / "modeling_elysium.py").is_file()
    assert not list(tmp_path.glob("_fsdp*"))
    assert (
        ElysiumForConditionalGeneration.from_pretrained(tmp_path).config.auto_map["AutoModel"].startswith("modeling")
    )


def test_images_of_another_size_than_the_checkpoints_are_refused_with_both() -> None:
    for height, width in ((64, 64), (32, 48)):
        with pytest.raises(ValueError, match=f"images must be 32x32 pixels, .* got {width}x{height}; leave size out"):
            tiny_model().get_video_features(torch.randn(2, 3, height, width))


def test_a_sentence_on_training_data_is_not_handed_on_to_weights_that_may_have_changed(tmp_path) -> None:
    whole = ElysiumForConditionalGeneration(tiny_config(trained_on="trained on cats"))
    whole.save_pretrained(tmp_path / "cats")
    loaded = ElysiumForConditionalGeneration.from_pretrained(tmp_path / "cats")
    assert loaded.config.trained_on == "trained on cats"  # of the weights that were saved with it
    loaded.save_pretrained(tmp_path / "again")
    again = ElysiumForConditionalGeneration.from_pretrained(tmp_path / "again")
    assert again.config.trained_on == "derived from cats"
    again.save_pretrained(tmp_path / "third")
    assert ElysiumConfig.from_pretrained(tmp_path / "third").trained_on == "derived from cats"
    again.config.trained_on = "trained on dogs"
    again.save_pretrained(tmp_path / "dogs")
    assert ElysiumConfig.from_pretrained(tmp_path / "dogs").trained_on == "trained on dogs"
    loaded.save_pretrained(tmp_path / "named", trained_on="trained on cats")
    assert ElysiumConfig.from_pretrained(tmp_path / "named").trained_on == "trained on cats"
