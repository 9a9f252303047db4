"""Everyday words for the classes of the frozen semantic encoders, and which classes a phrase names.

The table is class_names.tsv, made by build_class_names.py. The order of its rows is the column order of the encoders'
evidence: 1000 ImageNet classes, 80 COCO classes, 23 Open Images classes.
"""

import csv
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TABLE = Path(__file__).with_name("class_names.tsv")
NUM_CLASSES = {"imagenet": 1000, "coco": 80, "open_images": 23}
_SOURCE = """\
# Made by research/semantic/build_class_names.py from class_words.txt (by hand) and WordNet's synsets and hypernyms.
# WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved. Its licence, with the disclaimer of
# warranties: tests/fixtures/nltk_data/corpora/wordnet/LICENSE.
# Classes: ImageNet (ILSVRC 2012), COCO (2014, 80 classes), Open Images (the 23 classes of MediaPipe's detector).
"""


@dataclass(frozen=True)
class ClassName:
    """Words for one class of an encoder.

    Args:
        encoder: `imagenet`, `coco` or `open_images`.
        index: place of the class in its encoder's order.
        synset: WordNet 3.0 key, `n` and eight digits.
        name: what one would say first.
        synonyms: other phrases that name any object of the class.
        hypernyms: wider words, nearest first.
        also: narrower words, usual ones first, that name some objects of the class (`person`: woman).
    """

    encoder: str
    index: int
    synset: str
    name: str
    synonyms: tuple[str, ...] = ()
    hypernyms: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    @property
    def own_words(self) -> frozenset[str]:
        """Return name and synonyms."""
        return frozenset((self.name, *self.synonyms))

    @property
    def all_words(self) -> frozenset[str]:
        """Return every phrase that may name an object of the class."""
        return self.own_words.union(self.hypernyms, self.also)


def write_class_names(entries: Iterable[ClassName], path: Path) -> None:
    """Write a table that `load_class_names` reads: one row per class, phrases separated by `|`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(_SOURCE)
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(field.name for field in fields(ClassName))
        for entry in entries:
            row = asdict(entry).values()
            writer.writerow("|".join(value) if isinstance(value, tuple) else value for value in row)


@cache
def _table() -> tuple[ClassName, ...]:
    lines = [line for line in TABLE.read_text("utf-8").splitlines() if not line.startswith("#")]
    entries = []
    for row in csv.DictReader(lines, delimiter="\t"):
        synonyms, hypernyms, also = (tuple(filter(None, row[k].split("|"))) for k in ("synonyms", "hypernyms", "also"))
        index = int(row["index"])
        entries.append(ClassName(row["encoder"], index, row["synset"], row["name"], synonyms, hypernyms, also))
    return tuple(entries)


def load_class_names() -> list[ClassName]:
    """Return the entries of all 1103 classes in the order of the evidence's columns."""
    return list(_table())


def phrases(entry: ClassName, *, narrower: bool = False) -> dict[str, float]:
    """Return the phrases for a class with the probability to use each; they sum to 1.

    The name has half, all synonyms together a quarter, all hypernyms together a quarter, each half of the one before;
    the share of an empty group goes to the others. With `narrower`, the words of `also` come in: the first 0.35 times
    as often as the name, each further one 0.85 times as often as the one before.

    >>> phrases(ClassName("coco", 0, "n00000000", "cup", ("mug",), ("container",)))
    {'cup': 0.5, 'mug': 0.25, 'container': 0.25}
    """
    weights = {entry.name: 2.0} | {word: 1 / len(entry.synonyms) for word in entry.synonyms}
    halves = [0.5**i for i in range(len(entry.hypernyms))]
    weights |= {word: half / sum(halves) for word, half in zip(entry.hypernyms, halves, strict=True)}
    if narrower:
        weights |= {word: 0.7 * 0.85**i for i, word in enumerate(entry.also)}
    total = sum(weights.values())
    return {word: weight / total for word, weight in weights.items()}


_IRREGULAR = {
    "man": "men", "woman": "women", "child": "children", "person": "people", "mouse": "mice", "goose": "geese",
    "knife": "knives", "wolf": "wolves", "calf": "calves", "ox": "oxen", "sheep": "sheep", "deer": "deer",
}  # fmt: skip


def plural(phrase: str) -> str:
    """Return a phrase for several objects; what ends in s stays.

    >>> [plural(phrase) for phrase in ("coffee cup", "box", "puppy", "scuba diver", "policeman", "jeans")]
    ['coffee cups', 'boxes', 'puppies', 'scuba divers', 'policemen', 'jeans']
    """
    *words, last = phrase.split(" ")
    ending = next((one for one in _IRREGULAR if last.endswith(one) and (last == one or one in ("man", "woman"))), None)
    if ending is not None:
        last = last.removesuffix(ending) + _IRREGULAR[ending]
    elif last.endswith(("x", "ch", "sh")):
        last += "es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        last = last[:-1] + "ies"
    elif not last.endswith("s"):
        last += "s"
    return " ".join([*words, last])


def related(a: ClassName, b: ClassName) -> bool:
    """Return whether a phrase for one class may also name an object of the other.

    True where they share a synset, or where the name or a synonym of one is any phrase of the other.
    """
    return a.synset == b.synset or not (a.own_words.isdisjoint(b.all_words) and b.own_words.isdisjoint(a.all_words))


def normalise_phrase(phrase: str) -> str:
    """Return a phrase in the table's spelling: lower case, single spaces, no article.

    >>> normalise_phrase("The  Golden Retriever")
    'golden retriever'
    """
    return re.sub(r"^(the|a|an) ", "", " ".join(phrase.lower().split()))


@cache
def _columns_by_phrase() -> dict[str, list[int]]:
    columns: dict[str, list[int]] = {}
    for column, entry in enumerate(_table()):
        for word in entry.all_words:
            columns.setdefault(word, []).append(column)
    return columns


def fits(phrase: str) -> NDArray[np.bool_]:
    """Return which classes a phrase names, by name, synonym, hypernym or narrower word: bool array of shape `(1103,)`.

    All are False for a phrase that the table does not have.
    """
    named = np.zeros(len(_table()), dtype=bool)
    named[_columns_by_phrase().get(normalise_phrase(phrase), [])] = True
    return named
