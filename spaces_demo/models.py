"""Model registry of the page: loads models in the background, one at a time."""

import json
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Literal

import elysium.checkpoints

from .limits import RefusedError

if TYPE_CHECKING:
    from elysium.tracking.tracker import Tracker

log = logging.getLogger(__name__)


def on_gpu(function: Callable[..., Any], *, seconds: int) -> Callable[..., Any]:
    """Wrap a function to get a GPU for some seconds on a ZeroGPU Space; elsewhere return it unchanged.

    On ZeroGPU the package `spaces` provides a GPU for one call; it must be imported before torch.
    """
    try:
        import spaces
    except ImportError:
        return function
    return spaces.GPU(duration=seconds)(function)


@dataclass(frozen=True)
class ModelState:
    """Loading state of a model.

    Args:
        name: name of the model.
        state: "loading", "ready" or "failed".
        trained_on: the checkpoint's sentence about its training data, empty while unknown.
    """

    name: str
    state: Literal["loading", "ready", "failed"]
    trained_on: str


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
            raise ValueError("there must be at least one model, got none; name one, such as elysium-tiny")
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

    def state(self, name: str) -> ModelState:
        """Return the loading state of a model, and start to load it.

        Raises:
            RefusedError: the name is not in the registry.
        """
        loading = self.start(name)
        if not loading.done():
            return ModelState(name, "loading", _shipped_sentence(name))
        if loading.exception() is not None:
            return ModelState(name, "failed", "")
        return ModelState(name, "ready", loading.result().trained_on)

    def _fill(self, name: str) -> None:
        """Load a model, one at a time."""
        with self._turn:
            try:
                self._loading[name].set_result(self._load(name))
            except Exception as error:
                log.exception("the model %s cannot be loaded", name)
                self._loading[name].set_exception(error)

    def _load(self, name: str) -> "Tracker":
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        from transformers.utils import logging as transformers_logging

        from elysium.tracking.tracker import Tracker

        transformers_logging.disable_progress_bar()
        return Tracker.from_pretrained(name, device=self.device)


def _shipped_sentence(name: str) -> str:
    """Return a packaged checkpoint's sentence about its training data, without torch; empty for others."""
    config = Path(elysium.checkpoints.__file__).parent / name / "config.json"
    return json.loads(config.read_text("utf-8")).get("trained_on", "") if config.is_file() else ""
