"""`elysium serve`: chat requests with images and videos over HTTP, as OpenAI's API takes them."""

import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .console import load_tracker, require, say

if TYPE_CHECKING:
    from fastapi import FastAPI

    from elysium.tracking.tracker import Tracker

KEY_VARIABLE = "ELYSIUM_API_KEY"
# Python's threads hand over after 5 ms by default; the event loop waits for its turn several times in each answer.
SWITCH_S = 0.001


def run_serve(
    model: str,
    *,
    host: str,
    port: int,
    device: str | None,
    num_frames: int | None,
    cors: bool,
    allow_paths: Sequence[Path],
    allow_urls: Sequence[str],
    api_key: str | None,
) -> None:
    """Load the model and answer requests until interrupted."""
    for module in ("fastapi", "uvicorn"):
        require(module, extra="serve")
    _check_port(host, port)
    if api_key is not None and not (api_key and api_key.isascii() and api_key.isprintable()):
        raise typer.BadParameter("an API key must be printable ASCII, got something else", param_hint="--api-key")
    tracker = load_tracker(model, device)
    import uvicorn

    app = build_app(
        tracker,
        model,
        num_frames=num_frames,
        cors=cors,
        allow_paths=tuple(allow_paths),
        allow_urls=tuple(allow_urls),
        api_key=api_key,
    )
    sys.setswitchinterval(SWITCH_S)
    say(f"Answering for {model} at http://{host}:{port}/v1 (stop with Ctrl+C)")
    uvicorn.run(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=5)


def _check_port(host: str, port: int) -> None:
    """Check that the address is free, before a large model is loaded for nothing.

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


def build_app(tracker: "Tracker", name: str, **options: Any) -> "FastAPI":
    """Return the application; the options are those of `elysium.serving.chat_app.build_app`."""
    from elysium.serving.chat_app import build_app as build

    return build(tracker, name, **options)
