"""`elysium evaluate`: run trackers or a model on a benchmark, score them, and write one report."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elysium.tracking.options import TrackingOptions

from .arguments import DEFAULT_MODEL, DeviceOption, JsonOption
from .console import check_folder, frame_progress, load_tracker, parse_pairs, quiet_transformers, require, say

if TYPE_CHECKING:
    from elysium.evaluation.benchmark_list import Benchmark
    from elysium.evaluation.evaluated_trackers import EvaluatedTracker
    from elysium.evaluation.resumable import Processes
    from elysium.readers.records import TrackingSequence

PROTOCOLS = ("standard", "public-script")
RESULTS = "results"


def evaluate(
    benchmark: Annotated[
        str, typer.Argument(metavar="BENCHMARK", help="Benchmark: lasot, got10k, refcoco …; see docs/evaluation.md.")
    ],
    data: Annotated[str, typer.Option(metavar="DIR", help="Dataset in its official layout, or a Hub id.")],
    output: Annotated[
        Path, typer.Option(metavar="REPORT", help="Folder of the report; an interrupted run resumes in it.")
    ],
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Split of the dataset. Default: the benchmark's own.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR_OR_ID", help="Checkpoint; repeat it for several. Default: elysium-tiny."),
    ] = None,
    tracker: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="OpenCV tracker (csrt, kcf, mil …), or first-box; repeat it for several."),
    ] = None,
    results: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="Result files of another tracker; repeat it for several."),
    ] = None,
    protocol: Annotated[
        str, typer.Option(metavar="NAME", help="Protocol: standard, or public-script to add that code's figures.")
    ] = "standard",
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Number of sequences to evaluate, the first ones.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, metavar="B", help="Number of questions in a batch, for question benchmarks.")
    ] = 8,
    wordnet: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of WordNet's files, for METEOR.")] = None,
    judge_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Address of an OpenAI-compatible judge of answers.")
    ] = None,
    judge_model: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the judge's model.")] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
    *,
    options: TrackingOptions,
) -> None:
    """Score a model, OpenCV's trackers and others' results on a benchmark, in one report with plots.

    Several processes share the work: accelerate launch --num_processes N -m elysium.cli evaluate …
    """
    for module in ("matplotlib", "cv2"):
        require(module, extra="eval")
    quiet_transformers()
    from elysium.evaluation.answer_benchmark import evaluate_questions
    from elysium.evaluation.benchmark_list import BENCHMARKS
    from elysium.evaluation.question_benchmarks import QUESTION_BENCHMARKS

    if benchmark not in BENCHMARKS and benchmark not in QUESTION_BENCHMARKS:
        known = ", ".join([*BENCHMARKS, *QUESTION_BENCHMARKS])
        raise typer.BadParameter(f"the benchmark must be one of {known}, got {benchmark!r}", param_hint="BENCHMARK")
    if protocol not in PROTOCOLS:
        raise typer.BadParameter(
            f"the protocol must be {' or '.join(PROTOCOLS)}, got {protocol!r}", param_hint="--protocol"
        )
    check_folder(output.absolute())
    if benchmark in QUESTION_BENCHMARKS and (tracker or results or len(model or []) > 1 or protocol != "standard"):
        raise typer.BadParameter(
            f"{benchmark} asks one --model by the standard protocol, got more models, trackers, results or protocols; "
            "leave them out"
        )
    if benchmark in QUESTION_BENCHMARKS and bool(judge_url) != bool(judge_model):
        raise typer.BadParameter("a judge must have both --judge-url and --judge-model, got one of them")
    processes = _processes()
    try:
        if benchmark in BENCHMARKS:
            models = model or ([] if tracker or results else [DEFAULT_MODEL])
            report = _evaluate_tracking(
                BENCHMARKS[benchmark],
                _trackers(models, tracker or [], device, options, output / RESULTS),
                parse_pairs(results or [], "--results", form="NAME=DIR"),
                data=data,
                split=split,
                limit=limit,
                output=output,
                public_script=protocol == "public-script",
                processes=processes,
            )
        else:
            from elysium.evaluation.judge import Judge

            with _progress("Asking", None, processes) as progress:
                report = evaluate_questions(
                    benchmark,
                    data=data,
                    split=split,
                    model=model[0] if model else DEFAULT_MODEL,
                    folder=output,
                    device=device,
                    limit=limit,
                    batch_size=batch_size,
                    wordnet_dir=wordnet,
                    judge=Judge(judge_url, judge_model) if judge_url and judge_model else None,
                    processes=processes,
                    progress=progress,
                )
        if report is not None:
            _write(report, output, as_json=as_json)
    except KeyboardInterrupt:
        if processes.index == 0:
            say(f"Interrupted: what is finished is kept in {output}; the same command resumes the run.")
        raise


def _evaluate_tracking(
    benchmark: "Benchmark",
    trackers: "list[EvaluatedTracker]",
    given: dict[str, str],
    *,
    data: str,
    split: str | None,
    limit: int | None,
    output: Path,
    public_script: bool,
    processes: "Processes",
) -> dict[str, Any] | None:
    """Track what is not tracked yet and score everything.

    Args:
        benchmark: entry in the list of benchmarks.
        trackers: trackers to run.
        given: folders of other trackers' result files, by name.
        data: dataset in its official layout, or a Hub id.
        split: split of the dataset, or None for the benchmark's own.
        limit: number of sequences, or None for all.
        output: folder of the report.
        public_script: whether the public script's figures are added.
        processes: the processes that share the sequences.

    Returns:
        The report; None in all processes but the first, and where the ground truth is withheld.
    """
    from elysium.evaluation.evaluated_trackers import EvaluatedTracker
    from elysium.evaluation.resumable import check_settings
    from elysium.evaluation.score_benchmark import score_benchmark
    from elysium.evaluation.track_benchmark import run_tracker

    split = benchmark.split(split)
    _check_names([tracker.name for tracker in trackers] + list(given))
    for tracker in trackers:
        if not tracker.supports(benchmark.task):
            raise typer.BadParameter(
                f"{benchmark.name} prompts by text, which {tracker.name} does not understand; leave it out",
                param_hint="--tracker",
            )
    sequences = _Sequences(benchmark, data, split, limit)
    failures = []
    for tracker in trackers:
        if processes.index == 0:
            settings = {"benchmark": benchmark.name, "data": data, "split": split} | tracker.settings
            check_settings(tracker.folder.with_name(f"{tracker.name}.settings.json"), settings)
        processes.wait()
        total = sequences.count
        with _progress(f"Tracking with {tracker.name}", processes.share(total), processes) as progress:
            found = run_tracker(tracker, benchmark, sequences, processes=processes, total=total, progress=progress)
        failures.append(found)
    processes.wait()
    for found in failures:
        found.check()
    if processes.index:
        return None
    trackers = trackers + [EvaluatedTracker(name, Path(folder)) for name, folder in given.items()]
    if next(iter(sequences)).truth_is_withheld:
        _pack(trackers, output)
        return None
    with _progress("Scoring", sequences.count, processes) as progress:
        return score_benchmark(
            benchmark, sequences, trackers, split=split, public_script=public_script, progress=progress
        )


def _processes() -> "Processes":
    """Return the processes that share the work: one, or those that `accelerate launch` started."""
    from elysium.evaluation.resumable import Processes

    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    require("accelerate", extra="eval")
    from accelerate import PartialState

    state = PartialState()
    return Processes(state.process_index, state.num_processes, state.wait_for_everyone)


class _Sequences:
    """Iterate over the sequences of a benchmark, read anew by every loop."""

    def __init__(self, benchmark: "Benchmark", data: str, split: str, limit: int | None) -> None:
        self._read = partial(benchmark.read, data, split)
        self._limit = limit
        # Counting streamed rows would fetch them all.
        self.count = sum(1 for _ in self) if Path(data).exists() else limit

    def __iter__(self) -> "Iterator[TrackingSequence]":
        from itertools import islice

        return islice(self._read(), self._limit)


def _trackers(
    models: Sequence[str], names: Sequence[str], device: str | None, options: TrackingOptions, results: Path
) -> "list[EvaluatedTracker]":
    """Return the trackers to run: checkpoints, OpenCV trackers, and the baseline."""
    from elysium.evaluation.evaluated_trackers import FIRST_BOX, ElysiumTracker, FirstBox, OpenCVTracker
    from elysium.evaluation.opencv_trackers import OPENCV_TRACKERS, make_opencv_tracker

    trackers: list[EvaluatedTracker] = []
    for model in models:
        name, load = Path(model).name, partial(load_tracker, model, device)
        trackers.append(ElysiumTracker(name, results / name, model=model, load=load, options=options))
    for name in names:
        if name != FIRST_BOX and name not in OPENCV_TRACKERS:
            known = ", ".join([FIRST_BOX, *OPENCV_TRACKERS])
            raise typer.BadParameter(f"a tracker must be one of {known}, got {name!r}", param_hint="--tracker")
        if name in OPENCV_TRACKERS:
            make_opencv_tracker(name)  # where OpenCV lacks it, before the work
        trackers.append((FirstBox if name == FIRST_BOX else OpenCVTracker)(name, results / name))
    return trackers


def _check_names(names: Sequence[str]) -> None:
    """Refuse a name that is used twice or cannot be that of a folder."""
    for name in names:
        if names.count(name) > 1:
            raise typer.BadParameter(f"trackers must have different names, got {name} twice; rename one with NAME=DIR")
        if "/" in name or name in (".", ".."):
            raise typer.BadParameter(f"a tracker's name must not hold slashes, got {name!r}")


def _pack(trackers: "list[EvaluatedTracker]", output: Path) -> None:
    """Write archives for a benchmark's server, where the ground truth is withheld."""
    from elysium.evaluation.result_files import write_submission

    for tracker in trackers:
        archive = output / f"{tracker.name}.zip"
        write_submission(tracker.folder, archive)
        print(f"Submission: {archive}")
    say("The ground truth of this split is withheld: send the archive to the benchmark's server for figures.")


def _write(report: dict[str, Any], output: Path, *, as_json: bool) -> None:
    """Write the report and print its figures."""
    from importlib.metadata import version

    from elysium.evaluation.report import write_report

    report = report | {"command": shlex.join(["elysium", *sys.argv[1:]]), "elysium_version": version("elysium-vlm")}
    written = write_report(report, output)
    if as_json:
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
def _progress(label: str, total: int | None, processes: "Processes") -> Iterator[Callable[..., None] | None]:
    """Yield a progress bar in the first process, None in the others."""
    if processes.index:
        yield None
        return
    with frame_progress(label, total) as progress:
        yield lambda done, known=None: progress(done, known or total)
