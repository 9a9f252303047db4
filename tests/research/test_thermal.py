"""The synthetic world through a thermal camera: the same boxes, other pictures, and words for heat."""

import numpy as np
import pytest

from elysium.training.synthetic.dataset import ClipShape, LabelledClip
from elysium.training.synthetic.sprites import COLOURS
from research.adapters.thermal import HEATS, THERMAL_SCENE, thermal_clip
from research.scenes.views import render_view
from research.scenes.world import StudyWorld

SHAPE = ClipShape(num_frames=3, width=96, height=72)


def small_world(seed: int = 5) -> StudyWorld:
    return StudyWorld(seed, num_backgrounds=3, num_unnamed=6, num_variants=1)


@pytest.fixture(scope="module")
def clips() -> list[LabelledClip]:
    world = small_world()
    return [thermal_clip(world, seed, SHAPE) for seed in range(12)]


def test_the_same_seeds_give_the_same_pictures_and_words(clips) -> None:
    again = thermal_clip(small_world(), 7, SHAPE)
    assert np.array_equal(again.frames, clips[7].frames) and again.rows == clips[7].rows
    assert not np.array_equal(thermal_clip(small_world(6), 7, SHAPE).frames, clips[7].frames)


def test_boxes_are_those_of_the_same_scene_in_colour(clips) -> None:
    world, compared = small_world(), 0
    for seed, clip in enumerate(clips):
        plain = render_view(world.sample(seed, THERMAL_SCENE), 3, (SHAPE.width, SHAPE.height))
        for row in clip.rows:
            index = int(row["id"].rpartition("_")[2])
            for t, box in enumerate(row["box"]):
                assert (box is not None) == plain.visible[t, index]
                assert box is None or np.abs(plain.boxes_xyxy_norm[t, index] - box).max() < 1e-4
                compared += 1
    assert compared > 40


def test_words_are_of_heat_and_kind_and_never_of_colour(clips) -> None:
    rows = [row for clip in clips for row in clip.rows]
    said = {word for row in rows for text in row["metadata"]["expressions"] for word in text.split()}
    assert set(HEATS) <= said and not said & set(COLOURS)
    assert all(row["metadata"]["questions"] == [] for row in rows)


def test_hot_objects_are_brighter_than_cold_ones_in_the_picture(clips) -> None:
    brightness: dict[str, list[float]] = {heat: [] for heat in HEATS}
    for clip in clips:
        for row in clip.rows:
            if row["object_class"] != "ring" and row["metadata"]["visible_fraction"][0] > 0.95:
                middle = np.array(row["box"][0]).reshape(2, 2).mean(0) * (SHAPE.width, SHAPE.height)
                x, y = middle.astype(int)
                brightness[row["metadata"]["colour"]].append(clip.frames[0, y - 1 : y + 2, x - 1 : x + 2].mean())
    assert len(brightness["hot"]) > 3 and len(brightness["cold"]) > 3
    assert min(brightness["hot"]) > max(brightness["cold"])
