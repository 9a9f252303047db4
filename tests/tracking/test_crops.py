"""Crops have the pixels of the image by clipped indices, wherever they lie."""

import numpy as np
import pytest

from elysium.tracking.refinement import Crop

WIDTH, HEIGHT = 64, 48


@pytest.mark.parametrize("side", [1, 7, 30, 90])
def test_a_crop_has_the_pixels_of_clipped_indices(side: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for left in range(-2 * side, WIDTH + side, max(1, side // 3)):
        for top in range(-2 * side, HEIGHT + side, max(1, side // 3)):
            cut = Crop(left, top, side, WIDTH, HEIGHT).cut(image)
            rows = np.arange(top, top + side).clip(0, HEIGHT - 1)
            columns = np.arange(left, left + side).clip(0, WIDTH - 1)
            np.testing.assert_array_equal(cut, image[rows[:, None], columns])
            assert not np.shares_memory(cut, image)
