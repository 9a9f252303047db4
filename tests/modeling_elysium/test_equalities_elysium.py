"""Ways of computing that must agree, float32 within 1e-5, for images, videos, and batches of both."""

import copy

import pytest
import torch
from tiny import tiny_model, tiny_processor
from tiny_prompts import ask, pictures, ragged
from torch.testing import assert_close

WITHIN = {"atol": 1e-5, "rtol": 0.0}


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


@pytest.fixture(scope="module", params=["images", "videos", "mixture"])
def conversations(request, processor) -> list[list[dict]]:
    """Conversations of several lengths; a mixture also within one of them, and words alone."""
    build = processor.build_messages
    if request.param == "mixture":
        content = [
            {"type": "image", "image": pictures(1, 5)[0]},
            {"type": "video", "video": pictures(2, 6)},
            {"type": "text", "text": "Is the first in the second?"},
        ]
        return [*ragged(processor), [{"role": "user", "content": content}]]
    if request.param == "images":
        texts = ("the dog", "the small red car on the left", "a cat")
        return [build("rec", image=pictures(1, n)[0], text=text) for n, text in enumerate(texts)]
    return [build("rsot", video=pictures(n, n), text="the red car") for n in (1, 4, 2)]


@pytest.fixture(scope="module")
def batch(processor, conversations) -> dict[str, torch.Tensor]:
    return ask(processor, *conversations)


def positions(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Places of tokens without the padding before them."""
    return (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)


@torch.no_grad()
def test_a_left_padded_batch_equals_each_conversation_alone(model, processor, conversations, batch) -> None:
    together = model(**batch, position_ids=positions(batch)).logits
    for row, conversation in enumerate(conversations):
        alone = model(**ask(processor, conversation)).logits[0]
        assert_close(together[row, -len(alone) :], alone, **WITHIN)


@torch.no_grad()
def test_a_batch_generates_what_each_conversation_alone_does(model, processor, conversations, batch) -> None:
    options = {"max_new_tokens": 6, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    together = model.generate(**batch, **options)
    prompt = batch["input_ids"].shape[1]
    for row, conversation in enumerate(conversations):
        inputs = ask(processor, conversation)
        alone = model.generate(**inputs, **options)
        answer = alone.sequences[0, inputs["input_ids"].shape[1] :]
        assert torch.equal(answer, together.sequences[row, prompt : prompt + len(answer)])
        for step, logits in enumerate(alone.logits):
            assert_close(logits[0], together.logits[step][row], **WITHIN)


@torch.no_grad()
def test_a_cache_equals_no_cache(model, batch) -> None:
    places, cut = positions(batch), batch["input_ids"].shape[1] - 4
    whole = model(**batch, position_ids=places, use_cache=False).logits
    texts = ("input_ids", "attention_mask")
    head = {name: value[:, :cut] if name in texts else value for name, value in batch.items()}
    first = model(**head, position_ids=places[:, :cut], use_cache=True)
    rest = model(
        input_ids=batch["input_ids"][:, cut:],
        attention_mask=batch["attention_mask"],
        position_ids=places[:, cut:],
        past_key_values=first.past_key_values,
    )
    real = batch["attention_mask"].bool()
    assert_close(first.logits[real[:, :cut]], whole[:, :cut][real[:, :cut]], **WITHIN)
    assert_close(rest.logits, whole[:, cut:], **WITHIN)


@torch.no_grad()
def test_sdpa_equals_eager(model, batch) -> None:
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    assert (model.config._attn_implementation, eager.config._attn_implementation) == ("sdpa", "eager")
    real = batch["attention_mask"].bool()
    assert_close(eager(**batch).logits[real], model(**batch).logits[real], **WITHIN)
