"""The checkpoints that come with the package, found by name."""

from pathlib import Path

DEFAULT = "elysium-tiny"


def find_checkpoint(name: str | Path) -> str | Path:
    """The folder of a checkpoint that comes with the package; any other name is returned as it is.

    A folder of that name in the working directory wins.

    >>> find_checkpoint("elysium-tiny").parts[-2:]
    ('checkpoints', 'elysium-tiny')
    >>> find_checkpoint("someone/elysium-7b")
    'someone/elysium-7b'
    """
    if name != DEFAULT or Path(name).is_dir():
        return name
    return Path(__file__).parent / DEFAULT
