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
from .decoder_layers_elysium import has_plain_layers, run_layers
from .packed_cache_elysium import PADDING, PackedCache, Prefix, to_device

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
        placeholders = (self.model.config.video_token_id, self.model.config.image_token_id)
        places = [place for place, token in enumerate(input_ids) if token in placeholders]
        found = 0 if visual_tokens is None else len(visual_tokens)
        if len(places) != found:
            raise ValueError(
                f"there must be a placeholder for each visual token, got {len(places)} and {found}; are the "
                "processor's and the model's num_kept_tokens equal?"
            )
        device = table.weight.device
        embeds = table(to_device(torch.tensor(input_ids), device))
        if visual_tokens is not None:
            embeds[to_device(torch.tensor(places), device)] = visual_tokens.to(device, embeds.dtype)
        return embeds

    @torch.no_grad()
    def read(self, beginnings: Sequence[torch.Tensor]) -> list[Prefix]:
        """Read beginnings of prompts, embeddings (P, D) each, in one pass."""
        lengths = [len(beginning) for beginning in beginnings]
        # A pass is causal: what stands behind a short row is seen by nothing in it.
        embeds = nn.utils.rnn.pad_sequence(list(beginnings), batch_first=True)  # (R, P, D)
        self.counts.prefix_forwards += 1
        states = self._keys_and_values(embeds)
        return [
            Prefix([keys[row, :, :length] for keys, _ in states], [values[row, :, :length] for _, values in states])
            for row, length in enumerate(lengths)
        ]

    def _keys_and_values(self, embeds: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return for each layer the keys and values (R, H, P, head size) of embeddings (R, P, D)."""
        if not has_plain_layers(self._language_model):
            cache = DynamicCache()
            self._language_model(inputs_embeds=embeds, use_cache=True, **cache_kwargs(cache))
            return [(layer.keys, layer.values) for layer in cache.layers]
        states: list[tuple[torch.Tensor, torch.Tensor]] = []

        def update(keys: torch.Tensor, values: torch.Tensor, level: int) -> tuple[torch.Tensor, torch.Tensor]:
            states.append((keys, values))
            return keys, values

        positions = torch.arange(embeds.shape[1], device=embeds.device)[None]
        run_layers(self._language_model, embeds, positions, update)
        return states

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
        hidden = self._hidden(embeds, mask, positions, batch)
        self.counts.check_forwards += 1
        choices, log_probs = self._choose(hidden, batch)
        drafted, accepted = batch.take(choices, log_probs)
        self.counts.drafted += drafted
        self.counts.accepted += accepted

    def _hidden(
        self, embeds: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, batch: "_Batch"
    ) -> torch.Tensor:
        """Return the last hidden states (n, D) of the tokens at which something is decided."""
        model, cache, decided = self._language_model, batch.cache, batch.decided()
        if has_plain_layers(model):
            return run_layers(model, embeds, positions, cache.update, mask=mask, wanted=decided)
        states = {"inputs_embeds": embeds, "attention_mask": mask, "position_ids": positions, **cache_kwargs(cache)}
        return model(use_cache=True, **states).last_hidden_state[decided]

    def _choose(self, hidden: torch.Tensor, batch: "_Batch") -> tuple[list[int], list[float]]:
        """Return the model's token at each decision (n, D), and its log probability."""
        grammar = batch.writing[0].state.grammar
        decisions = [decision for writer in batch.writing for decision in writer.decisions]
        rows = torch.stack([decision.state.grammar.row(decision.state) for decision in decisions])  # (n, A)
        columns, log_probs = grammar.choose(self._logits(hidden, grammar) + to_device(rows, hidden.device))
        # The one place of a pass where a GPU is waited for; float32 holds the columns exactly.
        said, scores = torch.stack((columns.float(), log_probs)).tolist()
        return grammar.token_ids[list(map(int, said))].tolist(), scores

    def _logits(self, hidden: torch.Tensor, grammar: BoxAnswerGrammar) -> torch.Tensor:
        """Return logits (n, A) in float32 of hidden states (n, D), for the grammar's tokens alone where possible."""
        head, ids = self.model.get_output_embeddings(), to_device(grammar.token_ids, hidden.device)
        if type(head) is not nn.Linear or type(head.weight) is not nn.Parameter or head.weight.is_meta:
            return head(hidden)[:, ids].float()  # quantized, adapted, offloaded
        bias = 0 if head.bias is None else head.bias[ids].float()
        return hidden.float() @ head.weight[ids].float().T + bias


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
        lines: list[list[tuple[int, int, int]]] = [[] for _ in self._rows]
        for number, (row, line) in enumerate(zip(self._rows, lines, strict=True)):
            for writer in row:
                self._starts[writer] = number, len(line)
                own, first = self._number[writer], self._next[writer]
                line += [(token, own, first + place) for place, token in enumerate(writer.sent)]
        padding = (0, PADDING, max(self._next.values()))
        width = max(map(len, lines))
        table = torch.tensor([line + [padding] * (width - len(line)) for line in lines])  # (R, Q, 3)
        ids, owners, positions = to_device(table, self.cache.owners.device).unbind(-1)
        return ids, owners, positions

    def decided(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return rows (n,) and columns (n,) of the tokens after which several are valid."""
        places = []
        for writer in self.writing:
            row, start = self._starts[writer]
            places += [(row, start + len(writer.pending) - 1 + decision.at) for decision in writer.decisions]
        rows, columns = to_device(torch.tensor(places), self.cache.owners.device).unbind(-1)
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
