"""Logits at labelled positions only give the loss, the figures and the gradients of TRL's head at all positions."""

import pytest
import torch
from tiny import tiny_model
from trl.trainer.utils import add_fused_lm_head

from elysium.training.collator import IGNORE
from elysium.training.labelled_head import score_labels_only

FIGURES = ("log_probs", "entropy", "is_top1", "label_mask")


def scored(labels, *, only):
    """Outputs and gradients of a step, and the number of positions in each call of the head."""
    model, rows = tiny_model().train(), []
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    if only:
        score_labels_only(model)
    model.lm_head.register_forward_pre_hook(lambda head, args: rows.append(len(args[0])))
    inputs = torch.arange(labels.numel()).view_as(labels) + 10
    out = model(input_ids=inputs, attention_mask=torch.ones_like(inputs), labels=labels, fused_lm_head=True)
    (-out.log_probs.sum()).backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return out, gradients, rows


@pytest.mark.parametrize("labelled", [[(0, 3), (0, 4), (2, 8)], []], ids=["some", "none"])
def test_outputs_and_gradients_are_those_of_all_positions(labelled):
    labels = torch.full((3, 9), IGNORE)
    for row, column in labelled:
        labels[row, column] = 40 + column
    slow, expected, _ = scored(labels, only=False)
    fast, found, rows = scored(labels, only=True)
    assert rows == [len(labelled)]
    for name in FIGURES:
        torch.testing.assert_close(fast[name], slow[name])
    assert found.keys() == expected.keys() and "lm_head.weight" in found
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-4)


def test_without_the_fused_head_the_model_gives_its_logits():
    model = tiny_model()
    add_fused_lm_head(model)
    score_labels_only(model)
    ids = torch.arange(10, 18)[None]
    assert model(input_ids=ids, labels=ids).logits.shape == (1, 8, model.config.text_config.vocab_size)
