"""Collate items of a mixture into a batch of tensors; unreadable samples are left out and named.

Letters: B samples, L tokens, T frames of a sample, N patches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

from elysium.processing.data_files import broken_rule
from elysium.processing.processing_elysium import ElysiumProcessor
from elysium.processing.prompts_elysium import TASKS
from elysium.processing.video_io import VideoError
from elysium.readers.frame_sources import DatasetError

from .mixture import COPY, INDEX, Mixture
from .sampling import DrawPlan, Example, draw_example

IGNORE = -100
_COPIES_APART = 1_000_000  # more than there are epochs
_VISUAL = ("pixel_values", "pixel_values_videos")
# Errors of broken data: of our readers and decoders, of PIL and PyAV beneath them, and of the box codec.
BROKEN = (DatasetError, VideoError, OSError, ValueError, KeyError, TypeError)


@dataclass(frozen=True)
class Dropped:
    """An item that could not be read.

    Args:
        where: name of the sample, or its place where it has none.
        reason: rule that was broken, the same for all samples that break it.
        detail: the whole message.
    """

    where: str
    reason: str
    detail: str


@dataclass
class ElysiumCollator:
    """Draw an example from every item, and collate them into one batch.

    A batch has `input_ids`, `attention_mask` and `labels` `(B, L)`, padded on the right, with -100 everywhere but in
    answers; `pixel_values` and `pixel_values_videos` where there are images or videos; `task_ids` `(B,)`, indices of
    `TASKS`; `patch_targets` `(sum I + sum T, N)`, share of each patch that the object's box covers, NaN where it is
    unknown, images first; and `dropped`, a list of `Dropped`.

    Where no item of a batch can be read, the batch is one black frame without labels: its loss is 0, and the
    processes of a distributed run stay in step.

    Args:
        mixture: source of the samples.
        processor: of the model.
        plan: rules for drawing examples.
        max_length: most tokens of an example, visual ones included; None for no limit. Longer examples are left out,
            never cut, since that could cut their visual tokens.
        patches: patches along each side of the model's images.
        seed: of the draws.
        epoch: of the draws, set by the trainer. In a stream the place of the sample replaces it.
    """

    mixture: Mixture
    processor: ElysiumProcessor
    plan: DrawPlan
    max_length: int | None
    patches: int
    seed: int = 0
    epoch: int = 0

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        encoded: list[dict[str, torch.Tensor]] = []
        dropped: list[Dropped] = []
        for item in items:
            where = f"item {item.get('index', item.get('id'))} of source {item.get('source')}"
            try:
                sample = self.mixture.sample(item)
                where = sample.where
                # A repeated sample gives another example: by its place in a stream, or by its copy and the epoch.
                epoch = item[INDEX] if self.mixture.streamed else self.epoch + _COPIES_APART * item[COPY]
                example = draw_example(sample, self.plan, self.processor, seed=self.seed, epoch=epoch)
                encoded.append(self.encode(example))
            except BROKEN as error:
                dropped.append(Dropped(where, broken_rule(error), str(error)))
        return self._batch(encoded or [self._nothing()]) | {"dropped": dropped}

    def encode(self, example: Example) -> dict[str, torch.Tensor]:
        """Return an example as tensors, without padding.

        Raises:
            ValueError: more tokens than `max_length`.
        """
        inputs = self.processor.apply_chat_template(
            [example.messages],
            tokenize=True,
            return_dict=True,
            return_tensors="np",  # transformers goes through the tokens one by one, which takes tensors long
            return_assistant_tokens_mask=True,
            processor_kwargs={"add_special_tokens": False},
        )
        ids = torch.from_numpy(inputs["input_ids"][0])
        if self.max_length is not None and len(ids) > self.max_length:
            raise ValueError(
                f"an example must have at most max_length ({self.max_length}) tokens, got {len(ids)} with "
                f"{example.num_frames} frames in {example.where}; raise max_length or lower max_frames"
            )
        answered = torch.as_tensor(np.array(inputs["assistant_masks"][0])).bool()
        found = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "labels": torch.where(answered, ids, IGNORE),
            "task_id": torch.tensor(list(TASKS).index(example.task)),
            "patch_targets": torch.from_numpy(box_coverage(example.boxes_xyxy_norm, example.num_frames, self.patches)),
        }
        return found | {name: torch.from_numpy(inputs[name]) for name in _VISUAL if name in inputs}

    def _nothing(self) -> dict[str, torch.Tensor]:
        """Return a black frame without labels."""
        side = self.processor.video_processor.size["height"]
        messages = self.processor.build_messages(
            "video_qa", video=np.zeros((1, side, side, 3), np.uint8), question="-", answer="-"
        )
        blank = self.encode(
            Example(task="video_qa", where="nothing", messages=messages, num_frames=1, boxes_xyxy_norm=None)
        )
        return blank | {"labels": torch.full_like(blank["labels"], IGNORE)}

    def _batch(self, encoded: list[dict[str, torch.Tensor]]) -> dict[str, Any]:
        padding = {"input_ids": self.processor.tokenizer.pad_token_id, "attention_mask": 0, "labels": IGNORE}
        batch: dict[str, Any] = {
            name: pad_sequence([sample[name] for sample in encoded], batch_first=True, padding_value=value)  # (B, L)
            for name, value in padding.items()
        }
        batch["task_ids"] = torch.stack([sample["task_id"] for sample in encoded])
        targets = []
        for name in _VISUAL:
            holding = [sample for sample in encoded if name in sample]
            if holding:
                batch[name] = torch.cat([sample[name] for sample in holding])
                targets += [sample["patch_targets"] for sample in holding]
        return batch | {"patch_targets": torch.cat(targets)}


def box_coverage(boxes_xyxy_norm: NDArray[np.float64] | None, num_frames: int, grid: int) -> NDArray[np.float32]:
    """Return the share of each patch that a frame's box covers.

    Args:
        boxes_xyxy_norm (`np.ndarray` of shape `(T, 4)`): in 0..1, NaN where the object is absent; None where
            unknown.
        num_frames: T.
        grid: patches along each side.

    Returns:
        `np.ndarray` of shape `(T, N)`, N = grid * grid in raster order; NaN in unknown frames and
        where the object is absent, since other objects may be there.

    >>> box_coverage(np.array([[0, 0, 0.75, 0.5]]), 1, 2)
    array([[1. , 0.5, 0. , 0. ]], dtype=float32)
    """
    if boxes_xyxy_norm is None:
        return np.full((num_frames, grid * grid), np.nan, dtype=np.float32)
    edges = np.arange(grid + 1) / grid

    def share(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
        covered = np.minimum(edges[1:], high[:, None]) - np.maximum(edges[:-1], low[:, None])
        return np.clip(covered * grid, 0, None)  # (T, grid)

    columns = share(boxes_xyxy_norm[:, 0], boxes_xyxy_norm[:, 2])
    rows = share(boxes_xyxy_norm[:, 1], boxes_xyxy_norm[:, 3])
    return (rows[:, :, None] * columns[:, None, :]).reshape(num_frames, -1).astype(np.float32)
