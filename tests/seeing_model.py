"""A stand-in for the model that answers from the pixels it is given: tests the wiring with right answers.

It sees squares of pure red, green or blue on black. Words name the colour; a box takes the colour at its centre in
Frame 1. An object that is not to be seen is answered by `none`.
"""

import re
from types import SimpleNamespace

import numpy as np
import torch

from elysium.processing.boxes_elysium import format_box, format_frames, parse_box

COLOURS = ("red", "green", "blue")


def squares(num_frames, starts, *, width=64, height=48, side=16, step=2, hidden=()):
    """Frames (T, H, W, 3) with a square for each colour in `starts`, and the true boxes: {colour: (T, 4) pixels}.

    Args:
        starts: {colour: (x, y)} of the first frame's upper left corner; squares move by `step` to the right and back.
        hidden: frames in which no square is drawn; their true boxes are NaN.
    """
    frames = np.zeros((num_frames, height, width, 3), dtype=np.uint8)
    boxes = {colour: np.full((num_frames, 4), np.nan) for colour in starts}
    for colour, (x0, y0) in starts.items():
        room = width - side - x0
        for frame in range(num_frames):
            offset = (frame * step) % (2 * room) if room else 0
            x = x0 + min(offset, 2 * room - offset)
            if frame not in hidden:
                frames[frame, y0 : y0 + side, x : x + side, COLOURS.index(colour)] = 255
                boxes[colour][frame] = x, y0, x + side, y0 + side
    return frames, boxes


class SeeingModel:
    """Has what the tracker uses of a model: `config`, `device`, `dtype` and `generate`.

    Args:
        model: a tiny model, for its config.
        processor: its processor, to read prompts and write answers.
        probability: of every token that it says.
        interrupt_at: number of the call (from 1) that raises KeyboardInterrupt.
    """

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, model, processor, *, probability=0.9, interrupt_at=None):
        self.config, self.processor = model.config, processor
        self.probability, self.interrupt_at = probability, interrupt_at
        self.batches = []  # for each call the questions that came together

    def generate(self, input_ids, pixel_values=None, pixel_values_videos=None, **options):
        """As transformers' `generate` with `output_logits` and `return_dict_in_generate`."""
        assert options["return_dict_in_generate"] and options["output_logits"] and not options["do_sample"]
        if len(self.batches) + 1 == self.interrupt_at:
            raise KeyboardInterrupt
        tokenizer = self.processor.tokenizer
        questions = [tokenizer.decode(ids, skip_special_tokens=True).split("USER:")[1] for ids in input_ids]
        self.batches.append(questions)
        pictures = iter(() if pixel_values_videos is None else self._pixels(pixel_values_videos))
        images = iter(() if pixel_values is None else self._pixels(pixel_values))
        answers = []
        for ids, question in zip(input_ids, questions, strict=True):
            kept = self.config.num_kept_tokens
            num_frames = int((ids == self.config.video_token_id).sum()) // kept
            num_images = int((ids == self.config.image_token_id).sum()) // kept
            seen = [next(pictures) for _ in range(num_frames)] or [next(images) for _ in range(num_images)]
            answers.append(" " + self._say(question, seen, is_image=num_images > 0))
        return self._as_output(input_ids, answers)

    def _pixels(self, values):
        """Normalised (n, 3, S, S) back to 0..1 as (n, S, S, 3)."""
        mean, std = (np.array(getattr(self.processor.video_processor, name)) for name in ("image_mean", "image_std"))
        return values.permute(0, 2, 3, 1).numpy() * std + mean

    def _say(self, question, seen, *, is_image):
        named = re.search(rf"\b({'|'.join(COLOURS)})\b", question)
        reading = parse_box(question, rounding=self.processor.box_rounding)
        if "how many" in question:
            return str(len(seen))
        colour = COLOURS.index(named[1]) if named else colour_at(seen[0], reading.box_xyxy_norm)
        if "Describe" in question:
            return f"the {COLOURS[colour]} square" + ("" if is_image else ".")
        boxes = [find(picture, colour) for picture in seen]
        if is_image:
            return "none" if boxes[0] is None else format_box(boxes[0], rounding=self.processor.box_rounding)
        return format_frames(boxes, rounding=self.processor.box_rounding)

    def _as_output(self, input_ids, answers):
        tokenizer = self.processor.tokenizer
        tokens = [
            tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id] for text in answers
        ]
        longest = max(map(len, tokens))
        padded = torch.tensor([ids + [tokenizer.pad_token_id] * (longest - len(ids)) for ids in tokens])  # (B, L)
        vocab = len(tokenizer)
        height = np.log(self.probability / (1 - self.probability) * (vocab - 1))  # over zeros: softmax = probability
        logits = tuple(torch.zeros(len(tokens), vocab).scatter(1, step[:, None], height) for step in padded.unbind(1))
        return SimpleNamespace(sequences=torch.cat([input_ids, padded], dim=1), logits=logits)


def find(picture, colour):
    """Box (0..1) around the pixels of a colour in (S, S, 3), None where there are none."""
    others = [channel for channel in range(3) if channel != colour]
    rows, columns = np.nonzero((picture[..., colour] > 0.5) & (picture[..., others].max(axis=-1) < 0.5))
    if not len(rows):
        return None
    side = len(picture)
    return columns.min() / side, rows.min() / side, (columns.max() + 1) / side, (rows.max() + 1) / side


def colour_at(picture, box_xyxy_norm):
    """Index of the strongest colour at a box's centre."""
    x1, y1, x2, y2 = box_xyxy_norm
    side = len(picture)
    return int(picture[int((y1 + y2) / 2 * side), int((x1 + x2) / 2 * side)].argmax())
