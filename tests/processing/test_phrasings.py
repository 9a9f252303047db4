"""The phrasings of the questions, and the chat template."""

from string import Formatter

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from elysium.processing.boxes_elysium import format_box
from elysium.processing.build_processor import SYSTEM_SENTENCE, read_chat_template, space_after_bos
from elysium.processing.prompts.phrasings import load_phrasings
from elysium.processing.prompts_elysium import TASKS

BOX_TEXT = format_box((0.23, 0.45, 0.46, 0.72))
PLACEHOLDERS = {name: [task.needs] for name, task in TASKS.items()} | {"video_caption": []}


def test_every_task_has_at_least_eight_different_phrasings():
    phrasings = load_phrasings()
    assert set(phrasings) == set(PLACEHOLDERS)
    for task in PLACEHOLDERS:
        assert len({text.casefold() for text in phrasings[task]}) == len(phrasings[task]) >= 8


@pytest.mark.parametrize("task", PLACEHOLDERS)
def test_every_phrasing_keeps_what_is_filled_in_and_no_braces(task):
    values = {"text": "the red car", "box": BOX_TEXT, "question": "How many cups {are} there?"}
    for template in load_phrasings()[task]:
        filled = template.format(**values)
        for name in PLACEHOLDERS[task]:
            assert values[name] in filled
        assert "{" not in filled.replace(values["question"], "")


@pytest.mark.parametrize("task", [task for task in TASKS if task != "video_qa"])
def test_the_canonical_phrasing_is_short(task):
    filled = load_phrasings()[task][0].format(text="the red car", box=BOX_TEXT)
    assert len(filled.split()) <= 14


def test_the_canonical_video_question_is_what_the_user_typed():
    assert load_phrasings()["video_qa"][0] == "{question}"


@pytest.mark.parametrize("task", ["sot", "video_reg"])
def test_a_box_of_a_video_is_said_to_be_in_frame_1(task):
    assert all("Frame 1" in template and "{box}" in template for template in load_phrasings()[task])


@pytest.mark.parametrize("task", ["rec", "rsot"])
def test_an_expression_never_opens_a_sentence(task):
    # "the red car" comes in lower case
    for template in load_phrasings()[task]:
        assert not template.startswith("{text}")
        assert ". {text}" not in template


def test_no_phrasing_stands_under_two_tasks_with_the_same_placeholder():
    seen = {}
    for task, templates in load_phrasings().items():
        for template in templates:
            assert template not in seen, f"{template!r} asks {seen.get(template)} and {task}"
            seen[template] = task


@pytest.mark.parametrize("task", PLACEHOLDERS)
def test_a_phrasing_holds_the_placeholder_of_its_task_once_and_no_other(task):
    for template in load_phrasings()[task]:
        assert template == template.strip() != ""
        fields = [field for field in Formatter().parse(template) if field[1] is not None]
        assert [(name, spec, conversion) for _, name, spec, conversion in fields] == [
            (name, "", None) for name in PLACEHOLDERS[task]
        ]


def metaspace_tokenizer(prepend_scheme: str) -> PreTrainedTokenizerFast:
    """Words as Llama's tokenizer has them, with the space before them."""
    words = SYSTEM_SENTENCE.split()
    pieces = ["<unk>", "<s>", "</s>", *dict.fromkeys([f"▁{word}" for word in words] + words), "▁"]
    inner = Tokenizer(models.WordLevel({piece: number for number, piece in enumerate(pieces)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme)
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.mark.parametrize(("prepend_scheme", "space"), [("first", " "), ("always", ""), ("never", "")])
def test_the_first_word_is_tokenized_as_if_no_token_stood_before_it(prepend_scheme: str, space: str) -> None:
    tokenizer = metaspace_tokenizer(prepend_scheme)
    assert space_after_bos(tokenizer) == space
    tokenizer.chat_template = read_chat_template(after_bos=space)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    alone = tokenizer(SYSTEM_SENTENCE, add_special_tokens=False)["input_ids"]
    assert ids[: len(alone) + 1] == [tokenizer.bos_token_id, *alone]
    assert tokenizer.unk_token_id not in alone


def test_a_tokenizer_that_begins_texts_with_nothing_needs_no_space() -> None:
    tokenizer = metaspace_tokenizer("first")
    tokenizer.bos_token = None
    assert space_after_bos(tokenizer) == ""
