"""Weights of earlier stages of elysium-small fit into its form, and lie halfway to later ones."""

import pytest
import torch
from tiny import tiny_model

from research.semantic.assemble import halfway_between, load_trained
from research.semantic.box_marks import ridge

SEMANTIC = {"classes": {"classifier": 6, "coco_detector": 4}, "image_size": 64}
PROJECTOR = "model.semantic_projector."


def test_halfway_is_the_mean_but_for_the_projector() -> None:
    weights = {"lm_head.weight": torch.tensor([1.0, 3.0]), f"{PROJECTOR}box.weight": torch.tensor([5.0])}
    earlier = {"lm_head.weight": torch.tensor([3.0, 4.0]), f"{PROJECTOR}box.weight": torch.tensor([1.0])}
    found = halfway_between(weights, earlier)
    assert found["lm_head.weight"].tolist() == [2.0, 3.5]
    assert found[f"{PROJECTOR}box.weight"].tolist() == [5.0]


def test_marks_of_two_numbers_become_marks_of_four_with_a_box() -> None:
    earlier, model = tiny_model(semantic_config=SEMANTIC), tiny_model(semantic_config=SEMANTIC)
    weights = {name: value.clone() for name, value in earlier.state_dict().items()}
    pairs = torch.randn(weights[f"{PROJECTOR}matches.weight"].shape[0], 2)
    weights[f"{PROJECTOR}matches.weight"] = pairs
    del weights[f"{PROJECTOR}matched_box.weight"]
    load_trained(model, weights)
    projector = model.model.semantic_projector
    assert torch.equal(projector.matches.weight, torch.cat([pairs / 2, pairs], 1))
    assert torch.equal(projector.matched_box.weight, 4 * projector.box.weight)


def test_weights_of_another_model_are_refused() -> None:
    with pytest.raises(AssertionError):
        load_trained(tiny_model(semantic_config=SEMANTIC), {"another.weight": torch.zeros(1)})


def test_the_regression_finds_what_a_box_explains() -> None:
    generator = torch.Generator().manual_seed(0)
    waves, weights = torch.randn(4000, 8, generator=generator), torch.randn(8, 3, generator=generator)
    found = ridge(waves, waves @ weights + 0.1 * torch.randn(4000, 3, generator=generator))
    torch.testing.assert_close(found, weights, atol=0.05, rtol=0.05)
