"""Score the results of trackers on a benchmark, one sequence at a time."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elysium.readers.samples import TrackingSequence

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
from .protocols import PUBLIC_SCRIPT, Protocol
from .reliability import Reliability, scored_boxes
from .result_files import ResultError, ResultFolder

Record = dict[str, Any]
CURVES = ("success", "precision", "norm_precision")
PUBLIC_SCRIPT_FIGURES = ("success_auc", "precision", "norm_precision")


@dataclass
class _Tally:
    """Scores of one tracker, added sequence by sequence."""

    tracker: EvaluatedTracker
    results: ResultFolder
    scores: dict[str, SequenceScore] = field(default_factory=dict)
    public: list[dict[str, float]] = field(default_factory=list)
    reliability: Reliability | None = field(default_factory=Reliability)  # None once a sequence has no scores

    def add(self, sequence: TrackingSequence, protocol: Protocol, *, public_script: bool) -> None:
        runs, truth = self.results.boxes(sequence.name), sequence.boxes_xywh_px
        name = f"{sequence.name} ({self.tracker.name})"
        size = sequence.image_size if protocol.clip_to_image else None
        scores = [
            score_sequence(boxes, truth, protocol, visible=sequence.visible, size=size, name=name) for boxes in runs
        ]
        if counted := [score for score in scores if score is not None]:
            self.scores[sequence.name] = overall(counted, protocol)
        self._add_reliability(sequence, runs, protocol)
        if public_script:
            self.public += [score_public_script(boxes, truth, sequence.image_size, sequence.name) for boxes in runs]

    def _add_reliability(
        self, sequence: TrackingSequence, runs: list[NDArray[np.float64]], protocol: Protocol
    ) -> None:
        found = None if self.reliability is None else self.results.scores(sequence.name)
        if self.reliability is None or found is None:
            self.reliability = None
            return
        for boxes, scores in zip(runs, found, strict=True):
            try:
                self.reliability.add(*scored_boxes(boxes, scores, sequence, protocol))
            except ValueError as error:
                raise ResultError(f"{error} (of {self.tracker.name} in {sequence.name})") from error

    def record(self, protocol: Protocol, classes: dict[str, str | None]) -> Record:
        """Return the tracker's part of the report."""
        total = overall(list(self.scores.values()), protocol)
        found: Record = {
            "kind": self.tracker.kind,
            "origin": self.tracker.origin or str(self.tracker.folder),
            **headline(total, protocol),
            **(class_means(self.scores, classes) if protocol.average == "frames" else {}),
            # The speed of repeating a box means nothing.
            "frames_per_s": None if self.tracker.kind == FIRST_BOX else self.results.frames_per_s(),
            "curves": {name: getattr(total, name).tolist() for name in CURVES},
            "sequences": {
                name: headline(score, protocol) | {"frames": score.num_frames, "visible_frames": score.num_visible}
                for name, score in self.scores.items()
            },
        }
        if self.reliability is not None and self.reliability.counts.any():
            found["ece"] = 100 * self.reliability.expected_calibration_error
            found["reliability"] = self.reliability.record()
        if self.public:
            found["public_script"] = {
                figure: float(np.mean([one[figure] for one in self.public])) for figure in PUBLIC_SCRIPT_FIGURES
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
        ResultError: results are missing or cannot be read, or a score is not in 0..1.
        ProtocolError: results break a rule of the protocol.
    """
    protocol = benchmark.protocol
    tallies = [_Tally(tracker, ResultFolder(tracker.folder)) for tracker in trackers]
    classes: dict[str, str | None] = {}
    num_frames = 0
    for done, sequence in enumerate(sequences, start=1):
        for tally in tallies:
            tally.add(sequence, protocol, public_script=public_script)
        classes[sequence.name] = sequence.object_class
        num_frames += len(sequence.boxes_xywh_px)
        if progress is not None:
            progress(done)
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
        "trackers": {tally.tracker.name: tally.record(protocol, classes) for tally in tallies},
    }


def as_public_script(boxes_xywh_px: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Return boxes as the public code's script (Hon-Wong/Elysium, eval/otb.py) clamps them; for comparison only.

    It reads boxes as whole percent, scales them to pixels and then clamps x, y, w and h to 1..100, so that most boxes
    of most videos become the same box: unrelated random boxes score an AUC of over 50 with it.

    Args:
        boxes_xywh_px (`np.ndarray` of shape `(T, 4)`): pixels; boxes without area stand for none.
        size: width and height of the image.

    Returns:
        `np.ndarray` of shape `(T, 4)`: left, top, width, height, each in 1..100.
    """
    corners = np.concatenate([boxes_xywh_px[:, :2], boxes_xywh_px[:, :2] + boxes_xywh_px[:, 2:]], axis=1)
    corners[~(boxes_xywh_px[:, 2:] > 0).all(axis=1)] = 0
    scale = np.array([*size, *size], dtype=np.float64) / 100
    scaled = np.clip(np.round(corners / scale), 0, 100) * scale
    return np.clip(np.concatenate([scaled[:, :2], scaled[:, 2:] - scaled[:, :2]], axis=1), 1, 100)


def score_public_script(
    predicted_xywh_px: NDArray[np.float64], true_xywh_px: NDArray[np.float64], size: tuple[int, int], name: str
) -> dict[str, float]:
    """Return a sequence's `PUBLIC_SCRIPT_FIGURES` in percent, by that script; a missing box is 0,0,0,0."""
    length = len(true_xywh_px)
    given = np.nan_to_num(predicted_xywh_px[:length])
    predicted = as_public_script(np.concatenate([given, np.zeros((length - len(given), 4))]), size)
    score = score_sequence(predicted, as_public_script(true_xywh_px, size), PUBLIC_SCRIPT, name=name)
    assert score is not None  # every frame has a box after clamping
    figures = headline(score, PUBLIC_SCRIPT)
    return {figure: figures[figure] for figure in PUBLIC_SCRIPT_FIGURES}
