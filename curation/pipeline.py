"""The data construction as a list of steps, and the run of it.

captions -> noun phrases -> frames -> detection -> trajectory -> drift -> agreement -> rows

>>> from elysium.curation.curation_settings import load_settings
>>> from elysium.curation.pipeline import curate
>>> curate("videos/", "tracks/", load_settings("paper", {"detector": "grounding-dino/"}))  # doctest: +SKIP
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from elysium.processing.data_files import parse_json_object

from .agree_step import CheckAgreement
from .chunk_store import REPORT, ChunkStore
from .curation_settings import CurationError, CurationSettings
from .decode_step import DecodeFrames
from .detect_step import DetectPhrases
from .drift_step import CheckDrift
from .executors import run_tasks
from .merge_step import MergeChunks
from .phrase_step import FindPhrases
from .read_step import ReadVideos
from .track_step import TrackPhrases
from .video_sources import HubSource, VideoSource, open_videos
from .write_step import WriteChunks


def build_steps(source: VideoSource, store: ChunkStore, settings: CurationSettings) -> list[PipelineStep]:
    """What every task runs, in order."""
    return [
        ReadVideos(source, store),
        FindPhrases(settings.spacy_model),
        DecodeFrames(
            frame_interval=settings.frame_interval,
            max_frames=settings.max_frames,
            max_side_px=settings.max_side_px,
        ),
        DetectPhrases(
            settings.detector,
            min_score=settings.min_detection_score,
            batch=settings.detection_batch,
            device=settings.device,
        ),
        TrackPhrases(
            settings.tracker,
            min_score=settings.min_track_score,
            min_forward_backward_iou=settings.min_forward_backward_iou,
            others=settings.other_trackers,
            min_tracker_iou=settings.min_tracker_iou,
            device=settings.device,
        ),
        CheckDrift(settings.drift_false_alarm),
        CheckAgreement(settings.min_agreement_iou),
        WriteChunks(
            store,
            form=settings.format,
            frame_interval=settings.frame_interval,
            jpeg_quality=settings.jpeg_quality,
        ),
    ]


@dataclass(frozen=True)
class CurationRun:
    """An input that can be read and an output that is taken; see `open_run`."""

    source: VideoSource
    store: ChunkStore
    settings: CurationSettings
    held_out: str | None

    def run(
        self,
        *,
        tasks: int = 1,
        workers: int = 1,
        executor: str = "local",
        executor_options: Mapping[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        """Does what is left to do; arguments, result and errors are those of `curate`."""
        if executor == "jobs" and not isinstance(self.source, HubSource):
            raise CurationError(
                "Hugging Face Jobs must read their videos from the Hub, got files of this machine; upload them as a "
                "data set, and give its id"
            )
        last = MergeChunks(
            self.store, form=self.settings.format, settings=self.settings.to_dict(), held_out=self.held_out
        )
        steps = build_steps(self.source, self.store, self.settings)
        options = executor_options or {}
        done = run_tasks(executor, steps, last, self.store, tasks=tasks, workers=workers, options=options)
        return read_summary(self.store) if done else None


def open_run(
    place: str | Path,
    out: str | Path,
    settings: CurationSettings,
    *,
    videos: Path | None = None,
    split: str = "train",
    held_out: str | None = None,
) -> CurationRun:
    """Opens the input and takes the output; arguments and errors are those of `curate`."""
    source = open_videos(str(place), chunk_videos=settings.chunk_videos, videos=videos, split=split)
    if next(source.read(lambda chunk: True), None) is None:
        raise CurationError(f"the input must hold at least one video, got none in {place}")
    store = ChunkStore(str(out))
    asked = {"input": str(place), "videos": None if videos is None else str(videos), "split": split}
    depends_on = {name: value for name, value in settings.to_dict().items() if name != "device"}
    store.claim({**asked, **depends_on})
    return CurationRun(source, store, settings, held_out)


def curate(
    place: str | Path,
    out: str | Path,
    settings: CurationSettings,
    *,
    videos: Path | None = None,
    split: str = "train",
    held_out: str | None = None,
    tasks: int = 1,
    workers: int = 1,
    executor: str = "local",
    executor_options: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Makes rows of captioned videos. A run that was stopped goes on where it was; one that is done does nothing.

    Args:
        place: the input, as `open_videos` has it.
        out: new folder, or that of a run that was stopped.
        settings: see `CurationSettings`.
        videos: folder of the videos, where it is not that of their table.
        split: of a data set on the Hub.
        held_out: rows of a validation set that none of the videos should be in; the report says which are.
        tasks: that the chunks are dealt out to.
        workers: tasks that run at once.
        executor: local, slurm, ray or jobs.
        executor_options: arguments of datatrove's executor.

    Returns:
        The summary, as `report/summary.json` has it; None where the work was handed over to Slurm.

    Raises:
        CurationError: input, output, detector, tracker or executor cannot be used.
        OutputError: the output cannot be written.
    """
    run = open_run(place, out, settings, videos=videos, split=split, held_out=held_out)
    return run.run(tasks=tasks, workers=workers, executor=executor, executor_options=executor_options)


def read_summary(store: ChunkStore) -> dict[str, Any]:
    """What the report of a finished run counts."""
    with store.folder.open(f"{REPORT}/summary.json", "rt", encoding="utf-8") as file:
        return parse_json_object(file.read(), f"{store.out}/{REPORT}/summary.json")
