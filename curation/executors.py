"""Who runs the tasks: datatrove's executors for this machine, Slurm, Ray and Hugging Face Jobs."""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from datatrove.pipeline.base import PipelineStep

from .chunk_store import ChunkStore
from .curation_settings import CurationError

EXECUTORS = ("local", "slurm", "ray", "jobs")


def run_tasks(
    executor: str,
    blocks: Sequence[PipelineStep],
    last: PipelineStep,
    store: ChunkStore,
    *,
    tasks: int,
    workers: int,
    options: Mapping[str, Any],
) -> bool:
    """Runs the blocks in every task, and after them the last one once.

    Args:
        executor: one of `EXECUTORS`.
        blocks: of a task.
        last: when all tasks are done.
        store: the output; logs go there as well.
        tasks: that the chunks are dealt out to.
        workers: tasks that run at once.
        options: more arguments of datatrove's executor, such as Slurm's time and partition.

    Returns:
        Whether it is done; False where it was only handed over, to Slurm.

    Raises:
        CurationError: no such executor, an option that it does not have or lacks, or a package that is missing.
    """
    if tasks < 1 or workers < 1:
        raise CurationError(f"tasks and workers must be 1 or more, got {tasks} and {workers}")
    make = _executor_class(executor)
    # What is done is kept apart by the number of tasks: another number deals the chunks out in another way.
    logs = f"{store.out}/logs/{tasks}-tasks"
    first = _make(make, blocks, store, {"tasks": tasks, "workers": workers, "logging_dir": logs, **options})
    if executor in ("slurm", "jobs"):
        alone = {**options, "tasks": 1, "workers": 1, "logging_dir": f"{store.out}/logs/merge"}
        _make(make, [last], store, {**alone, "depends": first, "skip_completed": False}).run()
        return executor == "jobs"
    first.run()
    failed = first.get_incomplete_ranks(skip_completed=True)
    if failed:
        raise CurationError(
            f"all {tasks} tasks must be done, got {len(failed)} that failed; see {logs}, and run again"
        )
    for _ in last.run(None):
        pass
    return True


def _make(make: Any, blocks: Sequence[PipelineStep], store: ChunkStore, options: Mapping[str, Any]) -> Any:
    """An executor; what its constructor says of its arguments is told as ours."""
    try:
        return make(list(blocks), **options)
    except TypeError as error:
        wrong = str(error).rpartition("__init__() ")[2].removeprefix("got ")
        raise CurationError(
            f"the options of an executor must be those of datatrove's {make.__name__}, got {wrong}; give "
            "--executor-option NAME=VALUE, such as time=10:00:00 and partition=gpu for slurm"
        ) from error
    except ValueError as error:
        raise CurationError(
            f"the output must be a place that {make.__name__} can use, got {store.out} ({error})"
        ) from error


def _executor_class(executor: str) -> Any:
    if executor == "local":
        from datatrove.executor.local import LocalPipelineExecutor

        return LocalPipelineExecutor
    if executor == "slurm":
        from datatrove.executor.slurm import SlurmPipelineExecutor

        return SlurmPipelineExecutor
    if executor == "jobs":
        from datatrove.executor.jobs import JobsPipelineExecutor

        return JobsPipelineExecutor
    if executor == "ray":
        if importlib.util.find_spec("ray") is None:
            raise CurationError("the ray executor needs ray, got no such package; pip install 'elysium-vlm[ray]'")
        from datatrove.executor.ray import RayPipelineExecutor

        return RayPipelineExecutor
    raise CurationError(f"the executor must be one of {', '.join(EXECUTORS)}, got {executor!r}")
