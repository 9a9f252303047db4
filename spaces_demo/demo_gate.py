"""What stands before Gradio's own routes: bodies have a size, and nothing that a visitor names is fetched.

Gradio lets only uploaded paths through as files, but it downloads a URL that stands in a file's place, whatever the
field; so requests are looked through here, once for all of them.
"""

import json
import logging
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .demo_queue import Listeners

log = logging.getLogger(__name__)

JSON_BYTES = 200_000
UPLOAD_ROUTE = "/gradio_api/upload"
# Gradio would fetch for a visitor what stands behind these, or hand an upload to an external program.
CLOSED_ROUTES = ("/gradio_api/proxy=", "/gradio_api/process_recording", "/gradio_api/vibe")
FILE_ROUTES = ("/gradio_api/file=", "/gradio_api/file/")
NO_FETCHING = "this page fetches nothing: a file must be uploaded, got an address; download it and upload it here"


class TooLargeError(MultiPartException):
    """A body goes on after its limit.

    Of a kind that Gradio expects while it reads an upload: it then removes what it has written, and answers 413.
    """

    def __init__(self, limit: int):
        super().__init__(f"the request goes on after the maximum allowed size of {limit} bytes; send less")


class Gate:
    """ASGI middleware that refuses requests before Gradio reads them.

    Args:
        app: Gradio's.
        upload_bytes: the most that one upload may send.
        kept_bytes: the most that all uploads and results may take; uploads are refused from there on.
        kept: folder of uploads and results.
        listeners: counts who waits for answers.
    """

    def __init__(
        self, app: ASGIApp, *, upload_bytes: int, kept_bytes: int, kept: Path, listeners: Listeners | None = None
    ) -> None:
        self.app, self.upload_bytes, self.kept_bytes, self.kept = app, upload_bytes, kept_bytes, kept
        self.listeners = listeners or Listeners()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses, or passes on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        uploads = scope["path"].startswith(UPLOAD_ROUTE)
        limit = self.upload_bytes if uploads else JSON_BYTES
        counted = _counted(receive, limit)
        try:
            refusal = self._refusal(scope, limit)
            if refusal is None and scope["method"] == "POST" and not uploads:
                body = await _read(counted)
                refusal, counted = _fault(body), _replayed(body, receive)
            with self.listeners.during(scope):
                await (refusal or self.app)(scope, counted, send)
        except TooLargeError:
            await _too_large(limit)(scope, receive, send)

    def _refusal(self, scope: Scope, limit: int) -> PlainTextResponse | None:
        """The answer to a request whose head is enough to refuse it."""
        path: str = scope["path"]
        if path.startswith(CLOSED_ROUTES) or (path.startswith(FILE_ROUTES) and ":/" in path):
            return PlainTextResponse(NO_FETCHING, 404)
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdecimal() or int(declared) > limit:
            return _too_large(limit)
        if path.rstrip("/") == UPLOAD_ROUTE and _folder_bytes(self.kept) > self.kept_bytes:
            log.warning("uploads are refused: %s is full", self.kept)
            return PlainTextResponse("the server must have room for uploads, and has none; come back later", 507)
        return None


def _too_large(limit: int) -> PlainTextResponse:
    return PlainTextResponse(f"a request must have at most {limit} bytes; send less", 413)


def _fault(body: bytes) -> PlainTextResponse | None:
    """The answer to a body that is no JSON, or that names an address as a file."""
    if not body:
        return None
    try:
        return PlainTextResponse(NO_FETCHING, 403) if _names_address(json.loads(body)) else None
    except (ValueError, RecursionError):
        return PlainTextResponse("a request must be JSON, got something else; see the page's API description", 400)


def _names_address(value: Any) -> bool:
    """Whether a file's path is an address, at any depth.

    >>> _names_address({"data": [{"path": "uploads/a.mp4"}, {"path": "http://example.org/a.mp4"}]})
    True
    """
    if isinstance(value, dict):
        path = value.get("path")
        return (isinstance(path, str) and ":/" in path) or any(map(_names_address, value.values()))
    return isinstance(value, list) and any(map(_names_address, value))


def _counted(receive: Receive, limit: int) -> Receive:
    """``receive`` that raises once a body goes on after its limit: its declared length may be missing or a lie."""
    taken = 0

    async def counted() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise TooLargeError(limit)
        return message

    return counted


async def _read(receive: Receive) -> bytes:
    """The whole body."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    """``receive`` that gives a body that was read already, and then what comes after it."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _folder_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue  # removed in between
    return total
