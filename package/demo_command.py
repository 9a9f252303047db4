"""`elysium demo`: serve the web page of `spaces_demo/` on this machine."""

from typing import Annotated

import typer

from elysium.tracking.checkpoints import DEFAULT_MODEL

from .arguments import DeviceOption, HostOption, PortOption
from .console import check_model, quiet_transformers, require, say


def demo(
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR_OR_ID", help=f"Checkpoint to offer; repeat it for several. Default: {DEFAULT_MODEL}."
        ),
    ] = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 7860,
    public: Annotated[
        bool, typer.Option("--public", help="Limit files, videos and computation, for a page that strangers use.")
    ] = False,
    browser: Annotated[bool, typer.Option("--browser", help="Open the page in a browser.")] = False,
    device: DeviceOption = None,
) -> None:
    """Open the web page to track, ground, describe and ask with the mouse, on this machine.

    Needs the extra `demo`.
    """
    require("gradio", extra="demo")
    models = model or [DEFAULT_MODEL]
    for name in models:
        check_model(name, device)
    quiet_transformers()
    from elysium.spaces_demo.limits import OWN_MACHINE, Limits
    from elysium.spaces_demo.server import PortError, serve_demo, wait_for_interrupt

    limits = Limits() if public else OWN_MACHINE
    try:
        with serve_demo(models, host=host, port=port, device=device, open_browser=browser, limits=limits) as address:
            say(f"The page is at {address} (stop with Ctrl+C)")
            wait_for_interrupt()
    except PortError as error:
        raise typer.BadParameter(str(error), param_hint="--port") from error
