"""The Space: `python app.py` beside the installed package, or `elysium demo`.

ELYSIUM_MODELS names the checkpoints to choose from, with commas between; elysium-tiny comes with the package.
"""

import os
from contextlib import suppress

from elysium.spaces_demo.demo_server import serve_demo, wait_for_the_end


def main() -> None:
    """Serves the page until it is interrupted."""
    models = [name.strip() for name in os.environ.get("ELYSIUM_MODELS", "elysium-tiny").split(",") if name.strip()]
    with suppress(KeyboardInterrupt), serve_demo(models) as address:
        print(f"Elysium is at {address}", flush=True)
        wait_for_the_end()


if __name__ == "__main__":
    main()
