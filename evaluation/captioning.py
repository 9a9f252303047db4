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

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .word_tokens import caption_tokens
from .wordnet_folder import load_wordnet

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


class CaptionScorer:
    """Scorers of descriptions, built before the model runs, so that a missing package or dictionary shows first.

    Args:
        wordnet_dir: folder of a WordNet dictionary; None takes what nltk's downloader has installed.

    Raises:
        DictionaryError: no WordNet, with the ways to get it.
        ValueError: a package is missing.
    """

    def __init__(self, wordnet_dir: str | Path | None = None) -> None:
        try:
            from pycocoevalcap.bleu.bleu import Bleu
            from pycocoevalcap.cider.cider import Cider
            from pycocoevalcap.rouge.rouge import Rouge
        except ImportError as error:
            raise ValueError(
                f"scores of descriptions need pycocoevalcap, got {error}; pip install 'elysium-vlm[eval]'"
            ) from error
        self._wordnet = load_wordnet(wordnet_dir)
        self._bleu, self._cider, self._rouge = Bleu(4), Cider(), Rouge()

    def score(self, predicted: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return the figures over N objects.

        Args:
            predicted: a description of each; may be empty.
            references: for each one or more sentences written by people.

        Returns:
            `meteor`, `cider`, `bleu_4` and `rouge_l`, times 100; `cider`, which can exceed 100, only where N >= 2,
            since with one object every word is equally common.

        Raises:
            ValueError: no objects, other lengths, or an object whose references hold no word.
        """
        _check(predicted, references)
        candidates = {number: [" ".join(caption_tokens(text))] for number, text in enumerate(predicted)}
        truth = {
            number: [" ".join(words) for sentence in sentences if (words := caption_tokens(sentence))]
            for number, sentences in enumerate(references)
        }
        figures = {"meteor": float(np.mean(self.meteor(predicted, references)))}
        if len(predicted) > 1:
            figures["cider"] = float(self._cider.compute_score(truth, candidates)[0])
        figures["bleu_4"] = float(self._bleu.compute_score(truth, candidates, verbose=0)[0][3])
        figures["rouge_l"] = float(self._rouge.compute_score(truth, candidates)[0])
        return {name: 100 * value for name, value in figures.items()}

    def meteor(self, predicted: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
        """Return METEOR of each object, 0..1."""
        from nltk.translate.meteor_score import meteor_score

        return [
            float(
                meteor_score(
                    [caption_tokens(sentence) for sentence in sentences], caption_tokens(text), wordnet=self._wordnet
                )
            )
            for text, sentences in zip(predicted, references, strict=True)
        ]


def score_captions(
    scorer: CaptionScorer,
    predicted: Sequence[str],
    references: Sequence[Sequence[str]],
    parts: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Return a model's part of a report.

    Args:
        scorer: with its dictionary.
        predicted: a description of each of N objects.
        references: for each the sentences written by people.
        parts: by kind, such as "split", the part that each object belongs to.

    Returns:
        `metrics` times 100, with the share of empty descriptions in percent; `groups`, the same for each part.
    """
    groups: dict[str, dict[str, float]] = {}
    for kind, labels in parts.items():
        for label in sorted(set(labels)):
            rows = [row for row, other in enumerate(labels) if other == label]
            figures = scorer.score([predicted[row] for row in rows], [references[row] for row in rows])
            groups[f"{kind} {label}"] = {"samples": len(rows)} | figures
    empty = 100 * sum(not caption_tokens(text) for text in predicted) / len(predicted)
    return {"metrics": scorer.score(predicted, references) | {"empty": empty}, "groups": groups}


def _check(predicted: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if not predicted or len(predicted) != len(references):
        raise ValueError(
            "there must be a description and references for each of one or more objects, got "
            f"{len(predicted)} and {len(references)}"
        )
    for number, sentences in enumerate(references):
        if not any(map(caption_tokens, sentences)):
            raise ValueError(
                f"an object must have a reference with words, got {list(sentences)} for object {number}; leave it out"
            )
