"""Judge a description of an object by the everyday word for it.

The head noun of the description is compared with the item's word and its WordNet synset (item), in this order:

- exact: the head noun is the word, singular or plural.
- synonym: the item is one of the head noun's senses.
- hypernym: the head noun names a synset 1 to 4 steps above the item that is one of `CATEGORIES` or below one of them:
  "bird" for an owl, but not "object". An item below none of them has no right hypernym.
- hyponym: a sense of the head noun is 1 to 4 steps below the item: "collie" for a dog. Whether the photograph shows a
  collie is not checked.
- other: everything else; siblings such as "wolf" for a dog, too.

The item's sense is fixed, the head noun may take any of its senses. Steps are hypernym links of WordNet 3.0 (instances
count as links), along the shortest path.
"""

import re

from elysium.evaluation.captioning import caption_tokens
from research.real_words.nouns import Nouns

KINDS = ("exact", "synonym", "hypernym", "hyponym", "other")
STEPS = 4
CATEGORIES = (
    "animal.n.01", "person.n.01", "plant.n.02", "vehicle.n.01", "furniture.n.01", "food.n.01", "food.n.02",
    "clothing.n.01", "tool.n.01", "container.n.01", "tableware.n.01", "musical_instrument.n.01", "building.n.01",
)  # fmt: skip
MAX_NOUN_WORDS = 3
# "a pair of scissors", "a picture of a dog": the noun comes after.
_PREFACE = re.compile(r"^(?:an? |the )?(?:pair|piece|kind|type|sort|image|photo|photograph|picture|close-?up) of ")
# Words that end the noun phrase: prepositions, verbs, relatives and conjunctions.
_ENDS = frozenset(
    """of on in at with by near behind beside under over above below next from to into between among against along
    around through inside outside and or but while that which who whose where is are was were has have looks stands
    sits lies""".split()
)


def head_noun(description: str, nouns: Nouns) -> str:
    """Return the head noun of a description, "" where there is none.

    The noun phrase ends before the first preposition, verb, relative or conjunction, or before a word in -ing that
    follows a noun ("dog running"). Its last words, 3 at most, that are a noun of WordNet are the head.
    """
    text = re.split(r"[.;:(]", description.lower())[0].strip()
    while preface := _PREFACE.match(text):
        text = text[preface.end() :]
    phrase: list[str] = []
    for token in caption_tokens(text):
        if token in _ENDS or (token.endswith("ing") and phrase and nouns.bases(phrase[-1])):
            break
        phrase.append(token)
    for length in range(min(MAX_NOUN_WORDS, len(phrase)), 0, -1):
        noun = " ".join(phrase[-length:])
        if nouns.bases(noun):
            return noun
    return ""


def name_kind(description: str, word: str, synset: str, nouns: Nouns) -> str:
    """Return how a description names an item, one of `KINDS`.

    Args:
        word: everyday word of the item.
        synset: its sense in WordNet, such as `cat.n.01`.
    """
    head = head_noun(description, nouns)
    if not head:
        return "other"
    item, senses = nouns.sense(synset), nouns.senses(head)
    if word.replace(" ", "_") in nouns.bases(head):
        return "exact"
    if item in senses:
        return "synonym"
    categories = {nouns.sense(name) for name in CATEGORIES}
    everyday = {
        up for up in nouns.above(item, STEPS) if up in categories or not categories.isdisjoint(nouns.above(up))
    }
    if senses & everyday:
        return "hypernym"
    return "hyponym" if any(item in nouns.above(sense, STEPS) for sense in senses) else "other"
