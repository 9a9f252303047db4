"""Exact and normalised match of answers."""

import pytest

from elysium.evaluation.qa import normalised_answer, score_answers


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
    assert score_answers([said], [meant], ["what"])["metrics"]["normalised_match"] == 100 * same


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
    figures = score_answers([" dog ", "Dog", "dog."], ["dog"] * 3, ["what"] * 3)["metrics"]
    assert figures == pytest.approx({"normalised_match": 100, "exact_match": 100 / 3})


def test_each_type_has_its_own_figures():
    groups = score_answers(["dog", "x", "2"], ["dog", "cat", "two"], ["what", "what", "how"])["groups"]
    assert groups == {
        "type how": {"samples": 1, "normalised_match": 100, "exact_match": 0},
        "type what": {"samples": 2, "normalised_match": 50, "exact_match": 50},
    }


def test_nothing_asked_is_an_error():
    with pytest.raises(ValueError, match="one or more, got 0 and 0"):
        score_answers([], [], [])
