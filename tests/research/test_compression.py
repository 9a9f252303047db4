"""Prompts, answers, runs and sentences of the ablation of token compression."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_processor, tiny_tokenizer

from elysium.processing.boxes_elysium import format_box, format_frames
from research.compression.answers import AnswerCoder, BoxForm
from research.compression.features import MAX_OBJECTS, NUM_PATCHES, Asked, FeatureSet
from research.compression.model import CompressionModel, build_network
from research.compression.report import Outcome, gather, sentence, table
from research.compression.runs import INTEGERS, Place, Run, do_run, gate_evidence
from research.compression.variants import KeptClips, variants

BOXES = [(0.236, 0.45, 0.467, 0.72), (0.0, 0.05, 0.998, 1.0)]
VARIANTS = variants(25, NUM_PATCHES)
DIGITS = BoxForm(name="digits", base=10, digits=2, scale_losses=False)


def coder(form: BoxForm = INTEGERS) -> AnswerCoder:
    return AnswerCoder(tiny_processor(), form)


def clips(num_frames: int, words: str | None) -> FeatureSet:
    """Two clips of random features with one question each, about object 1."""
    draw = torch.Generator().manual_seed(3)
    corners = torch.rand(2, num_frames, MAX_OBJECTS, 4, generator=draw).sort(-1).values
    return FeatureSet(
        torch.randn(2, num_frames, NUM_PATCHES, 160, generator=draw).bfloat16(),
        torch.randint(0, 256, (2, num_frames, MAX_OBJECTS, NUM_PATCHES), generator=draw, dtype=torch.uint8),
        corners,
        [[Asked(1, words)], [Asked(1, words)]],
    )


def network(name: str, form: BoxForm = INTEGERS) -> CompressionModel:
    torch.manual_seed(0)
    return build_network(VARIANTS[name], coder(form)).eval()


def test_an_answer_has_the_tokens_that_the_processors_text_has() -> None:
    tokenizer = tiny_tokenizer()
    row = coder().row(0, Asked(0), BOXES)
    question = tiny_processor().build_question("sot", box_xyxy_norm=BOXES[0]) + " ASSISTANT:"
    assert row.asked == tokenizer.encode(question, add_special_tokens=False)
    expected = tokenizer.encode(" " + format_frames(BOXES), add_special_tokens=False)
    assert row.answer == [*expected, tokenizer.eos_token_id]
    assert [row.answer[place] for place in row.open_at] == coder().number_ids[row.values].tolist()
    grounded = coder().row(0, Asked(0, "the red circle"), BOXES[:1])
    expected = tokenizer.encode(" " + format_box(BOXES[0]), add_special_tokens=False)
    assert grounded.answer == [*expected, tokenizer.eos_token_id]


@pytest.mark.parametrize(
    "form",
    [
        INTEGERS,
        DIGITS,
        BoxForm(name="thousandths", base=10, digits=3, lead="0.", scale_losses=False),
        BoxForm(name="centre", centre=True),
    ],
)
def test_a_form_reads_back_what_it_wrote_to_within_a_unit(form: BoxForm) -> None:
    numbers = torch.tensor([form.open_numbers(box) for box in BOXES])
    torch.testing.assert_close(form.boxes(numbers), torch.tensor(BOXES), atol=1.01 / form.units, rtol=0)


def test_digits_are_tokens_of_their_own_in_a_form_of_digits() -> None:
    tokens, open_at, values = coder(DIGITS).box(BOXES[0])
    assert "".join(tiny_tokenizer().convert_ids_to_tokens(tokens)) == "[23,45,46,72]"
    assert (len(tokens), len(open_at), values[:2]) == (13, 8, [2, 3])


def test_kept_tokens_have_the_position_ids_that_they_have_without_compression() -> None:
    whole, compact = network("none"), torch.tensor(coder().prefix(3))
    places = torch.tensor([[0, 7, 105, 199, 200]])
    every = KeptClips(torch.zeros(1, 300, 1), torch.full((1, 3), 100), torch.arange(300)[None], None)
    ids, positions, following = whole._lay_out(compact, every)
    few = KeptClips(torch.zeros(1, 5, 1), torch.tensor([[2, 2, 1]]), places, None)
    network_with_gaps = network("selector+positions")
    ids_few, positions_few, following_few = network_with_gaps._lay_out(compact, few)
    visual, visual_few = whole._is_visual(ids), whole._is_visual(ids_few)
    assert positions_few[visual_few].tolist() == positions[visual][places[0]].tolist()
    assert positions_few[~visual_few].tolist() == positions[~visual].tolist()
    assert following_few == following


@pytest.mark.parametrize(("name", "form"), [("selector+positions", INTEGERS), ("average", DIGITS)])
def test_a_written_box_is_the_likeliest_after_what_was_written_before(name: str, form: BoxForm) -> None:
    model, shown = network(name, form), clips(2, None)
    boxes, rows, _ = model.answer(shown)
    prefix = model.read(shown)
    # The same again in one pass, the model's own numbers given.
    numbers = torch.stack([model._answer_group([row], prefix)[0] for row in rows])
    torch.testing.assert_close(form.boxes(numbers.view(2, 2, -1)), boxes)
    answers = [list(row.answer) for row in rows]
    for row, answer, chosen in zip(rows, answers, numbers, strict=True):
        for place, number in zip(row.open_at, chosen.tolist(), strict=True):
            answer[place] = int(model.coder.number_ids[number])
    ids = torch.tensor([row.asked + answer for row, answer in zip(rows, answers, strict=True)])
    cache = prefix.repeated(torch.tensor([row.clip for row in rows]), model.text_config)
    logits = model.model.lm_head(model._continue(ids, cache, prefix.next_position).last_hidden_state)
    for line, row, chosen in zip(logits, rows, numbers, strict=True):
        before = torch.tensor(row.open_at) + len(row.asked) - 1
        assert line[before][:, model.coder.number_ids].argmax(-1).tolist() == chosen.tolist()


@pytest.mark.parametrize("words", [None, "the red circle"])
def test_every_loss_has_a_gradient_and_only_a_supervised_gate_has_its_own(words: str | None) -> None:
    shown = clips(1 if words else 2, words)
    for name in ("selector", "selector+gate"):
        model = network(name)
        losses = model.losses(shown, guided=name == "selector+gate")
        assert ("gate" in losses) == ("attention" in losses) == (name == "selector+gate")
        sum(losses.values()).backward()
        assert model.model.model.selector.score_mlp[0].weight.grad.abs().max() > 0
        assert model.model.model.vision_tower.position_embedding.grad.abs().max() > 0


def test_weights_that_do_not_fit_start_fresh() -> None:
    base, mixing = network("none"), network("cross-attention")
    first = mixing.model.model.selector.q_proj.weight.clone()
    mixing.start_from({name: value + 1 for name, value in base.state_dict().items()})
    assert torch.equal(mixing.model.model.selector.q_proj.weight, first)
    assert torch.equal(mixing.model.lm_head.weight, base.model.lm_head.weight + 1)


def test_concatenation_starts_as_the_mean_of_its_patches() -> None:
    base, joined, pooled = network("none"), network("concat"), network("average")
    frames = clips(1, "the red circle").features[:, 0].float()
    found = []
    for model in (joined, pooled):
        model.start_from(base.state_dict())
        core = model.model.model
        found.append(core.multi_modal_projector(core.selector(frames).tokens))
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)


def test_gate_evidence_counts_object_patches_by_hand() -> None:
    shown = clips(1, "the red circle")
    coverage = torch.zeros_like(shown.coverage)
    coverage[:, 0, 2, :4] = 255  # four patches of a hundred show an object
    kept = KeptClips(torch.zeros(2, 5, 1), torch.full((2, 1), 5), torch.tensor([[0, 1, 2, 50, 60]] * 2), None)
    found = gate_evidence(kept, replace(shown, coverage=coverage))
    assert found["recall"] == [0.75, 0.75]
    assert found["precision"] == pytest.approx([0.6, 0.6])
    assert found["objects"] == pytest.approx([0.04, 0.04])


def test_a_finished_run_is_not_run_again_and_another_ones_file_is_not_taken_for_it(tmp_path: Path) -> None:
    place = Place(features="missing", results=str(tmp_path))
    run = Run(variant=VARIANTS["stride"], seed=0, steps=3, learning_rate=1e-3, hold=0.5)
    record = {"run": run.name, "settings": json.loads(json.dumps(asdict(run))), "figures": {"rec_iou": 0.5}}
    (tmp_path / f"{run.name}.json").write_text(json.dumps(record), "utf-8")
    assert do_run(run, place) == record
    with pytest.raises(ValueError, match="same settings"):
        do_run(replace(run, learning_rate=2e-3), place)


def records(name: str, kept: int, overlaps: list[float]) -> list[dict]:
    return [
        {
            "settings": {"variant": {"name": name, "kept": kept}, "seed": seed},
            "figures": {"rec_iou": overlap, "sot_iou": 0.5, "last_losses": {}},
        }
        for seed, overlap in enumerate(overlaps)
    ]


def test_a_gap_counts_from_twice_its_spread_over_seeds_on() -> None:
    found = gather(records("a", 25, [0.50, 0.60, 0.70]) + records("b", 25, [0.40, 0.50, 0.61]))
    said = sentence(found["a"], found["b"], range(3))
    assert "a beats b in REC (+0.097 ± 0.006)" in said
    assert "is not told apart from b in SOT (+0.000 ± 0.000)" in said
    assert "| a | 25 | 0.600 ± 0.100 |" in " ".join(table(found).split())
    assert isinstance(found["a"], Outcome) and np.allclose(found["a"].of("rec_iou", [2, 0]), [0.7, 0.5])
