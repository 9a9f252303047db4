"""Runs trackers over the sequences of a benchmark: shared out over processes, one file each, and gone on with."""

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elysium.processing.atomic_files import atomic_path
from elysium.processing.data_files import DatasetError, parse_json_object, read_bytes
from elysium.readers.records import TrackingSequence

from .benchmark_list import Benchmark
from .failures import Failures
from .peers import Peer
from .result_files import ResultError, result_path, write_result

Progress = Callable[[int], None]


def check_settings(path: Path, settings: dict[str, object]) -> None:
    """Writes what results depend on into a file beside them, or makes sure that it is what stands there.

    Raises:
        ResultError: the results are of other settings.
    """
    if path.is_file():
        before = parse_json_object(read_bytes(path), str(path))
        now = json.loads(json.dumps(settings))
        other = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        if other:
            shown = "; ".join(f"{key}: {before.get(key)!r} before, {now.get(key)!r} now" for key in other)
            raise ResultError(
                f"a run can go on only with the settings it began with, got others in {path} ({shown}); choose "
                "another --output, or remove that file and the results beside it"
            )
        return
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=1) + "\n", "utf-8")


def run_tracker(
    peer: Peer,
    benchmark: Benchmark,
    sequences: Iterable[TrackingSequence],
    folder: Path,
    *,
    process_index: int = 0,
    num_processes: int = 1,
    progress: Progress | None = None,
) -> Failures:
    """Tracks the sequences that have no result yet; one that fails is left out, and the others are tracked.

    Args:
        peer: the tracker.
        benchmark: how it is asked, and how results are written.
        sequences: all of the benchmark's, in the same order in every process; one is held at a time.
        folder: of the tracker's results.
        process_index: which of ``num_processes`` this is; it takes every such sequence in turn.
        progress: called after each of the process's sequences with how many are done.

    Returns:
        The sequences that failed.

    Raises:
        UnfinishedError: many failed one behind the other.
        DatasetError: the benchmark's files cannot be read further.
        CheckpointError: the model cannot be loaded.
    """
    failures = Failures("sequence")
    done, ready = 0, False
    for number, sequence in enumerate(sequences):
        if number % num_processes != process_index:
            continue
        if not result_path(folder, sequence.name, benchmark.layout).is_file():
            if not ready:
                peer.prepare()
                ready = True
            with failures.of(sequence.name):
                boxes, seconds = _track(peer, benchmark, sequence)
                write_result(folder, sequence.name, benchmark.layout, boxes, seconds)
        done += 1
        if progress is not None:
            progress(done)
    return failures


def _track(
    peer: Peer, benchmark: Benchmark, sequence: TrackingSequence
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x,y,w,h of every frame, 0,0,0,0 where there is no box, and the seconds that each took on average."""
    sequence.check_length()
    if benchmark.task == "rsot" and not sequence.text:
        raise DatasetError(
            f"tracking by words needs words for every sequence, got none for {sequence.name}; add its language file"
        )
    start_s = time.perf_counter()
    corners = peer.follow(sequence, benchmark.task)
    took_s = time.perf_counter() - start_s
    length = len(sequence.frames)
    if len(corners) != length:
        raise DatasetError(
            f"a frame that is listed must decode, got {len(corners)} of {length} frames of {sequence.name}; get its "
            "pictures or video again"
        )
    boxes = np.nan_to_num(np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1))
    return boxes, np.full(length, took_s / length)
