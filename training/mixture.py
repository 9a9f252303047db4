"""Mix several sources into one dataset by weights: indices into local sources, or samples streamed from the Hub.

The trainer shuffles, shards and resumes indices, `{"source": i, "index": j, "copy": k}`: no image and no
text is read before the collator does. Streamed sources give whole records with images and videos undecoded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset, IterableDataset, concatenate_datasets, interleave_datasets
from torch.utils.data import IterableDataset as TorchIterable
from torch.utils.data import get_worker_info

from elysium.readers.elysium_track import sample_of_record, streamed_rows
from elysium.readers.frame_sources import DatasetError
from elysium.readers.samples import Sample, SampleSource
from elysium.readers.zipped_frames import zipped_on_hub

SOURCE, INDEX, COPY = "source", "index", "copy"


@dataclass(frozen=True)
class Mixture:
    """Dataset that the trainer iterates over, and the sources of its samples.

    Args:
        dataset: of indices (map-style), or of records (streamed).
        sources: by the number in an item's `source`; a name for each that is streamed.
    """

    dataset: Dataset | IterableDataset
    sources: Sequence[SampleSource | str]

    def sample(self, item: dict[str, Any]) -> Sample:
        """Return the sample of an item.

        Raises:
            DatasetError: it cannot be read.
        """
        source = self.sources[item[SOURCE]]
        if isinstance(source, str):
            return sample_of_record(item, source, zipped_on_hub(source))
        return source[item[INDEX]]

    @property
    def streamed(self) -> bool:
        """Return whether records are streamed from the Hub."""
        return isinstance(self.dataset, IterableDataset)


def mix(
    sources: Sequence[SampleSource],
    weights: Sequence[float] | None = None,
    *,
    seed: int = 0,
    at_least: int = 1,
) -> Mixture:
    """Mix local sources into one map-style dataset.

    Args:
        sources: at least one, none empty.
        weights: sampling weights; an epoch ends when every sample was drawn (those of small sources come again);
            None takes every sample of every source once.
        seed: of the order.
        at_least: least samples of an epoch; where there are fewer, all come again as copies, drawn anew. Give it
            the samples of a step, so that a few videos fill a batch.

    Raises:
        DatasetError: no source, an empty one, or weights that do not fit.
    """
    if not sources:
        raise DatasetError("a mixture must have at least one source, got none")
    for source in sources:
        if not len(source):
            raise DatasetError(f"a source must have samples, got none in {source.name}; check its path and split")
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
    """Mix datasets on the Hub into one endless stream of records.

    Args:
        names: Hub ids `owner/name`.
        weights: sampling weights; equal by default.
        split: of each.
        seed: of the shuffle and of the mixture.
        buffer: size of the shuffle buffer in records; higher values shuffle better and take more memory.
    """
    parts = [
        streamed_rows(name, split).map(_numbered, fn_kwargs={"number": number}) for number, name in enumerate(names)
    ]
    endless = [part.shuffle(seed=seed, buffer_size=buffer).repeat(None) for part in parts]
    if len(endless) == 1:
        return Mixture(endless[0], list(names))
    shares = _shares(weights or [1.0] * len(names), len(names))
    return Mixture(interleave_datasets(endless, shares, seed=seed), list(names))


def _numbered(record: dict[str, Any], number: int) -> dict[str, Any]:
    return record | {SOURCE: number}


def _shares(weights: Sequence[float], count: int) -> list[float]:
    if len(weights) != count or any(not weight > 0 for weight in weights):
        raise DatasetError(f"a mixture of {count} sources must have a weight above 0 for each, got {list(weights)}")
    return (np.array(weights, dtype=float) / sum(weights)).tolist()


class StreamShare(TorchIterable):
    """Records of a stream that one loader worker of one process reads.

    Records are dealt to processes and workers, so that none is read twice or lost. ``done`` batches of this
    process are skipped undecoded, in the order in which the workers gave them, to resume a run. An
    item has its place in the stream, so that a repeated record gives another example.

    Args:
        stream: the whole stream, the same in every process.
        batch_size: records in a batch of one process.
        process_index, num_processes: of this share.
        done: batches that this process has processed.
    """

    def __init__(
        self, stream: IterableDataset, *, batch_size: int, process_index: int, num_processes: int, done: int = 0
    ) -> None:
        self._stream, self._batch_size = stream, batch_size
        self._process_index, self._num_processes, self._done = process_index, num_processes, done

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        worker, num_workers = (info.id, info.num_workers) if info else (0, 1)
        # Workers take turns from 0 on; a resumed run starts with the worker whose turn it is.
        turn = (worker + self._done) % num_workers
        batches = self._done // num_workers + (turn < self._done % num_workers)
        place = self._process_index * num_workers + turn
        share = self._num_processes * num_workers
        passed = batches * self._batch_size
        # `iter` reads the whole stream; plain iteration would split it by workers itself.
        for number, records in enumerate(self._stream.iter(batch_size=1)):
            if number % share == place:
                if passed:
                    passed -= 1
                    continue
                yield {column: values[0] for column, values in records.items()} | {INDEX: number}
