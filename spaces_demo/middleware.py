"""ASGI middleware before Gradio's routes: limits the size of bodies and refuses URLs in place of files.

Gradio accepts only uploaded paths as files, but it downloads a URL given in place of a file, in any field. Its
`max_file_size` limits each file of an upload, not the upload.
"""

import json
import logging
from pathlib import Path
from typing import Any

from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .visitor_queue import Listeners

log = logging.getLogger(__name__)

JSON_BYTES = 200_000
UPLOAD_ROUTE = "/gradio_api/upload"
RECORDING_ROUTE = "/gradio_api/process_recording"  # passes an upload to an external program
FILE_ROUTES = ("/gradio_api/file=", "/gradio_api/file/")
NO_FETCHING = "this page fetches nothing: a file must be uploaded, got a URL; download it and upload it here"


class TooLargeError(MultiPartException):
    """A body exceeds its limit.

    Gradio recognizes this kind and "maximum allowed size": it removes the partial upload and answers 413.
    """

    def __init__(self, limit: int):
        super().__init__(f"a request must be within the maximum allowed size of {limit} bytes, got more; send less")


class RequestFilter:
    """Refuse requests before Gradio reads them.

    Args:
        app: Gradio's application.
        upload_bytes: maximum size of one upload request.
        kept_bytes: maximum size of all uploads and results together; above it uploads are refused.
        kept: folder of uploads and results.
        listeners: counts the clients that wait for results.
    """

    def __init__(self, app: ASGIApp, *, upload_bytes: int, kept_bytes: int, kept: Path, listeners: Listeners) -> None:
        self.app, self.upload_bytes, self.kept_bytes, self.kept = app, upload_bytes, kept_bytes, kept
        self.listeners = listeners

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it to Gradio."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        uploads = scope["path"].rstrip("/") == UPLOAD_ROUTE
        counted = _counted(receive, self.upload_bytes if uploads else JSON_BYTES)
        try:
            refusal = self._refusal(scope["path"], uploads)
            if refusal is None and scope["method"] == "POST" and not uploads:
                body = await Request(scope, counted).body()
                refusal, counted = _fault(body), _replayed(body, receive)
            with self.listeners.during(scope):
                await (refusal or self.app)(scope, counted, send)
        except TooLargeError as error:
            await PlainTextResponse(error.message, 413)(scope, receive, send)

    def _refusal(self, path: str, uploads: bool) -> PlainTextResponse | None:
        """Return the refusal that the path requires, None to continue."""
        if path.startswith(RECORDING_ROUTE) or (path.startswith(FILE_ROUTES) and ":/" in path):
            return PlainTextResponse(NO_FETCHING, 404)
        if uploads and _folder_bytes(self.kept) > self.kept_bytes:
            log.warning("uploads are refused: %s is full", self.kept)
            return PlainTextResponse("the server has no room for uploads; try again later", 507)
        return None


def _fault(body: bytes) -> PlainTextResponse | None:
    """Return the refusal of a body that is not JSON or has a URL in place of a file."""
    if not body:
        return None
    try:
        return PlainTextResponse(NO_FETCHING, 403) if _has_url(json.loads(body)) else None
    except (ValueError, RecursionError):
        return PlainTextResponse("a request must be JSON, got something else; see the page's API description", 400)


def _has_url(value: Any) -> bool:
    """Return whether any file's path, at any depth, is a URL.

    >>> _has_url({"data": [{"path": "uploads/a.mp4"}, {"path": "http://example.org/a.mp4"}]})
    True
    """
    if isinstance(value, dict):
        path = value.get("path")
        return (isinstance(path, str) and ":/" in path) or any(map(_has_url, value.values()))
    return isinstance(value, list) and any(map(_has_url, value))


def _counted(receive: Receive, limit: int) -> Receive:
    """Wrap ``receive`` to raise once a body exceeds its limit; the declared length may be missing or wrong."""
    taken = 0

    async def counted() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise TooLargeError(limit)
        return message

    return counted


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Wrap ``receive`` to return a body that was already read, then the messages after it."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


def _folder_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue  # removed meanwhile
    return total
