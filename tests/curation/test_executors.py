"""Who runs the tasks. A stand-in for Slurm's `sbatch` runs its scripts at once, each task of an array in turn."""

import json
import os
import sys
from functools import partial
from pathlib import Path

import pytest
from curation_parts import Oracle, Standing, write_captioned_videos

from elysium.curation import pipeline
from elysium.curation.chunk_store import ChunkStore
from elysium.curation.curation_settings import load_settings
from elysium.curation.curation_step import CurationError
from elysium.curation.merge_step import MergeChunks
from elysium.curation.pipeline import curate, read_summary, run_tasks

SBATCH = """#!/bin/sh
for script; do true; done
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
cat "$script" >> "$SCRIPTS"
for task in $(seq 0 "$last"); do
    SLURM_ARRAY_TASK_ID=$task SLURM_NODELIST=here sh "$script" >> "$SCRIPTS.log" 2>&1
done
echo Submitted batch job 7
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts the stand-in where programs are found; the path is of what it was given."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"sbatch": SBATCH, "scontrol": "#!/bin/sh\necho here\n"}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    scripts = tmp_path / "scripts"
    monkeypatch.setenv("PATH", f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SCRIPTS", str(scripts))
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent.parent}:{os.environ.get('PYTHONPATH', '')}")
    return scripts


def merge_of(out: Path) -> MergeChunks:
    return MergeChunks(ChunkStore(str(out)), form="jsonl", settings={})


@pytest.mark.slow
def test_slurm_gets_a_job_for_the_tasks_and_one_after_it_for_the_report(slurm: Path, tmp_path: Path) -> None:
    truth = write_captioned_videos(tmp_path / "videos", count=2)
    settings = load_settings(changes={"detector": partial(Oracle, str(truth)), "tracker": Standing, "chunk_videos": 1})
    options = {"time": "1:00:00", "partition": "gpu", "with_srun": False, "gpus_per_task": 1}
    out = tmp_path / "out"
    assert curate(tmp_path / "videos", out, settings, tasks=2, executor="slurm", executor_options=options) is None
    log = slurm.with_name("scripts.log")
    assert (out / "rows.jsonl").is_file(), log.read_text("utf-8")[-3000:]
    assert read_summary(ChunkStore(str(out)))["videos"] == 2
    text = slurm.read_text("utf-8")
    assert "#SBATCH --partition=gpu" in text and "#SBATCH --gpus=1" in text and "#SBATCH --array=0-1" in text


@pytest.mark.parametrize(
    ("executor", "options", "said"),
    [
        ("slurm", {}, "SlurmPipelineExecutor, got .* missing 2 required positional arguments: 'time' and 'partition'"),
        (
            "local",
            {"partition": "gpu"},
            "LocalPipelineExecutor, got .* unexpected keyword argument 'partition'",
        ),
        ("jobs", {}, "output and --executor-option NAME=VALUE must be arguments of datatrove's JobsPipelineExecutor"),
        ("cloud", {}, "must be one of local, slurm, ray, jobs, got 'cloud'"),
    ],
)
def test_an_executor_that_cannot_run_says_what_it_lacks(
    executor: str, options: dict[str, str], said: str, tmp_path: Path
) -> None:
    store = ChunkStore(str(tmp_path / "out"))
    with pytest.raises(CurationError, match=said):
        run_tasks(executor, [], merge_of(tmp_path), store, tasks=1, workers=1, options=options)


def test_ray_where_it_is_not_installed_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CurationError, match=r"pip install 'elysium-vlm\[ray\]'"):
        run_tasks("ray", [], merge_of(tmp_path), ChunkStore(str(tmp_path)), tasks=1, workers=1, options={})


def test_jobs_cannot_read_files_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("video,caption\na.mp4,A dog\n")
    with pytest.raises(CurationError, match="must read their videos from the Hub"):
        curate(tmp_path / "a.csv", tmp_path / "out", load_settings(), executor="jobs")


@pytest.mark.parametrize(("tasks", "workers"), [(0, 1), (1, 0)])
def test_no_tasks_or_workers_are_refused(tasks: int, workers: int, tmp_path: Path) -> None:
    with pytest.raises(CurationError, match="tasks and workers must be 1 or more"):
        run_tasks("local", [], merge_of(tmp_path), ChunkStore(str(tmp_path)), tasks=tasks, workers=workers, options={})


def test_rows_can_be_written_to_any_place_that_fsspec_opens(tmp_path: Path) -> None:
    truth = write_captioned_videos(tmp_path / "videos", count=2)
    settings = load_settings(
        "paper",
        {"detector": partial(Oracle, str(truth)), "tracker": Standing, "chunk_videos": 1, "format": "parquet"},
    )
    here = curate(tmp_path / "videos", tmp_path / "out", settings)
    there = curate(tmp_path / "videos", "memory://curated", settings)
    assert here == there and here is not None and here["rows"] > 0
    store = ChunkStore("memory://curated")
    assert store.done() == {0, 1}
    for name in ("chunks/000001/rows.parquet", "report/exclusions.jsonl", "README.md"):
        with store.folder.open(name, "rb") as file:
            assert file.read() == (tmp_path / "out" / name).read_bytes()
    assert json.loads((tmp_path / "out" / "logs" / "run.json").read_text("utf-8"))["format"] == "parquet"
