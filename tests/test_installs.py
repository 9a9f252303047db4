"""A plain and an editable install work from inside a clone, from the folder that contains it, and from elsewhere."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from test_layout import FLOORS, copy_tree

# Every subpackage is found without being loaded; the trainer then loads most of them.
FOUND = f"""
import elysium, importlib.util
print(elysium.__file__, "Tracker" in dir(elysium))
print([name for name in {sorted(FLOORS.keys() - {"package"})} if not importlib.util.find_spec(f"elysium.{{name}}")])
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A copy of the repository in a folder named `elysium`, as `git clone` makes it, below a name with a space."""
    return copy_tree(tmp_path_factory.mktemp("clones") / "my folder" / "elysium")


@pytest.fixture(params=["wheel", "editable"])
def environment(request, clone: Path, tmp_path: Path) -> Path:
    """The `bin` of a virtual environment with this package installed; all others are those of the running Python."""
    venv.create(tmp_path / "venv", symlinks=True)
    bin_folder = tmp_path / "venv/bin"
    own = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv")}))
    # A folder named in a .pth file comes behind what is installed here, and its own .pth files are not read.
    (own / "zz_others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [sys.executable, "-m", "pip", "--python", str(bin_folder / "python"), "install", "--quiet", "--no-deps"]
    install += ["--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    install += ["--editable", str(clone)] if request.param == "editable" else [str(clone)]
    done = subprocess.run(install, env=surroundings(), cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return bin_folder


def surroundings() -> dict[str, str]:
    """The environment of a process that finds packages only where they are installed."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def test_the_package_is_found_from_every_folder(environment: Path, clone: Path, tmp_path: Path) -> None:
    seen = set()
    for folder in (clone, clone.parent, tmp_path):
        seen.add(run(["python", "-c", FOUND], environment, folder))
        assert "track" in run(["elysium", "--help"], environment, folder)
        assert "track" in run(["python", "-m", "elysium.cli", "--help"], environment, folder)
        assert "--lora_r" in run(["python", "-m", "elysium.training.sft", "--help"], environment, folder)
    (one,) = seen
    assert one.endswith("/elysium/__init__.py True\n[]\n")


def run(command: list[str], environment: Path, folder: Path) -> str:
    """What a command of the environment prints when it is started in a folder."""
    command = [str(environment / command[0]), *command[1:]]
    done = subprocess.run(command, cwd=folder, env=surroundings(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{folder}: {done.stderr[-2000:]}"
    return done.stdout
