"""Exact and normalised match of answers."""

import pytest

from elysium.evaluation.answer_benchmark import score_rows
from elysium.evaluation.qa import normalised_answer, qa_figures
from elysium.evaluation.question_benchmarks import QUESTION_BENCHMARKS


@pytest.mark.parametrize(
    ("said", "meant", "same"),
    [
        ("A dog.", "dog", True),
        ("two", "2", True),
        ("Thirty cups", "30 cups", True),
        ("the red-cup", "red cup", True),
        ("it's", "its", True),
        ("1,000", "1000", True),
        ("2.5", "25", False),
        ("dog", "dogs", False),
        ("it is a dog", "dog", False),
        ("", "dog", False),
        ("the", "dog", False),
        ("A", "a", True),  # nothing is left of either: compared as they are
        ("the", "a", False),
        ("caf\u00e9", "caf\u00e9", True),
    ],
)
def test_answers_are_the_same_where_the_rules_say_so(said, meant, same):
    assert qa_figures([said], [meant])["normalised_match"] == 100 * same


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  An   Apple! ", "apple"),
        ("twenty-one", "20 1"),
        ("5:30 p.m.", "5:30 p m"),
        ("yes, it is", "yes it is"),
        ("under_score", "under score"),
    ],
)
def test_normalised_answers_are_as_documented(text, expected):
    assert normalised_answer(text) == expected
    assert normalised_answer(expected) == expected


def test_exact_match_forgives_nothing_but_blanks_at_the_ends():
    figures = qa_figures([" dog ", "Dog", "dog."], ["dog"] * 3)
    assert figures == pytest.approx({"normalised_match": 100, "exact_match": 100 / 3})


def test_each_type_has_its_own_figures():
    answered = [("dog", "dog", "what"), ("x", "cat", "what"), ("2", "two", "how")]
    rows = [{"truth": {"answer": true, "type": kind}, "answer": {"text": text}} for text, true, kind in answered]
    groups = score_rows(QUESTION_BENCHMARKS["msvd-qa"], rows)["groups"]
    assert groups == {
        "type how": {"samples": 1, "normalised_match": 100, "exact_match": 0},
        "type what": {"samples": 2, "normalised_match": 50, "exact_match": 50},
    }
