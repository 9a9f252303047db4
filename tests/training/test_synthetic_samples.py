"""Rows of the synthetic world, rendered when they are asked for."""

from functools import partial

import numpy as np
import pytest

import elysium.training.synthetic.synthetic_samples as synthetic_samples
from elysium.readers.frame_sources import DatasetError
from elysium.training.catalogue import open_source
from elysium.training.synthetic import World

SYNTHETIC = {"source": "synthetic", "count": 4, "seed": 3, "frames": 3, "width": 64, "height": 48}


@pytest.fixture(autouse=True)
def small_worlds(monkeypatch):
    """Banks of pictures that are quickly drawn."""
    small = partial(World, num_backgrounds=2, num_unnamed=4, num_variants=1)
    monkeypatch.setattr(synthetic_samples, "World", small)


def all_rows(source):
    return [source[index] for index in range(len(source))]


@pytest.fixture
def world_rows():
    return open_source(SYNTHETIC)


def test_a_synthetic_row_depends_on_seed_and_index_alone(world_rows):
    longer = open_source(SYNTHETIC | {"count": 900})
    other = open_source(SYNTHETIC | {"seed": 4})
    row, again = world_rows[2], longer[2]
    assert np.array_equal(row.frames.read([0, 2]), again.frames.read([0, 2]))
    assert np.array_equal(row.boxes_xyxy_norm, again.boxes_xyxy_norm, equal_nan=True)
    assert (row.key, row.text) == (again.key, again.text) == ("3/2", row.text)
    assert not np.array_equal(row.frames.read([0]), other[2].frames.read([0]))
    assert len(longer) == 900 and len(list(row.frames)) == SYNTHETIC["frames"]
    with pytest.raises(IndexError, match="from 0 to 3"):
        world_rows[4]


def test_synthetic_samples_have_words_that_end_in_what_they_are_described_by(world_rows):
    rows = all_rows(world_rows)
    assert all(row.visible.any() for row in rows)
    named = [row for row in rows if row.text]
    assert len(named) >= 3
    assert all(set(row.description.split()) & set(row.text.split()) for row in named)


def test_synthetic_samples_may_be_questions_or_pictures():
    questions = open_source(SYNTHETIC | {"about": "questions"})
    assert all(row.turns and row.boxes_xyxy_norm is None and len(row.frames) == 3 for row in all_rows(questions))
    picture = open_source(SYNTHETIC | {"frames": 1})[0]
    assert (len(picture.frames), picture.frames.size) == (1, (64, 48))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"about": "words"}, "about must be objects or questions, got 'words'"),
        ({"count": 0}, "count must be 1 or more"),
        ({"frames": 0}, "num_frames must be above 0"),
        ({"width": 8}, "at least 32 pixels"),
    ],
    ids=["about", "count", "frames", "width"],
)
def test_a_synthetic_source_without_anything_in_it_is_refused(change, message):
    with pytest.raises(DatasetError, match=message):
        open_source(SYNTHETIC | change)


def test_a_scene_with_nothing_to_ask_is_passed_over_until_there_is_none_left(monkeypatch):
    monkeypatch.setattr(synthetic_samples, "simple_questions", lambda scene: [])
    with pytest.raises(DatasetError, match="something to ask, got none in sample 0"):
        open_source(SYNTHETIC | {"about": "questions"})[0]
