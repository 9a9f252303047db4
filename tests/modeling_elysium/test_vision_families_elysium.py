"""Every vision family is cut after the layer that is read, and gives the hidden state that transformers gives."""

import pytest
import torch
from tiny import tiny_config
from transformers import AutoConfig, AutoModel

from elysium.modeling_elysium.modeling_elysium import _build_vision_tower
from elysium.modeling_elysium.vision_families_elysium import VISION_FAMILIES, vision_family

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
PUBLISHED = sorted(set(VISION_FAMILIES) - {"elysium_tiny_vit"})


def tower_config(vision: dict, layer: int):
    prefix = vision_family(vision["model_type"]).prefix_tokens(AutoConfig.for_model(**vision))
    return tiny_config(vision_config=vision, vision_feature_layer=layer, vision_prefix_tokens=prefix)


@pytest.mark.parametrize("layer", [-1, -2, -3])
@pytest.mark.parametrize("model_type", PUBLISHED)
def test_a_cut_tower_gives_the_hidden_state_that_is_read(model_type: str, layer: int) -> None:
    config = tower_config(SMALL | {"model_type": model_type}, layer)
    torch.manual_seed(0)
    whole = AutoModel.from_config(config.vision_config).eval()
    cut = _build_vision_tower(config).eval()
    cut.load_state_dict(whole.state_dict(), strict=False)
    assert len(cut.get_submodule(VISION_FAMILIES[model_type].layers)) == 4 + layer
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        found = cut(images).last_hidden_state
        if layer == -1 and VISION_FAMILIES[model_type].norm_reads_patches:
            expected = whole(images).last_hidden_state
        else:
            expected = whole(images, output_hidden_states=True).hidden_states[layer]
    assert torch.equal(found, expected)


@pytest.mark.parametrize(("layer", "left"), [(-1, 2), (-2, 1)])
def test_a_tower_of_stages_as_deep_as_each_other_loses_layers_of_the_last_one(layer: int, left: int) -> None:
    vision = {"model_type": "elysium_tiny_vit", "image_size": 64, "num_hidden_layers": 2}
    tower = _build_vision_tower(tower_config(vision, layer))
    assert (len(tower.conv_blocks), len(tower.fine_blocks), len(tower.coarse_blocks)) == (2, 2, left)


def test_an_unknown_tower_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="must be a tower of type clip_vision_model.*got 'vit'"):
        _build_vision_tower(tiny_config(vision_config=SMALL | {"model_type": "vit"}, vision_prefix_tokens=1))
