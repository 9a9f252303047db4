"""Entry point of the Space: `python app.py`, with the package installed.

ELYSIUM_MODELS is a comma-separated list of checkpoints to choose from; by default the one in the package.
"""

import os
from contextlib import suppress

from elysium.spaces_demo.server import serve_demo, wait_for_interrupt
from elysium.tracking.checkpoints import DEFAULT_MODEL


def main() -> None:
    """Serve the page until interrupted."""
    models = [name.strip() for name in os.environ.get("ELYSIUM_MODELS", DEFAULT_MODEL).split(",") if name.strip()]
    with suppress(KeyboardInterrupt), serve_demo(models) as address:
        print(f"Elysium is at {address}", flush=True)
        wait_for_interrupt()


if __name__ == "__main__":
    main()
