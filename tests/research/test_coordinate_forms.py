"""What a box costs in each form, and which forms are trained."""

import pytest
from tiny import tiny_processor

from elysium.processing.boxes_elysium import FORMS, format_box
from research.box_text.coordinate_forms import LABEL, TRAINED, measure, random_boxes
from research.compression.answers import AnswerCoder


def test_boxes_are_the_same_for_a_seed_and_have_a_side_of_two_percent() -> None:
    boxes = random_boxes(50, 7)
    assert boxes == random_boxes(50, 7) != random_boxes(50, 8)
    assert all(min(x2 - x1, y2 - y1) >= 0.02 for x1, y1, x2, y2 in boxes)


@pytest.mark.parametrize("form", FORMS)
def test_tokens_of_a_box_are_those_behind_its_label(form: str) -> None:
    boxes = random_boxes(16, 0)
    row = measure(boxes, form, {"characters": len})
    mean = sum(len(format_box(box, form=form)) for box in boxes) / 16
    assert row["characters"] == pytest.approx(mean, abs=0.01)
    assert row["tokens characters"] == pytest.approx(mean + 1, abs=0.01)  # and the space behind the label
    assert row["tokens of 8 frames characters"] > 8 * (mean + len(LABEL))
    assert row["error % floor"] < (0.3 if form in ("elysium", "minigpt_v2") else 0.03)


def test_trained_forms_take_as_many_tokens_as_their_names_say() -> None:
    processor = tiny_processor()
    counts = {form.name: len(AnswerCoder(processor, form).box((0.758, 0.259, 0.844, 0.421))[0]) for form in TRAINED}
    assert counts == {
        "integers, scale": 9,
        "integers": 9,
        "integers by digit": 13,
        "per mille by digit": 17,
        "decimals by digit": 25,
        "centre and size, scale": 9,
    }
