"""Mixtures of sources, and streams that are shared out over processes and workers and gone on with."""

import json

import datasets
import numpy as np
import pytest
from datasets import Dataset
from miniatures import elysium_rows
from torch.utils.data import DataLoader

from elysium.readers.frame_sources import DatasetError
from elysium.readers.samples import SampleList
from elysium.training.mixture import StreamShare, mix, stream


def source(name, count):
    return SampleList(name, range(count), lambda entry: f"{name} {entry}")


def test_without_weights_every_row_of_every_source_comes_once():
    mixture = mix([source("a", 5), source("b", 3)])
    rows = [mixture.sample(item) for item in mixture.dataset]
    assert sorted(rows) == sorted([f"a {n}" for n in range(5)] + [f"b {n}" for n in range(3)])
    assert not mixture.streamed


def test_weights_decide_how_often_a_source_is_drawn_from_and_seeds_the_order():
    mixture = mix([source("a", 3000), source("b", 3000)], [3, 1], seed=1)
    drawn = np.array([item["source"] for item in mixture.dataset])[:2000]
    assert (drawn == 0).mean() == pytest.approx(0.75, abs=0.03)
    rows = [mixture.sample(item) for item in mixture.dataset]
    assert len(set(rows)) == 6000  # until every row of every source was drawn
    assert rows == [
        mixture.sample(item) for item in mix([source("a", 3000), source("b", 3000)], [3, 1], seed=1).dataset
    ]


@pytest.mark.parametrize(
    ("sources", "weights", "message"),
    [
        ([], None, "at least one source"),
        ([source("a", 0)], None, "must have samples, got none in a"),
        ([source("a", 1), source("b", 1)], [1], "a weight above 0 for each"),
        ([source("a", 1), source("b", 1)], [1, 0], "a weight above 0 for each"),
    ],
    ids=["none", "empty", "few weights", "zero"],
)
def test_a_mixture_that_cannot_be_is_refused(sources, weights, message):
    with pytest.raises(DatasetError, match=message):
        mix(sources, weights)


NUMBERS = 60


@pytest.fixture(scope="module")
def numbers():
    """A stream of the numbers 0..59 from a data set of one shard."""
    return Dataset.from_dict({"n": list(range(NUMBERS))}).to_iterable_dataset(num_shards=1)


def batches_of(numbers, *, processes=1, index=0, workers=0, batch_size=3, done=0):
    share = StreamShare(numbers, batch_size=batch_size, process_index=index, num_processes=processes, done=done)
    loader = DataLoader(
        share, batch_size=batch_size, collate_fn=lambda items: [i["n"] for i in items], num_workers=workers
    )
    return list(loader)


@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (2, 0), (3, 0), (1, 2), (2, 2)])
def test_no_row_of_a_stream_is_read_twice_and_none_is_lost(numbers, processes, workers):
    read = [
        n
        for index in range(processes)
        for batch in batches_of(numbers, processes=processes, index=index, workers=workers)
        for n in batch
    ]
    assert sorted(read) == list(range(NUMBERS))


def test_two_processes_read_the_batches_of_one_with_twice_the_size(numbers):
    whole = batches_of(numbers, batch_size=6)
    halves = [batches_of(numbers, processes=2, index=index) for index in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*halves, strict=True)] == [sorted(batch) for batch in whole]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done", [1, 4, 7])
def test_a_stream_that_is_gone_on_with_gives_the_batches_that_were_left(numbers, workers, done):
    batches = batches_of(numbers, processes=2, index=1, workers=workers)
    assert batches_of(numbers, processes=2, index=1, workers=workers, done=done) == batches[done:]


def write_stream(folder, rows):
    """Rows with their pictures as bytes, in a parquet file."""
    columns = {"id": "string", "object_description": "string"}
    features = datasets.Features(
        {name: datasets.Value(kind) for name, kind in columns.items()}
        | {
            "frames": datasets.List(datasets.Image()),
            "box": datasets.List(datasets.List(datasets.Value("float64"))),
            "frame_size": datasets.List(datasets.Value("int64")),
        }
    )
    folder.mkdir()
    Dataset.from_list([{key: row[key] for key in features} for row in rows], features=features).to_parquet(
        folder / "train.parquet"
    )


def test_streams_are_endless_shuffled_by_seed_and_give_rows_with_undecoded_pictures(tmp_path, monkeypatch):
    # datasets waits five seconds for Arrow's threads whenever a shuffled epoch ends; here one ends every two rows.
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)
    rows = elysium_rows(tmp_path)
    for row in rows:
        row["frames"] = [{"bytes": (tmp_path / path).read_bytes(), "path": path} for path in row["frames"]]
    write_stream(tmp_path / "tracks", rows)
    mixture = stream([str(tmp_path / "tracks")], split="train", seed=3)
    assert mixture.streamed
    items = [item for item, _ in zip(mixture.dataset, range(6), strict=False)]
    assert {json.dumps(item["id"]) for item in items} == {'"part/a"', '"part/b"'}
    row = mixture.sample(items[0])
    assert row.text in ("the red square", "the blue square")
    assert row.frames.read([0]).shape == (1, 72, 96, 3)
    both = stream([str(tmp_path / "tracks")] * 2, [3.0, 1.0], split="train", seed=3)
    drawn = [item["source"] for item, _ in zip(both.dataset, range(100), strict=False)]
    assert np.mean(drawn) == pytest.approx(0.25, abs=0.12)


def test_a_few_rows_fill_a_step_as_copies_that_are_drawn_from_anew():
    mixture = mix([source("a", 3)], at_least=8)
    items = list(mixture.dataset)
    assert len(items) == 9 and len({(item["index"], item["copy"]) for item in items}) == 9
    assert [mixture.sample(item) for item in items].count("a 1") == 3
    assert {item["copy"] for item in mix([source("a", 9)], at_least=8).dataset} == {0}
