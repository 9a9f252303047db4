"""Semantic encoders in the model: they change nothing where they do not read, and what they say reaches the tokens."""

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from tiny import tiny_config, tiny_model, tiny_processor
from transformers import LogitsProcessorList

from elysium.modeling_elysium import ElysiumForConditionalGeneration
from elysium.modeling_elysium.box_grammar_elysium import BoxGrammarLogitsProcessor
from elysium.modeling_elysium.semantic_encoders_elysium import SemanticEvidence
from elysium.tracking.tracker import Tracker
from elysium.training.model_parts import freeze

SEMANTIC = {"classes": {"classifier": 6, "coco_detector": 4}, "image_size": 64}


@pytest.fixture(scope="module")
def model() -> ElysiumForConditionalGeneration:
    return tiny_model(semantic_config=SEMANTIC)


def evidence(model: ElysiumForConditionalGeneration, patch: int, score: float) -> SemanticEvidence:
    patches = model.config.num_patches
    scores = torch.zeros(1, patches, 10)
    scores[:, patch, 2] = score
    boxes = torch.tensor([0.2, 0.2, 0.6, 0.6]).expand(1, patches, 4)
    return SemanticEvidence(scores, boxes * (scores[..., 2:3] > 0), scores[..., 2])


def test_images_of_the_towers_own_size_are_encoded_as_without_encoders(model):
    plain = tiny_model()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "semantic" not in k})
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model.get_image_features(images).pooler_output, plain.get_image_features(images).pooler_output)


def test_large_images_are_halved_for_the_tower_and_read_by_the_encoders(model):
    images = torch.randn(2, 3, 64, 64)
    whole = model.get_image_features(images)
    parts = model.get_image_features(
        torch.nn.functional.avg_pool2d(images, 2), semantic_evidence=model.model.get_semantic_evidence(images)
    )
    assert torch.equal(whole.pooler_output, parts.pooler_output)
    without = model.get_image_features(torch.nn.functional.avg_pool2d(images, 2))
    assert not torch.allclose(whole.pooler_output, without.pooler_output)


def test_evidence_of_a_patch_reaches_its_token_alone():
    model = tiny_model(semantic_config=SEMANTIC)
    model.model.semantic_projector.to_patches.weight.data.zero_()  # so that the same patches are kept
    images = torch.randn(1, 3, 32, 32)
    none = model.get_image_features(images, semantic_evidence=evidence(model, 0, 0.0))
    patch = int(none.selector_indices[0, 3])
    some = model.get_image_features(images, semantic_evidence=evidence(model, patch, 0.9))
    assert torch.equal(none.selector_indices, some.selector_indices)
    changed = (none.pooler_output != some.pooler_output).any(-1)
    assert torch.equal(changed, none.selector_indices == patch)


def test_weak_scores_of_many_classes_do_not_add_up(model):
    many = SemanticEvidence(torch.full((1, 16, 10), 0.02), torch.zeros(1, 16, 4), torch.zeros(1, 16))
    empty = SemanticEvidence(*(torch.zeros_like(part) for part in many))
    projector, embed = model.model.semantic_projector, model.get_input_embeddings()
    assert torch.equal(projector(many, embed), projector(empty, embed))


def test_a_sure_class_is_the_embedding_of_its_names():
    model = tiny_model(semantic_config=SEMANTIC)
    projector, embed = model.model.semantic_projector, model.get_input_embeddings()
    projector.set_names([{7: 0.75, 9: 0.25}] + [{11: 1.0}] * 9)
    torch.nn.init.eye_(projector.names.weight)
    for parameter in (projector.names.bias, projector.classes.weight):
        torch.nn.init.zeros_(parameter)
    scores = torch.zeros(1, 16, 10)
    scores[0, 3, 0] = 1.0
    sure = SemanticEvidence(scores, torch.zeros(1, 16, 4), torch.zeros(1, 16))
    with torch.no_grad():
        vector = projector(sure, embed)[0, 3]
        expected = 0.75 * embed.weight[7] + 0.25 * embed.weight[9]
    torch.testing.assert_close(torch.cosine_similarity(vector, expected, 0), torch.tensor(1.0))


def named(projector, ids):
    return projector.named_classes([ids])[0].nonzero().flatten().tolist()


def test_the_first_phrase_of_a_question_that_names_classes_counts_the_longest_first():
    projector = tiny_model(semantic_config=SEMANTIC).model.semantic_projector
    assert named(projector, [5, 6, 7]) == []  # no phrases were set
    phrases = [[[5]], [[5, 6], [8]], [[7]], [[8]], *[[]] * 6]
    projector.set_phrases([*phrases, [[7, 8]], [[9]]], continuations=[4])
    assert named(projector, [1, 5, 6, 7]) == [1]
    assert named(projector, [1, 5, 7, 6]) == [0]
    assert named(projector, [8]) == [1, 3]
    assert named(projector, [7, 8, 5]) == [0]  # "7 8" names nothing
    assert named(projector, [1, 9, 5]) == []  # behind the end of the question
    assert named(projector, [8, 4, 7]) == [2]  # a word that begins like a phrase is another word
    assert projector.named_classes([[5], [2]]).sum(1).tolist() == [1, 0]


def test_what_no_detector_knows_is_looked_up_by_its_wider_name():
    projector = tiny_model(semantic_config=SEMANTIC).model.semantic_projector
    cockatoo, bird, robin = [5], [6], [7]
    phrases = [[cockatoo, bird], [robin, bird], *[[]] * 4, [bird], [robin, bird], [], []]
    projector.set_phrases([*phrases, [], []])
    assert named(projector, cockatoo) == [0, 6]
    assert named(projector, robin) == [1, 7]  # a detector has a class for it
    assert named(projector, bird) == [0, 1, 6, 7]


def test_tokens_that_show_what_is_named_are_marked_and_no_others():
    projector = tiny_model(semantic_config=SEMANTIC).model.semantic_projector
    scores, wanted = torch.zeros(1, 4, 10), torch.zeros(1, 10)
    scores[0, 1, 2], scores[0, 2, 2], scores[0, 2, 7], scores[0, 3, 5] = 0.9, 0.1, 0.6, 0.9
    evidence = SemanticEvidence(scores, torch.zeros(1, 4, 4), torch.tensor([[0.0, 0.0, 0.6, 0.0]]))
    wanted[0, [2, 7]] = 1
    torch.nn.init.zeros_(projector.matched_box.weight)
    with torch.no_grad():
        marks = projector.marks(evidence, wanted)[0]
        named = [[0.0] * 4, [0.9**0.5, 1, 0, 0], [0.1**0.5, 1 / 9, 0.6**0.5, 1], [0.0] * 4]
        expected = projector.matches(torch.tensor(named))
    torch.testing.assert_close(marks, expected)
    assert not projector.marks(evidence, torch.zeros(1, 10)).any()


def marked_boxes(scores: torch.Tensor, wanted: list[int]) -> list[bool]:
    """Return which of four tokens bring the box that a detector of score 0.8 gives each of them."""
    projector = tiny_model(semantic_config=SEMANTIC).model.semantic_projector
    torch.nn.init.zeros_(projector.matches.weight)
    named = torch.zeros(1, 10)
    named[0, wanted] = 1
    evidence = SemanticEvidence(scores, torch.tensor([0.1, 0.2, 0.5, 0.6]).expand(1, 4, 4), torch.full((1, 4), 0.8))
    with torch.no_grad():
        return projector.marks(evidence, named)[0].any(-1).tolist()


def test_a_mark_brings_the_box_of_a_detection_of_what_is_named():
    scores = torch.zeros(1, 4, 10)
    scores[0, 0, 7], scores[0, 1, 7], scores[0, 2, 8] = 0.8, 0.3, 0.8  # at token 1 the box is of another class
    assert marked_boxes(scores, [7]) == [True, False, False, False]
    scores[0, :, 1] = torch.tensor([0.0, 0.0, 0.7, 0.2])  # the classifier's, where no detector knows the class
    assert marked_boxes(scores, [1]) == [False, False, True, True]
    assert marked_boxes(scores, [1, 7]) == [True, False, False, False]


def test_a_prompt_marks_the_tokens_of_its_own_images_alone():
    model, processor = tiny_model(semantic_config=SEMANTIC), tiny_processor(semantic_config=SEMANTIC)
    ids = processor.tokenizer.encode(" car", add_special_tokens=False)
    model.model.semantic_projector.set_phrases([[ids], *[[]] * 9, [], []])
    images = [np.random.default_rng(n).integers(0, 255, (64, 64, 3), dtype=np.uint8) for n in range(2)]

    def hidden(texts):
        messages = [
            processor.build_messages("rec", image=image, text=t) for image, t in zip(images, texts, strict=True)
        ]
        inputs = processor.apply_chat_template(
            messages, tokenize=True, return_dict=True, return_tensors="pt", processor_kwargs={"padding": True}
        )
        with torch.no_grad():
            return model(**inputs).image_hidden_states.unflatten(0, (2, -1))

    plain, marked = hidden(["the dog", "the dog"]), hidden(["the car", "the dog"])
    assert not torch.equal(plain[0], marked[0]) and torch.equal(plain[1], marked[1])


def test_a_prompt_is_marked_alike_by_generate_and_by_its_fast_way():
    model, processor = tiny_model(semantic_config=SEMANTIC), tiny_processor(semantic_config=SEMANTIC)
    ids = processor.tokenizer.encode(" car", add_special_tokens=False)
    model.model.semantic_projector.set_phrases([[ids], *[[]] * 9, [], []])
    torch.nn.init.normal_(model.model.semantic_projector.matches.weight, std=3.0)
    frames = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    prompts = [processor.build_messages("rsot", video=frames, text=text) for text in ("the car", "the dog")]
    inputs = processor.apply_chat_template(
        prompts, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    grammar = model.box_grammar(processor.answer_template(3))
    way = {"custom_generate": model.generate_boxes, "states": [grammar.start(), grammar.start()], "max_new_tokens": 1}
    fast = model.generate(**inputs, **way)
    guide = LogitsProcessorList([BoxGrammarLogitsProcessor([grammar.start(), grammar.start()])])
    slow = model.generate(**inputs, logits_processor=guide, max_new_tokens=grammar.longest, do_sample=False)
    start = inputs["input_ids"].shape[1]
    assert torch.equal(fast[:, start:][:, : slow.shape[1] - start], slow[:, start:])
    assert not torch.equal(slow[0, start:], slow[1, start:])


def test_images_of_another_size_are_refused_with_both_sizes(model):
    with pytest.raises(ValueError, match="64x64 pixels.*got 48x48"):
        model.get_image_features(torch.zeros(1, 3, 48, 48))


def test_encoders_are_saved_and_never_trained(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = ElysiumForConditionalGeneration.from_pretrained(tmp_path)
    assert loaded.config.semantic_config == model.config.semantic_config
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(
        loaded.get_image_features(images).pooler_output, model.get_image_features(images).pooler_output
    )
    encoders = {name for name, _ in loaded.named_parameters() if "semantic_encoders" in name}
    for prepare in (torch.nn.Module.train, lambda loaded: freeze(loaded, [])):  # a trainer of others, and ours
        prepare(loaded)
        assert {name for name, parameter in loaded.named_parameters() if not parameter.requires_grad} == encoders


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"semantic_config": {"image_size": 50}}, "multiple of the tower's 32, got 50"),
        ({"semantic_config": {"sise": 64}}, "got sise"),
        ({"semantic_config": SEMANTIC, "compressor": "cross_attention", "kept_position_embedding": False}, "place"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        tiny_config(**changes)


@pytest.mark.parametrize("prompt", [{"text": "the red car"}, {"box_xyxy_px": (8, 8, 40, 40)}])
def test_fast_decoding_equals_the_reference_by_words_and_from_a_box(prompt):
    model, processor = tiny_model(semantic_config=SEMANTIC), tiny_processor(semantic_config=SEMANTIC)
    words = processor.tokenizer.encode(" car", add_special_tokens=False)
    model.model.semantic_projector.set_phrases([[words], *[[]] * 9, [], []])
    video = np.random.default_rng(0).integers(0, 255, (12, 72, 96, 3), dtype=np.uint8)
    tracks = [
        Tracker(model, processor, decoding=decoding).track(video, fps=10, **prompt).tracks[0]
        for decoding in ("fast", "reference")
    ]
    np.testing.assert_array_equal(tracks[0].boxes_xyxy_px, tracks[1].boxes_xyxy_px)
    np.testing.assert_allclose(tracks[0].scores, tracks[1].scores, atol=1e-4)


def test_the_encoders_read_where_words_are_asked_for_and_not_from_a_box(monkeypatch):
    model, processor = tiny_model(semantic_config=SEMANTIC), tiny_processor(semantic_config=SEMANTIC)
    read = []
    inside = model.model.semantic_encoders.forward
    monkeypatch.setattr(model.model.semantic_encoders, "forward", lambda x: read.append(len(x)) or inside(x))
    video = np.random.default_rng(0).integers(0, 255, (8, 72, 96, 3), dtype=np.uint8)
    Tracker(model, processor).track(video, fps=10, box_xyxy_px=(8, 8, 40, 40))
    assert not read
    Tracker(model, processor).track(video, "the red car", fps=10)
    assert sum(read) == 8
