"""Run the command line by ``python -m elysium``, as under `accelerate launch`."""

from .cli import main

if __name__ == "__main__":
    main()
