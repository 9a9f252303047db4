"""Extras of this package: the command that installs one, and the error of a program that needs it."""

import json
import shlex
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urlsplit

PACKAGE = "elysium-vlm"


def install_command(extra: str) -> str:
    """Return the command that adds an extra to this install: from the clone or the wheel that it came from.

    Args:
        extra: one of `[project.optional-dependencies]` in pyproject.toml.
    """
    try:
        origin = json.loads(distribution(PACKAGE).read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        origin = {}
    return command_from(origin, extra)


def missing_extra(error: ImportError, module: str, *, extra: str) -> NoReturn:
    """Raise what an import of a missing package means to a user; end a program by that one line.

    Args:
        error: of the import.
        module: `__name__` of the module that imports.
        extra: what the package comes with.

    Raises:
        ImportError: the module is not the program.
    """
    message = f"training needs {error.name}, got no such package; {install_command(extra)}"
    if module == "__main__":
        sys.exit(f"Error: {message}")
    raise ImportError(message, name=error.name) from error


def command_from(origin: dict, extra: str) -> str:
    """Return the command for an install whose `direct_url.json` (PEP 610) is given; empty where an index gave it.

    >>> command_from({}, "train")
    "pip install 'elysium-vlm[train]'"
    >>> command_from({"url": "file:///tmp/elysium_vlm-0.1.0-py3-none-any.whl", "archive_info": {}}, "train")
    "pip install 'elysium-vlm[train] @ file:///tmp/elysium_vlm-0.1.0-py3-none-any.whl'"
    """
    url, repository = origin.get("url"), origin.get("vcs_info")
    if url is None:
        return f"pip install {shlex.quote(f'{PACKAGE}[{extra}]')}"
    if "dir_info" not in origin:
        place = f"{repository['vcs']}+{url}@{repository['commit_id']}" if repository else url
        return f"pip install {shlex.quote(f'{PACKAGE}[{extra}] @ {place}')}"
    clone = Path(unquote(urlsplit(url).path))
    constraints = clone / "constraints.txt"
    words = ["pip", "install"]
    words += ["-c", str(constraints)] if constraints.is_file() else []
    words += ["-e"] if origin["dir_info"].get("editable") else []
    return shlex.join([*words, f"{clone}[{extra}]"])
