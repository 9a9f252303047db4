"""Reward answers with boxes; the functions have the signature of TRL's reward functions.

They also serve `trl grpo --reward_funcs elysium.training.rewards.iou_reward` with a dataset that has the column
`boxes_xyxy_norm`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from elysium.processing.boxes_elysium import ParsedBox, format_box, format_frames, parse_frames
from elysium.processing.overlap import paired_iou

Message = dict[str, Any]
Completion = str | list[Message]
# T boxes in 0..1, or None where the object cannot be seen.
Truth = Sequence[Sequence[float] | None]
_NO_BOX = (np.nan,) * 4


def iou_reward(
    completions: Sequence[Completion], boxes_xyxy_norm: Sequence[Truth], *, rounding: str = "floor", **kwargs: Any
) -> list[float]:
    """Return the mean IoU over the frames of each answer.

    In a frame in which the object cannot be seen, `none` earns 1 and all else 0. Elsewhere `none`, a frame that the
    answer leaves out and one that cannot be read earn 0. An answer about an image has one frame.

    Args:
        completions: answers of the model, as texts or as messages.
        boxes_xyxy_norm: ground truth of each, one box a frame.
        rounding: how boxes are written as integers, the processor's `box_rounding`.
        **kwargs: other columns of the dataset, and more, which TRL passes.

    Raises:
        ValueError: not one list of true boxes for each completion, or one without frames.

    >>> answers = ["Frame 1: [0,0,49,49], Frame 2: none.", "Frame 1: none, Frame 2: none."]
    >>> iou_reward(answers, [[(0.005, 0.005, 0.495, 0.495), None]] * 2)
    [1.0, 0.5]
    """
    _check(completions, boxes_xyxy_norm)
    return [
        float(np.mean(_frame_rewards(parse_frames(_text(answer), len(truth), rounding=rounding), truth)))
        for answer, truth in zip(completions, boxes_xyxy_norm, strict=True)
    ]


def format_reward(
    completions: Sequence[Completion], boxes_xyxy_norm: Sequence[Truth], *, rounding: str = "floor", **kwargs: Any
) -> list[float]:
    """Return 1 for an answer that is a complete list of boxes in the canonical form, else 0.

    Every frame has its box or `none`, in order, without other text; the full stop may be missing. An answer about one
    image may be the box alone. The position of the boxes does not count.

    Args:
        completions: as in [`iou_reward`].
        boxes_xyxy_norm: as in [`iou_reward`]; only the number of boxes counts.
        rounding: as in [`iou_reward`].
        **kwargs: as in [`iou_reward`].

    >>> format_reward(["Frame 1: [1,2,3,4], Frame 2: none.", "Frame 1: [1,2,3,4]."], [[None, None]] * 2)
    [1.0, 0.0]
    """
    _check(completions, boxes_xyxy_norm)
    return [
        float(_is_complete(_text(answer).strip(), len(truth), rounding))
        for answer, truth in zip(completions, boxes_xyxy_norm, strict=True)
    ]


REWARDS = {"iou": iou_reward, "format": format_reward}


def _check(completions: Sequence[Completion], boxes_xyxy_norm: Sequence[Truth]) -> None:
    if len(completions) != len(boxes_xyxy_norm):
        raise ValueError(
            f"each completion must have its true boxes, got {len(completions)} completions and "
            f"{len(boxes_xyxy_norm)} lists; give the dataset a column boxes_xyxy_norm"
        )
    if not all(len(truth) for truth in boxes_xyxy_norm):
        raise ValueError("true boxes must cover at least one frame, got an empty list; leave that sample out")


def _text(completion: Completion) -> str:
    """Return the text of a completion: TRL passes messages where the prompts are messages."""
    return completion if isinstance(completion, str) else completion[0]["content"]


def _frame_rewards(parsed: Sequence[ParsedBox], truth: Truth) -> np.ndarray:
    """Return the reward of each frame, `(T,)`."""
    boxes = np.array([box.box_xyxy_norm or _NO_BOX for box in parsed], dtype=np.float64)
    true = np.array([_NO_BOX if box is None else box for box in truth], dtype=np.float64)
    absent = np.array([box is None for box in truth])
    predicted_absent = np.array([box.status == "absent" for box in parsed])
    return np.where(absent, predicted_absent, paired_iou(boxes, true))


def _is_complete(text: str, num_frames: int, rounding: str) -> bool:
    """Return whether a text is the canonical form of the boxes parsed from it."""
    parsed = parse_frames(text, num_frames, rounding=rounding)
    if not all(box.readable for box in parsed):
        return False
    boxes = [box.box_xyxy_norm for box in parsed]
    written = {format_frames(boxes, rounding=rounding)}
    if num_frames == 1:
        written.add("none" if boxes[0] is None else format_box(boxes[0], rounding=rounding))
    return text.removesuffix(".") in {form.removesuffix(".") for form in written}
