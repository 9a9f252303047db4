"""Fixtures of the tests of evaluation."""

from pathlib import Path

import nltk.data
import pytest


@pytest.fixture
def small_wordnet(monkeypatch) -> None:
    """Let nltk find a WordNet of a few words."""
    monkeypatch.setattr(nltk.data, "path", [str(Path(__file__).parent.parent / "fixtures" / "nltk_data")])
