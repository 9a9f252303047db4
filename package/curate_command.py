"""`elysium curate`: captioned videos in, rows with trajectories out, and a report that counts every drop."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.live import Live

from .console import parse_pairs, quiet_transformers, require, say

if TYPE_CHECKING:
    from elysium.curation.chunk_store import ChunkStore
    from elysium.curation.curation_settings import CurationSettings


@dataclass(frozen=True, kw_only=True)
class CurateOptions:
    """What was typed beside the settings; see `elysium curate --help`."""

    videos: Path | None
    split: str
    held_out: str | None
    tasks: int
    workers: int | None
    executor: str
    executor_options: Sequence[str]
    push: str | None
    private: bool
    as_json: bool


def _share(help: str) -> Any:
    """An option in 0..1, which the settings check; its default is the recipe's."""
    return typer.Option(metavar="0..1", help=help)


def curate(
    place: Annotated[
        str, typer.Argument(metavar="INPUT", help="Table of captions, folder with one, WebDataset shards, or Hub id.")
    ],
    out: Annotated[str, typer.Argument(metavar="OUT", help="New folder, or that of a run to go on with.")],
    recipe: Annotated[str, typer.Option(metavar="NAME|FILE", help="paper, strict, or a YAML file.")] = "paper",
    videos: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the videos; the table's own.")] = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="Of a data set on the Hub.")] = "train",
    detector: Annotated[
        str | None,
        typer.Option(metavar="DIR_OR_ID", help="Zero-shot object detector of transformers, or module:function."),
    ] = None,
    min_detection_score: Annotated[float | None, _share("In the first, middle and last frame.")] = None,
    tracker: Annotated[
        str | None, typer.Option(metavar="NAME", help="csrt, kcf …, a SAM 2 video checkpoint, or module:function.")
    ] = None,
    min_track_score: Annotated[float | None, _share("Mean over the frames; a lost one counts 0.")] = None,
    drift_false_alarm: Annotated[
        float | None, typer.Option(metavar="P", help="How often a faithful box may fail the Kalman filter's test.")
    ] = None,
    min_agreement_iou: Annotated[
        float | None, _share("Of trajectory and detection, in the middle and last frame.")
    ] = None,
    min_forward_backward_iou: Annotated[float | None, _share("Mean, with the trajectory tracked back.")] = None,
    other_tracker: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="That must agree with the tracker; once for each.")
    ] = None,
    min_tracker_iou: Annotated[float | None, _share("Mean, over pairs of trackers.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Another setting of the recipe; once for each."),
    ] = None,
    form: Annotated[
        Literal["jsonl", "parquet", "webdataset"] | None,
        typer.Option("--format", help="jsonl with a folder of frames, or files that hold the frames."),
    ] = None,
    held_out: Annotated[
        str | None, typer.Option(metavar="ROWS", help="Validation rows that none of the videos should be in.")
    ] = None,
    tasks: Annotated[int, typer.Option(min=1, metavar="N", help="That the input is dealt out to.")] = 1,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Tasks that run at once; by default all.")
    ] = None,
    executor: Annotated[
        Literal["local", "slurm", "ray", "jobs"], typer.Option(help="Who runs the tasks; jobs are Hugging Face's.")
    ] = "local",
    executor_option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Of datatrove's executor: partition=gpu; once for each."),
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="cpu, cuda …; a GPU where there is one.")] = None,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Upload the rows, with a card, when they are done.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="With --push: that only you can see.")] = False,
    preview: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only show the phrases of the first N captions.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs on stdout.")] = False,
) -> None:
    """Make training rows, a phrase with its box in every frame, out of captioned videos.

    A run that was stopped goes on with the same command. Every dropped phrase is in OUT/report/exclusions.jsonl.
    """
    changes = {
        **_values(setting or [], "--set"),
        **_given(
            detector=detector,
            min_detection_score=min_detection_score,
            tracker=tracker,
            min_track_score=min_track_score,
            drift_false_alarm=drift_false_alarm,
            min_agreement_iou=min_agreement_iou,
            min_forward_backward_iou=min_forward_backward_iou,
            other_trackers=other_tracker or None,
            min_tracker_iou=min_tracker_iou,
            format=form,
            device=device,
        ),
    }
    for module in ("datatrove", "spacy", "cv2", "datasets"):
        require(module, extra="curate")
    quiet_transformers()
    from elysium.curation.curation_settings import load_settings

    settings = load_settings(recipe, changes)
    if preview is not None:
        _preview(place, settings, preview, videos=videos, split=split, as_json=as_json)
        return
    asked = CurateOptions(
        videos=videos,
        split=split,
        held_out=held_out,
        tasks=tasks,
        workers=workers,
        executor=executor,
        executor_options=executor_option or [],
        push=push,
        private=private,
        as_json=as_json,
    )
    run_curate(place, out, settings, asked)


def run_curate(place: str, out: str, settings: "CurationSettings", options: CurateOptions) -> None:
    """The work of the command.

    Args:
        place: the input.
        out: the output.
        settings: of the recipe, with what was typed.
        options: the rest.

    Raises:
        typer.BadParameter: what is no ``NAME=VALUE``, or rows that cannot be pushed.
        ValueError: input, output, detector, tracker or executor cannot be used.
    """
    from elysium.curation.chunk_store import ChunkStore
    from elysium.curation.curated_card import check_push, push_rows

    if options.push is not None:
        check_push(ChunkStore(out), options.push, settings.format)
    summary = _curate(place, out, settings, options)
    if summary is None:
        say(
            f"Handed over to {options.executor}; when it is done, the rows and their report are in {out}, and the "
            "same command with --executor local shows the counts (and pushes them, where asked to)"
        )
        return
    address = None
    if options.push is not None:
        address = push_rows(ChunkStore(out).local, options.push, summary, private=options.private)
    if options.as_json:
        print(json.dumps(summary | {"pushed_to": address}, ensure_ascii=False))
        return
    print("\n".join(summary_lines(summary, out)))
    if address is not None:
        print(f"Pushed: {address}")


def _given(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if value is not None}


def _curate(place: str, out: str, settings: "CurationSettings", options: CurateOptions) -> dict[str, Any] | None:
    from elysium.curation.box_trackers import check_tracker
    from elysium.curation.detectors import check_detector
    from elysium.curation.phrase_step import check_language_model
    from elysium.curation.pipeline import open_run

    executor_options = _values(options.executor_options, "--executor-option")
    if options.executor == "local":  # elsewhere, what is there may not be here
        check_language_model(settings.spacy_model)
        check_detector(settings.detector)
        for tracker in (settings.tracker, *settings.other_trackers):
            check_tracker(tracker)
    run = open_run(place, out, settings, videos=options.videos, split=options.split, held_out=options.held_out)
    with _quiet(run.store, options.executor):
        return run.run(
            tasks=options.tasks,
            workers=options.workers or options.tasks,
            executor=options.executor,
            executor_options=executor_options,
        )


def _values(texts: Sequence[str], option: str) -> dict[str, Any]:
    """Return ``NAME=VALUE`` as a dictionary; a value that is JSON counts as such, any other as text."""
    values: dict[str, Any] = {}
    for name, value in parse_pairs(texts, option).items():
        try:
            values[name.replace("-", "_")] = json.loads(value)
        except ValueError:
            values[name.replace("-", "_")] = value
    return values


def _preview(
    place: str, settings: "CurationSettings", count: int, *, videos: Path | None, split: str, as_json: bool
) -> None:
    """Prints what the first captions give; no video is opened and nothing written."""
    from elysium.curation.phrase_step import phrase_finder
    from elysium.curation.video_sources import open_videos

    source = open_videos(place, videos=videos, split=split)
    finder = phrase_finder(settings.spacy_model)
    for video in islice(source.read(lambda chunk: True), count):
        found = finder.find(video.caption)
        words = [phrase.text for phrase in found.phrases]
        if as_json:
            record = {"video_id": video.video_id, "caption": video.caption, "phrases": words, "dropped": found.dropped}
            print(json.dumps(record, ensure_ascii=False))
            continue
        print(f"{video.video_id}: {video.caption}")
        print(f"  kept: {', '.join(words) or 'nothing'}")
        for text, reason in found.dropped:
            print(f"  dropped: {text or 'the caption'} ({reason})")


class _Progress:
    """How many chunks are written, as a line that counts them anew whenever it is drawn."""

    def __init__(self, store: "ChunkStore") -> None:
        self._store = store

    def __rich__(self) -> str:
        return f"Curating: {len(self._store.done())} chunks written"


@contextmanager
def _quiet(store: "ChunkStore", executor: str) -> Iterator[None]:
    """What datatrove and its tasks print goes to a file of the output while they run on this machine."""
    if executor != "local" or not store.is_local:
        yield
        return
    from datatrove.utils.logging import setup_default_logger

    store.local.joinpath("logs").mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with (
            (store.local / "logs" / "run.log").open("a", encoding="utf-8") as log,
            os.fdopen(os.dup(kept), "w") as terminal,
            redirect_stderr(log),
        ):
            os.dup2(log.fileno(), 2)  # what other processes print
            setup_default_logger()  # it goes on with the stream that it was given before
            with _progress(store, Console(file=terminal, highlight=False)):
                yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        setup_default_logger()


def _progress(store: "ChunkStore", console: Console) -> Live:
    """A line that counts, where there is a terminal."""
    return Live(
        _Progress(store),
        console=console,
        auto_refresh=console.is_terminal,
        refresh_per_second=0.5,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def summary_lines(summary: Mapping[str, Any], out: str) -> list[str]:
    """The summary for people."""
    lines = [f"Rows: {out} ({summary['rows']} from {summary['videos']} videos)"]
    for reasons in summary["dropped_videos"].values():
        lines += [f"videos dropped: {count} ({reason})" for reason, count in reasons.items()]
    for step in summary["steps"]:
        dropped = ", ".join(f"{reason} {count}" for reason, count in step["dropped"].items())
        lines.append(f"{step['step']}: {step['in']} phrases in, {step['out']} out{dropped and f' ({dropped})'}")
    twice = len(summary["near_duplicates"]["same_pictures"])
    if twice:
        lines.append(f"near-duplicates: {twice} groups of videos with the same pictures")
    if "leaks" in summary:
        lines.append(f"leaks: {summary['leaks']['leaked_val_videos']} held-out videos are among them")
    return [*lines, f"Report: {out}/report"]
