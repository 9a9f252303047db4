"""A Space as it goes to a hub: its files, this package as a wheel beside them, and requirements that name the wheel.

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

from huggingface_hub import SpaceCard
from packaging.requirements import InvalidRequirement, Requirement

DISTRIBUTION = "elysium-vlm"
WHEEL = "elysium_vlm-*.whl"
ROOT = Path(__file__).resolve().parent.parent  # of a checkout; the package's own folder once it is installed
_NOT_COPIED = shutil.ignore_patterns("__pycache__", ".*")
_BUILD_FILES = ("pyproject.toml", "README.md", "LICENSE")
_BUILD_TIMEOUT_S = 600


class SpaceError(ValueError):
    """A Space cannot be made ready; the message says why and what to do."""


def space_problems(folder: Path) -> list[str]:
    """Everything that is wrong with a Space's folder, each in a few words; its card is looked at elsewhere."""
    problems = [f"no {name}" for name in ("requirements.txt",) if not (folder / name).is_file()]
    try:
        data = SpaceCard.load(folder / "README.md").data
    except (OSError, ValueError):
        return problems  # the check of the card says so
    if data.sdk is None:
        problems.append("no sdk in the head of README.md (such as sdk: gradio)")
    app = data.app_file or "app.py"
    if not (folder / app).is_file():
        problems.append(f"no {app}, which README.md names as app_file" if data.app_file else "no app.py")
    return problems


def stage_space(source: Path, out: Path, *, address: str | None = None) -> Path:
    """Copies a Space into `out`, adds the wheel and names it in `requirements.txt`.

    A wheel that stands in `source` is used as it is; where the requirements name the package by an address of their
    own, none is added.

    Args:
        source: the Space's folder.
        out: a new folder.
        address: of the folder on the hub, without the file's name; None for a folder that is to run where it stands:
            the wheel is then named by its path.

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
    """Whether a Space brings this package along, rather than name an address of its own."""
    requirements = source / "requirements.txt"
    _, asked = _own_requirement(requirements.read_text("utf-8").splitlines() if requirements.is_file() else [])
    return asked is None or not asked.url


def _own_requirement(lines: list[str]) -> tuple[int, Requirement | None]:
    """Where this package is named, by its name or as a wheel beside the file; behind the last line where it is not."""
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
    """Builds this package's wheel into a folder, the same bytes from the same files.

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
