"""From folders of results to the report's figures, a sequence at a time."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elysium.readers.records import TrackingSequence

from .benchmark_list import Benchmark
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
from .peers import FIRST_BOX
from .protocols import Protocol
from .public_script import score_public_script
from .result_files import ResultFolder

Record = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """One line of the report.

    Args:
        name: of the tracker.
        kind: "elysium", "opencv", "first-box" or "results".
        origin: checkpoint, version or folder.
        results: its boxes.
    """

    name: str
    kind: str
    origin: str
    results: ResultFolder


class _Tally:
    """Scores of one contender, gathered sequence by sequence."""

    def __init__(self, contender: Contender, protocol: Protocol, *, public_script: bool) -> None:
        self.contender, self.protocol, self.public_script = contender, protocol, public_script
        self.scores: dict[str, SequenceScore] = {}
        self.public: list[dict[str, float]] = []

    def add(self, sequence: TrackingSequence) -> None:
        runs = self.contender.results.boxes(sequence.name)
        scores = [found for boxes in runs if (found := self._score(boxes, sequence)) is not None]
        if scores:
            self.scores[sequence.name] = overall(scores, self.protocol)
        if self.public_script:
            size = sequence.picture_size
            self.public += [score_public_script(boxes, sequence.boxes_xywh_px, size, sequence.name) for boxes in runs]

    def _score(self, boxes: NDArray[np.float64], sequence: TrackingSequence) -> SequenceScore | None:
        return score_sequence(
            boxes,
            sequence.boxes_xywh_px,
            self.protocol,
            visible=sequence.visible,
            size=sequence.picture_size if self.protocol.clip_to_picture else None,
            name=f"{sequence.name} ({self.contender.name})",
        )

    def record(self, classes: dict[str, str | None]) -> Record:
        """The contender's part of the report."""
        total = overall(list(self.scores.values()), self.protocol)
        found: Record = {
            "kind": self.contender.kind,
            "origin": self.contender.origin,
            **headline(total, self.protocol),
            **(class_means(self.scores, classes) if self.protocol.average == "frames" else {}),
            # Repeating a box takes no time that would say anything.
            "frames_per_s": None if self.contender.kind == FIRST_BOX else self.contender.results.frames_per_s(),
            "curves": {
                "success": total.success.tolist(),
                "precision": total.precision.tolist(),
                "norm_precision": total.norm_precision.tolist(),
            },
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
    contenders: Sequence[Contender],
    *,
    split: str,
    public_script: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Record:
    """Scores every contender on every sequence; one sequence's boxes are held at a time.

    Args:
        benchmark: whose protocol counts.
        sequences: with their truth.
        contenders: at least one; names must differ.
        split: for the report.
        public_script: also say what the public code's script would have said.
        progress: called after each sequence with how many are done.

    Returns:
        The report, but for the command and version.

    Raises:
        DatasetError: a sequence's truth cannot be read.
        ResultError: results are missing or cannot be read.
        ProtocolError: results break a rule of the protocol.
    """
    tallies = [_Tally(contender, benchmark.protocol, public_script=public_script) for contender in contenders]
    classes: dict[str, str | None] = {}
    num_frames = 0
    for done, sequence in enumerate(sequences, start=1):
        for tally in tallies:
            tally.add(sequence)
        classes[sequence.name] = sequence.object_class
        num_frames += len(sequence.boxes_xywh_px)
        if progress is not None:
            progress(done)
    return {
        "benchmark": benchmark.name,
        "task": benchmark.task,
        "protocol": {
            "name": benchmark.protocol.name,
            "source": benchmark.protocol.source,
            "rules": benchmark.protocol.rules,
        },
        "data": {"sequences": len(classes), "frames": num_frames, "split": split},
        "thresholds": {
            "overlap": OVERLAP_THRESHOLDS.tolist(),
            "centre_px": CENTRE_THRESHOLDS_PX.tolist(),
            "centre_norm": CENTRE_THRESHOLDS_NORM.tolist(),
        },
        "trackers": {tally.contender.name: tally.record(classes) for tally in tallies},
    }
