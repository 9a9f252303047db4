"""Questions and answers as tokens, with boxes in one of several forms.

Letters: B clips, T frames, R rows (questions of a batch), L tokens, S numbers that an answer leaves open.
"""

from dataclasses import dataclass

import torch

from elysium.processing.processing_elysium import ElysiumProcessor
from research.compression.features import Asked, FeatureSet


@dataclass(frozen=True, kw_only=True)
class BoxForm:
    """How four coordinates become tokens.

    Args:
        name: of the form.
        base: values of one token, 100 (0..99 is one token) or 10 (a digit is).
        digits: tokens of a coordinate.
        lead: text before the digits of each coordinate.
        centre: centre, width and height, instead of two corners.
        scale_losses: neighbours share a label's weight, and the expected coordinate has a loss; needs `digits` 1.

    >>> BoxForm(name="thousandths", base=10, digits=3, scale_losses=False).open_numbers((0.5, 0.25, 0.758, 1.0))
    [5, 0, 0, 2, 5, 0, 7, 5, 8, 9, 9, 9]
    """

    name: str
    base: int = 100
    digits: int = 1
    lead: str = ""
    centre: bool = False
    scale_losses: bool = True

    def __post_init__(self) -> None:
        if self.scale_losses and self.digits > 1:
            raise ValueError(
                f"scale_losses needs a coordinate in one token, got {self.digits} digits; set it to False"
            )

    @property
    def units(self) -> int:
        """Steps along an axis."""
        return self.base**self.digits

    def open_numbers(self, box_xyxy_norm: tuple[float, ...]) -> list[int]:
        """The S values that write a box: the most significant digit of each coordinate first, floored."""
        x1, y1, x2, y2 = box_xyxy_norm
        values = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1) if self.centre else (x1, y1, x2, y2)
        whole = [min(self.units - 1, int(value * self.units)) for value in values]
        places = [self.base**power for power in reversed(range(self.digits))]
        return [value // place % self.base for value in whole for place in places]

    def boxes(self, numbers: torch.Tensor) -> torch.Tensor:
        """Corners (R, T, 4) in 0..1 from open numbers (R, T, S); ends in the wrong order change places."""
        places = torch.tensor([self.base**power for power in reversed(range(self.digits))])
        whole = (numbers.unflatten(-1, (4, self.digits)) * places).sum(-1)
        values = (whole + 0.5) / self.units
        if self.centre:
            centre, extent = values.split(2, dim=-1)
            return torch.cat([centre - extent / 2, centre + extent / 2], dim=-1).clamp(0, 1)
        first, last = values.split(2, dim=-1)
        return torch.cat([torch.minimum(first, last), torch.maximum(first, last)], dim=-1)


@dataclass(frozen=True, eq=False)
class Row:
    """One question with its answer.

    clip: its place in the batch. asked, answer: tokens. open_at: places in `answer` of the numbers that are open,
    `values` what stands there and `frames` of which frame. object_index: what is asked about.
    """

    clip: int
    asked: list[int]
    answer: list[int]
    open_at: list[int]
    values: list[int]
    frames: list[int]
    object_index: int


@dataclass(frozen=True, eq=False)
class RowBatch:
    """Rows, padded on the right.

    ids, labels (`(R, L)`): tokens, and the token that follows where it belongs to the answer (else -100).
    value, frame (`(R, L)`): where an open number follows, its value and its frame (else -1).
    clip, object_index (`(R,)`).
    """

    ids: torch.Tensor
    labels: torch.Tensor
    value: torch.Tensor
    frame: torch.Tensor
    clip: torch.Tensor
    object_index: torch.Tensor


class AnswerCoder:
    """Writes prompts, questions and answers as the processor does, boxes in `form`."""

    def __init__(self, processor: ElysiumProcessor, form: BoxForm) -> None:
        self.processor, self.form, self.tokenizer = processor, form, processor.tokenizer
        self.number_ids = torch.tensor(self.tokenizer.convert_tokens_to_ids([str(n) for n in range(form.base)]))
        self._lead = self._encode(form.lead) if form.lead else []
        self._open, self._close, self._comma = (self._encode(mark) for mark in "[],")

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def box(self, box_xyxy_norm: tuple[float, ...]) -> tuple[list[int], list[int], list[int]]:
        """Tokens of a box, the places of its open numbers among them, and their values."""
        values, digits = self.form.open_numbers(box_xyxy_norm), self.form.digits
        tokens: list[int] = []
        open_at: list[int] = []
        for place in range(4):
            tokens += (self._comma if place else self._open) + self._lead
            open_at += range(len(tokens), len(tokens) + digits)
            tokens += self.number_ids[values[place * digits : (place + 1) * digits]].tolist()
        return tokens + self._close, open_at, values

    def prefix(self, num_frames: int) -> list[int]:
        """Tokens before the question, one placeholder a frame; a single frame is an image."""
        kind = "image" if num_frames == 1 else "video"
        messages = [{"role": "user", "content": [{"type": kind}, {"type": "text", "text": ""}]}]
        text = self.processor.apply_chat_template(messages, tokenize=False)
        if num_frames > 1:
            labels = ", ".join(f"Frame {number}: <video>" for number in range(1, num_frames + 1))
            text = text.replace("<video>", labels)
        return self._encode(text)

    def row(self, clip: int, asked: Asked, boxes: list[tuple[float, ...]]) -> Row:
        """A question about an object with boxes in T frames: REC where there are words, else SOT."""
        if asked.words is not None:
            question = self.processor.task_prompts["rec"].replace("{text}", asked.words)
            tokens, leads, end = self._encode(question + " ASSISTANT:"), [" "], ""
        else:
            before, after = self.processor.task_prompts["sot"].split("{box}")
            tokens = self._encode(before) + self.box(boxes[0])[0] + self._encode(after + " ASSISTANT:")
            leads = [f"{',' if frame > 1 else ''} Frame {frame}: " for frame in range(1, len(boxes) + 1)]
            end = "."
        row = Row(clip, tokens, [], [], [], [], asked.object_index)
        for frame, (lead, box) in enumerate(zip(leads, boxes, strict=True)):
            row.answer.extend(self._encode(lead))
            written, open_at, values = self.box(box)
            row.open_at.extend(len(row.answer) + place for place in open_at)
            row.values.extend(values)
            row.frames.extend([frame] * len(values))
            row.answer.extend(written)
        row.answer.extend((self._encode(end) if end else []) + [self.tokenizer.eos_token_id])
        return row

    def rows(self, clips: FeatureSet) -> list[Row]:
        """All questions about the clips, in their order."""
        found = []
        for clip, about in enumerate(clips.asked):
            for asked in about:
                boxes = [tuple(box) for box in clips.boxes_xyxy_norm[clip, :, asked.object_index].tolist()]
                found.append(self.row(clip, asked, boxes))
        return found

    def batch(self, rows: list[Row]) -> RowBatch:
        """Rows as tensors for training."""
        length = max(len(row.asked) + len(row.answer) for row in rows)
        ids = torch.full((len(rows), length), self.tokenizer.pad_token_id)
        labels, value, frame = (torch.full((len(rows), length), fill) for fill in (-100, -1, -1))
        for number, row in enumerate(rows):
            start, stop = len(row.asked), len(row.asked) + len(row.answer)
            ids[number, :stop] = torch.tensor(row.asked + row.answer)
            labels[number, start - 1 : stop - 1] = torch.tensor(row.answer)
            places = torch.tensor(row.open_at) + start - 1
            value[number, places] = torch.tensor(row.values)
            frame[number, places] = torch.tensor(row.frames)
        clip, owner = torch.tensor([row.clip for row in rows]), torch.tensor([row.object_index for row in rows])
        return RowBatch(ids, labels, value, frame, clip, owner)
