"""Define the trackers under evaluation: an Elysium checkpoint, an OpenCV tracker, the first box, or given results."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from elysium.readers.records import TrackingSequence
from elysium.tracking.options import TrackingOptions

if TYPE_CHECKING:
    from elysium.tracking.tracker import Tracker  # loads torch, which scoring results does without

FIRST_BOX = "first-box"
_MIB = 2**20
_FPS = 10.0  # of frames without a rate; no figure depends on it


@dataclass(frozen=True)
class EvaluatedTracker:
    """A tracker in a report. This class is one whose results are given; those of its subclasses can be run.

    Args:
        name: in the report.
        folder: of its result files.
    """

    name: str
    folder: Path
    kind = "results"

    @property
    def origin(self) -> str:
        """Its source, for the report: folder, version or checkpoint."""
        return str(self.folder)

    @property
    def settings(self) -> dict[str, object]:
        """Settings that its results depend on; a run with others is not resumed."""
        return {"kind": self.kind, "origin": self.origin}

    def supports(self, task: str) -> bool:
        """Return whether it can be prompted as a task does."""
        return task == "sot"

    def prepare(self) -> None:
        """Load what tracking needs, before the first sequence: an error here is no sequence's."""

    def track(self, sequence: TrackingSequence, task: str) -> NDArray[np.float64]:
        """Return x1, y1, x2, y2 in pixels for every frame `(T, 4)`, NaN where there is no box."""
        raise NotImplementedError(f"{self.name} has given results and cannot be run")


class FirstBox(EvaluatedTracker):
    """Baseline that repeats the first box."""

    kind = "first-box"

    @property
    def origin(self) -> str:
        """The name."""
        return self.name

    def track(self, sequence: TrackingSequence, task: str) -> NDArray[np.float64]:
        """Return the first box for every frame."""
        return np.tile(sequence.first_box_xyxy_px(), (len(sequence.frames), 1))


class OpenCVTracker(EvaluatedTracker):
    """An OpenCV tracker, by its name in `OPENCV_TRACKERS`."""

    kind = "opencv"

    @property
    def origin(self) -> str:
        """OpenCV with its version."""
        import cv2

        return f"OpenCV {cv2.__version__}, {self.name}"

    def track(self, sequence: TrackingSequence, task: str) -> NDArray[np.float64]:
        """Return its boxes."""
        from .opencv_trackers import opencv_boxes

        return opencv_boxes(self.name, sequence.frames, sequence.first_box_xyxy_px())


@dataclass(frozen=True)
class ElysiumTracker(EvaluatedTracker):
    """An Elysium checkpoint.

    Args:
        model: folder, shipped name or Hub id.
        load: loads it, when there is a sequence to track.
        options: how to track; the checkpoint decides what they leave open.
    """

    model: str
    load: "Callable[[], Tracker]"
    options: TrackingOptions = TrackingOptions()
    kind = "elysium"

    @property
    def origin(self) -> str:
        """The checkpoint."""
        return self.model

    @property
    def settings(self) -> dict[str, object]:
        """The checkpoint, by name and content, and the options that are set."""
        return super().settings | {"weights": weights_fingerprint(self.model)} | self.options.explicit()

    def supports(self, task: str) -> bool:
        """Return True: boxes and text prompts are both understood."""
        return True

    def prepare(self) -> None:
        """Load the model."""
        self._tracker  # noqa: B018

    @cached_property
    def _tracker(self) -> "Tracker":
        return self.load()

    def track(self, sequence: TrackingSequence, task: str) -> NDArray[np.float64]:
        """Return its boxes; sequences are not batched, so that no figure depends on the other sequences."""
        from_text = task == "rsot"
        result = self._tracker.track(
            iter(sequence.frames),
            sequence.text if from_text else None,
            box_xyxy_px=None if from_text else sequence.first_box_xyxy_px(),
            fps=_FPS,
            options=self.options,
        )
        return result.tracks[0].boxes_xyxy_px


def weights_fingerprint(model: str) -> str | None:
    """Return a digest of a local checkpoint's configurations and of the size, first and last MiB of its weights.

    It tells a checkpoint from the same one trained further without reading 14 GB. None for a Hub id.
    """
    from elysium.tracking.loading import resolve_checkpoint

    folder = Path(resolve_checkpoint(model))
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in (folder / "config.json", folder / "processor_config.json"):
        digest.update(path.read_bytes() if path.is_file() else b"")
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        with path.open("rb") as file:
            digest.update(f"{path.name} {size}".encode() + file.read(_MIB))
            file.seek(max(0, size - _MIB))
            digest.update(file.read(_MIB))
    return digest.hexdigest()[:16]
