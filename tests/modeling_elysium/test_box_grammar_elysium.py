"""Whatever is written under the grammar is an answer, for every way in which a tokenizer writes numbers."""

import random
import re

import numpy as np
import pytest
import torch
from number_tokenizers import WAYS, number_model, number_processor
from tiny_prompts import ask, pictures
from transformers import LogitsProcessorList

from elysium.modeling_elysium.box_grammar_elysium import BoxAnswerGrammar, BoxGrammarLogitsProcessor
from elysium.processing.boxes_elysium import parse_frames

FORMS = [(way, rounding, absent) for way in WAYS for rounding in ("floor", "round") for absent in (True, False)]


def grammar_of(way, rounding="floor", absent=True, *, num_frames=3):
    return BoxAnswerGrammar(number_processor(way, rounding, absent).answer_template(num_frames))


def write_at_random(grammar, rng, first_box=None):
    """A finished answer, each token chosen at random from those that are allowed."""
    state, tokens = grammar.start(first_box), []
    while not state.done:
        tokens.append(rng.choice(state.allowed()))
        state.push(tokens[-1])
    return state, tokens


def text_of(way, tokens):
    return number_processor(way).tokenizer.decode(tokens, skip_special_tokens=True)


@pytest.mark.parametrize(("way", "rounding", "absent"), FORMS)
def test_every_answer_that_can_be_written_reads_as_a_box_or_as_absent_in_every_frame(way, rounding, absent):
    rng = random.Random(0)
    kinds = set()
    for num_frames in (1, 2, 11):
        grammar = grammar_of(way, rounding, absent, num_frames=num_frames)
        for _ in range(30):
            state, tokens = write_at_random(grammar, rng)
            readings = parse_frames(text_of(way, tokens), num_frames, rounding=rounding)
            assert [reading.status for reading in readings] == ["ok" if box else "absent" for box in state.boxes]
            assert [reading.box_xyxy_bin for reading in readings] == state.boxes
            assert len(tokens) <= grammar.longest
            kinds |= {reading.status for reading in readings}
    assert kinds == ({"ok", "absent"} if absent else {"ok"})


@pytest.mark.parametrize(("way", "rounding", "absent"), FORMS)
def test_an_answer_has_the_tokens_that_its_text_has(way, rounding, absent):
    processor, rng = number_processor(way, rounding, absent), random.Random(1)
    for _ in range(10):
        _, tokens = write_at_random(grammar_of(way, rounding, absent), rng)
        turn = {"role": "assistant", "content": [{"type": "text", "text": text_of(way, tokens).strip()}]}
        text = processor.apply_chat_template([{"role": "user", "content": "?"}, turn], tokenize=False)
        ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ids[-len(tokens) :] == tokens


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("rounding", "greatest"), [("floor", 99), ("round", 100)])
def test_numbers_reach_from_0_to_the_greatest_that_the_rounding_writes(way, rounding, greatest):
    corner = (0, 0, greatest, greatest)
    state = grammar_of(way, rounding, num_frames=1).start()
    while not state.done:
        state.push(state.token_towards(corner))
    assert state.boxes == [corner]


@pytest.mark.parametrize("way", WAYS)
def test_a_given_first_box_is_written_as_it_is(way):
    state, tokens = write_at_random(grammar_of(way), random.Random(2), (7, 0, 7, 99))
    assert state.boxes[0] == (7, 0, 7, 99)
    assert "Frame 1: [7,0,7,99]" in text_of(way, tokens)


def test_a_given_box_beyond_the_numbers_is_refused():
    with pytest.raises(ValueError, match=r"first_box must be 4 integers in 0..99, got \(1, 2, 3, 100\)"):
        grammar_of("numbers").start((1, 2, 3, 100))


def test_four_zeros_which_read_as_absent_cannot_be_written():
    state = grammar_of("numbers").start()
    while len(state.values) < 3:
        state.push(state.token_towards((0, 0, 0, 0)))
    while not state.in_number:
        state.push(state.allowed()[0])
    assert (state.values, state.bounds()) == ([0, 0, 0], (1, 99))


def test_a_token_that_is_not_allowed_is_refused():
    state = grammar_of("digits").start()
    with pytest.raises(ValueError, match="allowed by the grammar, got 0 at Frame 1"):
        state.push(0)


@pytest.mark.parametrize("way", WAYS)
def test_only_tokens_that_something_hangs_on_are_decided(way):
    grammar, rng = grammar_of(way), random.Random(3)
    for _ in range(10):
        state = grammar.start()
        while not state.done:
            allowed = state.allowed()
            if len(allowed) > 1:
                row = grammar.row(state)
                assert {grammar.token_ids[i].item() for i in torch.isfinite(row).nonzero()[:, 0]} == set(allowed)
            state.push(rng.choice(allowed))


def test_a_tokenizer_that_glues_numbers_to_brackets_is_refused_with_the_reason():
    with pytest.raises(ValueError, match="must write numbers and what stands between them apart"):
        number_processor("glued").answer_template(3)


def test_a_window_without_frames_is_refused():
    with pytest.raises(ValueError, match="num_frames must be 1 or more, got 0"):
        number_processor("digits").answer_template(0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sampled", [False, True])
def test_generate_under_the_grammar_answers_validly_with_random_weights(way, sampled):
    processor, model = number_processor(way), number_model(way)
    conversations = [processor.build_messages("rsot", video=pictures(n, n), text="the car") for n in (3, 1)]
    inputs = ask(processor, *conversations)
    states = [grammar_of(way, num_frames=n).start() for n in (3, 1)]
    torch.manual_seed(0)
    output = model.generate(
        **inputs,
        do_sample=sampled,
        max_new_tokens=states[0].grammar.longest,
        logits_processor=LogitsProcessorList([BoxGrammarLogitsProcessor(states)]),
    )
    for row, num_frames in zip(output[:, inputs["input_ids"].shape[1] :], (3, 1), strict=True):
        text = processor.tokenizer.decode(row, skip_special_tokens=True)
        assert all(reading.readable for reading in parse_frames(text, num_frames))
        assert len(re.findall("Frame", text)) == num_frames


def test_a_state_is_needed_for_every_row():
    processor = BoxGrammarLogitsProcessor([grammar_of("numbers").start()])
    with pytest.raises(ValueError, match="a state for each row, got 1 for 2 rows"):
        processor(torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 5000))


def test_the_choice_is_the_best_allowed_token_and_its_share_of_them():
    grammar = grammar_of("digits")
    logits = torch.full((1, len(grammar.token_ids)), -np.inf)
    logits[0, [2, 5]] = torch.tensor([0.25, 0.75]).log()
    columns, log_probs = grammar.choose(logits)
    assert columns.tolist() == [5]
    assert log_probs.exp().item() == pytest.approx(0.75)
