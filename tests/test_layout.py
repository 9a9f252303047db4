"""The rules of CONTRIBUTING.md about folders, held against the files."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# They run from the root of a clone and are no part of the wheel.
CLONE_ONLY = {"benchmarks", "research", "tests"}
# Code may import what has its own number or a lower one.
FLOORS = {
    "checkpoints": 0,
    "modeling_elysium": 0,
    "processing": 0,
    "tracking": 1,
    "visualization": 1,
    "readers": 2,
    "cards": 3,
    "curation": 3,
    "evaluation": 3,
    "serving": 3,
    "spaces_demo": 3,
    "training": 3,
    "package": 4,
}
# huggingface_hub is what transformers' own configuration classes import; no transformers is without it.
HUB_LIBRARIES = {"torch", "numpy", "PIL", "av", "transformers", "tokenizers", "huggingface_hub"}
HUB_FILES_MAY_IMPORT = set(sys.stdlib_module_names) | HUB_LIBRARIES


def repository_files() -> list[str]:
    """Paths of all files of the repository: tracked, or new and not ignored."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return sorted({name for name in listed.stdout.splitlines() if (ROOT / name).is_file()})


def code_files() -> list[str]:
    """Paths of the Python files that make up the package; a checkpoint holds copies of some, for the Hub."""
    files = [name for name in repository_files() if name.endswith(".py") and name.split("/")[0] in FLOORS]
    return [name for name in files if not re.match(r"checkpoints/.+/", name)]


def copy_tree(tree: Path) -> Path:
    """Copies what an install needs of the repository into a folder, and returns it."""
    for name in repository_files():
        if name.split("/")[0] in FLOORS or "/" not in name:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tree / name)
    return tree


@cache
def pyproject() -> dict:
    """The content of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@cache
def imports_of(name: str) -> tuple[tuple[int, str], ...]:
    """The imports of a file, also those inside functions: the number of dots, and the module."""
    found = []
    for node in ast.walk(ast.parse((ROOT / name).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if module == "elysium" or not module:  # `from elysium import x`, `from . import x`
                found += [(node.level, f"{module}.{alias.name}".lstrip(".")) for alias in node.names]
            else:
                found.append((node.level, module))
    return tuple(found)


def test_every_top_level_folder_with_code_has_its_place_in_the_layout() -> None:
    folders = {name.split("/")[0] for name in repository_files() if name.endswith(".py") and "/" in name}
    assert folders - CLONE_ONLY <= set(FLOORS)


def test_every_folder_with_code_is_a_subpackage_in_pyproject() -> None:
    folders = {str(Path(name).parent) for name in code_files()}
    wanted = {"elysium" if f == "package" else "elysium." + f.replace("/", "."): f for f in folders}
    settings = pyproject()["tool"]["setuptools"]
    assert settings["package-dir"] == {**settings["package-dir"], **wanted}
    assert sorted(settings["packages"]) == sorted(settings["package-dir"])


def test_imports_point_one_way() -> None:
    wrong = []
    for name in code_files():
        own = name.split("/")[0]
        for dots, module in imports_of(name):
            parts = module.split(".")
            if dots or parts[0] != "elysium" or module == "elysium":  # the bare name loads nothing
                continue
            other = parts[1] if len(parts) > 1 and parts[1] in FLOORS else "package"
            upwards = FLOORS[other] > FLOORS[own]
            # The model itself needs no processor; only the folders that are written for a model have one.
            model_to_processor = own == "modeling_elysium" and other == "processing" and "_weights" not in name
            if upwards or model_to_processor or (own == "processing" and other == "modeling_elysium"):
                wrong.append(f"{name} imports {module}")
    assert not wrong


def module_of(name: str) -> str:
    """The name that a file of the package is imported by."""
    parts = Path(name.removeprefix("package/")).with_suffix("").parts
    return ".".join(("elysium", *parts[: -1 if parts[-1] == "__init__" else None]))


def absolute_imports(name: str) -> set[str]:
    """Modules that a file names: imported anywhere in it, or written as a string for a lazy import."""
    module = module_of(name)
    own = module if name.endswith("__init__.py") else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse((ROOT / name).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, (own if node.level else "", node.module)))
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {node.value, f"elysium.{node.value}"}
    return found


def test_every_packaged_module_is_reachable_from_a_public_name_a_command_or_a_documented_module() -> None:
    modules = {module_of(name): name for name in code_files()}
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    documented = set(re.findall(r"-m (elysium[\w.]+)", "\n".join(page.read_text("utf-8") for page in pages)))
    # A Space starts its app.py by itself.
    waiting = {
        "elysium",
        "elysium.__main__",
        "elysium.cli",
        "elysium.registration",
        "elysium.spaces_demo.app",
        *documented,
    }
    reached: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in modules and module not in reached:
            reached.add(module)
            waiting |= absolute_imports(modules[module]) | {module.rpartition(".")[0]}
    assert not sorted(set(modules) - reached)


def test_nothing_in_the_package_imports_what_only_a_clone_has() -> None:
    names = [(name, module) for name in code_files() for _, module in imports_of(name)]
    assert not [f"{name} imports {module}" for name, module in names if module.split(".")[0] in CLONE_ONLY]


def test_dots_stay_inside_a_folder() -> None:
    wrong = []
    for name in code_files():
        for dots, module in imports_of(name):
            sibling = ROOT / Path(name).parent / module.split(".")[0]
            if dots > 1 or (dots == 1 and not sibling.with_suffix(".py").exists() and not sibling.is_dir()):
                wrong.append(f"{name} imports {'.' * dots}{module}")
    assert not wrong


def test_folders_are_not_imported_as_top_level_modules() -> None:
    folders = set(FLOORS) - {"package"}  # benchmarks and research are imported from the root of a clone
    wrong = [
        f"{name} imports {module}"
        for name in repository_files()
        if name.endswith(".py")
        for dots, module in imports_of(name)
        if not dots and module.split(".")[0] in folders
    ]
    assert not wrong


def test_hub_files_import_only_what_a_hub_folder_has() -> None:
    hub_files = [name for name in code_files() if name.endswith("_elysium.py")]
    assert len(hub_files) >= 4
    wrong = []
    for name in hub_files:
        for dots, module in imports_of(name):
            allowed = module.split(".")[0] in HUB_FILES_MAY_IMPORT if not dots else module.endswith("_elysium")
            flat = dots == 0 or (dots == 1 and "." not in module)
            if not allowed or not flat:
                wrong.append(f"{name} imports {'.' * dots}{module}")
    assert not wrong


def test_the_code_beside_a_shipped_checkpoint_is_that_of_the_tree() -> None:
    sources = {Path(name).name: ROOT / name for name in code_files()}
    copies = [name for name in repository_files() if re.match(r"checkpoints/.+/.+_elysium\.py$", name)]
    assert not [name for name in copies if (ROOT / name).read_bytes() != sources[Path(name).name].read_bytes()]


def test_base_names_of_files_that_lie_flat_are_unique() -> None:
    flat = [n for n in code_files() if n.endswith("_elysium.py")]  # in a checkpoint's folder they have no folders
    for names in (flat, [n for n in repository_files() if n.startswith("tests/") and n.endswith(".py")]):
        counts = Counter(Path(name).name for name in names if not name.endswith("conftest.py"))
        assert not [name for name, count in counts.items() if count > 1]


def test_tests_stand_in_folders_that_mirror_the_code() -> None:
    folders = {name.split("/")[1] for name in repository_files() if re.match(r"tests/.+/test_.*\.py$", name)}
    assert (
        folders - {"shared_transformers"} <= set(FLOORS) | CLONE_ONLY
    )  # transformers' own tests have no folder of ours to mirror


def test_every_direct_dependency_has_a_tested_version() -> None:
    project = pyproject()["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = {re.split(r"[\[>=<~! ]", item)[0].lower() for group in groups for item in group} - {project["name"]}
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if line[:1] not in ("", "#")]
    assert all(re.fullmatch(r"[a-z0-9_-]+==[0-9][0-9a-z.]*", line) for line in lines)
    assert {line.split("==")[0] for line in lines} == wanted


def test_the_lowest_versions_that_are_tested_are_the_lower_bounds() -> None:
    bounds = [re.fullmatch(r"([a-z]+)>=([0-9.]+)", item) for item in pyproject()["project"]["dependencies"]]
    lines = [line for line in (ROOT / "constraints-lowest.txt").read_text("utf-8").splitlines() if line[:1] != "#"]
    assert all(bounds)
    assert sorted(lines) == sorted(f"{bound[1]}=={bound[2]}" for bound in bounds)


def test_no_file_names_a_place_on_one_machine() -> None:
    place = re.compile(rb"(?<![\w.])/(?:work|root|home/\w+|Users/\w+)/|\.\./" + rb"shared\b")
    wrong = [name for name in repository_files() if place.search((ROOT / name).read_bytes())]
    assert not wrong


def test_the_wheel_holds_what_the_tree_holds(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(tmp_path), str(tree)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in shipped} == {"elysium"}
    mapped = {name for name in repository_files() if name.split("/")[0] in FLOORS and not left_out(name)}
    assert shipped == {"elysium/" + name.removeprefix("package/") for name in mapped}


def left_out(name: str) -> bool:
    """Whether a file of a mapped folder is for the repository only: notes beside the code, and elysium-tiny."""
    notes = name.endswith(".md") and not name.startswith("checkpoints/")
    return notes or name.startswith("checkpoints/elysium-tiny/")
