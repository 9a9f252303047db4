"""Data construction as a list of steps, and its run on this machine, Slurm, Ray or Hugging Face Jobs.

captions -> noun phrases -> frames -> detection -> trajectory -> drift -> agreement -> records

>>> from elysium.curation.curation_settings import load_settings
>>> from elysium.curation.pipeline import curate
>>> curate("videos/", "tracks/", load_settings("paper", {"detector": "grounding-dino/"}))  # doctest: +SKIP
"""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from elysium.processing.atomic_files import full_disk_is_an_output_error
from elysium.processing.data_files import parse_json_object
from elysium.processing.extras import install_command

from .agree_step import agree_step
from .chunk_store import REPORT, ChunkStore
from .curation_settings import CurationSettings
from .curation_step import CurationError
from .decode_step import decode_step
from .detect_step import detect_step
from .drift_step import drift_step
from .merge_step import MergeChunks
from .phrase_step import phrase_step
from .read_step import HubSource, ReadVideos, VideoSource, open_videos
from .track_step import track_step
from .write_step import WriteChunks

EXECUTORS = {
    "local": "local.LocalPipelineExecutor",
    "slurm": "slurm.SlurmPipelineExecutor",
    "ray": "ray.RayPipelineExecutor",
    "jobs": "jobs.JobsPipelineExecutor",
}


def build_steps(source: VideoSource, store: ChunkStore, settings: CurationSettings) -> list[PipelineStep]:
    """Return the steps of every task, in order."""
    return [
        ReadVideos(source, store),
        phrase_step(settings),
        decode_step(settings),
        detect_step(settings),
        track_step(settings),
        drift_step(settings),
        agree_step(settings),
        WriteChunks(store, settings, frame_interval=settings.frame_interval),
    ]


def open_run(
    place: str | Path, out: str | Path, settings: CurationSettings, *, videos: Path | None = None, split: str = "train"
) -> tuple[VideoSource, ChunkStore]:
    """Open the input and claim the output; see `curate`."""
    source = open_videos(str(place), chunk_videos=settings.chunk_videos, videos=videos, split=split)
    if next(source.read(lambda chunk: True), None) is None:
        raise CurationError(f"the input must hold at least one video, got none in {place}")
    store = ChunkStore(str(out))
    inputs = {"input": str(place), "videos": None if videos is None else str(videos), "split": split}
    store.claim(inputs | {name: value for name, value in settings.to_dict().items() if name != "device"})
    return source, store


def curate(
    place: str | Path,
    out: str | Path,
    settings: CurationSettings,
    *,
    videos: Path | None = None,
    split: str = "train",
    held_out: str | None = None,
    tasks: int = 1,
    workers: int = 1,
    executor: str = "local",
    executor_options: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Make tracks of noun phrases from captioned videos. Resumes a stopped run; does nothing if it is complete.

    Args:
        place: Input, see `open_videos`.
        out: New folder, or that of a stopped run.
        settings: Settings of the steps.
        videos: Folder of the videos, if it is not that of their table.
        split: Split of a dataset on the Hub.
        held_out: Validation records; the report lists their videos that are among the new ones.
        tasks: Number of tasks to split the input into.
        workers: Number of tasks that run at once.
        executor: local, slurm, ray or jobs.
        executor_options: Arguments of datatrove's executor.

    Returns:
        The content of `report/summary.json`; None if the work was handed to Slurm.

    Raises:
        CurationError: input, output, detector, tracker or executor cannot be used.
        OutputError: the output cannot be written.
    """
    source, store = open_run(place, out, settings, videos=videos, split=split)
    if executor == "jobs" and not isinstance(source, HubSource):
        raise CurationError(
            "Hugging Face Jobs must read their videos from the Hub, got files of this machine; upload them as a "
            "dataset, and give its id"
        )
    last = MergeChunks(store, form=settings.format, settings=settings.to_dict(), held_out=held_out)
    steps = build_steps(source, store, settings)
    options = executor_options or {}
    with full_disk_is_an_output_error(out):  # datatrove's logs and statistics, too
        done = run_tasks(executor, steps, last, store, tasks=tasks, workers=workers, options=options)
    return read_summary(store) if done else None


def read_summary(store: ChunkStore) -> dict[str, Any]:
    """Return the summary of a finished run."""
    with store.folder.open(f"{REPORT}/summary.json", "rt", encoding="utf-8") as file:
        return parse_json_object(file.read(), f"{store.out}/{REPORT}/summary.json")


def run_tasks(
    executor: str,
    steps: Sequence[PipelineStep],
    last: PipelineStep,
    store: ChunkStore,
    *,
    tasks: int,
    workers: int,
    options: Mapping[str, Any],
) -> bool:
    """Run the steps in every task, and then the last step once.

    Returns:
        False if the work was only handed over, to Slurm.

    Raises:
        CurationError: no such executor, an argument that it does not have or lacks, or a missing package.
    """
    if tasks < 1 or workers < 1:
        raise CurationError(f"tasks and workers must be 1 or more, got {tasks} and {workers}")
    # Completions are kept by number of tasks: another number distributes the chunks in another way.
    logs = f"{store.out}/logs/{tasks}-tasks"
    first = _make(executor, steps, {"tasks": tasks, "workers": workers, "logging_dir": logs, **options})
    if executor in ("slurm", "jobs"):
        alone = {**options, "tasks": 1, "workers": 1, "logging_dir": f"{store.out}/logs/merge"}
        _make(executor, [last], {**alone, "depends": first, "skip_completed": False}).run()
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


def _make(executor: str, steps: Sequence[PipelineStep], options: Mapping[str, Any]) -> Any:
    if executor not in EXECUTORS:
        raise CurationError(f"the executor must be one of {', '.join(EXECUTORS)}, got {executor!r}")
    if executor == "ray" and importlib.util.find_spec("ray") is None:
        raise CurationError(f"the ray executor needs ray, got no such package; {install_command('ray')}")
    module, name = EXECUTORS[executor].split(".")
    try:
        return getattr(importlib.import_module(f"datatrove.executor.{module}"), name)(list(steps), **options)
    except (TypeError, ValueError) as error:
        raise CurationError(
            f"output and --executor-option NAME=VALUE must be arguments of datatrove's {name}, got {error}; slurm "
            "needs time=10:00:00 and partition=gpu, for instance"
        ) from error
