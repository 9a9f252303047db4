# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Drafts of a tracking answer and their verification by the model.

A draft is the rest of an answer as it may turn out; one forward pass says at each of its decisions what the model
would have written there. Up to the first difference the draft is the answer; there the model's token is taken instead.
What it says behind that place is no answer, since it saw a wrong draft, but the best guess for the next one. A bad
draft costs forward passes and never a token: every token is the model's own choice behind right tokens.

(Stern et al., "Blockwise Parallel Decoding", NeurIPS 2018, check drafts this way; Santilli et al., "Accelerating
Transformer Inference for Translation via Parallel Decoding", ACL 2023, draft from rejected positions.)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from .box_grammar_elysium import AnswerState

Box = tuple[float, ...]
# Initial guess: a centred box.
_SOMEWHERE: Box = (25.0, 25.0, 75.0, 75.0)


@dataclass
class ShiftRate:
    """Estimate how far a frame shifts when the frame before it differs from its draft.

    The rate is the least-squares slope of (actual box - predicted box) over (actual box before - drafted box before),
    with a memory of some hundred coordinates. It starts at a half.
    """

    _products: float = 2.0
    _squares: float = 4.0
    memory: float = 0.99

    @property
    def value(self) -> float:
        """Return the rate, 0..1."""
        return min(1.0, max(0.0, self._products / self._squares))

    def learn(self, missed: float, surprise: float) -> None:
        """Update the rate with one coordinate of a frame whose frame before it was drafted wrong."""
        self._products = self.memory * self._products + missed * surprise
        self._squares = self.memory * self._squares + surprise * surprise


@dataclass(frozen=True)
class Decision:
    """Hold one place of a draft where several tokens were valid.

    Args:
        at: drafted tokens before it.
        token: that was drafted, None behind the draft's end.
        state: before it.
        absent_token: the token that says `none`, where that is what is decided.
    """

    at: int
    token: int | None
    state: AnswerState
    absent_token: int | None


@dataclass
class DecodingCounts:
    """Count passes through the language model, and what they decided.

    Args:
        prefix_forwards: passes that read frames.
        check_forwards: passes that checked drafts, for any number of answers at once.
        answers: finished.
        tokens: of the answers, without the end of text.
        drafted: decisions that were drafted.
        accepted: of them those that the model agreed to.
    """

    prefix_forwards: int = 0
    check_forwards: int = 0
    answers: int = 0
    tokens: int = 0
    drafted: int = 0
    accepted: int = 0

    @property
    def acceptance(self) -> float:
        """Return the share of drafted decisions that the model agreed to."""
        return self.accepted / max(1, self.drafted)


@dataclass(eq=False)
class AnswerWriter:
    """Write one answer: `draft`, a forward pass over `sent`, then `take` the model's choices.

    Args:
        state: from `BoxAnswerGrammar.start`; it is written on.
        question: the tokens of the prompt that the cache does not hold yet, at least one.
        rate: shared by all answers of one decoder.
        last_box: where the object was before the first frame, as integers, where that is known.
    """

    state: AnswerState
    question: Sequence[int]
    rate: ShiftRate
    last_box: Sequence[float] | None = None
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pending = list(self.question)  # known tokens that no pass has read
        self.agreed = 0  # decisions of the last draft that the model agreed to
        self._drafted: list[int] = []
        self._draft_boxes: list[Box | None] = []
        self._guesses: dict[int, Box | None] = {}
        self._expected: dict[int, tuple[Box, Box]] = {}  # frame: what was predicted, and what was drafted before it
        self._first_guess = _SOMEWHERE if self.last_box is None else tuple(self.last_box)
        self._write(self.state.forced())

    @property
    def sent(self) -> list[int]:
        """Return the tokens that the next pass reads: the known ones, and the draft up to the last decision."""
        return self.pending + self._drafted[: self.decisions[-1].at]

    def draft(self, num_frames: int) -> None:
        """Draft the rest of this frame, ``num_frames`` frames in all, and list the decisions in them."""
        self._drafted, self.decisions = [], []
        state = self.state.copy()
        until = state.frame + max(1, num_frames)
        while not state.done:
            allowed = state.allowed()
            if len(allowed) == 1:
                token = allowed[0]
            else:
                beyond = state.frame >= until
                token = state.token_towards(self._target(state.frame))
                self.decisions.append(
                    Decision(len(self._drafted), None if beyond else token, state.copy(), state.absent_token())
                )
                if beyond:
                    break
            self._drafted.append(token)
            state.push(token)
        self._draft_boxes = [*state.boxes]

    def take(self, choices: Sequence[int], log_probs: Sequence[float]) -> int:
        """Take the model's choice at each decision.

        Args:
            choices: a token for each of `decisions`.
            log_probs: of each of them.

        Returns:
            Number of `sent` tokens that are right, and stay in the cache.
        """
        known, finished = len(self.pending), len(self.state.boxes)
        agreed = next(
            (n for n, (made, choice) in enumerate(zip(self.decisions, choices, strict=True)) if made.token != choice),
            len(choices) - 1,
        )
        last = self.decisions[agreed]
        self.agreed = agreed + (last.token == choices[agreed])
        scores = {made.at: log_prob for made, log_prob in zip(self.decisions[:agreed], log_probs, strict=False)}
        for place, token in enumerate(self._drafted[: last.at]):
            self.state.push(token)
            self.tokens.append(token)
            self.log_probs.append(scores.get(place, 0.0))
        self.pending = []
        self.state.push(choices[agreed])
        self._write([choices[agreed]], log_probs[agreed])
        self._write(self.state.forced())
        self._learn(finished)
        self._reread(self.decisions[agreed:], choices[agreed:])
        return known + last.at

    def _write(self, tokens: list[int], log_prob: float = 0.0) -> None:
        self.tokens += tokens
        self.log_probs += [log_prob] * len(tokens)
        self.pending += tokens

    def _target(self, frame: int) -> Box | None:
        """Return the predicted box of a frame that is not finished."""
        if frame in self._guesses:
            return self._guesses[frame]
        known = [box for _, box in sorted(self._guesses.items()) if box is not None]
        known = known or [box for box in self.state.boxes if box is not None]
        return known[-1] if known else self._first_guess

    def _learn(self, finished: int) -> None:
        """Update the rate by the finished frames and their predictions."""
        for frame in range(max(1, finished), len(self.state.boxes)):
            actual, before = self.state.boxes[frame], self.state.boxes[frame - 1]
            if frame in self._expected and actual is not None and before is not None:
                predicted, drafted_before = self._expected[frame]
                for place in range(4):
                    surprise = before[place] - drafted_before[place]
                    self.rate.learn(actual[place] - predicted[place], surprise)

    def _reread(self, decisions: Sequence[Decision], choices: Sequence[int]) -> None:
        """Predict boxes for the next draft from the choices after the first difference."""
        boxes: dict[int, list[float] | None] = {}
        judged: set[tuple[int, int]] = set()
        for made, choice in zip(decisions, choices, strict=True):
            frame, place = made.state.frame, len(made.state.values)
            if made.token is None or frame >= len(self._draft_boxes):
                continue
            drafted = self._draft_boxes[frame]
            if frame not in boxes:
                boxes[frame] = None if drafted is None else list(drafted)
            if made.token == choice or (frame, place) in judged:
                continue
            if not made.state.in_number:
                # `none` or a box: of a box that was not drafted no numbers are known.
                boxes[frame] = None if choice == made.absent_token else list(self._visible_before(frame))
                continue
            judged.add((frame, place))
            if (box := boxes[frame]) is not None and drafted is not None:
                box[place] = _number_of(made.state, choice, drafted[place])
        self._shift({frame: None if box is None else tuple(box) for frame, box in boxes.items()})

    def _visible_before(self, frame: int) -> Box:
        seen = [box for box in self._draft_boxes[:frame] if box is not None]
        return seen[-1] if seen else self._first_guess

    def _shift(self, predicted: dict[int, Box | None]) -> None:
        """Move each frame by the rate's share of how far the frame before it moved from the draft."""
        self._guesses, self._expected = {}, {}
        top = self.state.grammar.top
        for frame in sorted(predicted):
            box = predicted[frame]
            guess = self._guesses.get(frame - 1)
            drafted = self._draft_boxes[frame - 1] if frame else None
            if box is not None and guess is not None and drafted is not None:
                self._expected[frame] = box, drafted
                moved = (now - then for now, then in zip(guess, drafted, strict=True))
                box = tuple(
                    min(max(value + self.rate.value * step, 0.0), top) for value, step in zip(box, moved, strict=True)
                )
            self._guesses[frame] = box


def _number_of(state: AnswerState, choice: int, drafted: float) -> int:
    """Return the number nearest to the draft that begins with the written tokens and the choice."""
    low, high = state.bounds()
    going_on, _ = state.grammar.following(low, high, state.written)
    written = (*state.written, choice) if choice in going_on else state.written
    if written == state.written:  # the number ends here
        return state.grammar.numbers.index(written)
    return state.grammar.nearest(low, high, written, drafted)


__all__ = ["AnswerWriter", "Decision", "DecodingCounts", "ShiftRate"]
