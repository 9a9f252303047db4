"""Score descriptions against reference sentences: METEOR, CIDEr, BLEU-4 and ROUGE-L, without Java.

- METEOR: nltk's (Lavie and Agarwal 2007; exact, Porter stem and WordNet synonym matches; alpha 0.9, beta 3, gamma
  0.5), the best reference of each object, then the mean over objects. It looks synonyms up by stems, so that a word
  whose stem is no word (`airplan`) has none. The Java METEOR 1.5 of the COCO caption scripts has other weights and a
  table of paraphrases: its figures differ from these.
- CIDEr, BLEU-4, ROUGE-L: `pycocoevalcap`'s own code. Its CIDEr is CIDEr-D; document frequencies are those of the
  scored references, so that its figure depends on the choice of objects.

Words are cut by [`caption_tokens`], which differs from the Java PTB tokenizer in rare cases: figures differ from those
of the COCO scripts by a little.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from elysium.processing.extras import install_command

PROTOCOL: dict[str, Any] = {
    "name": "referring expression generation: METEOR, CIDEr, BLEU-4, ROUGE-L",
    "source": "refer's and COCO's caption scripts, without their Java programs",
    "rules": [
        "one description for each object, compared with all sentences about it",
        "words: lower case, punctuation left out, contractions split; close to the PTB tokenizer, not the same",
        "METEOR as nltk computes it (not Java METEOR 1.5): best reference of an object, mean over objects",
        "CIDEr is CIDEr-D of pycocoevalcap, times 100; it needs two objects or more",
        "an empty description scores 0 and stays in the mean",
    ],
}
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


class CaptionScorer:
    """Scorers of descriptions, built before the model runs, so that a missing package or dictionary shows first.

    Raises:
        ValueError: a package or nltk's WordNet is missing; the message says how to get it.
    """

    def __init__(self) -> None:
        try:
            from nltk.corpus import wordnet
            from pycocoevalcap.bleu.bleu import Bleu
            from pycocoevalcap.cider.cider import Cider
            from pycocoevalcap.rouge.rouge import Rouge
        except ImportError as error:
            raise ValueError(
                f"scores of descriptions need nltk and pycocoevalcap, got {error}; {install_command('eval')}"
            ) from error
        try:
            wordnet.ensure_loaded()
        except (LookupError, OSError) as error:
            raise ValueError(
                "METEOR needs WordNet for synonyms, got none that is whole in nltk's folders; "
                "python -m nltk.downloader wordnet"
            ) from error
        self._bleu, self._cider, self._rouge = Bleu(4), Cider(), Rouge()

    def score(self, predicted: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return the figures over N objects.

        Args:
            predicted: a description of each; may be empty.
            references: for each one or more sentences written by people.

        Returns:
            `meteor`, `cider`, `bleu_4` and `rouge_l`, times 100, and the share of empty descriptions, `empty`, in
            percent; `cider`, which can exceed 100, only where N >= 2, since with one object every word is equally
            common.

        Raises:
            ValueError: an object whose references hold no word.
        """
        candidates = {number: [" ".join(caption_tokens(text))] for number, text in enumerate(predicted)}
        truth = {
            number: [" ".join(words) for sentence in sentences if (words := caption_tokens(sentence))]
            for number, sentences in enumerate(references)
        }
        if without := [number for number, sentences in truth.items() if not sentences]:
            raise ValueError(
                f"an object must have a reference with words, got {list(references[without[0]])} for object "
                f"{without[0]}; leave it out"
            )
        figures = {"meteor": float(np.mean(self.meteor(predicted, references)))}
        if len(predicted) > 1:
            figures["cider"] = float(self._cider.compute_score(truth, candidates)[0])
        figures["bleu_4"] = float(self._bleu.compute_score(truth, candidates, verbose=0)[0][3])
        figures["rouge_l"] = float(self._rouge.compute_score(truth, candidates)[0])
        figures["empty"] = sum(candidate == [""] for candidate in candidates.values()) / len(candidates)
        return {name: 100 * value for name, value in figures.items()}

    def meteor(self, predicted: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
        """Return METEOR of each object, 0..1."""
        from nltk.translate.meteor_score import meteor_score

        return [
            float(meteor_score([caption_tokens(sentence) for sentence in sentences], caption_tokens(text)))
            for text, sentences in zip(predicted, references, strict=True)
        ]
