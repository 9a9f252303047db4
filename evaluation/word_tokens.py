"""Split sentences into words for scoring captions: close to the Penn Treebank tokenizer, without Java."""

import re

# Numbers with their points and commas, and words with the hyphens and apostrophes inside them.
_TOKEN = re.compile(r"\d+(?:[.,:]\d+)+|[^\W_]+(?:[-'][^\W_]+)*")
_CONTRACTION = re.compile(r"(?<=[^\W\d_])(n't|'(?:s|m|d|re|ve|ll))$")
_APOSTROPHES = str.maketrans({"\u2018": "'", "\u2019": "'", "`": "'", "\u2010": "-", "\u2011": "-"})


def caption_tokens(sentence: str) -> list[str]:
    """Return the words of a sentence in lower case, without punctuation.

    Runs of letters and digits are words, with the hyphens and apostrophes inside them; numbers keep their points and
    commas; contractions are two words (`man's` is `man` and `'s`, `isn't` is `is` and `n't`). The PTB tokenizer of the
    COCO caption scripts differs in rare cases: it keeps abbreviations with their points (`u.s.`), symbols such as `&`
    and `%`, and words joined by a slash.

    >>> caption_tokens("The man's T-shirt isn't red, it's 2.5 m (long).")
    ['the', 'man', "'s", 't-shirt', 'is', "n't", 'red', 'it', "'s", '2.5', 'm', 'long']
    """
    tokens: list[str] = []
    for word in _TOKEN.findall(sentence.lower().translate(_APOSTROPHES)):
        split = _CONTRACTION.search(word)
        tokens += [word] if split is None else [word[: split.start()], split.group()]
    return tokens
