"""Score the results of trackers on a benchmark, one sequence at a time."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from elysium.readers.records import TrackingSequence

from .benchmark_list import Benchmark
from .evaluated_trackers import FIRST_BOX, EvaluatedTracker
from .ope import (
    CENTRE_THRESHOLDS_NORM,
    CENTRE_THRESHOLDS_PX,
    OVERLAP_THRESHOLDS,
    SequenceScore,
    class_means,
    headline,
    overall,
    score_sequence,
)
from .protocols import Protocol
from .public_script import score_public_script
from .result_files import ResultFolder

Record = dict[str, Any]


class _Tally:
    """Scores of one tracker, added sequence by sequence."""

    def __init__(self, tracker: EvaluatedTracker, protocol: Protocol, *, public_script: bool) -> None:
        self.tracker, self.protocol, self.public_script = tracker, protocol, public_script
        self.results = ResultFolder(tracker.folder)
        self.scores: dict[str, SequenceScore] = {}
        self.public: list[dict[str, float]] = []

    def add(self, sequence: TrackingSequence) -> None:
        runs, truth = self.results.boxes(sequence.name), sequence.boxes_xywh_px
        name = f"{sequence.name} ({self.tracker.name})"
        size = sequence.picture_size if self.protocol.clip_to_picture else None
        scores = [
            score_sequence(boxes, truth, self.protocol, visible=sequence.visible, size=size, name=name)
            for boxes in runs
        ]
        if counted := [score for score in scores if score is not None]:
            self.scores[sequence.name] = overall(counted, self.protocol)
        if self.public_script:
            size = sequence.picture_size
            self.public += [score_public_script(boxes, truth, size, sequence.name) for boxes in runs]

    def record(self, classes: dict[str, str | None]) -> Record:
        """Return the tracker's part of the report."""
        total = overall(list(self.scores.values()), self.protocol)
        found: Record = {
            "kind": self.tracker.kind,
            "origin": self.tracker.origin,
            **headline(total, self.protocol),
            **(class_means(self.scores, classes) if self.protocol.average == "frames" else {}),
            # The speed of repeating a box means nothing.
            "frames_per_s": None if self.tracker.kind == FIRST_BOX else self.results.frames_per_s(),
            "curves": {name: getattr(total, name).tolist() for name in ("success", "precision", "norm_precision")},
            "sequences": {
                name: headline(score, self.protocol)
                | {"frames": score.num_frames, "visible_frames": score.num_visible}
                for name, score in self.scores.items()
            },
        }
        if self.public_script:
            found["public_script"] = {
                figure: float(np.mean([one[figure] for one in self.public])) for figure in self.public[0]
            }
        return found


def score_benchmark(
    benchmark: Benchmark,
    sequences: Iterable[TrackingSequence],
    trackers: Sequence[EvaluatedTracker],
    *,
    split: str,
    public_script: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Record:
    """Score every tracker on every sequence; one sequence's boxes are held at a time.

    Args:
        benchmark: whose protocol is used.
        sequences: with their ground truth.
        trackers: one or more, with their result files; names must differ.
        split: for the report.
        public_script: also compute the figures of the public code's script.
        progress: called after each sequence with the number that is done.

    Returns:
        The report without command and version.

    Raises:
        DatasetError: a sequence's ground truth cannot be read.
        ResultError: results are missing or cannot be read.
        ProtocolError: results break a rule of the protocol.
    """
    tallies = [_Tally(tracker, benchmark.protocol, public_script=public_script) for tracker in trackers]
    classes: dict[str, str | None] = {}
    num_frames = 0
    for done, sequence in enumerate(sequences, start=1):
        for tally in tallies:
            tally.add(sequence)
        classes[sequence.name] = sequence.object_class
        num_frames += len(sequence.boxes_xywh_px)
        if progress is not None:
            progress(done)
    protocol = benchmark.protocol
    return {
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "task": benchmark.task,
        "protocol": {"name": protocol.name, "source": protocol.source, "rules": protocol.rules},
        "data": {"sequences": len(classes), "frames": num_frames, "split": split},
        "thresholds": {
            "overlap": OVERLAP_THRESHOLDS.tolist(),
            "centre_px": CENTRE_THRESHOLDS_PX.tolist(),
            "centre_norm": CENTRE_THRESHOLDS_NORM.tolist(),
        },
        "trackers": {tally.tracker.name: tally.record(classes) for tally in tallies},
    }
