"""`elysium curate`: make tracks of noun phrases from captioned videos, and report every drop."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.live import Live

from .arguments import RUNNING, JsonOption
from .console import parse_pairs, quiet_transformers, require, say

if TYPE_CHECKING:
    from elysium.curation.chunk_store import ChunkStore
    from elysium.curation.curation_settings import CurationSettings
    from elysium.curation.read_step import VideoSource

HUB = "Hugging Face Hub"  # a panel of the help


def curate(
    place: Annotated[
        str, typer.Argument(metavar="INPUT", help="Table of captions, folder with one, WebDataset shards, or Hub id.")
    ],
    out: Annotated[str, typer.Argument(metavar="OUT", help="New folder, or that of a stopped run to resume.")],
    recipe: Annotated[
        str, typer.Option(metavar="paper|FILE", help="Settings: the paper's thresholds, or a YAML file.")
    ] = "paper",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Setting that overrides the recipe's; repeatable."),
    ] = None,
    videos: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the videos; by default the table's.")
    ] = None,
    split: Annotated[
        str, typer.Option(metavar="NAME", help="Split of a dataset on the Hub.", rich_help_panel=HUB)
    ] = "train",
    held_out: Annotated[
        str | None, typer.Option(metavar="ROWS", help="Validation records; the report lists videos found in both.")
    ] = None,
    tasks: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of tasks to split the input into.", rich_help_panel=RUNNING)
    ] = 1,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Number of tasks that run at once; by default all.", rich_help_panel=RUNNING
        ),
    ] = None,
    executor: Annotated[
        Literal["local", "slurm", "ray", "jobs"],
        typer.Option(help="Executor of the tasks; jobs are Hugging Face Jobs.", rich_help_panel=RUNNING),
    ] = "local",
    executor_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Argument of datatrove's executor, like partition=gpu; repeatable.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="OWNER/NAME", help="Dataset on the Hub to publish the finished records to.", rich_help_panel=HUB
        ),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make the dataset of --push private.", rich_help_panel=HUB)
    ] = False,
    preview: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Show the phrases of the first N captions, and stop.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make tracks of noun phrases from captioned videos, for training.

    Needs the extra `curate`. The same command resumes a stopped run. Every drop is listed in
    OUT/report/exclusions.jsonl.
    """
    changes, executor_options = _values(setting, "--set"), _values(executor_option, "--executor-option")
    for module in ("datatrove", "spacy", "cv2", "datasets"):
        require(module, extra="curate")
    quiet_transformers()
    from elysium.curation.chunk_store import ChunkStore
    from elysium.curation.curation_settings import load_settings
    from elysium.curation.pipeline import curate as run_pipeline
    from elysium.curation.pipeline import open_run
    from elysium.curation.read_step import open_videos
    from elysium.processing.atomic_files import full_disk_is_an_output_error

    settings, store = load_settings(recipe, changes), ChunkStore(out)
    if preview is not None:
        _preview(open_videos(place, videos=videos, split=split), settings, preview, as_json=as_json)
        return
    if push is not None:
        _check_push(push, out, settings.format, is_local=store.is_local)
    if executor == "local":  # other machines may have other models
        _check_models(settings)
    open_run(place, out, settings, videos=videos, split=split)
    with full_disk_is_an_output_error(out), _quiet(store, executor):
        summary = run_pipeline(
            place,
            out,
            settings,
            videos=videos,
            split=split,
            held_out=held_out,
            tasks=tasks,
            workers=workers or tasks,
            executor=executor,
            executor_options=executor_options,
        )
    if summary is None:
        say(
            f"Handed over to {executor}; when it is done, records and report are in {out}, and the same command with "
            "--executor local shows the counts (and uploads, with --push)"
        )
        return
    if push is not None:
        from elysium.cards.publish import plan_publish, publish

        summary["pushed_to"] = publish(plan_publish(out, push, kind="dataset"), private=private or None)
    print(json.dumps(summary, ensure_ascii=False) if as_json else "\n".join(summary_lines(summary, out)))


def _values(texts: Sequence[str] | None, option: str) -> dict[str, Any]:
    """Return ``NAME=VALUE`` as a dictionary; a value that is JSON counts as such, any other as text."""
    values: dict[str, Any] = {}
    for name, value in parse_pairs(texts or [], option).items():
        try:
            values[name.replace("-", "_")] = json.loads(value)
        except ValueError:
            values[name.replace("-", "_")] = value
    return values


def _check_push(repo_id: str, out: str, form: str, *, is_local: bool) -> None:
    """Refuse, before the run, records that could not be uploaded.

    Raises:
        CurationError: loose frames, or a remote output.
        PublishError: an invalid name.
    """
    from elysium.cards.publish import check_repo_id
    from elysium.curation.curation_step import CurationError

    check_repo_id(repo_id)
    if form != "parquet":
        raise CurationError(
            f"rows for the Hub must hold their frames, since it takes no folder of so many files, got the format "
            f"{form}; curate with --set format=parquet"
        )
    if not is_local:
        raise CurationError(f"what is pushed must be a local folder, got {out}; it is on a remote place already")


def _check_models(settings: "CurationSettings") -> None:
    from elysium.curation.detect_step import check_detector
    from elysium.curation.phrase_step import check_language_model
    from elysium.curation.track_step import check_tracker

    check_language_model(settings.spacy_model)
    check_detector(settings.detector)
    check_tracker(settings.tracker)


def _preview(source: "VideoSource", settings: "CurationSettings", count: int, *, as_json: bool) -> None:
    """Print the phrases of the first captions, without opening a video or writing."""
    from elysium.curation.phrase_step import phrase_finder

    finder = phrase_finder(settings.spacy_model)
    for video in islice(source.read(lambda chunk: True), count):
        found = finder.find(video.caption)
        phrases = [phrase.text for phrase in found.phrases]
        if as_json:
            record = {"video_id": video.video_id, "caption": video.caption}
            print(json.dumps({**record, "phrases": phrases, "dropped": found.dropped}, ensure_ascii=False))
            continue
        print(f"{video.video_id}: {video.caption}")
        print(f"  kept: {', '.join(phrases) or 'nothing'}")
        for text, reason in found.dropped:
            print(f"  dropped: {text or 'the caption'} ({reason})")


class _Progress:
    """Count the written chunks whenever the line is drawn."""

    def __init__(self, store: "ChunkStore") -> None:
        self._store = store

    def __rich__(self) -> str:
        return f"Curating: {len(self._store.done())} chunks written"


@contextmanager
def _quiet(store: "ChunkStore", executor: str) -> Iterator[None]:
    """Send what datatrove and its tasks print to a log file of the output, while they run on this machine.

    The file descriptor itself is redirected, since datatrove has no setting for what its worker processes print, and
    they inherit nothing else of stderr.
    """
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
            os.dup2(log.fileno(), 2)
            setup_default_logger()  # it keeps the stream that it was made with
            console = Console(file=terminal, highlight=False)
            shown: dict[str, Any] = {"auto_refresh": console.is_terminal, "refresh_per_second": 0.5, "transient": True}
            with Live(_Progress(store), console=console, redirect_stdout=False, redirect_stderr=False, **shown):
                yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        setup_default_logger()


def summary_lines(summary: Mapping[str, Any], out: str) -> list[str]:
    """Return the summary as text."""
    lines = [f"Rows: {out} ({summary['rows']} from {summary['videos']} videos)"]
    for reasons in summary["dropped_videos"].values():
        lines += [f"videos dropped: {count} ({reason})" for reason, count in reasons.items()]
    for step in summary["steps"]:
        dropped = ", ".join(f"{reason} {count}" for reason, count in step["dropped"].items())
        lines.append(f"{step['step']}: {step['in']} phrases in, {step['out']} out{dropped and f' ({dropped})'}")
    twice = len(summary["near_duplicates"]["same_pictures"])
    if twice:
        lines.append(f"near-duplicates: {twice} groups of videos with the same images")
    if "leaks" in summary:
        lines.append(f"leaks: {summary['leaks']['leaked_val_videos']} held-out videos are among them")
    lines.append(f"Report: {out}/report")
    return [*lines, f"Pushed: {summary['pushed_to']}"] if "pushed_to" in summary else lines
