"""The configuration: its defaults are the paper's 7B model, and what cannot work is refused when it is written."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny import tiny_config

from elysium.modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration


def test_defaults_are_the_7b_model_of_the_paper() -> None:
    config = ElysiumConfig()
    assert (config.num_patches, config.num_kept_tokens) == (576, 108)
    assert config.num_kept_tokens / config.num_patches == 0.1875  # alpha of section 3.2
    assert (config.compressor, config.selector_gate) == ("t_selector", "softmax_topk")
    assert (config.vision_feature_layer, config.vision_prefix_tokens) == (-2, 1)
    assert (config.vision_config.hidden_size, config.vision_config.image_size) == (1024, 336)
    assert (config.text_config.hidden_size, config.text_config.num_hidden_layers) == (4096, 32)
    assert (config.image_token_id, config.video_token_id, config.text_config.vocab_size) == (32000, 32001, 32002)


def test_the_7b_model_has_the_parameters_of_its_parts() -> None:
    with torch.device("meta"):
        model = ElysiumForConditionalGeneration(ElysiumConfig())
    layer = 4 * (1024**2 + 1024) + (1024 * 4096 + 4096) + (4096 * 1024 + 1024) + 2 * 2048
    vision = 1024 + 3 * 14**2 * 1024 + 577 * 1024 + 2048 + 23 * layer  # 23 of 24 layers: the last is never read
    vicuna = 6_738_415_616 + 2 * 2 * 4096  # and two placeholder rows in the embedding and in the head
    projector = (1024 * 4096 + 4096) + (4096**2 + 4096)
    selector = (1024 * 64 + 64) + (64 + 1)
    assert sum(p.numel() for p in model.parameters()) == vision + vicuna + projector + selector


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_kept_tokens": 0}, r"num_kept_tokens must be in 1\.\.16 .*, got 0"),
        ({"num_kept_tokens": 17}, r"num_kept_tokens must be in 1\.\.16 .*, got 17"),
        ({"compressor": "none"}, r"num_kept_tokens must be 16, got 5"),
        ({"compressor": "concat", "kept_position_embedding": False}, r"must divide 16, got 5"),
        (
            {"compressor": "concat", "num_kept_tokens": 4},
            r"kept_position_embedding needs tokens that have a place \(t_selector, none\), got 'concat'",
        ),
        ({"compressor": "cross_attention"}, r"kept_position_embedding needs .* got 'cross_attention'"),
        ({"vision_feature_layer": 0}, r"vision_feature_layer must be in -2\.\.-1, got 0"),
        ({"vision_feature_layer": -3}, r"vision_feature_layer must be in -2\.\.-1, got -3"),
    ],
)
def test_a_contradiction_names_the_rule_and_the_value(changes: dict, message: str) -> None:
    with pytest.raises(Exception, match=message) as caught:
        tiny_config(**changes)
    assert isinstance(caught.value, (ValueError, StrictDataclassError))


@pytest.mark.parametrize(
    "changes",
    [
        {"compressor": "average"},
        {"selector_gate": "sigmoid"},
        {"projector_type": "mlp3x"},
        {"box_rounding": "ceil"},
        {"num_kept_tokens": "5"},
        {"allow_absent": "yes"},
    ],
)
def test_a_value_outside_its_choices_names_the_field(changes: dict) -> None:
    with pytest.raises(StrictDataclassError, match=next(iter(changes))):
        tiny_config(**changes)


def test_an_identity_projector_needs_equal_widths() -> None:
    config = tiny_config(
        projector_type="identity", compressor="concat", num_kept_tokens=4, kept_position_embedding=False
    )
    with pytest.raises(ValueError, match="vision 256 and text 64; use 'linear'"):
        ElysiumForConditionalGeneration(config)


def test_a_configuration_survives_saving(tmp_path) -> None:
    config = tiny_config(box_rounding="round", allow_absent=False, trained_on="trained on nothing")
    config.save_pretrained(tmp_path)
    loaded = ElysiumConfig.from_pretrained(tmp_path)
    own = [name for name in config.to_dict() if name not in ("transformers_version", "auto_map")]
    assert {name: loaded.to_dict()[name] for name in own} == {name: config.to_dict()[name] for name in own}
