"""METEOR, CIDEr, BLEU-4 and ROUGE-L with figures worked by hand, and the small WordNet of the fixtures."""

import math

import nltk
import pytest
from nltk.corpus.reader.wordnet import WordNetCorpusReader
from nltk.corpus.util import LazyCorpusLoader

from elysium.evaluation.captioning import CaptionScorer, caption_tokens


@pytest.fixture
def scorer(small_wordnet):
    return CaptionScorer()


@pytest.mark.parametrize(
    ("said", "reference", "expected"),
    [
        # P = R = 1, so F = 1; 3 matches in one piece: penalty 0.5 * (1/3)^3
        ("the red car", "the red car", 1 - 0.5 / 27),
        # `auto` is a synonym of `car`, `crimson` of `red`: the same
        ("the crimson auto", "the red car", 1 - 0.5 / 27),
        # `dogs` has the stem of `dog`; 1 match of 1: P = R = 1, one piece of one: penalty 0.5
        ("dogs", "dog", 0.5),
        # 2 of 2 said, 2 of 4 meant: F = 10 P R / (R + 9 P) = 10 * 0.5 / (0.5 + 9) = 10/19; `red` and `car` are two
        # pieces: penalty 0.5 * (2/2)^3
        ("red car", "red and big car", 0.5 * 10 / 19),
        ("cup", "dog", 0),
        ("", "dog", 0),
    ],
)
def test_meteor_is_as_worked_by_hand(scorer, said, reference, expected):
    assert scorer.meteor([said], [[reference]]) == pytest.approx([expected])


def test_meteor_takes_the_best_of_the_references(scorer):
    assert scorer.meteor(["the red car"], [["a cup", "the red auto"]]) == pytest.approx([1 - 0.5 / 27])


def test_bleu_and_rouge_are_as_worked_by_hand(scorer):
    # said 5 words, meant 6: 1-grams 5/5, 2-grams 3/4, 3-grams 1/3, 4-grams 0/2 -> BLEU-4 is next to 0;
    # longest common subsequence 5: P = 1, R = 5/6, F = (1 + 1.44) P R / (R + 1.44 P)
    figures = scorer.score(["the red car the wall"], [["the red car by the wall"]])
    assert figures["rouge_l"] == pytest.approx(100 * 2.44 * (5 / 6) / (5 / 6 + 1.44))
    assert figures["bleu_4"] < 0.1
    # 7 of 8 words in one run: 1-grams 7/7, …, 4-grams 4/4; shorter by one: exp(1 - 8/7)
    figures = scorer.score(["a b c d e f g"], [["a b c d e f g h"]])
    assert figures["bleu_4"] == pytest.approx(100 * math.exp(1 - 8 / 7), abs=1e-4)


def test_cider_is_as_worked_by_hand(scorer):
    # Two objects, one word each, no word in both: idf = ln 2 for each 1-gram, cosine 1 for a right word, and nothing
    # for n = 2..4: 10 * (1 + 0 + 0 + 0) / 4 = 2.5 for the right one, 0 for the wrong one; mean 1.25.
    figures = scorer.score(["car", "dog"], [["car"], ["cup"]])
    assert figures["cider"] == pytest.approx(125)


def test_one_object_has_no_cider(scorer):
    assert "cider" not in scorer.score(["car"], [["car"]])


def test_perfect_descriptions_have_the_highest_figures_and_empty_ones_none(scorer):
    true = ["the red car on the road", "a dog near the cup of tea"]
    figures = scorer.score(true, [[text] for text in true])
    assert (figures["bleu_4"], figures["rouge_l"]) == pytest.approx((100, 100))
    assert figures["cider"] == pytest.approx(1000)
    assert figures["empty"] == 0
    assert scorer.score(["", " . "], [[text] for text in true]) == pytest.approx(
        {"meteor": 0, "cider": 0, "bleu_4": 0, "rouge_l": 0, "empty": 100}, abs=1e-6
    )


def test_an_object_without_words_to_hold_against_is_refused(scorer):
    with pytest.raises(ValueError, match="reference with words, got \\['…'\\] for object 1"):
        scorer.score(["car", "dog"], [["car"], ["…"]])


@pytest.mark.parametrize(
    ("sentence", "tokens"),
    [
        ("The Man's hat.", ["the", "man", "'s", "hat"]),
        ("isn\u2019t it? They're LEFT", ["is", "n't", "it", "they", "'re", "left"]),
        ("red-and-white, 1,500.5 (m)", ["red-and-white", "1,500.5", "m"]),
        ("left/right guy #23", ["left", "right", "guy", "23"]),
        ("  …  ", []),
        ("'quoted' o'clock", ["quoted", "o'clock"]),
    ],
)
def test_sentences_are_cut_into_words_as_documented(sentence, tokens):
    assert caption_tokens(sentence) == tokens


def test_without_wordnet_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    missing = LazyCorpusLoader("wordnet", WordNetCorpusReader, None, nltk_data_subdir="corpora")
    monkeypatch.setattr(nltk.corpus, "wordnet", missing)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(ValueError, match=r"got none .* in nltk's folders; python -m nltk.downloader wordnet"):
        CaptionScorer()
