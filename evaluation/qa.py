"""Compare answers to open questions with the ground truth: exact match, and match after normalisation.

A model that answers in whole sentences matches in neither way; use the judge (`judge`) for such a model.
"""

import re
from collections.abc import Sequence
from typing import Any

PROTOCOL: dict[str, Any] = {
    "name": "open-ended video question answering",
    "source": "Xu et al. 2017 (exact match); normalisation after VQA (Antol et al. 2015)",
    "rules": [
        "exact: the same text but for blanks at the ends",
        "normalised: lower case; a, an, the and punctuation left out; zero to twenty and the tens in digits",
        "every question counts, grouped by its type in the dataset",
    ],
}

_SMALL_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
_TENS = "thirty forty fifty sixty seventy eighty ninety".split()
_DIGITS = {word: str(number) for number, word in enumerate(_SMALL_NUMBERS)}
_DIGITS |= {word: str(number) for number, word in zip(range(30, 100, 10), _TENS, strict=True)}
_ARTICLES = frozenset({"a", "an", "the"})
_APOSTROPHE = re.compile(r"['\u2018\u2019]")
_BETWEEN_DIGITS = re.compile(r"(?<=\d)[.,:](?=\d)")
_PUNCTUATION = re.compile(r"[^\w\s.,:]|_|(?<!\d)[.,:]|[.,:](?!\d)")


def normalised_answer(text: str) -> str:
    """Normalise an answer, so that two right answers are equal.

    In this order: lower case; apostrophes dropped; all other punctuation becomes a blank, but for a point, comma or
    colon between two digits, of which the comma is dropped; zero to twenty and the tens to ninety become digits; a, an
    and the are left out; one blank between words.

    >>> normalised_answer(" The Red-cup. "), normalised_answer("Three dogs"), normalised_answer("1,500.5")
    ('red cup', '3 dogs', '1500.5')
    """
    plain = _APOSTROPHE.sub("", text.lower())
    plain = _PUNCTUATION.sub(" ", plain)
    plain = _BETWEEN_DIGITS.sub(lambda match: "" if match.group() == "," else match.group(), plain)
    words = [_DIGITS.get(word, word) for word in plain.split()]
    return " ".join(word for word in words if word not in _ARTICLES)


def qa_figures(predicted: Sequence[str], true: Sequence[str]) -> dict[str, float]:
    """Return the shares of right answers in percent.

    Args:
        predicted: the model's answers to N questions.
        true: the ground truth of each.
    """
    pairs = list(zip(predicted, true, strict=True))
    return {
        "normalised_match": 100 * sum(_same_normalised(answer, truth) for answer, truth in pairs) / len(pairs),
        "exact_match": 100 * sum(answer.strip() == truth.strip() for answer, truth in pairs) / len(pairs),
    }


def _same_normalised(answer: str, truth: str) -> bool:
    """Return whether two answers are equal once normalised; an answer that becomes empty is compared as it is."""
    left, right = normalised_answer(answer), normalised_answer(truth)
    return left == right if right else answer.strip().lower() == truth.strip().lower()
