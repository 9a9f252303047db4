"""The phrasings of the questions: what the file holds, and what the check refuses."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from elysium.processing.boxes_elysium import format_box
from elysium.processing.prompts.chat_template import SYSTEM_SENTENCE, read_chat_template, space_after_bos
from elysium.processing.prompts.phrasings import MIN_PHRASINGS, PLACEHOLDERS, check_phrasings, load_phrasings
from elysium.processing.prompts_elysium import TASKS

BOX_TEXT = format_box((0.23, 0.45, 0.46, 0.72))


def sound_phrasings():
    """Phrasings that the check accepts, to be spoilt by a test."""
    return {
        task: [
            f"{number} " + " ".join(f"{{{name}}}" for name in sorted(names)) + "?" for number in range(MIN_PHRASINGS)
        ]
        for task, names in PLACEHOLDERS.items()
    }


def test_every_task_has_at_least_eight_different_phrasings():
    phrasings = load_phrasings()
    assert set(TASKS) <= set(phrasings)
    for task in TASKS:
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


def test_the_check_accepts_sound_phrasings():
    assert {
        task: list(templates) for task, templates in check_phrasings(sound_phrasings()).items()
    } == sound_phrasings()


@pytest.mark.parametrize(
    ("task", "template", "complaint"),
    [
        ("rec", "Where is it?", "placeholders"),
        ("rec", "Where is {text} near {box}?", "placeholders"),
        ("rec", "Where is {text}, yes {text}?", "placeholders"),
        ("rec", "Where is {text", "do not match"),
        ("rec", "Where is {text!r}?", "placeholders"),
        ("rec", "Where is {text:>9}?", "placeholders"),
        ("rec", "Where is {0}?", "placeholders"),
        ("rec", " Where is {text}?", "white space"),
        ("rec", "", "white space"),
        ("rec", None, "white space"),
        ("rec", "1 {text}?", "stands twice"),
        ("video_caption", "What is {text}?", "placeholders"),
    ],
)
def test_a_phrasing_that_breaks_a_rule_is_named(task, template, complaint):
    phrasings = sound_phrasings()
    phrasings[task].append(template)
    with pytest.raises(ValueError, match=complaint) as caught:
        check_phrasings(phrasings)
    assert f"{task}[{MIN_PHRASINGS}]" in str(caught.value)


@pytest.mark.parametrize("phrasings", [None, [], {}, {"rec": ["a"] * 8}, sound_phrasings() | {"extra": ["a"]}])
def test_the_tasks_must_be_exactly_the_known_ones(phrasings):
    with pytest.raises(ValueError, match="must map the tasks"):
        check_phrasings(phrasings)


def test_too_few_phrasings_are_refused():
    with pytest.raises(ValueError, match="reg must have at least 8"):
        check_phrasings(sound_phrasings() | {"reg": ["What is {box}?"]})


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
