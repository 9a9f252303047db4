"""Detectors by name: the real classes of transformers on small random checkpoints."""

from pathlib import Path

import numpy as np
import pytest
from curation_parts import save_tiny_grounding_dino, save_tiny_owlv2
from transformers import CLIPConfig, CLIPTextConfig, CLIPVisionConfig

from elysium.curation.curation_step import CurationError
from elysium.curation.detect_step import Query, check_detector, is_function_name, load_detector


@pytest.fixture(scope="module")
def grounding_dino(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_grounding_dino(tmp_path_factory.mktemp("dino") / "tiny", ["red", "car", "dog"]))


@pytest.fixture(scope="module")
def owlv2(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_owlv2(tmp_path_factory.mktemp("owl") / "tiny"))


@pytest.fixture(params=["grounding_dino", "owlv2"])
def checkpoint(request: pytest.FixtureRequest) -> str:
    """Each kind of detector in turn."""
    return str(request.getfixturevalue(request.param))


def queries(*texts: str) -> list[Query]:
    pictures = np.random.default_rng(0).integers(0, 255, (len(texts), 72, 96, 3), dtype=np.uint8)
    return [Query("v", number, text, pictures[number]) for number, text in enumerate(texts)]


def test_each_picture_is_answered_with_boxes_that_lie_in_it(checkpoint: str) -> None:
    asked = queries("red car", "dog", "a dog that runs and runs and runs and runs and runs")
    found = load_detector(checkpoint, "cpu").detect(asked)
    assert len(found) == 3 and sum(map(len, found)) > 0
    assert all(one.frame_idx == number for number, boxes in enumerate(found) for one in boxes)
    for box, score in ((one.box_xyxy_norm, one.score) for boxes in found for one in boxes):
        assert 0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1 and 0.05 < score <= 1


def test_a_batch_gives_what_its_queries_give_alone(checkpoint: str) -> None:
    asked = queries("red car", "a dog that runs")
    detector = load_detector(checkpoint, "cpu")
    for query, together in zip(asked, detector.detect(asked), strict=True):
        (alone,) = detector.detect([query])
        assert len(alone) == len(together)
        for one, other in zip(alone, together, strict=True):
            assert one.box_xyxy_norm == pytest.approx(other.box_xyxy_norm, abs=1e-4)
            assert one.score == pytest.approx(other.score, abs=1e-4)


def test_the_words_decide_what_grounding_dino_finds(grounding_dino: str) -> None:
    picture = queries("car")[0].image
    car, dog = load_detector(grounding_dino).detect([Query("v", 0, text, picture) for text in ("red car", "dog")])
    assert [one.score for one in car] != [one.score for one in dog]


def test_a_detector_is_loaded_once_in_a_process(grounding_dino: str) -> None:
    assert load_detector(grounding_dino, "cpu") is load_detector(grounding_dino, "cpu")


def test_a_detector_of_ones_own_is_made_by_its_function() -> None:
    assert load_detector("curation_parts:Standing").__class__.__name__ == "Standing"
    check_detector("curation_parts:Standing")


@pytest.mark.parametrize("name", ["no_such_module:make", "curation_parts:no_such_function"])
def test_a_function_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(CurationError, match=f"must be package.module:function, got {name}"):
        check_detector(name)


@pytest.mark.parametrize("ask", [check_detector, load_detector])
def test_a_checkpoint_that_cannot_be_had_says_what_to_give(ask, tmp_path: Path) -> None:
    with pytest.raises(CurationError, match="give the folder of a downloaded checkpoint, or a Hub id"):
        ask(str(tmp_path / "missing"))


def test_another_kind_of_model_is_no_detector(tmp_path: Path) -> None:
    small = {"hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1, "intermediate_size": 8}
    parts = {"text_config": CLIPTextConfig(**small).to_dict(), "vision_config": CLIPVisionConfig(**small).to_dict()}
    CLIPConfig(**parts).save_pretrained(tmp_path)
    with pytest.raises(CurationError, match="its kind is clip"):
        check_detector(str(tmp_path))


def test_a_windows_path_is_no_function() -> None:
    assert not is_function_name(r"C:\models\dino") and is_function_name("mine:make")
