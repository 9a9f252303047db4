"""Fast decoding against the reference on many windows: alone, packed, batched, read ahead, with bad drafts.

Called by `python -m benchmarks.decoding equality`. The reference is `generate` under the grammar, in batches.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.decoding_models import MovingScene, smol_elysium
from elysium.modeling_elysium.box_drafting_elysium import AnswerWriter
from elysium.tracking.answering import Answerer
from elysium.tracking.loading import load_checkpoint
from elysium.tracking.windows import WindowPlan, WindowRequest

BATCH = 32
WORDS = ("the red square", "a dog", "the large blue circle", "the thing on the left")
WAYS = ("alone", "batched", "bad drafts", "long drafts", "short drafts", "read ahead")


def windows(count: int, seed: int) -> Iterator[WindowRequest]:
    """Windows of 1 to 8 frames, four objects asked for in each: by box, or by words."""
    rng = random.Random(seed)
    for number in range(-(-count // 4)):
        length = 8 if number % 4 else rng.randint(1, 7)
        scene = MovingScene.make(4, length, seed=seed + number, width=96, height=72)
        frames = tuple(scene.video_frames)
        for each in range(4):
            by_box = rng.random() < 0.7
            box = tuple(scene.boxes_xyxy_norm[each, 0].tolist()) if by_box else None
            plan = WindowPlan("box" if by_box else "text", None, 0, length)
            task, words = ("sot", None) if by_box else ("rsot", WORDS[each])
            yield WindowRequest(task, frames, words, box, plan, (None,) * len(frames))  # type: ignore[arg-type]


def compare(model: Any, processor: Any, count: int, seed: int, *, exact: Any = None) -> dict[str, Any]:
    """How many of the windows get other tokens than by the reference, in turns by every way.

    Args:
        exact: the model in float32, for a model that rounds; it says how far apart the two tokens' logits are where
            answers differ. In float32, too, two that are a rounding apart may change places between batch and row.
    """
    exact = model if exact is None else exact
    reference = Answerer(model, processor, batch_size=BATCH, decoding="reference")
    fast = Answerer(model, processor, batch_size=4)
    rng = random.Random(seed)
    asked = list(windows(count, seed))
    record: dict[str, Any] = {"windows": len(asked), "different": 0, "tokens": 0, "tokens_until_a_difference": 0}
    largest, margins = 0.0, []
    for start in range(0, len(asked), BATCH):
        batch = asked[start : start + BATCH]
        wanted = reference.answer_windows(batch)
        found = answer_in_a_way(fast, batch, WAYS[start // BATCH % len(WAYS)], rng)
        for request, (answer, _, scores), (other, _, expected) in zip(batch, found, wanted, strict=True):
            own, theirs = ([each.text[slice(*span)] for span in each.token_spans] for each in (answer, other))
            agreed = next((n for n, pair in enumerate(zip(own, theirs, strict=False)) if pair[0] != pair[1]), len(own))
            record["different"] += own != theirs
            record["tokens"] += len(theirs)
            record["tokens_until_a_difference"] += agreed
            if own != theirs:
                margins.append(
                    margin(exact, processor, reference.window_conversation(request), (answer, other), agreed)
                )
            if answer.text == other.text:
                largest = max(largest, float(np.nanmax(np.abs(np.subtract(scores, expected)), initial=0.0)))
    counts = fast._reader.decoder.counts  # type: ignore[union-attr]
    # Behind a difference answers go their own ways: what is counted is how often a token differs behind equal ones.
    compared = record["tokens_until_a_difference"] + record["different"]
    record["agreement_behind_equal_tokens"] = round(record["tokens_until_a_difference"] / max(1, compared), 5)
    if margins:
        record |= {"margin_median": float(np.median(margins)), "margin_largest": float(np.max(margins))}
    return record | {"largest_score_difference": largest, "acceptance": round(counts.acceptance, 3)}


@torch.no_grad()
def margin(exact: Any, processor: Any, conversation: Any, answers: tuple[Any, Any], place: int) -> float:
    """How far apart the logits of two answers' tokens are at the first place where they differ."""
    prompt = processor.apply_chat_template(
        [conversation], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    texts = [answer.text[: answer.token_spans[place][1]] for answer in answers]
    one, other = (processor.tokenizer.encode(text, add_special_tokens=False) for text in texts)
    if one[:-1] != other[:-1]:
        raise ValueError(f"answers must have the same tokens before the first that differs, got {texts}")
    ids = torch.cat([prompt["input_ids"], torch.tensor([one[:-1]], dtype=torch.long)], dim=1)
    seen = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    logits = exact(**seen, pixel_values_videos=prompt["pixel_values_videos"]).logits[0, -1]
    return float((logits[one[-1]] - logits[other[-1]]).abs())


def answer_in_a_way(fast: Answerer, batch: list[WindowRequest], way: str, rng: random.Random) -> list[Any]:
    """Answers windows by fast decoding with what a way changes."""
    reader = fast._reader
    assert reader is not None
    free, fast.batch_size = reader.decoder.free_tokens, {"alone": 1, "batched": 16}.get(way, 4)
    reader.decoder.free_tokens = {"long drafts": 10**6, "short drafts": 0}.get(way, free)

    def bad(*_: Any) -> Any:
        return None if rng.random() < 0.1 else tuple(rng.uniform(-50, 150) for _ in range(4))

    try:
        if way == "bad drafts":
            with patch.object(AnswerWriter, "_target", bad):
                return fast.answer_windows(batch)
        upcoming = [request.frames for request in batch[4:8]] if way == "read ahead" else ()
        return fast.answer_windows(batch, upcoming=upcoming)
    finally:
        reader.decoder.free_tokens = free


def check_equality(count: int, smol: Path | None) -> dict[str, Any]:
    """The shipped checkpoint, it in bfloat16, random weights, and the 135M model (a hundredth of the windows)."""
    model, processor = load_checkpoint("elysium-tiny", device="cpu")
    record = {"tiny": compare(model, processor, count, seed=0)}
    print("tiny", record["tiny"], flush=True)
    half, _ = load_checkpoint("elysium-tiny", device="cpu", dtype="bfloat16")
    record["tiny_bfloat16"] = compare(half, processor, max(4, count // 5), seed=2, exact=model)
    print("tiny_bfloat16", record["tiny_bfloat16"], flush=True)
    torch.manual_seed(0)
    shaken = type(model)(model.config).eval()
    shaken.lm_head.weight.data *= 20
    record["random"] = compare(shaken, processor, count, seed=1)
    print("random", record["random"], flush=True)
    digits, own = smol_elysium(smol)
    record["135m"] = compare(digits, own, max(4, count // 100), seed=3)
    print("135m", record["135m"], flush=True)
    return record
