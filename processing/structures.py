"""Inputs and results of tracking and grounding: ``VideoClip``, ``Track``, ``TrackingResult`` and ``Grounding``.

Boxes are pixels of the original video after rotation: x1, y1, x2, y2, continuous, right and lower edge exclusive,
``0 <= x1 < x2 <= width`` and ``0 <= y1 < y2 <= height``. A frame without a box is ``valid = False`` with a NaN box and
a reason, never a zero box.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .atomic_files import atomic_path
from .data_files import read_json
from .pixel_boxes import clip_box_xyxy_px
from .track_files import CSV_COLUMNS, TRACK_WRITERS, frame_rows

REASONS = ("absent", "unreadable")
DOUBTED = 0.5  # from this doubt on a box is drawn dashed
CLIP_NAME, FRAMES_NAME = "clip", "frames"  # of videos that are tracked in memory: they may be parts of longer ones
SWITCH_BOXES = 3  # so many doubted boxes in a row are reported as a switch


def _vector(name: str, values: Any, dtype: type, length: int | None = None) -> NDArray[Any]:
    """Return ``values`` as an array of shape ``(T,)``, checked."""
    array: NDArray[Any] = np.asarray(values, dtype=dtype)
    if array.ndim != 1 or (length is not None and len(array) != length):
        wanted = "(T,)" if length is None else f"({length},)"
        raise ValueError(f"{name} must have shape {wanted}, got {array.shape}; give one value for every frame")
    return array


def _check_order(frame_indices: NDArray[np.int64], timestamps_s: NDArray[np.float64]) -> None:
    """Check that frame indices rise strictly from 0 or later, and times are finite and never fall."""
    if len(frame_indices) and (frame_indices[0] < 0 or np.any(np.diff(frame_indices) <= 0)):
        raise ValueError(
            f"frame_indices must be 0 or more and rise strictly, got {frame_indices[:8].tolist()}; sort the frames"
        )
    if not np.all(np.isfinite(timestamps_s)) or np.any(np.diff(timestamps_s) < 0):
        raise ValueError(
            f"timestamps_s must be finite and never fall, got {timestamps_s[:8].tolist()}; give seconds from the start"
        )


@dataclass(frozen=True, eq=False)
class VideoClip:
    """Frames of one video in memory.

    Args:
        frames (`np.ndarray` of shape `(T, H, W, 3)`): uint8 RGB, after rotation.
        fps: frames per second of the video that the frames come from, above 0.
        timestamps_s (`np.ndarray` of shape `(T,)`): float64, seconds from the start of the video.
        frame_indices (`np.ndarray` of shape `(T,)`): int64, 0-based indices in the video, strictly rising.

    Raises:
        ValueError: a shape, dtype or order differs from the above.
    """

    frames: NDArray[np.uint8]
    fps: float
    timestamps_s: NDArray[np.float64]
    frame_indices: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8:
            raise ValueError(
                f"frames must be uint8 of shape (T, H, W, 3), got {self.frames.dtype} {self.frames.shape}; "
                "convert the images to RGB bytes"
            )
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps must be a finite number above 0, got {self.fps}; give the rate of the video")
        length = len(self.frames)
        object.__setattr__(self, "timestamps_s", _vector("timestamps_s", self.timestamps_s, np.float64, length))
        object.__setattr__(self, "frame_indices", _vector("frame_indices", self.frame_indices, np.int64, length))
        _check_order(self.frame_indices, self.timestamps_s)

    @classmethod
    def from_frames(cls, frames: NDArray[np.uint8] | Sequence[NDArray[np.uint8]], *, fps: float) -> "VideoClip":
        """Return a clip of consecutive frames of one size, at times ``i / fps``.

        >>> VideoClip.from_frames(np.zeros((3, 4, 6, 3), np.uint8), fps=10).timestamps_s
        array([0. , 0.1, 0.2])
        """
        stacked = frames if isinstance(frames, np.ndarray) else np.stack(list(frames))
        indices = np.arange(len(stacked), dtype=np.int64)
        return cls(stacked, float(fps), indices / float(fps), indices)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, window: slice) -> "VideoClip":
        """Return the frames ``clip[a:b]`` as a clip that shares their memory; steps must be positive."""
        if not isinstance(window, slice):
            raise TypeError(f"a clip is cut by a slice, got {window!r}; use clip[i:i+1], or clip.frames[i] for pixels")
        return VideoClip(self.frames[window], self.fps, self.timestamps_s[window], self.frame_indices[window])

    @property
    def height(self) -> int:
        """Return the height of the frames in pixels."""
        return int(self.frames.shape[1])

    @property
    def width(self) -> int:
        """Return the width of the frames in pixels."""
        return int(self.frames.shape[2])


@dataclass(frozen=True, eq=False, kw_only=True)
class Track:
    """Track of one object: its box in every processed frame.

    Args:
        frame_indices (`np.ndarray` of shape `(T,)`): int64, 0-based indices in the video, strictly rising.
        timestamps_s (`np.ndarray` of shape `(T,)`): float64, seconds from the start of the video.
        boxes_xyxy_px (`np.ndarray` of shape `(T, 4)`): float64, NaN where not valid.
        valid (`np.ndarray` of shape `(T,)`): bool, whether the frame has a box.
        scores (`np.ndarray` of shape `(T,)`): float64 in 0..1; NaN is allowed where not valid. Of a checkpoint with a
            `score_calibration`, the expected IoU of the box, by a calibration on held-out scenes; of others, the
            geometric mean of the coordinates' token probabilities, which ranks boxes but is no expected IoU. A box
            that the user gave has 1.
        doubt (`np.ndarray` of shape `(T,)`): float64 in 0..1, the probability that the box is wrong (IoU below 0.3
            with the object), by a fit on held-out clips; NaN without a box, and throughout for an object prompted by
            text alone or a checkpoint without `doubt_weights`, as None gives. A box that the user gave has 0.
        reasons: for every frame None where valid, else "absent" or "unreadable".
        track_id: 1 or more (MOTChallenge counts from 1).
        text: the text prompt of the object, or None.
        init_box_xyxy_px: the given box of the object in its first frame, or None.
        width: of the video in pixels.
        height: of the video in pixels.

    Raises:
        ValueError: a shape differs from the above, a box is not inside the image, or a missing box has no reason.
    """

    frame_indices: NDArray[np.int64]
    timestamps_s: NDArray[np.float64]
    boxes_xyxy_px: NDArray[np.float64]
    valid: NDArray[np.bool_]
    scores: NDArray[np.float64]
    reasons: list[str | None]
    track_id: int
    text: str | None = None
    init_box_xyxy_px: tuple[float, float, float, float] | None = None
    width: int
    height: int
    doubt: NDArray[np.float64] = None  # type: ignore[assignment]  # None stands for NaN in every frame

    def __post_init__(self) -> None:
        indices = _vector("frame_indices", self.frame_indices, np.int64)
        length = len(indices)
        boxes = np.array(self.boxes_xyxy_px, dtype=np.float64)  # a copy: a small excess is cut off
        if boxes.shape != (length, 4) and not (length == 0 and boxes.size == 0):
            raise ValueError(
                f"boxes_xyxy_px must have shape ({length}, 4), got {boxes.shape}; give one box for every frame"
            )
        checked = {
            "frame_indices": indices,
            "timestamps_s": _vector("timestamps_s", self.timestamps_s, np.float64, length),
            "boxes_xyxy_px": boxes.reshape(length, 4),
            "valid": _vector("valid", self.valid, np.bool_, length),
            "scores": _vector("scores", self.scores, np.float64, length),
            "doubt": _vector("doubt", [math.nan] * length if self.doubt is None else self.doubt, np.float64, length),
            "reasons": list(self.reasons),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.track_id < 1:
            raise ValueError(f"track_id must be 1 or more, got {self.track_id}; count objects from 1")
        if self.init_box_xyxy_px is not None:
            box = clip_box_xyxy_px(self.init_box_xyxy_px, self.width, self.height)
            object.__setattr__(self, "init_box_xyxy_px", box)
        _check_order(self.frame_indices, self.timestamps_s)
        self._check_frames()

    def _check_frames(self) -> None:
        """Check that every frame has a box with a score, or a NaN box with a reason."""
        if len(self.reasons) != len(self):
            raise ValueError(f"reasons must have {len(self)} entries, got {len(self.reasons)}; use None where valid")
        columns = (self.frame_indices, self.boxes_xyxy_px, self.valid, self.scores, self.reasons, self.doubt)
        for frame_idx, box, valid, score, reason, doubt in zip(*columns, strict=True):
            where = f"at frame {frame_idx} of track {self.track_id}"
            if not valid and not np.all(np.isnan(box)):
                raise ValueError(f"a frame that is not valid must have a NaN box, got {box.tolist()} {where}")
            if not valid and reason not in REASONS:
                raise ValueError(f"a frame that is not valid must have a reason of {REASONS}, got {reason!r} {where}")
            if valid and reason is not None:
                raise ValueError(f"a valid frame must have the reason None, got {reason!r} {where}")
            if not (0 <= score <= 1) and not (not valid and math.isnan(score)):
                raise ValueError(f"a score must be in 0..1, got {score} {where}; NaN is for frames without a box")
            if not math.isnan(doubt) and not (valid and 0 <= doubt <= 1):
                raise ValueError(f"doubt must be in 0..1 where there is a box, got {doubt} {where}; NaN says nothing")
            if valid:
                try:
                    box[:] = clip_box_xyxy_px(box, self.width, self.height)
                except ValueError as error:
                    raise ValueError(f"{error} ({where})") from error

    def __len__(self) -> int:
        return len(self.frame_indices)

    @property
    def label(self) -> str:
        """Return the name of the object: its text prompt, or its number."""
        return self.text or f"object {self.track_id}"

    def __repr__(self) -> str:
        """Return one short line: which frames have a box, how many of all, and the mean score of found boxes.

        >>> Track(frame_indices=range(4), timestamps_s=[0, 0.1, 0.2, 0.3], valid=[1, 1, 0, 1], scores=[0.5] * 4,
        ...       boxes_xyxy_px=[[0, 0, 2, 2]] * 2 + [[math.nan] * 4] + [[0, 0, 2, 2]],
        ...       reasons=[None, None, "absent", None], track_id=1, text="the cup", width=8, height=8)
        <Track 1 'the cup': a box in 3 of 4 frames (0-1, 3), 0-0.3 s, mean score 0.50>
        """
        name = f"{self.track_id} {self.text!r}" if self.text else f"{self.track_id}"
        line = f"<Track {name}: a box in {int(self.valid.sum())} of {len(self)} frames"
        if not self.valid.any():
            return f"{line}>"
        seconds = f"{self.timestamps_s[0]:g}-{self.timestamps_s[-1]:g} s"
        return f"{line} ({self._spans()}), {seconds}{self._mean_score()}>"

    @property
    def found(self) -> NDArray[np.bool_]:
        """Return for each frame whether the model found a box there: the box that the user gave is not found.

        >>> Track(frame_indices=[0, 1], timestamps_s=[0, 0.1], valid=[1, 1], scores=[1, 0.5], reasons=[None] * 2,
        ...       boxes_xyxy_px=[[0, 0, 2, 2]] * 2, init_box_xyxy_px=(0, 0, 2, 2), track_id=1, width=8, height=8).found
        array([False,  True])
        """
        found = self.valid.copy()
        if self.init_box_xyxy_px is not None:
            found[:1] = False
        return found

    def _mean_score(self) -> str:
        """Return the mean score of the found boxes as text, "" where there are none."""
        return f", mean score {self.scores[self.found].mean():.2f}" if self.found.any() else ""

    def _spans(self, most: int = 3) -> str:
        """Return the runs of frames that have a box as text, the first of them where they are many."""
        inside = np.flatnonzero(self.valid)
        runs = np.split(self.frame_indices[inside], np.flatnonzero(np.diff(inside) > 1) + 1)
        spans = [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
        return ", ".join(spans[:most] + ["…"] * (len(spans) > most))

    @property
    def switched_at_s(self) -> float | None:
        """Return the time of the first of 3 boxes in a row with a doubt of 0.5 or more; None where there are none.

        Frames without a box are passed over.

        >>> track = Track(frame_indices=range(6), timestamps_s=range(6), valid=[1] * 6, scores=[0.5] * 6, track_id=1,
        ...               boxes_xyxy_px=[[0, 0, 2, 2]] * 6, reasons=[None] * 6, width=8, height=8,
        ...               doubt=[0.1, 0.9, 0.1, 0.5, 0.6, 0.7])
        >>> track.switched_at_s
        3.0
        """
        doubted, times_s = self.doubt[self.valid] >= DOUBTED, self.timestamps_s[self.valid]
        starts = range(len(doubted) - SWITCH_BOXES + 1)
        found = (start for start in starts if doubted[start : start + SWITCH_BOXES].all())
        return next((float(times_s[start]) for start in found), None)

    @property
    def warning(self) -> str:
        """Return what doubt says of the whole track in words, "" where it says nothing."""
        return "" if self.switched_at_s is None else f"may have switched at {self.switched_at_s:.1f} s"

    def summary(self) -> str:
        """Return one line: frames with a box, mean score of found ones, possible switch, frames without."""
        missing = Counter(reason for reason in self.reasons if reason is not None)
        line = f"{self.label}: a box in {int(self.valid.sum())} of {len(self)} frames{self._mean_score()}"
        if self.warning:
            line += f", {self.warning}"
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(missing.items()))
        return f"{line} ({counts})" if counts else line

    def to_dict(self) -> dict[str, Any]:
        """Return the track for JSON: ``{"id", "text" or "init_box_xyxy_px", "frames": [...]}``."""
        record: dict[str, Any] = {"id": self.track_id}
        if self.text is not None:
            record["text"] = self.text
        if self.init_box_xyxy_px is not None:
            record["init_box_xyxy_px"] = _rounded(self.init_box_xyxy_px)
        record["frames"] = [self._frame_dict(i) for i in range(len(self))]
        return record

    def _frame_dict(self, position: int) -> dict[str, Any]:
        score, doubt = float(self.scores[position]), float(self.doubt[position])
        record: dict[str, Any] = {
            "frame_idx": int(self.frame_indices[position]),
            "time_s": round(float(self.timestamps_s[position]), 6),
            "box_xyxy_px": _rounded(self.boxes_xyxy_px[position]) if self.valid[position] else None,
            "score": None if math.isnan(score) else round(score, 6),
            "doubt": None if math.isnan(doubt) else round(doubt, 4),
        }
        if not self.valid[position]:
            record["reason"] = self.reasons[position]
        return record

    @classmethod
    def from_dict(cls, record: dict[str, Any], *, width: int, height: int) -> "Track":
        """Read what `to_dict` wrote; ``width`` and ``height`` are those of the video.

        Raises:
            KeyError: a field is missing.
            ValueError: the fields do not make a track.
        """
        rows = record["frames"]
        boxes = [row["box_xyxy_px"] for row in rows]
        init_box = record.get("init_box_xyxy_px")
        return cls(
            frame_indices=np.array([row["frame_idx"] for row in rows], dtype=np.int64),
            timestamps_s=np.array([row["time_s"] for row in rows], dtype=np.float64),
            boxes_xyxy_px=np.array([[math.nan] * 4 if box is None else box for box in boxes], dtype=np.float64),
            valid=np.array([box is not None for box in boxes], dtype=np.bool_),
            scores=np.array([math.nan if row["score"] is None else row["score"] for row in rows], dtype=np.float64),
            reasons=[row.get("reason") for row in rows],
            doubt=np.array([row.get("doubt") for row in rows], dtype=np.float64),  # files from before it have none
            track_id=record["id"],
            text=record.get("text"),
            init_box_xyxy_px=None if init_box is None else tuple(init_box),
            width=width,
            height=height,
        )


@dataclass(eq=False)
class TrackingResult:
    """The tracks of one video, and the files that they are saved to.

    Args:
        video: path or name of the video.
        fps: frames per second of the video.
        width: of the video after rotation, in pixels.
        height: of the video after rotation, in pixels.
        model: name or folder of the model.
        complete: False where tracking was interrupted and only finished windows are there.
        tracks: one for every object, each with its own ``track_id``.
    """

    video: str
    fps: float
    width: int
    height: int
    model: str
    complete: bool
    tracks: list[Track]

    def __post_init__(self) -> None:
        self.video, self.model, self.fps = str(self.video), str(self.model), float(self.fps)
        ids = [track.track_id for track in self.tracks]
        if len(set(ids)) != len(ids):
            raise ValueError(f"tracks must have different ids, got {ids}; number the objects 1, 2, 3, …")

    def __repr__(self) -> str:
        """Return a line about the video, and one about each track."""
        about = f"{self.video!r}, {self.width}x{self.height}, {self.fps:g} fps, model {self.model!r}"
        lines = [f"<TrackingResult of {about}{'' if self.complete else ', not complete'}: {len(self.tracks)} tracks"]
        return "\n  ".join([*lines, *map(repr, self.tracks)]) + ">"

    @property
    def num_frames(self) -> int:
        """Return the number of frames of the video up to the last tracked one."""
        return max((int(track.frame_indices[-1]) + 1 for track in self.tracks if len(track)), default=0)

    def check_size(self, width: int, height: int) -> None:
        """Make sure that a video of this size in pixels may be the tracked one.

        Raises:
            ValueError: it is not, where the result is complete.
        """
        if self.complete and (width, height) != (self.width, self.height):
            raise ValueError(
                f"the video must be the tracked one, {self.video} of {self.width}x{self.height}, got one of "
                f"{width}x{height}; give the video of this result"
            )

    def check_length(self, num_frames: int) -> None:
        """Make sure that a video of so many frames may be the tracked one, or hold it where it was in memory.

        Raises:
            ValueError: it is not, where the result is complete.
        """
        tracked = self.num_frames
        longer = num_frames > tracked and self.video not in (CLIP_NAME, FRAMES_NAME)
        if self.complete and tracked and (num_frames < tracked or longer):
            raise ValueError(
                f"the video must be the tracked one, {self.video} of {tracked} frames, got one of {num_frames}; give "
                "the video of this result"
            )

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` with the columns of the CSV file: a row for every frame of every track.

        A frame without a box has NaN in x1, y1, x2, y2, score and doubt, and a reason.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_pandas needs pandas, got no such package; pip install pandas") from error
        table = pandas.DataFrame(list(frame_rows(self.to_dict())), columns=list(CSV_COLUMNS))
        return table.astype(dict.fromkeys(("x1", "y1", "x2", "y2", "score", "doubt"), "float64"))

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the JSON file."""
        return {
            "video": self.video,
            "fps": round(self.fps, 6),
            "width": self.width,
            "height": self.height,
            "model": self.model,
            "complete": self.complete,
            "tracks": [track.to_dict() for track in self.tracks],
        }

    def save(self, path: str | Path) -> None:
        """Write ``.json`` (all), ``.csv`` (a row for each frame) or ``.txt`` (MOTChallenge, absent frames left out).

        The file is whole or not there. MOTChallenge counts frames, ids and pixels from 1, and gives left, top,
        width and height.

        Raises:
            ValueError: another suffix.
            OutputError: the folder cannot be written.
        """
        suffix = Path(path).suffix.lower()
        if suffix not in TRACK_WRITERS:
            raise ValueError(
                f"boxes must be saved as {', '.join(TRACK_WRITERS)}, got {str(path)!r}; change the suffix"
            )
        with atomic_path(path) as temporary:
            TRACK_WRITERS[suffix](self.to_dict(), temporary)


@dataclass(frozen=True)
class Grounding:
    """Hold the box of a text prompt in an image.

    Args:
        text: text prompt.
        box_xyxy_px: box in pixels, rounded to a millionth; None where there is none.
        score: confidence, 0..1; NaN where there is no box.
        reason: "absent" or "unreadable" where there is no box.
        width: width of the image in pixels.
        height: height of the image in pixels.
    """

    text: str
    box_xyxy_px: tuple[float, float, float, float] | None
    score: float
    reason: str | None
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.box_xyxy_px is not None:
            object.__setattr__(self, "box_xyxy_px", tuple(_rounded(self.box_xyxy_px)))

    @property
    def valid(self) -> bool:
        """Return whether there is a box."""
        return self.box_xyxy_px is not None

    def to_dict(self) -> dict[str, Any]:
        """Return the grounding as a dictionary for JSON."""
        record: dict[str, Any] = {
            "text": self.text,
            "width": self.width,
            "height": self.height,
            "box_xyxy_px": None if self.box_xyxy_px is None else list(self.box_xyxy_px),
            "score": None if math.isnan(self.score) else round(self.score, 6),
        }
        return record if self.valid else record | {"reason": self.reason}


def load_tracking_result(path: str | Path) -> TrackingResult:
    """Read a ``.json`` file that `TrackingResult.save` wrote.

    Raises:
        ValueError: no such file, not JSON, or not the fields of a tracking result.
    """
    source = Path(path)
    if not source.is_file():
        raise ValueError(f"a tracking result must be an existing .json file, got {source}; check the path")
    try:
        record = read_json(source, byte_names=True)
        width, height = record["width"], record["height"]
        tracks = [Track.from_dict(track, width=width, height=height) for track in record["tracks"]]
        fields = {name: record[name] for name in ("video", "fps", "model", "complete")}
        return TrackingResult(width=width, height=height, tracks=tracks, **fields)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"a tracking result must be JSON as TrackingResult.save writes it, got {source} "
            f"({type(error).__name__}: {error}); save it again with the suffix .json"
        ) from error


def _rounded(box: Sequence[float] | NDArray[np.float64]) -> list[float]:
    """Round a box to a millionth of a pixel: 123.2 instead of 123.20000000000002."""
    return [round(float(value), 6) for value in box]
