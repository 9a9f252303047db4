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
        limits: limits of requests; by default those of a public page.

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
            request_filter = Middleware(
                RequestFilter,
                upload_bytes=limits.file_mb * 1_000_000 + SPARE_UPLOAD_BYTES,
                kept_bytes=limits.kept_mb * 1_000_000,
                kept=cache,
                listeners=listeners,
            )
            try:
                address = _launch(blocks, limits, request_filter, host, port, inbrowser=open_browser)
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


def _theme() -> gr.themes.Default:
    """Return Gradio's default theme in blue, with texts of at least 4.5:1 contrast and the system's fonts."""
    theme = gr.themes.Default(primary_hue="blue", neutral_hue="slate", font=SANS, font_mono=MONO)
    return theme.set(
        body_text_color_subdued="*neutral_600",
        link_text_color_dark="*secondary_400",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
    )


def _launch(
    blocks: gr.Blocks, limits: Limits, middleware: Middleware, host: str | None, port: int | None, *, inbrowser: bool
) -> str:
    """Launch the page and return its URL."""
    try:
        _, address, _ = blocks.launch(
            server_name=host,
            server_port=port,
            inbrowser=inbrowser,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            show_error=True,
            ssr_mode=False,
            enable_monitoring=False,
            run_history=False,
            footer_links=["api", "settings"],
            max_file_size=limits.file_mb * 1_000_000,
            state_session_capacity=200,
            allowed_paths=[str(EXAMPLES[0].path.parent)],
            app_kwargs={"middleware": [middleware]},
            theme=_theme(),
            css_paths=Path(__file__).with_name("page.css"),
        )
    except OSError as error:
        raise PortError(
            f"host and port must be free on this machine, got {host or 'the default'}:{port or 'the default'}; "
            "choose others"
        ) from error
    return address
