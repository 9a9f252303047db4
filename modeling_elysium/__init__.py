"""Model, configuration and token selector of Elysium, and the classes that transformers' Auto classes give."""

from .configuration_elysium import ElysiumConfig
from .modeling_elysium import ElysiumForConditionalGeneration, ElysiumModel, ElysiumPreTrainedModel
from .semantic_encoders_elysium import ElysiumSemanticEncoders

__all__ = [
    "ElysiumConfig",
    "ElysiumForConditionalGeneration",
    "ElysiumModel",
    "ElysiumPreTrainedModel",
    "ElysiumSemanticEncoders",
]
