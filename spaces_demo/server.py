"""Serve the page: port, queue, middleware, and a temporary folder for visitors' files."""

import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from .components import EXAMPLES
from .limits import Limits
from .middleware import RequestFilter
from .models import ModelRegistry
from .page import Page, build_page
from .visitor_queue import Listeners, use_visitor_queue

CSS = """
.gradio-container { max-width: 1180px !important; margin: 0 auto !important; }
.state { margin: 0; padding: 6px 12px; border-radius: 8px; background: var(--background-fill-secondary);
  border-left: 4px solid var(--color-accent); color: var(--body-text-color); }
.state.loading { border-left-color: #d97706; }
.state.failed { border-left-color: #dc2626; }
.summary { list-style: none; padding: 0; margin: 0; color: var(--body-text-color); }
.summary .dot { display: inline-block; width: 12px; height: 12px; border-radius: 50%; margin-right: 8px; }
.note { color: var(--body-text-color); border-left: 4px solid #d97706; padding-left: 10px; }
#video video, #image img { max-height: 320px; }
#boxes .html-container, #live .html-container, #summary .html-container { padding: 0; }
.limits { font-size: 13px; color: var(--body-text-color-subdued); }
"""
# System fonts, so that nothing is fetched from other hosts.
SANS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "monospace"]
SPARE_UPLOAD_BYTES = 100_000  # the rest of an upload's form


class PortError(OSError):
    """The page cannot be served at the address."""


@contextmanager
def serve_demo(
    models: Sequence[str],
    *,
    host: str | None = None,
    port: int | None = None,
    device: str | None = None,
    open_browser: bool = False,
    limits: Limits | None = None,
) -> Iterator[str]:
    """Serve the page while the block runs, and yield its URL; visitors' files are removed at the end.

    Args:
        models: names to choose from; the first is loaded at once, in the background.
        host: address to listen on; by default GRADIO_SERVER_NAME, else this machine only.
        port: port to listen on; by default GRADIO_SERVER_PORT, else the first free port from 7860.
        device: device of the models; by default a GPU if available.
        open_browser: whether to open the page in a browser.
        limits: limits of requests.

    Raises:
        PortError: the address is taken, or does not belong to this machine.
    """
    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="elysium-demo-", ignore_cleanup_errors=True) as folder:
        cache, work = Path(folder) / "cache", Path(folder) / "work"
        cache.mkdir()
        work.mkdir()
        with _environment(GRADIO_TEMP_DIR=str(cache), GRADIO_ANALYTICS_ENABLED="False"):
            registry = ModelRegistry(models, device=device)
            blocks = build_page(Page(registry, limits, work))
            listeners = Listeners()
            use_visitor_queue(blocks, limits, listeners)
            try:
                middleware = _middleware(limits, cache, listeners)
                address = _launch(blocks, limits, middleware, host=host, port=port, open_browser=open_browser)
                registry.start()
                yield address
            finally:
                blocks.close(verbose=False)


def wait_for_interrupt() -> None:
    """Wait in the main thread for Ctrl+C or SIGTERM.

    Raises:
        KeyboardInterrupt: on either, so that open files and folders are closed.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Event().wait()


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set environment variables that Gradio reads while the block runs."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _launch(
    blocks: gr.Blocks,
    limits: Limits,
    middleware: Middleware,
    *,
    host: str | None,
    port: int | None,
    open_browser: bool,
) -> str:
    """Launch the page and return its URL."""
    try:
        _, address, _ = blocks.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            show_error=True,
            ssr_mode=False,
            enable_monitoring=False,
            run_history=False,
            footer_links=["api", "settings"],
            max_file_size=limits.video_mb * 1_000_000,
            state_session_capacity=200,
            allowed_paths=[str(EXAMPLES[0].path.parent)],
            app_kwargs={"middleware": [middleware]},
            theme=gr.themes.Soft(primary_hue="cyan", neutral_hue="slate", font=SANS, font_mono=MONO),
            css=CSS,
        )
    except OSError as error:
        raise PortError(
            f"host and port must be free on this machine, got {host or 'the default'}:{port or 'the default'}; "
            "choose others"
        ) from error
    return address


def _middleware(limits: Limits, kept: Path, listeners: Listeners) -> Middleware:
    upload_bytes = limits.video_mb * 1_000_000 + SPARE_UPLOAD_BYTES
    kept_bytes = limits.kept_mb * 1_000_000
    return Middleware(RequestFilter, upload_bytes=upload_bytes, kept_bytes=kept_bytes, kept=kept, listeners=listeners)
