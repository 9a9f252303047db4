"""Names copied into descriptions: which one, from where, and how it is mixed into the language model's own words."""

import math

import numpy as np
import pytest
import torch
from tiny import tiny_model, tiny_processor

from elysium.modeling_elysium.object_names_elysium import ObjectNames
from elysium.modeling_elysium.semantic_encoders_elysium import SemanticEvidence

SEMANTIC = {"classes": {"classifier": 6, "coco_detector": 4}, "image_size": 64}
CUP, DOG, CAT = (11, 12), (21,), (22, 23, 24)
ANIMAL = (30,)
# Classes 0 and 1 are a dog and a cat of the classifier, both animals; 6 is the detector's cup, 7 its animal.
PHRASES = [[DOG, ANIMAL], [CAT, ANIMAL], [], [], [], [], [CUP], [ANIMAL], [], []]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return tiny_model(semantic_config=SEMANTIC)


@pytest.fixture(scope="module")
def processor():
    return tiny_processor(semantic_config=SEMANTIC)


def prepare(model, processor, gate: float):
    """Set phrases and prompt, and a gate that copies always or never."""
    opening = "\n" + processor.task_prompts["reg"].split("{box}")[0] + "["
    encode = processor.tokenizer.encode
    model.model.semantic_names.set_prompt(
        encode(opening, add_special_tokens=False),
        processor.tokenizer.convert_tokens_to_ids([str(number) for number in range(100)]),
    )
    phrases = [[list(phrase) for phrase in each] for each in PHRASES]
    model.model.semantic_projector.set_phrases([*phrases, [], []])
    last = model.model.semantic_names.gate[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, gate)


def questions(processor, *boxes):
    texts = ["\n" + processor.build_question("reg", box_xyxy_norm=box) + " ASSISTANT:" for box in boxes]
    return [processor.tokenizer.encode(text, add_special_tokens=False) for text in texts]


def evidence_at(columns: dict[int, dict[int, float]], patches: torch.Tensor) -> SemanticEvidence:
    """Return evidence (1, K, 10) with scores {patch: {class: score}}."""
    scores = torch.zeros(1, patches.shape[1], 10)
    for patch, each in columns.items():
        for column, score in each.items():
            scores[0, patches[0] == patch, column] = score
    return SemanticEvidence(scores, torch.zeros(*patches.shape, 4), torch.zeros(patches.shape))


def test_the_likeliest_name_in_the_box_counts_and_wider_words_sum_up(model, processor):
    prepare(model, processor, 0.0)
    names, side = model.model.semantic_names, 4  # patches of the tiny tower: 4x4
    assert model.config.num_patches == side**2
    patches = torch.tensor([[0, 5, 15]])
    evidence = evidence_at({0: {0: 0.4, 1: 0.3}, 5: {6: 0.9, 0: 0.1}, 15: {1: 0.8}}, patches)
    asked = questions(processor, (0, 0, 0.25, 0.25), (0.25, 0.25, 0.5, 0.5), (0.75, 0.75, 0.99, 0.99))
    three = SemanticEvidence(*(part.expand(3, *part.shape[1:]) for part in evidence))
    found = names.find(three, patches.expand(3, -1), asked, PHRASES)
    end = model.config.text_config.eos_token_id
    # Dog 0.4 and cat 0.3 are both animals; a cup has 0.3 of the detector's 0.9; a tie goes to the class's own name.
    assert found.ids.tolist() == [[30, end, -1, -1], [11, 12, end, -1], [22, 23, 24, end]]
    expected = [[0.7, math.log(0.7), math.log(0.4), 0.0], [0.27, math.log(0.27), math.log(0.1), 0.9]]
    torch.testing.assert_close(found.evidence[:2], torch.tensor(expected))


@pytest.mark.parametrize(
    "text", ["\nIs the object at [10,10,40,40] red?", "\nDescribe the object at [10,10,40].", "\nDescribe it.", ""]
)
def test_other_prompts_copy_nothing(model, processor, text):
    prepare(model, processor, 50.0)
    ids = processor.tokenizer.encode(text, add_special_tokens=False)
    patches = torch.tensor([[0]])
    evidence = evidence_at({0: {0: 0.9}}, patches)
    assert model.model.semantic_names.find(evidence, patches, [ids], PHRASES) is None


def test_a_box_between_the_kept_patches_takes_the_nearest_one(model, processor):
    prepare(model, processor, 0.0)
    patches = torch.tensor([[0, 15]])
    evidence = evidence_at({0: {0: 0.9}, 15: {6: 0.9}}, patches)
    found = model.model.semantic_names.find(evidence, patches, questions(processor, (0.7, 0.7, 0.8, 0.8)), PHRASES)
    assert found.ids[0, :2].tolist() == list(CUP)


def test_the_gate_mixes_probabilities(model):
    names = model.model.semantic_names
    torch.nn.init.zeros_(names.gate[-1].weight)
    torch.nn.init.constant_(names.gate[-1].bias, math.log(3))  # copies with a share of 3/4
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]))
    given = ObjectNames(torch.tensor([[2, 1], [-1, -1]]), torch.zeros(2, 4))
    mixed = names.mix(logits, given)
    torch.testing.assert_close(mixed[0].exp(), torch.tensor([0.125, 0.075, 0.8]))
    assert torch.equal(mixed[1], logits[1])
    begun = names.mix(logits, given.after(torch.tensor([2, 2])))
    torch.testing.assert_close(begun[0].exp()[1].item(), 0.999 + 0.001 * 0.3)
    left = names.mix(logits, given.after(torch.tensor([0, 0])))  # the answer went its own way
    assert torch.equal(left, logits)


@pytest.mark.parametrize("task", ["reg", "video_reg"])
def test_generate_writes_the_name_where_the_gate_is_open(model, processor, task, monkeypatch):
    frames = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    visual = {"image": frames[0]} if task == "reg" else {"video": frames}
    box = {"box_xyxy_norm": (0.1, 0.1, 0.9, 0.9)}
    conversations = [processor.build_messages(task, **visual, **box)]
    conversations.append(processor.build_messages("video_qa", **visual, question="How many are there?"))
    inputs = processor.apply_chat_template(
        conversations,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "left"},
    )
    encoders, scores = model.model.semantic_encoders, torch.zeros(1, model.config.num_patches, 10)
    scores[..., 1] = 0.6
    scores[..., 6] = 2.5  # of a detector: 0.75 beside the cat's 0.6
    monkeypatch.setattr(
        encoders,
        "forward",
        lambda images: SemanticEvidence(
            *(part.expand(len(images), *part.shape[1:]) for part in (scores, scores[..., :4], scores[..., 0]))
        ),
    )
    settings = {"max_new_tokens": 6, "do_sample": False}
    start, end = inputs["input_ids"].shape[1], model.config.text_config.eos_token_id
    prepare(model, processor, -50.0)
    own = model.generate(**inputs, **settings)[:, start:]
    prepare(model, processor, 50.0)
    copied = model.generate(**inputs, **settings)[:, start:]
    assert copied[0, :3].tolist() == [*CUP, end]
    length = copied.shape[1]
    assert torch.equal(copied[1], own[1, :length])  # the other prompt's answer stays
    labels = inputs["input_ids"].clone()
    open_loss = model(**inputs, labels=labels).loss
    prepare(model, processor, -50.0)
    assert torch.equal(model(**inputs, labels=labels).loss, open_loss)
