"""Scenes that trained elysium-tiny: views, frames left out, objects that move together, compression, questions."""

import dataclasses

import cv2
import numpy as np
import pytest

from elysium.training.synthetic import SceneConfig, World, render_clip
from research.scenes.questions import scene_questions
from research.scenes.views import View, render_view, shown_frames
from research.scenes.world import StudyConfig, StudyWorld
from research.tiny.crops import LookConfig, following_view

CONFIG = StudyConfig(num_objects=(4, 6), share_twins=0.4, share_leaving=0.4, share_occluded=0.6)
SIZE = (96, 72)


@pytest.fixture(scope="module")
def world() -> StudyWorld:
    return StudyWorld(5, num_backgrounds=3, num_unnamed=6, num_variants=1)


@pytest.fixture(scope="module")
def clips(world) -> list:
    scenes = [world.sample(seed, CONFIG) for seed in range(12)]
    return [(scene, render_clip(scene, 10, SIZE)) for scene in scenes]


def test_a_study_world_samples_what_a_world_does_where_nothing_is_added(world) -> None:
    plain = World(5, num_backgrounds=3, num_unnamed=6, num_variants=1)
    for seed in range(3):
        one = render_clip(plain.sample(seed, SceneConfig()), 4, SIZE)
        for other in (
            render_clip(world.sample(seed, SceneConfig()), 4, SIZE),
            render_view(world.sample(seed, StudyConfig()), 4, SIZE),
        ):
            assert np.array_equal(one.frames, other.frames)
            assert np.array_equal(one.boxes_xyxy_norm, other.boxes_xyxy_norm)


def test_questions_on_a_clip_are_answered_by_its_boxes(world, clips) -> None:
    kinds = {"Is there": 0, "Is the": 0, "Does the": 0}
    for scene, clip in clips:
        names = [scene.objects[scene.tracked[o]].name for o in range(len(scene.tracked))]
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


def test_a_scene_is_squeezed_into_the_models_square_with_the_same_boxes(world) -> None:
    scene = dataclasses.replace(world.sample(3, CONFIG), noise=0.0)
    wide, square = render_clip(scene, 2, (128, 64)), render_view(scene, 2, (96, 96), aspect=2.0)
    both = wide.visible & square.visible
    assert both.any()
    assert np.abs(wide.boxes_xyxy_norm - square.boxes_xyxy_norm)[both].max() < 0.05


def test_a_view_shows_a_part_of_each_frame_with_the_boxes_that_belong_to_it(world) -> None:
    scene = dataclasses.replace(world.sample(3, CONFIG), noise=0.0)
    plain = render_clip(scene, 3, (240, 240))
    focus, magnification = np.array([[0.5, 0.5], [0.4, 0.6], [0.3, 0.5]]), np.array([1.0, 2.0, 3.0])
    view = render_view(scene, 3, (240, 240), view=View(focus, magnification))
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
    whole, gap = render_view(scene, 9, SIZE, first_frame=2), render_view(scene, 3, SIZE, first_frame=2, gap=6)
    assert np.array_equal(gap.frames, whole.frames[[0, 7, 8]])
    assert np.array_equal(gap.boxes_xyxy_norm, whole.boxes_xyxy_norm[[0, 7, 8]])


def test_a_following_view_holds_the_object_although_it_is_off(world) -> None:
    rng, errors = np.random.default_rng(2), []
    for seed in range(20):
        scene = world.sample(seed, dataclasses.replace(CONFIG, speed=(0.04, 0.08), share_leaving=0.0))
        numbers = shown_frames(scene, 6, 3, 10)
        path = scene.objects[scene.tracked[0]].path(scene, numbers)
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
        paths = [view.path(item.path(scene, numbers)) for item in scene.objects]
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
            path, carrier = (one.path(scene, numbers) for one in (item, item.carrier))
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
            thing, path = (item.path(scene, numbers) for item in (arm.carrier, arm))
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
    paths = [item.path(scene, np.arange(0.0, 40.0)) for item in scene.objects]
    spans = [float(np.ptp(np.log(path.aspect))) for path in paths]
    assert max(spans) > 0.1 if turning else max(spans) == 0


def test_compression_leaves_marks_and_the_boxes_as_they_were(world) -> None:
    config = dataclasses.replace(CONFIG, share_compressed=1.0)
    plain, packed = world.sample(4, CONFIG), world.sample(4, config)
    assert plain.jpeg_quality is None and 20 <= packed.jpeg_quality < 75
    one, other = render_view(plain, 2, (96, 96)), render_view(packed, 2, (96, 96))
    assert np.array_equal(one.boxes_xyxy_norm, other.boxes_xyxy_norm)
    difference = np.abs(one.frames.astype(int) - other.frames).mean()
    assert 0.3 < difference < 12
