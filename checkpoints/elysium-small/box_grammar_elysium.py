# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Grammar of a tracking answer in tokens: the valid next tokens, for any tokenizer.

`Frame 1: [23,45,46,72], Frame 2: none.` is nearly all template. What is left to decide are the numbers, and for each
frame whether there is a box. The grammar knows the template and the numbers as tokens only; the processor, which knows
the text, builds them (`ElysiumProcessor.answer_template`).

Shapes: B samples, V vocabulary, A tokens that are ever decided on, n decisions.
"""

import math
from bisect import bisect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import LogitsProcessor

BoxBins = tuple[int, ...]
# How far, in percent of width or height, an integer may lie from the one written and count with it.
NEARBY = 2
START, BOX, NONE, END = "start", "box", "none", "end"
_COMMA = "comma"


class BoxAnswerGrammar:
    """Grammar of the tokens of an answer over T frames.

    A box has x1 <= x2 and y1 <= y2 and is never four zeros, which read as absent.

    Args:
        template: from `ElysiumProcessor.answer_template`: `numbers` (the tokens of 0, 1, 2, ...), `comma` (the tokens
            between two numbers), `joints` (T + 1 mappings from what a frame holds and what the next one holds to the
            tokens between them), `min_extent` (least x2 - x1 and y2 - y1), `absent_log_odds` (added to the logit of
            `none` where the first frame's box is given) and `text_absent_log_odds` (where it is not).
        nearby: how far an integer may lie from the one written and count with it in a probability, where integers are
            one token (see `nearby_log_probs`).

    Raises:
        ValueError: two numbers with the same tokens, or a number without.
    """

    def __init__(self, template: Mapping[str, Any], *, nearby: int = NEARBY):
        self.numbers = [tuple(ids) for ids in template["numbers"]]
        if len(set(self.numbers)) < len(self.numbers) or () in self.numbers:
            raise ValueError("every number must have tokens of its own, got two numbers with the same or one without")
        self.comma = tuple(template["comma"])
        self.joints = [{kinds: tuple(ids) for kinds, ids in joint.items()} for joint in template["joints"]]
        self.min_extent = int(template["min_extent"])
        self.absent_log_odds = float(template["absent_log_odds"])
        self.text_absent_log_odds = float(template.get("text_absent_log_odds", 0.0))
        self.nearby = nearby
        self.num_frames = len(self.joints) - 1
        self.top = len(self.numbers) - 1
        self.longest = self._longest()
        self.token_ids = torch.tensor(sorted(self._decided()))  # (A,)
        self.column = {token: column for column, token in enumerate(self.token_ids.tolist())}
        self.integers = self._integer_columns()
        self._rows: dict[tuple[tuple[int, ...], int | None, float], torch.Tensor] = {}
        self._reach: dict[tuple[int, int, tuple[int, ...]], list[int]] = {}
        self._next: dict[tuple[int, int, tuple[int, ...]], tuple[tuple[int, ...], bool]] = {}

    def start(self, first_box: Sequence[int] | None = None) -> "AnswerState":
        """Return the state of an empty answer; ``first_box`` is that of the first frame as integers if it is given."""
        return AnswerState(self, first_box)

    def row(self, state: "AnswerState") -> torch.Tensor:
        """Return the bias of the logits of `token_ids`: 0 where allowed, else -inf.

        Returns:
            `(A,)`, float32; `absent_log_odds` or `text_absent_log_odds` at `none`.
        """
        allowed, absent = state.allowed(), state.absent_token()
        bias = self.text_absent_log_odds if state.first_box is None else self.absent_log_odds
        if (allowed, absent, bias) not in self._rows:
            row = torch.full((len(self.column),), -math.inf)
            row[[self.column[token] for token in allowed]] = 0.0
            if absent is not None:
                row[self.column[absent]] = bias
            self._rows[allowed, absent, bias] = row
        return self._rows[allowed, absent, bias]

    def reach(self, low: int, high: int, written: tuple[int, ...]) -> list[int]:
        """Return the numbers from low to high whose tokens begin with the written ones, in rising order."""
        key = low, high, written
        if key not in self._reach:
            numbers = range(low, high + 1)
            self._reach[key] = [number for number in numbers if self.numbers[number][: len(written)] == written]
        return self._reach[key]

    def nearest(self, low: int, high: int, written: tuple[int, ...], wanted: float) -> int:
        """Return the number of `reach` that is nearest to ``wanted``."""
        reached = self.reach(low, high, written)
        place = bisect(reached, wanted)
        return min(reached[max(0, place - 1) : place + 1], key=lambda number: abs(number - wanted))

    def following(self, low: int, high: int, written: tuple[int, ...]) -> tuple[tuple[int, ...], bool]:
        """Return the tokens that continue a number, and whether it may end here."""
        key = low, high, written
        if key not in self._next:
            reached = [self.numbers[number] for number in self.reach(low, high, written)]
            going_on = sorted({ids[len(written)] for ids in reached if len(ids) > len(written)})
            self._next[key] = tuple(going_on), written in reached
        return self._next[key]

    def options(self, frame: int, before: str, *, only_box: bool = False) -> list[tuple[str, tuple[int, ...]]]:
        """Return the valid continuations between two frames: the kind of the next content, and the tokens up to it."""
        joint = self.joints[frame]
        return [(now, ids) for (was, now), ids in joint.items() if was == before and not (only_box and now == NONE)]

    def choose(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the best token of each decision and its log probability among the allowed ones.

        Args:
            logits (`torch.FloatTensor` of shape `(n, A)`): float32, with `row` added.

        Returns:
            columns `(n,)` of `token_ids`, and `(n,)` log probabilities as `nearby_log_probs` gives them.
        """
        columns = logits.argmax(dim=-1)
        return columns, nearby_log_probs(logits, columns, self.integers, self.nearby)

    def _longest(self) -> int:
        """Return the number of tokens of the longest answer."""
        box = 4 * max(map(len, self.numbers)) + 3 * len(self.comma)
        return sum(max(map(len, joint.values())) for joint in self.joints) + self.num_frames * box

    def _decided(self) -> set[int]:
        """Return every token that is ever one of several valid ones."""
        decided = {token for ids in self.numbers for token in ids} | {self.comma[0]}
        for frame in range(self.num_frames + 1):
            for before in (START, BOX, NONE):
                options = [ids for _, ids in self.options(frame, before)]
                if before == BOX:
                    decided |= {ids[0] for ids in options}
                for tokens in zip(*options, strict=False):
                    decided |= set(tokens) if len(set(tokens)) > 1 else set()
        return decided

    def _integer_columns(self) -> torch.Tensor | None:
        """Return the columns of the numbers where each is one token."""
        if any(len(ids) > 1 for ids in self.numbers):
            return None
        return torch.tensor([self.column[ids[0]] for ids in self.numbers])


class AnswerState:
    """Decoding state: `allowed()` returns the valid next tokens, `push()` consumes one.

    Attributes:
        frame (`int`): 0-based, the frame that is being written.
        values (`list[int]`): numbers of that frame's box that are finished.
        boxes (`list`): of the finished frames, four integers or None.
        done (`bool`): the answer is complete.
    """

    __slots__ = ("grammar", "first_box", "frame", "values", "boxes", "done", "written", "_options", "_at")

    def __init__(self, grammar: BoxAnswerGrammar, first_box: Sequence[int] | None = None):
        self.grammar = grammar
        self.first_box = None if first_box is None else tuple(first_box)
        if self.first_box is not None and not (
            len(self.first_box) == 4 and all(0 <= value <= grammar.top for value in self.first_box)
        ):
            raise ValueError(f"first_box must be 4 integers in 0..{grammar.top}, got {self.first_box}")
        self.frame = 0
        self.values: list[int] = []
        self.boxes: list[BoxBins | None] = []
        self.done = False
        self.written: tuple[int, ...] = ()  # tokens of the number that is being written
        self._options = grammar.options(0, START, only_box=first_box is not None)  # empty within a box
        self._at = 0  # tokens of the options that are written

    def copy(self) -> "AnswerState":
        """Return an independent copy."""
        other = object.__new__(AnswerState)
        other.grammar, other.first_box, other.frame = self.grammar, self.first_box, self.frame
        other.values, other.boxes = list(self.values), list(self.boxes)
        other.done, other.written = self.done, self.written
        other._options, other._at = self._options, self._at
        return other

    @property
    def in_number(self) -> bool:
        """Return whether the next token belongs to a number or ends it."""
        return not self._options and not self.done

    def bounds(self) -> tuple[int, int]:
        """Return the least and greatest value of the number that is being written."""
        place, top, extent = len(self.values), self.grammar.top, self.grammar.min_extent
        if self.frame == 0 and self.first_box is not None:
            return self.first_box[place], self.first_box[place]
        if place < 2:
            return 0, top - extent
        low = self.values[place - 2] + extent
        return (max(low, 1) if place == 3 and not any(self.values) else low), top

    def allowed(self) -> tuple[int, ...]:
        """Return the valid next tokens in rising order, none where the answer is complete."""
        if self._options:
            if len(self._options) == 1:
                return (self._options[0][1][self._at],)
            return tuple(sorted({ids[self._at] for _, ids in self._options}))
        if self.done:
            return ()
        going_on, may_end = self.grammar.following(*self.bounds(), self.written)
        return tuple(sorted({*going_on, *self._enders()})) if may_end else going_on

    def push(self, token: int) -> None:
        """Consume one token.

        Raises:
            ValueError: a token that is not allowed.
        """
        if self._options:
            self._options = [option for option in self._options if option[1][self._at] == token]
            self._at += 1
        elif not self.done and token in self.grammar.following(*self.bounds(), self.written)[0]:
            self.written += (token,)
            return
        elif token in self.allowed():
            self._end_number(token)
        if not self._options:
            raise ValueError(f"the next token must be allowed by the grammar, got {token} at Frame {self.frame + 1}")
        self._settle()

    def forced(self) -> list[int]:
        """Consume and return the tokens that have no alternative."""
        tokens = []
        while len(allowed := self.allowed()) == 1:
            tokens.append(allowed[0])
            self.push(allowed[0])
        return tokens

    def token_towards(self, box: Sequence[float] | None) -> int:
        """Return the valid token that leads to a box in this frame, or to `none`; else to the nearest."""
        if self._options:
            kinds = dict(self._options)
            return kinds.get(NONE if box is None else BOX, self._options[0][1])[self._at]
        low, high = self.bounds()
        wanted = low if box is None else box[len(self.values)]
        ids = self.grammar.numbers[self.grammar.nearest(low, high, self.written, wanted)]
        return ids[len(self.written)] if len(ids) > len(self.written) else self._enders()[0]

    def absent_token(self) -> int | None:
        """Return the token that begins `none` here, where that is one of several."""
        kinds = dict(self._options)
        return kinds[NONE][self._at] if len(kinds) > 1 and NONE in kinds else None

    def _enders(self) -> tuple[int, ...]:
        """Return the tokens that end a number."""
        if len(self.values) < 3:
            return (self.grammar.comma[0],)
        return tuple(dict.fromkeys(ids[0] for _, ids in self.grammar.options(self.frame + 1, BOX)))

    def _end_number(self, token: int) -> None:
        self.values.append(self.grammar.numbers.index(self.written))
        self.written, self._at = (), 1
        if len(self.values) < 4:
            self._options = [(_COMMA, self.grammar.comma)]
            return
        self.boxes.append(tuple(self.values))
        self.frame += 1
        self._options = [option for option in self.grammar.options(self.frame, BOX) if option[1][0] == token]

    def _settle(self) -> None:
        """Advance to the next content once the tokens between two numbers are written."""
        kind, ids = self._options[0]
        if len(self._options) > 1 or self._at < len(ids):
            return
        self._options, self._at = [], 0
        if kind == BOX:
            self.values = []
        elif kind == NONE:
            self.boxes.append(None)
            self.frame += 1
            self._options = self.grammar.options(self.frame, NONE)
        elif kind == END:
            self.done = True


class BoxGrammarLogitsProcessor(LogitsProcessor):
    """Constrain transformers' own `generate` (greedy or sampling) to the grammar: the reference for faster decoding.

    An instance serves one call of `generate`, since it keeps the state of the answers.

    Args:
        states: the start of each answer of the batch, from `BoxAnswerGrammar.start`.
    """

    def __init__(self, states: Sequence[AnswerState]):
        self._states = [state.copy() for state in states]
        self._begun = False

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores (B, V), -inf where not allowed, for `input_ids` (B, L) and `scores` (B, V)."""
        if len(self._states) != len(scores):
            raise ValueError(f"there must be a state for each row, got {len(self._states)} for {len(scores)} rows")
        kept = torch.full_like(scores, -math.inf)
        for number, state in enumerate(self._states):
            if self._begun and not state.done:
                state.push(int(input_ids[number, -1]))
            if state.done:
                kept[number] = scores[number]  # `generate` pads what has ended
                continue
            allowed = state.allowed()
            if len(allowed) == 1:
                kept[number, allowed[0]] = scores[number, allowed[0]]
                continue
            ids = state.grammar.token_ids.to(scores.device)
            kept[number, ids] = scores[number, ids] + state.grammar.row(state).to(scores.device)
        self._begun = True
        return kept


def nearby_log_probs(
    logits: torch.Tensor, chosen: torch.Tensor, integers: torch.Tensor | None, nearby: int = NEARBY
) -> torch.Tensor:
    """Return log probabilities of chosen tokens, where an integer counts together with those next to it.

    A model that is sure of a place to within a few percent spreads its probability over as many integers: what it is
    sure of is their sum, not the share of the one that it wrote.

    Args:
        logits (`torch.Tensor` of shape `(n, V)`): of n steps; -inf where a token is not allowed.
        chosen (`torch.Tensor` of shape `(n,)`): columns of the tokens that were written.
        integers: columns of 0, 1, 2, ... where each is a token of its own, else None.
        nearby: how far an integer may lie from the one written.

    Returns:
        `(n,)`, at most 0.
    """
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    plain = log_probs.gather(-1, chosen[:, None])[:, 0]
    if integers is None:
        return plain
    integers = integers.to(chosen.device, non_blocking=chosen.is_cuda)
    same = chosen[:, None] == integers  # (n, numbers)
    numbers = torch.arange(len(integers), device=chosen.device)
    near = (numbers - (same * numbers).sum(-1, keepdim=True)).abs() <= nearby
    summed = log_probs[:, integers].masked_fill(~near, -math.inf).logsumexp(-1)
    return torch.where(same.any(-1), summed, plain).clamp(max=0)


__all__ = ["NEARBY", "AnswerState", "BoxAnswerGrammar", "BoxGrammarLogitsProcessor", "nearby_log_probs"]
