"""Asks the model: conversations in, texts with the log probability of each token out.

Many conversations go through `generate` at once, padded on the left. Decoding is greedy.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from elysium.processing.boxes_elysium import BoxReading, format_frames, parse_box, parse_frames

from .session import WindowRequest

Conversation = list[dict[str, Any]]

# The longest answer of a frame: every coordinate has two digits in both ends of the picture.
_WIDEST_BOX_NORM = (0.11, 0.22, 0.88, 0.99)
_SPARE_TOKENS = 8
# How far, in percent of width or height, an integer may lie from the one written and count with it.
NEARBY = 2


@dataclass(frozen=True, eq=False)
class Answer:
    """What the model said.

    Args:
        text: without special tokens, blanks at the ends kept, so that the spans of a reading hold.
        token_spans: for each generated token its first and last-plus-one character in `text`.
        token_log_probs (`np.ndarray` of shape `(L,)`): log probability of each generated token; of an integer that is
            one token, that of an integer at most `NEARBY` away (see `nearby_log_probs`).
    """

    text: str
    token_spans: tuple[tuple[int, int], ...]
    token_log_probs: NDArray[np.float64]

    def score(self, span: tuple[int, int] | None) -> float:
        """How sure the model was of the numbers in a span: exp of the mean log probability of the tokens with digits.

        Brackets and commas are left out, since they say nothing about where the object is.

        Returns:
            0..1, or NaN where there is no span or no number in it.
        """
        if span is None:
            return math.nan
        start, stop = span
        chosen = [
            log_prob
            for (first, last), log_prob in zip(self.token_spans, self.token_log_probs, strict=True)
            if any(character.isdigit() for character in self.text[max(first, start) : min(last, stop)])
        ]
        return min(1.0, math.exp(math.fsum(chosen) / len(chosen))) if chosen else math.nan


def integer_ids(tokenizer: Any) -> torch.Tensor | None:
    """Ids (101,) of 0..100 where each is a token of its own, else None (Llama's digits are tokens)."""
    tokens = [tokenizer.encode(str(number), add_special_tokens=False) for number in range(101)]
    return torch.tensor([ids[0] for ids in tokens]) if all(len(ids) == 1 for ids in tokens) else None


def nearby_log_probs(logits: torch.Tensor, chosen: torch.Tensor, integers: torch.Tensor | None) -> torch.Tensor:
    """Log probabilities of generated tokens, where an integer counts together with those next to it.

    A model that is sure of a place to within a few percent spreads its probability over as many integers: what it is
    sure of is their sum, not the share of the one that it wrote.

    Args:
        logits (`torch.Tensor` of shape `(B, V)`): of one step.
        chosen (`torch.Tensor` of shape `(B,)`): the tokens that were written.
        integers: from `integer_ids`.

    Returns:
        `(B,)`, at most 0.
    """
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    plain = log_probs.gather(-1, chosen[:, None])[:, 0]
    if integers is None:
        return plain
    integers = integers.to(chosen.device)
    same = chosen[:, None] == integers  # (B, 101)
    numbers = torch.arange(len(integers), device=chosen.device)
    near = (numbers - (same * numbers).sum(-1, keepdim=True)).abs() <= NEARBY
    summed = log_probs[:, integers].masked_fill(~near, -math.inf).logsumexp(-1)
    return torch.where(same.any(-1), summed, plain).clamp(max=0)


class Answerer:
    """A model and its processor as one thing that answers.

    Args:
        model: anything with transformers' `generate`.
        processor: an `ElysiumProcessor`.
        batch_size: most conversations in one call of `generate`.

    Raises:
        ValueError: ``batch_size`` below 1.
    """

    def __init__(self, model: Any, processor: Any, *, batch_size: int = 8) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, got {batch_size}; 1 asks one question at a time")
        self.model, self.processor, self.batch_size = model, processor, batch_size
        self._integers = integer_ids(processor.tokenizer)

    def answer(self, conversations: Iterable[Conversation], *, max_new_tokens: int) -> list[Answer]:
        """Answers conversations, at most ``batch_size`` at once, in their order.

        Args:
            conversations: as `processor.build_messages` gives them; taken batch by batch, so that a generator holds
                the pictures of one batch.
            max_new_tokens: an answer is cut after as many tokens.
        """
        waiting = iter(conversations)
        answers: list[Answer] = []
        while batch := list(itertools.islice(waiting, self.batch_size)):
            answers.extend(self._answer_batch(batch, max_new_tokens))
        return answers

    def answer_windows(self, requests: Sequence[WindowRequest]) -> list[tuple[Answer, list[BoxReading], list[float]]]:
        """For each window the model's answer, and a reading and a score for each of its frames."""
        if not requests:
            return []
        conversations = map(self.window_conversation, requests)
        budget = self.tracking_budget(max(len(request) for request in requests))
        replies = []
        for request, answer in zip(requests, self.answer(conversations, max_new_tokens=budget), strict=True):
            readings = parse_frames(answer.text, len(request), rounding=self.processor.box_rounding)
            replies.append((answer, readings, [answer.score(reading.span) for reading in readings]))
        return replies

    def window_conversation(self, request: WindowRequest) -> Conversation:
        """The conversation that asks for the boxes of one window."""
        return self.processor.build_messages(
            request.task, video=np.stack(request.frames), text=request.text, box_xyxy_norm=request.box_xyxy_norm
        )

    def read_box(self, answer: Answer) -> tuple[BoxReading, float]:
        """The box of a grounding answer, and its score."""
        reading = parse_box(answer.text, rounding=self.processor.box_rounding)
        return reading, answer.score(reading.span)

    def tracking_budget(self, num_frames: int) -> int:
        """Tokens that an answer over so many frames can need."""
        longest = format_frames([_WIDEST_BOX_NORM] * num_frames, rounding=self.processor.box_rounding)
        return len(self.processor.tokenizer(longest, add_special_tokens=False)["input_ids"]) + _SPARE_TOKENS

    def _answer_batch(self, conversations: list[Conversation], max_new_tokens: int) -> list[Answer]:
        inputs = self.processor.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
        )
        inputs = inputs.to(self.model.device, dtype=self.model.dtype)
        output = self.model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            return_dict_in_generate=True,
            output_logits=True,
        )
        new_ids = output.sequences[:, inputs["input_ids"].shape[1] :]  # (B, L)
        log_probs = torch.stack(
            [
                nearby_log_probs(logits, chosen, self._integers)
                for logits, chosen in zip(output.logits, new_ids.unbind(1), strict=True)
            ],
            dim=1,
        )  # (B, L)
        return [
            build_answer(self.processor.tokenizer, ids, values)
            for ids, values in zip(new_ids.tolist(), log_probs.double().cpu().numpy(), strict=True)
        ]


def build_answer(tokenizer: Any, token_ids: Sequence[int], token_log_probs: NDArray[np.float64]) -> Answer:
    """Joins generated tokens and their log probabilities; everything from the end-of-text token on is cut.

    Args:
        tokenizer: a transformers tokenizer.
        token_ids: L generated tokens, padded or not.
        token_log_probs (`np.ndarray` of shape `(L,)`): one for each.
    """
    ids = list(token_ids)
    ends = [position for position, token_id in enumerate(ids) if token_id == tokenizer.eos_token_id]
    ids = ids[: ends[0]] if ends else ids
    prefixes = list(_decode_prefixes(tokenizer, ids))
    edges = [0, *(len(prefix) for prefix in prefixes)]
    return Answer(
        text=prefixes[-1] if prefixes else "",
        token_spans=tuple(zip(edges[:-1], edges[1:], strict=True)),
        token_log_probs=np.asarray(token_log_probs, dtype=np.float64)[: len(ids)],
    )


def _decode_prefixes(tokenizer: Any, ids: list[int]) -> Iterator[str]:
    """The text of the first 1, 2, … tokens: the one way to a token's characters that holds for every tokenizer."""
    for stop in range(1, len(ids) + 1):
        yield tokenizer.decode(ids[:stop], skip_special_tokens=True, clean_up_tokenization_spaces=False)
