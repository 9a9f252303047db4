# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Names of described objects: the likeliest one by the semantic encoders' evidence, copied where a gate allows it.

Shapes: B prompts, K kept tokens of an image, C classes, U names, n tokens of a name and its end, V tokens of the
vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from .configuration_elysium import ElysiumConfig
from .semantic_encoders_elysium import SemanticEvidence

_SHARE_OF_DETECTORS = 0.3  # of a detector's score beside the classifier's mean over the box
_LEAST_SCORE = 1e-3
_FOLLOWED = 0.999  # share of the next token of a name that an answer has begun
_MAX_OPENING_TOKENS = 16


class ObjectNames(NamedTuple):
    """Hold what answers may copy next.

    Attributes:
        ids (`torch.LongTensor` of shape `(B, n)`): tokens of a name that are not written yet, -1 behind its end.
        evidence (`torch.Tensor` of shape `(B, 4)`, *optional*): for the gate, in front of an answer.
    """

    ids: torch.Tensor
    evidence: torch.Tensor | None = None

    def after(self, last_ids: torch.Tensor) -> "ObjectNames":
        """Return what is left behind the last tokens (B,) of answers: nothing where they are not those of the name."""
        follows = self.ids[:, :1] == last_ids[:, None]
        return ObjectNames(F.pad(self.ids[:, 1:], (0, 1), value=-1).where(follows, -1))


class ElysiumObjectNames(nn.Module):
    """Copy the likeliest name of a described object, as a pointer-generator (See et al., ACL 2017, equation 9).

    For each name of a class, the scores of all classes that go by it are summed over the visual tokens in the prompt's
    box. The gate says with what share the likeliest is written in place of the language model's own words.
    """

    def __init__(self, config: ElysiumConfig):
        super().__init__()
        text = config.text_config
        # The tokens that a prompt describing an object begins with, up to its box, and the number of each token.
        self.register_buffer("opening", torch.full((_MAX_OPENING_TOKENS,), -1, dtype=torch.int32))
        self.register_buffer("number_of_id", torch.full((text.vocab_size,), -1, dtype=torch.int32))
        self.gate = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 1))
        self._first_detector = config.semantic_config["classes"].get("classifier", 0)
        self._grid = config.vision_config.image_size // config.vision_config.patch_size
        self._end = text.eos_token_id
        self._known: tuple[list[list[tuple[int, ...]]], list[tuple[int, ...]], torch.Tensor] | None = None

    def set_prompt(self, opening: Sequence[int], numbers: Sequence[int]) -> None:
        """Set the tokens up to the box of a prompt that describes an object, and those of the numbers from 0 on."""
        self.opening.fill_(-1)
        self.opening[: len(opening)] = torch.tensor(opening, dtype=torch.int32)
        self.number_of_id.fill_(-1)
        self.number_of_id[list(numbers)] = torch.arange(len(numbers), dtype=torch.int32)

    def find(
        self,
        evidence: SemanticEvidence,
        patches: torch.Tensor,
        questions: list[list[int]],
        phrases: list[list[tuple[int, ...]]],
    ) -> ObjectNames | None:
        """Return the likeliest names, None where no prompt describes an object.

        Args:
            evidence: of the kept tokens of each prompt's first image, `(B, K, ...)`.
            patches (`torch.LongTensor` of shape `(B, K)`): their patches.
            questions: the tokens behind the images of each prompt.
            phrases: of each class, its name first.
        """
        boxes = [self._box(ids) for ids in questions]
        if not any(boxes):
            return None
        if self._known is None or self._known[0] != phrases:  # a million comparisons, once for a checkpoint
            self._known = phrases, *_names(phrases)
        _, names, goes_by = self._known
        goes_by = goes_by.to(patches.device)
        found = torch.full((len(boxes), max(map(len, names)) + 1), -1)
        features = torch.zeros(len(boxes), 4, device=patches.device)
        for row, box in enumerate(boxes):
            inside = (
                torch.zeros_like(patches[row], dtype=torch.bool) if box is None else self._inside(patches[row], box)
            )
            if inside.any():
                scores = evidence.scores[row, inside].float().mean(0)
                detected = scores[self._first_detector :].amax()
                scores[self._first_detector :] *= _SHARE_OF_DETECTORS
                best, place = (goes_by @ scores).topk(2)
                name = names[int(place[0])]
                found[row, : len(name) + 1] = torch.tensor([*name, self._end])
                features[row] = torch.stack([best[0], *best.clamp(min=_LEAST_SCORE).log(), detected])
        return ObjectNames(found.to(patches.device), features)

    def gate_features(self, evidence: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Return what the gate reads, of shape `(B, 6)`: evidence, and how sure the language model is of its own."""
        log_probs = logits.float().log_softmax(-1)
        entropy = -(log_probs.exp() * log_probs).sum(-1, keepdim=True)
        return torch.cat([evidence, entropy, log_probs.amax(-1, keepdim=True)], dim=-1)

    def mix(self, logits: torch.Tensor, names: ObjectNames) -> torch.Tensor:
        """Return logits (B, V) of the next tokens, mixed with copying a name."""
        copies = names.ids[:, :1] >= 0  # (B, 1)
        if names.evidence is None:
            share = torch.full_like(logits[:, :1], _FOLLOWED, dtype=torch.float32)
        else:
            features = self.gate_features(names.evidence, logits).to(self.gate[0].weight.dtype)
            share = self.gate(features).float().sigmoid()
        own = logits.float().softmax(-1) * (1 - share)
        mixed = own.scatter_add(1, names.ids[:, :1].clamp(min=0), share)
        return torch.where(copies, mixed.log().to(logits.dtype), logits)

    def _box(self, ids: list[int]) -> tuple[float, float, float, float] | None:
        """Return the box of a prompt that describes an object, in shares of the image."""
        opening = [token for token in self.opening.tolist() if token >= 0]
        if not opening or ids[: len(opening)] != opening:
            return None
        numbers = [n for n in self.number_of_id[ids[len(opening) : len(opening) + 7]].tolist() if n >= 0]
        if len(numbers) != 4:
            return None
        x1, y1, x2, y2 = (number / 100 for number in numbers)
        return x1, y1, x2, y2

    def _inside(self, patches: torch.Tensor, box: tuple[float, float, float, float]) -> torch.Tensor:
        """Return which patches have their centre in a box; the nearest one where none has."""
        x1, y1, x2, y2 = box
        x, y = ((part + 0.5) / self._grid for part in (patches % self._grid, patches // self._grid))
        inside = (x > x1) & (x < x2) & (y > y1) & (y < y2)
        if inside.any():
            return inside
        distance = (x - (x1 + x2) / 2).square() + (y - (y1 + y2) / 2).square()
        return distance == distance.min()


def _names(phrases: list[list[tuple[int, ...]]]) -> tuple[list[tuple[int, ...]], torch.Tensor]:
    """Return the U names of classes, and which classes go by each, 1 or 0, of shape `(U, C)`."""
    names = list(dict.fromkeys(each[0] for each in phrases if each))
    known = [frozenset(each) for each in phrases]
    return names, torch.tensor([[float(name in each) for each in known] for name in names])


__all__ = ["ElysiumObjectNames", "ObjectNames"]
