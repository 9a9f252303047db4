# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Tracking answers as tokens of a tokenizer, from which `BoxAnswerGrammar` is built."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from .boxes_elysium import bin_to_norm, format_frames

_BOX_OR_NONE = re.compile(r"\[(\d+),(\d+),(\d+),(\d+)\]|none")


def answer_template(processor: Any, num_frames: int) -> dict[str, Any]:
    """Return the canonical answer of a tracking task as tokens.

    Answers that hold every number, with and without absent frames, are written by the box codec, rendered by the chat
    template and tokenized in their place; each token must belong to one number or to the text between two.

    Args:
        processor (`ElysiumProcessor`): its tokenizer, chat template and box settings are used.
        num_frames: T.

    Returns:
        `numbers`: the tokens of 0, 1, 2, ... to 99 (`box_rounding="floor"`) or 100; `comma`: the tokens between the
        numbers of a box; `joints`: T + 1 mappings from (content of a frame, content of the next) to the tokens between
        them, where a content is `start`, `box`, `none` or `end`; `min_extent`: the smallest x2 - x1 and y2 - y1 that
        parses as a box; `absent_log_odds` and `text_absent_log_odds`: as in the processor's `tracking`, 0 by default.

    Raises:
        ValueError: ``num_frames`` below 1, or a tokenizer that joins numbers with their neighbours, writes them
            differently from place to place, or does not say which characters a token covers.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames must be 1 or more, got {num_frames}; a window has at least one frame")
    pieces: dict[tuple, tuple[int, ...]] = {}
    for boxes_bin in _canonical_answers(num_frames, processor.box_rounding, allow_absent=processor.allow_absent):
        _cut_answer(processor, boxes_bin, pieces)
    return {
        "numbers": [ids for key, ids in sorted(pieces.items()) if key[0] == "number"],
        "comma": pieces["comma",],
        "joints": [
            {key[2:]: ids for key, ids in pieces.items() if key[:2] == ("joint", frame)}
            for frame in range(num_frames + 1)
        ],
        "min_extent": 0 if processor.box_rounding == "floor" else 1,
        "absent_log_odds": processor.tracking.get("absent_log_odds", 0.0),
        "text_absent_log_odds": processor.tracking.get("text_absent_log_odds", 0.0),
    }


def _canonical_answers(num_frames: int, rounding: str, *, allow_absent: bool) -> Iterator[list[list[int] | None]]:
    """Yield boxes of answers that together hold every number, and every order of a box and `none`."""
    top, size = (99 if rounding == "floor" else 100), 4 * num_frames
    for start in range(0, top + 1, size):
        numbers = [min(start + place, top) for place in range(size)]
        boxes = [numbers[place : place + 4] for place in range(0, size, 4)]
        yield [*boxes]
        if start == 0 and allow_absent:
            yield [None] * num_frames
            yield from ([box if frame % 2 == odd else None for frame, box in enumerate(boxes)] for odd in (0, 1))


def _cut_answer(
    processor: Any, boxes_bin: Sequence[Sequence[int] | None], pieces: dict[tuple, tuple[int, ...]]
) -> None:
    """Tokenize an answer in its place and add its tokens to ``pieces``, by the number or text that they belong to."""
    rounding, tokenizer = processor.box_rounding, processor.tokenizer
    boxes = [None if box is None else bin_to_norm(box, rounding) for box in boxes_bin]
    answer = format_frames(boxes, rounding=rounding)
    question: list[dict] = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]
    turn = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
    text = processor.apply_chat_template([*question, turn], tokenize=False)
    start = len(processor.apply_chat_template(question, add_generation_prompt=True, tokenize=False))
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    tokens = [(max(first, start), last, token) for token, (first, last) in spans if last > start]
    for stop, key in _pieces(text, start):
        held = tuple(token for first, _, token in tokens if start <= first < stop)
        split = any(start <= first < stop < last for first, last, _ in tokens)
        if split or pieces.setdefault(key, held) != held:
            raise ValueError(
                "the tokenizer must write numbers and what stands between them apart and always alike, got "
                f"{text[start:stop]!r} as {tokenizer.convert_ids_to_tokens(held)}; decode without a grammar"
            )
        start = stop


def _pieces(text: str, start: int) -> Iterator[tuple[int, tuple]]:
    """Yield the end and the kind of each piece of the answer that begins at ``start`` in a text."""
    before, frame = "start", 0
    for match in _BOX_OR_NONE.finditer(text, start):
        now = "none" if match[1] is None else "box"
        joint = ("joint", frame, before, now)
        if now == "none":
            yield match.end(), joint
        for group in range(1, 5) if now == "box" else ():
            yield match.start(group), joint if group == 1 else ("comma",)
            yield match.end(group), ("number", int(match[group]))
        before, frame = now, frame + 1
    yield len(text), ("joint", frame, before, "end")


__all__ = ["answer_template"]
