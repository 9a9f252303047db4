"""What a box costs in each form, and which forms are trained."""

import pytest
from tiny import tiny_processor

from elysium.processing.boxes_elysium import ROUNDINGS, format_box, format_frames, parse_box
from research.box_text.coordinate_forms import LABEL, TRAINED, measure, random_boxes
from research.box_text.forms import FORMS
from research.compression.answers import AnswerCoder


def test_boxes_are_the_same_for_a_seed_and_have_a_side_of_two_percent() -> None:
    boxes = random_boxes(50, 7)
    assert boxes == random_boxes(50, 7) != random_boxes(50, 8)
    assert all(min(x2 - x1, y2 - y1) >= 0.02 for x1, y1, x2, y2 in boxes)


@pytest.mark.parametrize("form", FORMS)
def test_tokens_of_a_box_are_those_behind_its_label(form: str) -> None:
    boxes = random_boxes(16, 0)
    row = measure(boxes, FORMS[form], {"characters": len})
    mean = sum(len(FORMS[form].write(box)) for box in boxes) / 16
    assert row["characters"] == pytest.approx(mean, abs=0.01)
    assert row["tokens characters"] == pytest.approx(mean + 1, abs=0.01)  # and the space behind the label
    assert row["tokens of 8 frames characters"] > 8 * (mean + len(LABEL))
    assert row["error % floor"] < (0.3 if form in ("elysium", "minigpt_v2") else 0.03)


@pytest.mark.parametrize(
    ("form", "floor", "round_"),
    [
        ("elysium", "[2,45,46,99]", "[2,45,46,100]"),
        ("minigpt_v2", "{<2><45><46><99>}", "{<2><45><46><100>}"),
        ("cogvlm", "[[023,450,461,999]]", "[[023,450,461,1000]]"),
        ("qwen", "<box>(23,450),(461,999)</box>", "<box>(23,450),(461,1000)</box>"),
        ("shikra", "[0.023,0.450,0.461,1.000]", "[0.023,0.450,0.461,1.000]"),
    ],
)
def test_each_form_is_written_as_its_paper_writes_it(form: str, floor: str, round_: str) -> None:
    box = (0.0233, 0.4502, 0.4612, 1.0)
    assert (FORMS[form].write(box), FORMS[form].write(box, "round")) == (floor, round_)


def test_the_form_elysium_is_the_one_of_the_package() -> None:
    boxes = random_boxes(50, 1)
    form = FORMS["elysium"]
    assert form.write_frames(boxes) == format_frames(boxes)
    for rounding in ROUNDINGS:
        texts = [format_box(box, rounding=rounding) for box in boxes]
        assert texts == [form.write(box, rounding) for box in boxes]
        for text in texts:
            assert form.read(text, rounding) == pytest.approx(parse_box(text, rounding=rounding).box_xyxy_norm)


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
