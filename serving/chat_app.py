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
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from .fair_queue import BusyError
from .generation_worker import Delta, Event, Finished, GenerationWorker, Job, RequestError, Started
from .media_sources import MediaError, MediaSources
from .request_schema import ChatRequest, describe_errors, parse_request

if TYPE_CHECKING:
    from elysium.tracking.tracker import Tracker

log = logging.getLogger(__name__)

BODY_MB = 32
BODY_S = 60.0
RETRY_AFTER_S = 5


class ApiError(Exception):
    """Error response.

    Args:
        status: HTTP status.
        message: message for the client.
        param: path of the invalid field.
        code: OpenAI's error code.
        headers: headers of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = status, message, param, code, headers

    def body(self) -> dict[str, Any]:
        """Return the error in OpenAI's form."""
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


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
    _handle_errors(app)
    _describe_body(app, name)
    return app


class _Service:
    """Handlers of the routes."""

    def __init__(self, worker: GenerationWorker, name: str) -> None:
        self.worker, self.name, self.created = worker, name, int(time.time())
        self._parser = ThreadPoolExecutor(
            1, thread_name_prefix="elysium-parse"
        )  # parses large bodies one after another

    def model(self) -> dict[str, Any]:
        return {"id": self.name, "object": "model", "owned_by": "elysium", "created": self.created}

    async def complete(self, http: Request) -> Response:
        """Answer a chat request."""
        if http.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise ApiError(415, "Content-Type must be application/json; send the request as JSON")
        try:
            ticket = self.worker.queue.admit(http.client.host if http.client else "")
        except BusyError as error:
            raise ApiError(
                429, str(error), code="rate_limit_exceeded", headers={"Retry-After": str(RETRY_AFTER_S)}
            ) from None
        try:
            request = await self._parse(await _read_body(http))
            if request.model is not None and request.model != self.name:
                raise ApiError(
                    404,
                    f"model must be {self.name!r}, got {request.model[:80]!r}",
                    param="model",
                    code="model_not_found",
                )
            job = Job(request, ticket, asyncio.get_running_loop())
        except BaseException:
            self.worker.queue.release(ticket)
            raise
        self.worker.submit(job)
        return await self._answer(http, job)

    async def _parse(self, body: bytes) -> ChatRequest:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._parser, parse_request, body)
        except ValidationError as error:
            message, param = describe_errors(error)
            raise ApiError(400, message, param=param) from None

    async def _answer(self, http: Request, job: Job) -> Response:
        """Wait for the answer, or for the start of a streamed one; cancel the job if the client leaves."""
        gone = asyncio.create_task(_wait_for_disconnect(http))
        try:
            started: Started | None = None
            finished: list[Finished] = []
            while len(finished) < job.request.n:
                event = await _next_event(job, gone)
                if isinstance(event, Started):
                    started = event
                    if job.request.stream:
                        stream = self._stream(job, event)
                        return StreamingResponse(stream, media_type="text/event-stream", headers=_NO_CACHE)
                elif isinstance(event, Finished):
                    finished.append(event)
            assert started is not None
            return JSONResponse(self._completion(job.request, started, finished))
        except BaseException:
            job.cancelled = True
            raise
        finally:
            gone.cancel()

    def _completion(self, request: ChatRequest, started: Started, finished: list[Finished]) -> dict[str, Any]:
        choices = [
            {
                "index": each.index,
                "message": {"role": "assistant", "content": each.text, "refusal": None},
                "logprobs": None,
                "finish_reason": each.reason,
            }
            for each in sorted(finished, key=lambda each: each.index)
        ]
        return self._head("chat.completion") | {"choices": choices, "usage": _usage(started, finished)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": self.name}

    async def _stream(self, job: Job, started: Started) -> AsyncIterator[str]:
        """Yield server-sent events: role, pieces of text, finish reason, and usage on request."""
        head = self._head("chat.completion.chunk")
        wants_usage = job.request.stream_options.include_usage
        if wants_usage:
            head["usage"] = None

        def chunk(index: int, delta: dict[str, Any], reason: str | None = None) -> str:
            choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
            return _sse(head | {"choices": [choice]})

        try:
            for index in range(job.request.n):
                yield chunk(index, {"role": "assistant", "content": ""})
            finished: list[Finished] = []
            while len(finished) < job.request.n:
                event = await job.events.get()
                if isinstance(event, Delta):
                    yield chunk(event.index, {"content": event.text})
                elif isinstance(event, Finished):
                    finished.append(event)
                    yield chunk(event.index, {}, event.reason)
                elif isinstance(event, Exception):
                    yield _sse(_as_api_error(event).body())
                    return
            if wants_usage:
                yield _sse(head | {"choices": [], "usage": _usage(started, finished)})
            yield "data: [DONE]\n\n"
        finally:
            job.cancelled = True  # no effect on a finished job


_NO_CACHE = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def _routes(service: _Service, api_key: str | None) -> APIRouter:
    async def check_key(request: Request) -> None:
        sent = request.headers.get("authorization", "")
        if api_key is not None and not hmac.compare_digest(sent.encode(), f"Bearer {api_key}".encode()):
            raise ApiError(401, "Authorization must be 'Bearer' and the server's API key", code="invalid_api_key")

    routes, v1 = APIRouter(), APIRouter(prefix="/v1", dependencies=[Depends(check_key)])

    @routes.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @v1.get("/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [service.model()]}

    @v1.get("/models/{model:path}")
    async def one_model(model: str) -> dict[str, Any]:
        if model != service.name:
            raise ApiError(404, f"model must be {service.name!r}, got {model[:80]!r}", code="model_not_found")
        return service.model()

    @v1.post("/chat/completions", response_model=None)
    async def chat_completions(request: Request) -> Response:
        return await service.complete(request)

    routes.include_router(v1)
    return routes


# --- reading a request ---
async def _read_body(http: Request) -> bytes:
    """Read the body.

    Raises:
        ApiError: the body is larger than `BODY_MB`, or takes longer than `BODY_S`.
    """
    most = BODY_MB * 1_000_000
    too_large = ApiError(
        413, f"a request must have at most {BODY_MB} MB, got more; send less", headers={"Connection": "close"}
    )
    declared = http.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared[:20]) > most:
        raise too_large
    chunks, size = [], 0
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in http.stream():
                size += len(chunk)
                if size > most:
                    raise too_large
                chunks.append(chunk)
    except TimeoutError:
        raise ApiError(408, f"a request must arrive within {BODY_S:g} s; send it again") from None
    return b"".join(chunks)


async def _wait_for_disconnect(http: Request) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass


async def _next_event(job: Job, gone: "asyncio.Task[None]") -> Event:
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
def _usage(started: Started, finished: list[Finished]) -> dict[str, int]:
    tokens = sum(each.tokens for each in finished)
    return {
        "prompt_tokens": started.prompt_tokens,
        "completion_tokens": tokens,
        "total_tokens": started.prompt_tokens + tokens,
    }


def _sse(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _as_api_error(error: Exception) -> ApiError:
    """Return an error as the client sees it."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, MediaError | RequestError):
        return ApiError(400, str(error), param="messages", code=getattr(error, "code", None))
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, str(error.detail), headers=dict(error.headers or {}))
    return ApiError(500, "internal server error; see the server's log")


def _handle_errors(app: FastAPI) -> None:
    async def refuse(_: Request, error: Exception) -> JSONResponse:
        if not isinstance(error, ApiError | MediaError | RequestError | HTTPException):
            log.error("a request failed", exc_info=error)
        known = _as_api_error(error)
        return JSONResponse(known.body(), known.status, headers=known.headers)

    async def left(_: Request, error: Exception) -> Response:
        return Response(status_code=499)  # the client has left

    for kind in (ApiError, MediaError, RequestError, HTTPException, Exception):
        app.add_exception_handler(kind, refuse)
    app.add_exception_handler(ClientDisconnect, left)


def _describe_body(app: FastAPI, name: str) -> None:
    """Add the request's schema to the OpenAPI schema, since the body is parsed by hand, in a thread."""
    schema = app.openapi()
    body = ChatRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    body["properties"]["model"] = {"type": "string", "enum": [name]}
    parts = schema.setdefault("components", {}).setdefault("schemas", {})
    parts |= body.pop("$defs") | {"ChatRequest": body}
    refusal = {"type": "object", "required": ["error"], "properties": {"error": {"type": "object"}}}
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            if path.startswith("/v1"):
                operation["responses"]["4XX"] = {
                    "description": "Refused",
                    "content": {"application/json": {"schema": refusal}},
                }
    schema["paths"]["/v1/chat/completions"]["post"]["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ChatRequest"}}},
    }
