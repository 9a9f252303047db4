"""How sure a mean over clips is."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000


def bootstrap_interval(values: Sequence[float] | NDArray[np.float64]) -> list[float]:
    """The middle 95% of the means of 10,000 resamples (Efron and Tibshirani, 1993, percentile interval).

    Args:
        values: one for each clip, or of a paired difference; the same values give the same interval.

    >>> bootstrap_interval([0.25] * 8)
    [0.25, 0.25]
    """
    array = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(0).integers(len(array), size=(RESAMPLES, len(array)))
    return [round(float(edge), 4) for edge in np.percentile(array[draws].mean(axis=1), [2.5, 97.5])]
