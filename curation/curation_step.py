"""What the steps have in common: a datatrove block that takes each video of a task and gives it back."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator

from datatrove.pipeline.base import PipelineStep

from .video_records import VideoRecord


class CurationStep(PipelineStep):
    """One step of the pipeline. It counts videos, phrases and what it dropped in datatrove's statistics."""

    type = "Curation"

    def run(self, data: Iterable[VideoRecord] | None, rank: int = 0, world_size: int = 1) -> Iterator[VideoRecord]:
        """Every video in order, each changed by `process`."""
        for record in data or ():
            with self.track_time():
                changed = self.process(record)
            self.count(record, changed)
            yield changed

    @abstractmethod
    def process(self, record: VideoRecord) -> VideoRecord:
        """The video after this step."""

    def count(self, before: VideoRecord, after: VideoRecord) -> None:
        """Adds what happened to a video to the statistics."""
        self.stat_update("videos")
        self.stat_update("phrases", value=len(after.candidates))
        for drop in after.drops[len(before.drops) :]:
            self.stat_update(f"dropped_{drop.reason}")
