"""The processor: what a prompt looks like, what a user's words may hold, and how answers are read."""

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
from transformers import AutoProcessor, BatchFeature
from transformers.video_utils import VideoMetadata

from elysium.processing.build_processor import build_processor
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


@pytest.mark.parametrize("content", ["Be brief.", [{"type": "text", "text": "Be brief."}]])
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


def test_seconds_of_the_video_may_stand_before_a_frame() -> None:
    processor = tiny_processor()
    processor.frame_label = "seconds"
    metadata = VideoMetadata(total_num_frames=30, fps=10.0, frames_indices=[0, 5, 12])
    messages = processor.build_messages("rsot", video=VIDEO, text="the dog")
    ids = encode(processor, messages, processor_kwargs={"video_metadata": [metadata]})["input_ids"][0]
    spread = ", ".join(f"<{second}s>: " + "<video>" * K for second in ("0.0", "0.5", "1.2"))
    assert processor.tokenizer.decode(ids) == f"{SYSTEM}USER: {spread}\nTrack the dog in the video. ASSISTANT:"


def test_seconds_without_a_frame_rate_say_what_is_missing() -> None:
    processor = tiny_processor()
    processor.frame_label = "seconds"
    with pytest.raises(ValueError, match="frame_label 'seconds' needs each video's frame rate, got none; pass"):
        encode(processor, processor.build_messages("rsot", video=VIDEO, text="the dog"))


def test_an_unknown_frame_label_is_refused(processor) -> None:
    with pytest.raises(ValueError, match=r"frame_label must be one of \('index', 'seconds'\), got 'minutes'"):
        ElysiumProcessor(
            processor.image_processor, processor.video_processor, processor.tokenizer, frame_label="minutes"
        )


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


@pytest.mark.parametrize("token", ["<image>", "<video>", "<s>", "</s>", "<pad>"])
@pytest.mark.parametrize("task", ["rsot", "video_qa"])
def test_special_tokens_in_a_users_words_are_refused(processor, task: str, token: str) -> None:
    words = {"rsot": "text", "video_qa": "question"}[task]
    with pytest.raises(ValueError, match=f"must not hold special tokens, got {token} in 'the {token} dog'"):
        processor.build_messages(task, video=VIDEO, **{words: f"the {token} dog"})


@pytest.mark.parametrize("token", ["<image>", "<video>"])
def test_a_placeholder_typed_into_a_message_never_takes_a_pictures_place(processor, token: str) -> None:
    content = [{"type": "video", "video": VIDEO}, {"type": "text", "text": f"an {token} sign"}]
    with pytest.raises(ValueError, match=f"{token} tokens in"):
        encode(processor, [{"role": "user", "content": content}])


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
    processor.frame_label = "seconds"
    processor.absent_log_odds, processor.tracking_zoom = 1.5, 2.0
    processor.task_prompts["rec"] = "Find {text}."
    processor.save_pretrained(tmp_path)
    for loaded in (ElysiumProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert type(loaded) is ElysiumProcessor
        for name in (
            "num_kept_tokens",
            "box_rounding",
            "allow_absent",
            "absent_log_odds",
            "tracking_zoom",
            "frame_label",
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
