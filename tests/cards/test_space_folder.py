"""A Space as it goes to the Hub: the wheel beside it, and requirements that name it."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from huggingface_hub import constants

from elysium import cli
from elysium.cards import render_card, space_folder
from elysium.cards.folder_checks import space_problems
from elysium.cards.space_folder import SpaceError, build_wheel, stage_space
from elysium.tracking.checkpoints import DEFAULT_MODEL

ADDRESS = "https://example.org/spaces/owner/name/resolve/main"
WHEEL = "elysium_vlm-9.9.9-py3-none-any.whl"


@pytest.fixture
def space(tmp_path) -> Path:
    """The smallest Space, with a wheel in it so that none is built."""
    folder = tmp_path / "space"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "__pycache__" / "app.pyc").touch()
    (folder / "app.py").write_text("print('a page')\n")
    (folder / "requirements.txt").write_text("gradio>=6.0\nelysium-vlm[demo]  # the package\nspaces\n")
    (folder / WHEEL).write_bytes(b"PK\x05\x06" + b"\0" * 18)
    render_card.main(["space", str(folder)])
    return folder


def requirements(folder: Path) -> list[str]:
    return (folder / "requirements.txt").read_text().splitlines()


def test_requirements_name_the_wheel_by_its_address_and_hash(space, tmp_path) -> None:
    staged = stage_space(space, tmp_path / "staged", address=ADDRESS)
    digest = hashlib.sha256((space / WHEEL).read_bytes()).hexdigest()
    line = f"elysium-vlm[demo] @ {ADDRESS}/{WHEEL}#sha256={digest}"
    assert requirements(staged) == ["gradio>=6.0", line, "spaces"]
    assert {path.name for path in staged.iterdir()} == {"README.md", "app.py", "requirements.txt", WHEEL}


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("elysium_vlm[demo,train]>=0.1", f"./{WHEEL}[demo,train]"),
        ("./elysium_vlm-0.1.0-py3-none-any.whl[demo]", f"./{WHEEL}[demo]"),
        ("elysium_vlm-0.1.0-py3-none-any.whl", f"./{WHEEL}"),
        ("gradio", f"./{WHEEL}"),
    ],
)
def test_a_folder_that_runs_where_it_stands_names_the_wheel_by_its_path(asked, named, space, tmp_path) -> None:
    (space / "requirements.txt").write_text(f"{asked}\n")
    assert requirements(stage_space(space, tmp_path / "staged"))[-1] == named


def test_an_address_of_ones_own_is_kept_and_no_wheel_is_built(space, tmp_path, monkeypatch) -> None:
    (space / WHEEL).unlink()
    (space / "requirements.txt").write_text("elysium-vlm @ https://example.org/mine.whl\n")
    monkeypatch.setattr(space_folder, "build_wheel", lambda out: pytest.fail("a wheel was built"))
    staged = stage_space(space, tmp_path / "staged", address=ADDRESS)
    assert requirements(staged) == ["elysium-vlm @ https://example.org/mine.whl"]


def test_the_wheel_is_the_package_the_same_bytes_again_and_can_be_installed(tmp_path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first, second = (build_wheel(tmp_path / name) for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    names = zipfile.ZipFile(first).namelist()
    assert {"elysium/cli.py", "elysium/tracking/tracker.py", "elysium/cards/publish.py"} <= set(names)
    shipped = {name.split("/")[2] for name in names if name.startswith("elysium/checkpoints/")}
    assert shipped == {"__init__.py", DEFAULT_MODEL} and first.stat().st_size < 100e6
    options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check", "--target", str(tmp_path / "site")]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(first)], check=True, timeout=300)
    assert (tmp_path / "site" / "elysium" / "cli.py").is_file()


def test_without_a_checkout_the_remedy_is_said(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(space_folder, "ROOT", tmp_path)
    with pytest.raises(SpaceError, match=r"must be built from a checkout .* or put its elysium_vlm-\*.whl into"):
        build_wheel(tmp_path)


def test_a_build_that_fails_says_why(tmp_path, monkeypatch) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.setuptools.package-dir]\n")
    for name in ("README.md", "LICENSE"):
        (tmp_path / name).touch()
    monkeypatch.setattr(space_folder, "ROOT", tmp_path)
    monkeypatch.setattr(space_folder.sys, "executable", "/bin/false")
    with pytest.raises(SpaceError, match="must be built by pip wheel, got 'no output'"):
        build_wheel(tmp_path)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda folder: (folder / "app.py").unlink(), "no app.py, which README.md names as app_file"),
        (lambda folder: (folder / "requirements.txt").unlink(), "no requirements.txt"),
        (
            lambda folder: (folder / "README.md").write_text("---\ntitle: a\n---\n# A\n"),
            "no sdk in the head of README",
        ),
    ],
)
def test_what_a_space_lacks_is_named(damage, problem, space) -> None:
    damage(space)
    assert any(problem in found for found in space_problems(space))


def test_a_dry_run_of_a_space_lists_what_would_go(space, capsys, monkeypatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "https://example.org")
    assert cli.run(["publish", str(space), "owner/name", "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert f"  {WHEEL}\n" in shown.out and "would go to space owner/name" in shown.out
    assert requirements(space)[1] == "elysium-vlm[demo]  # the package"  # the folder itself stays as it is


def test_a_private_space_with_its_own_wheel_is_refused(space, capsys) -> None:
    assert cli.run(["publish", str(space), "owner/name", "--private"]) == 1
    assert "must be public, got --private for owner/name" in capsys.readouterr().err


def test_a_space_without_a_readme_is_refused_with_what_writes_one(space, capsys) -> None:
    (space / "README.md").unlink()
    assert cli.run(["publish", str(space), "owner/name", "--dry-run"]) == 1
    error = capsys.readouterr().err
    assert f"got {space} with no README.md (python -m elysium.cards.render_card space writes it)" in error
