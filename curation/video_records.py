"""The record that every step of curation takes and returns.

It is a captioned video and its noun phrases, each with the detections and the trajectory found so far.

Frame indices count decoded frames (0, 1, 2, …); boxes are x1, y1, x2, y2 in 0..1.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elysium.processing.boxes_elysium import Box
from elysium.processing.structures import VideoClip

_NONE = np.empty((0, 4))


@dataclass(frozen=True, kw_only=True)
class CaptionedVideo:
    """Hold a video and its caption, as read from the input.

    Args:
        video_id: Unique name in the input.
        source: File, or content of the file.
        caption: Caption; may be empty.
        metadata: Other plain values of the input's record.
        chunk: Number of its chunk of the input; chunks are processed and written as a whole.
    """

    video_id: str
    source: Path | bytes
    caption: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    chunk: int = 0


@dataclass(frozen=True)
class Phrase:
    """Hold a noun phrase of a caption.

    Args:
        text: Phrase without its article: "red car".
        head: Lemma of its noun: "car".
        span: First character in the caption, and the one after the last.
    """

    text: str
    head: str
    span: tuple[int, int]

    @property
    def description(self) -> str:
        """Return the phrase as written to records.

        >>> Phrase("red car", "car", (2, 9)).description
        'the red car'
        """
        return f"the {self.text}"


@dataclass(frozen=True)
class Detection:
    """Hold a detected box of a phrase in one frame.

    Args:
        frame_idx: Index among the decoded frames.
        box_xyxy_norm: x1, y1, x2, y2 in 0..1.
        score: Confidence in 0..1.
    """

    frame_idx: int
    box_xyxy_norm: Box
    score: float


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Hold the boxes of one tracked object.

    Args:
        frame_indices (`np.ndarray` of shape `(T,)`): int64, ascending, among the decoded frames.
        boxes_xyxy_norm (`np.ndarray` of shape `(T, 4)`): float64 in 0..1, NaN where the object is lost.
        scores (`np.ndarray` of shape `(T,)`): float64 in 0..1, 0 where it is lost.

    Raises:
        ValueError: the shapes differ in length.
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
        """Return which frames have no box, `(T,)`."""
        return np.asarray(~np.isfinite(self.boxes_xyxy_norm).all(axis=1))


@dataclass(frozen=True)
class Drop:
    """State why a rule drops a candidate.

    Args:
        reason: Short name, unique in its step.
        value: Value that was compared with the threshold, if any.
    """

    reason: str
    value: float | None = None


@dataclass(frozen=True)
class Exclusion:
    """Hold a line of the exclusion file: a dropped phrase or video, the step, and the reason.

    Args:
        step: read, phrases, decode, detect, track, drift or agree.
        reason: Reason of the `Drop`.
        value: Value of the `Drop`.
        phrase: Text of the phrase; None for a whole video.
        video_id: Name of the video.
    """

    step: str
    reason: str
    value: float | None
    phrase: str | None
    video_id: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "video_id": self.video_id,
            "phrase": self.phrase,
            "step": self.step,
            "reason": self.reason,
            "value": None if self.value is None or not math.isfinite(self.value) else round(float(self.value), 4),
        }


@dataclass(frozen=True)
class Candidate:
    """Hold a phrase that may become a record.

    Args:
        phrase: Noun phrase.
        detections: Detections in the key frames; a frame may have several.
        trajectory: Trajectory from the box in the first frame; empty before tracking.
        measures: Values measured by the filters, by name.
    """

    phrase: Phrase
    detections: tuple[Detection, ...] = ()
    trajectory: Trajectory = field(default_factory=lambda: Trajectory(np.empty(0, np.int64), _NONE, np.empty(0)))
    measures: Mapping[str, float] = field(default_factory=dict)

    def measured(self, **values: float) -> "Candidate":
        """Return a copy with more measures."""
        return replace(self, measures={**self.measures, **values})


@dataclass(frozen=True, eq=False, kw_only=True)
class VideoRecord:
    """Hold a video on its way through the steps.

    A step returns a new record and never removes a video, so that the last step sees every video and every drop.

    Args:
        video: Video as read.
        candidates: Phrases that no step has dropped.
        drops: Dropped phrases, with reasons.
        clip: Decoded frames, between the steps that decode and write them.
    """

    video: CaptionedVideo
    candidates: tuple[Candidate, ...] = ()
    drops: tuple[Exclusion, ...] = ()
    clip: VideoClip | None = None

    @property
    def num_frames(self) -> int:
        """Return the number of decoded frames."""
        return 0 if self.clip is None else len(self.clip)

    def judge(self, step: str, rule: "Callable[[Candidate, VideoRecord], Candidate | Drop]") -> "VideoRecord":
        """Return a copy whose candidates are those that the rule keeps; the others are among the drops."""
        kept, drops = [], []
        for candidate in self.candidates:
            result = rule(candidate, self)
            if isinstance(result, Drop):
                text = candidate.phrase.text
                drops.append(Exclusion(step, result.reason, result.value, text, self.video.video_id))
            else:
                kept.append(result)
        return replace(self, candidates=tuple(kept), drops=(*self.drops, *drops))

    def drop_video(self, step: str, reason: str, value: float | None = None) -> "VideoRecord":
        """Return a copy without candidates and frames; each candidate is dropped, or the video if there is none."""
        texts: list[str | None] = [candidate.phrase.text for candidate in self.candidates]
        drops = [Exclusion(step, reason, value, text, self.video.video_id) for text in texts or [None]]
        return replace(self, candidates=(), clip=None, drops=(*self.drops, *drops))


def key_frames(num_frames: int) -> dict[str, int]:
    """Return the indices of the frames that the detector sees, by name.

    >>> key_frames(10)
    {'first': 0, 'middle': 5, 'last': 9}
    """
    return {"first": 0, "middle": num_frames // 2, "last": num_frames - 1}


def best_detection(detections: Iterable[Detection], frame_idx: int) -> Detection | None:
    """Return the detection with the highest score in a frame, or None."""
    found = (one for one in detections if one.frame_idx == frame_idx)
    return max(found, key=lambda one: one.score, default=None)
