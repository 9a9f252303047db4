"""Renders of 3-D models: their names, licences and views, and a bank of several files."""

import re
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from research.scenes.fetch_renders import (
    COLLECTIONS,
    NAMES_FILE,
    attribution_lines,
    everyday_noun,
    read_models,
    shows_something,
    view_angles,
)
from research.scenes.sprite_bank import PARTS, SpriteBank, is_held_out_class, model_of
from research.scenes.sprite_world import SpriteMix, SpriteWorld
from research.scenes.world import StudyConfig
from research.semantic.class_names import fits

VIEWS = 4
SEEN_CLASSES = [2, 7, 23, 24, 42, 56, 62, 64, 81, 86, 87, 89]


def sprites(count, seed):
    """Opaque squares of random shades."""
    shades = np.random.default_rng(seed).integers(30, 220, (count, 128, 128, 3), np.uint8)
    return np.concatenate([shades, np.full((count, 128, 128, 1), 255, np.uint8)], axis=3)


@pytest.fixture(scope="module")
def cutouts():
    """90 cut-outs of 26 names."""
    names = [f"thing {chr(97 + n % 26)}" for n in range(90)]
    ground = np.zeros((300, 300, 3), np.uint8)
    return SpriteBank(sprites(90, 0), names, [f"emoji/{n}" for n in range(90)], [ground], ["ground"])


@pytest.fixture(scope="module")
def renders():
    """Four views each of 60 models of 20 names and one model that is alone with its name."""
    names = [f"model {chr(97 + n % 20)}" for n in range(60)] + ["lonely model"]
    keys = [f"sweethome3d/{n}#{view}" for n in range(61) for view in range(VIEWS)]
    return SpriteBank(sprites(61 * VIEWS, 1), [name for name in names for _ in range(VIEWS)], keys, [], [])


@pytest.fixture
def package(tmp_path):
    """The five collections, with one model each, and a second one with a licence of its own in the first."""
    for number, name in enumerate(COLLECTIONS):
        with zipfile.ZipFile(tmp_path / f"{name}.sh3f", "w") as packed:
            lines = [
                f"name#1=Coffee mug\ncategory#1=Kitchen\nmodel#1=/{name.lower()}/mug/mug.obj\ncreator#1=A{number}"
            ]
            packed.writestr(f"{name.lower()}/mug/mug.obj", "")
            if number == 0:
                lines.append(f"name#2=Bill 10\\u20ac\ncategory#2=Office\nmodel#2=/{name.lower()}/b/b.obj\ncreator#2=B")
                lines.append("modelRotation#2=1 0 0 0 0 -1 0 1 0")
                packed.writestr(
                    f"{name.lower()}/b/LICENSE.txt",
                    "Creative Commons Attribution 3.0\nDownloaded from http://example.org/1\n",
                )
            packed.writestr("PluginFurnitureCatalog.properties", "\n".join(lines))
    return tmp_path


def test_files_of_a_bank_are_joined_and_share_no_key(cutouts, renders, tmp_path):
    paths = [tmp_path / "cutouts.npz", tmp_path / "renders.npz"]
    cutouts.save(paths[0])
    renders.save(paths[1])
    joined = SpriteBank.load(paths)
    assert joined.keys == cutouts.keys + renders.keys and joined.names == cutouts.names + renders.names
    assert (joined.sprites == np.concatenate([cutouts.sprites, renders.sprites])).all()
    assert joined.background_keys == ["ground"] and len(joined.backgrounds) == 1
    assert SpriteBank.load(paths[:1]).keys == SpriteBank.load(str(paths[0])).keys == cutouts.keys
    with pytest.raises(ValueError, match="must share no key, got '.*' twice; give each file once"):
        SpriteBank.load([paths[0], paths[0]])
    with pytest.raises(ValueError, match="must have a file, got none"):
        SpriteBank.load([])


def test_all_views_of_a_model_are_in_one_part(renders):
    parts = {part: {model_of(renders.keys[place]) for place in renders.chosen(part)} for part in PARTS}
    assert sum(len(models) for models in parts.values()) == len(set.union(*parts.values())) == 61
    assert all(len(renders.chosen(part)) == VIEWS * len(models) for part, models in parts.items())
    assert all(parts.values())


def test_a_model_that_is_alone_with_its_name_is_not_held_out(renders):
    alone = [place for place, name in enumerate(renders.names) if name == "lonely model"]
    assert not is_held_out_class("lonely model")
    # Whatever its key: with four views that were counted singly, a tenth of these would be held out.
    for number in range(60):
        keys = list(renders.keys)
        keys[alone[0] :] = [f"sweethome3d/other{number}#{view}" for view in range(VIEWS)]
        assert set(alone) <= set(replace(renders, keys=keys).chosen("train"))


def test_parts_of_cut_outs_are_those_of_older_versions_and_stay_when_renders_join(cutouts, renders):
    # Computed before models had views.
    assert cutouts.chosen("seen_classes") == SEEN_CLASSES
    joined = SpriteBank(
        np.concatenate([cutouts.sprites, renders.sprites]),
        [name.replace("model", "thing") for name in cutouts.names + renders.names],
        cutouts.keys + renders.keys,
        [],
        [],
    )
    for part in PARTS:
        assert [place for place in joined.chosen(part) if place < 90] == cutouts.chosen(part)


def test_a_world_draws_models_as_often_as_cut_outs_and_shows_all_views(renders):
    world = SpriteWorld(renders, 3, mix=SpriteMix(share_named=1.0), num_backgrounds=2, num_unnamed=2)
    models = [model_of(renders.keys[place]) for place in world.named]
    assert len(models) == len(set(models)) == len(renders.chosen("train")) / VIEWS
    first = world.named[0]
    shown = {world._sprite(np.random.default_rng(seed), first, "grey").levels[0].tobytes() for seed in range(40)}
    assert len(shown) == VIEWS
    scene = world.sample(0, StudyConfig(num_objects=(3, 3)))
    assert {item.sprite.kind for item in scene.objects if item.tracked} <= set(renders.names)


def test_the_table_of_names_is_sound():
    lines = [line.split(": ") for line in NAMES_FILE.read_text("utf-8").splitlines() if not line.startswith("#")]
    assert all(len(line) == 2 for line in lines)
    titles = [title for _, listed in lines for title in listed.split(" | ")]
    assert len(titles) == len(set(titles)) and all(title == title.lower().strip() for title in titles)
    nouns = {noun for noun, _ in lines} - {"-"}
    assert all(re.fullmatch(r"[a-z]+([ -][a-z]+)*", noun) for noun in nouns)
    assert np.mean([fits(noun).any() for noun in nouns]) > 0.5


@pytest.mark.parametrize(
    ("title", "noun"),
    [
        ("Cat", "cat"),
        ("Lying down boy", "boy"),
        ("Mannequin male", "mannequin"),
        ("Double French window 3 panes", "window"),
        ("Bedside table", "bedside table"),
        ("Folding table", "table"),
        ("Bill 10€", ""),
    ],
)
def test_a_title_becomes_what_one_would_say(title, noun):
    assert everyday_noun(title) == noun


def test_the_attribution_has_a_line_for_each_model_with_the_stricter_licence(package):
    models = list(read_models(package))
    assert len(models) == len({model.key for model in models}) == 6
    lines = [line.split("\t") for line in attribution_lines(models) if not line.startswith("#")]
    assert lines[0] == ["key", "title", "creator", "licence", "licence_url", "source"]
    assert [line[0] for line in lines[1:]] == [model.key for model in models]
    assert all(len(line) == 6 and all(line) for line in lines)
    bill = next(line for line in lines if line[1] == "Bill 10€")
    assert bill[2:4] == ["B", "CC BY 3.0"] and bill[5] == "http://example.org/1"
    assert {line[3] for line in lines[1:] if line[1] == "Coffee mug"} == {"CC0 1.0", "CC BY 3.0", "CC BY 3.0 US"}
    assert [model.rotation is not None for model in models] == [False, True] + [False] * 4


def test_views_spread_over_headings_and_elevations(package):
    model = next(read_models(package))
    for category, reach in (("Kitchen", 70), ("Vehicles", 180)):
        headings, pitches = np.array(view_angles(replace(model, category=category), 6)).T
        assert np.allclose(np.diff(headings), 2 * reach / 6) and abs(headings).max() <= reach
        assert pitches.min() >= 5 and pitches.max() <= 35 and np.ptp(pitches) > 15


@pytest.mark.parametrize("shade", [(255, 0), (0, 0), (120, 0)])
def test_white_black_and_plain_views_are_left_out(shade):
    sprite = sprites(1, 0)[0]
    assert shows_something(sprite)
    glass = np.where(np.arange(128)[:, None, None] < 60, sprite // 2, sprite)
    assert not shows_something(glass)
    plain = sprite.copy()
    plain[..., :3] = shade[0]
    assert not shows_something(plain)
