"""`elysium evaluate`: runs trackers or a model on a benchmark, scores them, and writes one report."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .console import check_folder, frame_progress, load_tracker, parse_pairs, quiet_transformers, require, say

if TYPE_CHECKING:
    from elysium.evaluation.benchmark_list import Benchmark
    from elysium.evaluation.peers import Peer
    from elysium.evaluation.score_benchmark import Contender
    from elysium.readers.records import TrackingSequence

DEFAULT_MODEL = "elysium-tiny"
PROTOCOLS = ("standard", "public-script")
RESULTS = "results"


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What was typed; see `elysium evaluate --help`."""

    data: str
    output: Path
    split: str | None
    models: list[str]
    trackers: list[str]
    results: list[str]
    protocol: str
    device: str | None
    window_frames: int
    reground: bool
    zoom: float | None
    limit: int | None
    batch_size: int
    wordnet: Path | None
    judge_url: str | None
    judge_model: str | None
    as_json: bool


@dataclass(frozen=True)
class Processes:
    """The processes that share the work: one, or those that `accelerate launch` started."""

    index: int
    count: int
    wait: Callable[[], None]

    @classmethod
    def now(cls) -> "Processes":
        """As the environment says."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls(0, 1, lambda: None)
        require("accelerate", extra="eval")
        from accelerate import PartialState

        state = PartialState()
        return cls(state.process_index, state.num_processes, state.wait_for_everyone)


def run_evaluate(benchmark: str, options: EvaluateOptions) -> None:
    """The whole command.

    Raises:
        typer.BadParameter: an argument that cannot be used.
        ValueError: data, results or a model that cannot be used.
    """
    for module in ("matplotlib", "cv2"):
        require(module, extra="eval")
    quiet_transformers()
    from elysium.evaluation.benchmark_list import BENCHMARKS
    from elysium.evaluation.pictures_and_words import QUESTION_BENCHMARKS

    if benchmark not in BENCHMARKS and benchmark not in QUESTION_BENCHMARKS:
        known = ", ".join([*BENCHMARKS, *QUESTION_BENCHMARKS])
        raise typer.BadParameter(f"the benchmark must be one of {known}, got {benchmark!r}", param_hint="BENCHMARK")
    if options.protocol not in PROTOCOLS:
        raise typer.BadParameter(
            f"the protocol must be {' or '.join(PROTOCOLS)}, got {options.protocol!r}", param_hint="--protocol"
        )
    check_folder(options.output.absolute())
    processes = Processes.now()
    try:
        if benchmark in BENCHMARKS:
            report = _evaluate_tracking(BENCHMARKS[benchmark], options, processes)
        else:
            report = _evaluate_questions(benchmark, options, processes)
        if report is not None:
            _write(report, options)
    except KeyboardInterrupt:
        if processes.index == 0:
            say(f"Interrupted: what is finished is kept in {options.output}; the same command resumes the run.")
        raise


def _evaluate_tracking(
    benchmark: "Benchmark", options: EvaluateOptions, processes: Processes
) -> dict[str, Any] | None:
    """Tracks what is not tracked yet and scores everything; None in all processes but the first, and where the truth
    is withheld."""
    from elysium.evaluation.score_benchmark import score_benchmark
    from elysium.evaluation.track_benchmark import check_settings, run_tracker

    split = benchmark.split(options.split)
    peers = _peers(options)
    results = parse_pairs(options.results, "--results", form="NAME=DIR")
    folders = {name: Path(folder) for name, folder in results.items()}
    _check_names([peer.name for peer in peers] + list(folders))
    for peer in peers:
        if not peer.can_do(benchmark.task):
            raise typer.BadParameter(
                f"{benchmark.name} asks by words, which {peer.name} does not understand; leave it out",
                param_hint="--tracker",
            )
    sequences = _Sequences(benchmark, options.data, split, options.limit)
    failures = []
    for peer in peers:
        folder = options.output / RESULTS / peer.name
        if processes.index == 0:
            asked = {"benchmark": benchmark.name, "data": str(options.data), "split": split}
            check_settings(folder.with_name(f"{peer.name}.settings.json"), asked | peer.settings)
        processes.wait()
        with _progress(f"Tracking with {peer.name}", sequences.share(processes), processes) as progress:
            found = run_tracker(
                peer,
                benchmark,
                sequences,
                folder,
                process_index=processes.index,
                num_processes=processes.count,
                progress=progress,
            )
        failures.append(found)
    processes.wait()
    for found in failures:
        found.check()
    if processes.index:
        return None
    contenders = _contenders(peers, folders, options.output)
    if next(iter(sequences)).truth_is_withheld:
        _pack(contenders, options.output)
        return None
    with _progress("Scoring", sequences.count, processes) as progress:
        return score_benchmark(
            benchmark,
            sequences,
            contenders,
            split=split,
            public_script=options.protocol == "public-script",
            progress=progress,
        )


class _Sequences:
    """The sequences of a benchmark, read anew by every loop."""

    def __init__(self, benchmark: "Benchmark", data: str, split: str, limit: int | None) -> None:
        self._read = partial(benchmark.read, data, split)
        self._limit = limit
        # Counting streamed rows would fetch them all.
        self.count = sum(1 for _ in self) if Path(data).exists() else limit

    def __iter__(self) -> "Iterator[TrackingSequence]":
        from itertools import islice

        return islice(self._read(), self._limit)

    def share(self, processes: Processes) -> int | None:
        """How many of them this process takes."""
        return None if self.count is None else len(range(processes.index, self.count, processes.count))


def _peers(options: EvaluateOptions) -> "list[Peer]":
    """What is to be run."""
    from elysium.evaluation.opencv_trackers import OPENCV_TRACKERS, make_opencv_tracker
    from elysium.evaluation.peers import FIRST_BOX, ElysiumPeer, FirstBox, OpenCVPeer

    models = options.models or ([] if options.trackers or options.results else [DEFAULT_MODEL])
    peers: list[Peer] = [
        ElysiumPeer(
            Path(model).name,
            model=model,
            load=partial(load_tracker, model, options.device),
            window_frames=options.window_frames,
            reground=options.reground,
            zoom=options.zoom,
        )
        for model in models
    ]
    for name in options.trackers:
        if name != FIRST_BOX and name not in OPENCV_TRACKERS:
            known = ", ".join([FIRST_BOX, *OPENCV_TRACKERS])
            raise typer.BadParameter(f"a tracker must be one of {known}, got {name!r}", param_hint="--tracker")
        if name in OPENCV_TRACKERS:
            make_opencv_tracker(name)  # where OpenCV lacks it, before the work
        peers.append(FirstBox(name) if name == FIRST_BOX else OpenCVPeer(name))
    return peers


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise typer.BadParameter(f"trackers must have different names, got {name} twice; rename one with NAME=DIR")
        if "/" in name or name in (".", ".."):
            raise typer.BadParameter(f"a tracker's name must not hold slashes, got {name!r}")


def _contenders(peers: "list[Peer]", folders: dict[str, Path], output: Path) -> "list[Contender]":
    from elysium.evaluation.result_files import ResultFolder
    from elysium.evaluation.score_benchmark import Contender

    ran = [Contender(p.name, p.kind, p.origin, ResultFolder(output / RESULTS / p.name)) for p in peers]
    given = [Contender(name, "results", str(place), ResultFolder(place)) for name, place in folders.items()]
    return ran + given


def _pack(contenders: "list[Contender]", output: Path) -> None:
    """Archives for a benchmark's server, where the truth is withheld."""
    from elysium.evaluation.result_files import write_submission

    for contender in contenders:
        archive = output / f"{contender.name}.zip"
        write_submission(contender.results.folder, archive)
        print(f"Submission: {archive}")
    say("The truth of this split is withheld: send the archive to the benchmark's server for figures.")


def _evaluate_questions(benchmark: str, options: EvaluateOptions, processes: Processes) -> dict[str, Any] | None:
    """Asks a model a benchmark's questions and scores its answers."""
    from elysium.evaluation.judge import Judge
    from elysium.evaluation.pictures_and_words import evaluate_questions

    if options.trackers or options.results or len(options.models) > 1 or options.protocol != "standard":
        raise typer.BadParameter(
            f"{benchmark} asks one --model by the standard protocol, got more models, trackers, results or protocols; "
            "leave them out"
        )
    if bool(options.judge_url) != bool(options.judge_model):
        raise typer.BadParameter("a judge must have both --judge-url and --judge-model, got one of them")
    judge = Judge(options.judge_url, options.judge_model) if options.judge_url and options.judge_model else None
    with _progress("Asking", None, processes) as progress:
        return evaluate_questions(
            benchmark,
            data=options.data,
            split=options.split,
            model=options.models[0] if options.models else DEFAULT_MODEL,
            folder=options.output,
            device=options.device,
            limit=options.limit,
            batch_size=options.batch_size,
            wordnet_dir=options.wordnet,
            judge=judge,
            process_index=processes.index,
            num_processes=processes.count,
            wait=processes.wait,
            progress=progress,
        )


def _write(report: dict[str, Any], options: EvaluateOptions) -> None:
    """Writes the report and prints its figures."""
    from importlib.metadata import version

    from elysium.evaluation.report import write_report

    report = report | {"command": shlex.join(["elysium", *sys.argv[1:]]), "elysium_version": version("elysium-vlm")}
    written = write_report(report, options.output)
    if options.as_json:
        print(json.dumps(report))
        return
    for name, figures in report.get("trackers", report.get("models", {})).items():
        shown = figures.get("metrics", figures)
        values = [f"{key} {value:.2f}" for key, value in shown.items() if isinstance(value, float)]
        print(f"{name}: {', '.join(values)}")
        if "public_script" in figures:
            values = [f"{key} {value:.2f}" for key, value in figures["public_script"].items()]
            print(f"{name}, public script (not the standard): {', '.join(values)}")
    print(f"Report: {next(path for path in written if path.suffix == '.html')}")


@contextmanager
def _progress(label: str, total: int | None, processes: Processes) -> Iterator[Callable[..., None] | None]:
    """A bar in the first process."""
    if processes.index:
        yield None
        return
    with frame_progress(label, total) as progress:
        yield lambda done, known=None: progress(done, known or total)
