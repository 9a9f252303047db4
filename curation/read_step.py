"""Step 1: the videos of a task's chunks; chunks that are written already are left out."""

from collections.abc import Iterable, Iterator

from datatrove.pipeline.base import PipelineStep

from .chunk_store import ChunkStore
from .video_records import VideoRecord
from .video_sources import VideoSource

STEP = "read"


class ReadVideos(PipelineStep):
    """Task ``rank`` of ``world_size`` reads the chunks rank, rank + world_size, rank + 2 world_size, …

    Args:
        source: of the videos.
        store: where the chunks are written.
    """

    type, name = "Curation", STEP

    def __init__(self, source: VideoSource, store: ChunkStore) -> None:
        super().__init__()
        self.source, self.store = source, store

    def run(self, data: Iterable[VideoRecord] | None, rank: int = 0, world_size: int = 1) -> Iterator[VideoRecord]:
        """The task's videos; one with an id that its chunk has already is dropped."""
        done = self.store.done()
        chunk, ids = -1, set[str]()
        for video in self.source.read(lambda number: number % world_size == rank and number not in done):
            if video.chunk != chunk:
                chunk, ids = video.chunk, set()
            record = VideoRecord(video=video)
            yield record if video.video_id not in ids else record.drop_video(STEP, "duplicate_id")
            ids.add(video.video_id)
            self.stat_update("videos")
