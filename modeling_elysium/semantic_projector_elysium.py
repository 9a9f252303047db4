# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Evidence of the semantic encoders as tokens that the language model can match with words.

Shapes: ``sum T`` frames of the batch, N patches, C classes, M tokens of a class's names, D text width.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from .configuration_elysium import ElysiumConfig
from .semantic_encoders_elysium import SemanticEvidence

_NUM_FREQUENCIES = 16
_FLOOR = 0.15  # of the root of a score: a thousand weak ones would drown the strong one
_GAIN = 3.0  # of a sure class; the visual tokens that it is added to are about twice as large
_MAX_NAME_TOKENS = 32


class ElysiumSemanticProjector(nn.Module):
    """Map evidence to vectors of the text width: a mixture of what the classes are called, plus the detected box.

    A class stands for the language model's own embeddings of its names, synonyms and hypernyms, so that "cup" in a
    question and a patch of the class "coffee mug" are near by construction; a learned table adds the rest.
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
        return _GAIN * (self.names(named) + self.classes(scores)) + self.box(_box_waves(boxes, box_scores))


def _box_waves(boxes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Return sines and cosines of box coordinates, weighted by the score; zero where there is no box."""
    steps = torch.linspace(math.log(0.5), math.log(12), _NUM_FREQUENCIES, device=boxes.device, dtype=torch.float32)
    angles = boxes.float().unsqueeze(-1) * steps.exp() * (2 * math.pi)
    waves = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2).to(boxes.dtype)
    scores = scores.unsqueeze(-1)
    return torch.cat([waves * scores.sqrt(), scores], dim=-1)


__all__ = ["ElysiumSemanticProjector"]
