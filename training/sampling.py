"""Draw an example from a sample: a task, frames, a question, and the target answer.

The draw depends on the seed, the epoch (in a stream, the place in it) and the sample's name alone: not on the
process, the loader's worker or the number of resumes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elysium.processing.boxes_elysium import format_box, format_frames
from elysium.processing.processing_elysium import ElysiumProcessor
from elysium.processing.prompts.phrasings import load_phrasings
from elysium.processing.prompts_elysium import TASKS
from elysium.processing.video_io import uniform_indices
from elysium.readers.frame_sources import DatasetError
from elysium.readers.samples import Sample


@dataclass(kw_only=True)
class DrawPlan:
    """Rules for drawing examples from samples.

    Args:
        tasks: weights of the tasks among those that a sample allows; a task that is not named is never drawn. All
            alike by default.
        min_frames, max_frames: frames of a tracking example, drawn evenly from min to max (fewer where a video is
            shorter); the paper has 2 to 8, and 32 in its last stage.
        max_interval: frames of the video between two frames of the example, drawn evenly from 1 to this, less where
            the video is too short; the paper has 60.
        question_frames: frames of a video for questions about it, spread evenly.
        share_other_phrasings: share of questions in other phrasings than that of inference.

    Raises:
        ValueError: an unknown task, or a number out of its range.
    """

    min_frames: int = 2
    max_frames: int = 8
    max_interval: int = 60
    question_frames: int = 16
    share_other_phrasings: float = 0.5
    tasks: dict[str, float] | None = None

    def __post_init__(self) -> None:
        self.tasks = self.tasks or dict.fromkeys(TASKS, 1.0)
        if not set(self.tasks) <= set(TASKS) or not any(weight > 0 for weight in self.tasks.values()):
            raise ValueError(f"tasks must be weights above 0 of {', '.join(TASKS)}, got {self.tasks}")
        if not 2 <= self.min_frames <= self.max_frames:
            raise ValueError(f"frames must be 2 <= min <= max, got {self.min_frames} and {self.max_frames}")
        if self.max_interval < 1 or self.question_frames < 1:
            raise ValueError(
                f"max_interval and question_frames must be 1 or more, got {self.max_interval}, {self.question_frames}"
            )
        if not 0 <= self.share_other_phrasings <= 1:
            raise ValueError(f"share_other_phrasings must be in 0..1, got {self.share_other_phrasings}")


@dataclass(frozen=True, eq=False, kw_only=True)
class Example:
    """One conversation to train on.

    Args:
        task: one of `TASKS`.
        where: name of the sample.
        messages: for the processor's chat template, with images and answers.
        num_frames: T.
        boxes_xyxy_norm (`np.ndarray` of shape `(T, 4)`): of the object in the drawn frames, NaN where it is
            absent; None for a sample that is not about an object.
    """

    task: str
    where: str
    messages: list[dict[str, Any]]
    num_frames: int
    boxes_xyxy_norm: NDArray[np.float64] | None


def draw_rng(seed: int, epoch: int, where: str) -> np.random.Generator:
    """Return the random generator of a sample in an epoch."""
    digest = hashlib.sha256(f"{seed} {epoch} {where}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def possible_tasks(sample: Sample) -> list[str]:
    """Return the tasks that a sample allows.

    Raises:
        DatasetError: none, since its object is visible nowhere and it has no turns.
    """
    tasks = []
    is_video = len(sample.visible) > 1
    if sample.visible.any():
        tasks += ["rec"] if sample.text else []
        tasks += ["reg"] if sample.description else []
        if is_video:
            tasks += ["sot"] + (["rsot"] if sample.text else []) + (["video_reg"] if sample.description else [])
    tasks += ["video_qa"] if sample.turns else []
    if not tasks:
        raise DatasetError(f"a sample must teach something, got no visible box and no turns in {sample.where}")
    return tasks


def draw_example(
    sample: Sample, plan: DrawPlan, processor: ElysiumProcessor, *, seed: int = 0, epoch: int = 0
) -> Example:
    """Draw an example from a sample, always the same for the same plan, seed and epoch.

    Raises:
        DatasetError: the sample allows none of the plan's tasks, or its images cannot be read.
    """
    rng = draw_rng(seed, epoch, sample.where)
    possible = possible_tasks(sample)
    tasks = [task for task in possible if plan.tasks.get(task, 0) > 0]
    if not tasks:
        raise DatasetError(
            f"a sample must teach a task that is asked for, got only {', '.join(possible)} in {sample.where}; "
            "give that task a weight, or leave the source out"
        )
    weights = np.array([plan.tasks[task] for task in tasks])
    task = str(rng.choice(tasks, p=weights / weights.sum()))
    indices = draw_frames(sample, task, plan, rng, allow_absent=processor.allow_absent)
    images = sample.frames.read(indices)
    boxes = None if sample.boxes_xyxy_norm is None else sample.boxes_xyxy_norm[indices]
    visual = {"image": images[0]} if TASKS[task].visual == "image" or len(sample.frames) == 1 else {"video": images}
    if task == "video_qa":
        messages = _conversation(sample, visual, processor)
    else:
        question, answer = _question_and_answer(sample, task, boxes, plan, processor, rng)
        messages = processor.build_messages("video_qa", **visual, question=question, answer=answer)
    return Example(task=task, where=sample.where, messages=messages, num_frames=len(indices), boxes_xyxy_norm=boxes)


def draw_frames(
    sample: Sample, task: str, plan: DrawPlan, rng: np.random.Generator, *, allow_absent: bool
) -> list[int]:
    """Draw 0-based, increasing frame indices for a task.

    An image task takes a frame with the object. Tracking by box and describing start at such a frame;
    tracking by text may start at any, unless the model cannot answer absence: then only visible frames are taken.
    """
    if task == "video_qa":
        return uniform_indices(len(sample.frames), plan.question_frames)
    seen = np.flatnonzero(sample.visible)
    if TASKS[task].visual == "image":
        return [int(rng.choice(seen))]
    usable = np.arange(len(sample.visible)) if allow_absent else seen
    starts = usable if task == "rsot" else seen
    if len(usable) < 2:
        return [int(seen[0])]
    wanted = int(rng.integers(plan.min_frames, plan.max_frames + 1))
    count = min(wanted, len(usable))
    interval = int(rng.integers(1, min(plan.max_interval, (len(usable) - 1) // (count - 1)) + 1))
    # Places among the usable frames; the first must be one that the task may start at.
    places = np.flatnonzero(np.isin(usable, starts))
    fitting = places[places + interval * (count - 1) < len(usable)]
    place = int(rng.choice(fitting)) if len(fitting) else int(places[0])
    return [int(frame) for frame in usable[place : place + interval * (count - 1) + 1 : interval]]


def _question_and_answer(
    sample: Sample,
    task: str,
    boxes: NDArray[np.float64],
    plan: DrawPlan,
    processor: ElysiumProcessor,
    rng: np.random.Generator,
) -> tuple[str, str]:
    """Return the question in one of its phrasings, and the answer in the codec's form."""
    rounding = processor.box_rounding
    answered = [box if np.isfinite(box).all() else None for box in boxes]
    by_text = TASKS[task].needs == "text"
    if rng.random() < plan.share_other_phrasings:
        phrasing = str(rng.choice(load_phrasings()[task][1:]))
        value = str(sample.text) if by_text else format_box(answered[0], rounding=rounding)
        question = phrasing.replace("{text}" if by_text else "{box}", value)
    else:
        question = processor.build_question(
            task, text=sample.text if by_text else None, box_xyxy_norm=None if by_text else answered[0]
        )
    return question, _answer(sample, task, answered, rounding)


def _answer(sample: Sample, task: str, boxes: Sequence[NDArray[np.float64] | None], rounding: str) -> str:
    if task == "rec":
        return format_box(boxes[0], rounding=rounding)
    if task in ("reg", "video_reg"):
        return str(sample.description).strip().rstrip(".") + ("." if task == "video_reg" else "")
    return format_frames(list(boxes), rounding=rounding)


def _conversation(sample: Sample, visual: dict[str, Any], processor: ElysiumProcessor) -> list[dict[str, Any]]:
    """Return all turns of a sample; the image or video precedes the first question."""
    (question, answer), *others = sample.turns
    messages = processor.build_messages("video_qa", **visual, question=question, answer=answer)
    for question, answer in others:
        messages.append({"role": "user", "content": [{"type": "text", "text": question}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return messages
