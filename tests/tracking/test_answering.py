"""From generated tokens to text and scores."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from tiny import tiny_model as build_model
from tiny import tiny_processor as build_processor

from elysium.processing.boxes_elysium import parse_box, parse_frames
from elysium.tracking.answering import (
    NEARBY,
    Answer,
    Answerer,
    build_answer,
    integer_ids,
    nearby_log_probs,
)

tiny_model, tiny_processor = cache(build_model), cache(build_processor)


def tokens(text):
    return tiny_processor().tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("text", [" Frame 1: [2,30,45,99], Frame 2: none.", "a naïve café 中 [1,2,3,4]", ""])
def test_token_spans_cut_the_text_without_gaps(text):
    ids = tokens(text)
    answer = build_answer(tiny_processor().tokenizer, ids, np.zeros(len(ids)))
    assert answer.text == text
    assert "".join(text[start:stop] for start, stop in answer.token_spans) == text
    assert len(answer.token_spans) == len(ids)


def test_what_follows_the_end_of_text_is_cut():
    tokenizer = tiny_processor().tokenizer
    ids = [*tokens("[1,2,3,4]"), tokenizer.eos_token_id, tokenizer.pad_token_id, *tokens("more")]
    answer = build_answer(tokenizer, ids, np.zeros(len(ids)))
    assert answer.text == "[1,2,3,4]"
    assert len(answer.token_log_probs) == len(tokens("[1,2,3,4]"))


def test_the_score_is_the_geometric_mean_over_tokens_with_digits():
    answer = Answer(
        "[5,6,7,8]", tuple((i, i + 1) for i in range(9)), np.log([0.1, 0.9, 0.1, 0.8, 0.1, 0.7, 0.1, 0.6, 0.1])
    )
    assert answer.score((0, 9)) == pytest.approx((0.9 * 0.8 * 0.7 * 0.6) ** 0.25)


def test_each_frame_has_the_score_of_its_own_tokens():
    text = " Frame 1: [10,20,30,40], Frame 2: none, Frame 3: [50,60,70,80]."
    ids = tokens(text)
    tokenizer = tiny_processor().tokenizer
    starts = np.cumsum([0, *(len(tokenizer.decode([token])) for token in ids)])[:-1]
    log_probs = np.where(starts < text.index("Frame 3"), math.log(0.5), math.log(0.25))
    answer = build_answer(tokenizer, ids, log_probs)
    scores = [answer.score(reading.span) for reading in parse_frames(text, 4)]
    assert scores[0] == pytest.approx(0.5)
    assert scores[2] == pytest.approx(0.25)
    assert math.isnan(scores[1]) and math.isnan(scores[3])


def test_a_score_never_exceeds_one():
    answer = Answer("7", ((0, 1),), np.array([1e-9]))
    assert answer.score((0, 1)) == 1.0


def test_log_probabilities_are_those_of_a_forward_pass_over_the_answer():
    processor, model = tiny_processor(), tiny_model()
    picture = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    conversation = processor.build_messages("rec", image=picture, text="the red car")
    (answer,) = Answerer(model, processor).answer([conversation], max_new_tokens=6)
    inputs = processor.apply_chat_template(
        [conversation], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    length = inputs["input_ids"].shape[1]
    output = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    inputs["input_ids"], inputs["attention_mask"] = output, output.new_ones(output.shape)
    log_probs = model(**inputs).logits[0, length - 1 : -1].log_softmax(-1)
    integers = integer_ids(processor.tokenizer).tolist()
    expected = []
    for values, token in zip(log_probs.detach(), output[0, length:].tolist(), strict=True):
        near = [token]
        if token in integers:
            number = integers.index(token)
            near = integers[max(0, number - NEARBY) : number + NEARBY + 1]
        expected.append(math.log(sum(math.exp(values[other]) for other in near)))
    np.testing.assert_allclose(answer.token_log_probs, expected[: len(answer.token_log_probs)], atol=1e-4)


@pytest.mark.parametrize("num_frames", [1, 8, 32])
def test_the_budget_of_tokens_holds_the_longest_answer(num_frames):
    answerer = Answerer(tiny_model(), tiny_processor())
    longest = ", ".join(f"Frame {i + 1}: [88,88,99,99]" for i in range(num_frames)) + "."
    assert len(tokens(longest)) + 1 <= answerer.tracking_budget(num_frames)


def test_an_integer_counts_with_those_next_to_it_where_integers_are_tokens():
    integers = torch.arange(10, 111)  # 0..100
    probabilities = torch.full((4, 120), 0.001)
    probabilities[:, 10 + 50] = 0.3
    probabilities[:, 10 + 52] = 0.2
    probabilities[:, 10 + 53] = 0.1
    probabilities[:, 10] = 0.05
    chosen = torch.tensor([10 + 50, 10 + 53, 10, 3])  # the numbers 50, 53 and 0, and a word
    total = probabilities[0].sum().item()
    found = nearby_log_probs(probabilities.log(), chosen, integers).exp() * total
    wanted = [0.3 + 0.2 + 3 * 0.001, 0.2 + 0.1 + 3 * 0.001, 0.05 + 2 * 0.001, 0.001]
    torch.testing.assert_close(found, torch.tensor(wanted))
    alone = nearby_log_probs(probabilities.log(), chosen, None).exp() * total
    torch.testing.assert_close(alone, torch.tensor([0.3, 0.1, 0.05, 0.001]))


def test_digits_that_are_tokens_of_their_own_are_no_integers():
    class Digits:
        def encode(self, text: str, add_special_tokens: bool) -> list[int]:
            return [int(digit) for digit in text]

    assert integer_ids(Digits()) is None
    assert len(integer_ids(tiny_processor().tokenizer)) == 101


def test_a_grounding_answer_gives_a_box_with_its_score():
    ids = tokens("[10,20,30,40]")
    answer = build_answer(tiny_processor().tokenizer, ids, np.full(len(ids), math.log(0.5)))
    reading, score = Answerer(tiny_model(), tiny_processor()).read_box(answer)
    assert reading == parse_box("[10,20,30,40]")
    assert score == pytest.approx(0.5)


def test_a_batch_of_no_conversations_is_refused():
    with pytest.raises(ValueError, match="batch_size must be 1 or more, got 0"):
        Answerer(tiny_model(), tiny_processor(), batch_size=0)
