"""Scoring result files at LaSOT's size: ours against the got10k toolkit's OTB experiment, in one process, in turns.

    python -m research.ope_speed --output research/results/ope_speed.json

1,400 sequences of 2,500 boxes are written in LaSOT's layout, truth and results. "Ours" is what `elysium evaluate lasot
--results` does: reads both files of each sequence and its flags of absence, scores and gathers the report. The
baseline is `ExperimentOTB.report` on the same files, without its plots: it reads both files and has success and
precision, but no normalised precision and no absence. The memory is that of the whole process after ours has run,
before the toolkit is loaded. The last line is JSON.
"""

import argparse
import platform
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import write_record
from elysium.evaluation.benchmark_list import BENCHMARKS
from elysium.evaluation.evaluated_trackers import EvaluatedTracker
from elysium.evaluation.score_benchmark import score_benchmark


def write_files(root: Path, num_sequences: int, num_frames: int) -> None:
    """Wandering boxes, results about them, and flags of absence for three in a hundred frames."""
    rng = np.random.default_rng(0)
    results = root / "results" / "ours"
    results.mkdir(parents=True)
    for number in range(1, num_sequences + 1):
        place = root / "data" / "cup" / f"cup-{number}"
        place.mkdir(parents=True)
        truth = np.cumsum(rng.normal(0, 3, (num_frames, 4)), axis=0) + [400, 300, 0, 0]
        truth[:, 2:] = np.abs(truth[:, 2:]) + 20
        np.savetxt(place / "groundtruth.txt", truth, fmt="%d", delimiter=",")
        for name, share in (("full_occlusion", 0.02), ("out_of_view", 0.01)):
            flags = rng.random(num_frames) < share
            (place / f"{name}.txt").write_text(",".join("1" if flag else "0" for flag in flags))
        answer = truth + rng.normal(0, 8, truth.shape)
        np.savetxt(results / f"cup-{number}.txt", answer, fmt="%.2f", delimiter=",")


def time_ours(root: Path) -> tuple[float, dict[str, Any]]:
    """Seconds and the report."""
    start_s = time.perf_counter()
    benchmark = BENCHMARKS["lasot"]
    tracker = EvaluatedTracker("ours", root / "results" / "ours")
    report = score_benchmark(benchmark, benchmark.read(root / "data", "all"), [tracker], split="all")
    return time.perf_counter() - start_s, report


class _Annotations:
    """A data set as the toolkit's experiments take one: it reads the truth when it is asked."""

    def __init__(self, root: Path) -> None:
        self.files = sorted((root / "data").glob("*/*/groundtruth.txt"))
        self.seq_names = [file.parent.name for file in self.files]

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[tuple[list[str], NDArray[np.float64]]]:
        return (([], np.loadtxt(file, delimiter=",")) for file in self.files)


def time_toolkit(root: Path) -> float:
    """Seconds of the toolkit; its constructor, which asks the network for OTB, is passed by."""
    from got10k.experiments import ExperimentOTB

    start_s = time.perf_counter()
    experiment = object.__new__(ExperimentOTB)
    experiment.dataset, experiment.nbins_iou, experiment.nbins_ce = _Annotations(root), 21, 51
    experiment.result_dir, experiment.report_dir = str(root / "results"), str(root / "reports")
    experiment.plot_curves = lambda *_: None
    with redirect_stdout(StringIO()):
        experiment.report(["ours"])
    return time.perf_counter() - start_s


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=1400)
    parser.add_argument("--frames", type=int, default=2500)
    parser.add_argument("--rounds", type=int, default=2, help="how often each is timed; the fastest counts")
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_files(root, arguments.sequences, arguments.frames)
        first_s, report = time_ours(root)
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        toolkit_s, ours_s = [], [first_s]
        for number in range(arguments.rounds):
            toolkit_s.append(time_toolkit(root))
            if number:
                ours_s.append(time_ours(root)[0])
    record = {
        "sequences": arguments.sequences,
        "frames": report["data"]["frames"],
        "ours_s": round(min(ours_s), 2),
        "got10k_s": round(min(toolkit_s), 2),
        "ratio": round(min(toolkit_s) / min(ours_s), 2),
        "peak_mb": round(peak_mb),
        "machine": f"{platform.machine()}, {platform.processor() or platform.system()}",
    }
    for name, value in record.items():
        print(f"{name:12} {value}")
    write_record(record, arguments.output)


if __name__ == "__main__":
    main()
