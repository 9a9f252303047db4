"""Model registry of the page: loads models in the background, one at a time."""

import logging
from collections.abc import Sequence
from concurrent.futures import Future
from threading import Lock, Thread
from typing import TYPE_CHECKING

from .limits import RefusedError

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
