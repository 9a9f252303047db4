"""Where a trajectory stops being one object's: a Kalman filter predicts each box, and a test asks whether it fits.

The Elysium paper (arXiv 2403.16558, section 3) has a Kalman filter against drift, without its model. Ours follows four
measures of a box, each by itself, with constant velocity and white noise in its acceleration (Bar-Shalom, Li and
Kirubarajan, "Estimation with Applications to Tracking and Navigation", 2001, section 6.3.2; boxes by centre, size and
aspect as in SORT, Bewley et al., ICIP 2016):

    x and y of the centre, with noise in proportion to the box's width and height (as in DeepSORT, Wojke et al., 2017);
    logarithm of the scale, the square root of the area; logarithm of the aspect, width over height.

Before a box is taken in, its innovation, the distance to what was predicted, is squared, divided by its variance, and
summed over the four: the normalised innovation squared (the first book, section 5.4.2). Where the model holds, that is
chi-square with four degrees of freedom. A box beyond the gate is the first bad one, and there the filter ends.

A jump to another object is seen so; a box that slides off slowly is not: that is what `agreement.py` is for.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from .video_records import Trajectory

Vector = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MotionModel:
    """Standard deviations of x, y, log scale and log aspect; for x and y in sizes of the box.

    Args:
        measured: of a box about the object's true one.
        velocity: of the first step of an object, per frame.
        acceleration: from frame to frame, per frame squared.
    """

    measured: tuple[float, float, float, float] = (0.06, 0.06, 0.06, 0.08)
    velocity: tuple[float, float, float, float] = (0.4, 0.4, 0.1, 0.1)
    acceleration: tuple[float, float, float, float] = (0.1, 0.1, 0.05, 0.05)


MODEL = MotionModel()


def chi_square_gate(false_alarm: float) -> float:
    """Return what a chi-square variable with four degrees of freedom exceeds with a probability.

    Args:
        false_alarm: probability that one faithful box is taken for a bad one.

    Raises:
        ValueError: it is not between 0 and 1.

    >>> round(chi_square_gate(0.05), 3)
    9.488
    """
    if not 0 < false_alarm < 1:
        raise ValueError(f"false_alarm must be between 0 and 1, got {false_alarm}; 1e-4 is one box in 10000")
    return float(chi2.isf(false_alarm, 4))


GATE = chi_square_gate(1e-4)


@dataclass(frozen=True, eq=False)
class DriftTest:
    """What the filter says of a trajectory.

    Args:
        statistic (`np.ndarray` of shape `(T,)`): normalised innovation squared; NaN for the first box, where the
            object is lost, and behind the first bad box.
        first_bad_frame: the first of its frame indices whose box does not fit, or None.
    """

    statistic: Vector
    first_bad_frame: int | None

    @property
    def largest(self) -> float:
        """The largest statistic, 0 where there is none."""
        return float(np.nanmax(self.statistic, initial=0.0))


class _BoxFilter:
    """Position and velocity of the four measures of a box.

    Args:
        measures: of the first box, `(4,)`.
        model: of the noise.
    """

    def __init__(self, measures: Vector, model: MotionModel) -> None:
        self.model = model
        self.state = np.stack([measures, np.zeros(4)], axis=1)  # (4, 2): position, velocity
        self.covariance = np.zeros((4, 2, 2))
        size = self._size()
        self.covariance[:, 0, 0] = (size * model.measured) ** 2
        self.covariance[:, 1, 1] = (size * model.velocity) ** 2

    def _size(self) -> Vector:
        """What the deviations of the four measures are in units of: width, height, 1, 1."""
        scale, aspect = self.state[2:, 0]
        return np.array([math.exp(scale + aspect / 2), math.exp(scale - aspect / 2), 1.0, 1.0])

    def predict(self, num_frames: int) -> None:
        """Moves on by so many frames."""
        step = float(num_frames)
        move = np.array([[1.0, step], [0.0, 1.0]])
        noise = np.array([[step**3 / 3, step**2 / 2], [step**2 / 2, step]])
        strength = (self._size() * self.model.acceleration) ** 2
        self.state = self.state @ move.T
        self.covariance = move @ self.covariance @ move.T + strength[:, None, None] * noise

    def innovation(self, measures: Vector) -> float:
        """The normalised innovation squared of a box, which is then taken in."""
        residual = measures - self.state[:, 0]
        variance = self.covariance[:, 0, 0] + (self._size() * self.model.measured) ** 2
        gain = self.covariance[:, :, 0] / variance[:, None]
        self.state = self.state + gain * residual[:, None]
        self.covariance = self.covariance - gain[:, :, None] * self.covariance[:, None, 0, :]
        return float((residual**2 / variance).sum())


def drift(trajectory: Trajectory, *, gate: float = GATE, model: MotionModel = MODEL) -> DriftTest:
    """Tests the boxes of a trajectory one after the other, over frames in which it is lost.

    Args:
        trajectory: with boxes that have an area.
        gate: the statistic of a good box stays below it; `chi_square_gate` turns a probability into one.
        model: of the noise.

    >>> still = Trajectory(np.arange(5), np.tile([0.2, 0.2, 0.4, 0.6], (5, 1)), np.ones(5))
    >>> drift(still).first_bad_frame is None
    True
    """
    measures = box_measures(trajectory.boxes_xyxy_norm)
    statistic = np.full(len(measures), np.nan)
    box_filter, last_frame = None, 0
    for place, frame_idx in enumerate(trajectory.frame_indices.tolist()):
        if not np.isfinite(measures[place]).all():
            continue
        if box_filter is None:
            box_filter = _BoxFilter(measures[place], model)
        else:
            box_filter.predict(frame_idx - last_frame)
            statistic[place] = box_filter.innovation(measures[place])
            if statistic[place] > gate:
                return DriftTest(statistic, frame_idx)
        last_frame = frame_idx
    return DriftTest(statistic, None)


def box_measures(boxes_xyxy_norm: Vector) -> Vector:
    """Centre x and y, log scale and log aspect of boxes `(T, 4)`: `(T, 4)`, NaN where a box has no area.

    >>> box_measures(np.array([[0.0, 0.0, 0.5, 0.5]])).round(3)
    array([[ 0.25 ,  0.25 , -0.693,  0.   ]])
    """
    low, high = boxes_xyxy_norm[:, :2], boxes_xyxy_norm[:, 2:]
    sides = np.where((high > low).all(axis=1, keepdims=True), high - low, np.nan)
    logs = np.log(sides)
    scale, aspect = logs.mean(axis=1), logs[:, 0] - logs[:, 1]
    return np.concatenate([(low + high) / 2, scale[:, None], aspect[:, None]], axis=1)
