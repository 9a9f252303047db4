"""Fields of a recipe of `elysium.training.sft` beside those of TRL's `ModelConfig` and `SFTConfig`."""

from dataclasses import dataclass, field
from typing import Any

from trl import ModelConfig, SFTConfig

from elysium.processing.data_files import DatasetError, parse_json
from elysium.tracking.checkpoints import DEFAULT_MODEL

from .model_parts import PARTS, unknown_parts
from .sampling import DrawPlan


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
class ModelArguments(ModelConfig):
    """TRL's `ModelConfig` (checkpoint, dtype, LoRA), and the parts of the model to train.

    Args:
        model_name_or_path: folder, shipped name or Hub id of the checkpoint to start from; `--model` for short.
        dtype: of the weights while training; float32, bfloat16, float16, or auto for that of the checkpoint.
        attn_implementation: sdpa, eager or flash_attention_2.
        lora_target_modules: modules with an adapter; several names, or one regular expression.
        train_parts: parts of the model to train, of vision_tower, selector, multi_modal_projector, language_model
            and lm_head, or modules in them, such as vision_tower.coarse_blocks; all by default. With `use_peft`,
            `lora_modules_to_save` names those trained in full instead.
        learning_rates: learning rates of single parts, as `{"selector": 0.002}`; others take `learning_rate`.
        trained_on: sentence on the training data, saved with the checkpoint and shown by commands and the Space;
            `derived from MODEL, fine-tuned on DATA` by default.
    """

    model_name_or_path: str = field(
        default=DEFAULT_MODEL, metadata={"help": "Checkpoint to start from.", "aliases": ["--model"]}
    )
    dtype: str = field(
        default="float32",
        metadata={
            "help": "Type of the weights while training.",
            "choices": ["auto", "bfloat16", "float16", "float32"],
        },
    )
    attn_implementation: str = field(default="sdpa", metadata={"help": "Attention implementation."})
    lora_target_modules: list[str] = field(
        default_factory=lambda: [r".*language_model.*\.(q|k|v|o)_proj"],
        metadata={"help": "Modules with an adapter: several names, or one regular expression."},
    )
    train_parts: list[str] = field(default_factory=list, metadata={"help": "Parts of the model to train."})
    learning_rates: dict[str, float] | str | None = field(
        default=None, metadata={"help": "Learning rates of single parts of the model, as JSON."}
    )
    trained_on: str | None = field(default=None, metadata={"help": "Sentence on the training data."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.learning_rates = as_mapping(self.learning_rates, "learning_rates")
        unknown = sorted({*unknown_parts(self.train_parts), *(set(self.learning_rates) - set(PARTS))})
        if unknown:
            raise ValueError(f"parts must be of {', '.join(PARTS)}, got {', '.join(unknown)}")
        if self.use_peft and self.train_parts:
            raise ValueError(
                f"train_parts must be empty with use_peft, got {', '.join(self.train_parts)}; name what is trained in "
                "full beside the adapter in lora_modules_to_save"
            )
        if self.load_in_4bit or self.load_in_8bit or self.model_revision != "main":
            raise ValueError(
                "load_in_4bit, load_in_8bit and model_revision must be left out, got one; train quantized models with "
                "trl sft, and download a revision first"
            )


@dataclass(kw_only=True)
class DataArguments(DrawPlan):
    """Training and evaluation data, and how examples are drawn from it (`DrawPlan`), or an objective of one's own.

    Args:
        data: sources, each `{"source": NAME, "path": …, "weight": …}` with the options of the catalogue
            (`training/catalogue.py`); weights in all of them or in none.
        stream: Hub ids to stream instead; needs max_steps.
        stream_weights: sampling weight of each; equal by default.
        stream_split: split of each.
        stream_buffer: size of the shuffle buffer of a stream in samples.
        objective: `package.module:factory` of data and losses of one's own instead (`training/objective.py`); the
            module is imported, so start only recipes that you trust.
        objective_args: further arguments of the factory.
        eval_data: sources for validation.
        tasks: weights of rec, reg, sot, rsot, video_reg and video_qa; a task that is not named is left out.
        max_broken_in_row: abort after this many consecutive unreadable samples.
        eval_boxes: validation examples to generate boxes for at each evaluation, for mean IoU; 0 for none.
    """

    data: list[str] = field(default_factory=list)
    stream: list[str] = field(default_factory=list)
    stream_weights: list[float] = field(default_factory=list)
    stream_split: str = "train"
    stream_buffer: int = 1000
    objective: str | None = None
    objective_args: dict[str, Any] | str | None = None
    eval_data: list[str] = field(default_factory=list)
    tasks: dict[str, float] | str | None = None
    max_broken_in_row: int = 100
    eval_boxes: int = 64

    def __post_init__(self) -> None:
        self.tasks = as_mapping(self.tasks, "tasks")
        self.objective_args = as_mapping(self.objective_args, "objective_args")
        super().__post_init__()
        if sum(map(bool, (self.data, self.stream, self.objective))) != 1:
            raise ValueError("a recipe must name data, stream or objective, one of the three; give its sources")
        if self.objective_args and not self.objective:
            raise ValueError(
                f"objective_args must come with an objective, got {', '.join(self.objective_args)} alone; name one"
            )

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
    """TRL's `SFTConfig` (which is transformers' `TrainingArguments`), the selector's loss and the type of the output.

    Args:
        half_precision_output: store the weights of the finished run in half precision, in half the space; they load in
            the type in which they were trained. Checkpoints of the run keep all digits.
        selector_loss: factor of the loss that trains the selector to keep patches in the object's box; 0 for none.
    """

    half_precision_output: bool = field(
        default=False, metadata={"help": "Store the weights of the finished run in half precision."}
    )
    selector_loss: float = field(default=0.0, metadata={"help": "Factor of the token selector's own loss."})
