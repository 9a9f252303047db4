"""Fast decoding writes the tokens of the reference, whatever is drafted, packed or batched."""

import random

import numpy as np
import pytest
import torch
from number_tokenizers import WAYS, number_config, number_model, number_processor
from tiny_prompts import ask, pictures
from torch import nn
from transformers import LogitsProcessorList

from benchmarks.decoding_models import ReplayGrammar
from elysium.modeling_elysium import ElysiumForConditionalGeneration
from elysium.modeling_elysium.box_drafting_elysium import AnswerWriter, ShiftRate
from elysium.modeling_elysium.box_grammar_elysium import BoxAnswerGrammar, BoxGrammarLogitsProcessor
from elysium.modeling_elysium.generation_elysium import BoxDecoder, BoxQuestion, generate_boxes, why_not_decodable

FIRST = (20, 30, 50, 60)


def grammar_of(way, num_frames, *, absent=False, log_odds=0.0):
    template = number_processor(way, "floor", absent).answer_template(num_frames)
    return BoxAnswerGrammar(template | {"absent_log_odds": log_odds})


def conversation(way, num_frames, seed, text="the car"):
    return number_processor(way).build_messages("rsot", video=pictures(num_frames, seed), text=text)


def reference(model, inputs, states):
    """Answers of `generate` under the grammar: for each its tokens up to the end, and log probabilities of them."""
    output = model.generate(
        **inputs,
        do_sample=False,
        max_new_tokens=max(state.grammar.longest for state in states),
        logits_processor=LogitsProcessorList([BoxGrammarLogitsProcessor(states)]),
    )
    return [row.tolist() for row in output[:, inputs["input_ids"].shape[1] :]]


def without_padding(rows, end=2):
    return [row[: row.index(end) + 1] for row in rows]


class Bench:
    """A model, and questions about windows: the pictures of each, read once."""

    def __init__(self, way, seed=0, **options):
        self.way, self.model = way, number_model(way, seed)
        self.decoder = BoxDecoder(self.model, **options)

    def question(self, num_frames, picture_seed, text, state, prefixes=None):
        inputs = ask(number_processor(self.way), conversation(self.way, num_frames, picture_seed, text))
        ids = inputs["input_ids"][0].tolist()
        cut = len(ids) - ids[::-1].index(self.model.config.video_token_id)
        key = (num_frames, picture_seed)
        if prefixes is None or key not in prefixes:
            tokens = self.model.get_video_features(inputs["pixel_values_videos"]).pooler_output.flatten(0, 1)
            (prefix,) = self.decoder.read([self.decoder.embed(ids[:cut], tokens)])
            prefixes = {} if prefixes is None else prefixes
            prefixes[key] = prefix
        return BoxQuestion(prefixes[key], ids[cut:], state, state.first_box)

    def expected(self, num_frames, picture_seed, text, state):
        inputs = ask(number_processor(self.way), conversation(self.way, num_frames, picture_seed, text))
        return without_padding(reference(self.model, inputs, [state]))[0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("absent", [False, True])
def test_the_hook_of_generate_gives_the_tokens_of_the_reference(way, absent):
    model = number_model(way)
    sizes = (8, 8, 3, 1)
    inputs = ask(number_processor(way), *(conversation(way, n, seed) for seed, n in enumerate(sizes)))
    grammars = {n: grammar_of(way, n, absent=absent) for n in sizes}
    states = [grammars[n].start(FIRST if seed % 2 else None) for seed, n in enumerate(sizes)]
    wanted = without_padding(reference(model, inputs, states))
    output = model.generate(**inputs, custom_generate=generate_boxes, states=states, max_new_tokens=1)
    assert without_padding(output[:, inputs["input_ids"].shape[1] :].tolist()) == wanted
    assert len({tuple(row) for row in wanted}) == len(wanted)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{}, {"free_tokens": 0}, {"free_tokens": 10**6}])
def test_objects_packed_behind_one_prefix_get_the_answers_of_one_by_one(way, options):
    bench, prefixes = Bench(way, seed=1, **options), {}
    grammar = grammar_of(way, 5, absent=True)
    asked = [(5, 0, f"the {name}", grammar.start(FIRST if name in "bd" else None)) for name in "abcd"]
    questions = [bench.question(*each, prefixes) for each in asked]
    assert len({id(question.prefix) for question in questions}) == 1
    answers = bench.decoder.write(questions)
    assert [answer.token_ids for answer in answers] == [bench.expected(*each) for each in asked]


@pytest.mark.parametrize("way", WAYS)
def test_windows_of_several_lengths_and_objects_are_written_together(way):
    bench, prefixes = Bench(way, seed=2), {}
    windows = [(2, 1), (6, 2), (6, 2), (1, 3), (6, 4)]
    grammars = {n: grammar_of(way, n, absent=True) for n in (1, 2, 6)}
    asked = [(n, seed, f"the {k}", grammars[n].start()) for k, (n, seed) in enumerate(windows)]
    answers = bench.decoder.write([bench.question(*each, prefixes) for each in asked])
    assert [answer.token_ids for answer in answers] == [bench.expected(*each) for each in asked]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("drafter", ["random", "absent", "far"])
def test_bad_drafts_change_the_count_of_passes_and_never_a_token(way, drafter, monkeypatch):
    rng = random.Random(0)
    targets = {
        "random": lambda *_: rng.choice([None, tuple(rng.uniform(-50, 150) for _ in range(4))]),
        "absent": lambda *_: None,
        "far": lambda *_: (1e9, -1e9, 1e9, -1e9),
    }
    bench = Bench(way, seed=3)
    asked = [(8, 5, "the dog", grammar_of(way, 8, absent=True).start(FIRST))]
    questions = [bench.question(*each) for each in asked]
    monkeypatch.setattr(AnswerWriter, "_target", targets[drafter])
    (answer,) = bench.decoder.write(questions)
    assert answer.token_ids == bench.expected(*asked[0])
    assert bench.decoder.counts.check_forwards <= len(answer.token_ids)


@pytest.mark.parametrize("way", WAYS)
def test_with_log_odds_of_absence_too_the_tokens_are_those_of_the_reference(way):
    bench, absent = Bench(way, seed=3), []
    for log_odds in (-20.0, 0.2, 20.0):
        asked = 8, 5, "the dog", grammar_of(way, 8, absent=True, log_odds=log_odds).start(FIRST)
        (answer,) = bench.decoder.write([bench.question(*asked)])
        assert answer.token_ids == bench.expected(*asked)
        absent.append(answer.boxes.count(None))
    assert absent[0] == 0 and absent[2] == 7
    # By words nothing is added.
    plain, added = (grammar_of(way, 8, absent=True, log_odds=log_odds).start() for log_odds in (0.0, 20.0))
    assert plain.forced() == added.forced()
    assert torch.equal(plain.grammar.row(plain), added.grammar.row(added))


def test_log_probabilities_are_those_of_the_allowed_tokens():
    bench = Bench("digits")
    state = grammar_of("digits", 4).start(FIRST)
    question = bench.question(4, 0, "the dog", state)
    (answer,) = bench.decoder.write([question])
    inputs = ask(number_processor("digits"), conversation("digits", 4, 0, "the dog"))
    length = inputs["input_ids"].shape[1]
    whole = torch.cat([inputs["input_ids"], torch.tensor([answer.token_ids])], dim=1)
    inputs |= {"input_ids": whole, "attention_mask": torch.ones_like(whole)}
    with torch.no_grad():
        logits = bench.model(**inputs).logits[0, length - 1 : -1]
    for row, token, found in zip(logits, answer.token_ids, answer.log_probs, strict=True):
        allowed = list(state.allowed())
        wanted = row[allowed].log_softmax(-1)[allowed.index(token)].item()
        assert found == pytest.approx(wanted, abs=1e-4)
        state.push(token)


@pytest.mark.parametrize("way", WAYS)
def test_a_moving_object_takes_ten_passes_or_fewer_and_many_take_no_more(way):
    rng = np.random.default_rng(0)
    template = number_processor(way, "floor", False).answer_template(8)
    bench, prefixes, questions, alone = Bench(way), {}, [], []
    for number in range(6):
        steps = rng.normal(0, 0.3, (8, 4)) + rng.normal(0, 1.5, 4)
        truth = np.clip(np.array([30, 30, 60, 60]) + np.cumsum(steps, axis=0), 0, 99)
        state = ReplayGrammar(template, truth, bias=30.0).start(np.floor(truth[0]).astype(int).tolist())
        questions.append(bench.question(8, 0, f"the {number}", state, prefixes))
        before = bench.decoder.counts.check_forwards
        alone.append(bench.decoder.write([questions[-1]])[0])
        assert bench.decoder.counts.check_forwards - before <= 9
        assert len(set(alone[-1].boxes)) > 4
    before = bench.decoder.counts.check_forwards
    together = bench.decoder.write(questions)
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]
    assert bench.decoder.counts.check_forwards - before <= 12


def test_a_head_that_is_not_plain_is_asked_for_its_logits():
    class Doubled(nn.Linear):
        def forward(self, hidden):
            return -super().forward(hidden)

    bench = Bench("digits")
    plain = bench.model.lm_head
    asked = (4, 0, "the dog", grammar_of("digits", 4).start())
    straight = bench.decoder.write([bench.question(*asked)])[0].token_ids
    other = Doubled(plain.in_features, plain.out_features, bias=False)
    other.weight = plain.weight
    bench.model.lm_head = other
    try:
        turned = bench.decoder.write([bench.question(*asked)])[0].token_ids
        assert turned == bench.expected(*asked) != straight
    finally:
        bench.model.lm_head = plain


def test_bfloat16_writes_valid_answers_that_mostly_agree_with_the_reference():
    model = number_model("numbers")
    inputs = ask(number_processor("numbers"), *(conversation("numbers", 4, seed) for seed in range(4)))
    states = [grammar_of("numbers", 4).start(FIRST) for _ in range(4)]
    half = ElysiumForConditionalGeneration(model.config).to(torch.bfloat16).eval()
    half.load_state_dict(model.state_dict())
    wanted = without_padding(reference(half, inputs, states))
    output = half.generate(**inputs, custom_generate=generate_boxes, states=states, max_new_tokens=1)
    found = without_padding(output[:, inputs["input_ids"].shape[1] :].tolist())
    assert [len(row) for row in found] == [len(row) for row in wanted]
    agreed = np.mean([a == b for rows in zip(found, wanted, strict=True) for a, b in zip(*rows, strict=True)])
    assert agreed > 0.7  # the template alone is half of it


def test_the_rate_of_shifts_is_learnt_from_what_follows_a_surprise():
    rate = ShiftRate()
    assert rate.value == 0.5
    for _ in range(300):
        rate.learn(2.7, 3.0)
    assert rate.value == pytest.approx(0.9, abs=0.05)
    for _ in range(300):
        rate.learn(-1.0, 3.0)
    assert rate.value == 0.0


def test_placeholders_and_visual_tokens_must_be_as_many():
    bench = Bench("digits")
    ids = [5, bench.model.config.video_token_id]
    with pytest.raises(ValueError, match="a placeholder for each visual token, got 1 and 3"):
        bench.decoder.embed(ids, torch.zeros(3, bench.model.config.text_config.hidden_size))


@pytest.mark.parametrize(
    ("text_config", "attention", "reason"),
    [
        ({"model_type": "gemma2", "head_dim": 16}, "sdpa", "layers that do not see the whole text"),
        ({"model_type": "mistral", "sliding_window": 64}, "sdpa", "sees 64 tokens at once"),
        ({}, "flex_attention", "attention 'flex_attention', which takes no mask"),
    ],
)
def test_a_model_that_cannot_be_decoded_fast_is_refused_with_the_reason(text_config, attention, reason):
    config = number_config("digits")
    config = number_config("digits", text_config=config.text_config.to_dict() | text_config)
    model = ElysiumForConditionalGeneration(config)
    model.model.language_model.config._attn_implementation = attention
    assert reason in why_not_decodable(model)
    with pytest.raises(ValueError, match="use generate"):
        BoxDecoder(model)


def test_something_else_than_our_model_is_refused():
    assert "a Linear, which is no ElysiumForConditionalGeneration" in why_not_decodable(nn.Linear(1, 1))


@pytest.mark.parametrize("wrong", ["states", "pixels"])
def test_what_is_missing_is_said(wrong):
    model = number_model("digits")
    inputs = ask(number_processor("digits"), conversation("digits", 2, 0))
    states = [grammar_of("digits", 2).start()] * (2 if wrong == "states" else 1)
    if wrong == "pixels":
        inputs.pop("pixel_values_videos")
    message = "a state for each prompt, got 2 for 1" if wrong == "states" else "placeholders of a video, got no video"
    with pytest.raises(ValueError, match=message):
        model.generate(**inputs, custom_generate=generate_boxes, states=states, max_new_tokens=1)
