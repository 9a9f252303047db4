"""Everyday words for the classes of the semantic encoders."""

import numpy as np
import pytest

from research.semantic.build_class_names import Synset, ancestors, build, parse_class, read_sections
from research.semantic.class_names import (
    NUM_CLASSES,
    TABLE,
    ClassName,
    fits,
    load_class_names,
    phrases,
    related,
    write_class_names,
)

MUST_HAVE = (
    "person,man,woman,boy,girl,cup,mug,bottle,bowl,glass,laptop,table,chair,couch,bed,tv,keyboard,mouse,phone,book,"
    "clock,vase,scissors,teddy bear,bird,dog,cat,horse,sheep,cow,elephant,bear,zebra,giraffe,cockatoo,parrot,rabbit,"
    "fish,butterfly,car,bus,truck,train,boat,plane,bike,bicycle,motorcycle,traffic light,hat,shoe,bag,backpack,"
    "umbrella,tie,ball,frisbee,banana,apple,orange,pizza,cake,sandwich,box,basket,camera,desk,monitor,plant,flower"
).split(",")

COCO = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,"
    "cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,book,clock,vase,scissors,teddy bear,hair dryer,toothbrush"
).split(",")
OPEN_IMAGES = (
    "bicycle,boot,laptop,person,chair,cattle,desk,cat,computer mouse,computer monitor,box,mug,coffee cup,"
    "stationary bicycle,table,bottle,high heels,vehicle,footwear,dog,book,camera,car"
).split(",")


def entry(encoder: str, name: str) -> ClassName:
    """Return the one class of an encoder with this name."""
    (found,) = (each for each in load_class_names() if (each.encoder, each.name) == (encoder, name))
    return found


def test_every_class_has_one_row_in_the_order_of_the_evidence() -> None:
    expected = [(encoder, index) for encoder, count in NUM_CLASSES.items() for index in range(count)]
    assert [(each.encoder, each.index) for each in load_class_names()] == expected


def test_the_table_is_compact() -> None:
    assert TABLE.stat().st_size < 250_000


def test_phrases_are_lower_case_and_stand_once_per_class() -> None:
    for each in load_class_names():
        words = [each.name, *each.synonyms, *each.hypernyms, *each.also]
        assert len(words) == len(set(words)), each
        assert all(word and word == " ".join(word.lower().split()) for word in words), each


def test_a_row_of_imagenet_keeps_the_place_of_its_label() -> None:
    names = {
        0: "tench", 89: "cockatoo", 134: "crane", 207: "golden retriever", 281: "tabby cat", 340: "zebra",
        517: "crane", 620: "laptop", 656: "minivan", 779: "school bus", 850: "teddy bear", 954: "banana",
        968: "cup", 999: "toilet paper",
    }  # fmt: skip
    table = load_class_names()
    assert {index: table[index].name for index in names} == names


@pytest.mark.parametrize("start, labels", [(1000, COCO), (1080, OPEN_IMAGES)])
def test_the_detectors_classes_stand_in_their_order(start: int, labels: list[str]) -> None:
    table = load_class_names()[start : start + len(labels)]
    assert [label for label, each in zip(labels, table, strict=True) if label not in each.own_words] == []


def test_ambiguous_labels_have_the_synset_of_their_own_class() -> None:
    table = load_class_names()
    assert table[134].synset == "n02012849" and table[134].hypernyms[0] == "bird"
    assert table[517].synset == "n03126707" and "bird" not in table[517].hypernyms
    assert table[638].synset == "n03710637" and table[639].synset == "n03710721"  # maillot: tights, swimsuit


@pytest.mark.parametrize("word", MUST_HAVE)
def test_an_everyday_word_names_a_class(word: str) -> None:
    assert fits(word).any()


@pytest.mark.parametrize(
    "encoder, name, hypernyms",
    [
        ("imagenet", "cockatoo", ("parrot", "bird", "animal")),
        ("imagenet", "golden retriever", ("retriever", "dog", "animal")),
        ("imagenet", "minivan", ("van", "car", "vehicle")),
        ("imagenet", "espresso", ("cup", "drink")),
        ("imagenet", "peacock", ("bird", "animal")),
        ("imagenet", "school bus", ("bus", "vehicle")),
        ("imagenet", "pizza", ("dish", "food")),
        ("coco", "dog", ("animal",)),
        ("coco", "car", ("vehicle",)),
        ("open_images", "mug", ("cup", "container")),
    ],
)
def test_hypernyms_stand_nearest_first(encoder: str, name: str, hypernyms: tuple[str, ...]) -> None:
    assert entry(encoder, name).hypernyms == hypernyms


def test_no_hypernym_is_a_word_of_dictionaries_alone() -> None:
    used = {word for each in load_class_names() for word in each.hypernyms}
    assert used.isdisjoint({"entity", "object", "artifact", "instrumentality", "whole", "carnivore", "covering"})


def test_fits_marks_the_columns_of_all_encoders() -> None:
    marked = fits("the  Dog")
    assert marked.shape == (1103,) and marked.dtype == bool
    table = load_class_names()
    assert {each.encoder for each, fit in zip(table, marked, strict=True) if fit} == set(NUM_CLASSES)
    assert marked[151:269].all() and not marked[281:300].any()
    assert not fits("quaternion").any()


def test_a_woman_may_be_asked_for_but_person_does_not_say_so() -> None:
    person = entry("coco", "person")
    assert "woman" in person.also and fits("woman")[1000]
    assert "woman" not in phrases(person) and "woman" in phrases(person, narrower=True)


def test_probabilities_of_phrases_sum_to_one_and_favour_the_name() -> None:
    for each in load_class_names():
        for narrower in (False, True):
            weights = phrases(each, narrower=narrower)
            assert sum(weights.values()) == pytest.approx(1) and max(weights, key=weights.__getitem__) == each.name
        distances = [phrases(each)[word] for word in each.hypernyms]
        assert np.all(np.diff(distances) < 0)


def test_related_knows_the_same_object_by_other_words() -> None:
    bird, cockatoo, macaw = entry("coco", "bird"), entry("imagenet", "cockatoo"), entry("imagenet", "macaw")
    assert related(cockatoo, bird) and related(bird, cockatoo)
    assert not related(cockatoo, macaw)  # both are parrots, none is the other
    assert related(entry("imagenet", "laptop"), entry("open_images", "laptop"))
    assert related(entry("open_images", "coffee cup"), entry("coco", "cup"))
    assert not related(entry("coco", "dog"), entry("coco", "cat"))


def test_no_two_coco_classes_are_related_unless_their_words_overlap() -> None:
    coco = [each for each in load_class_names() if each.encoder == "coco"]
    pairs = {(a.name, b.name) for a in coco for b in coco if a.index < b.index and related(a, b)}
    assert pairs == {
        ("bicycle", "motorcycle"),  # bike
        ("backpack", "handbag"),  # bag
        ("handbag", "suitcase"),
        ("bear", "teddy bear"),
        ("wine glass", "cup"),  # glass
        ("sandwich", "hot dog"),
        ("donut", "cake"),
    }


def test_a_written_table_is_read_back(tmp_path, monkeypatch) -> None:
    from research.semantic import class_names

    entries = load_class_names()[:3] + load_class_names()[1000:1002]
    write_class_names(entries, tmp_path / "table.tsv")
    monkeypatch.setattr(class_names, "TABLE", tmp_path / "table.tsv")
    assert list(class_names._table.__wrapped__()) == entries


def test_ancestors_come_deepest_first_and_once() -> None:
    # a pheasant is a bird directly and, through game, an animal
    wordnet = {
        "root": Synset(["entity"], []),
        "animal": Synset(["animal"], ["root"]),
        "bird": Synset(["bird"], ["animal"]),
        "game": Synset(["game"], ["animal"]),
        "fowl": Synset(["fowl"], ["bird"]),
        "pheasant": Synset(["pheasant"], ["game", "fowl"]),
    }
    assert ancestors(wordnet, "pheasant") == ["fowl", "game", "bird", "animal", "root"]


def test_a_line_by_hand_adds_and_drops_hypernyms() -> None:
    parsed = parse_class("7 cup, mug > vessel, -animal ; beaker", "coco", 7, "n1", ["mug", "dish", "animal"])
    assert parsed == ClassName("coco", 7, "n1", "cup", ("mug",), ("vessel", "dish"), ("beaker",))
    assert parse_class("7 cup > vessel, !", "coco", 7, "n1", ["dish"]).hypernyms == ("vessel",)


def test_a_class_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="KEY name"):
        parse_class("7", "coco", 7, "n1", [])


def test_too_few_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="must have"):
        build({}, [], "[imagenet]\n0 tench\n[coco]\n[open_images]\n[ancestors]\n")
    assert read_sections("# no\n[a]\nb\n\nc\n") == {"a": ["b", "c"]}
