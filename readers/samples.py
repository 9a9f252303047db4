"""`Sample`, which all readers return for training, and sources of samples: lists, JSONL files, tracking sequences."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from elysium.processing.data_files import DatasetError, in_place

from .elysium_track import row_text, sequence_of_row
from .frame_sources import Frames, row_frames
from .indexed_json import index_json_lines
from .records import ReadSequence, TrackingSequence
from .zipped_frames import ZippedFolder

Turn = tuple[str, str]


@dataclass(frozen=True, eq=False, kw_only=True)
class Sample:
    """One image or video with its annotation, from which training draws its tasks.

    Args:
        source: name of the dataset.
        key: unique in its source.
        frames: images of a video, or one image; opened when they are drawn.
        boxes_xyxy_norm (`np.ndarray` of shape `(T, 4)`): of one object in 0..1, NaN where it is absent; None
            where the sample is not about an object.
        text: text prompt that identifies the object, such as "the red car"; or None.
        description: description of the object; or None.
        turns: questions with their answers in order, as one conversation.

    Raises:
        DatasetError: boxes of another shape or outside 0..1, or neither boxes nor turns.
    """

    source: str
    key: str
    frames: Frames
    boxes_xyxy_norm: NDArray[np.float64] | None = None
    text: str | None = None
    description: str | None = None
    turns: tuple[Turn, ...] = ()

    def __post_init__(self) -> None:
        boxes = self.boxes_xyxy_norm
        if boxes is None and not self.turns:
            raise DatasetError(f"a sample must have boxes or turns to learn from, got neither in {self.where}")
        if boxes is None:
            return
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise DatasetError(f"boxes must have shape (T, 4), got {boxes.shape} in {self.where}")
        seen = boxes[np.isfinite(boxes).all(axis=1)]
        if len(seen) and (seen.min() < 0 or seen.max() > 1 or (seen[:, :2] >= seen[:, 2:]).any()):
            wrong = seen[(seen < 0).any(axis=1) | (seen > 1).any(axis=1) | (seen[:, :2] >= seen[:, 2:]).any(axis=1)][0]
            raise DatasetError(
                f"a box must be x1,y1,x2,y2 in 0..1 with x1 < x2 and y1 < y2, got {wrong.round(4).tolist()} in "
                f"{self.where}; divide pixels by the image's size"
            )

    @property
    def where(self) -> str:
        """Return the name of the sample in messages."""
        return f"{self.source}/{self.key}"

    @cached_property
    def visible(self) -> NDArray[np.bool_]:
        """Return a mask `(T,)` of the frames with a box; empty for a sample that is not about an object."""
        boxes = self.boxes_xyxy_norm
        return np.zeros(0, bool) if boxes is None else np.asarray(np.isfinite(boxes).all(axis=1))


class SampleSource(Protocol):
    """Samples by index; reading one opens no image."""

    name: str

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, index: int) -> Sample:
        """Return the sample at a 0-based index."""


class SampleList:
    """Samples that are made from the entries of a list when they are needed.

    Args:
        name: of the source.
        entries: small records, such as those of a JSON file.
        make: function from an entry to a `Sample`.
        skipped: number of entries that were left out when the file was opened, by reason.
    """

    def __init__(
        self, name: str, entries: Sequence[Any], make: Callable[[Any], Sample], skipped: Counter[str] | None = None
    ) -> None:
        self.name, self._entries, self._make = name, entries, make
        self.skipped = skipped or Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Sample:
        return self._make(self._entries[index])


def tracking_sample(sequence: TrackingSequence, source: str, *, description: str | None = None) -> Sample:
    """Return a tracking sequence as a sample, with boxes cut to the image and NaN where the object is absent.

    Raises:
        DatasetError: the size of its images is unknown.
    """
    width, height = sequence.picture_size
    boxes = sequence.boxes_xywh_px
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    norm = np.clip(corners / [width, height, width, height], 0, 1)
    norm[~(sequence.visible & (norm[:, 2:] > norm[:, :2]).all(axis=1))] = np.nan
    return Sample(
        source=source,
        key=sequence.name,
        frames=sequence.frames,
        boxes_xyxy_norm=norm,
        text=sequence.text,
        description=description or sequence.text or sequence.object_class,
    )


def tracking_samples(name: str, sequences: Sequence[ReadSequence]) -> SampleList:
    """Return the sequences of a benchmark as samples; a sequence is read when its sample is needed."""
    return SampleList(name, sequences, partial(_read_tracking_sample, source=name))


def _read_tracking_sample(read: ReadSequence, source: str) -> Sample:
    return tracking_sample(read(), source)


def elysium_track_samples(name: str, path: Path) -> SampleList:
    """Return the samples of a JSONL file of ElysiumTrack-1M, or of one that `elysium synth` wrote."""
    return SampleList(name, index_json_lines(path), partial(_row_of_line, source=name, path=path))


def _row_of_line(numbered: tuple[int, dict[str, Any]], source: str, path: Path) -> Sample:
    number, record = numbered
    with in_place(f"line {number} of {path}"):
        return sample_of_record(record, source, path.parent)


def sample_of_record(record: dict[str, Any], source: str, root: Path | ZippedFolder | None = None) -> Sample:
    """Return a row of a JSONL file or of a streamed dataset as a sample.

    Args:
        record: ElysiumTrack's columns, or `frames` or `video` with `turns` (a list of ``{"question", "answer"}``).
        source: name of the dataset.
        root: folder or zip files that relative paths are relative to.

    Raises:
        DatasetError: the record has neither form.
    """
    if record.get("turns"):
        turns = tuple(_turn(turn) for turn in record["turns"]) if isinstance(record["turns"], list) else (_turn(None),)
        return Sample(source=source, key=str(record.get("id")), frames=row_frames(record, root), turns=turns)
    metadata = record.get("metadata")
    name = row_text(metadata, "name") if isinstance(metadata, dict) else None
    return tracking_sample(sequence_of_row(record, root), source, description=name)


def _turn(turn: Any) -> Turn:
    """Return a question and its answer, both text."""
    question, answer = (turn.get("question"), turn.get("answer")) if isinstance(turn, dict) else (None, None)
    if not (isinstance(question, str) and isinstance(answer, str) and question.strip() and answer.strip()):
        raise DatasetError(f'turns must be a list of {{"question": TEXT, "answer": TEXT}}, got {turn!r} among them')
    return question, answer
