"""Fast decoding against the reference on many windows: alone, packed, batched, read ahead, with bad drafts.

Called by `python -m benchmarks.decoding equality` and `tracked-equality`. The reference is `generate` under the
grammar, in batches.
"""

import itertools
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.decoding_models import MovingScene, smol_elysium
from elysium.evaluation.resumable import JsonLog
from elysium.modeling_elysium.box_drafting_elysium import AnswerWriter
from elysium.tracking.answering import Answerer, image_side, square
from elysium.tracking.loading import load_checkpoint
from elysium.tracking.tracker import Tracker
from elysium.tracking.windows import WindowPlan, WindowRequest
from research.tracking_table.clips import REAL_CLIPS, read_real_clip

BATCH = 32
TRACKED_FRAMES = 64
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


class Comparison:
    """Count how often windows get other tokens than by the reference.

    Args:
        reference: answers by `generate` under the grammar.
        exact: the model in float32; it says how far apart the two tokens' logits are where answers differ. In float32,
            too, two that are a rounding apart may change places between batch and row.
    """

    def __init__(self, reference: Answerer, exact: Any) -> None:
        self.reference, self.exact = reference, exact
        self.counts = {"windows": 0, "different": 0, "tokens": 0, "tokens_until_a_difference": 0}
        self.largest = {"score": 0.0, "box_norm": 0.0}
        self.margins: list[float] = []

    def add(self, requests: Sequence[WindowRequest], found: Sequence[Any]) -> None:
        """Compare what fast decoding found for windows."""
        wanted = self.reference.answer_windows(requests)
        for request, one, other in zip(requests, found, wanted, strict=True):
            own, theirs = ([each[0].text[slice(*span)] for span in each[0].token_spans] for each in (one, other))
            agreed = next((n for n, pair in enumerate(zip(own, theirs, strict=False)) if pair[0] != pair[1]), len(own))
            self.counts["windows"] += 1
            self.counts["different"] += own != theirs
            self.counts["tokens"] += len(theirs)
            self.counts["tokens_until_a_difference"] += agreed
            if own == theirs:
                self._note("score", one[2], other[2])
            else:
                self.margins.append(margin(self.exact, self.reference, request, (one[0], other[0]), agreed))
                boxes = [[box.box_xyxy_norm or (np.nan,) * 4 for box in parsed] for _, parsed, _ in (one, other)]
                self._note("box_norm", *boxes)

    def _note(self, name: str, one: Any, other: Any) -> None:
        difference = float(np.nanmax(np.abs(np.subtract(one, other)), initial=0.0))
        self.largest[name] = max(self.largest[name], difference)

    def record(self) -> dict[str, Any]:
        """Return the counts and the largest differences."""
        # Behind a difference answers go their own ways: what counts is how often a token differs behind equal ones.
        agreed = self.counts["tokens_until_a_difference"]
        share = round(agreed / max(1, agreed + self.counts["different"]), 5)
        found = self.counts | {"agreement_behind_equal_tokens": share}
        if self.margins:
            found |= {"margin_median": float(np.median(self.margins)), "margin_largest": float(np.max(self.margins))}
            found |= {"largest_box_difference": self.largest["box_norm"]}
        return found | {"largest_score_difference": self.largest["score"]}


def compare(model: Any, processor: Any, count: int, seed: int, *, exact: Any = None) -> dict[str, Any]:
    """How many of the windows get other tokens than by the reference, in turns by every way.

    Args:
        exact: the model in float32, for a model that rounds.
    """
    reference = Answerer(model, processor, batch_size=BATCH, decoding="reference")
    comparison = Comparison(reference, model if exact is None else exact)
    fast = Answerer(model, processor, batch_size=4)
    rng = random.Random(seed)
    asked = list(windows(count, seed))
    for start in range(0, len(asked), BATCH):
        batch = asked[start : start + BATCH]
        comparison.add(batch, answer_in_a_way(fast, batch, WAYS[start // BATCH % len(WAYS)], rng))
    counts = fast._reader.decoder.counts  # type: ignore[union-attr]
    return comparison.record() | {"acceptance": round(counts.acceptance, 3)}


class ComparedAnswerer(Answerer):
    """Answer windows fast, and let a comparison answer each of them again."""

    comparison: Comparison

    def answer_windows(self, requests: Sequence[WindowRequest], **ahead: Any) -> list[Any]:
        """Return the answers of fast decoding."""
        found = super().answer_windows(requests, **ahead)
        self.comparison.add(requests, found)
        return found


def tracked_items() -> Iterator[tuple[str, Any, Any]]:
    """Key, frames and prompt: real clips by box and by words, then objects that move over a still background."""
    entries = json.loads((REAL_CLIPS / "index.json").read_text("utf-8"))["clips"]
    for entry in entries:
        clip = read_real_clip(entry)
        frames = clip.video.frames[:TRACKED_FRAMES].copy()
        yield f"{entry['name']} by box", frames, clip.first_box_xyxy_px
        yield f"{entry['name']} by words", frames, entry["words"]
    for seed in itertools.count():
        scene = MovingScene.make(1, TRACKED_FRAMES, seed=seed)
        yield f"scene {seed}", scene.frames, scene.first_boxes_px()[0]


def compare_tracking(model: str, count: int, log: JsonLog) -> dict[str, Any]:
    """Track eight clips at once with the checkpoint's own options until so many windows are compared.

    Every pass over a window counts. Fast decoding leads: both get the same crops and boxes. Clips that the log holds
    are not tracked again.
    """
    loaded, processor = load_checkpoint(model, device="cpu")
    tracker = Tracker(loaded, processor)
    tracker._answerer = answerer = ComparedAnswerer(loaded, processor)
    reference = Answerer(loaded, processor, decoding="reference")
    rows = log.read()
    finished = {key for row in rows for key in row["clips"]}
    items = (item for item in tracked_items() if item[0] not in finished)
    while sum(row["windows"] for row in rows) < count:
        batch = list(itertools.islice(items, 8))
        answerer.comparison = Comparison(reference, loaded)
        tracker.track_many([(iter(frames), prompt) for _, frames, prompt in batch], fps=10)
        rows.append({"clips": [key for key, _, _ in batch]} | answerer.comparison.record())
        log.append(rows[-1:])
        print(rows[-1], flush=True)
    sums = {name: sum(row[name] for row in rows) for name in ("windows", "different", "tokens")}
    worst = ("margin_largest", "largest_box_difference", "largest_score_difference")
    return {"model": model} | sums | {name: max(row.get(name, 0.0) for row in rows) for name in worst}


@torch.no_grad()
def margin(exact: Any, reference: Answerer, request: WindowRequest, answers: tuple[Any, Any], place: int) -> float:
    """How far apart the logits of two answers' tokens are at the first place where they differ."""
    processor = reference.processor
    prompt = processor.apply_chat_template(
        [reference.window_conversation(request)],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"size": square(image_side(exact, request.semantic))},
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
