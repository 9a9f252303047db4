"""What each benchmark on pictures and words asks a model: its items, and how a batch of them is answered."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elysium.processing.boxes_elysium import Box
from elysium.processing.video_io import uniform_indices
from elysium.readers.elysium_track import read_elysium_track
from elysium.readers.frame_sources import DatasetError
from elysium.readers.records import TrackingSequence
from elysium.readers.refcoco import read_refcoco, read_referred_objects
from elysium.readers.video_qa import read_video_questions
from elysium.tracking.tracker import ASK_FRAMES, DESCRIBE_FRAMES, Tracker

from . import captioning, grounding, qa
from .answers import Answer, Item

Data = str | Path


@dataclass(frozen=True, kw_only=True)
class QuestionBenchmark:
    """A benchmark whose items are asked one by one.

    Args:
        name: as it is typed.
        task: name of one of `prompts_elysium.TASKS`.
        items: of a place, a split and a limit (None for all), in a fixed order.
        answer: a batch of items, by a model; answers as JSON holds them.
        protocol: `name`, `source` and `rules` for the report.
        asked: how the model is asked, a sentence for the report.
        default_split: what is asked where no split is named.
    """

    name: str
    task: str
    items: Callable[[Data, str, int | None], Iterator[Item]]
    answer: Callable[[Tracker, list[Item]], list[Answer]] = field(repr=False)
    protocol: dict[str, Any] = field(repr=False)
    asked: str
    default_split: str


def grounding_items(dataset: str) -> Callable[[Data, str, int | None], Iterator[Item]]:
    """Every sentence of RefCOCO or one of its siblings."""

    def items(data: Data, split: str, limit: int | None) -> Iterator[Item]:
        for expression in read_refcoco(data, dataset, split, limit=limit):
            target = expression.target
            truth = {"text": expression.text, "box_xyxy_px": list(target.box_xyxy_px), "split": target.split}
            yield Item(expression.key, expression, truth)

    return items


def description_items(dataset: str) -> Callable[[Data, str, int | None], Iterator[Item]]:
    """Every object of RefCOCO or one of its siblings about which something was said."""

    def items(data: Data, split: str, limit: int | None) -> Iterator[Item]:
        for target in read_referred_objects(data, dataset, split, limit=limit):
            if target.sentences:
                truth = {
                    "sentences": list(target.sentences),
                    "box_xyxy_px": list(target.box_xyxy_px),
                    "split": target.split,
                }
                yield Item(target.key, target, truth)

    return items


def video_description_items(data: Data, split: str, limit: int | None) -> Iterator[Item]:
    """Every object of ElysiumTrack-1M rows, from the first frame in which it has a box."""
    for sequence in islice(read_elysium_track(data, split), limit):
        if not sequence.text:
            raise DatasetError(
                f"a row must say what its object is, got no object_description in {sequence.name}; leave it out"
            )
        first, box = first_box(sequence)
        truth = {"sentences": [sequence.text], "first_frame": first, "box_xyxy_px": list(box), "split": split}
        yield Item(sequence.name, sequence, truth)


def question_items(dataset: str) -> Callable[[Data, str, int | None], Iterator[Item]]:
    """Every question of a video question answering data set."""

    def items(data: Data, split: str, limit: int | None) -> Iterator[Item]:
        for question in read_video_questions(dataset, data, split, limit=limit):
            truth = {"question": question.question, "answer": question.answer, "type": question.question_type}
            yield Item(question.key, question, truth)

    return items


def first_box(sequence: TrackingSequence) -> tuple[int, Box]:
    """The first frame in which the object has a box inside the picture, and that box cut to it.

    Returns:
        0-based frame and x1, y1, x2, y2 in pixels.

    Raises:
        DatasetError: there is no such frame.
    """
    for frame in np.flatnonzero(sequence.visible).tolist():
        if (box := sequence.box_xyxy_px(frame)) is not None:
            return frame, box
    raise DatasetError(f"an object must be seen in some frame, got no box in {sequence.name}; leave it out")


def ground_batch(tracker: Tracker, batch: list[Item]) -> list[Answer]:
    """Boxes, in pixels of the stored picture, or the reason why there is none."""
    pairs = ((item.question.target.load_picture(), item.question.text) for item in batch)
    found = [answer.to_dict() for answer in tracker.ground_many(pairs)]
    return [{name: answer.get(name) for name in ("box_xyxy_px", "score", "reason")} for answer in found]


def describe_batch(tracker: Tracker, batch: list[Item]) -> list[Answer]:
    """Descriptions of objects in pictures."""
    return [{"text": text} for text in tracker.describe_many(map(_picture_and_box, batch))]


def describe_video_batch(tracker: Tracker, batch: list[Item]) -> list[Answer]:
    """Descriptions of objects in videos."""
    return [{"text": text} for text in tracker.describe_many(map(_frames_and_box, batch))]


def ask_batch(tracker: Tracker, batch: list[Item]) -> list[Answer]:
    """Answers about videos."""
    pairs = ((item.question.video, item.question.question) for item in batch)
    return [{"text": text} for text in tracker.ask_many(pairs)]


def _picture_and_box(item: Item) -> tuple[NDArray[np.uint8], Box]:
    picture = item.question.load_picture()
    return picture, item.question.box_inside(picture.shape[1], picture.shape[0])


def _frames_and_box(item: Item) -> tuple[NDArray[np.uint8], Box]:
    """The frames that a description is asked for by, and the box in the first of them."""
    sequence: TrackingSequence = item.question
    first, box = first_box(sequence)
    later = uniform_indices(len(sequence.boxes_xywh_px) - first, DESCRIBE_FRAMES)
    frames = sequence.frames.read([first + index for index in later])
    if (frames.shape[2], frames.shape[1]) != sequence.picture_size:
        raise DatasetError(
            f"frames must have the row's frame_size {sequence.picture_size}, got {frames.shape[2]}x{frames.shape[1]} "
            f"in {sequence.name}; give them in their original size"
        )
    return frames, box


_REFCOCO = ("refcoco", "refcoco+", "refcocog")
_VIDEO_QA = ("msvd-qa", "msrvtt-qa", "tgif-qa", "activitynet-qa", "video-qa")
_ALL = (
    *(
        QuestionBenchmark(
            name=name,
            task="rec",
            items=grounding_items(name),
            answer=ground_batch,
            protocol=grounding.PROTOCOL,
            asked="the model is asked with the words and the whole picture, and decodes greedily",
            default_split="val",
        )
        for name in _REFCOCO
    ),
    *(
        QuestionBenchmark(
            name=f"{name}-reg",
            task="reg",
            items=description_items(name),
            answer=describe_batch,
            protocol=captioning.PROTOCOL,
            asked="the model is asked with the true box, cut to the picture, and decodes greedily",
            default_split="val",
        )
        for name in _REFCOCO
    ),
    QuestionBenchmark(
        name="video-reg",
        task="video_reg",
        items=video_description_items,
        answer=describe_video_batch,
        protocol=captioning.PROTOCOL,
        asked=f"the model is asked with the true box in the first frame that has one, sees {DESCRIBE_FRAMES} frames "
        "spread evenly from there to the end, and decodes greedily",
        default_split="validation",
    ),
    *(
        QuestionBenchmark(
            name=name,
            task="video_qa",
            items=question_items(name),
            answer=ask_batch,
            protocol=qa.PROTOCOL,
            asked=f"the model sees as many frames as it was trained on ({ASK_FRAMES} where it does not say), spread "
            "evenly, and decodes greedily",
            default_split="test",
        )
        for name in _VIDEO_QA
    ),
)
QUESTION_BENCHMARKS = {benchmark.name: benchmark for benchmark in _ALL}
