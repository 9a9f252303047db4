"""The command that installs an extra, by where the package was installed from."""

import subprocess
import sys

import pytest

from elysium.processing.extras import command_from, install_command


@pytest.mark.parametrize("editable", [False, True])
def test_a_clone_is_named_with_its_constraints(tmp_path, editable):
    clone = tmp_path / "my clone"
    clone.mkdir()
    origin = {"url": clone.as_uri(), "dir_info": {"editable": True} if editable else {}}
    switch = "-e " if editable else ""
    assert command_from(origin, "eval") == f"pip install {switch}'{clone}[eval]'"
    (clone / "constraints.txt").touch()
    assert command_from(origin, "eval") == f"pip install -c '{clone}/constraints.txt' {switch}'{clone}[eval]'"


def test_a_repository_is_named_with_its_commit():
    origin = {"url": "https://example.org/e.git", "vcs_info": {"vcs": "git", "commit_id": "1a2b"}}
    assert command_from(origin, "demo") == "pip install 'elysium-vlm[demo] @ git+https://example.org/e.git@1a2b'"


def test_this_install_has_a_command():
    assert install_command("train").startswith("pip install ") and "[train]" in install_command("train")


@pytest.mark.parametrize("trainer", ["sft", "grpo"])
def test_a_trainer_without_its_packages_ends_with_the_command_alone(trainer):
    code = (
        "import sys, runpy; sys.modules['datasets'] = sys.modules['trl'] = None; sys.argv[1:] = ['--help']; "
        f"runpy.run_module('elysium.training.{trainer}', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("Error: training needs ")
    assert "Traceback" not in done.stderr and "[train]" in done.stderr


def test_a_folder_of_videos_is_checked_without_pyarrow(tmp_path):
    (tmp_path / "boxes.csv").write_text("video,frame_idx,x1,y1,x2,y2\nno.mp4,0,1,2,3,4\n")
    code = (
        "import sys; sys.modules['pyarrow'] = None; from elysium.cli import run; "
        f"sys.exit(run(['data', 'check', {str(tmp_path)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "folder: 0 of 1 rows can be read" in done.stdout, done.stderr
