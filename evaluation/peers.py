"""What can be evaluated: an Elysium checkpoint, a tracker of OpenCV's, or the first box repeated."""

import hashlib
from abc import ABC, abstractmethod
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
_FPS = 10.0  # of bare frames; no figure depends on it


@dataclass(frozen=True)
class Peer(ABC):
    """A tracker with a name in the report.

    Args:
        name: also of its folder of results.
    """

    name: str
    kind = ""

    @property
    def origin(self) -> str:
        """Where it is from, for the report."""
        return self.name

    @property
    def settings(self) -> dict[str, object]:
        """What its results depend on: results of other settings are not gone on with."""
        return {"kind": self.kind, "origin": self.origin}

    def can_do(self, task: str) -> bool:
        """Whether it can be asked that way."""
        return task == "sot"

    def prepare(self) -> None:  # noqa: B027  (most trackers have nothing to load)
        """Load what tracking needs, before the first sequence: an error here is no sequence's."""

    @abstractmethod
    def follow(self, sequence: TrackingSequence, task: str) -> NDArray[np.float64]:
        """x1, y1, x2, y2 in pixels for every frame, NaN where there is no box: `(T, 4)`."""


class FirstBox(Peer):
    """Repeats the first box: what a tracker must beat to be one."""

    kind = "first-box"

    def follow(self, sequence: TrackingSequence, task: str) -> NDArray[np.float64]:
        """The first box for every frame."""
        return np.tile(sequence.first_box_xyxy_px(), (len(sequence.frames), 1))


class OpenCVPeer(Peer):
    """One of OpenCV's trackers."""

    kind = "opencv"

    @property
    def origin(self) -> str:
        """OpenCV with its version."""
        import cv2

        return f"OpenCV {cv2.__version__}, {self.name}"

    def follow(self, sequence: TrackingSequence, task: str) -> NDArray[np.float64]:
        """Its boxes."""
        from .opencv_trackers import opencv_boxes

        return opencv_boxes(self.name, sequence.frames, sequence.first_box_xyxy_px())


@dataclass(frozen=True)
class ElysiumPeer(Peer):
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
        """The checkpoint, by name and content, and how it is asked."""
        return super().settings | {"weights": weights_fingerprint(self.model)} | self.options.explicit()

    def can_do(self, task: str) -> bool:
        """Both."""
        return True

    def prepare(self) -> None:
        """Load the model."""
        self.tracker  # noqa: B018

    @cached_property
    def tracker(self) -> "Tracker":
        """The model."""
        return self.load()

    def follow(self, sequence: TrackingSequence, task: str) -> NDArray[np.float64]:
        """Its boxes; each sequence goes through the model alone, so that no figure depends on what runs beside it."""
        by_words = task == "rsot"
        result = self.tracker.track(
            iter(sequence.frames),
            sequence.text if by_words else None,
            box_xyxy_px=None if by_words else sequence.first_box_xyxy_px(),
            fps=_FPS,
            options=self.options,
        )
        return result.tracks[0].boxes_xyxy_px


def weights_fingerprint(model: str) -> str | None:
    """A digest of a local checkpoint's configurations, and of the size, first and last MiB of its weights; None for a
    Hub id. It tells a checkpoint that was trained on from the one before, without reading 14 GB."""
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
