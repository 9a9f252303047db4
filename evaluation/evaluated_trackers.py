"""Define the trackers under evaluation, and run them over the sequences of a benchmark.

A tracker is an Elysium checkpoint, an OpenCV tracker, the first box, or a folder of results. Each sequence's boxes are
a file, so that a run can be resumed.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from elysium.processing.data_files import DatasetError
from elysium.processing.structures import TrackingResult
from elysium.readers.samples import TrackingSequence
from elysium.tracking.checkpoints import weights_fingerprint
from elysium.tracking.options import TrackingOptions

from .benchmark_list import Benchmark
from .opencv_trackers import make_opencv_tracker, opencv_boxes
from .result_files import ResultFiles
from .resumable import ALONE, Processes, Progress, run_items

if TYPE_CHECKING:
    from elysium.tracking.tracker import Tracker  # loads torch, which scoring results does without

FIRST_BOX = "first-box"
# Takes the number of a sequence, its boxes x1, y1, x2, y2 in pixels (T, 4), NaN where there is none, and their scores
# (T,), None without any.
Keep = Callable[[int, NDArray[np.float64], NDArray[np.float64] | None], None]
_AT_ONCE = 8  # the tracker's batch
_FPS = 10.0  # of frames without a rate; no figure depends on it


@dataclass(frozen=True)
class EvaluatedTracker:
    """A tracker in a report; without `track` its results are given.

    Args:
        name: in the report.
        folder: of its result files.
        kind: "results", "first-box", "opencv" or "elysium".
        origin: its source, for the report: folder, version or checkpoint.
        settings: further settings that its results depend on; a run with others is not resumed.
        tasks: the tasks that it can be prompted for.
        prepare: loads what tracking needs, before the first sequence: an error here is no sequence's.
        track: tracks sequences by a task ("sot" or "rsot") and hands over each as soon as it is finished.
        at_once: most sequences that it is given at once.
    """

    name: str
    folder: Path
    kind: str = "results"
    origin: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] = ("sot",)
    prepare: Callable[[], object] = lambda: None
    track: Callable[[Sequence[TrackingSequence], str, Keep], object] | None = None
    at_once: int = 1


def first_box_tracker(folder: Path) -> EvaluatedTracker:
    """Return the baseline that repeats the first box."""

    def track(sequences: Sequence[TrackingSequence], task: str, keep: Keep) -> None:
        for number, sequence in enumerate(sequences):
            keep(number, np.tile(sequence.first_box_xyxy_px(), (len(sequence.frames), 1)), None)

    return EvaluatedTracker(FIRST_BOX, folder, FIRST_BOX, FIRST_BOX, track=track)


def opencv_tracker(name: str, folder: Path) -> EvaluatedTracker:
    """Return one of `OPENCV_TRACKERS`.

    Raises:
        RuntimeError: OpenCV lacks its contributed modules.
    """
    make_opencv_tracker(name)

    def track(sequences: Sequence[TrackingSequence], task: str, keep: Keep) -> None:
        for number, sequence in enumerate(sequences):
            keep(number, opencv_boxes(name, sequence.frames, sequence.first_box_xyxy_px()), None)

    return EvaluatedTracker(name, folder, "opencv", f"OpenCV {cv2.__version__}, {name}", track=track)


def elysium_tracker(
    name: str, folder: Path, *, model: str, load: "Callable[[], Tracker]", options: TrackingOptions
) -> EvaluatedTracker:
    """Return an Elysium checkpoint.

    Args:
        name: in the report.
        folder: of its result files.
        model: folder, shipped name or Hub id.
        load: loads it, when there is a sequence to track.
        options: how to track; the checkpoint decides what they leave open.
    """
    tracker = cache(load)

    def track(sequences: Sequence[TrackingSequence], task: str, keep: Keep) -> None:
        prompted = (
            (iter(each.frames), str(each.text) if task == "rsot" else each.first_box_xyxy_px()) for each in sequences
        )

        def finished(number: int, result: TrackingResult) -> None:
            keep(number, result.tracks[0].boxes_xyxy_px, result.tracks[0].scores)

        tracker().track_many(prompted, fps=_FPS, options=options, finished=finished)

    settings = {"weights": weights_fingerprint(model)} | options.explicit()
    return EvaluatedTracker(name, folder, "elysium", model, settings, ("sot", "rsot"), tracker, track, _AT_ONCE)


def run_tracker(
    tracker: EvaluatedTracker,
    benchmark: Benchmark,
    sequences: Iterable[TrackingSequence],
    *,
    processes: Processes = ALONE,
    total: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Exception]:
    """Track the sequences that have no result file yet; one that fails costs none of the others.

    Args:
        tracker: its result files go to its folder.
        benchmark: how it prompts, and the layout of the result files.
        sequences: all of the benchmark's, in the same order in every process; the tracker's `at_once` are held.
        processes: the processes that share the sequences.
        total: number of sequences, if known.
        progress: called after the sequences that are tracked at once, as in `run_items`.

    Returns:
        The errors of the sequences that failed, by name.

    Raises:
        UnfinishedError: many sequences in a row failed.
        DatasetError: the benchmark's files cannot be read further.
        CheckpointError: the model cannot be loaded.
    """
    results = ResultFiles(tracker.folder, benchmark.layout)

    def track(batch: list[TrackingSequence]) -> None:
        # Where some failed, all are tried again one by one.
        _track(tracker, benchmark.task, [sequence for sequence in batch if sequence.name not in results], results)

    _, errors = run_items(
        sequences,
        track,
        noun="sequence",
        key=lambda sequence: sequence.name,
        done=results,
        batch_size=tracker.at_once,
        processes=processes,
        total=total,
        prepare=tracker.prepare,
        progress=progress,
    )
    return errors


def _track(tracker: EvaluatedTracker, task: str, sequences: Sequence[TrackingSequence], results: ResultFiles) -> None:
    """Track sequences at once and write each when it is finished.

    Boxes are x,y,w,h, 0,0,0,0 where there is none; the time of a frame is the mean in seconds, repeated.
    """
    for sequence in sequences:
        sequence.check_length()
        if task == "rsot" and not sequence.text:
            raise DatasetError(
                f"tracking from text must have a text prompt for every sequence, got none for {sequence.name}; add "
                "its language file"
            )
    assert tracker.track is not None
    lengths = [len(sequence.frames) for sequence in sequences]
    start_s = time.perf_counter()

    def keep(number: int, corners: NDArray[np.float64], scores: NDArray[np.float64] | None) -> None:
        took_s, name, length = time.perf_counter() - start_s, sequences[number].name, lengths[number]
        if len(corners) != length:
            raise DatasetError(
                f"a frame that is listed must decode, got {len(corners)} of {length} frames of {name}; get its "
                "images or video again"
            )
        boxes = np.nan_to_num(np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1))
        tracked = sum(min(length, other) for other in lengths)  # of all sequences so far: they keep step
        results.write(name, boxes, np.full(length, took_s / tracked), scores)

    tracker.track(sequences, task, keep)
