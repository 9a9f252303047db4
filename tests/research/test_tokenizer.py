"""The tokenizer of elysium-tiny: a box is always the same tokens, and any text comes back as it was."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_tokenizer

from research.scenes.questions import WORLD_WORDS

unhurried = settings(deadline=None, max_examples=100)


def pieces(text: str) -> list[tuple[int, int]]:
    """Start and end character of every token."""
    return tiny_tokenizer()(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]


def encode(text: str) -> list[int]:
    return tiny_tokenizer().encode(text, add_special_tokens=False)


@pytest.mark.parametrize("word", [*range(101), *"[],:", *(" " + word for word in WORLD_WORDS)])
def test_numbers_and_marks_and_the_worlds_words_are_single_tokens(word) -> None:
    assert len(encode(str(word))) == 1


@unhurried
@given(
    before=st.text(max_size=12), after=st.text(max_size=12), box=st.lists(st.integers(0, 100), min_size=4, max_size=4)
)
def test_a_box_is_the_same_nine_tokens_in_any_text(before: str, after: str, box: list[int]) -> None:
    written = "[" + ",".join(map(str, box)) + "]"
    expected = encode(written)
    assert len(expected) == 9
    ids, places = encode(before + written + after), pieces(before + written + after)
    first = places.index((len(before), len(before) + 1))
    assert ids[first : first + 9] == expected
    assert places[first + 8] == (len(before) + len(written) - 1, len(before) + len(written))


@unhurried
@given(before=st.text(max_size=12), after=st.text(max_size=12), mark=st.sampled_from("[],:"))
def test_marks_never_merge_with_neighbours(before: str, after: str, mark: str) -> None:
    assert (len(before), len(before) + 1) in pieces(before + mark + after)


@unhurried
@given(before=st.text(max_size=12), number=st.integers(1, 100), after=st.text(max_size=12))
def test_the_frame_label_never_merges_with_neighbours(before: str, number: int, after: str) -> None:
    label = f", Frame {number}:"
    ids = encode(before + label + after)
    expected = encode(label)
    assert len(expected) == 5  # comma, " Frame", space, number, colon
    assert any(ids[i : i + 5] == expected for i in range(len(ids)))


@unhurried
@given(text=st.text())
def test_any_text_comes_back_as_it_was(text: str) -> None:
    ids = encode(text)
    assert all(isinstance(token, int) for token in ids)
    assert tiny_tokenizer().decode(ids) == text


def test_there_is_no_unknown_token() -> None:
    tokenizer = tiny_tokenizer()
    assert tokenizer.unk_token is None
    assert len(tokenizer) <= 4096
    assert tokenizer.padding_side == "left"
    everything = "".join(chr(i) for i in (*range(1, 0x250), 0x4E2D, 0x1F600, 0x10FFFF))
    assert tokenizer.decode(encode(everything)) == everything
