"""Fields of a recipe of `elysium.training.sft` beside those of TRL's `SFTConfig`."""

from dataclasses import dataclass, field
from typing import Any

from trl import SFTConfig

from elysium.processing.data_files import DatasetError, parse_json

from .model_parts import PARTS


def as_mapping(value: Any, name: str) -> dict[str, Any]:
    """Return a mapping of a recipe, or one given as JSON on the command line.

    Raises:
        ValueError: neither.

    >>> as_mapping('{"sot": 1}', "tasks"), as_mapping(None, "tasks")
    ({'sot': 1}, {})
    """
    try:
        found = parse_json(value, name) if isinstance(value, str) else value or {}
    except DatasetError as error:
        raise ValueError(f"{name} must be a mapping, or JSON on the command line, got {value!r} ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{name} must be a mapping, got {value!r}")
    return found


@dataclass
class ModelArguments:
    """Checkpoint to start from, and the parts of it to train.

    Args:
        model: folder, shipped name or Hub id.
        dtype: of the weights while training; float32, bfloat16 or float16.
        attn_implementation: sdpa, eager or flash_attention_2.
        train_parts: parts of the model to train, of vision_tower, selector, multi_modal_projector, language_model
            and lm_head; all by default. With LoRA the adapter is trained, and these parts beside it in full.
        learning_rates: learning rates of single parts, as `{"selector": 0.002}`; others take `learning_rate`.
        lora_r: rank of a LoRA adapter; 0 for none. Higher ranks fit more and take more memory.
        lora_alpha: scale of the adapter.
        lora_dropout: dropout of the adapter.
        lora_target_modules: modules with an adapter; a name, several, or one regular expression.
        trained_on: sentence on the training data, saved with the checkpoint and shown by commands and the Space;
            `derived from MODEL, fine-tuned on DATA` by default.
    """

    model: str = "elysium-tiny"
    dtype: str = "float32"
    attn_implementation: str = "sdpa"
    train_parts: list[str] = field(default_factory=list)
    learning_rates: dict[str, float] | str | None = None
    lora_r: int = 0
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    lora_target_modules: list[str] = field(default_factory=lambda: [r".*language_model.*\.(q|k|v|o)_proj"])
    trained_on: str | None = None

    def __post_init__(self) -> None:
        self.learning_rates = as_mapping(self.learning_rates, "learning_rates")
        unknown = sorted({*self.train_parts, *self.learning_rates} - set(PARTS))
        if unknown:
            raise ValueError(f"parts must be of {', '.join(PARTS)}, got {', '.join(unknown)}")


@dataclass
class DataArguments:
    """Training and evaluation data.

    Args:
        data: sources, each `{"source": NAME, "path": …, "weight": …}` with the options of the catalogue
            (`training/catalogue.py`); weights in all of them or in none.
        stream: Hub ids to stream instead; needs max_steps.
        stream_weights: sampling weight of each; equal by default.
        stream_split: split of each.
        stream_buffer: size of the shuffle buffer of a stream in rows.
        eval_data: held-out sources.
        tasks: weights of rec, reg, sot, rsot, video_reg and video_qa; a task that is not named is left out.
        min_frames: fewest frames of a tracking example.
        max_frames: most frames of it.
        max_interval: most frames of the video from one to the next.
        question_frames: frames of a video for questions about it.
        share_other_phrasings: share of questions in other phrasings than that of inference.
        too_long: drop or error, for an example with more tokens than max_length.
        max_broken_in_row: abort after this many consecutive unreadable samples.
        eval_boxes: held-out examples to generate boxes for at each evaluation, for mean IoU; 0 for none.
    """

    data: list[str] = field(default_factory=list)
    stream: list[str] = field(default_factory=list)
    stream_weights: list[float] = field(default_factory=list)
    stream_split: str = "train"
    stream_buffer: int = 1000
    eval_data: list[str] = field(default_factory=list)
    tasks: dict[str, float] | str | None = None
    min_frames: int = 2
    max_frames: int = 8
    max_interval: int = 60
    question_frames: int = 16
    share_other_phrasings: float = 0.5
    too_long: str = "drop"
    max_broken_in_row: int = 100
    eval_boxes: int = 64

    def __post_init__(self) -> None:
        self.tasks = as_mapping(self.tasks, "tasks")
        if bool(self.data) == bool(self.stream):
            raise ValueError("a recipe must name data or stream, one of the two; give its sources")

    @property
    def sources(self) -> list[dict[str, Any]]:
        """Return the entries of `data`."""
        return [as_mapping(spec, "data") for spec in self.data]

    @property
    def eval_sources(self) -> list[dict[str, Any]]:
        """Return the entries of `eval_data`."""
        return [as_mapping(spec, "eval_data") for spec in self.eval_data]


@dataclass
class ElysiumSFTConfig(SFTConfig):
    """TRL's `SFTConfig` (which is transformers' `TrainingArguments`), with the loss of the token selector.

    Args:
        selector_loss: factor of the loss that trains the selector to keep patches in the object's box; 0 for none.
    """

    selector_loss: float = field(default=0.0, metadata={"help": "Factor of the token selector's own loss."})
