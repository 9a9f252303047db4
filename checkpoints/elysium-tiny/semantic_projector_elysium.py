# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Evidence of the semantic encoders as tokens that the language model can match with words.

Shapes: ``sum T`` frames of the batch, N patches, C classes, D text width.
"""

import math

import torch
from torch import nn

from .configuration_elysium import ElysiumConfig
from .semantic_encoders_elysium import SemanticEvidence

_NUM_FREQUENCIES = 16
_FLOOR = 0.15  # of the root of a score: a thousand weak ones would drown the strong one


class ElysiumSemanticProjector(nn.Module):
    """Map evidence to vectors of the text width: a mixture of class embeddings, plus the detected box.

    The class embeddings start as the language model's own embeddings of the class names (see `set_class_names`), so
    that a word of a question and a patch of that class are near before any training.
    """

    def __init__(self, config: ElysiumConfig):
        super().__init__()
        width = config.text_config.hidden_size
        self.class_embeddings = nn.Linear(
            sum(config.semantic_config["classes"].values()), width
        )  # its bias: that there is evidence
        self.box_projection = nn.Linear(8 * _NUM_FREQUENCIES + 1, width, bias=False)
        self.to_patches = nn.Linear(width, config.vision_config.hidden_size)

    def forward(self, evidence: SemanticEvidence) -> torch.Tensor:
        """Return vectors of shape `(sum T, N, D)`."""
        weight = self.class_embeddings.weight
        scores, boxes, box_scores = (part.to(weight.dtype) for part in evidence)
        # The root lifts weak evidence; a probability spread over related classes sums up in what they share.
        named = self.class_embeddings((scores.sqrt() - _FLOOR).clamp(min=0))
        return named + self.box_projection(_box_waves(boxes, box_scores))

    @torch.no_grad()
    def set_class_names(self, embeddings: torch.Tensor) -> None:
        """Start from class embeddings.

        Args:
            embeddings (`torch.Tensor` of shape `(C, D)`): one for each class.
        """
        self.class_embeddings.weight.copy_(embeddings.T)


def _box_waves(boxes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Return sines and cosines of box coordinates, weighted by the score; zero where there is no box."""
    steps = torch.linspace(math.log(0.5), math.log(12), _NUM_FREQUENCIES, device=boxes.device, dtype=torch.float32)
    angles = boxes.float().unsqueeze(-1) * steps.exp() * (2 * math.pi)
    waves = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2).to(boxes.dtype)
    scores = scores.unsqueeze(-1)
    return torch.cat([waves * scores.sqrt(), scores], dim=-1)


__all__ = ["ElysiumSemanticProjector"]
