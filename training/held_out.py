"""Measure the mean IoU of boxes that a model generates for held-out examples during training."""

from dataclasses import dataclass, replace
from functools import cached_property
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
        seed: of the draws.
        count: number of examples.
        batch_size: most examples in a batch.
    """

    mixture: Mixture
    processor: ElysiumProcessor
    plan: DrawPlan
    seed: int
    count: int
    batch_size: int = 8

    @cached_property
    def examples(self) -> list[Example]:
        """Return the examples, drawn once; unreadable samples are skipped."""
        tasks = {task: weight for task, weight in self.plan.tasks.items() if task in BOX_TASKS}
        if not any(tasks.values()):
            return []
        plan, found = replace(self.plan, tasks=tasks, share_other_phrasings=0.0), []
        for item in self.mixture.dataset:
            try:
                found.append(draw_example(self.mixture.sample(item), plan, self.processor, seed=self.seed))
            except (DatasetError, OSError):
                continue
            if len(found) == self.count:
                break
        return found

    @torch.no_grad()
    def measure(self, model: Any) -> dict[str, float]:
        """Return `eval_TASK_iou` for each task among the examples: mean IoU over frames with the object.

        The first frame of tracking by box is given and not counted; a frame without a readable box counts 0.
        """
        if not self.examples:
            return {}
        answerer = Answerer(model, self.processor, batch_size=self.batch_size)
        budget = max(answerer.tracking_budget(example.num_frames) for example in self.examples)
        answers = answerer.answer([example.messages[:-1] for example in self.examples], max_new_tokens=budget)
        ious: dict[str, list[np.ndarray]] = {}
        for example, answer in zip(self.examples, answers, strict=True):
            ious.setdefault(f"eval_{example.task}_iou", []).append(self._iou(example, answer.text))
        found = {name: np.concatenate(parts) for name, parts in sorted(ious.items())}
        return {name: float(values.mean()) for name, values in found.items() if len(values)}

    def _iou(self, example: Example, text: str) -> np.ndarray:
        num_frames = None if example.task == "rec" else example.num_frames
        parsed = self.processor.post_process_boxes(text, num_frames=num_frames)[0]
        boxes = np.array([box["box_xyxy_norm"] or [np.nan] * 4 for box in parsed], dtype=np.float64)
        truth = example.boxes_xyxy_norm
        counted = np.isfinite(truth).all(axis=1)
        counted[0] &= example.task != "sot"
        return paired_iou(boxes, truth)[counted]
