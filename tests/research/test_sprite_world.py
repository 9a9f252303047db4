"""The bank of sprites, what it holds out, and scenes of it."""

from dataclasses import replace

import numpy as np
import pytest
from tiny import tiny_processor

from elysium.training.synthetic import SceneConfig, referring_expressions, render_clip
from research.scenes.fetch_sprites import caption_name, plain_name
from research.scenes.sprite_bank import (
    PARTS,
    SpriteBank,
    as_sprite,
    everyday_names,
    is_held_out_class,
    normalise_sprite,
)
from research.scenes.sprite_world import ATTRIBUTES, SpriteMix, SpriteWorld
from research.scenes.world import StudyConfig, StudyWorld
from research.tiny.data import IGNORE, BatchPlan, TinyBatches

CONFIG = SceneConfig(num_objects=(3, 5), side=(0.15, 0.4), share_leaving=0.3)


def disc(colour, side=200):
    """A disc with alpha, on nothing."""
    y, x = np.mgrid[:side, :side] - side / 2
    inside = x**2 + y**2 < (0.4 * side) ** 2
    return np.dstack([*[np.full((side, side), value, np.uint8) for value in colour], (inside * 255).astype(np.uint8)])


@pytest.fixture(scope="module")
def bank():
    """300 discs of 100 names, three of each, 60 without one, and 20 grounds."""
    rng = np.random.default_rng(0)
    names = [f"thing {chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(100)] * 3 + [""] * 60
    sprites = np.stack([normalise_sprite(disc(rng.integers(0, 255, 3))) for _ in names])
    grounds = [rng.integers(0, 255, (600, 800, 3), np.uint8) for _ in range(20)]
    return SpriteBank(sprites, names, [f"key {n}" for n in range(360)], grounds, [f"ground {n}" for n in range(20)])


def test_a_sprite_is_cropped_scaled_and_premultiplied():
    found = normalise_sprite(disc((200, 100, 50)))
    assert found.shape == (128, 128, 4)
    rows = np.flatnonzero(found[..., 3].any(1))
    assert rows[0] == 4 and rows[-1] == 123
    assert found[64, 64].tolist() == [200, 100, 50, 255]
    assert (found[..., :3] <= found[..., 3:]).all()


@pytest.mark.parametrize(
    "alpha", [np.zeros((50, 50)), np.eye(200) * 255, np.pad(np.full((3, 200), 255), ((0, 9), (0, 0)))]
)
def test_what_is_empty_thin_or_a_line_is_no_sprite(alpha):
    image = np.dstack([np.full((*alpha.shape, 3), 90, np.uint8), alpha.astype(np.uint8)])
    assert normalise_sprite(image) is None


def test_parts_share_no_sprite_no_ground_and_no_name_that_is_held_out(bank):
    chosen = {part: set(bank.chosen(part)) for part in PARTS}
    assert set.union(*chosen.values()) == set(range(360)) and sum(map(len, chosen.values())) == 360
    assert all(len(places) > 10 for places in chosen.values())
    assert all(is_held_out_class(bank.names[place]) for place in chosen["held_out_classes"])
    taught = {bank.names[place] for place in chosen["train"]}
    assert {bank.names[place] for place in chosen["seen_classes"]} <= taught | {""}
    grounds = [set(bank.chosen_backgrounds(part)) for part in ("train", "seen_classes")]
    assert not grounds[0] & grounds[1] and len(grounds[0]) > len(grounds[1]) > 0
    assert bank.chosen_backgrounds("held_out_classes") == bank.chosen_backgrounds("seen_classes")


def test_a_sprite_that_is_alone_with_its_name_is_not_held_out(bank):
    few = SpriteBank(bank.sprites[:100], bank.names[:100], bank.keys[:100], [], [])
    assert few.chosen("seen_classes") == []
    assert len(few.chosen("train")) + len(few.chosen("held_out_classes")) == 100


def test_a_bank_comes_back_from_its_file(bank, tmp_path):
    bank.save(tmp_path / "bank.npz")
    again = SpriteBank.load(tmp_path / "bank.npz")
    assert (again.sprites == bank.sprites).all()
    assert (again.names, again.keys, again.background_keys) == (bank.names, bank.keys, bank.background_keys)
    assert [image.shape for image in again.backgrounds] == [(600, 800, 3)] * 20
    (tmp_path / "no.npz").write_bytes(b"no")
    for name in ("no.npz", "missing.npz"):
        with pytest.raises(ValueError, match="must be an .npz file of fetch_sprites.*run python -m"):
            SpriteBank.load(tmp_path / name)
    with pytest.raises(ValueError, match="a name and a key for each sprite, got 360, 1 and 360"):
        SpriteBank(bank.sprites, [""], bank.keys, [], [])


def test_scenes_come_from_their_part_and_the_same_seed_gives_the_same(bank):
    for part in PARTS:
        world = SpriteWorld(bank, 3, part=part, num_backgrounds=2, num_unnamed=4)
        names = {bank.names[place] for place in bank.chosen(part)}
        kinds = {item.sprite.kind for seed in range(30) for item in world.sample(seed, CONFIG).objects}
        assert kinds - {None} <= names and len(kinds) > 5
    again = SpriteWorld(bank, 3, part=part, num_backgrounds=2, num_unnamed=4)
    first, second = (render_clip(w.sample(7, CONFIG), 3, (64, 64)) for w in (world, again))
    assert (first.frames == second.frames).all()


def test_expressions_single_one_object_out_by_name_attribute_place_or_motion(bank):
    world = SpriteWorld(
        bank, 1, mix=SpriteMix(share_named=1.0, share_same_class=1.0), num_backgrounds=2, num_unnamed=4
    )
    said = []
    for seed in range(60):
        scene = world.sample(seed, CONFIG)
        clip = render_clip(scene, 4, (96, 96))
        for index, place in enumerate(scene.tracked):
            target = scene.objects[place].sprite
            others = [scene.objects[other].sprite for other in scene.tracked if other != place]
            for words in referring_expressions(scene, index, clip.boxes_xyxy_norm, clip.visible):
                said.append(words)
                # A bare name is said of one object alone, however the others of its name are called.
                if words == f"the {target.kind}":
                    assert all(other.kind != target.kind for other in others)
    assert any(attribute in words for words in said for attribute in ATTRIBUTES)
    assert any(words.startswith(("the left", "the right", "the top", "the bottom")) for words in said)
    assert any("moving" in words for words in said)


def test_names_that_are_not_taught_leave_their_sprites_nameless_and_in_their_part(bank):
    taught = [name for name in bank.classes if not is_held_out_class(name)][:20]
    worlds = {part: SpriteWorld(bank, 1, part=part, names=taught) for part in PARTS}
    assert worlds["train"].kinds == taught
    assert set(worlds["held_out_classes"].kinds) == set(filter(is_held_out_class, bank.classes))
    for part, world in worlds.items():
        assert sorted(world.named + world.nameless) == bank.chosen(part)
    shown = {thing.sprite.kind for seed in range(40) for thing in worlds["train"].sample(seed, CONFIG).objects}
    assert shown - {None} and shown - {None} <= set(taught)


def test_the_everyday_names_are_single_words_of_classes_that_are_taught():
    names = everyday_names()
    assert len(names) == len(set(names)) > 200
    assert not any(map(is_held_out_class, names)) and all(name.isalpha() for name in names)


def test_turned_colours_keep_the_alpha_and_stay_premultiplied(bank):
    for attribute, colours in ATTRIBUTES.items():
        sprite = as_sprite(bank.sprites[0], "disc", colours=colours, attribute=attribute)
        assert [level.shape[0] for level in sprite.levels] == [128, 64, 32]
        assert (sprite.levels[0][..., 3] == bank.sprites[0][..., 3]).all()
        assert (sprite.levels[0][..., :3] <= sprite.levels[0][..., 3:]).all()
        assert (sprite.colour, sprite.kind) == (attribute, "disc")
    grey = as_sprite(bank.sprites[0], "disc", colours=ATTRIBUTES["grey"]).levels[0][64, 64]
    assert np.ptp(grey[:3].astype(int)) <= 1


def test_names_are_read_from_packages_as_words():
    assert [plain_name(name) for name in ("racing_car", "dog2", "clock1230", "8ball")] == [
        "racing car",
        "dog",
        "clock",
        "8 ball",
    ]
    captions = ("A guinea fowl.", "An albino peahen (a female peafowl, or peacock).", "The letter M.")
    assert [caption_name(caption) for caption in captions] == ["guinea fowl", "", ""]


def test_a_mix_outside_of_its_range_is_refused():
    with pytest.raises(ValueError, match="share_named must be in 0..1, got 2"):
        SpriteMix(share_named=2)


def test_a_name_that_is_absent_fits_nothing_in_the_scene(bank):
    world = SpriteWorld(bank, 3)
    rng = np.random.default_rng(0)
    for seed in range(20):
        scene = world.sample(seed, SceneConfig(num_objects=(1, 3)))
        absent = world.absent_name(scene, rng)
        assert absent in world.kinds or absent is None
        assert absent not in {item.sprite.kind for item in scene.objects}


def test_training_on_both_worlds_has_words_and_heads_for_both(bank, tmp_path):
    bank.save(tmp_path / "bank.npz")
    plan = BatchPlan(
        frames={1: 1.0},
        clips_per_batch={1: 8},
        scene=StudyConfig(num_objects=(3, 4)),
        worlds={"sprites": 0.5, "shapes": 0.5},
        bank=tmp_path / "bank.npz",
    )
    shapes, sprites = StudyWorld(2, num_backgrounds=2, num_unnamed=2, num_variants=1), SpriteWorld(bank, 2)
    worlds = plan.build_worlds(2)
    data = TinyBatches(tiny_processor(), plan, worlds, num_batches=2, seed=2, ranks=1, image_size=32, patch_size=8)
    assert data.kinds == [*sprites.kinds, *(kind for kind in shapes.kinds if kind not in sprites.kinds)]
    batch = data[0]
    known = batch["kinds"][batch["kinds"] != IGNORE]
    told = {data.kinds[number] for number in known.tolist()}
    assert told & set(sprites.kinds) and told & set(shapes.kinds)
    with pytest.raises(ValueError, match="needs a bank, got none"):
        replace(plan, bank=None).build_worlds(1)
    with pytest.raises(ValueError, match="shapes or sprites, got cubes"):
        replace(plan, worlds={"cubes": 1.0}).build_worlds(1)
