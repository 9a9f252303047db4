"""The photographs and their boxes are sound; boxes and names are scored as by hand."""

import dataclasses
import json
import math
import re

import pytest
from PIL import Image

from elysium.processing.structures import Grounding
from elysium.tracking.checkpoints import DEFAULT_MODEL
from research.real_words import fetch_stills, naming, stills
from research.real_words.fetch_stills import SOURCES, FetchError, check_source, save_scaled
from research.real_words.naming import CATEGORIES, head_noun, name_kind
from research.real_words.nouns import Nouns, find_wordnet
from research.real_words.stills import STILLS, Item, find_photo, markdown, measure, read_items, summarise

# Noun: its senses, most frequent first; sense: the senses above it.
SENSES = {
    "entity": ["e"], "animal": ["animal"], "mammal": ["mammal"], "feline": ["feline"], "cat": ["cat", "gossip"],
    "house_cat": ["house_cat"], "tabby": ["tabby"], "true_cat": ["cat"], "gossip": ["gossip"], "person": ["person"],
    "dog": ["dog"], "artifact": ["artifact"], "bulb": ["plant_bulb", "light_bulb"], "light_bulb": ["light_bulb"],
    "lamp": ["lamp"], "chimney": ["chimney"], "running": ["e"], "man": ["man"], "scissors": ["scissors"],
    "tool": ["tool"],
}  # fmt: skip
ABOVE = {
    "elsewhere": [],
    "e": [], "animal": ["e"], "mammal": ["animal"], "feline": ["mammal"], "cat": ["feline"], "house_cat": ["cat"],
    "tabby": ["house_cat"], "person": ["e"], "gossip": ["person"], "man": ["person"], "dog": ["mammal"],
    "artifact": ["e"], "plant_bulb": ["e"], "lamp": ["artifact"], "light_bulb": ["lamp"], "chimney": ["artifact"],
    "tool": ["artifact"], "scissors": ["tool"],
}  # fmt: skip


@pytest.fixture(scope="module")
def nouns(tmp_path_factory) -> Nouns:
    """Read a WordNet of a few nouns, with every category of the rules."""
    folder = tmp_path_factory.mktemp("wordnet")
    senses = SENSES | {
        n.split(".")[0]: ["elsewhere"] * int(n[-2:]) for n in CATEGORIES if n.split(".")[0] not in SENSES
    }
    offsets = {sense: f"{number:08d}" for number, sense in enumerate(ABOVE)}
    licence = "  1 This line is the licence.\n"
    index = [
        f"{noun} n {len(found)} 1 @ {len(found)} 0 {' '.join(offsets[sense] for sense in found)}\n"
        for noun, found in senses.items()
    ]
    data = []
    for sense, higher in ABOVE.items():
        pointers = "".join(f" @ {offsets[up]} n 0000" for up in higher) + " ~ 00000000 n 0000"
        data.append(f"{offsets[sense]} 05 n 01 {sense} 0 {len(higher) + 1:03d}{pointers} | a gloss @ here\n")
    (folder / "index.noun").write_text(licence + "".join(index), "utf-8")
    (folder / "data.noun").write_text(licence + "".join(data), "utf-8")
    (folder / "noun.exc").write_text("men man\n", "utf-8")
    return Nouns(find_wordnet(folder))


def test_nouns_are_found_by_their_plurals(nouns):
    assert [nouns.bases(form) for form in ("cats", "Men", "light bulbs", "scissors")] == [
        ["cat"],
        ["man"],
        ["light_bulb"],
        ["scissors"],
    ]
    assert nouns.bases("greyish") == []


def test_steps_above_a_sense_are_the_shortest(nouns):
    cat = nouns.sense("cat.n.01")
    assert list(nouns.above(cat).values()) == [1, 2, 3, 4]
    assert list(nouns.above(cat, 2)) == [nouns.sense("feline.n.01"), nouns.sense("mammal.n.01")]


def test_a_synset_that_wordnet_lacks_is_named(nouns):
    with pytest.raises(ValueError, match=r"got cat\.n\.03; cat has 2 as a noun"):
        nouns.sense("cat.n.03")


def test_a_folder_without_wordnet_says_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match=r"data\.noun, index\.noun, noun\.exc, got none in .*--wordnet DIR"):
        find_wordnet(tmp_path)


@pytest.mark.parametrize(
    ("description", "noun"),
    [
        ("grey cat", "cat"),
        ("The small white cat on the left of a dog.", "cat"),
        ("a cat running in the grass", "cat"),
        ("a pair of scissors", "scissors"),
        ("a picture of a light bulb that is on", "light bulb"),
        ("two cats and a dog", "cats"),
        ("a greyish", ""),
        ("", ""),
    ],
)
def test_the_head_noun_of_a_description(description, noun, nouns):
    assert head_noun(description, nouns) == noun


@pytest.mark.parametrize(
    ("description", "word", "synset", "kind"),
    [
        ("a grey cat", "cat", "cat.n.01", "exact"),
        ("grey cats", "cat", "cat.n.01", "exact"),
        ("true cat", "cat", "cat.n.01", "synonym"),  # the head is "true cat", whose sense is the item's
        ("bulb", "light bulb", "light_bulb.n.01", "synonym"),  # the second sense of the word
        ("a feline", "cat", "cat.n.01", "hypernym"),
        ("an animal", "cat", "cat.n.01", "hypernym"),
        ("an entity", "cat", "cat.n.01", "other"),  # above animal
        ("a tabby", "cat", "cat.n.01", "hyponym"),
        ("a gossip", "cat", "cat.n.01", "other"),  # another sense of cat
        ("a dog", "cat", "cat.n.01", "other"),  # a sibling
        ("a lamp", "light bulb", "light_bulb.n.01", "other"),  # above it, but below no category
        ("a tool", "scissors", "scissors.n.01", "hypernym"),
        ("an artifact", "chimney", "chimney.n.01", "other"),
        ("", "cat", "cat.n.01", "other"),
    ],
)
def test_names_by_the_rules(description, word, synset, kind, nouns):
    assert name_kind(description, word, synset, nouns) == kind


def test_more_than_four_steps_are_too_many(nouns, monkeypatch):
    monkeypatch.setattr(naming, "STEPS", 1)
    assert name_kind("a feline", "cat", "cat.n.01", nouns) == "hypernym"
    assert name_kind("a mammal", "cat", "cat.n.01", nouns) == "other"
    assert name_kind("a tabby", "cat", "cat.n.01", nouns) == "other"


class ScriptedTracker:
    """Answers by phrase and by box."""

    def __init__(self, boxes, descriptions):
        self.boxes, self.descriptions = boxes, descriptions

    def ground_many(self, items):
        answers = [(text, self.boxes[text]) for _, text in items]
        return [
            Grounding(text, box, math.nan, None if box else "absent", 100, 50) for text, box in answers
        ]  # fmt: skip

    def describe_many(self, items):
        return [self.descriptions[box] for _, box in items]


def test_found_and_named_as_by_hand(nouns, tmp_path):
    item = Item(file="a.jpg", word="cat", phrase="the cat", box_xyxy_px=(0, 0, 50, 50), synset="cat.n.01",
                split="headline")  # fmt: skip
    dog = dataclasses.replace(item, phrase="the dog", word="dog", synset="dog.n.01", box_xyxy_px=(0, 0, 10, 10))
    tracker = ScriptedTracker(
        {"the cat": (0.0, 0.0, 25.0, 50.0), "the dog": None}, {(0, 0, 50, 50): "a cat", (0, 0, 10, 10): "a mammal"}
    )
    rows = measure(tracker, [item, dog], [tmp_path / "a.jpg"] * 2, nouns)
    assert [(row["iou"], row["whole_image_iou"], row["named"]) for row in rows] == [
        (0.5, 0.5, "exact"),
        (0.0, 0.02, "hypernym"),
    ]
    figures = summarise(rows)
    assert {name: figures[name] for name in ("found", "mean_iou", "without_box", "whole_image_found")} == {
        "found": 0.5,  # IoU 0.5 is right
        "mean_iou": 0.25,
        "without_box": 0.5,
        "whole_image_found": 0.5,
    }
    assert (figures["named"], figures["related"], figures["hypernym"]) == (0.5, 1.0, 0.5)
    record = {"model": "m", "hardware": "h", "missing": ["bus.jpg"], "splits": {"headline": figures}, "rows": rows}
    tables = markdown(json.loads(json.dumps(record)))
    assert "Not fetched: bus.jpg." in tables
    assert re.search(r"\| headline \| a\.jpg +\| dog +\| 0\.00 \| a mammal +\| hypernym \|", tables)


def test_photographs_that_are_not_shipped_have_a_source(tmp_path):
    missing = {item.file for item in read_items() if find_photo(item.file, tmp_path) is None}
    assert missing == set(SOURCES)
    assert {item.split for item in read_items() if item.file in missing} == {"selection"}


def test_boxes_are_inside_their_photographs(tmp_path):
    for item in read_items():
        path = find_photo(item.file, tmp_path)
        if path is None:
            continue
        with Image.open(path) as image:
            assert image.format == "JPEG" and max(image.size) <= 640
            x1, y1, x2, y2 = item.box_xyxy_px
            assert 0 <= x1 < x2 <= image.width and 0 <= y1 < y2 <= image.height, item


def test_a_word_stands_once_in_a_photograph_and_a_photograph_in_one_split():
    items = read_items()
    assert len({(item.file, item.word) for item in items}) == len(items) >= 45
    assert len({item.word for item in items}) >= 40
    splits: dict[str, set[str]] = {}
    for item in items:
        splits.setdefault(item.file, set()).add(item.split)
        assert re.fullmatch(r"[a-z_]+\.n\.\d\d", item.synset) and item.phrase == f"the {item.word}"
    assert all(len(found) == 1 for found in splits.values())
    assert max(sum(item.file == file for item in items) for file in splits) <= 5
    headline = sum(found == {"headline"} for found in splits.values())
    assert abs(2 * headline - len(splits)) <= 4


def test_every_shipped_photograph_has_a_line_with_its_licence():
    lines = dict(re.findall(r"^\| (\S+\.jpg) \|(.*)\|$", (STILLS / "README.md").read_text("utf-8"), re.M))
    shipped = {path.name for path in STILLS.glob("*.jpg")}
    assert set(lines) == shipped == {item.file for item in read_items()} - set(SOURCES)
    for line in lines.values():
        _, source, licence, by, _ = (cell.strip() for cell in line.split("|"))
        assert source.startswith(("Debian ", "PyPI ")) and by
        assert re.match(r"public domain|\[CC0-1\.0\]|\[CC-BY-2\.0\]|\[CC-BY-SA-4\.0\]", licence)
    assert sum(path.stat().st_size for path in STILLS.iterdir()) <= 2_500_000


def test_a_split_is_read_alone():
    assert {item.split for item in read_items("headline")} == {"headline"}
    assert stills.parse_arguments(["--split", "selection"]).model == DEFAULT_MODEL


def test_a_fetched_file_that_changed_is_refused(tmp_path):
    (tmp_path / "bus.jpg").write_bytes(b"another")
    with pytest.raises(FetchError, match=r"bus\.jpg must have SHA-256 c020.*the package changed its photograph"):
        check_source(tmp_path / "bus.jpg", SOURCES["bus.jpg"].sha256)


def test_a_fetched_photograph_is_scaled(tmp_path, monkeypatch):
    Image.new("RGB", (1280, 300)).save(tmp_path / "in.png")
    save_scaled(tmp_path / "in.png", tmp_path / "new" / "out.jpg")
    with Image.open(tmp_path / "new" / "out.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (640, 150))
    monkeypatch.setattr(fetch_stills, "_unpack", lambda package, folder: None)
    with pytest.raises(FetchError, match="must hold .* got no such file"):
        fetch_stills.main(tmp_path / "none")
