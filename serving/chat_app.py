"""HTTP application: OpenAI's chat completions, answered by one loaded model.

Routes: `GET /health`, `GET /v1/models`, `GET /v1/models/{name}`, `POST /v1/chat/completions`. Every error has OpenAI's
form, `{"error": {"message", "type", "param", "code"}}`.
"""

import asyncio
import hmac
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from .fair_queue import BusyError
from .generation_worker import Delta, Finished, GenerationWorker, Job
from .media_sources import MediaSources
from .request_schema import ChatRequest, RequestError, parse_request

if TYPE_CHECKING:
    from elysium.tracking.tracker import Tracker

log = logging.getLogger(__name__)

BODY_MB = 32
BODY_S = 60.0
RETRY_AFTER_S = 5
_NO_CACHE = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def build_app(
    tracker: "Tracker",
    name: str,
    *,
    num_frames: int | None = None,
    cors: bool = False,
    allow_paths: Sequence[Path] | None = None,
    allow_urls: Sequence[str] = (),
    api_key: str | None = None,
    waiting: int = 64,
) -> FastAPI:
    """Build the application.

    Args:
        tracker: provides the model and the processor.
        name: name of the model in requests; other names are refused, a missing name means this one.
        num_frames: default number of frames of each video; None uses the processor's default.
        cors: whether pages of other origins may send requests.
        allow_paths: folders whose files requests may name by path. **None allows every file that this process can
            read**, for use inside your own process; `elysium serve` passes the folders of `--allow-path`, none by
            default.
        allow_urls: hosts that files may be fetched from; loopback, private and reserved addresses are always refused.
        api_key: key required in `Authorization: Bearer`; None requires none.
        waiting: maximum number of open requests; one client may have half of them.
    """
    sources = MediaSources(allow_paths, tuple(allow_urls))
    worker = GenerationWorker(tracker, sources, num_frames=num_frames, waiting=waiting)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        worker.close()

    app = FastAPI(title="Elysium", lifespan=lifespan, docs_url=None, redoc_url=None)
    if cors:
        app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])
    app.include_router(_routes(_Service(worker, name), api_key))
    for kind in (RequestError, HTTPException, Exception):
        app.add_exception_handler(kind, _refuse)
    app.add_exception_handler(ClientDisconnect, _leave)
    _describe_body(app, name)
    return app


class _Service:
    """Handlers of the routes."""

    def __init__(self, worker: GenerationWorker, name: str) -> None:
        self.worker, self.name, self.created = worker, name, int(time.time())
        # Parses large bodies outside the event loop, one after another.
        self._parser = ThreadPoolExecutor(1, thread_name_prefix="elysium-parse")

    def check_model(self, name: str | None) -> None:
        """Refuse the name of another model."""
        if name not in (None, self.name):
            message = f"model must be {self.name!r}, got {str(name)[:80]!r}"
            raise RequestError(message, status=404, param="model", code="model_not_found")

    def model(self) -> dict[str, Any]:
        """Return the description of the model."""
        return {"id": self.name, "object": "model", "owned_by": "elysium", "created": self.created}

    async def complete(self, http: Request) -> Response:
        """Answer a chat request."""
        if http.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            message = "Content-Type must be application/json; send the request as JSON"
            raise RequestError(message, status=415, param=None)
        client = http.client.host if http.client else ""
        try:
            self.worker.queue.admit(client)
        except BusyError as error:
            headers = {"Retry-After": str(RETRY_AFTER_S)}
            code = "rate_limit_exceeded"
            raise RequestError(str(error), status=429, param=None, code=code, headers=headers) from None
        try:
            body, loop = await _read_body(http), asyncio.get_running_loop()
            request = await loop.run_in_executor(self._parser, parse_request, body)
            self.check_model(request.model)
        except BaseException:
            self.worker.queue.release(client)
            raise
        job = Job(request, client, loop)
        self.worker.submit(job)
        return await self._answer(http, job)

    async def _answer(self, http: Request, job: Job) -> Response:
        """Wait for the answer, or for the start of a streamed one; cancel the job if the client leaves."""
        gone = asyncio.create_task(_wait_for_disconnect(http))
        try:
            while not isinstance(event := await _next_event(job, gone), Finished):
                if job.request.stream:
                    return StreamingResponse(self._stream(job), media_type="text/event-stream", headers=_NO_CACHE)
            message = {"role": "assistant", "content": event.text, "refusal": None}
            answer = {"choices": [_choice("message", message, event.reason)], "usage": _usage(event)}
            return JSONResponse(self._head("chat.completion") | answer)
        except BaseException:
            job.cancelled = True
            raise
        finally:
            gone.cancel()

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": self.name}

    async def _stream(self, job: Job) -> AsyncIterator[str]:
        """Yield server-sent events: role, pieces of text, finish reason, and usage on request."""
        head = self._head("chat.completion.chunk")
        wants_usage = job.request.stream_options.include_usage
        if wants_usage:
            head["usage"] = None

        def chunk(delta: dict[str, Any], reason: str | None = None) -> str:
            return _sse(head | {"choices": [_choice("delta", delta, reason)]})

        try:
            yield chunk({"role": "assistant", "content": ""})
            while not isinstance(event := await job.events.get(), Finished):
                if isinstance(event, Exception):
                    yield _sse(_error_body(_as_refusal(event)))
                    return
                yield chunk({"content": event.text})
            yield chunk({}, event.reason)
            if wants_usage:
                yield _sse(head | {"choices": [], "usage": _usage(event)})
            yield "data: [DONE]\n\n"
        finally:
            job.cancelled = True  # no effect on a finished job


def _routes(service: _Service, api_key: str | None) -> APIRouter:
    async def check_key(request: Request) -> None:
        sent = request.headers.get("authorization", "")
        if api_key is not None and not hmac.compare_digest(sent.encode(), f"Bearer {api_key}".encode()):
            message = "Authorization must be 'Bearer' and the server's API key"
            raise RequestError(message, status=401, param=None, code="invalid_api_key")

    routes, v1 = APIRouter(), APIRouter(prefix="/v1", dependencies=[Depends(check_key)])

    @routes.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @v1.get("/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [service.model()]}

    @v1.get("/models/{model:path}")
    async def one_model(model: str) -> dict[str, Any]:
        service.check_model(model)
        return service.model()

    @v1.post("/chat/completions", response_model=None)
    async def chat_completions(request: Request) -> Response:
        return await service.complete(request)

    routes.include_router(v1)
    return routes


# --- reading a request ---
async def _read_body(http: Request) -> bytearray:
    """Read the body.

    Raises:
        RequestError: the body is larger than `BODY_MB`, or takes longer than `BODY_S`.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in http.stream():
                body += chunk
                if len(body) > BODY_MB * 1_000_000:
                    message = f"a request must have at most {BODY_MB} MB, got more; send less"
                    raise RequestError(message, status=413, param=None, headers={"Connection": "close"})
    except TimeoutError:
        message = f"a request must arrive within {BODY_S:g} s; send it again"
        raise RequestError(message, status=408, param=None) from None
    return body


async def _wait_for_disconnect(http: Request) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass


async def _next_event(job: Job, gone: "asyncio.Task[None]") -> Delta | Finished:
    """Return the next event of a job.

    Raises:
        ClientDisconnect: the client has left.
        Exception: the job failed.
    """
    event = asyncio.ensure_future(job.events.get())
    await asyncio.wait({event, gone}, return_when=asyncio.FIRST_COMPLETED)
    if not event.done():
        event.cancel()
        raise ClientDisconnect
    if isinstance(result := event.result(), Exception):
        raise result
    return result


# --- responses ---
def _choice(name: str, value: dict[str, Any], reason: str | None) -> dict[str, Any]:
    return {"index": 0, name: value, "logprobs": None, "finish_reason": reason}


def _usage(finished: Finished) -> dict[str, int]:
    tokens = {"prompt_tokens": finished.prompt_tokens, "completion_tokens": finished.tokens}
    return tokens | {"total_tokens": sum(tokens.values())}


def _sse(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _as_refusal(error: Exception) -> RequestError:
    """Return an error as the client sees it; unexpected ones go to the log alone."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, HTTPException):
        headers = dict(error.headers or {})
        return RequestError(str(error.detail), status=error.status_code, param=None, headers=headers)
    log.error("a request failed", exc_info=error)
    return RequestError("internal server error; see the server's log", status=500, param=None)


def _error_body(error: RequestError) -> dict[str, Any]:
    """Return an error in OpenAI's form."""
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    return {"error": {"message": str(error), "type": kind, "param": error.param, "code": error.code}}


async def _refuse(_: Request, error: Exception) -> JSONResponse:
    known = _as_refusal(error)
    return JSONResponse(_error_body(known), known.status, headers=known.headers)


async def _leave(_: Request, error: Exception) -> Response:
    return Response(status_code=499)  # the client has left


def _describe_body(app: FastAPI, name: str) -> None:
    """Add the request's schema to the OpenAPI schema, since the body is parsed by hand, in a thread."""
    schema = app.openapi()
    body = ChatRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    body["properties"]["model"] = {"type": "string", "enum": [name]}
    schema.setdefault("components", {}).setdefault("schemas", {}).update(body.pop("$defs"), ChatRequest=body)
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/ChatRequest"}}}
    operation = schema["paths"]["/v1/chat/completions"]["post"]
    operation["requestBody"] = {"required": True, "content": content}
    operation["responses"]["4XX"] = {"description": "Refused, with an error in OpenAI's form"}
