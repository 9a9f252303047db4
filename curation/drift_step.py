"""Step 6: a Kalman filter drops trajectories that jump to another object.

The Elysium paper (arXiv 2403.16558, section 3) uses a Kalman filter against drift, but does not give its model. This
one tracks four values of a box independently, with constant velocity and white-noise acceleration (Bar-Shalom, Li and
Kirubarajan, "Estimation with Applications to Tracking and Navigation", 2001, section 6.3.2; boxes by centre, size and
aspect as in SORT, Bewley et al., ICIP 2016):

    x and y of the centre, with noise proportional to the box's width and height (as in DeepSORT, Wojke et al., 2017);
    logarithm of the scale (square root of the area); logarithm of the aspect (width over height).

Before a box updates the filter, its squared innovation (distance to the prediction) is divided by the variance and
summed over the four values: the normalised innovation squared (same book, section 5.4.2). If the model holds, it is
chi-square distributed with four degrees of freedom. The filter stops at the first box above the gate.

It detects jumps, not slow drift; `agree_step.py` detects that.
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from .curation_step import Step, StepSettings, number
from .video_records import Candidate, Drop, Trajectory, VideoRecord

STEP = "drift"
Vector = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class DriftSettings(StepSettings):
    """Hold the settings of step 6.

    Args:
        drift_false_alarm: Probability that a box of a correct trajectory fails the test. Higher values drop more
            jumps, and more correct trajectories.
    """

    drift_false_alarm: float = number(1e-4, 1e-12, 0.5)


def check_drift(candidate: Candidate, record: VideoRecord, *, gate: float) -> Candidate | Drop:
    """Return the candidate with its largest statistic, or drop it if a box is beyond the gate."""
    found = drift(candidate.trajectory, gate=gate)
    return candidate.measured(drift=found.largest) if found.first_bad_frame is None else Drop("jump", found.largest)


def drift_step(settings: DriftSettings) -> Step:
    """Return the step."""
    return Step.of_rule(STEP, partial(check_drift, gate=chi_square_gate(settings.drift_false_alarm)))


# Standard deviations of x, y, log scale and log aspect; x and y in units of the box's sides.
MEASURED = np.array([0.06, 0.06, 0.06, 0.08])  # of a box from the true one
VELOCITY = np.array([0.4, 0.4, 0.1, 0.1])  # at the start, per frame
ACCELERATION = np.array([0.1, 0.1, 0.05, 0.05])  # per frame squared


def chi_square_gate(false_alarm: float) -> float:
    """Return the value that a chi-square variable with four degrees of freedom exceeds with a probability in 0..1.

    >>> round(chi_square_gate(0.05), 3)
    9.488
    """
    return float(chi2.isf(false_alarm, 4))


@dataclass(frozen=True, eq=False)
class DriftTest:
    """Hold the result of the test of a trajectory.

    Args:
        statistic (`np.ndarray` of shape `(T,)`): Normalised innovation squared; NaN for the first box, frames in
            which the object is lost, and after the first bad box.
        first_bad_frame: Index of the first frame whose box is beyond the gate, or None.
    """

    statistic: Vector
    first_bad_frame: int | None

    @property
    def largest(self) -> float:
        """Return the largest statistic; 0 if there is none."""
        return float(np.nanmax(self.statistic, initial=0.0))


class _BoxFilter:
    """Track position and velocity of the four values of a box, from those of the first box `(4,)` on."""

    def __init__(self, measures: Vector) -> None:
        self.state = np.stack([measures, np.zeros(4)], axis=1)  # (4, 2): position, velocity
        self.covariance = np.zeros((4, 2, 2))
        self.covariance[:, 0, 0] = (self._size() * MEASURED) ** 2
        self.covariance[:, 1, 1] = (self._size() * VELOCITY) ** 2

    def _size(self) -> Vector:
        """Return the units of the deviations: width, height, 1, 1."""
        scale, aspect = self.state[2:, 0]
        return np.array([math.exp(scale + aspect / 2), math.exp(scale - aspect / 2), 1.0, 1.0])

    def predict(self, num_frames: int) -> None:
        """Advance the state by a number of frames."""
        step = float(num_frames)
        move = np.array([[1.0, step], [0.0, 1.0]])
        noise = np.array([[step**3 / 3, step**2 / 2], [step**2 / 2, step]])
        strength = (self._size() * ACCELERATION) ** 2
        self.state = self.state @ move.T
        self.covariance = move @ self.covariance @ move.T + strength[:, None, None] * noise

    def innovation(self, measures: Vector) -> float:
        """Return the normalised innovation squared of a box, and update the state with it."""
        residual = measures - self.state[:, 0]
        variance = self.covariance[:, 0, 0] + (self._size() * MEASURED) ** 2
        gain = self.covariance[:, :, 0] / variance[:, None]
        self.state = self.state + gain * residual[:, None]
        self.covariance = self.covariance - gain[:, :, None] * self.covariance[:, None, 0, :]
        return float((residual**2 / variance).sum())


def drift(trajectory: Trajectory, *, gate: float) -> DriftTest:
    """Test the boxes of a trajectory in order, skipping frames in which it is lost.

    Args:
        trajectory: Trajectory whose boxes have an area.
        gate: Upper bound of the statistic of a good box; see `chi_square_gate`.

    >>> still = Trajectory(np.arange(5), np.tile([0.2, 0.2, 0.4, 0.6], (5, 1)), np.ones(5))
    >>> drift(still, gate=chi_square_gate(1e-4)).first_bad_frame is None
    True
    """
    measures = box_measures(trajectory.boxes_xyxy_norm)
    statistic = np.full(len(measures), np.nan)
    box_filter, last_frame = None, 0
    for place, frame_idx in enumerate(trajectory.frame_indices.tolist()):
        if not np.isfinite(measures[place]).all():
            continue
        if box_filter is None:
            box_filter = _BoxFilter(measures[place])
        else:
            box_filter.predict(frame_idx - last_frame)
            statistic[place] = box_filter.innovation(measures[place])
            if statistic[place] > gate:
                return DriftTest(statistic, frame_idx)
        last_frame = frame_idx
    return DriftTest(statistic, None)


def box_measures(boxes_xyxy_norm: Vector) -> Vector:
    """Return centre x and y, log scale and log aspect of boxes `(T, 4)`, as `(T, 4)`; NaN if a box has no area.

    >>> box_measures(np.array([[0.0, 0.0, 0.5, 0.5]])).round(3)
    array([[ 0.25 ,  0.25 , -0.693,  0.   ]])
    """
    low, high = boxes_xyxy_norm[:, :2], boxes_xyxy_norm[:, 2:]
    sides = np.where((high > low).all(axis=1, keepdims=True), high - low, np.nan)
    logs = np.log(sides)
    scale, aspect = logs.mean(axis=1), logs[:, 0] - logs[:, 1]
    return np.concatenate([(low + high) / 2, scale[:, None], aspect[:, None]], axis=1)
