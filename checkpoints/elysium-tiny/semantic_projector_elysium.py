# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Evidence of the semantic encoders as tokens that the language model can match with words.

Shapes: ``sum T`` frames of the batch, N patches, C classes, M tokens of a class's names, D text width.
"""

import math
from collections.abc import Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import nn

from .configuration_elysium import ElysiumConfig
from .semantic_encoders_elysium import SemanticEvidence

_NUM_FREQUENCIES = 16
_FLOOR = 0.15  # of the root of a score: a thousand weak ones would drown the strong one
_GAIN = 3.0  # of a sure class; the visual tokens that it is added to are about twice as large
_MAX_NAME_TOKENS = 32
_MAX_PHRASES, _MAX_PHRASE_TOKENS = 48, 8  # of a class, of a phrase
_LEAST_MATCH = 0.02  # of the best patch; below it nothing in the image is what a phrase names
_LEAST_NEAR = 0.5  # of the best detection; below it detections are of parts, or of nothing
_SAME_DETECTION = 0.9  # of the score of a patch's best box; from there on the box is of the named class


class ElysiumSemanticProjector(nn.Module):
    """Map evidence to vectors of the text width: a mixture of what the classes are called, plus the detected box.

    A class stands for the language model's own embeddings of its names, synonyms and hypernyms, so that "cup" in a
    question and a patch of the class "coffee mug" are near by construction; a learned table adds the rest. What a
    prompt names is marked besides: `named_classes` looks a prompt's first phrase up, `marks` gives the vectors for the
    visual tokens that show one of its classes.
    """

    def __init__(self, config: ElysiumConfig):
        super().__init__()
        num_classes, width = sum(config.semantic_config["classes"].values()), config.text_config.hidden_size
        self.register_buffer("name_ids", torch.zeros(num_classes, _MAX_NAME_TOKENS, dtype=torch.long))
        self.register_buffer("name_weights", torch.zeros(num_classes, _MAX_NAME_TOKENS))
        self.names = nn.Linear(width, width)  # its bias says that there is evidence
        self.classes = nn.Linear(num_classes, width, bias=False)
        self.box = nn.Linear(8 * _NUM_FREQUENCIES + 1, width, bias=False)
        self.to_patches = nn.Linear(width, config.vision_config.hidden_size)
        # The last rows hold phrases that name no class, such as "bounding box", and those that end the question.
        phrases = torch.full((num_classes + 2, _MAX_PHRASES, _MAX_PHRASE_TOKENS), -1, dtype=torch.int32)
        self.register_buffer("phrase_ids", phrases)
        self.register_buffer("continues_word", torch.zeros(config.text_config.vocab_size, dtype=torch.bool))
        self.matches = nn.Linear(4, width, bias=False)
        self.matched_box = nn.Linear(8 * _NUM_FREQUENCIES + 1, width, bias=False)
        self._first_detector = config.semantic_config["classes"].get("classifier", 0)
        self._classes_of_phrase: dict[tuple[int, ...], list[int] | None] | None = None
        self._continuations: frozenset[int] = frozenset()

    def set_names(self, names: list[dict[int, float]]) -> None:
        """Set what the classes are called.

        Args:
            names: for each class the tokens of its phrases, each with its weight; the heaviest are kept.
        """
        self.name_weights.zero_()
        for row, tokens in enumerate(names):
            kept = sorted(tokens.items(), key=lambda item: -item[1])[:_MAX_NAME_TOKENS]
            for place, (token, weight) in enumerate(kept):
                self.name_ids[row, place], self.name_weights[row, place] = token, weight

    def set_phrases(self, phrases: list[list[list[int]]], continuations: Sequence[int] = ()) -> None:
        """Set the phrases that name the classes.

        Args:
            continuations: tokens that continue a word: a phrase before one of them does not count.
            phrases: for each class the tokens of its phrases; then those of phrases that name none, and of those that
                end the question. The first 48 of at most 8 tokens are kept.
        """
        self.phrase_ids.fill_(-1)
        for row, each in enumerate(phrases):
            kept = [ids for ids in each if len(ids) <= _MAX_PHRASE_TOKENS][:_MAX_PHRASES]
            for place, ids in enumerate(kept):
                self.phrase_ids[row, place, : len(ids)] = torch.tensor(ids)
        self.continues_word.zero_()
        self.continues_word[list(continuations)] = True
        self._classes_of_phrase = None
        self.__dict__.pop("phrases", None)

    @cached_property
    def phrases(self) -> list[list[tuple[int, ...]]]:
        """Return the phrases of `set_phrases` as they are kept."""
        return [
            [tuple(token for token in ids if token >= 0) for ids in phrases if ids[0] >= 0]
            for phrases in self.phrase_ids.tolist()
        ]

    def named_classes(self, questions: list[list[int]]) -> torch.Tensor:
        """Return which classes the first phrase of each question names, 1 or 0, of shape `(B, C)`.

        Args:
            questions: the tokens behind the images; those behind the end of the question do not count.
        """
        if self._classes_of_phrase is None:
            self._classes_of_phrase = self._read_phrases()
            self._continuations = frozenset(self.continues_word.nonzero().squeeze(1).tolist())
        named = torch.zeros(len(questions), len(self.phrase_ids) - 2, device=self.matches.weight.device)
        for row, ids in enumerate(questions):
            named[row, self._first_classes(ids)] = 1.0
        return named

    def _read_phrases(self) -> dict[tuple[int, ...], list[int] | None]:
        found: dict[tuple[int, ...], list[int]] = {}
        *classes, nothing, ends = self.phrases
        for column, phrases in enumerate(classes):
            for ids in phrases:
                found.setdefault(ids, []).append(column)
        # Of what no detector has a class for, detectors may know the wider name, as that a cockatoo is a bird.
        first = self._first_detector
        detectors = [(column, each[0]) for column, each in enumerate(classes[first:], first) if each]
        for columns in found.values():
            if columns[-1] < first:
                known = {phrase for column in columns for phrase in classes[column]}
                columns += [column for column, name in detectors if name in known]
        return found | {ids: [] for ids in nothing} | dict.fromkeys(ends)

    def _first_classes(self, ids: list[int]) -> list[int]:
        """Return the classes of the first phrase that has any; of phrases that begin together the longest counts."""
        table, start = self._classes_of_phrase, 0
        assert table is not None
        while start < len(ids):
            length = next((n for n in range(_MAX_PHRASE_TOKENS, 0, -1) if self._is_phrase(ids, start, start + n)), 0)
            if length:
                columns = table[tuple(ids[start : start + length])]
                if columns is None or columns:
                    return columns or []
            start += max(1, length)
        return []

    def _is_phrase(self, ids: list[int], start: int, stop: int) -> bool:
        """Return whether the tokens from start to stop are a phrase whose last word ends there."""
        assert self._classes_of_phrase is not None
        ends = stop == len(ids) or (stop < len(ids) and ids[stop] not in self._continuations)
        return ends and tuple(ids[start:stop]) in self._classes_of_phrase

    def marks(self, evidence: SemanticEvidence, named: torch.Tensor) -> torch.Tensor:
        """Return what is added to visual tokens where they show what a prompt names, of shape `(sum I, K, D)`.

        It says how well the classifier's and the detectors' classes match, and the box of a detection that does, or
        that lies where the classifier's class is, if no detector knows it.

        Args:
            evidence: of the kept tokens' patches, `(sum I, K, ...)`.
            named (`torch.Tensor` of shape `(sum I, C)`): of `named_classes`, for each image that of its prompt.
        """
        matching = evidence.scores.float() * named.float().unsqueeze(1)
        classified = matching[..., : self._first_detector].sum(-1).clamp(max=1)  # (sum I, K)
        detectors = matching[..., self._first_detector :]
        detected = detectors.amax(-1) if detectors.shape[-1] else torch.zeros_like(classified)
        (near_class, _), (near_detection, is_detected) = _relative(classified), _relative(detected)
        detected, near_detection = (part * (near_detection >= _LEAST_NEAR) for part in (detected, near_detection))
        owns_box = near_detection * (detected >= _SAME_DETECTION * evidence.box_scores)
        matched = torch.stack([classified.sqrt(), near_class, detected.sqrt(), near_detection], dim=-1)
        weights = torch.where(is_detected, owns_box, near_class * evidence.box_scores)
        boxes, dtype = box_waves(evidence.boxes.float(), weights), self.matches.weight.dtype
        return self.matches(matched.to(dtype)) + self.matched_box(boxes.to(dtype))

    def forward(self, evidence: SemanticEvidence, embed: nn.Module) -> torch.Tensor:
        """Return vectors of shape `(sum T, N, D)`.

        Args:
            evidence: of the frames.
            embed: the language model's embedding of tokens.
        """
        weight = self.names.weight
        scores, boxes, box_scores = (part.to(weight.dtype) for part in evidence)
        # The root lifts weak evidence; a probability spread over related classes sums up in what they share.
        scores = (scores.sqrt() - _FLOOR).clamp(min=0)
        named = (embed(self.name_ids) * self.name_weights.unsqueeze(-1)).sum(1)  # (C, D)
        named = scores @ F.rms_norm(named, named.shape[-1:]).to(scores.dtype)
        return _GAIN * (self.names(named) + self.classes(scores)) + self.box(box_waves(boxes, box_scores))


def _relative(matched: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scores (sum I, K) in shares of each image's best, and (sum I, 1) whether that is enough to count."""
    best = matched.amax(-1, keepdim=True)
    counts = best >= _LEAST_MATCH
    return (matched / best.clamp(min=_LEAST_MATCH)) * counts, counts


def box_waves(boxes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Return sines and cosines of box coordinates, weighted by the score; zero where there is no box."""
    steps = torch.linspace(math.log(0.5), math.log(12), _NUM_FREQUENCIES, device=boxes.device, dtype=torch.float32)
    angles = boxes.float().unsqueeze(-1) * steps.exp() * (2 * math.pi)
    waves = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2).to(boxes.dtype)
    scores = scores.unsqueeze(-1)
    return torch.cat([waves * scores.sqrt(), scores], dim=-1)


__all__ = ["ElysiumSemanticProjector", "box_waves"]
