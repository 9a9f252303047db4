"""`elysium evaluate`: run trackers or a model on a benchmark, score them, and write one report."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from elysium.evaluation.resumable import Processes, check_failures, check_settings
from elysium.tracking.checkpoints import DEFAULT_MODEL
from elysium.tracking.options import TrackingOptions

from .arguments import DeviceOption, JsonOption
from .console import (
    check_folder,
    check_model,
    frame_progress,
    load_tracker,
    parse_pairs,
    quiet_transformers,
    require,
    say,
)

if TYPE_CHECKING:
    from elysium.evaluation.benchmark_list import Benchmark
    from elysium.evaluation.evaluated_trackers import EvaluatedTracker
    from elysium.readers.samples import TrackingSequence

TRACKERS, QUESTIONS = "Tracking benchmarks", "Question benchmarks"  # panels of the help


def evaluate(
    benchmark: Annotated[str, typer.Argument(metavar="BENCHMARK", help="Benchmark, one of those above.")],
    data: Annotated[str, typer.Option(metavar="DIR", help="Dataset in its official layout, or a Hub id.")],
    output: Annotated[
        Path, typer.Option(metavar="REPORT", help="Folder of the report; an interrupted run resumes in it.")
    ],
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Split of the dataset. Default: the benchmark's own.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR_OR_ID", help=f"Checkpoint; repeat it for several. Default: {DEFAULT_MODEL}."),
    ] = None,
    tracker: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="OpenCV tracker (csrt, kcf, mil …), or first-box; repeat it for several.",
            rich_help_panel=TRACKERS,
        ),
    ] = None,
    results: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DIR",
            help="Result files of another tracker; repeat it for several.",
            rich_help_panel=TRACKERS,
        ),
    ] = None,
    protocol: Annotated[
        Literal["standard", "public-script"],
        typer.Option(
            metavar="NAME",
            help="Protocol: standard, or public-script to add that code's figures.",
            rich_help_panel=TRACKERS,
        ),
    ] = "standard",
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Number of sequences to evaluate, the first ones.")
    ] = None,
    batch_size: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="B",
            help="Number of questions in a batch, for question benchmarks.",
            rich_help_panel=QUESTIONS,
        ),
    ] = 8,
    judge_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Address of an OpenAI-compatible judge of answers.", rich_help_panel=QUESTIONS
        ),
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the judge's model.", rich_help_panel=QUESTIONS)
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
    *,
    options: TrackingOptions,
) -> None:
    """Score a model, OpenCV's trackers and others' results on a benchmark, in one report with plots.

    Tracking: lasot, lasot-language, got10k, otb, uav123, nfs, trackingnet, tnl2k, elysium-track-sot,
    elysium-track-rsot. Questions: refcoco, refcoco+, refcocog, refcoco-reg, refcoco+-reg, refcocog-reg, video-reg,
    msvd-qa, msrvtt-qa, tgif-qa, activitynet-qa, video-qa.

    Needs the extra `eval`. Several processes share the work: accelerate launch --num_processes N -m elysium evaluate …
    """
    for module in ("matplotlib", "cv2"):
        require(module, extra="eval")
    quiet_transformers()
    from elysium.evaluation.benchmark_list import BENCHMARKS
    from elysium.evaluation.question_benchmarks import QUESTION_BENCHMARKS

    if benchmark not in BENCHMARKS and benchmark not in QUESTION_BENCHMARKS:
        known = ", ".join([*BENCHMARKS, *QUESTION_BENCHMARKS])
        raise typer.BadParameter(f"the benchmark must be one of {known}, got {benchmark!r}", param_hint="BENCHMARK")
    models = model or ([] if tracker or results else [DEFAULT_MODEL])
    for name in models:
        check_model(name, device)
    check_folder(output.absolute())
    if benchmark in QUESTION_BENCHMARKS and (tracker or results or len(model or []) > 1 or protocol != "standard"):
        raise typer.BadParameter(
            f"{benchmark} asks one --model by the standard protocol, got more models, trackers, results or protocols; "
            "leave them out"
        )
    processes = _processes()
    shared: dict[str, Any] = {"data": data, "split": split, "limit": limit, "processes": processes}
    try:
        if benchmark in BENCHMARKS:
            given = parse_pairs(results or [], "--results", form="NAME=DIR")
            trackers = _trackers(models, tracker or [], given, device, options, output / "results")
            report = _evaluate_trackers(
                BENCHMARKS[benchmark], trackers, output, public_script=protocol == "public-script", **shared
            )
        else:
            report = _evaluate_questions(
                benchmark,
                judge=(judge_url, judge_model),
                model=models[0],
                folder=output,
                device=device,
                batch_size=batch_size,
                **shared,
            )
        if report is not None:
            _write(report, output, as_json=as_json)
    except KeyboardInterrupt:
        if processes.index == 0:
            say(f"Interrupted: what is finished is kept in {output}; the same command resumes the run.")
        raise


def _evaluate_questions(
    benchmark: str, *, judge: tuple[str | None, str | None], processes: Processes, **options: Any
) -> dict[str, Any] | None:
    """Answer what is not answered yet and score everything, with a judge where its address and name are given."""
    from elysium.evaluation.answer_benchmark import evaluate_questions
    from elysium.evaluation.judge import Judge

    url, name = judge
    if bool(url) != bool(name):
        raise typer.BadParameter("a judge must have both --judge-url and --judge-model, got one of them")
    judged_by = Judge(url, name) if url and name else None
    with _progress("Answering", None, processes) as progress:
        return evaluate_questions(benchmark, judge=judged_by, processes=processes, progress=progress, **options)


def _evaluate_trackers(
    benchmark: "Benchmark",
    trackers: "list[EvaluatedTracker]",
    output: Path,
    *,
    data: str,
    split: str | None,
    limit: int | None,
    public_script: bool,
    processes: Processes,
) -> dict[str, Any] | None:
    """Track what is not tracked yet and score everything.

    Returns:
        The report; None in all processes but the first, and where the ground truth is withheld.
    """
    from elysium.evaluation.score_benchmark import score_benchmark

    benchmark, split = benchmark.of_data(data, split)
    _check_trackers(trackers, benchmark)

    def read() -> "Iterator[TrackingSequence]":
        return islice(benchmark.read(data, split), limit)

    total = sum(1 for _ in read()) if Path(data).exists() else limit  # counting streamed rows would fetch them all
    is_withheld = next(read()).truth_is_withheld  # data that cannot be read are an error before anything is written
    settings = {"benchmark": benchmark.name, "data": data, "split": split}
    _run_trackers([each for each in trackers if each.track is not None], benchmark, read, settings, total, processes)
    if processes.index:
        return None
    if is_withheld:
        _pack(trackers, output)
        return None
    with _progress("Scoring", total, processes) as progress:
        return score_benchmark(
            benchmark, read(), trackers, split=split, public_script=public_script, progress=progress
        )


def _run_trackers(
    trackers: "list[EvaluatedTracker]",
    benchmark: "Benchmark",
    read: "Callable[[], Iterator[TrackingSequence]]",
    settings: dict[str, Any],
    total: int | None,
    processes: Processes,
) -> None:
    """Run every tracker over the sequences that it has no result for; failures are raised after the last tracker."""
    from elysium.evaluation.evaluated_trackers import run_tracker

    errors = []
    for tracker in trackers:
        if processes.index == 0:
            own = {"kind": tracker.kind, "origin": tracker.origin} | tracker.settings
            check_settings(tracker.folder.with_name(f"{tracker.name}.settings.json"), settings | own)
        processes.wait()
        with _progress(f"Tracking with {tracker.name}", processes.share(total), processes) as progress:
            errors.append(run_tracker(tracker, benchmark, read(), processes=processes, total=total, progress=progress))
    processes.wait()
    for found in errors:
        check_failures("sequence", found)


def _processes() -> Processes:
    """Return the processes that share the work: one, or those that `accelerate launch` started."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    require("accelerate", extra="eval")
    from accelerate import PartialState

    state = PartialState()
    return Processes(state.process_index, state.num_processes, state.wait_for_everyone)


def _trackers(
    models: Sequence[str],
    names: Sequence[str],
    given: dict[str, str],
    device: str | None,
    options: TrackingOptions,
    folder: Path,
) -> "list[EvaluatedTracker]":
    """Return checkpoints, OpenCV trackers and the baseline, which are run, and trackers whose results are given."""
    from elysium.evaluation import evaluated_trackers as kinds
    from elysium.evaluation.opencv_trackers import OPENCV_TRACKERS

    trackers = []
    for model in models:
        name, load = Path(model).name, partial(load_tracker, model, device)
        trackers.append(kinds.elysium_tracker(name, folder / name, model=model, load=load, options=options))
    for name in names:
        if name == kinds.FIRST_BOX:
            trackers.append(kinds.first_box_tracker(folder / name))
        elif name in OPENCV_TRACKERS:
            trackers.append(kinds.opencv_tracker(name, folder / name))
        else:
            known = ", ".join([kinds.FIRST_BOX, *OPENCV_TRACKERS])
            raise typer.BadParameter(f"a tracker must be one of {known}, got {name!r}", param_hint="--tracker")
    return trackers + [kinds.EvaluatedTracker(name, Path(place)) for name, place in given.items()]


def _check_trackers(trackers: "list[EvaluatedTracker]", benchmark: "Benchmark") -> None:
    """Refuse a name that is used twice or cannot be that of a folder, and a tracker that does not know the prompt."""
    names = [tracker.name for tracker in trackers]
    for tracker in trackers:
        name = tracker.name
        if names.count(name) > 1:
            raise typer.BadParameter(f"trackers must have different names, got {name} twice; rename one with NAME=DIR")
        if "/" in name or name in (".", ".."):
            raise typer.BadParameter(f"a tracker's name must not hold slashes, got {name!r}")
        if tracker.track is not None and benchmark.task not in tracker.tasks:
            raise typer.BadParameter(
                f"{benchmark.name} prompts by text, which {name} does not understand; leave it out",
                param_hint="--tracker",
            )


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
def _progress(label: str, total: int | None, processes: Processes) -> Iterator[Callable[..., None] | None]:
    """Yield a progress bar in the first process, None in the others."""
    if processes.index:
        yield None
        return
    with frame_progress(label, total) as progress:
        yield lambda done, known=None: progress(done, known or total)
