"""What a recipe of `elysium.training.sft` may say, beside what TRL's `SFTConfig` already takes."""

from dataclasses import dataclass, field
from typing import Any

from trl import SFTConfig

from elysium.processing.data_files import DatasetError, parse_json

from .model_parts import PARTS


def as_mapping(value: Any, name: str) -> dict[str, Any]:
    """A mapping of a recipe, or one typed as JSON on the command line.

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
    """The checkpoint to start from.

    Args:
        model: folder, shipped name or Hub id.
        dtype: of the weights while training; float32, bfloat16 or float16.
        attn_implementation: sdpa, eager or flash_attention_2.
        train_parts: parts of the model that learn, of vision_tower, selector, multi_modal_projector, language_model
            and lm_head; all by default. With LoRA the adapter learns, and these parts beside it in full.
        learning_rates: a rate of its own for a part, as `{"selector": 0.002}`; others take `learning_rate`.
        lora_r: rank of a LoRA adapter; 0 for none.
        lora_alpha: its scale.
        lora_dropout: its dropout.
        lora_target_modules: modules that get one; a name, several, or one regular expression.
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
    """What is learnt from.

    Args:
        data: sources, each `{"source": NAME, "path": …, "weight": …}` with the options of the catalogue
            (`training/catalogue.py`); weights in all of them or in none.
        stream: Hub ids to stream from instead; needs max_steps.
        stream_weights: how often each is drawn from; equal by default.
        stream_split: split of each.
        stream_buffer: rows of a stream that are shuffled among one another.
        eval_data: sources that are held out.
        tasks: weights of rec, reg, sot, rsot, video_reg and video_qa; a task that is not named is left out.
        min_frames: fewest frames of a tracking example.
        max_frames: most frames of it.
        max_interval: most frames of the video from one to the next.
        question_frames: frames of a video that is asked about.
        share_other_phrasings: share of questions in other phrasings than inference uses.
        too_long: what happens to an example with more tokens than max_length, drop or error.
        max_broken_in_row: so many items that cannot be read, one after another, stop the run.
        eval_boxes: held-out examples whose boxes are generated at each evaluation, for mean IoU; 0 for none.
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
        """The entries of `data`."""
        return [as_mapping(spec, "data") for spec in self.data]

    @property
    def eval_sources(self) -> list[dict[str, Any]]:
        """The entries of `eval_data`."""
        return [as_mapping(spec, "eval_data") for spec in self.eval_data]


@dataclass
class ElysiumSFTConfig(SFTConfig):
    """TRL's `SFTConfig` (which is transformers' `TrainingArguments`), with the loss of the token selector.

    Args:
        selector_loss: factor of the loss that tells the selector which patches lie in the object's box; 0 for none.
    """

    selector_loss: float = field(default=0.0, metadata={"help": "Factor of the token selector's own loss."})
