"""Step 4: the detector looks for each phrase in the first, the middle and the last frame."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from .curation_step import CurationStep
from .detectors import Detector, Query, load_detector
from .video_records import Candidate, Detection, VideoRecord

STEP = "detect"
# Videos wait for a full batch with their frames; beyond this they wait no longer.
_MOST_WAITING_BYTES = 2**30


def looked_at(num_frames: int) -> dict[str, int]:
    """The frames that are looked at, by name.

    >>> looked_at(10)
    {'first': 0, 'middle': 5, 'last': 9}
    """
    return {"first": 0, "middle": num_frames // 2, "last": num_frames - 1}


def best(detections: Iterable[Detection], frame_idx: int) -> Detection | None:
    """The detection of a frame with the highest score, None where it has none."""
    return max((one for one in detections if one.frame_idx == frame_idx), key=lambda one: one.score, default=None)


class DetectPhrases(CurationStep):
    """Batches go across phrases, frames and videos, but never across chunks, so that a chunk's scores depend on
    nothing outside it.

    Args:
        detector: as `CurationSettings` has it.
        min_score: the best box of a phrase must score above it in each of the three frames.
        batch: queries that go through the detector at once.
        device: of the detector.
    """

    name = STEP

    def __init__(
        self, detector: str | Callable[[], Detector], *, min_score: float, batch: int, device: str | None
    ) -> None:
        super().__init__()
        self.detector, self.min_score, self.batch, self.device = detector, min_score, batch, device

    def run(self, data: Iterable[VideoRecord] | None, rank: int = 0, world_size: int = 1) -> Iterator[VideoRecord]:
        """Every video in order, after those that wait with it for a full batch."""
        waiting: list[VideoRecord] = []
        for record in data or ():
            if waiting and self._must_go(waiting, record):
                yield from self._detect(waiting)
                waiting = []
            waiting.append(record)
        yield from self._detect(waiting)

    def process(self, record: VideoRecord) -> VideoRecord:
        """One video alone."""
        return next(self._detect([record]))

    def _must_go(self, waiting: list[VideoRecord], following: VideoRecord) -> bool:
        kept = sum(record.clip.frames.nbytes for record in waiting if record.clip is not None)
        return (
            following.video.chunk != waiting[0].video.chunk
            or sum(3 * len(record.candidates) for record in waiting) >= self.batch
            or kept >= _MOST_WAITING_BYTES
            or len(waiting) >= self.batch  # videos without phrases would wait on and on
        )

    def _detect(self, records: list[VideoRecord]) -> Iterator[VideoRecord]:
        """Asks for all phrases of some videos."""
        queries = [query for record in records for query in _queries(record)]
        answers: list[list[Detection]] = []
        with self.track_time():
            for start in range(0, len(queries), self.batch):
                detector = load_detector(self.detector, self.device)
                answers += detector.detect(queries[start : start + self.batch])
        left = iter(answers)
        for record in records:
            changed = record
            for candidate in record.candidates:
                found = [one for answer in (next(left), next(left), next(left)) for one in answer]
                changed = self._judge(changed, candidate, found)
            self.count(record, changed)
            yield changed

    def _judge(self, record: VideoRecord, candidate: Candidate, found: list[Detection]) -> VideoRecord:
        """Drops a candidate whose best box scores too little in a frame; keeps the boxes that score enough."""
        assert record.clip is not None
        scores = []
        for name, index in looked_at(len(record.clip)).items():
            top = best(found, index)
            scores.append(0.0 if top is None else top.score)
            if scores[-1] <= self.min_score:
                return record.drop(candidate, STEP, f"score_{name}", scores[-1])
        kept = tuple(one for one in found if one.score > self.min_score)
        other = replace(candidate, detections=kept).measured(detection_score=min(scores))
        return record.swap(candidate, other)


def _queries(record: VideoRecord) -> Iterator[Query]:
    """Three for each phrase, in order of the frames."""
    if record.clip is None:
        return
    for candidate in record.candidates:
        for index in looked_at(len(record.clip)).values():
            yield Query(record.video.video_id, index, candidate.phrase.text, record.clip.frames[index])
