"""Run a tracker over the sequences of a benchmark; each sequence's boxes are a file, so that a run can be resumed."""

import time
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from elysium.processing.data_files import DatasetError
from elysium.readers.records import TrackingSequence

from .benchmark_list import Benchmark
from .evaluated_trackers import EvaluatedTracker
from .result_files import ResultFiles
from .resumable import ALONE, Failures, Processes, Progress, run_items


def run_tracker(
    tracker: EvaluatedTracker,
    benchmark: Benchmark,
    sequences: Iterable[TrackingSequence],
    *,
    processes: Processes = ALONE,
    total: int | None = None,
    progress: Progress | None = None,
) -> Failures:
    """Track the sequences that have no result file yet; one that fails costs none of the others.

    Args:
        tracker: its result files go to its folder.
        benchmark: how it prompts, and the layout of the result files.
        sequences: all of the benchmark's, in the same order in every process; one is held at a time.
        processes: the processes that share the sequences.
        total: number of sequences, if known.
        progress: called after each tracked sequence, as in `run_items`.

    Returns:
        The sequences that failed.

    Raises:
        UnfinishedError: many sequences in a row failed.
        DatasetError: the benchmark's files cannot be read further.
        CheckpointError: the model cannot be loaded.
    """
    results = ResultFiles(tracker.folder, benchmark.layout)

    def track(batch: list[TrackingSequence]) -> None:
        for sequence in batch:
            results.write(sequence.name, *_track(tracker, benchmark, sequence))

    _, failures = run_items(
        sequences,
        track,
        noun="sequence",
        key=lambda sequence: sequence.name,
        done=results,
        processes=processes,
        total=total,
        prepare=tracker.prepare,
        progress=progress,
    )
    return failures


def _track(
    tracker: EvaluatedTracker, benchmark: Benchmark, sequence: TrackingSequence
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x,y,w,h of every frame, 0,0,0,0 without a box, and the mean time of a frame in seconds, repeated."""
    sequence.check_length()
    if benchmark.task == "rsot" and not sequence.text:
        raise DatasetError(
            f"tracking from text must have a text prompt for every sequence, got none for {sequence.name}; add its "
            "language file"
        )
    start_s = time.perf_counter()
    corners = tracker.track(sequence, benchmark.task)
    took_s = time.perf_counter() - start_s
    length = len(sequence.frames)
    if len(corners) != length:
        raise DatasetError(
            f"a frame that is listed must decode, got {len(corners)} of {length} frames of {sequence.name}; get its "
            "images or video again"
        )
    boxes = np.nan_to_num(np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1))
    return boxes, np.full(length, took_s / length)
