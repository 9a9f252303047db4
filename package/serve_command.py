"""What `elysium serve` does: transformers' own server, OpenAI-compatible, with one Elysium in it."""

import socket
import time
from typing import TYPE_CHECKING, Any

import typer

from .console import load_tracker, require, say

if TYPE_CHECKING:
    from fastapi import FastAPI

    from elysium.tracking.tracker import Tracker


def run_serve(model: str, *, host: str, port: int, device: str | None, num_frames: int, cors: bool) -> None:
    """Loads the model and answers requests until it is interrupted."""
    for module in ("fastapi", "openai", "uvicorn"):
        require(module, extra="serve")
    _check_port(host, port)
    tracker = load_tracker(model, device)
    import uvicorn

    say(f"Answering for {model} at http://{host}:{port}/v1 (stop with Ctrl+C)")
    uvicorn.run(build_app(tracker, model, num_frames=num_frames, cors=cors), host=host, port=port, log_level="warning")


def _check_port(host: str, port: int) -> None:
    """The address is free, asked before a large model is loaded for nothing.

    Raises:
        typer.BadParameter: it is not, or not of this machine.
    """
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise typer.BadParameter(
            f"host and port must be free on this machine, got {host}:{port} ({error.strerror}); choose others",
            param_hint="--port",
        ) from error


def build_app(tracker: "Tracker", name: str, *, num_frames: int, cors: bool = False) -> "FastAPI":
    """transformers' server app, with a model that is loaded already.

    Args:
        tracker: whose model and processor answer.
        name: what requests call the model; another name is refused, none means this one.
        num_frames: frames seen of a video, spread evenly; a request may say
            ``"chat_template_kwargs": {"num_frames": 8}``.
        cors: whether pages of other origins may ask.
    """
    from fastapi import HTTPException, Request
    from fastapi.responses import JSONResponse
    from jinja2.exceptions import TemplateError
    from transformers.cli.serving.chat_completion import ChatCompletionHandler
    from transformers.cli.serving.completion import CompletionHandler
    from transformers.cli.serving.model_manager import ModelManager, TimedModel
    from transformers.cli.serving.response import ResponseHandler
    from transformers.cli.serving.server import build_server
    from transformers.cli.serving.systemone import SystemOneHandler
    from transformers.cli.serving.transcription import TranscriptionHandler
    from transformers.cli.serving.utils import GenerationState

    class OneModel(ModelManager):
        """Holds the model for good, instead of loading what requests name."""

        def get_gen_models(self, cache_dir: str | None = None) -> list[dict]:
            return [{"id": name, "object": "model", "owned_by": "elysium", "created": started}]

    started = int(time.time())
    manager = OneModel(device=str(tracker.model.device), model_timeout=-1)
    manager.force_model = name
    manager.loaded_models[manager.process_model_name(name)] = TimedModel(
        tracker.model, timeout_seconds=-1, processor=tracker.processor
    )
    state = GenerationState()
    template: dict[str, Any] = {"num_frames": num_frames}
    app = build_server(
        manager,
        ChatCompletionHandler(manager, state, template),
        CompletionHandler(manager, state),
        ResponseHandler(manager, state, template),
        TranscriptionHandler(manager, state),
        SystemOneHandler(manager, state, template),
        state,
        enable_cors=cors,
    )

    async def refuse(request: Request, error: Exception) -> JSONResponse:
        """The form in which clients of OpenAI's API look for the reason."""
        status, reason = (error.status_code, error.detail) if isinstance(error, HTTPException) else (400, str(error))
        kind = "invalid_request_error" if status < 500 else "server_error"
        return JSONResponse({"error": {"message": reason, "type": kind}}, status_code=status)

    for refused in (HTTPException, ValueError, OSError, TemplateError):  # what is raised for pictures, videos, roles
        app.add_exception_handler(refused, refuse)
    return app
