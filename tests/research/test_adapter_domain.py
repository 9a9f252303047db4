"""The comparison of base and adapter, by hand; the training itself is tests/training/test_trl_sft_command.py."""

import numpy as np
import pytest

from elysium.processing.structures import VideoClip
from research.adapters.adapter_domain import CLIP_SEEDS, TRAINING_CLIPS, TRAINING_SEEDS, Target, compare


def test_the_interval_of_a_constant_gain_is_that_gain() -> None:
    base = np.array([0.1, 0.5, 0.3, 0.7])
    found = compare(base, base + 0.2)
    assert (found["base"], found["adapter"], found["difference"]) == (0.4, 0.6, 0.2)
    assert found["interval_95"] == [0.2, 0.2]
    assert (found["clips_better"], found["clips_worse"]) == (4, 0)


def test_the_interval_of_noise_holds_zero_and_has_the_width_of_the_normal_one() -> None:
    rng = np.random.default_rng(1)
    base, noise = rng.uniform(0.3, 0.7, 400), rng.normal(0, 0.1, 400)
    low, high = compare(base, base + noise - noise.mean())["interval_95"]
    assert low < 0 < high
    assert high - low == pytest.approx(2 * 1.96 * 0.1 / np.sqrt(400), rel=0.1)


def test_a_clip_counts_the_frames_in_which_the_target_can_be_seen() -> None:
    true = np.array([[0, 0, 2, 2], [0, 0, 2, 2], [np.nan] * 4, [4, 4, 6, 6]])
    target = Target(VideoClip.from_frames(np.zeros((4, 8, 8, 3), np.uint8), fps=10.0), "the hot ring", true)
    found = np.array([[0, 0, 2, 2], [0, 0, 2, 1], [0, 0, 2, 2], [np.nan] * 4])
    assert target.mean_iou(found, first=0) == pytest.approx((1 + 0.5 + 0) / 3)
    assert target.mean_iou(found, first=1) == pytest.approx((0.5 + 0) / 2)


def test_training_shares_no_bank_and_no_scene_with_the_clips_that_are_tracked() -> None:
    worlds = [TRAINING_SEEDS[0], *(world for world, _ in CLIP_SEEDS.values())]
    assert len(set(worlds)) == 3
    assert all(first > TRAINING_SEEDS[1] + TRAINING_CLIPS for _, first in CLIP_SEEDS.values())
