"""The processor: what a prompt looks like, what a user's words may hold, and how answers are read."""

import copy
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_config, tiny_processor, tiny_tokenizer
from transformers import AutoProcessor, BatchFeature, LlamaTokenizer

from elysium.processing.build_processor import build_processor
from elysium.processing.messages_elysium import MARK, PlainText
from elysium.processing.processing_elysium import ElysiumProcessor

SYSTEM = (
    "<s>A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
)
VIDEO = np.random.default_rng(0).integers(0, 256, (3, 24, 40, 3), dtype=np.uint8)
IMAGE = VIDEO[0]
BOX = (0.1, 0.2, 0.5, 0.6)
K = 5


@pytest.fixture(scope="module")
def processor() -> ElysiumProcessor:
    return tiny_processor()


def encode(processor: ElysiumProcessor, messages: list, **options: Any) -> BatchFeature:
    own = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    return processor.apply_chat_template(messages, **(own | options))


def frames_text(count: int) -> str:
    return ", ".join(f"Frame {i}: " + "<video>" * K for i in range(1, count + 1))


@pytest.mark.parametrize(
    ("task", "given", "expected"),
    [
        ("rec", {"image": IMAGE, "text": "the red car"}, "<image>\nWhere is the red car? Give its box."),
        ("reg", {"image": IMAGE, "box_xyxy_norm": BOX}, "<image>\nDescribe the object at [10,20,50,60]."),
        ("sot", {"video": VIDEO, "box_xyxy_norm": BOX}, "<video>\nTrack the object at [10,20,50,60] in Frame 1."),
        ("rsot", {"video": VIDEO, "text": "the red car"}, "<video>\nTrack the red car in the video."),
        (
            "video_reg",
            {"video": VIDEO, "box_xyxy_norm": BOX},
            "<video>\nDescribe the object at [10,20,50,60] in Frame 1.",
        ),
        ("video_qa", {"video": VIDEO, "question": "Who wins?"}, "<video>\nWho wins?"),
        ("video_qa", {"image": IMAGE, "question": "Who is it?"}, "<image>\nWho is it?"),
    ],
)
def test_the_prompt_of_every_task(processor, task: str, given: dict, expected: str) -> None:
    messages = processor.build_messages(task, **given)
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == f"{SYSTEM}USER: {expected} ASSISTANT:"
    ids = encode(processor, messages)["input_ids"][0]
    spread = expected.replace("<image>", "<image>" * K).replace("<video>", frames_text(3))
    assert processor.tokenizer.decode(ids) == f"{SYSTEM}USER: {spread} ASSISTANT:"


def test_a_conversation_of_several_turns(processor) -> None:
    messages = [
        *processor.build_messages("rsot", video=VIDEO, text="the dog", answer="Frame 1: [1,2,3,4]."),
        {"role": "user", "content": "And now?"},
        {"role": "assistant", "content": "none"},
        {"role": "user", "content": [{"type": "text", "text": "Sure?"}]},
    ]
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == (
        f"{SYSTEM}USER: <video>\nTrack the dog in the video. ASSISTANT: Frame 1: [1,2,3,4].</s>"
        "USER: And now? ASSISTANT: none</s>USER: Sure? ASSISTANT:"
    )


@pytest.mark.parametrize(
    "content",
    [
        "Be brief.",
        [{"type": "text", "text": "Be brief."}],
        [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}],
    ],
)
def test_a_system_message_takes_the_place_of_the_sentence(processor, content: Any) -> None:
    messages = [{"role": "system", "content": content}, {"role": "user", "content": "Hello"}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == "<s>Be brief. USER: Hello ASSISTANT:"


def test_an_unknown_role_is_named(processor) -> None:
    with pytest.raises(Exception, match="got 'tool'"):
        processor.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


def test_the_generation_mask_covers_exactly_the_answer_and_its_end(processor) -> None:
    conversations = [
        processor.build_messages("rsot", video=VIDEO, text="the dog", answer="Frame 1: [1,2,3,4], Frame 2: none."),
        processor.build_messages("rec", image=IMAGE, text="the cat", answer="[5,6,7,8]"),
    ]
    conversations[1] += [{"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "yes"}]
    batch = encode(
        processor,
        conversations,
        add_generation_prompt=False,
        return_assistant_tokens_mask=True,
        processor_kwargs={"padding": True},
    )
    marked = [
        processor.tokenizer.decode(ids[mask.bool()])
        for ids, mask in zip(batch["input_ids"], batch["assistant_masks"], strict=True)
    ]
    assert marked == [" Frame 1: [1,2,3,4], Frame 2: none.</s>", " [5,6,7,8]</s> yes</s>"]


def test_more_frames_than_the_checkpoint_was_trained_on_are_warned_of_with_both_numbers() -> None:
    processor = build_processor(tiny_config(), tiny_tokenizer(), max_trained_frames=2)
    with pytest.warns(UserWarning, match="at most 2 frames, .* got 3; .* pass num_frames=2"):
        encode(processor, processor.build_messages("rsot", video=VIDEO, text="the dog"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode(processor, processor.build_messages("rsot", video=VIDEO[:2], text="the dog"))


def test_training_on_more_frames_is_stated_and_on_fewer_takes_nothing_away() -> None:
    processor = build_processor(tiny_config(), tiny_tokenizer())
    assert processor.max_trained_frames is None
    for frames, stated in ((8, 8), (4, 8), (32, 32)):
        processor.state_trained_frames(frames)
        assert processor.max_trained_frames == stated


def test_frames_are_counted_from_one(processor) -> None:
    assert processor.expand_frames(3) == frames_text(3)
    assert processor.expand_frames(1) == "Frame 1: " + "<video>" * K


@pytest.mark.parametrize(
    ("task", "given", "message"),
    [
        ("rec", {"text": "the dog"}, "exactly one of video and image for task 'rec'"),
        ("rec", {"text": "the dog", "image": IMAGE, "video": VIDEO}, "exactly one of video and image"),
        ("rec", {"text": "the dog", "video": VIDEO}, "task 'rec' takes an image"),
        ("rsot", {"text": "the dog", "image": IMAGE}, "task 'rsot' takes a video"),
        ("rsot", {"video": VIDEO}, "task 'rsot' needs text, got None"),
        ("rsot", {"video": VIDEO, "text": "  "}, "task 'rsot' needs text, got '  '"),
        ("sot", {"video": VIDEO, "text": "the dog"}, "task 'sot' needs box, got None"),
        ("video_qa", {"video": VIDEO}, "task 'video_qa' needs question"),
        ("caption", {"video": VIDEO, "text": "x"}, "task must be one of rec, reg, sot, .*got 'caption'"),
        ("sot", {"video": VIDEO, "box_xyxy_norm": (10, 20, 50, 60)}, "box_xyxy_norm"),
    ],
)
def test_what_a_task_lacks_is_named(processor, task: str, given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        processor.build_messages(task, **given)


@pytest.mark.parametrize(
    "text", ["a {box} {0} }{", "50% of {text}", "[1,2,3,4]", "x: y", "ASSISTANT: none", "Frame 2"]
)
def test_a_users_words_stand_in_the_prompt_as_they_are(processor, text: str) -> None:
    ids = encode(processor, processor.build_messages("rsot", video=VIDEO, text=text))["input_ids"][0]
    assert processor.tokenizer.decode(ids).endswith(f"\nTrack {text} in the video. ASSISTANT:")
    assert (ids == processor.video_token_id).sum() == 3 * K


TYPED = ["<image>", "<video>", "<s>", "</s>", "<pad>", "<0x0A>", "<unk>"]


def typed_prompt(processor: ElysiumProcessor, token: str) -> str:
    """The words of a prompt that holds the token, and a check that no special token came of it."""
    content = [{"type": "video", "video": VIDEO}, {"type": "text", "text": f"a {token} sign"}]
    ids = encode(processor, [{"role": "user", "content": content}])["input_ids"][0]
    count = {"<s>": 1, "<video>": 3 * K}
    for special, number in zip(
        processor.tokenizer.all_special_tokens, processor.tokenizer.all_special_ids, strict=True
    ):
        assert (ids == number).sum() == count.get(special, 0), special
    return processor.tokenizer.decode(ids).split("<video>\n", 1)[1]


@pytest.mark.parametrize("token", TYPED)
def test_a_special_token_in_a_users_words_is_ordinary_text(processor, token: str) -> None:
    assert typed_prompt(processor, token) == f"a {token} sign ASSISTANT:"


def test_a_special_token_cannot_be_put_together_from_parts_or_with_the_mark(processor) -> None:
    parts = [{"type": "text", "text": text} for text in ("<im", "age>", f"<{MARK}/s>")]
    ids = encode(processor, [{"role": "user", "content": parts}])["input_ids"][0]
    assert processor.tokenizer.decode(ids).endswith("USER: <image></s> ASSISTANT:")
    assert not {processor.image_token_id, processor.tokenizer.eos_token_id} & set(ids.tolist())


@pytest.mark.parametrize("task", ["rsot", "video_qa"])
def test_special_tokens_may_stand_in_a_tasks_words_and_answers(processor, task: str) -> None:
    words = {"rsot": "text", "video_qa": "question"}[task]
    messages = processor.build_messages(task, video=VIDEO, **{words: "the </s> dog"}, answer="a <video> and </s>")
    batch = encode(processor, messages, add_generation_prompt=False, return_assistant_tokens_mask=True)
    ids, mask = batch["input_ids"][0], batch["assistant_masks"][0].bool()
    assert processor.tokenizer.decode(ids[mask]) == " a <video> and </s></s>"
    assert (ids == processor.tokenizer.eos_token_id).sum() == 1
    assert (ids == processor.video_token_id).sum() == 3 * K


def test_a_rendered_prompt_gives_the_same_tokens(processor) -> None:
    """As TRL and older code do it: the template first, then the processor."""
    messages = processor.build_messages("rsot", video=VIDEO, text="the <video> dog </s>")
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert processor(text=text, videos=[VIDEO])["input_ids"] == encode(processor, messages)["input_ids"].tolist()


@pytest.mark.parametrize("with_markup", [False, True])
def test_a_llama_tokenizer_reads_typed_tokens_as_text(with_markup: bool) -> None:
    """With a vocabulary whose merges could write `</s>`, the marks stay, as bytes; nothing else changes."""
    pieces = ["im", "ag", "imag", "image", "s>", "</", "▁t", "he", "▁the"]
    merges = [("i", "m"), ("a", "g"), ("im", "ag"), ("imag", "e"), ("s", ">"), ("<", "/"), ("▁", "t"), ("h", "e")]
    merges += [("▁t", "he")] + ([("</", "s>")] if with_markup else [])
    letters = [chr(code) for code in range(33, 127)] + ["▁"]
    vocabulary = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters, *pieces]
    tokenizer = LlamaTokenizer(vocab={piece: number for number, piece in enumerate(vocabulary)}, merges=merges)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", "<video>"]})
    before = tokenizer("the image\n<s>it", add_special_tokens=False)["input_ids"]
    plain = PlainText(tokenizer)
    assert tokenizer("the image\n<s>it", add_special_tokens=False)["input_ids"] == before
    for token in TYPED:
        ids = tokenizer(plain(f"the {token} the"), add_special_tokens=False)["input_ids"]
        assert not set(tokenizer.all_special_ids) & set(ids)
        assert tokenizer.decode(ids).replace(MARK, "") == f"the {token} the"
        assert with_markup or MARK not in tokenizer.decode(ids)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (["What is it?", "V"], "<video>\nWhat is it?"),
        (["V", "What is it?"], "<video>\nWhat is it?"),
        (["Compare.", "I", "I"], "<image>\n<image>\nCompare."),
        (["Here it is.", "I", "What is it?"], "<image>\nHere it is.\nWhat is it?"),
        (["See ", "I", "What is it?"], "<image>\nSee What is it?"),
        (["Look at this:", "I"], "<image>\nLook at this:"),
        (["Frame 1: ", "I", "\nTrack it."], "Frame 1: <image>\nTrack it."),
        (["Frame 1: ", "I", ", Frame 2: ", "I", "\nTrack it."], "Frame 1: <image>, Frame 2: <image>\nTrack it."),
        (["<0.5s>: ", "I", "Where?"], "<0.5s>: <image>\nWhere?"),
        (["One.", "I", "Two.", "I", "Which?"], "One.<image>\nTwo.<image>\nWhich?"),
    ],
)
def test_visuals_come_first_unless_they_are_labelled_or_interleaved(processor, content: list, expected: str) -> None:
    kinds = {"V": {"type": "video", "video": VIDEO}, "I": {"type": "image", "image": IMAGE}}
    parts = [kinds.get(item, {"type": "text", "text": item}) for item in content]
    messages = [{"role": "user", "content": parts}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == f"{SYSTEM}USER: {expected} ASSISTANT:"


VALUE = str(Path(__file__).parent.parent / "fixtures" / "media" / "cup.mp4")


@pytest.mark.parametrize("value", [VALUE, {"url": VALUE}])
def test_an_address_part_is_the_video(processor, value: Any) -> None:
    question = {"type": "text", "text": "q"}
    options = {"processor_kwargs": {"num_frames": 2}}
    found = encode(
        processor, [{"role": "user", "content": [{"type": "video_url", "video_url": value}, question]}], **options
    )
    plain = encode(processor, [{"role": "user", "content": [{"type": "video", "video": VALUE}, question]}], **options)
    assert torch.equal(found["input_ids"], plain["input_ids"])
    assert torch.equal(found["pixel_values_videos"], plain["pixel_values_videos"])


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"type": "clip", "clip": "a.mp4"}], "got 'clip' in message 1"),
        ([{"type": "audio", "audio": "a.wav"}], "got 'audio' in message 1"),
        ([{"type": "foo"}], "of type text, image, video, image_url or video_url, got 'foo'"),
        ([{"type": None, "text": "x"}], "got None in message 1"),
        (["words"], "a part of a message must be a dictionary with a type .*, got 'words'"),
        ([{"text": "words"}], "must be a dictionary with a type"),
        ([{"type": "text"}], "the text of a part must be a string, got None"),
        ([{"type": "text", "text": 3}], "the text of a part must be a string, got 3"),
        ([{"type": "video", "video": "a.mp4", "num_frames": 4}], "got num_frames in message 1; settings"),
        ([{"type": "video", "video": "a.mp4", "url": "b.mp4"}], "must have one source, got video and url"),
        ([{"type": "image_url", "image_url": {}}], "image_url must be .*, got {}"),
        (None, "content must be a text or a list of parts, got None in message 1"),
        (7, "content must be a text or a list of parts, got 7"),
    ],
)
def test_a_part_that_nothing_reads_is_refused_by_name(processor, messages: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        processor.apply_chat_template([{"role": "user", "content": messages}], tokenize=False)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], r"a conversation must be a list of messages, got \[\]"),
        ([{"role": "tool", "content": "x"}], "roles must be system .* got 'tool' in message 1"),
        (["hello"], "roles must be system .* got 'hello' in message 1"),
        ([{"role": "user", "content": "x"}, {"role": "system", "content": "y"}], "must be the first .* as message 2"),
        ([{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}], "tool_calls is not supported"),
        ([{"role": "assistant", "content": [{"type": "image", "image": IMAGE}]}], "'assistant' must hold text"),
        ([{"role": "system", "content": [{"type": "video", "video": VIDEO}]}], "'system' must hold text"),
    ],
)
def test_a_message_that_the_template_has_no_place_for_is_refused_by_name(
    processor, messages: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        processor.apply_chat_template(messages, tokenize=False)


def test_keys_that_are_none_are_left_out_as_datasets_fill_them_in(processor) -> None:
    filled = [
        {"type": "image", "image": IMAGE, "text": None, "url": None},
        {"type": "text", "text": "q", "image": None, "url": None},
    ]
    messages = [{"role": "user", "content": filled, "tool_calls": None}]
    plain = processor.build_messages("video_qa", image=IMAGE, question="q")
    assert torch.equal(encode(processor, messages)["input_ids"], encode(processor, plain)["input_ids"])


def test_a_conversation_is_not_changed(processor) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "a </s>"}, {"type": "text", "text": "b"}]}]
    before = copy.deepcopy(messages)
    processor.apply_chat_template(messages, tokenize=False)
    assert messages == before


def test_the_template_alone_refuses_what_it_does_not_know(processor) -> None:
    """As servers use it, which take the template and leave the processor."""
    for messages, name in (
        ([{"role": "user", "content": [{"type": "clip"}]}], "clip"),
        ([{"role": "assistant", "content": [{"type": "image"}]}], "image"),
        ([{"role": "user", "content": "x"}, {"role": "system", "content": "y"}], "system"),
    ):
        with pytest.raises(Exception, match=f"got .*'{name}'"):
            processor.tokenizer.apply_chat_template(messages, chat_template=processor.chat_template, tokenize=False)


def test_tokens_of_images_and_videos_are_counted_without_reading_them(processor) -> None:
    counts = processor._get_num_multimodal_tokens(image_sizes=[(5, 6)], video_sizes=[(4, 24, 40), (7, 1080, 1920)])
    assert (counts.num_image_tokens, counts.num_video_tokens) == ([K], [4 * K, 7 * K])


@pytest.mark.parametrize(
    ("text", "visuals", "message"),
    [
        (
            "USER: <video>",
            {"videos": [VIDEO, VIDEO]},
            "<video> tokens in the prompts should be the same as the number of videos, got 1 and 2",
        ),
        (
            "USER: <video><video>",
            {"videos": [VIDEO]},
            "<video> tokens in the prompts should be the same as the number of videos, got 2 and 1",
        ),
        ("USER: <video>", {}, "<video> tokens in the prompts should be the same as the number of videos, got 1 and 0"),
        (
            "USER: <image> <image>",
            {"images": [IMAGE]},
            "<image> tokens in the prompts should be the same as the number of images, got 2 and 1",
        ),
    ],
)
def test_placeholders_and_visuals_in_different_numbers_are_refused_with_both(
    processor, text, visuals, message
) -> None:
    with pytest.raises(ValueError, match=message):
        processor(text=text, **visuals)


def test_a_prompt_longer_than_the_context_is_refused_with_both_counts() -> None:
    processor = build_processor(tiny_config(), tiny_tokenizer())
    with pytest.raises(ValueError, match="at most 8192 tokens, the model's context, got 9[0-9]{3}"):
        encode(processor, processor.build_messages("video_qa", image=IMAGE, question="x " * 9000))


def test_answers_become_boxes_frame_by_frame(processor) -> None:
    (readings,) = processor.post_process_boxes("Frame 1: [1,2,30,40], Frame 2: none.", 3)
    assert [reading["status"] for reading in readings] == ["ok", "absent", "missing"]
    assert readings[0]["box_xyxy_norm"] == pytest.approx((0.015, 0.025, 0.305, 0.405))
    assert [reading["box_xyxy_norm"] for reading in readings[1:]] == [None, None]
    assert [reading["frame"] for reading in readings] == [1, 2, 3]


def test_a_batch_of_single_boxes_is_read_with_the_processors_rounding() -> None:
    processor = build_processor(tiny_config(box_rounding="round"), tiny_tokenizer())
    first, second = processor.post_process_boxes(["[10,20,50,100]", "no idea"])
    assert first[0]["box_xyxy_norm"] == pytest.approx((0.1, 0.2, 0.5, 1.0))
    assert (len(second), second[0]["box_xyxy_norm"]) == (1, None)
    assert second[0]["status"] != "ok"


def test_saving_and_loading_keeps_every_setting(tmp_path) -> None:
    processor = tiny_processor(box_rounding="round", allow_absent=False, num_kept_tokens=7)
    processor.tracking = {"zoom": 2.0, "absent_log_odds": 1.5}
    processor.task_prompts["rec"] = "Find {text}."
    processor.save_pretrained(tmp_path)
    for loaded in (ElysiumProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert type(loaded) is ElysiumProcessor
        for name in (
            "num_kept_tokens",
            "box_rounding",
            "allow_absent",
            "tracking",
            "task_prompts",
            "chat_template",
        ):
            assert getattr(loaded, name) == getattr(processor, name), name
        assert loaded.image_processor.size == processor.image_processor.size
        assert loaded.video_processor.size == processor.video_processor.size
        assert loaded.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
        assert loaded.tokenizer.padding_side == "left"
    messages = processor.build_messages("rec", image=IMAGE, text="the dog")
    assert torch.equal(encode(loaded, messages)["pixel_values"], encode(processor, messages)["pixel_values"])
    assert torch.equal(encode(loaded, messages)["input_ids"], encode(processor, messages)["input_ids"])


def test_only_prompts_that_differ_are_saved() -> None:
    processor = tiny_processor()
    assert "task_prompts" not in processor.to_dict()
    processor.task_prompts["rec"] = "Find {text}."
    assert processor.to_dict()["task_prompts"] == {"rec": "Find {text}."}


def test_prompts_of_unknown_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="must name tasks of rec, reg, .*, got count"):
        ElysiumProcessor(task_prompts={"count": "How many {text}?"})


def test_parts_of_the_wrong_kind_are_refused(processor) -> None:
    with pytest.raises(TypeError, match="video_processor must be a VideoProcessorMixin, got ElysiumImageProcessor"):
        ElysiumProcessor(processor.image_processor, processor.image_processor, processor.tokenizer)


def test_an_image_is_processed_like_a_frame(processor) -> None:
    image = encode(processor, processor.build_messages("rec", image=Image.fromarray(IMAGE), text="x"))["pixel_values"]
    video = encode(processor, processor.build_messages("rsot", video=VIDEO[:1], text="x"))["pixel_values_videos"]
    assert torch.equal(image, video)


def test_nothing_imports_torchvision() -> None:
    code = (
        "import sys\n"
        "sys.modules['torchvision'] = None\n"  # importing it raises, as where it is not installed
        "sys.path.insert(0, 'tests')\n"
        "import numpy as np, tiny\n"
        "p = tiny.tiny_processor()\n"
        "m = p.build_messages('rsot', video=np.zeros((2, 8, 8, 3), np.uint8), text='x')\n"
        "b = p.apply_chat_template(m, tokenize=True, return_dict=True, return_tensors='pt')\n"
        "print(tuple(b['pixel_values_videos'].shape))\n"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, cwd=root)
    assert done.stdout.strip() == "(2, 3, 32, 32)", done.stderr[-2000:]
