"""The synthetic world: reproducible scenes, exact boxes, and words that fit one object alone."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from elysium.processing.video_io import read_video
from elysium.training.synthetic import (
    SceneConfig,
    World,
    description,
    referring_expressions,
    render_clip,
    scene_questions,
    simple_questions,
)
from elysium.training.synthetic.dataset import ClipShape, write_dataset
from elysium.training.synthetic.render import MIN_VISIBLE_FRACTION, View, object_path, shown_frames
from elysium.training.synthetic.sprites import COLOURS, KINDS
from research.tiny.crops import LookConfig, following_view

CONFIG = SceneConfig(num_objects=(4, 6), share_twins=0.4, share_leaving=0.4, share_occluded=0.6)
SIZE = (96, 72)


def small_world(seed: int) -> World:
    return World(seed, num_backgrounds=3, num_things=6, num_variants=1)


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
        ([item.levels[0] for item in world.things], [item.levels[0] for item in other.things]),
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
    config = SceneConfig(num_objects=(1, 1), share_things=0.0, share_occluded=0.0, share_leaving=0.0)
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
        names = [description(scene, o) for o in range(len(scene.tracked))]
        for question, answer in simple_questions(scene):
            about = question.rstrip("?").split()[-1]
            matches = [name for name in names if name and about in name.split()]
            assert len(matches) == 1 and answer in matches[0].split()
            asked += 1
    assert asked > 20


def test_questions_on_a_clip_are_answered_by_its_boxes(world, clips) -> None:
    kinds = {"Is there": 0, "Is the": 0, "Does the": 0}
    for scene, clip in clips:
        names = [description(scene, o) for o in range(len(scene.tracked))]
        absent = world.absent_name(scene, np.random.default_rng(0))
        assert absent not in names
        for question, answer in scene_questions(scene, clip.boxes_xyxy_norm, clip.visible, absent):
            start = next((start for start in kinds if question.startswith(start)), None)
            if start is None:
                continue
            kinds[start] += 1
            (about,) = [name for name in {*names, absent} - {None} if name in question]
            if start == "Is there":
                assert answer == ("no" if about == absent else "yes")
                continue
            assert names.count(about) == 1
            box = clip.boxes_xyxy_norm[:, names.index(about)]
            middle = (box[:, 0] + box[:, 2]) / 2
            value = middle[0] - 0.5 if start == "Is the" else middle[-1] - middle[0]
            assert answer == ("left" if value < 0 else "right")
    assert min(kinds.values()) > 5


def test_colour_and_kind_distractors_are_in_the_scene(world) -> None:
    config = SceneConfig(num_objects=(4, 4), share_things=0.0)
    for seed in range(5):
        sprites = [item.sprite for item in world.sample(seed, config).objects if item.name]
        assert len({sprite.colour for sprite in sprites}) < len(sprites)
        assert len({sprite.kind for sprite in sprites}) < len(sprites)


def test_a_scene_is_squeezed_into_the_models_square_with_the_same_boxes(world) -> None:
    scene = dataclasses.replace(world.sample(3, CONFIG), noise=0.0)
    wide, square = render_clip(scene, 2, (128, 64)), render_clip(scene, 2, (96, 96), view_aspect=2.0)
    both = wide.visible & square.visible
    assert both.any()
    assert np.abs(wide.boxes_xyxy_norm - square.boxes_xyxy_norm)[both].max() < 0.05


def test_a_view_shows_a_part_of_each_frame_with_the_boxes_that_belong_to_it(world) -> None:
    scene = dataclasses.replace(world.sample(3, CONFIG), noise=0.0)
    plain = render_clip(scene, 3, (240, 240))
    focus, magnification = np.array([[0.5, 0.5], [0.4, 0.6], [0.3, 0.5]]), np.array([1.0, 2.0, 3.0])
    view = render_clip(scene, 3, (240, 240), view=View(focus, magnification))
    assert np.array_equal(view.frames[0], plain.frames[0])
    checked = 0
    for t in (1, 2):
        seen = 0.5 + (plain.boxes_xyxy_norm[t] - np.tile(focus[t], 2)) * magnification[t]
        whole = plain.visible[t] & (seen > 0.02).all(1) & (seen < 0.98).all(1)
        checked += int(whole.sum())
        assert np.abs(seen - view.boxes_xyxy_norm[t])[whole].max(initial=0) < 0.02
        low = np.round((focus[t] - 0.5 / magnification[t]) * 240).astype(int)
        side = round(240 / magnification[t])
        part = plain.frames[t, low[1] : low[1] + side, low[0] : low[0] + side].astype(float)
        shown = cv2.resize(view.frames[t], (side, side), interpolation=cv2.INTER_AREA).astype(float)
        assert np.abs(shown - part).mean() < 0.5 * np.abs(shown - part.mean((0, 1))).mean()
    assert checked >= 2


def test_frames_are_left_out_behind_the_first(world) -> None:
    scene = dataclasses.replace(world.sample(3, CONFIG), noise=0.0, frame_step=1)
    whole, gap = render_clip(scene, 9, SIZE, first_frame=2), render_clip(scene, 3, SIZE, first_frame=2, gap=6)
    assert np.array_equal(gap.frames, whole.frames[[0, 7, 8]])
    assert np.array_equal(gap.boxes_xyxy_norm, whole.boxes_xyxy_norm[[0, 7, 8]])


def test_a_following_view_holds_the_object_although_it_is_off(world) -> None:
    rng, errors = np.random.default_rng(2), []
    for seed in range(20):
        scene = world.sample(seed, dataclasses.replace(CONFIG, speed=(0.04, 0.08), share_leaving=0.0))
        numbers = shown_frames(scene, 6, 3, 10)
        path = object_path(scene.objects[scene.tracked[0]], scene, numbers)
        view = following_view(scene, 0, numbers, LookConfig(side=(0.4, 0.5)), rng)
        seen, shown, *_ = view.path(path)
        assert seen[0] == pytest.approx([0.5, 0.5])
        assert 0.4 <= shown[0] <= 0.5
        errors.append(np.abs(seen[1:] - 0.5).max(1))
    assert np.median(errors) < 0.25
    assert np.quantile(errors, 0.1) < 0.03 < np.quantile(errors, 0.8)


def test_a_misled_view_passes_to_another_thing_or_stays_beside_the_object(world) -> None:
    looks = LookConfig(side=(0.4, 0.5), share_misled=1.0)
    rng, numbers, ends = np.random.default_rng(2), np.arange(0.0, 6.0), []
    for seed in range(60):
        scene = world.sample(seed, dataclasses.replace(CONFIG, share_leaving=0.0))
        view = following_view(scene, 0, numbers, looks, rng)
        paths = [view.path(object_path(item, scene, numbers)) for item in scene.objects]
        own = paths.pop(scene.tracked[0])
        assert own.centre[0] == pytest.approx([0.5, 0.5])
        away = np.abs(own.centre[-1] - 0.5).max() / own.size[-1]
        at_other = min(np.abs(path.centre[-1] - 0.5).max() for path in paths) / own.size[-1]
        ends.append("other" if at_other < min(0.5, away) else "beside" if away > 0.25 else "own")
    assert ends.count("other") > 25
    assert ends.count("beside") > 5
    assert ends.count("own") < 10


def test_squares_that_lost_their_object_show_more_around_it(world) -> None:
    numbers, changed = np.arange(0.0, 6.0), 0
    for seed in range(20):
        scene = world.sample(seed, CONFIG)
        narrow, wide = (
            following_view(scene, 0, numbers, looks, np.random.default_rng(seed)).magnification
            for looks in (LookConfig(share_misled=1.0), LookConfig(share_misled=1.0, misled_zoom=(0.5, 0.6)))
        )
        assert wide[0] == narrow[0]
        ratio = wide / narrow
        lost = ratio < 0.99
        assert np.array_equal(lost, np.arange(6) >= lost.argmax())  # from one frame on
        assert np.all((ratio[lost] >= 0.5) & (ratio[lost] <= 0.6))
        changed += lost.any()
    assert changed == 20


def test_what_an_object_carries_stays_on_it(world) -> None:
    config, numbers, checked = dataclasses.replace(CONFIG, share_carried=1.0), np.arange(0.0, 40.0), 0
    for seed in range(6):
        scene = world.sample(seed, config)
        for item in [item for item in scene.objects if item.carrier is not None]:
            path, carrier = (object_path(one, scene, numbers) for one in (item, item.carrier))
            apart = np.linalg.norm(path.centre - carrier.centre, axis=1) / carrier.size
            assert np.ptp(path.size / carrier.size) < 0.3 * np.median(path.size / carrier.size)
            assert np.allclose(path.angle - carrier.angle, item.angle - item.carrier.angle)
            assert apart.min() > 0.1 and apart.max() < 1.4 and np.ptp(apart) < 0.5
            assert any(item.carrier is other for other in scene.objects) and item.carrier.carrier is None
            checked += np.ptp(carrier.centre, axis=0).max() > 0.2
    assert checked >= 3


def test_an_arm_holds_a_thing_moves_with_it_and_is_not_asked_for(world) -> None:
    held = dataclasses.replace(CONFIG, share_held=1.0, share_occluded=0.0, share_leaving=0.0)
    numbers, seen, reaching, behind = np.arange(0.0, 30.0, 3.0), 0, 0, 0
    for seed in range(12):
        scene = world.sample(seed, held)
        objects = [scene.objects[index] for index in scene.tracked]
        arms = [item for item in scene.objects if not item.tracked]
        assert len(arms) == len(objects) and all(any(arm.carrier is item for item in objects) for arm in arms)
        for arm in arms:
            thing, path = (object_path(item, scene, numbers) for item in (arm.carrier, arm))
            length, width = path.size * np.sqrt(path.aspect), path.size / np.sqrt(path.aspect)
            direction = np.stack([np.cos(path.angle), np.sin(path.angle)], axis=1)
            tip = path.centre - direction * length[:, None] / 2
            assert np.all(np.linalg.norm(tip - thing.centre, axis=1) < 0.5 * thing.size)  # fingers on the thing
            assert np.all(width < 1.3 * thing.size) and np.ptp(length / thing.size) < 1e-6
            end = path.centre + direction * length[:, None] / 2
            reaching += bool(((end < 0) | (end > 1)).any())
            behind += [item is arm for item in scene.objects].index(True) < [
                item is arm.carrier for item in scene.objects
            ].index(True)
            seen += 1
    assert reaching > 0.3 * seen and 0.1 * seen < behind < 0.45 * seen


def test_an_arm_hides_what_it_holds_no_more_than_in_part(world) -> None:
    held = dataclasses.replace(CONFIG, share_held=1.0, share_occluded=0.0, share_leaving=0.0)
    with_arms, without = [], []
    for seed in range(8):
        clip = render_clip(world.sample(seed, held), 1, (96, 96))
        with_arms.append(clip.visible_fraction.mean())
        without.append(
            render_clip(
                world.sample(seed, dataclasses.replace(held, share_held=0.0)), 1, (96, 96)
            ).visible_fraction.mean()
        )
    assert 0.5 * np.mean(without) < np.mean(with_arms) < 0.97 * np.mean(without)


@pytest.mark.parametrize("turning", [0.0, 0.2])
def test_objects_change_their_shape_where_they_turn(world, turning: float) -> None:
    scene = world.sample(3, dataclasses.replace(CONFIG, turning=turning))
    paths = [object_path(item, scene, np.arange(0.0, 40.0)) for item in scene.objects]
    spans = [float(np.ptp(np.log(path.aspect))) for path in paths]
    assert max(spans) > 0.1 if turning else max(spans) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_objects": (0, 3)}, r"num_objects must be \(low, high\) .* got \(0, 3\)"),
        ({"num_objects": (4, 3)}, "num_objects must be"),
        ({"side": (0.0, 0.2)}, r"side must be \(low, high\) with 0 < low <= high"),
        ({"speed": (0.2, 0.1)}, "speed must be"),
        ({"share_carried": 1.5}, r"share_carried must be in 0\.\.1, got 1\.5"),
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


def test_compression_leaves_marks_and_the_boxes_as_they_were(world) -> None:
    config = dataclasses.replace(CONFIG, share_compressed=1.0)
    plain, packed = world.sample(4, CONFIG), world.sample(4, config)
    assert plain.jpeg_quality is None and 20 <= packed.jpeg_quality < 75
    one, other = render_clip(plain, 2, (96, 96)), render_clip(packed, 2, (96, 96))
    assert np.array_equal(one.boxes_xyxy_norm, other.boxes_xyxy_norm)
    difference = np.abs(one.frames.astype(int) - other.frames).mean()
    assert 0.3 < difference < 12
