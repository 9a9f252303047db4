"""List the question benchmarks (grounding, descriptions, video questions): items, prompts and scores of each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from elysium.processing.boxes_elysium import Box
from elysium.processing.data_files import DatasetError
from elysium.processing.video_io import uniform_indices
from elysium.readers.elysium_track import read_elysium_track
from elysium.readers.refcoco import read_refcoco, read_referred_objects
from elysium.readers.samples import TrackingSequence
from elysium.readers.video_qa import read_video_questions
from elysium.tracking.streams import ASK_FRAMES, DESCRIBE_FRAMES

from . import captioning, grounding, qa

if TYPE_CHECKING:
    from elysium.tracking.tracker import Tracker

Data = str | Path
Answer = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """One question to a model.

    Args:
        key: unique in the benchmark, and the same in every run.
        question: the input, such as an object of a dataset; images are opened when it is answered.
        truth: the ground truth, as JSON holds it.
    """

    key: str
    question: Any
    truth: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class QuestionBenchmark:
    """A benchmark whose items are answered independently.

    Args:
        name: argument of `elysium evaluate`.
        title: name in reports, as the benchmark's paper writes it.
        task: name of one of `prompts_elysium.TASKS`.
        items: returns the items of a dataset, a split and a limit (None for all), in a fixed order.
        answer: returns a model's answers to a batch of items, as JSON holds them.
        protocol: `name`, `source` and `rules` for the report.
        prompt: how the model is prompted, a sentence for the report.
        default_split: the split where none is named.
    """

    name: str
    title: str
    task: str
    items: Callable[[Data, str, int | None], Iterator[Item]]
    answer: Callable[["Tracker", list[Item]], list[Answer]] = field(repr=False)
    protocol: dict[str, Any] = field(repr=False)
    prompt: str
    default_split: str


def grounding_items(dataset: str, data: Data, split: str, limit: int | None) -> Iterator[Item]:
    """Yield every expression of RefCOCO or one of its siblings."""
    for expression in read_refcoco(data, dataset, split, limit=limit):
        target = expression.target
        truth = {"text": expression.text, "box_xyxy_px": list(target.box_xyxy_px), "split": target.split}
        yield Item(expression.key, expression, truth)


def description_items(dataset: str, data: Data, split: str, limit: int | None) -> Iterator[Item]:
    """Yield every object of RefCOCO or one of its siblings that has an expression."""
    for target in read_referred_objects(data, dataset, split, limit=limit):
        if target.sentences:
            sentences, box = list(target.sentences), list(target.box_xyxy_px)
            yield Item(target.key, target, {"sentences": sentences, "box_xyxy_px": box, "split": target.split})


def video_description_items(data: Data, split: str, limit: int | None) -> Iterator[Item]:
    """Yield every object of ElysiumTrack-1M rows, from the first frame in which it has a box."""
    for sequence in islice(read_elysium_track(data, split), limit):
        if not sequence.text:
            raise DatasetError(
                f"a row must describe its object, got no object_description in {sequence.name}; leave it out"
            )
        first, box = first_box(sequence)
        truth = {"sentences": [sequence.text], "first_frame": first, "box_xyxy_px": list(box), "split": split}
        yield Item(sequence.name, sequence, truth)


def question_items(dataset: str, data: Data, split: str, limit: int | None) -> Iterator[Item]:
    """Yield every question of a video question answering dataset."""
    for question in read_video_questions(dataset, data, split, limit=limit):
        truth = {"question": question.question, "answer": question.answer, "type": question.question_type}
        yield Item(question.key, question, truth)


def first_box(sequence: TrackingSequence) -> tuple[int, Box]:
    """Return the first frame in which the object has a box inside the image, and that box clipped to it.

    Returns:
        0-based frame and x1, y1, x2, y2 in pixels.

    Raises:
        DatasetError: there is no such frame.
    """
    for frame in np.flatnonzero(sequence.visible).tolist():
        if (box := sequence.box_xyxy_px(frame)) is not None:
            return frame, box
    raise DatasetError(f"an object must be visible in some frame, got no box in {sequence.name}; leave it out")


def ground_batch(tracker: "Tracker", batch: list[Item]) -> list[Answer]:
    """Return boxes, in pixels of the stored image, or the reason for the absence of one."""
    pairs = ((item.question.target.load_image(), item.question.text) for item in batch)
    found = [answer.to_dict() for answer in tracker.ground_many(pairs)]
    return [{name: answer.get(name) for name in ("box_xyxy_px", "score", "reason")} for answer in found]


def describe_batch(tracker: "Tracker", batch: list[Item]) -> list[Answer]:
    """Return descriptions of objects in images or videos."""
    return [{"text": text} for text in tracker.describe_many(map(_frames_and_box, batch))]


def ask_batch(tracker: "Tracker", batch: list[Item]) -> list[Answer]:
    """Return answers to questions about videos."""
    pairs = ((item.question.video, item.question.question) for item in batch)
    return [{"text": text} for text in tracker.ask_many(pairs)]


def _frames_and_box(item: Item) -> tuple[NDArray[np.uint8], Box]:
    """Return the image, or the frames of a video description, and the box in the first of them."""
    if not isinstance(item.question, TrackingSequence):
        image = item.question.load_image()
        return image, item.question.box_inside(image.shape[1], image.shape[0])
    sequence = item.question
    first, box = first_box(sequence)
    later = uniform_indices(len(sequence.boxes_xywh_px) - first, DESCRIBE_FRAMES)
    frames = sequence.frames.read([first + index for index in later])
    if (frames.shape[2], frames.shape[1]) != sequence.image_size:
        raise DatasetError(
            f"frames must have the row's frame_size {sequence.image_size}, got {frames.shape[2]}x{frames.shape[1]} "
            f"in {sequence.name}; give them in their original size"
        )
    return frames, box


_REFCOCO = ("RefCOCO", "RefCOCO+", "RefCOCOg")
_VIDEO_QA = ("MSVD-QA", "MSRVTT-QA", "TGIF-QA", "ActivityNet-QA", "video-qa")
_grounding = partial(
    QuestionBenchmark,
    task="rec",
    answer=ground_batch,
    protocol=grounding.PROTOCOL,
    prompt="the model is given the expression and the whole image, and decodes greedily",
    default_split="val",
)
_descriptions = partial(QuestionBenchmark, answer=describe_batch, protocol=captioning.PROTOCOL)
_image_descriptions = partial(
    _descriptions,
    task="reg",
    prompt="the model is given the ground-truth box, clipped to the image, and decodes greedily",
    default_split="val",
)
_questions = partial(
    QuestionBenchmark,
    task="video_qa",
    answer=ask_batch,
    protocol=qa.PROTOCOL,
    prompt=f"the model sees as many frames as it was trained on ({ASK_FRAMES} where its configuration does not say), "
    "spread evenly, and decodes greedily",
    default_split="test",
)
_ALL = (
    *(_grounding(name=t.lower(), title=t, items=partial(grounding_items, t.lower())) for t in _REFCOCO),
    *(
        _image_descriptions(name=f"{t.lower()}-reg", title=t, items=partial(description_items, t.lower()))
        for t in _REFCOCO
    ),
    _descriptions(
        name="video-reg",
        title="video-reg",
        task="video_reg",
        items=video_description_items,
        prompt="the model is given the ground-truth box in the first frame that has one, sees "
        f"{DESCRIBE_FRAMES} frames spread evenly from there to the end, and decodes greedily",
        default_split="validation",
    ),
    *(_questions(name=t.lower(), title=t, items=partial(question_items, t.lower())) for t in _VIDEO_QA),
)
QUESTION_BENCHMARKS = {benchmark.name: benchmark for benchmark in _ALL}
