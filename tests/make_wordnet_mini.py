"""Cuts the tests' small WordNet out of a whole one, in the same file format (wndb(5WN)).

    python tests/make_wordnet_mini.py /usr/share/wordnet tests/fixtures/nltk_data/corpora/wordnet

Every synset of every word in `WORDS` is kept with its words and gloss, so that these words have the same synonyms as
in the whole dictionary. Pointers are dropped but for the one from an adjective satellite to its head, which nltk
follows.
"""

import re
import sys
from pathlib import Path

WORDS = "auto automobile bicycle bike car couch crimson cup dog jog plane airplane red sofa trot woman".split()
PARTS = ("noun", "verb", "adj", "adv")
_LETTERS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
_HEADER = re.compile(r"^  ")


def lines_by_offset(path: Path) -> tuple[str, dict[int, str]]:
    """The licence at the top of a data file, and its synsets."""
    text = path.read_text("utf-8")
    header = "".join(line + "\n" for line in text.splitlines() if _HEADER.match(line))
    return header, {int(line[:8]): line for line in text.splitlines() if not _HEADER.match(line)}


def offsets_of(path: Path, words) -> list[int]:
    """The synsets of words, from an index file."""
    found: list[int] = []
    for line in path.read_text("utf-8").splitlines():
        fields = line.split()
        if not _HEADER.match(line) and fields[0] in words:
            found += map(int, fields[-int(fields[2]) :])
    return list(dict.fromkeys(found))


def head_of(line: str) -> int | None:
    """The head of an adjective satellite: where its first `&` points."""
    fields = line.split("|")[0].split()
    return int(fields[fields.index("&") + 1]) if fields[2] == "s" else None


def trimmed(line: str, offsets: dict[int, int]) -> str:
    """A synset with new offsets (0 where they are not known yet) and without pointers but that to a head."""
    columns, gloss = line.split("|", 1)
    fields = columns.split()
    after_words = 4 + 2 * int(fields[3], 16)
    num_pointers = int(fields[after_words])
    frames = fields[after_words + 1 + 4 * num_pointers :]
    head = head_of(line)
    pointers = ["000"] if head is None else ["001", "&", f"{offsets.get(head, 0):08d}", "a", "0000"]
    kept = [f"{offsets.get(int(fields[0]), 0):08d}", *fields[1:after_words], *pointers, *frames]
    return " ".join(kept) + " |" + gloss + "\n"


def write_part(source: Path, out: Path, part: str) -> None:
    """The index, data and exceptions of one part of speech."""
    header, synsets = lines_by_offset(source / f"data.{part}")
    kept = set(offsets_of(source / f"index.{part}", WORDS))
    kept |= {head for offset in kept if (head := head_of(synsets[offset])) is not None}
    chosen = [synsets[offset] for offset in sorted(kept)]
    offsets, position = {}, len(header.encode())
    for line in chosen:
        offsets[int(line[:8])] = position
        position += len(trimmed(line, {}).encode())
    (out / f"data.{part}").write_text(header + "".join(trimmed(line, offsets) for line in chosen), "utf-8")

    senses: dict[str, list[int]] = {}
    words_of = {}
    for line in chosen:
        fields = line.split("|")[0].split()
        words_of[int(line[:8])] = {w.split("(")[0].lower() for w in fields[4 : 4 + 2 * int(fields[3], 16) : 2]}
    for word in sorted({word for words in words_of.values() for word in words}):
        order = offsets_of(source / f"index.{part}", [word])  # most frequent sense first
        senses[word] = [offsets[old] for old in order if old in offsets]
    rows = [
        f"{word} {_LETTERS[part]} {len(found)} 0 {len(found)} 0 {' '.join(f'{offset:08d}' for offset in found)}  \n"
        for word, found in senses.items()
    ]
    (out / f"index.{part}").write_text(header + "".join(rows), "utf-8")
    exceptions = (source / f"{part}.exc").read_text("utf-8").splitlines()
    bases = [line + "\n" for line in exceptions if set(line.split()[1:]) & set(WORDS)]
    (out / f"{part}.exc").write_text("".join(bases), "utf-8")


def main(source: Path, out: Path) -> None:
    """Writes everything; `LICENSE` is the licence that stands at the top of WordNet's files."""
    out.mkdir(parents=True, exist_ok=True)
    # METEOR uses nothing of these two, but nltk opens them.
    (out / "lexnames").write_text("".join(f"{number:02d}\t-\t0\n" for number in range(45)), "utf-8")
    (out / "index.sense").write_text("", "utf-8")
    for part in PARTS:
        write_part(source, out, part)
    header, _ = lines_by_offset(source / "data.noun")
    licence = "\n".join(re.sub(r"^ +\d+ ?", "", line).rstrip() for line in header.splitlines())
    (out / "LICENSE").write_text(licence.strip() + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
