"""Generated boxes for property tests (hypothesis)."""

from hypothesis import settings
from hypothesis import strategies as st

unhurried = settings(deadline=None)  # a busy machine is no failure
shares = st.floats(0, 1)
boxes_norm = st.tuples(shares, shares, shares, shares).map(
    lambda box: (min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3]))
)


def boxes_bin(largest):
    """Boxes of integers 0..largest with area, so that every rounding reads them as boxes."""
    axis = st.lists(st.integers(0, largest), min_size=2, max_size=2, unique=True).map(sorted)
    return st.tuples(axis, axis).map(lambda axes: (axes[0][0], axes[1][0], axes[0][1], axes[1][1]))
