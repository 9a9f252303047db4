"""`elysium demo`: serve the web page of `spaces_demo/` on this machine."""

import typer

from .console import require, say


def run_demo(models: list[str], *, host: str, port: int, device: str | None, open_browser: bool) -> None:
    """Serve the page until interrupted.

    Raises:
        typer.BadParameter: the port is taken.
        ValueError: Gradio is not installed.
    """
    require("gradio", extra="demo")
    from elysium.spaces_demo.server import PortError, serve_demo, wait_for_interrupt

    try:
        with serve_demo(models, host=host, port=port, device=device, open_browser=open_browser) as address:
            say(f"The page is at {address} (stop with Ctrl+C)")
            wait_for_interrupt()
    except PortError as error:
        raise typer.BadParameter(str(error), param_hint="--port") from error
