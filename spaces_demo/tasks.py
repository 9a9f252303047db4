"""The page's four tasks: track, ground, describe and ask. Independent of Gradio; inputs are already checked."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from elysium.processing.boxes_elysium import Box
from elysium.processing.structures import TrackingResult
from elysium.processing.video_io import VideoReader

from .limits import Limits, RefusedError, naming
from .models import ModelRegistry, on_gpu


class Tasks:
    """The four tasks, each with a GPU where the platform provides one.

    Args:
        registry: the models.
        limits: limits of one request.

    Attributes:
        track: `_track` through `on_gpu`; `ground`, `describe` and `ask` likewise.
    """

    def __init__(self, registry: ModelRegistry, limits: Limits) -> None:
        self.registry, self.limits = registry, limits
        self.track = on_gpu(self._track, seconds=limits.compute_s)
        self.ground = on_gpu(self._ground, seconds=limits.compute_s)
        self.describe = on_gpu(self._describe, seconds=limits.compute_s)
        self.ask = on_gpu(self._ask, seconds=limits.compute_s)

    def _track(self, path: Path, model: str | None, prompts: list[str], boxes: list[Box]) -> Iterator[TrackingResult]:
        """Track, and yield the result so far after every window.

        The last result is complete unless time ran out or the video is longer than its header says.

        Raises:
            RefusedError: text prompts and boxes do not match, or the video cannot be read.
        """
        if not prompts and not boxes:
            raise RefusedError("there must be an object to track, got none; draw a box, or type a text prompt")
        if prompts and boxes and len(prompts) != len(boxes):
            raise RefusedError(
                "text prompts and boxes given together must describe the same objects, got "
                f"{len(prompts)} lines and {len(boxes)} boxes; draw a box for each line, or clear one of the two"
            )
        tracker = self.registry.tracker(model)
        deadline_s = time.monotonic() + self.limits.compute_s
        with naming(path), tracker.iter_track(path, prompts or None, box_xyxy_px=boxes or None) as run:
            # The first window must not wait for frames of later windows.
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
                yield _named(run.result(), path)  # only now is it known that no frame follows

    def _ground(self, path: Path, model: str | None, prompts: list[str], is_video: bool) -> list[dict[str, Any]]:
        """Return a box for each text prompt, in an image or in the first frame of a video."""
        if not prompts:
            raise RefusedError("there must be an object to find, got none; type text prompts, one per line")
        with naming(path):
            image = first_frame(path) if is_video else path
            found = self.registry.tracker(model).ground_many([(image, phrase) for phrase in prompts])
        return [grounding.to_dict() for grounding in found]

    def _describe(self, path: Path, model: str | None, box_xyxy_px: Box) -> str:
        """Return a description of the object in a box."""
        with naming(path):
            return self.registry.tracker(model).describe(path, box_xyxy_px)

    def _ask(self, path: Path, model: str | None, question: str) -> str:
        """Return the answer to a question."""
        with naming(path):
            return self.registry.tracker(model).ask(path, question)


def first_frame(path: Path) -> Any:
    """Return the first frame of a video or image, uint8 RGB `(H, W, 3)`.

    Raises:
        VideoError: the file cannot be read.
    """
    with VideoReader(path) as reader:
        return next(iter(reader)).image


def _named(result: TrackingResult, path: Path) -> TrackingResult:
    """Replace the video's path in the result by the name of the visitor's file."""
    result.video = path.name
    return result
