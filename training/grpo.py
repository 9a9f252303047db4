"""Train with GRPO: the model answers each prompt several times, and is rewarded for the boxes that fit best.

    python -m elysium.training.grpo --config training/recipes/grpo.yaml
    python -m elysium.training.grpo --config training/recipes/grpo.yaml --rewards format --output_dir runs/format

A recipe is YAML; options on the command line override it. Fields: `GrpoArguments`, and
all of TRL's `GRPOConfig`. Questions are drawn from the synthetic world; rewards are in `rewards.py`. The trained
checkpoint is `OUTPUT_DIR/final`, and loads like the one it came from.

TRL's trainer (1.16) generates answers for videos, but silently drops the frames when it scores them. So a
clip goes in as its labelled frames, `Frame 1: <image>, Frame 2: <image>, …`: the model's logits are the same.
"""

import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

from elysium.processing.extras import missing_extra

try:
    from datasets import Dataset, Features, Image, List, Value
    from trl import GRPOConfig, GRPOTrainer, TrlParser
except ImportError as error:
    missing_extra(error, __name__, extra="train")

from elysium.processing.processing_elysium import ElysiumProcessor
from elysium.processing.prompts_elysium import BOX_TASKS
from elysium.tracking.checkpoints import DEFAULT_MODEL
from elysium.tracking.loading import load_checkpoint
from elysium.training.model_parts import freeze
from elysium.training.rewards import REWARDS
from elysium.training.synthetic import RenderedClip, Scene, SceneConfig, World, referring_expressions, render_clip
from elysium.training.whole_checkpoints import WholeCheckpoints

FEATURES = Features(
    {
        "prompt": List({"role": Value("string"), "content": List({"type": Value("string"), "text": Value("string")})}),
        "images": List(Image()),
        "boxes_xyxy_norm": List(List(Value("float32"))),
    }
)


@dataclass
class GrpoArguments:
    """Fields of a recipe beside TRL's `GRPOConfig`.

    Args:
        model_name_or_path: folder, shipped name or Hub id to start from; `--model` for short.
        train_parts: parts of the model to train, such as language_model; all by default.
        rewards: of `iou` and `format`; TRL's `reward_weights` weighs them.
        tasks: of `rec` (image, text), `sot` (clip, box in the first frame) and `rsot` (clip, text), in turns.
        num_questions: questions in the dataset.
        num_frames: T of a clip.
        world_seed: of backgrounds, sprites and scenes.
        image_size: width and height in pixels that scenes are drawn at, before the processor resizes them.
        num_objects, side: of `SceneConfig`.
    """

    model_name_or_path: str = field(
        default=DEFAULT_MODEL, metadata={"help": "Checkpoint to start from.", "aliases": ["--model"]}
    )
    train_parts: list[str] = field(default_factory=list)
    rewards: list[str] = field(default_factory=lambda: ["iou"])
    tasks: list[str] = field(default_factory=lambda: ["rec"])
    num_questions: int = 320
    num_frames: int = 4
    world_seed: int = 1
    image_size: list[int] = field(default_factory=lambda: [192, 144])
    num_objects: list[int] = field(default_factory=lambda: [3, 6])
    side: list[float] = field(default_factory=lambda: [0.14, 0.42])

    def __post_init__(self) -> None:
        for name, known in (("rewards", tuple(REWARDS)), ("tasks", BOX_TASKS)):
            given = getattr(self, name)
            if not given or not set(given) <= set(known):
                raise ValueError(f"{name} must be some of {', '.join(known)}, got {given}")
        if min(self.num_questions, self.num_frames) < 1:
            raise ValueError(
                f"num_questions and num_frames must be 1 or more, got {self.num_questions} and {self.num_frames}"
            )


class ElysiumGRPOTrainer(WholeCheckpoints, GRPOTrainer):
    """TRL's `GRPOTrainer`, with checkpoints that are whole or not there."""


def train(script: GrpoArguments, config: GRPOConfig) -> None:
    """Run training from its arguments to a checkpoint in `output_dir/final`."""
    # Model
    # The trainer moves the model.
    model, processor = load_checkpoint(script.model_name_or_path, device="cpu", dtype="float32")
    freeze(model, script.train_parts)

    # Dataset
    dataset = to_dataset(questions(script), script.num_questions, processor)

    # Training
    # A placeholder in an answer would need an image that does not exist; TRL suppresses `<image>` only.
    placeholders = [processor.image_token_id, processor.video_token_id]
    config.generation_kwargs = {"suppress_tokens": placeholders} | (config.generation_kwargs or {})
    trainer = ElysiumGRPOTrainer(
        model=model,
        reward_funcs=[partial(REWARDS[name], rounding=processor.box_rounding) for name in script.rewards],
        args=config,
        train_dataset=dataset,
        processing_class=processor,
    )
    trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)
    trainer.save_model(str(Path(config.output_dir) / "final"))


@dataclass(frozen=True, eq=False)
class Question:
    """A question about an image or a clip, and the boxes that answer it.

    Args:
        task: one of `BOX_TASKS`.
        frames (`np.ndarray` of shape `(T, H, W, 3)`): uint8 RGB; T is 1 for `rec`.
        boxes_xyxy_norm: T true boxes, None where the object is absent.
        text: text prompt for the object; None for `sot`.
    """

    task: str
    frames: np.ndarray
    boxes_xyxy_norm: list[list[float] | None]
    text: str | None

    def messages(self, processor: ElysiumProcessor) -> list[dict]:
        """Return the conversation, as at inference."""
        if self.task == "rec":
            return processor.build_messages("rec", image=self.frames[0], text=self.text)
        first = self.boxes_xyxy_norm[0] if self.task == "sot" else None
        return processor.build_messages(self.task, video=self.frames, text=self.text, box_xyxy_norm=first)


def questions(script: GrpoArguments) -> Iterator[Question]:
    """Yield questions about one scene after another without end; the same arguments give the same questions.

    A scene without an object to ask about is skipped.
    """
    world, number_asked = World(script.world_seed), 0
    config = SceneConfig(num_objects=tuple(script.num_objects), side=tuple(script.side))
    width, height = script.image_size
    for number in itertools.count():
        task = script.tasks[number_asked % len(script.tasks)]
        scene = world.sample(number, config)
        clip = render_clip(scene, 1 if task == "rec" else script.num_frames, (width, height))
        question = _ask(task, scene, clip, turn=number)
        if question is not None:
            number_asked += 1
            yield question


def _ask(task: str, scene: Scene, clip: RenderedClip, *, turn: int) -> Question | None:
    """Return a question about an object visible in the first frame, or None; objects take turns."""
    able = np.flatnonzero(clip.visible[0]).tolist()
    texts = {i: referring_expressions(scene, i, clip.boxes_xyxy_norm, clip.visible) for i in able}
    if task != "sot":
        able = [i for i in able if texts[i]]
    if not able:
        return None
    chosen = able[turn % len(able)]
    pairs = zip(clip.boxes_xyxy_norm[:, chosen], clip.visible[:, chosen], strict=True)
    boxes = [box.tolist() if seen else None for box, seen in pairs]
    return Question(task, clip.frames, boxes, None if task == "sot" else texts[chosen][0])


def to_dataset(source: Iterator[Question], count: int, processor: ElysiumProcessor) -> Dataset:
    """Return the next questions as a dataset: a prompt, its images, and the true boxes for the rewards."""
    rows = []
    for question in itertools.islice(source, count):
        prompt, images = as_images(question.messages(processor))
        rows.append({"prompt": prompt, "images": images, "boxes_xyxy_norm": question.boxes_xyxy_norm})
    return Dataset.from_list(rows, features=FEATURES)


def as_images(messages: list[dict]) -> tuple[list[dict], list[PILImage.Image]]:
    """Return messages whose videos are labelled images, and these images, as TRL takes them.

    Args:
        messages: from `build_messages`; a video is an array of frames (T, H, W, 3).
    """
    prompt, images = [], []
    for message in messages:
        content: list[dict[str, Any]] = []
        for part in message["content"]:
            if part["type"] == "text":
                content.append(part)
                continue
            frames = part["video"] if part["type"] == "video" else [part["image"]]
            for number, frame in enumerate(frames, start=1):
                if part["type"] == "video":
                    content.append({"type": "text", "text": f"{', ' if number > 1 else ''}Frame {number}: "})
                content.append({"type": "image"})
                images.append(PILImage.fromarray(frame))
        prompt.append({"role": message["role"], "content": content})
    return prompt, images


def main(arguments: list[str] | None = None) -> None:
    """Read the recipe and the command line, and train."""
    try:
        train(*TrlParser((GrpoArguments, GRPOConfig)).parse_args_and_config(arguments))
    except (ValueError, OSError) as error:  # what the package raises is written for users
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
