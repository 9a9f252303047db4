"""Batches for training: what is in them, and what happens to items that cannot be read."""

import re

import numpy as np
import torch
from tiny import tiny_model, tiny_processor

from elysium.processing.prompts_elysium import TASKS
from elysium.readers.frame_sources import DatasetError
from elysium.readers.samples import Sample, SampleList
from elysium.training.collator import IGNORE, ElysiumCollator, box_coverage
from elysium.training.mixture import mix
from elysium.training.sampling import DrawPlan
from elysium.training.synthetic.synthetic_samples import ArrayFrames

KEPT, GRID = 5, 4


def make_row(entry):
    """Entry n is a clip of n frames (one is a picture); below 0 is broken in a way of its own."""
    if entry == -1:
        raise DatasetError("a picture must open, got nothing in a.jpg; get it again")
    if entry == -2:
        raise OSError("disk on fire")
    boxes = np.tile([0.2, 0.2, 0.6, 0.7], (entry, 1))
    pictures = np.random.default_rng(entry).integers(0, 255, (entry, 24, 32, 3), np.uint8)
    return Sample(
        source="rows", key=str(entry), frames=ArrayFrames(pictures), boxes_xyxy_norm=boxes, text="it", description="it"
    )


def collate(entries, *, plan=None, **options):
    mixture = mix([SampleList("rows", entries, make_row)])
    options = {"max_length": None, "patches": GRID} | options
    collator = ElysiumCollator(mixture, tiny_processor(), plan or DrawPlan(max_interval=1), **options)
    return collator(sorted(mixture.dataset, key=lambda item: item["index"]))


def test_images_and_videos_of_any_length_make_one_batch_that_the_model_takes():
    batch = collate([1, 6, 3, 1])
    processor, model = tiny_processor(), tiny_model()
    num_frames = int((batch["input_ids"] == processor.video_token_id).sum()) // KEPT
    assert batch["pixel_values"].shape[0] == 2 + sum(
        list(TASKS)[task] in ("rec", "reg") for task in batch["task_ids"][1:3].tolist()
    )
    assert batch["pixel_values_videos"].shape[0] == num_frames
    assert batch["patch_targets"].shape == (len(batch["pixel_values"]) + num_frames, GRID * GRID)
    known = {"input_ids", "attention_mask", "labels", "pixel_values", "pixel_values_videos"}
    loss = model(**{name: batch[name] for name in known}).loss
    assert torch.isfinite(loss)
    assert batch["dropped"] == []


def test_labels_are_the_answers_and_their_end_alone():
    batch = collate([4], plan=DrawPlan(tasks={"sot": 1.0}, min_frames=4, max_frames=4, max_interval=1))
    tokenizer = tiny_processor().tokenizer
    told = batch["labels"][0][batch["labels"][0] != IGNORE]
    text = tokenizer.decode(told, skip_special_tokens=False)
    answer = ", ".join(f"Frame {n}: [20,20,60,70]" for n in range(1, 5))
    assert text.replace("</s>", "").strip().startswith(answer + ".")
    assert told[-1] == tokenizer.eos_token_id
    assert (batch["attention_mask"].sum() == batch["input_ids"].shape[1]).all()


def test_what_cannot_be_read_is_left_out_and_named():
    batch = collate([3, -1, -2, 2])
    assert batch["input_ids"].shape[0] == 2
    first, second = batch["dropped"]
    assert (first.reason, first.where) == ("a picture must open", "item 1 of source 0")
    assert (second.reason, second.detail) == ("OSError", "disk on fire")


def test_a_batch_of_broken_items_is_a_black_frame_without_labels():
    batch = collate([-1, -1])
    assert len(batch["dropped"]) == 2
    assert (batch["labels"] == IGNORE).all()
    assert batch["pixel_values_videos"].shape[0] == 1
    assert batch["patch_targets"].isnan().all()


def test_an_example_that_is_too_long_is_never_cut():
    plan = DrawPlan(tasks={"sot": 1.0}, min_frames=8, max_frames=8, max_interval=1)
    batch = collate([8, 2], plan=plan, max_length=150)
    (dropped,) = batch["dropped"]
    assert dropped.reason == "an example must have at most max_length (150) tokens"
    assert re.search("got .* with 8 frames in rows/8; raise max_length", dropped.detail)
    assert batch["input_ids"].shape[0] == 1


def test_patches_know_how_much_of_them_a_box_covers():
    # A box from 0.25 to 0.5 covers the second column whole; 0.5 to 0.875 the third row whole and half of the fourth.
    covered = box_coverage(np.array([[0.25, 0.5, 0.5, 0.875], [np.nan] * 4]), 2, 4).reshape(2, 4, 4)
    assert covered[0, 2].tolist() == [0, 1, 0, 0] and covered[0, 3].tolist() == [0, 0.5, 0, 0]
    assert covered[0, :2].sum() == 0 and np.isnan(covered[1]).all()
    assert np.isnan(box_coverage(None, 3, 2)).all()


def test_copies_of_a_row_give_other_examples_and_the_same_ones_again():
    mixture = mix([SampleList("rows", [60], make_row)], at_least=6)
    collator = ElysiumCollator(mixture, tiny_processor(), DrawPlan(max_interval=5), max_length=None, patches=GRID)
    batch = collator(list(mixture.dataset))
    assert len({tuple(row.tolist()) for row in batch["input_ids"]}) > 3
    assert torch.equal(collator(list(mixture.dataset))["input_ids"], batch["input_ids"])
