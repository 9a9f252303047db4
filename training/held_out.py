"""Measure the mean IoU of boxes that a model generates for held-out examples during training."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from elysium.processing.overlap import paired_iou
from elysium.processing.processing_elysium import ElysiumProcessor
from elysium.processing.prompts_elysium import BOX_TASKS
from elysium.readers.frame_sources import DatasetError
from elysium.tracking.answering import Answerer

from .mixture import Mixture
from .sampling import DrawPlan, Example, draw_example


@dataclass
class HeldOutBoxes:
    """Generate boxes for the same examples at each evaluation.

    Args:
        mixture: of held-out samples.
        processor: of the model.
        plan: rules for drawing examples.
        count: number of examples.
        batch_size: most examples in a batch.
    """

    mixture: Mixture
    processor: ElysiumProcessor
    plan: DrawPlan
    count: int
    batch_size: int = 8

    def __post_init__(self) -> None:
        self._examples: list[Example] | None = None

    def examples(self) -> list[Example]:
        """Return the examples, drawn once; unreadable samples are skipped."""
        if self._examples is None:
            wanted = {task: weight for task, weight in self.plan.tasks.items() if task in BOX_TASKS}
            plan = DrawPlan(**(vars(self.plan) | {"tasks": wanted, "share_other_phrasings": 0.0})) if wanted else None
            self._examples = []
            for item in self.mixture.dataset if plan else []:
                try:
                    self._examples.append(draw_example(self.mixture.row(item), plan, self.processor))
                except (DatasetError, OSError):
                    continue
                if len(self._examples) == self.count:
                    break
        return self._examples

    @torch.no_grad()
    def measure(self, model: Any) -> dict[str, float]:
        """Return `eval_TASK_iou` for each task among the examples: mean IoU over frames with the object.

        Frame 1 of tracking by box is given and not counted; a frame without a readable box counts 0.
        """
        examples = self.examples()
        ious: dict[str, list[np.ndarray]] = {}
        if examples:
            answerer = Answerer(model, self.processor, batch_size=self.batch_size)
            budget = max(answerer.tracking_budget(example.num_frames) for example in examples)
            asked = [example.messages[:-1] for example in examples]
            for example, answer in zip(examples, answerer.answer(asked, max_new_tokens=budget), strict=True):
                ious.setdefault(f"eval_{example.task}_iou", []).append(self._iou(example, answer.text))
        found = {name: np.concatenate(parts) for name, parts in sorted(ious.items())}
        return {name: float(values.mean()) for name, values in found.items() if len(values)}

    def _iou(self, example: Example, text: str) -> np.ndarray:
        num_frames = None if example.task == "rec" else example.num_frames
        readings = self.processor.post_process_boxes(text, num_frames=num_frames)[0]
        boxes = np.array([reading["box_xyxy_norm"] or [np.nan] * 4 for reading in readings], dtype=np.float64)
        truth = example.boxes_xyxy_norm
        counted = np.isfinite(truth).all(axis=1)
        counted[0] &= example.task != "sot"
        return paired_iou(boxes, truth)[counted]
