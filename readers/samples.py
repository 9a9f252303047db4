"""`Sample`, which all readers return for training, and `TrackingSequence`, which those of tracking datasets return."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from elysium.processing.boxes_elysium import Box
from elysium.processing.data_files import DatasetError

from .frame_sources import Frames

Turn = tuple[str, str]


@dataclass(frozen=True, eq=False, kw_only=True)
class TrackingSequence:
    """One object in one video.

    Args:
        name: unique in its dataset; also the name of its result file.
        frames: the images, opened only when needed; scoring results needs none.
        boxes_xywh_px (`np.ndarray` of shape `(T, 4)`): left, top, width, height in pixels as the annotation
            gives them; NaN or without area where there is none. `(1, 4)` where the truth of a test set is withheld.
        visible (`np.ndarray` of shape `(T,)`): bool, False where the annotation says that the object cannot be seen.
        text: text prompt for the object, or None.
        object_class: name of its class, or None.
        size: width and height of the frames in pixels where the annotation says so, else None.

    Raises:
        DatasetError: the shapes do not fit.
    """

    name: str
    frames: Frames
    boxes_xywh_px: NDArray[np.float64]
    visible: NDArray[np.bool_]
    text: str | None = None
    object_class: str | None = None
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.boxes_xywh_px.ndim != 2 or self.boxes_xywh_px.shape[1] != 4 or not len(self.boxes_xywh_px):
            raise DatasetError(
                f"a sequence must have four numbers for each frame, got {self.boxes_xywh_px.shape} for {self.name}; "
                "check its annotation"
            )
        if self.visible.shape != (len(self.boxes_xywh_px),):
            raise DatasetError(
                f"a sequence must have a flag for each of its {len(self.boxes_xywh_px)} boxes, got "
                f"{self.visible.shape[0]} for {self.name}; check its labels of occlusion and absence"
            )

    @property
    def truth_is_withheld(self) -> bool:
        """Return whether only the first box is given, as in test sets that a server scores."""
        return len(self.boxes_xywh_px) == 1

    @property
    def image_size(self) -> tuple[int, int]:
        """Return width and height in pixels: as annotated, else of the first frame."""
        return self.size or self.frames.size

    def first_box_xyxy_px(self) -> Box:
        """Return the box of the first frame, cut to the image.

        Raises:
            DatasetError: the first frame has no box.
        """
        box = self.box_xyxy_px(0)
        if box is None:
            right, bottom = self.image_size
            raise DatasetError(
                f"the first frame must have a box inside the {right}x{bottom} image to track by box, got "
                f"{self.boxes_xywh_px[0].tolist()} (x,y,w,h) for {self.name}; leave the sequence out or "
                "use a text prompt"
            )
        return box

    def box_xyxy_px(self, frame: int) -> Box | None:
        """Return the box of a frame, cut to the image; None where it has no area inside."""
        x, y, width, height = self.boxes_xywh_px[frame]
        x1, y1, x2, y2 = np.clip([x, y, x + width, y + height], 0, [*self.image_size] * 2).tolist()
        return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None  # None for NaN as well

    def check_length(self) -> None:
        """Check that there are as many frames as boxes.

        Raises:
            DatasetError: the numbers differ.
        """
        if len(self.boxes_xywh_px) not in (1, len(self.frames)):
            raise DatasetError(
                f"a sequence must have a box for each frame, got {len(self.boxes_xywh_px)} boxes and "
                f"{len(self.frames)} frames for {self.name}; extract its archive again"
            )


ReadSequence = Callable[[], TrackingSequence]


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
    width, height = sequence.image_size
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
