"""Several sources as one data set, by weights: places in local ones, or rows streamed from the Hub.

What the trainer shuffles, shards and resumes are places, `{"source": i, "index": j, "copy": k}`: no picture and no
text is read before the collator looks a place up. Streamed sources give whole rows with pictures and videos undecoded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset, IterableDataset, concatenate_datasets, interleave_datasets
from torch.utils.data import IterableDataset as TorchIterable
from torch.utils.data import get_worker_info

from elysium.readers.elysium_track import streamed_rows
from elysium.readers.frame_sources import DatasetError
from elysium.readers.samples import Sample, SampleSource, sample_of_record
from elysium.readers.zipped_frames import zipped_on_hub

SOURCE, INDEX, COPY = "source", "index", "copy"


@dataclass(frozen=True)
class Mixture:
    """What the trainer iterates over, and how an item of it becomes a row.

    Args:
        dataset: of places (map-style), or of rows (streamed).
        sources: by the number that stands in an item's `source`; a name for each that is streamed.
    """

    dataset: Dataset | IterableDataset
    sources: Sequence[SampleSource | str]

    def row(self, item: dict[str, Any]) -> Sample:
        """The row of an item.

        Raises:
            DatasetError: it cannot be read.
        """
        source = self.sources[item[SOURCE]]
        if isinstance(source, str):
            return sample_of_record(item, source, zipped_on_hub(source))
        return source[item[INDEX]]

    @property
    def streamed(self) -> bool:
        """Whether rows come from the Hub as they are needed."""
        return isinstance(self.dataset, IterableDataset)


def mix(
    sources: Sequence[SampleSource],
    weights: Sequence[float] | None = None,
    *,
    seed: int = 0,
    at_least: int = 1,
) -> Mixture:
    """Local sources as one map-style data set.

    Args:
        sources: at least one, none empty.
        weights: how often each is drawn from, until every row of every source was (rows of small sources come again);
            None takes every row of every source once.
        seed: of the order.
        at_least: rows of an epoch; where there are fewer, all come again as copies, which are drawn from anew. Give it
            a step's rows, so that a few videos fill a batch.

    Raises:
        DatasetError: no source, an empty one, or weights that do not fit.
    """
    if not sources:
        raise DatasetError("a mixture must have at least one source, got none")
    for source in sources:
        if not len(source):
            raise DatasetError(f"a source must have rows, got none in {source.name}; check its path and split")
    tables = [
        Dataset.from_dict(
            {
                SOURCE: np.full(len(source), number),
                INDEX: np.random.default_rng((seed, number)).permutation(len(source)),
            }
        )
        for number, source in enumerate(sources)
    ]
    if weights is None or len(sources) == 1:
        mixed = concatenate_datasets(tables)
    else:
        mixed = interleave_datasets(
            tables, _shares(weights, len(sources)), seed=seed, stopping_strategy="all_exhausted"
        )
    copies = -(-at_least // len(mixed))
    return Mixture(concatenate_datasets([mixed.add_column(COPY, [k] * len(mixed)) for k in range(copies)]), sources)


def stream(
    names: Sequence[str], weights: Sequence[float] | None = None, *, split: str, seed: int = 0, buffer: int = 1000
) -> Mixture:
    """Data sets on the Hub as one endless stream of rows.

    Args:
        names: Hub ids `owner/name`.
        weights: how often each is drawn from; equal by default.
        split: of each.
        seed: of the shuffle and of the mixture.
        buffer: rows that are held and shuffled among one another; their pictures are not decoded.
    """
    parts = [
        streamed_rows(name, split).map(_numbered, fn_kwargs={"number": number}) for number, name in enumerate(names)
    ]
    endless = [part.shuffle(seed=seed, buffer_size=buffer).repeat(None) for part in parts]
    if len(endless) == 1:
        return Mixture(endless[0], list(names))
    shares = _shares(weights or [1.0] * len(names), len(names))
    return Mixture(interleave_datasets(endless, shares, seed=seed), list(names))


def _numbered(row: dict[str, Any], number: int) -> dict[str, Any]:
    return row | {SOURCE: number}


def _shares(weights: Sequence[float], count: int) -> list[float]:
    if len(weights) != count or any(not weight > 0 for weight in weights):
        raise DatasetError(f"a mixture of {count} sources must have a weight above 0 for each, got {list(weights)}")
    return (np.array(weights, dtype=float) / sum(weights)).tolist()


class StreamShare(TorchIterable):
    """The part of a stream that one loader worker of one process reads: every such row in turn.

    Rows are counted over processes and workers, so that none is read twice and none is lost. ``done`` batches of this
    process are passed over undecoded, in the order in which the workers gave them: that is how a run is resumed. An
    item says its place in the stream, so that a row that comes again is drawn from anew.

    Args:
        stream: the whole stream, the same in every process.
        batch_size: rows in a batch of one process.
        process_index, num_processes: whose share it is.
        done: batches that this process has had.
    """

    def __init__(
        self, stream: IterableDataset, *, batch_size: int, process_index: int, num_processes: int, done: int = 0
    ) -> None:
        self._stream, self._batch_size = stream, batch_size
        self._process_index, self._num_processes, self._done = process_index, num_processes, done

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        worker, num_workers = (info.id, info.num_workers) if info else (0, 1)
        # Workers take turns from 0 on; after a resume the turn goes on where it was.
        turn = (worker + self._done) % num_workers
        batches = self._done // num_workers + (turn < self._done % num_workers)
        place = self._process_index * num_workers + turn
        share = self._num_processes * num_workers
        passed = batches * self._batch_size
        # `iter` reads the stream whole; iterating over it would share it out by workers on its own account.
        for number, rows in enumerate(self._stream.iter(batch_size=1)):
            if number % share == place:
                if passed:
                    passed -= 1
                    continue
                yield {column: values[0] for column, values in rows.items()} | {INDEX: number}
