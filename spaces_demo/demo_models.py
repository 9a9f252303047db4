"""The models of the page: loaded behind it, one at a time, and asked from any thread."""

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

from .demo_limits import RefusedError

if TYPE_CHECKING:
    from elysium.tracking.tracker import Tracker

log = logging.getLogger(__name__)


def on_gpu(function: Callable[..., Any], *, seconds: int) -> Callable[..., Any]:
    """The function, with a GPU for so many seconds on a Space with ZeroGPU; as it is elsewhere.

    There the platform's package `spaces` lends a GPU for one call, and has to be imported before torch.
    """
    try:
        import spaces
    except ImportError:
        return function
    return spaces.GPU(duration=seconds)(function)


@dataclass(frozen=True)
class ModelState:
    """How far a model is.

    Args:
        name: of the model.
        state: "loading", "ready" or "failed".
        trained_on: the checkpoint's sentence about its training data, empty where it is not known yet.
    """

    name: str
    state: Literal["loading", "ready", "failed"]
    trained_on: str


class ModelShelf:
    """Checkpoints that a visitor may choose from, each loaded when it is first wanted.

    Args:
        names: folders, Hub ids or names of checkpoints in the package; the first is loaded by `start`.
        device: of the models; by default a GPU where there is one.

    Raises:
        ValueError: no names.
    """

    def __init__(self, names: Sequence[str], *, device: str | None = None) -> None:
        if not names:
            raise ValueError("there must be a model to choose, got none; name one, such as elysium-tiny")
        self.names, self.device = list(dict.fromkeys(names)), device
        self._loading: dict[str, Future[Tracker]] = {}
        self._lock, self._turn = Lock(), Lock()

    def start(self, name: str | None = None) -> "Future[Tracker]":
        """Begins to load a model, by default the first, unless that has begun; returns at once.

        Raises:
            RefusedError: a name that is not on the shelf.
        """
        name = self.names[0] if name is None else name
        if name not in self.names:
            raise RefusedError(f"the model must be one of {', '.join(self.names)}, got another; choose from the list")
        with self._lock:
            if name not in self._loading:
                self._loading[name] = Future()
                # A daemon: whoever stops the page does not wait for a model.
                Thread(target=self._fill, args=(name,), name="elysium-loading", daemon=True).start()
            return self._loading[name]

    def tracker(self, name: str | None = None) -> "Tracker":
        """A model, waited for where it is still loading.

        Raises:
            RefusedError: a name that is not on the shelf, or a model that cannot be loaded.
        """
        loading = self.start(name)
        try:
            return loading.result()
        except Exception as error:
            raise RefusedError("the model must load, got an error on the server; choose another model") from error

    def state(self, name: str) -> ModelState:
        """How far a model is; its loading is begun by this.

        Raises:
            RefusedError: a name that is not on the shelf.
        """
        loading = self.start(name)
        if not loading.done():
            return ModelState(name, "loading", _shipped_sentence(name))
        if loading.exception() is not None:
            return ModelState(name, "failed", "")
        return ModelState(name, "ready", loading.result().trained_on)

    def _fill(self, name: str) -> None:
        """What a loading thread does; one model at a time."""
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
    """What a checkpoint in the package says of its training data, read without torch; empty for others."""
    config = Path(elysium.checkpoints.__file__).parent / name / "config.json"
    return json.loads(config.read_text("utf-8")).get("trained_on", "") if config.is_file() else ""
