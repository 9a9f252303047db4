"""Prepare a Space for the Hub: its files, this package as a wheel beside them, and requirements that name the wheel.

A Space's builder sees `requirements.txt` alone while it installs, so the wheel is named there by its address in the
Space, with its hash: a changed wheel is then installed anew, and a damaged one refused.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

DISTRIBUTION = "elysium-vlm"
WHEEL = "elysium_vlm-*.whl"
ROOT = Path(__file__).resolve().parent.parent  # of a checkout; the package's own folder once it is installed
_NOT_COPIED = shutil.ignore_patterns("__pycache__", ".*")
_BUILD_FILES = ("pyproject.toml", "README.md", "LICENSE")
_BUILD_TIMEOUT_S = 600


class SpaceError(ValueError):
    """Raised for a Space that cannot be prepared; the message says why and what to do."""


def stage_space(source: Path, out: Path, *, address: str | None = None) -> Path:
    """Copy a Space into `out`, add the wheel and name it in `requirements.txt`.

    A wheel in `source` is used as it is; where the requirements name the package by an address of their own, none is
    added.

    Args:
        source: the Space's folder.
        out: a new folder.
        address: of the Space's files on the Hub, without the file's name; None for a Space that runs locally, whose
            wheel is named by its path.

    Returns:
        `out`.

    Raises:
        SpaceError: the wheel cannot be built.
    """
    shutil.copytree(source, out, ignore=_NOT_COPIED, dirs_exist_ok=True)
    requirements = out / "requirements.txt"
    lines = requirements.read_text("utf-8").splitlines() if requirements.is_file() else []
    place, asked = _own_requirement(lines)
    if asked is not None and asked.url:
        return out
    wheel = next(iter(sorted(out.glob(WHEEL))), None) or build_wheel(out)
    extras = f"[{','.join(sorted(asked.extras))}]" if asked is not None and asked.extras else ""
    if address is None:
        line = f"./{wheel.name}{extras}"
    else:
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        line = f"{DISTRIBUTION}{extras} @ {address}/{wheel.name}#sha256={digest}"
    lines[place : place + (asked is not None)] = [line]
    requirements.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return out


def ships_wheel(source: Path) -> bool:
    """Return whether a Space ships this package as a wheel, rather than name an address of its own."""
    requirements = source / "requirements.txt"
    _, asked = _own_requirement(requirements.read_text("utf-8").splitlines() if requirements.is_file() else [])
    return asked is None or not asked.url


def _own_requirement(lines: list[str]) -> tuple[int, Requirement | None]:
    """Return the line that requires this package, by name or as a wheel, and the requirement; (end, None) without."""
    for number, line in enumerate(lines):
        stated = re.sub(r"(^|\s)#.*", "", line).strip()
        stated = re.sub(r"^(\./)?elysium_vlm-[\w.]+-[\w.-]+\.whl", DISTRIBUTION, stated)
        try:
            found = Requirement(stated)
        except InvalidRequirement:
            continue
        if re.sub(r"[-_.]+", "-", found.name).lower() == DISTRIBUTION:
            return number, found
    return len(lines), None


def build_wheel(out: Path) -> Path:
    """Build this package's wheel into a folder, the same bytes from the same files.

    Raises:
        SpaceError: this is no checkout, or the build fails.
    """
    if not (ROOT / "pyproject.toml").is_file():
        raise SpaceError(
            f"a Space's wheel must be built from a checkout of the project, got an installed package in {ROOT}; run "
            f"this in a checkout (pip install -e .), or put its {WHEEL} into the Space's folder"
        )
    folders = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["package-dir"]
    with tempfile.TemporaryDirectory() as temporary:
        tree = Path(temporary)  # builds leave files behind, and would take up those of older ones
        for name in _BUILD_FILES:
            shutil.copy2(ROOT / name, tree / name)
        for folder in {name.split("/")[0] for name in folders.values()}:
            shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__", "results"))
        options = ["--no-deps", "--disable-pip-version-check", "--quiet", "--wheel-dir", str(out)]
        if find_spec("setuptools") is not None:
            options += ["--no-build-isolation", "--no-index"]  # else pip fetches it
        done = subprocess.run(
            [sys.executable, "-m", "pip", "wheel", *options, str(tree)],
            env=os.environ | {"SOURCE_DATE_EPOCH": "315532800"},  # 1980, the first date that an archive can hold
            capture_output=True,
            text=True,
            timeout=_BUILD_TIMEOUT_S,
        )
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise SpaceError(
            f"the wheel must be built by pip wheel, got {reason!r}; pip install 'setuptools>=77' pip, or put a "
            f"{WHEEL} into the Space's folder"
        )
    return next(iter(sorted(out.glob(WHEEL))))
