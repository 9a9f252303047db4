"""Models of the page: loaded in the background, called with a GPU where the platform provides one."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

from elysium.processing.boxes_elysium import Box
from elysium.processing.structures import TrackingResult
from elysium.tracking.checkpoints import DEFAULT_MODEL

from .limits import Limits, RefusedError, naming

if TYPE_CHECKING:
    from elysium.tracking.tracker import Tracker

log = logging.getLogger(__name__)


class ModelRegistry:
    """Checkpoints to choose from, each loaded on first use.

    Args:
        names: folders, Hub ids or names of checkpoints in the package; `start` loads the first.
        device: device of the models; by default a GPU if available.

    Raises:
        ValueError: there are no names.
    """

    def __init__(self, names: Sequence[str], *, device: str | None = None) -> None:
        if not names:
            raise ValueError(f"there must be at least one model, got none; name one, such as {DEFAULT_MODEL}")
        self.names, self.device = list(dict.fromkeys(names)), device
        self._loading: dict[str, Future[Tracker]] = {}
        self._lock, self._turn = Lock(), Lock()

    def start(self, name: str | None = None) -> "Future[Tracker]":
        """Start to load a model in the background, by default the first; return at once.

        Raises:
            RefusedError: the name is not in the registry.
        """
        name = self.names[0] if name is None else name
        if name not in self.names:
            raise RefusedError(f"the model must be one of {', '.join(self.names)}, got another; choose from the list")
        with self._lock:
            if name not in self._loading:
                self._loading[name] = Future()
                # A daemon thread, so that stopping the page does not wait for a model.
                Thread(target=self._fill, args=(name,), name="elysium-loading", daemon=True).start()
            return self._loading[name]

    def tracker(self, name: str | None = None) -> "Tracker":
        """Return a model; wait while it is loading.

        Raises:
            RefusedError: the name is not in the registry, or the model cannot be loaded.
        """
        loading = self.start(name)
        try:
            return loading.result()
        except Exception as error:
            raise RefusedError("the model must load, got an error on the server; choose another model") from error

    def _fill(self, name: str) -> None:
        """Load a model, one at a time."""
        with self._turn:
            try:
                self._loading[name].set_result(self._load(name))
            except Exception as error:
                log.exception("the model %s cannot be loaded", name)
                self._loading[name].set_exception(error)

    def _load(self, name: str) -> "Tracker":
        from elysium.tracking.tracker import Tracker

        return Tracker.from_pretrained(name, device=self.device)


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
            RefusedError: the video cannot be read.
        """
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
