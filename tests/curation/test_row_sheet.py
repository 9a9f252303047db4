"""A sheet shows rows as training reads them: with the box where it is."""

import numpy as np
import pytest
from PIL import Image

from elysium.curation.merge_step import row_sheet
from elysium.readers.frame_sources import DatasetError
from elysium.visualization.annotate import object_color


@pytest.fixture
def rows(tmp_path):
    """Two rows of four grey frames each."""
    found = []
    for vid in ("a", "b"):
        for place in range(4):
            (tmp_path / vid).mkdir(exist_ok=True)
            Image.fromarray(np.full((60, 80, 3), 120, np.uint8)).save(tmp_path / vid / f"{place}.jpg")
        found.append(
            {
                "source": "test",
                "id": f"{vid}_0",
                "vid": vid,
                "metadata": {},
                "frames": [f"{vid}/{place}.jpg" for place in range(4)],
                "object_class": "car",
                "box": [[0.25, 0.25, 0.75, 0.75]] * 3 + [None],
                "object_description": "the red car",
                "frame_size": [80, 60],
            }
        )
    return found


def test_every_row_has_its_box_in_a_colour_of_its_own(rows, tmp_path):
    row_sheet(rows, tmp_path, tmp_path / "sheet.png", of=2)
    pixels = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB"))
    for color in (1, 2):
        assert (pixels == object_color(color).as_rgb()).all(axis=2).sum() > 200
    row_sheet(rows[:1], tmp_path, tmp_path / "one.png", of=2)
    one = np.asarray(Image.open(tmp_path / "one.png").convert("RGB"))
    assert one.shape[1] < pixels.shape[1]
    assert not (one == object_color(2).as_rgb()).all(axis=2).any()


def test_what_cannot_be_drawn_is_refused(rows, tmp_path):
    with pytest.raises(ValueError, match="must have a row or more, got 0"):
        row_sheet([], tmp_path, tmp_path / "sheet.png", of=0)
    (tmp_path / "a" / "3.jpg").unlink()
    with pytest.raises(DatasetError, match="3.jpg"):
        row_sheet(rows[:1], tmp_path, tmp_path / "sheet.png", of=1)
    assert not (tmp_path / "sheet.png").exists()
