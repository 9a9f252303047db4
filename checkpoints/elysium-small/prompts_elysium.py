# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""The tasks of Elysium and their prompts: one list for the processor, training and evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .boxes_elysium import format_box


@dataclass(frozen=True)
class Task:
    """One task of the model.

    Args:
        title: name in reports and model cards.
        visual: kind of input, `any` for an image or a video.
        needs: value that the prompt holds in braces: a text prompt, a box or a question.
        prompt: prompt at inference; training mixes in phrasings of `prompts/questions.yaml`. A processor saves only
            prompts that differ from these: new wording needs weights that were trained with it.
        answers_boxes: answered by boxes, one a frame, in place of text.
    """

    title: str
    visual: Literal["image", "video", "any"]
    needs: Literal["text", "box", "question"]
    prompt: str
    answers_boxes: bool = False

    @property
    def pipeline_tag(self) -> str:
        """Return the Hub's tag for the task."""
        return "image-text-to-text" if self.visual == "image" else "video-text-to-text"


TASKS = {
    "rec": Task("referring expression comprehension", "image", "text", "Where is {text}? Give its box.", True),
    "reg": Task("referring expression generation", "image", "box", "Describe the object at {box}."),
    "sot": Task("single-object tracking", "video", "box", "Track the object at {box} in Frame 1.", True),
    "rsot": Task("referring single-object tracking", "video", "text", "Track {text} in the video.", True),
    "video_reg": Task(
        "video referring expression generation", "video", "box", "Describe the object at {box} in Frame 1."
    ),
    "video_qa": Task("video question answering", "any", "question", "{question}"),
}
BOX_TASKS = tuple(name for name, task in TASKS.items() if task.answers_boxes)


class TaskPromptsMixin:
    """Build the prompts of `TASKS` in a processor's wording."""

    task_prompts: dict[str, str]
    box_rounding: str

    def build_question(
        self,
        task: str,
        *,
        text: str | None = None,
        box_xyxy_norm: Sequence[float] | None = None,
        question: str | None = None,
    ) -> str:
        """Return the prompt of a task without image or video.

        Raises:
            ValueError: an unknown task, or the value that it needs is missing.
        """
        if task not in TASKS:
            raise ValueError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
        needed = TASKS[task].needs
        value: Any = {"text": text, "box": box_xyxy_norm, "question": question}[needed]
        if value is None or (needed != "box" and not str(value).strip()):
            raise ValueError(f"task {task!r} needs {needed}, got {value!r}")
        if needed == "box":
            value = format_box(value, rounding=self.box_rounding)
        # Not str.format: a user's text may hold braces of its own.
        return self.task_prompts[task].replace("{" + needed + "}", str(value).strip())

    def build_messages(
        self, task: str, *, video: Any = None, image: Any = None, answer: str | None = None, **values: Any
    ) -> list[dict]:
        """Return one conversation for `apply_chat_template`.

        Args:
            task: name of one of `TASKS`.
            video: frames (T, H, W, 3) uint8, a list of frames, or a path. A list of frames is a video of its own.
            image: one image.
            answer: adds the assistant's turn (training).
            values: `text` (the expression of `rec` and `rsot`, such as "the red car"), `box_xyxy_norm` (the box of
                `reg`, `sot` and `video_reg`, x1,y1,x2,y2 in 0..1) or `question` (of `video_qa`).

        Raises:
            ValueError: an input that the task needs is missing.
        """
        if (video is None) == (image is None):
            raise ValueError(f"give exactly one of video and image for task {task!r}")
        prompt = self.build_question(task, **values)
        kind, visual = ("video", video) if image is None else ("image", image)
        if TASKS[task].visual not in ("any", kind):
            raise ValueError(f"task {task!r} takes {'an image' if kind == 'video' else 'a video'}")
        messages = [{"role": "user", "content": [{"type": kind, kind: visual}, {"type": "text", "text": prompt}]}]
        if answer is not None:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        return messages


__all__ = ["BOX_TASKS", "TASKS", "Task", "TaskPromptsMixin"]
