"""Load WordNet for METEOR's synonyms, from a folder or from nltk's data; nothing is ever downloaded here.

nltk alone reads what its own downloader fetched. A folder is read here because package managers install WordNet
without the file `lexnames` (Debian's `wordnet-base`), which nltk's reader opens though METEOR uses nothing of it.
"""

import io
import warnings
from pathlib import Path
from typing import Any

# Files of WordNet's database that nltk's reader opens, besides `lexnames`.
_FILES = tuple(f"{kind}.{part}" for kind in ("index", "data") for part in ("noun", "verb", "adj", "adv")) + tuple(
    f"{part}.exc" for part in ("noun", "verb", "adj", "adv")
)
_NUM_LEXNAMES = 45  # lexicographer files of WordNet 3.0, lexnames(5WN)
_REMEDY = (
    "give the folder of a WordNet 3 dictionary (Debian: apt install wordnet-base, then /usr/share/wordnet), or run "
    "python -m nltk.downloader wordnet"
)


class DictionaryError(ValueError):
    """Raised where no WordNet can be read; the message says what to do."""


def load_wordnet(folder: str | Path | None = None) -> Any:
    """Return a WordNet that nltk's METEOR takes its synonyms from.

    Args:
        folder: with the files of WordNet's database (`index.noun`, `data.noun`, …, `noun.exc`, …), such as Debian's
            package `wordnet-base` installs; it need not hold `lexnames` nor `index.sense`. None takes what
            nltk's downloader has installed.

    Returns:
        nltk's `WordNetCorpusReader`.

    Raises:
        DictionaryError: nltk or the dictionary is missing, or the folder is no such dictionary.
    """
    try:
        import nltk  # noqa: F401
    except ImportError as error:
        raise DictionaryError("METEOR needs nltk, got no such package; pip install 'elysium-vlm[eval]'") from error
    if folder is None:
        return _installed()
    place = Path(folder).resolve()
    missing = [name for name in _FILES if not (place / name).is_file()]
    if missing:
        raise DictionaryError(
            f"WordNet must be a folder with {_FILES[0]} and the like, got {folder} without {missing[0]}; {_REMEDY}"
        )
    from nltk.corpus.reader.wordnet import WordNetError

    try:
        return _folder_reader(place)
    except (OSError, ValueError, AssertionError, LookupError, StopIteration, WordNetError) as error:
        raise DictionaryError(f"WordNet must be whole, got {folder} ({error}); {_REMEDY}") from error


def _installed() -> Any:
    """Return the WordNet of nltk's downloader."""
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()
    except LookupError as error:
        raise DictionaryError(f"METEOR needs WordNet for synonyms, got none in nltk's folders; {_REMEDY}") from error
    return wordnet


def _folder_reader(place: Path) -> Any:
    """Return nltk's reader of a folder that nltk's search path does not hold."""
    import nltk
    from nltk.corpus.reader.wordnet import WordNetCorpusReader
    from nltk.data import SeekableUnicodeStreamReader

    class FolderWordNet(WordNetCorpusReader):
        """Reads its own folder alone; `lexnames` may be missing, and other languages' WordNets are not mapped."""

        def open(self, file: str) -> Any:
            if file == "lexnames" and not (place / file).is_file():
                return io.StringIO("".join(f"{number:02d}\t-\t0\n" for number in range(_NUM_LEXNAMES)))
            return SeekableUnicodeStreamReader((place / file).open("rb"), "utf8")

        def map_wn(self, version: str = "wordnet") -> None:
            return None

    nltk.data.path.append(str(place))  # a reader can be made below these folders alone
    try:
        with warnings.catch_warnings(action="ignore"):  # about the missing other languages
            return FolderWordNet(str(place), None)
    finally:
        nltk.data.path.remove(str(place))
