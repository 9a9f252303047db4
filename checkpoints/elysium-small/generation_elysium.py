# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Fast decoding of tracking answers: the tokens of greedy `generate` under the grammar, in a few forward passes.

- What every question about a window shares, the system sentence and the frames, is read once (`Prefix`); answers about
  one window stand behind each other in one row and see that prefix and themselves (`PackedCache`).
- Tokens that the grammar leaves no choice for are read together with the next decision, and the rest of the answer is
  drafted and checked in one pass (`box_drafting_elysium`).
- Logits are computed in float32, and only for tokens that the grammar ever decides on.

Equal in float32; in bfloat16 a token may differ where two are nearly as likely, since sums are made in another order.

Shapes: R rows (windows), Q tokens of a pass, P of a prefix, H heads, L tokens, D text width, n decisions, A tokens
that are ever decided on.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import GenerationMixin
from transformers.cache_utils import DynamicCache

from .box_drafting_elysium import AnswerWriter, DecodingCounts, ShiftRate
from .box_grammar_elysium import AnswerState, BoxAnswerGrammar, BoxGrammarLogitsProcessor
from .compat_elysium import cache_kwargs
from .packed_cache_elysium import PADDING, PackedCache, Prefix

# An H100 multiplies about 300 numbers of bfloat16 while it reads one from its memory, a core of a processor some tens.
_FREE_TOKENS = {"cuda": 512, "cpu": 48}
_LEAST_FRAMES = 2


@dataclass(frozen=True, eq=False)
class BoxQuestion:
    """Hold the prompt of one answer.

    Args:
        prefix: of the window; questions with the same object share a row.
        question_ids: the rest of the prompt, at least one token.
        state: from `BoxAnswerGrammar.start`.
        last_box: where the object was last, as integers, for the first draft.
    """

    prefix: Prefix
    question_ids: Sequence[int]
    state: AnswerState
    last_box: Sequence[float] | None = None


@dataclass(frozen=True, eq=False)
class BoxAnswer:
    """Hold one answer.

    Args:
        token_ids: all tokens with the end of text.
        log_probs: for each its log probability among the tokens that were allowed, as `nearby_log_probs` gives it.
        boxes: for each frame four integers, or None where the answer is `none`.
    """

    token_ids: list[int]
    log_probs: list[float]
    boxes: list[tuple[int, ...] | None]


class BoxDecoder:
    """Write tracking answers with a model.

    Args:
        model: `ElysiumForConditionalGeneration`, as `check_decodable` accepts it.
        free_tokens: how many tokens a pass may draft for all answers together (two frames of each at least): up to
            there a pass costs about what one over a single token does, since reading the weights is what takes the
            time. By default what the kind of device can multiply while it reads a weight.

    Attributes:
        counts (`DecodingCounts`): of everything since the decoder was made.

    Raises:
        ValueError: a model that it cannot decode with; the message says why.
    """

    def __init__(self, model: Any, *, free_tokens: int | None = None):
        if (reason := why_not_decodable(model)) is not None:
            raise ValueError(f"model must be one that boxes can be decoded with, got {reason}; use generate")
        self.model = model
        self.counts = DecodingCounts()
        self.rate = ShiftRate()
        device = next(model.parameters()).device.type
        self.free_tokens = _FREE_TOKENS.get(device, _FREE_TOKENS["cpu"]) if free_tokens is None else free_tokens
        self._language_model = model.model.language_model

    # --- what is read before any answer ---
    @torch.no_grad()
    def embed(self, input_ids: Sequence[int], visual_tokens: torch.Tensor | None = None) -> torch.Tensor:
        """Return the embeddings (L, D) of tokens, with visual tokens in place of their placeholders.

        Args:
            input_ids: L tokens.
            visual_tokens (`torch.FloatTensor` of shape `(number of placeholders, D)`): of frames or images.

        Raises:
            ValueError: as many placeholders as visual tokens there must be.
        """
        table = self.model.get_input_embeddings()
        ids = torch.tensor(input_ids, device=table.weight.device)
        embeds = table(ids)
        config = self.model.config
        places = (ids == config.video_token_id) | (ids == config.image_token_id)
        found = 0 if visual_tokens is None else len(visual_tokens)
        if int(places.sum()) != found:
            raise ValueError(
                f"there must be a placeholder for each visual token, got {int(places.sum())} and {found}; are the "
                "processor's and the model's num_kept_tokens equal?"
            )
        if visual_tokens is not None:
            embeds[places] = visual_tokens.to(embeds.device, embeds.dtype)
        return embeds

    @torch.no_grad()
    def read(self, beginnings: Sequence[torch.Tensor]) -> list[Prefix]:
        """Read beginnings of prompts, embeddings (P, D) each, in one pass."""
        lengths = [len(beginning) for beginning in beginnings]
        # A pass is causal: what stands behind a short row is seen by nothing in it.
        embeds = nn.utils.rnn.pad_sequence(list(beginnings), batch_first=True)  # (R, P, D)
        cache = DynamicCache()
        self._language_model(inputs_embeds=embeds, use_cache=True, **cache_kwargs(cache))
        self.counts.prefix_forwards += 1
        return [
            Prefix(
                [layer.keys[row, :, :length] for layer in cache.layers],
                [layer.values[row, :, :length] for layer in cache.layers],
            )
            for row, length in enumerate(lengths)
        ]

    # --- answers ---
    @torch.no_grad()
    def write(self, questions: Sequence[BoxQuestion]) -> list[BoxAnswer]:
        """Generate answers, batching questions whose grammars share the same token set.

        Questions with the same prefix are packed into one row; a row costs as much as its longest.
        """
        writers = [AnswerWriter(each.state.copy(), each.question_ids, self.rate, each.last_box) for each in questions]
        alike: dict[tuple[int, ...], list[int]] = {}
        for number, writer in enumerate(writers):
            alike.setdefault(tuple(writer.state.grammar.column), []).append(number)
        for numbers in alike.values():
            batch = _Batch([(questions[number].prefix, writers[number]) for number in numbers])
            while batch.draft(self.free_tokens):
                self._check(batch)
        self.counts.answers += len(writers)
        self.counts.tokens += sum(len(writer.tokens) - 1 for writer in writers)
        return [BoxAnswer(writer.tokens, writer.log_probs, writer.state.boxes) for writer in writers]

    def _check(self, batch: "_Batch") -> None:
        """Run one pass over the known and drafted tokens of all answers."""
        ids, owners, positions = batch.tokens()
        batch.cache.open(owners, positions)
        mask = batch.cache.mask(owners, positions)
        embeds = self.model.get_input_embeddings()(ids)
        if self._language_model.config._attn_implementation != "sdpa":
            mask = torch.zeros_like(mask, dtype=embeds.dtype).masked_fill(~mask, torch.finfo(embeds.dtype).min)
        hidden = self._language_model(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            **cache_kwargs(batch.cache),
        ).last_hidden_state  # (R, Q, D)
        self.counts.check_forwards += 1
        rows, columns = batch.decided()
        choices, log_probs = self._choose(hidden[rows, columns], batch)
        drafted, accepted = batch.take(choices, log_probs)
        self.counts.drafted += drafted
        self.counts.accepted += accepted

    def _choose(self, hidden: torch.Tensor, batch: "_Batch") -> tuple[list[int], list[float]]:
        """Return the model's token at each decision (n, D), and its log probability."""
        grammar = batch.writing[0].state.grammar
        decisions = [decision for writer in batch.writing for decision in writer.decisions]
        rows = torch.stack([decision.state.grammar.row(decision.state) for decision in decisions])  # (n, A)
        logits = self._logits(hidden, grammar) + rows.to(hidden.device)
        columns, log_probs = grammar.choose(logits)
        return grammar.token_ids[columns.cpu()].tolist(), log_probs.tolist()

    def _logits(self, hidden: torch.Tensor, grammar: BoxAnswerGrammar) -> torch.Tensor:
        """Return logits (n, A) in float32 of hidden states (n, D), for the grammar's tokens alone where possible."""
        head = self.model.get_output_embeddings()
        if type(head) is not nn.Linear or type(head.weight) is not nn.Parameter or head.weight.is_meta:
            return head(hidden)[:, grammar.token_ids.to(hidden.device)].float()  # quantized, adapted, offloaded
        weight = head.weight[grammar.token_ids.to(head.weight.device)].float()
        bias = 0 if head.bias is None else head.bias[grammar.token_ids.to(head.weight.device)].float()
        return hidden.float() @ weight.T + bias


class _Batch:
    """Batch of answers that are written in the same passes, packed by prefix."""

    def __init__(self, questions: Sequence[tuple[Prefix, AnswerWriter]]):
        prefixes = list(dict.fromkeys(prefix for prefix, _ in questions))
        self._rows = [[writer for prefix, writer in questions if prefix is own] for own in prefixes]
        self._number = {writer: number for number, (_, writer) in enumerate(questions)}
        self._next = {writer: len(prefix) for prefix, writer in questions}  # position of its next token
        self._starts: dict[AnswerWriter, tuple[int, int]] = {}  # of its tokens in the pass: row and column
        # An answer keeps its question and its own tokens, and a pass is as wide as the row that sends most.
        kept = max(sum(len(each.question) + each.state.grammar.longest for each in row) for row in self._rows)
        room = kept + max(sum(each.state.grammar.longest for each in row) for row in self._rows)
        self.cache = PackedCache(prefixes, room)

    @property
    def writing(self) -> list[AnswerWriter]:
        """Return the writers of unfinished answers, in the order of the pass."""
        return [writer for row in self._rows for writer in row]

    def draft(self, free_tokens: int) -> bool:
        """Draft about ``free_tokens`` tokens of all answers together; return False where no answer is left."""
        left = [[writer for writer in row if not writer.state.done] for row in self._rows]
        if not all(left) and any(left):
            self.cache.select([number for number, row in enumerate(left) if row])
            left = [row for row in left if row]
        self._rows = left
        writing = self.writing
        for writer in writing:
            grammar = writer.state.grammar
            writer.draft(max(_LEAST_FRAMES, free_tokens * grammar.num_frames // (grammar.longest * len(writing))))
        return bool(writing)

    def tokens(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return ids, owners and positions of the next pass, (R, Q) each."""
        width = max(sum(len(writer.sent) for writer in row) for row in self._rows)
        shape = len(self._rows), width
        ids, owners, positions = torch.tensor([0, PADDING, max(self._next.values())]).repeat(*shape, 1).unbind(-1)
        ids, owners, positions = ids.contiguous(), owners.contiguous(), positions.contiguous()
        for number, row in enumerate(self._rows):
            start = 0
            for writer in row:
                sent = torch.tensor(writer.sent)
                part = number, slice(start, start + len(sent))
                ids[part], owners[part] = sent, self._number[writer]
                positions[part] = torch.arange(len(sent)) + self._next[writer]
                self._starts[writer] = number, start
                start += len(sent)
        device = self.cache.owners.device
        return ids.to(device), owners.to(device), positions.to(device)

    def decided(self) -> tuple[list[int], list[int]]:
        """Return rows and columns of the tokens after which several are valid."""
        rows, columns = [], []
        for writer in self.writing:
            row, start = self._starts[writer]
            for decision in writer.decisions:
                rows.append(row)
                columns.append(start + len(writer.pending) - 1 + decision.at)
        return rows, columns

    def take(self, choices: Sequence[int], log_probs: Sequence[float]) -> tuple[int, int]:
        """Take the model's choices; return how many decisions were drafted, and how many of them it agreed to."""
        said = iter(zip(choices, log_probs, strict=True))
        kept: list[list[int]] = [[] for _ in self._rows]
        drafted = accepted = 0
        for writer in self.writing:
            row, start = self._starts[writer]
            own, scores = zip(*itertools.islice(said, len(writer.decisions)), strict=True)
            drafted += sum(decision.token is not None for decision in writer.decisions)
            right = writer.take(own, scores)
            accepted += writer.agreed
            kept[row] += range(start, start + right)
            self._next[writer] += right
        self.cache.keep(kept)
        return drafted, accepted


def why_not_decodable(model: Any) -> str | None:
    """Return why boxes of a model cannot be decoded fast, or None where they can."""
    if not isinstance(model, GenerationMixin) or getattr(model.config, "model_type", None) != "elysium":
        return f"a {type(model).__name__}, which is no ElysiumForConditionalGeneration"
    text = model.config.text_config
    if any(kind != "full_attention" for kind in getattr(text, "layer_types", None) or ()):
        return f"a language model of type {text.model_type} with layers that do not see the whole text"
    if getattr(text, "sliding_window", None) and getattr(text, "use_sliding_window", True):
        return f"a language model of type {text.model_type} that sees {text.sliding_window} tokens at once"
    attention = model.model.language_model.config._attn_implementation
    if attention not in ("sdpa", "eager"):
        return f"attention {attention!r}, which takes no mask of its own (load with attn_implementation='sdpa')"
    return None


def generate_boxes(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Any = None,
    stopping_criteria: Any = None,
    generation_config: Any = None,
    *,
    states: Sequence[AnswerState],
    **inputs: Any,
) -> torch.Tensor:
    """Decode within transformers' `generate`, with the tokens of greedy decoding under the grammar.

        grammar = BoxAnswerGrammar(processor.answer_template(num_frames))
        model.generate(**inputs, custom_generate=generate_boxes, states=[grammar.start()])

    An answer is always written to its end: `max_new_tokens` has no effect.

    Args:
        model: `ElysiumForConditionalGeneration`.
        input_ids (`torch.LongTensor` of shape `(B, L)`): prompts, padded on the left.
        logits_processor: not used.
        stopping_criteria: not used.
        generation_config: not used.
        states: the start of each answer.
        inputs: the model inputs that `generate` prepares; `attention_mask` and `mm_encoder_outputs` are read.

    Returns:
        `(B, L + longest answer)`: prompts and answers, padded on the right.

    Raises:
        ValueError: another count of states than prompts, or a model that `BoxDecoder` refuses.
    """
    if len(states) != len(input_ids):
        raise ValueError(f"there must be a state for each prompt, got {len(states)} for {len(input_ids)} prompts")
    decoder = BoxDecoder(model)
    mask = inputs.get("attention_mask")
    mask = torch.ones_like(input_ids) if mask is None else mask
    embeds = model.get_input_embeddings()(input_ids)  # (B, L, D)
    # `generate` has encoded images and frames before it calls.
    encoded = inputs.get("mm_encoder_outputs") or {}
    for modality, token in (("image", model.config.image_token_id), ("video", model.config.video_token_id)):
        places = input_ids == token
        if encoded.get(modality) is not None:
            tokens = model.model.mark_named(encoded[modality], input_ids, token)
            embeds[places] = tokens.flatten(0, 1).to(embeds.dtype)
        elif places.any():
            raise ValueError(
                f"the prompt holds placeholders of a {modality}, got no {modality}; pass its pixel values"
            )
    prompts = [row[held.bool()] for row, held in zip(embeds, mask, strict=True)]
    prefixes = decoder.read([prompt[:-1] for prompt in prompts])
    questions = [
        BoxQuestion(prefix, [last], state)
        for prefix, last, state in zip(prefixes, input_ids[:, -1].tolist(), states, strict=True)
    ]
    answers = [torch.tensor(answer.token_ids, device=input_ids.device) for answer in decoder.write(questions)]
    padding = model.generation_config.pad_token_id or 0
    padded = nn.utils.rnn.pad_sequence(answers, batch_first=True, padding_value=padding)
    return torch.cat([input_ids, padded], dim=1)


__all__ = [
    "AnswerState",
    "BoxAnswer",
    "BoxAnswerGrammar",
    "BoxDecoder",
    "BoxGrammarLogitsProcessor",
    "BoxQuestion",
    "Prefix",
    "generate_boxes",
    "why_not_decodable",
]
