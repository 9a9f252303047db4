"""The page's use of a model: tracking, and single calls. Independent of Gradio; inputs are already checked."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from elysium.processing.boxes_elysium import Box
from elysium.processing.structures import TrackingResult

from .limits import Limits, RefusedError, naming
from .models import ModelRegistry


def on_gpu(function: Callable[..., Any], *, seconds: int) -> Callable[..., Any]:
    """Wrap a function to get a GPU for some seconds on a ZeroGPU Space; elsewhere return it unchanged.

    On ZeroGPU the package `spaces` provides a GPU for one call; it must be imported before torch.
    """
    try:
        import spaces
    except ImportError:
        return function
    return spaces.GPU(duration=seconds)(function)


class Tasks:
    """Calls of a model, each with a GPU where the platform provides one.

    Args:
        registry: the models.
        limits: limits of one request.

    Attributes:
        track: `_track` through `on_gpu`.
        call: `_call` through `on_gpu`.
    """

    def __init__(self, registry: ModelRegistry, limits: Limits) -> None:
        self.registry, self.limits = registry, limits
        self.track = on_gpu(self._track, seconds=limits.compute_s)
        self.call = on_gpu(self._call, seconds=limits.compute_s)

    def _call(self, model: str | None, method: str, *arguments: Any) -> Any:
        """Return what a method of the model's tracker returns."""
        return getattr(self.registry.tracker(model), method)(*arguments)

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


def _named(result: TrackingResult, path: Path) -> TrackingResult:
    """Replace the video's path in the result by the name of the visitor's file."""
    result.video = path.name
    return result
