"""`Row`, what every reader gives to training, and where rows come from: lists, JSONL files, tracking sequences."""

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
class Row:
    """One picture or video and what is known of it; every task that it can teach is drawn from it.

    Args:
        source: name of the data set.
        key: unique in its source.
        frames: the pictures, opened when they are drawn; one for an image.
        boxes_xyxy_norm (`np.ndarray` of shape `(T, 4)`): of one object in 0..1, NaN where it cannot be seen; None
            where the row is about no object.
        text: words that single the object out, such as "the red car"; None where there are none.
        description: words to describe it by; None where there are none.
        turns: pairs of a question and its answer, in order, as one conversation.

    Raises:
        DatasetError: boxes of another shape or outside 0..1, or nothing to learn.
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
            raise DatasetError(f"a row must have boxes or turns to learn from, got neither in {self.where}")
        if boxes is None:
            return
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise DatasetError(f"boxes must have shape (T, 4), got {boxes.shape} in {self.where}")
        seen = boxes[np.isfinite(boxes).all(axis=1)]
        if len(seen) and (seen.min() < 0 or seen.max() > 1 or (seen[:, :2] >= seen[:, 2:]).any()):
            wrong = seen[(seen < 0).any(axis=1) | (seen > 1).any(axis=1) | (seen[:, :2] >= seen[:, 2:]).any(axis=1)][0]
            raise DatasetError(
                f"a box must be x1,y1,x2,y2 in 0..1 with x1 < x2 and y1 < y2, got {wrong.round(4).tolist()} in "
                f"{self.where}; divide pixels by the picture's size"
            )

    @property
    def where(self) -> str:
        """The row's name in messages."""
        return f"{self.source}/{self.key}"

    @cached_property
    def visible(self) -> NDArray[np.bool_]:
        """Where the object has a box `(T,)`; empty for a row about no object."""
        boxes = self.boxes_xyxy_norm
        return np.zeros(0, bool) if boxes is None else np.asarray(np.isfinite(boxes).all(axis=1))


class RowSource(Protocol):
    """Rows by index; reading one opens no picture."""

    name: str

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, index: int) -> Row:
        """The row at a 0-based index."""


class ListRows:
    """Rows made from the entries of a list when they are asked for.

    Args:
        name: of the source.
        entries: small records, such as what a JSON file holds.
        make: turns an entry into a `Row`.
        skipped: number of entries that were left out when the file was opened, by reason.
    """

    def __init__(
        self, name: str, entries: Sequence[Any], make: Callable[[Any], Row], skipped: Counter[str] | None = None
    ) -> None:
        self.name, self._entries, self._make = name, entries, make
        self.skipped = skipped or Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Row:
        return self._make(self._entries[index])


def tracking_row(sequence: TrackingSequence, source: str, *, description: str | None = None) -> Row:
    """A tracking sequence as a row: its boxes cut to the picture, none where the object cannot be seen.

    Raises:
        DatasetError: its pictures' size cannot be found out.
    """
    width, height = sequence.picture_size
    boxes = sequence.boxes_xywh_px
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    norm = np.clip(corners / [width, height, width, height], 0, 1)
    norm[~(sequence.visible & (norm[:, 2:] > norm[:, :2]).all(axis=1))] = np.nan
    return Row(
        source=source,
        key=sequence.name,
        frames=sequence.frames,
        boxes_xyxy_norm=norm,
        text=sequence.text,
        description=description or sequence.text or sequence.object_class,
    )


def tracking_rows(name: str, sequences: Sequence[ReadSequence]) -> ListRows:
    """The sequences of a benchmark's training split as rows; a sequence is read when its row is asked for."""
    return ListRows(name, sequences, partial(_read_tracking_row, source=name))


def _read_tracking_row(read: ReadSequence, source: str) -> Row:
    return tracking_row(read(), source)


def elysium_track_rows(name: str, path: Path) -> ListRows:
    """The rows of an ElysiumTrack-1M JSONL file, also of one that `elysium synth` wrote."""
    return ListRows(name, index_json_lines(path), partial(_row_of_line, source=name, path=path))


def _row_of_line(numbered: tuple[int, dict[str, Any]], source: str, path: Path) -> Row:
    number, record = numbered
    with in_place(f"line {number} of {path}"):
        return row_of_record(record, source, path.parent)


def row_of_record(record: dict[str, Any], source: str, root: Path | ZippedFolder | None = None) -> Row:
    """A row of a JSONL file or of a streamed data set: ElysiumTrack's columns, or `frames`/`video` with `turns`.

    Args:
        record: with `box` and `frame_size`, or with `turns` (a list of ``{"question", "answer"}``).
        source: name of the data set.
        root: what relative paths are relative to: a folder, or zip files.

    Raises:
        DatasetError: the record is neither.
    """
    if record.get("turns"):
        turns = tuple(_turn(turn) for turn in record["turns"]) if isinstance(record["turns"], list) else (_turn(None),)
        return Row(source=source, key=str(record.get("id")), frames=row_frames(record, root), turns=turns)
    metadata = record.get("metadata")
    name = row_text(metadata, "name") if isinstance(metadata, dict) else None
    return tracking_row(sequence_of_row(record, root), source, description=name)


def _turn(turn: Any) -> Turn:
    """A question and its answer, both texts."""
    pair = (turn.get("question"), turn.get("answer")) if isinstance(turn, dict) else (None, None)
    if not all(isinstance(text, str) and text.strip() for text in pair):
        raise DatasetError(f'turns must be a list of {{"question": TEXT, "answer": TEXT}}, got {turn!r} among them')
    return pair
