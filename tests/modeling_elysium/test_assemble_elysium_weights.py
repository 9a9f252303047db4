"""A fresh Elysium from pretrained parts: their weights arrive, the tables grow, and what cannot work is refused."""

from pathlib import Path

import pytest
import torch
from pretrained_parts import (
    capped_llm,
    clip,
    dinov2,
    dinov3,
    foreign_tower,
    llama,
    make,
    padded_llama,
    siglip,
    tied_qwen,
    whole_clip,
)
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    CLIPImageProcessorPil,
)

from elysium.modeling_elysium.assemble_elysium_weights import AssemblyError, assemble


def answer(folder: Path) -> tuple[torch.nn.Module, torch.Tensor]:
    """The assembled model and its logits on a prompt with two frames."""
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    frames = torch.randint(0, 256, (2, 30, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    inputs = processor.apply_chat_template(
        processor.build_messages("rsot", video=frames.numpy(), text="the red circle"),
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
    )
    with torch.no_grad():
        return model, model(**inputs).logits


@pytest.mark.parametrize("llm", [llama, padded_llama, tied_qwen], ids=lambda part: part.__name__)
@pytest.mark.parametrize("vision", [clip, whole_clip, siglip, dinov2, dinov3], ids=lambda part: part.__name__)
def test_parts_keep_their_weights_and_the_whole_answers(tmp_path, vision, llm) -> None:
    tower_folder, llm_folder = make(tmp_path / "vision", vision), make(tmp_path / "llm", llm)
    report = assemble(tower_folder, llm_folder, tmp_path / "out", num_kept_tokens=5)
    model, logits = answer(tmp_path / "out")
    assert torch.isfinite(logits).all()
    language = AutoModelForCausalLM.from_pretrained(llm_folder)
    old = language.get_input_embeddings().num_embeddings
    table, head = model.get_input_embeddings().weight, model.lm_head.weight
    assert len(table) == len(head) == max(old, model.config.video_token_id + 1)
    assert torch.equal(table[:old], language.get_input_embeddings().weight)
    assert torch.equal(head[:old], language.get_output_embeddings().weight)
    assert (table is head) == (llm is tied_qwen)
    tower = AutoModel.from_pretrained(tower_folder)
    tower = getattr(tower, "vision_model", tower).eval()
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        if model.config.vision_feature_layer == -1:
            states = tower(pixels).last_hidden_state
        else:
            states = tower(pixels, output_hidden_states=True).hidden_states[model.config.vision_feature_layer]
        found = model.get_video_features(pixels).last_hidden_state
    torch.testing.assert_close(found, states[:, -16:], atol=1e-5, rtol=1e-5)
    assert report.num_new == report.parameters["selector"] + report.parameters["multi_modal_projector"] > 0
    assert sum(p.numel() for p in model.parameters()) == sum(report.parameters.values()) - (
        report.parameters["lm_head"] if llm is tied_qwen else 0
    )


def test_every_part_that_is_built_can_be_trained(tmp_path) -> None:
    assemble(make(tmp_path / "vision", siglip), make(tmp_path / "llm", llama), tmp_path / "out", num_kept_tokens=5)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    ids = torch.tensor([[5, *[model.config.video_token_id] * 5, 7, 8]])
    model(input_ids=ids, labels=ids, pixel_values_videos=torch.randn(1, 3, 32, 32)).loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []


def test_the_papers_share_of_tokens_is_kept_unless_told(tmp_path) -> None:
    assemble(make(tmp_path / "vision", clip), make(tmp_path / "llm", llama), tmp_path / "out")
    model, _ = answer(tmp_path / "out")
    assert model.config.num_kept_tokens == 3  # 0.1875 of 16
    assert (model.config.vision_feature_layer, model.config.vision_prefix_tokens) == (-2, 1)


def test_pictures_are_normalised_as_the_towers_own_processor_does(tmp_path) -> None:
    tower = make(tmp_path / "vision", siglip)
    CLIPImageProcessorPil(image_mean=[0.5] * 3, image_std=[0.25] * 3).save_pretrained(tower)
    assemble(tower, make(tmp_path / "llm", llama), tmp_path / "out")
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    for part in (processor.image_processor, processor.video_processor):
        assert (list(part.image_mean), list(part.image_std)) == ([0.5] * 3, [0.25] * 3)


def test_the_seed_decides_the_new_parts(tmp_path) -> None:
    tower, language = make(tmp_path / "vision", clip), make(tmp_path / "llm", llama)
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assemble(tower, language, tmp_path / name, seed=seed)
        weights.append(answer(tmp_path / name)[0].model.multi_modal_projector.linear_1.weight)
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("vision", "llm", "message"),
    [
        (foreign_tower, llama, "--vision must be a tower of type clip_vision_model.*got 'vit'"),
        (clip, capped_llm, "--llm must have a plain linear head, got 'gemma2' with final_logit_softcapping=30.0"),
    ],
    ids=["tower", "llm"],
)
def test_parts_that_make_no_elysium_are_refused(tmp_path, vision, llm, message: str) -> None:
    tower, language = make(tmp_path / "vision", vision), make(tmp_path / "llm", llm)
    with pytest.raises(AssemblyError, match=message):
        assemble(tower, language, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llm", "vision"]
