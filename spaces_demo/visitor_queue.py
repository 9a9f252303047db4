"""Gradio's queue with turns and limits for each visitor.

Gradio serves requests first come, first served, even if nobody waits for the result. Here addresses take turns,
and so do the sessions of an address; both have a maximum of waiting requests; and a request runs only while a client
listens for its result.
"""

import html
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

import gradio as gr
from gradio import queueing
from gradio.server_messages import EventMessage, ProcessCompletedMessage
from gradio.utils import LRUCache
from starlette.types import Scope

from .limits import Limits

_STREAM_ROUTE = "/gradio_api/queue/data"
_CALL_ROUTE = "/gradio_api/call/"
# A path on the server, up to the file name.
_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^\s'\"<>/()]+/)+")


class Listeners:
    """Open result streams: sessions of the page, and single requests of the API."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @contextmanager
    def during(self, scope: Scope) -> Iterator[None]:
        """Count a request for a result stream while the block runs; other requests change nothing."""
        key = self._key(scope)
        if key is None:
            yield
            return
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

    @staticmethod
    def _key(scope: Scope) -> str | None:
        path: str = scope["path"].rstrip("/")
        if scope["method"] != "GET":
            return None
        if path == _STREAM_ROUTE:
            return parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [None])[0]
        return path.rpartition("/")[2] if path.startswith(_CALL_ROUTE) else None

    def wait_for(self, event: queueing.Event) -> bool:
        """Return whether a client waits for the result of a request."""
        return event.session_hash in self._open or event._id in self._open


class VisitorQueue(queueing.Queue):
    """Gradio's queue with turns, limits per visitor, and a reason in every refusal.

    Args:
        limits: number of waiting requests, and seconds without a listener.
        listeners: open result streams, counted by the middleware.
        options: options of Gradio's queue.
    """

    def __init__(self, limits: Limits, listeners: Listeners, **options: Any) -> None:
        super().__init__(**options)
        self.limits, self.listeners = limits, listeners
        self._turn = 0
        self._served: LRUCache[str, int] = LRUCache(1000)  # address or session -> turn

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        """Queue a request, or return the reason for refusing it."""
        self._drop_abandoned()
        address = _address(request)
        waiting = [event for queue in self.event_queue_per_concurrency_id.values() for event in queue.queue]
        of_session = sum(event.session_hash == body.session_hash for event in waiting)
        of_address = sum(_address(event.request) == address for event in waiting)
        limits = self.limits
        for count, most, whose in (
            (of_session, limits.waiting_of_session, "one visitor"),
            (of_address, limits.waiting_of_address, "one address"),
        ):
            if count >= most:
                reason = f"{whose} may have at most {most} requests waiting, got {count} already; wait for a result"
                return False, reason, "queue_full"
        return await super().push(body, request, username)

    def get_events(self) -> Any:
        """Return the request to run next: the one whose turn it is, among those with a listener."""
        self._drop_abandoned()
        for concurrency_id, queue in self.event_queue_per_concurrency_id.items():
            if queue.current_concurrency == queue.concurrency_limit:
                continue
            heard = [event for event in queue.queue if self.listeners.wait_for(event)]
            if heard:
                event = min(heard, key=self._turn_of)
                queue.queue.remove(event)
                self._turn += 1
                for name in _names(event):
                    self._served[name] = self._turn
                return [event], False, concurrency_id
        return None

    def _turn_of(self, event: queueing.Event) -> tuple[float, ...]:
        """Return a key that is lowest for the address, and the session there, that were served longest ago."""
        return *(self._served.get(name, 0) for name in _names(event)), event.enqueue_time

    def _drop_abandoned(self) -> None:
        """Remove requests that had no listener for too long; a client that comes later gets the reason."""
        latest_s = time.monotonic() - self.limits.listen_s
        for queue in self.event_queue_per_concurrency_id.values():
            for event in [e for e in queue.queue if e.enqueue_time < latest_s and not self.listeners.wait_for(e)]:
                queue.queue.remove(event)
                self.event_ids_to_events.pop(event._id, None)
                reason = f"a request is dropped when nobody listens for its result for {self.limits.listen_s:g} s"
                self.send_message(event, ProcessCompletedMessage(output={"error": reason}, success=False))

    def send_message(self, event: queueing.Event, event_message: EventMessage) -> None:
        """Send a message; every refusal has a reason and no path of the server."""
        if isinstance(event_message, ProcessCompletedMessage) and not event_message.success:
            event_message.output = with_reason(event_message.output)
        super().send_message(event, event_message)


def use_visitor_queue(blocks: gr.Blocks, limits: Limits, listeners: Listeners) -> None:
    """Replace Gradio's queue of a page by a `VisitorQueue`."""
    blocks.queue(max_size=limits.waiting, default_concurrency_limit=1, api_open=False)
    plain = blocks._queue
    blocks._queue = VisitorQueue(
        limits,
        listeners,
        live_updates=plain.live_updates,
        concurrency_count=plain.max_thread_count,
        update_intervals=plain.update_intervals,
        max_size=plain.max_size,
        blocks=blocks,
        default_concurrency_limit=plain.default_concurrency_limit,
    )


def with_reason(output: dict[str, Any]) -> dict[str, Any]:
    """Return a refusal with a reason that contains no folder of the server.

    The page's own refusals (`gr.Error`, which have a duration) are left as they are. Others are Gradio's, about values
    that it could not parse.

    >>> with_reason({"error": "[Errno 2] No such file: '/srv/page/cache/a.mp4'"})["error"]
    "the request could not be read ([Errno 2] No such file: &#x27;a.mp4&#x27;); the page's API description says how"
    """
    reason = _FOLDERS.sub("", str(output.get("error") or ""))
    if "duration" not in output and not reason.startswith("a request is dropped"):
        detail = f" ({html.escape(reason[:300])})" if reason else ""
        reason = f"the request could not be read{detail}; the page's API description says how"
    return output | {"error": reason}


def _address(request: Any) -> str:
    return request.client.host if request is not None and request.client else ""


def _names(event: queueing.Event) -> tuple[str, str]:
    """Return the keys by which turns are counted: the address, and the session at that address."""
    address = _address(event.request)
    return address, f"{address} {event.session_hash}"
