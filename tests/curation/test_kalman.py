"""The filter lets steady motion pass and says where a trajectory jumps; its figures are as worked by hand."""

import math
from functools import partial

import numpy as np
import pytest

from elysium.curation import drift_step
from elysium.curation.drift_step import ACCELERATION, MEASURED, VELOCITY, box_measures, chi_square_gate
from elysium.curation.video_records import Trajectory

GATE = chi_square_gate(1e-4)
drift = partial(drift_step.drift, gate=GATE)


def trajectory(boxes, frames=None):
    boxes = np.asarray(boxes, dtype=float)
    return Trajectory(np.arange(len(boxes)) if frames is None else np.array(frames), boxes, np.ones(len(boxes)))


def moving(num_frames=24, step=(0.01, 0.005), growth=1.01):
    """A box of 0.2 x 0.1 that moves and grows steadily."""
    centre = np.array([0.2, 0.3]) + np.arange(num_frames)[:, None] * step
    half = np.array([0.1, 0.05]) * growth ** np.arange(num_frames)[:, None]
    return np.concatenate([centre - half, centre + half], axis=1)


def test_the_second_statistic_is_as_worked_by_hand():
    # The second box is a tenth of its width to the right, the rest is the same.
    boxes = [[0.2, 0.2, 0.4, 0.4], [0.22, 0.2, 0.42, 0.4]]
    measured, velocity, acceleration = (part[0] for part in (MEASURED, VELOCITY, ACCELERATION))
    variance = measured**2 + velocity**2 + acceleration**2 / 3 + measured**2
    test = drift(trajectory(boxes))
    assert math.isnan(test.statistic[0])
    assert test.statistic[1] == pytest.approx(0.1**2 / variance)
    assert test.largest == test.statistic[1]


def test_steady_motion_passes_and_is_learnt():
    test = drift(trajectory(moving()))
    assert test.first_bad_frame is None
    assert (test.statistic[5:] < 0.1).all() and test.statistic[1] > test.statistic[5]


@pytest.mark.parametrize("places", [range(10, 24), [10]])
def test_a_jump_is_found_in_its_first_frame(places):
    boxes = moving()
    boxes[list(places)] += [0.3, 0.2, 0.3, 0.2]
    test = drift(trajectory(boxes))
    assert test.first_bad_frame == 10 and test.statistic[10] > GATE
    assert np.isnan(test.statistic[11:]).all()


def test_a_box_that_is_suddenly_twice_as_large_is_found():
    boxes = moving(growth=1.0)
    boxes[12:] += np.array([-1, -1, 1, 1]) * 0.08
    assert drift(trajectory(boxes)).first_bad_frame == 12


def test_a_jump_is_the_same_in_a_small_picture_and_for_a_small_object():
    boxes = moving(growth=1.0, step=(0.002, 0.001))
    boxes[12:] += [0.1, 0.05, 0.1, 0.05]
    large, small = drift(trajectory(boxes)), drift(trajectory(boxes / 4))
    assert large.statistic[1:12] == pytest.approx(small.statistic[1:12])
    assert large.first_bad_frame == small.first_bad_frame


def test_frames_without_a_box_are_bridged_and_frame_numbers_count():
    boxes = moving()
    boxes[8:14] = np.nan
    test = drift(trajectory(boxes))
    assert test.first_bad_frame is None and np.isnan(test.statistic[8:14]).all() and test.statistic[14] < 1
    # Every fourth frame only, four times the step: as good where the numbers say so.
    apart = drift(trajectory(moving()[::4], frames=range(0, 24, 4)))
    assert apart.first_bad_frame is None


def test_the_same_step_is_more_likely_after_a_longer_gap():
    step = [moving()[0], moving()[0] + 0.15]
    near, far = (drift(trajectory(step, frames=[0, gap])).statistic[1] for gap in (1, 5))
    assert far < near / 5


@pytest.mark.parametrize("boxes", [np.zeros((0, 4)), np.full((5, 4), np.nan), [[0.1, 0.1, 0.1, 0.2]] * 3])
def test_a_trajectory_without_boxes_has_nothing_bad(boxes):
    test = drift(trajectory(boxes))
    assert test.first_bad_frame is None and test.largest == 0


def test_the_gate_is_the_chi_square_quantile():
    for false_alarm in (0.5, 0.05, 1e-4, 1e-12):
        gate = chi_square_gate(false_alarm)
        assert math.exp(-gate / 2) * (1 + gate / 2) == pytest.approx(false_alarm)
    assert chi_square_gate(1e-4) == pytest.approx(23.513, abs=1e-3)


def test_false_alarms_are_as_rare_as_asked_where_the_model_holds():
    rng = np.random.default_rng(0)
    alarms = frames = 0
    for _ in range(60):
        state = np.array([0.5, 0.5, math.log(0.2), 0.0])
        rate, boxes = rng.normal(0, 0.05, 4) * [0.2, 0.2, 1, 1], []
        for _ in range(30):
            scale, aspect = state[2:]
            size = np.array([math.exp(scale + aspect / 2), math.exp(scale - aspect / 2), 1, 1])
            seen = state + rng.normal(0, MEASURED) * size
            half = np.array([math.exp(seen[2] + seen[3] / 2), math.exp(seen[2] - seen[3] / 2)]) / 2
            boxes.append([*(seen[:2] - half), *(seen[:2] + half)])
            state = state + rate
            rate = 0.9 * rate + rng.normal(0, 0.02, 4) * size
        test = drift(trajectory(boxes), gate=chi_square_gate(0.01))
        alarms += test.first_bad_frame is not None
        frames += int(np.isfinite(test.statistic).sum())
    assert frames > 1000 and alarms / frames < 0.01


def test_measures_of_a_box_are_centre_scale_and_aspect():
    found = box_measures(np.array([[0.1, 0.2, 0.5, 0.3], [0.3, 0.1, 0.3, 0.2]]))
    assert found[0] == pytest.approx([0.3, 0.25, math.log(0.2), math.log(4)])
    assert np.isnan(found[1, 2:]).all()
