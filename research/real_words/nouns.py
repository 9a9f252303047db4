"""Read the nouns of WordNet: their senses, synonyms and hypernyms."""

import os
from collections.abc import Iterator
from pathlib import Path

FILES = ("data.noun", "index.noun", "noun.exc")
DEBIAN = Path("/usr/share/wordnet")
# The rules of WordNet's own morphology (morphy(7WN)) for nouns.
_ENDINGS = (("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"),
            ("ies", "y"))  # fmt: skip


def find_wordnet(folder: Path | None = None) -> Path:
    """Return a folder with WordNet's nouns: the given one, else Debian's, else that of nltk's downloader.

    Raises:
        ValueError: there is none.
    """
    places = [Path(place) for place in (os.environ.get("NLTK_DATA"), Path.home() / "nltk_data") if place]
    candidates = [folder] if folder else [DEBIAN, *(place / "corpora" / "wordnet" for place in places)]
    for place in candidates:
        if all((place / name).is_file() for name in FILES):
            return place
    raise ValueError(
        f"names need a folder with {', '.join(FILES)}, got none in {', '.join(map(str, candidates))}; "
        "apt-get install wordnet-base, or give --wordnet DIR"
    )


class Nouns:
    """The nouns of a WordNet folder; a sense is the offset of its synset.

    Args:
        folder: holds `data.noun`, `index.noun` and `noun.exc` in the format of wndb(5WN).
    """

    def __init__(self, folder: Path) -> None:
        self._senses: dict[str, list[str]] = {}
        for fields in _lines(folder / "index.noun"):
            self._senses[fields[0]] = fields[-int(fields[2]) :]
        self._exceptions: dict[str, list[str]] = {}
        for fields in _lines(folder / "noun.exc"):
            self._exceptions.setdefault(fields[0], []).extend(fields[1:])
        self._hypernyms: dict[str, list[str]] = {}
        for fields in _lines(folder / "data.noun"):
            pointers = fields[5 + 2 * int(fields[3], 16) :]
            groups = zip(pointers[::4], pointers[1::4], strict=False)
            self._hypernyms[fields[0]] = [offset for symbol, offset in groups if symbol in ("@", "@i")]

    def bases(self, noun: str) -> list[str]:
        """Return the words of WordNet that a noun, singular or plural, may be; its own form first."""
        word = noun.lower().replace(" ", "_")
        forms = [word, *self._exceptions.get(word, ())]
        forms += [word.removesuffix(end) + base for end, base in _ENDINGS if word.endswith(end)]
        return [form for form in dict.fromkeys(forms) if form in self._senses]

    def senses(self, noun: str) -> set[str]:
        """Return every sense of a noun, singular or plural."""
        return {sense for base in self.bases(noun) for sense in self._senses[base]}

    def sense(self, name: str) -> str:
        """Return the sense of a name such as `cat.n.01`.

        Raises:
            ValueError: WordNet has no such sense.
        """
        word, _, number = name.rsplit(".", 2)
        senses = self._senses.get(word, [])
        if not 0 < int(number) <= len(senses):
            raise ValueError(f"a synset must be one of WordNet's, got {name}; {word} has {len(senses)} as a noun")
        return senses[int(number) - 1]

    def above(self, sense: str, steps: int | None = None) -> dict[str, int]:
        """Return the senses above one, and how many steps each is up at least; those `steps` up at most."""
        found: dict[str, int] = {}
        level, step = [sense], 0
        while level and step != steps:
            step += 1
            level = [up for up in {up for low in level for up in self._hypernyms[low]} if up not in found]
            found |= dict.fromkeys(level, step)
        return found


def _lines(path: Path) -> Iterator[list[str]]:
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("  "):
            yield line.split("|")[0].split()
