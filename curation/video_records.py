"""The one record that goes through all steps of curation: a captioned video, and each of its noun phrases with the
detections and the trajectory found so far.

Frames are counted among the decoded ones (0, 1, 2, …), boxes are x1, y1, x2, y2 in 0..1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elysium.processing.boxes_elysium import Box
from elysium.processing.structures import VideoClip


@dataclass(frozen=True, kw_only=True)
class CaptionedVideo:
    """A video with a caption, as a reader gives it.

    Args:
        video_id: its name in the source; unique there.
        source: the file, or its content.
        caption: as the source has it; may be empty.
        metadata: what else the source says of it; plain values.
        chunk: number of the piece of the input that it came with; a chunk is worked on as a whole.
    """

    video_id: str
    source: Path | bytes
    caption: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    chunk: int = 0


@dataclass(frozen=True)
class Phrase:
    """A noun phrase of a caption.

    Args:
        text: its words without the article: "red car".
        head: lemma of its noun: "car".
        span: where it stands in the caption, first character and the one after its last.
    """

    text: str
    head: str
    span: tuple[int, int]

    @property
    def description(self) -> str:
        """The phrase as a row has it.

        >>> Phrase("red car", "car", (2, 9)).description
        'the red car'
        """
        return f"the {self.text}"


@dataclass(frozen=True)
class Detection:
    """A box that a detector gives for a phrase in one frame.

    Args:
        frame_idx: 0-based, among the decoded frames.
        box_xyxy_norm: x1, y1, x2, y2 in 0..1.
        score: confidence in 0..1.
    """

    frame_idx: int
    box_xyxy_norm: Box
    score: float


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Where a tracker has an object in each frame.

    Args:
        frame_indices (`np.ndarray` of shape `(T,)`): int64, 0-based among the decoded frames, rising.
        boxes_xyxy_norm (`np.ndarray` of shape `(T, 4)`): float64 in 0..1, NaN where the object is lost.
        scores (`np.ndarray` of shape `(T,)`): float64 in 0..1, 0 where it is lost.

    Raises:
        ValueError: the shapes do not fit.
    """

    frame_indices: NDArray[np.int64]
    boxes_xyxy_norm: NDArray[np.float64]
    scores: NDArray[np.float64]

    def __post_init__(self) -> None:
        length = len(self.frame_indices)
        if self.boxes_xyxy_norm.shape != (length, 4) or self.scores.shape != (length,):
            raise ValueError(
                f"a trajectory must have a box and a score for each of its {length} frames, got boxes "
                f"{self.boxes_xyxy_norm.shape} and scores {self.scores.shape}; give one of each for every frame"
            )

    @property
    def lost(self) -> NDArray[np.bool_]:
        """Frames without a box `(T,)`."""
        return np.asarray(~np.isfinite(self.boxes_xyxy_norm).all(axis=1))


@dataclass(frozen=True)
class Drop:
    """Why a phrase, or a whole video, is in no row.

    Args:
        step: that dropped it: read, phrases, decode, detect, track, drift, agree.
        reason: one word of that step's list.
        value: the figure that was held against a threshold, or None.
        phrase: the words, or None where the whole video is dropped.
        video_id: of the video.
    """

    step: str
    reason: str
    value: float | None
    phrase: str | None
    video_id: str

    def to_dict(self) -> dict[str, Any]:
        """A line of the exclusion file."""
        return {
            "video_id": self.video_id,
            "phrase": self.phrase,
            "step": self.step,
            "reason": self.reason,
            "value": None if self.value is None or not math.isfinite(self.value) else round(float(self.value), 4),
        }


@dataclass(frozen=True)
class Candidate:
    """A phrase on its way to a row.

    Args:
        phrase: the words.
        detections: of the frames that were looked at; several in a frame where the detector gives several.
        trajectory: from the box in the first frame, or None before the tracker has run.
        measures: figures that its filters found, by name.
    """

    phrase: Phrase
    detections: tuple[Detection, ...] = ()
    trajectory: Trajectory | None = None
    measures: Mapping[str, float] = field(default_factory=dict)

    def measured(self, **figures: float) -> "Candidate":
        """The same with more figures."""
        return replace(self, measures={**self.measures, **figures})


@dataclass(frozen=True, eq=False, kw_only=True)
class VideoRecord:
    """A video on its way through the steps. A step returns a new record; none takes a video out, so that the last
    one sees every video, and every drop.

    Args:
        video: as the reader gave it.
        candidates: phrases that no step has dropped.
        drops: phrases that one has, and why.
        clip: its decoded frames, from the step that decodes them to the one that writes them, else None.
    """

    video: CaptionedVideo
    candidates: tuple[Candidate, ...] = ()
    drops: tuple[Drop, ...] = ()
    clip: VideoClip | None = None

    def drop(self, candidate: Candidate, step: str, reason: str, value: float | None = None) -> "VideoRecord":
        """The same without a candidate."""
        left = tuple(other for other in self.candidates if other is not candidate)
        found = Drop(step, reason, value, candidate.phrase.text, self.video.video_id)
        return replace(self, candidates=left, drops=(*self.drops, found))

    def drop_video(self, step: str, reason: str, value: float | None = None) -> "VideoRecord":
        """The same without candidates and frames; each candidate is dropped with the reason, or the video as such
        where it has none yet."""
        words: list[str | None] = [candidate.phrase.text for candidate in self.candidates]
        found = tuple(Drop(step, reason, value, phrase, self.video.video_id) for phrase in words or [None])
        return replace(self, candidates=(), clip=None, drops=(*self.drops, *found))

    def swap(self, candidate: Candidate, other: Candidate) -> "VideoRecord":
        """The same with another candidate in a candidate's place."""
        swapped = tuple(other if one is candidate else one for one in self.candidates)
        return replace(self, candidates=swapped)
