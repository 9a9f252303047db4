"""The synthetic world: reproducible scenes, exact boxes, and words that fit one object alone."""

import dataclasses
import json

import numpy as np
import pytest

from elysium.processing.video_io import read_video
from elysium.training.synthetic import (
    SceneConfig,
    World,
    referring_expressions,
    render_clip,
    simple_questions,
)
from elysium.training.synthetic.dataset import ClipShape, write_dataset
from elysium.training.synthetic.render import MIN_VISIBLE_FRACTION
from elysium.training.synthetic.sprites import COLOURS, KINDS

CONFIG = SceneConfig(num_objects=(4, 6), share_twins=0.4, share_leaving=0.4, share_occluded=0.6)
SIZE = (96, 72)


def small_world(seed: int) -> World:
    return World(seed, num_backgrounds=3, num_unnamed=6, num_variants=1)


@pytest.fixture(scope="module")
def world() -> World:
    return small_world(5)


@pytest.fixture(scope="module")
def clips(world) -> list:
    scenes = [world.sample(seed, CONFIG) for seed in range(12)]
    return [(scene, render_clip(scene, 10, SIZE)) for scene in scenes]


def test_the_same_seeds_give_the_same_pictures(world) -> None:
    again = small_world(5)
    for seed in (0, 7):
        one = render_clip(world.sample(seed, CONFIG), 3, SIZE)
        other = render_clip(again.sample(seed, CONFIG), 3, SIZE)
        assert np.array_equal(one.frames, other.frames)
        assert np.array_equal(one.boxes_xyxy_norm, other.boxes_xyxy_norm)
    assert not np.array_equal(
        render_clip(world.sample(0, CONFIG), 1, SIZE).frames, render_clip(world.sample(1, CONFIG), 1, SIZE).frames
    )


def test_worlds_of_different_seeds_share_no_background_and_no_thing(world) -> None:
    other = small_world(6)
    for mine, theirs in (
        ([item[0] for item in world.backgrounds], [item[0] for item in other.backgrounds]),
        ([item.levels[0] for item in world.unnamed], [item.levels[0] for item in other.unnamed]),
    ):
        assert not {picture.tobytes() for picture in mine} & {picture.tobytes() for picture in theirs}


def test_a_box_is_the_bounding_box_of_the_pixels_that_show_the_object(clips) -> None:
    width, height = SIZE
    seen = 0
    for _, clip in clips:
        for t, o in np.argwhere(clip.visible):
            rows, columns = np.nonzero(clip.owners[t] == o)
            expected = [
                columns.min() / width,
                rows.min() / height,
                (columns.max() + 1) / width,
                (rows.max() + 1) / height,
            ]
            np.testing.assert_allclose(clip.boxes_xyxy_norm[t, o], expected, atol=1e-6)
            seen += 1
    assert seen > 200


def test_an_object_is_where_its_box_says_in_the_picture_itself(world) -> None:
    config = SceneConfig(num_objects=(1, 1), share_unnamed=0.0, share_occluded=0.0, share_leaving=0.0)
    width, height = SIZE
    for seed in range(6):
        scene = dataclasses.replace(world.sample(seed, config), noise=0.0, blur=False)
        clip, empty = render_clip(scene, 2, SIZE), render_clip(dataclasses.replace(scene, objects=[]), 2, SIZE)
        changed = np.abs(clip.frames.astype(int) - empty.frames).max(-1) > 12
        for t in range(2):
            rows, columns = np.nonzero(changed[t])
            drawn = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            told = clip.boxes_xyxy_norm[t, 0] * np.array([width, height, width, height])
            assert np.abs(drawn - told).max() <= 2.5


def test_an_object_out_of_sight_has_no_box_and_may_come_back(world) -> None:
    config = SceneConfig(num_objects=(4, 4), speed=(0.05, 0.08), share_leaving=1.0, share_occluded=0.0)
    gone, back = 0, 0
    for seed in range(6):
        clip = render_clip(world.sample(seed, config), 40, (48, 36))
        assert not clip.boxes_xyxy_norm[~clip.visible].any()
        assert (clip.visible_fraction[~clip.visible] < MIN_VISIBLE_FRACTION).all()
        assert (clip.visible_fraction[clip.visible] >= MIN_VISIBLE_FRACTION).all()
        gone += int((~clip.visible).sum())
        back += int((~clip.visible[:-1] & clip.visible[1:]).sum())
    assert gone > 20 and back > 2


def test_boxes_lie_in_the_picture(clips) -> None:
    for _, clip in clips:
        boxes = clip.boxes_xyxy_norm[clip.visible]
        assert (boxes >= 0).all() and (boxes <= 1).all()
        assert (boxes[:, :2] < boxes[:, 2:]).all()


def test_an_expression_fits_one_object_alone(clips) -> None:
    count = 0
    for scene, clip in clips:
        objects = [scene.objects[i] for i in scene.tracked]
        told = [referring_expressions(scene, o, clip.boxes_xyxy_norm, clip.visible) for o in range(len(objects))]
        everything = [text for texts in told for text in texts]
        assert len(everything) == len(set(everything))
        for o, texts in enumerate(told):
            for text in texts:
                words = set(text.split())
                fits = [
                    i
                    for i, item in enumerate(objects)
                    if item.name is not None
                    and words & set(COLOURS) <= {item.sprite.colour}
                    and words & set(KINDS) <= {item.sprite.kind}
                ]
                by_name = not words & set("left right top bottom large small moving".split())
                assert (fits == [o]) if by_name else (o in fits and len(fits) == 2)
                count += 1
    assert count > 50


def test_descriptions_and_answers_are_true_of_the_scene(clips) -> None:
    asked = 0
    for scene, _ in clips:
        names = [scene.objects[scene.tracked[o]].name for o in range(len(scene.tracked))]
        for question, answer in simple_questions(scene):
            about = question.rstrip("?").split()[-1]
            matches = [name for name in names if name and about in name.split()]
            assert len(matches) == 1 and answer in matches[0].split()
            asked += 1
    assert asked > 20


def test_colour_and_kind_distractors_are_in_the_scene(world) -> None:
    config = SceneConfig(num_objects=(4, 4), share_unnamed=0.0)
    for seed in range(5):
        sprites = [item.sprite for item in world.sample(seed, config).objects if item.name]
        assert len({sprite.colour for sprite in sprites}) < len(sprites)
        assert len({sprite.kind for sprite in sprites}) < len(sprites)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_objects": (0, 3)}, r"num_objects must be \(low, high\) .* got \(0, 3\)"),
        ({"num_objects": (4, 3)}, "num_objects must be"),
        ({"side": (0.0, 0.2)}, r"side must be \(low, high\) with 0 < low <= high"),
        ({"speed": (0.2, 0.1)}, "speed must be"),
        ({"share_leaving": 1.5}, r"share_leaving must be in 0\.\.1, got 1\.5"),
    ],
)
def test_a_range_that_cannot_be_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SceneConfig(**changes)


def test_a_data_set_holds_videos_frames_and_rows_that_agree(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("elysium.training.synthetic.dataset.World", small_world)
    shape = ClipShape(num_frames=4, width=64, height=48)
    count = write_dataset(tmp_path / "a", count=2, seed=9, shape=shape)
    rows = [json.loads(line) for line in (tmp_path / "a/rows.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == count > 0
    fields = "source id vid metadata frames video object_class box object_description frame_size"
    for row in rows:
        assert set(row) == set(fields.split())
        assert len(row["box"]) == len(row["frames"]) == 4
        assert row["frame_size"] == [64, 48]
        assert all(box is None or (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1) for box in row["box"])
        assert all((tmp_path / "a" / name).is_file() for name in row["frames"])
        assert read_video(tmp_path / "a" / row["video"]).frames.shape == (4, 48, 64, 3)
    assert write_dataset(tmp_path / "b", count=2, seed=9, shape=shape) == count
    assert (tmp_path / "a/rows.jsonl").read_text("utf-8") == (tmp_path / "b/rows.jsonl").read_text("utf-8")
