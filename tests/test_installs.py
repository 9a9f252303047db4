"""A plain and an editable install work from inside a clone, from the folder that contains it, and from elsewhere; and
a plain one tracks where only its own requirements are installed, none of the extras."""

import os
import shlex
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from code_blocks import code_blocks
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_docs import INSTALLING, ROOT, commands
from test_layout import FLOORS, copy_tree

from elysium.processing.structures import load_tracking_result

pytestmark = pytest.mark.slow
OTHERS = "zz_others.pth"
SHAPES = Path(__file__).parent / "fixtures" / "media" / "shapes.mp4"
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
    install(tmp_path / "venv", ["--editable", str(clone)] if request.param == "editable" else [str(clone)])
    return tmp_path / "venv" / "bin"


@pytest.fixture
def bare_environment(clone: Path, tmp_path: Path) -> Path:
    """The `bin` of a virtual environment with this package and what it requires without extras, and nothing else."""
    own = install(tmp_path / "venv", [str(clone)])
    (own / OTHERS).unlink()
    for package in requirements("elysium-vlm", {}, own).values():
        for name in {file.parts[0] for file in package.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            if not (own / name).exists():
                (own / name).symlink_to(package.locate_file(name))
    return tmp_path / "venv" / "bin"


def install(folder: Path, what: list[str]) -> Path:
    """Make a virtual environment that finds the packages of the running Python, and install into it.

    Returns:
        The folder of its own packages.
    """
    venv.create(folder, symlinks=True)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    # A folder named in a .pth file comes behind what is installed here, and its own .pth files are not read.
    (own / OTHERS).write_text(sysconfig.get_path("purelib") + "\n")
    command = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--no-index", "--disable-pip-version-check", *what]
    done = subprocess.run(command, env=surroundings(), cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return own


def requirements(name: str, found: dict[str, Distribution], own: Path) -> dict[str, Distribution]:
    """Return the installed packages that a package requires without extras, and those that they require."""
    places = [str(own)] if not found else sys.path
    for package in Distribution.discover(name=name, path=places):
        found[canonicalize_name(name)] = package
        break
    else:
        return found  # one of several that give the same module, such as OpenCV's, and another is here
    for line in package.requires or []:
        requirement = Requirement(line)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and canonicalize_name(requirement.name) not in found:
            requirements(requirement.name, found, own)
    return found


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


def test_a_plain_install_without_extras_tracks_and_names_the_extra_for_the_rest(
    bare_environment: Path, clone: Path, tmp_path: Path
) -> None:
    extras = "trl", "peft", "datasets", "gradio", "fastapi"
    found = f"import importlib.util; print([name for name in {extras} if importlib.util.find_spec(name)])"
    assert run(["python", "-c", found], bare_environment, tmp_path) == "[]\n"
    words = ["--text", "the red cross", "--boxes", "a.json", "--output", "a.mp4", "--sheet", "a.png"]
    run(["elysium", "track", str(SHAPES), *words], bare_environment, tmp_path)
    assert load_tracking_result(tmp_path / "a.json").complete
    assert (tmp_path / "a.mp4").stat().st_size and (tmp_path / "a.png").stat().st_size
    remedy = f"pip install -c '{clone}/constraints.txt' '{clone}[%s]'"
    for command, extra in (
        (["elysium", "demo"], "demo"),
        (["elysium", "serve"], "serve"),
        (["elysium", "synth", "clips"], "synth"),
        (["elysium", "train", "cpu"], "train"),
        (["elysium", "curate", ".", "out"], "curate"),
        (["elysium", "evaluate", "lasot", "--data", ".", "--output", "out"], "eval"),
        (["python", "-m", "elysium.training.sft", "--help"], "train"),
        (["python", "-m", "elysium.training.grpo", "--help"], "train"),
    ):
        done = start(command, bare_environment, tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("Error: ") and remedy % extra in line


def test_the_quick_start_runs_where_only_its_extra_is_installed(
    bare_environment: Path, clone: Path, tmp_path: Path
) -> None:
    own = Path(sysconfig.get_path("purelib", vars={"base": str(bare_environment.parent)}))
    others = Path(sysconfig.get_path("purelib"))
    for name in ("cv2", "opencv_contrib_python_headless.libs"):
        (own / name).symlink_to(others / name)
    work = tmp_path / "work"
    work.mkdir()
    for name in ("checkpoints", "tests"):
        (work / name).symlink_to(ROOT / name)
    program = ""
    for block in code_blocks((ROOT / "docs" / "quick_start.md").read_text("utf-8")):
        if block.language == "python":
            program += block.text
        else:
            for line in commands(block):
                if not line.startswith(INSTALLING):
                    run(shlex.split(line), bare_environment, work)
    assert "frames have a box" in run(["python", "-c", program], bare_environment, work)
    run(["elysium", "data", "check", "clips", "--source", "elysium-track"], bare_environment, work)


def run(command: list[str], environment: Path, folder: Path) -> str:
    """What a command of the environment prints when it is started in a folder."""
    done = start(command, environment, folder)
    assert done.returncode == 0, f"{folder}: {done.stderr[-2000:]}"
    return done.stdout


def start(command: list[str], environment: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the environment in a folder."""
    command = [str(environment / command[0]), *command[1:]]
    return subprocess.run(command, cwd=folder, env=surroundings(), capture_output=True, text=True, timeout=600)
