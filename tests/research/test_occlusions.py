"""Targets of the occlusion cases are covered and come back, or are gone; tracks are scored as by hand."""

from itertools import islice

import numpy as np
import pytest

from elysium.processing.structures import VideoClip
from research.occlusions import AFTER, BEFORE, COVERED, WORLD_SEEDS, Case, case_figures, draw_cases
from research.scenes.sprite_bank import SpriteBank, normalise_sprite
from research.tracking_table.clips import Clip

NOTHING, BOX = [np.nan] * 4, [0.0, 0, 4, 4]


@pytest.fixture(scope="module")
def bank():
    """Squares of 60 names, some nameless, and two grounds."""
    rng = np.random.default_rng(0)
    names = [f"thing {chr(97 + n)}{chr(97 + m)}" for n in range(6) for m in range(10)] * 2 + [""] * 40
    sprites = np.stack(
        [normalise_sprite(np.dstack([np.full((80, 80, 3), rng.integers(0, 255, 3)), np.full((80, 80), 255)])
                          .astype(np.uint8)) for _ in names]
    )  # fmt: skip
    grounds = [rng.integers(0, 255, (300, 400, 3), np.uint8) for _ in range(10)]
    keys = [f"key {n}" for n in range(len(names))]
    return SpriteBank(sprites, names, keys, grounds, [f"ground {n}" for n in range(10)])


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_target_is_in_view_then_covered_and_then_back_or_gone(bank, comes_back):
    for case in islice(draw_cases(bank, WORLD_SEEDS["selection"], comes_back=comes_back), 3):
        visible = case.clip.visible
        covered = int(np.flatnonzero(~visible)[0])
        assert covered >= BEFORE and visible[:covered].all() and not visible[covered : case.back].any()
        assert COVERED[0] <= case.back - covered <= COVERED[1]
        assert len(visible) == case.back + AFTER
        assert visible[case.back :].all() if comes_back else not visible[case.back :].any()


def test_other_seeds_give_other_cases_and_the_same_seed_the_same(bank):
    first, again, other = (
        next(draw_cases(bank, WORLD_SEEDS[split], comes_back=True)).clip.video.frames
        for split in ("selection", "selection", "headline")
    )
    assert (first == again).all() and (first[0] != other[0]).any()


def case_of(boxes, back):
    video = VideoClip.from_frames(np.zeros((len(boxes), 8, 8, 3), np.uint8), fps=10)
    return Case(Clip("case", video, np.array(boxes, float), None), back)


def test_a_track_is_scored_by_when_it_is_right_again():
    case = case_of([BOX, NOTHING, NOTHING, *[BOX] * 12], back=3)
    track = np.array([BOX, BOX, NOTHING, *[NOTHING] * 6, *[BOX] * 6])
    figures = case_figures(case, track)
    assert (figures["found_within_5"], figures["found_within_10"], figures["found_within_30"]) == (0, 1, 1)
    assert figures["falsely_absent_after"] == figures["mean_iou_after"] == figures["wrong_boxes_covered"] == 0.5
    never = case_figures(case, np.array([NOTHING] * 15))
    assert never["found_within_30"] == 0 and never["falsely_absent_after"] == 1


def test_boxes_on_a_target_that_is_gone_are_wrong():
    figures = case_figures(case_of([BOX, NOTHING, NOTHING, NOTHING, NOTHING], 2), np.array([BOX] * 2 + [NOTHING] * 3))
    assert figures == {"wrong_boxes_gone": 0.25}
