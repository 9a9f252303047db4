"""The page behind a port: queue, limits, a folder of its own for visitors' files, and the model loading meanwhile."""

import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from .demo_examples import EXAMPLES
from .demo_gate import Gate
from .demo_limits import Limits
from .demo_models import ModelShelf
from .demo_page import Page, build_page
from .demo_queue import Listeners, use_visitor_queue

CSS = """
.gradio-container { max-width: 1180px !important; margin: 0 auto !important; }
.state { margin: 0; padding: 6px 12px; border-radius: 8px; background: var(--background-fill-secondary);
  border-left: 4px solid var(--color-accent); color: var(--body-text-color); }
.state.loading { border-left-color: #d97706; }
.state.failed { border-left-color: #dc2626; }
.summary { list-style: none; padding: 0; margin: 0; color: var(--body-text-color); }
.summary .dot { display: inline-block; width: 12px; height: 12px; border-radius: 50%; margin-right: 8px; }
.note { color: var(--body-text-color); border-left: 4px solid #d97706; padding-left: 10px; }
#video video, #picture img { max-height: 320px; }
#boxes .html-container, #live .html-container, #summary .html-container { padding: 0; }
.limits { font-size: 13px; color: var(--body-text-color-subdued); }
"""
# Fonts of the visitor's own system: nothing is fetched from elsewhere.
SANS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "monospace"]
SPARE_UPLOAD_BYTES = 100_000  # what stands round a file in its form


class PortError(OSError):
    """The page cannot be served at an address."""


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
    """Serves the page while the block runs, and gives its address; visitors' files are removed at the end.

    Args:
        models: names that a visitor may choose from; the first is loaded at once, behind the page.
        host: address to listen at; by default this machine alone, or what GRADIO_SERVER_NAME says.
        port: by default the first free one from 7860 on, or what GRADIO_SERVER_PORT says.
        device: of the models; by default a GPU where there is one.
        open_browser: whether to open the page.
        limits: of requests.

    Raises:
        PortError: the address is taken, or none of this machine.
    """
    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="elysium-demo-", ignore_cleanup_errors=True) as folder:
        cache, work = Path(folder) / "cache", Path(folder) / "work"
        cache.mkdir()
        work.mkdir()
        with _environment(GRADIO_TEMP_DIR=str(cache), GRADIO_ANALYTICS_ENABLED="False"):
            shelf = ModelShelf(models, device=device)
            blocks = build_page(Page(shelf, limits, work))
            listeners = Listeners()
            use_visitor_queue(blocks, limits, listeners)
            try:
                gate = _gate(limits, cache, listeners)
                address = _launch(blocks, limits, gate, host=host, port=port, open_browser=open_browser)
                shelf.start()
                yield address
            finally:
                blocks.close(verbose=False)


def wait_for_the_end() -> None:
    """Waits in the main thread for Ctrl+C, or for the signal by which a platform stops a program.

    Raises:
        KeyboardInterrupt: at either, so that what is open is closed.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Event().wait()


@contextmanager
def _environment(**wanted: str) -> Iterator[None]:
    """Variables that Gradio reads, for as long as the block runs."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _launch(
    blocks: gr.Blocks, limits: Limits, gate: Middleware, *, host: str | None, port: int | None, open_browser: bool
) -> str:
    """Opens the port, and gives the page's address."""
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
            app_kwargs={"middleware": [gate]},
            theme=gr.themes.Soft(primary_hue="cyan", neutral_hue="slate", font=SANS, font_mono=MONO),
            css=CSS,
        )
    except OSError as error:
        raise PortError(
            f"host and port must be free on this machine, got {host or 'the default'}:{port or 'the default'}; "
            "choose others"
        ) from error
    return address


def _gate(limits: Limits, kept: Path, listeners: Listeners) -> Middleware:
    upload_bytes = limits.video_mb * 1_000_000 + SPARE_UPLOAD_BYTES
    kept_bytes = limits.kept_mb * 1_000_000
    return Middleware(Gate, upload_bytes=upload_bytes, kept_bytes=kept_bytes, kept=kept, listeners=listeners)
