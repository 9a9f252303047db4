"""What the page asks a model: to follow, find, describe and answer. No Gradio here; inputs are checked already."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from elysium.processing.boxes_elysium import Box
from elysium.processing.structures import TrackingResult
from elysium.processing.video_io import VideoReader

from .demo_limits import Limits, RefusedError, naming
from .demo_models import ModelShelf, on_gpu


class Tasks:
    """The four tasks, each run where the GPU is.

    Args:
        shelf: the models.
        limits: of one request.

    Attributes:
        follow: `_follow`, with a GPU where one is lent; `ground`, `describe` and `ask` likewise.
    """

    def __init__(self, shelf: ModelShelf, limits: Limits) -> None:
        self.shelf, self.limits = shelf, limits
        self.follow = on_gpu(self._follow, seconds=limits.compute_s)
        self.ground = on_gpu(self._ground, seconds=limits.compute_s)
        self.describe = on_gpu(self._describe, seconds=limits.compute_s)
        self.ask = on_gpu(self._ask, seconds=limits.compute_s)

    def _follow(self, path: Path, model: str | None, words: list[str], boxes: list[Box]) -> Iterator[TrackingResult]:
        """Tracks, and gives what is finished after every window.

        The last result is complete, unless time ran out or the video is longer than it says.

        Raises:
            RefusedError: words and boxes that do not go together, or a video that cannot be read.
        """
        if not words and not boxes:
            raise RefusedError("there must be an object to track, got none; draw a box, or type words")
        if words and boxes and len(words) != len(boxes):
            raise RefusedError(
                "words and boxes given together must be of the same objects, got "
                f"{len(words)} lines and {len(boxes)} boxes; draw a box for each line, or clear one kind"
            )
        tracker = self.shelf.tracker(model)
        deadline_s = time.monotonic() + self.limits.compute_s
        with naming(path), tracker.iter_track(path, words or None, box_xyxy_px=boxes or None) as run:
            # The first window is not to wait for the frames of the next ones.
            windows_ahead, run.windows_ahead = run.windows_ahead, 0
            shown = 0
            for _ in run:
                run.windows_ahead = windows_ahead
                if run.num_frames_finished > shown:
                    shown = run.num_frames_finished
                    yield _named(run.result(), path)
                if time.monotonic() > deadline_s or shown >= self.limits.video_frames:
                    break
            else:
                yield _named(run.result(), path)  # only now it is known that no frame follows

    def _ground(self, path: Path, model: str | None, words: list[str], is_video: bool) -> list[dict[str, Any]]:
        """Where words point in a picture, or in the first frame of a video."""
        if not words:
            raise RefusedError("there must be an object to find, got none; type words, a line for each")
        with naming(path):
            image = first_frame(path) if is_video else path
            found = self.shelf.tracker(model).ground_many([(image, phrase) for phrase in words])
        return [grounding.to_dict() for grounding in found]

    def _describe(self, path: Path, model: str | None, box_xyxy_px: Box) -> str:
        """Words for what is in a box."""
        with naming(path):
            return self.shelf.tracker(model).describe(path, box_xyxy_px)

    def _ask(self, path: Path, model: str | None, question: str) -> str:
        """An answer to a question."""
        with naming(path):
            return self.shelf.tracker(model).ask(path, question)


def first_frame(path: Path) -> Any:
    """The first picture of a video or picture, uint8 RGB `(H, W, 3)`.

    Raises:
        VideoError: it cannot be read.
    """
    with VideoReader(path) as reader:
        return next(iter(reader)).image


def _named(result: TrackingResult, path: Path) -> TrackingResult:
    """The result under the name of the visitor's file, not where it lies here."""
    result.video = path.name
    return result
