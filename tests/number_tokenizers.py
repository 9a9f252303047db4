"""Tokenizers that write numbers in different ways, and the tiny model and processor that go with each."""

from functools import cache

import torch
from tiny import tiny_config, tiny_tokenizer
from transformers import PreTrainedTokenizerFast

from benchmarks.decoding_models import trained_tokenizer
from elysium.modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from elysium.processing.build_processor import build_processor

# What is cut off a text before pieces are merged: whole numbers, single digits, pairs of digits from the left; or
# nothing, so that a bracket joins the number behind it.
PIECES = {
    "digits": r"\d|[a-zA-Z]+|[^a-zA-Z\d\s]+|\s",
    "pairs": r"\d{1,2}|[a-zA-Z]+|[^a-zA-Z\d\s]+|\s",
    "glued": r"\[\d+|\d+|[a-zA-Z]+|[^a-zA-Z\d\s]+|\s",
}
WAYS = ("numbers", "digits", "pairs")


@cache
def number_tokenizer(way: str) -> PreTrainedTokenizerFast:
    """A tokenizer that writes numbers as one token, digit by digit, in pairs, or glued to the bracket before them."""
    if way == "numbers":
        return tiny_tokenizer()
    return trained_tokenizer(PIECES[way])


def number_config(way: str, **changes) -> ElysiumConfig:
    """Configuration of the tiny model for a tokenizer; `changes` are fields of it."""
    return tiny_config(number_tokenizer(way), **changes)


@cache
def number_processor(way: str, rounding: str = "floor", allow_absent: bool = True):
    """Processor of the tiny model for a tokenizer."""
    config = number_config(way, box_rounding=rounding, allow_absent=allow_absent)
    return build_processor(config, number_tokenizer(way))


@cache
def number_model(way: str, seed: int = 0) -> ElysiumForConditionalGeneration:
    """Random weights, sharper than at the start of training, so that answers differ from each other."""
    torch.manual_seed(seed)
    model = ElysiumForConditionalGeneration(number_config(way)).eval()
    for name, weight in model.named_parameters():
        if "language_model" in name and weight.ndim == 2:
            weight.data *= 3
    model.lm_head.weight.data *= 20
    return model
