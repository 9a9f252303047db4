"""A contact sheet of finished rows: the first, middle and last frame of a sample, with boxes and words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from elysium.processing.atomic_files import atomic_path
from elysium.training.datasets.check import look_at
from elysium.training.datasets.check_sheet import draw_strips, make_strip
from elysium.training.datasets.rows import row_of_record


def row_sheet(
    rows: Sequence[Mapping[str, Any]], root: str | Path, path: str | Path, *, number: int = 12, seed: int = 0
) -> None:
    """Draws some rows as training reads them; the file is whole or not there.

    Args:
        rows: of the ElysiumTrack-1M layout.
        root: folder that their paths are relative to.
        path: of the sheet, ending in .png.
        number: rows that are drawn.
        seed: of the sample.

    Raises:
        ValueError: another suffix, or no row.
        DatasetError: a row, or a frame of it, cannot be read.
        OutputError: the sheet cannot be written.
    """
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"a contact sheet must be saved as .png, got {str(path)!r}; change the suffix")
    if not rows or number < 1:
        raise ValueError(f"a contact sheet must have a row or more, got {min(len(rows), number)}; keep some")
    chosen = sorted(np.random.default_rng(seed).permutation(len(rows))[:number].tolist())
    strips = []
    for color, index in enumerate(chosen, start=1):
        row = row_of_record(dict(rows[index]), "curated", Path(root))
        places, pictures = look_at(row)
        strips.append(make_strip(row, places, pictures, color=color))
    sheet = draw_strips(strips, f"{len(chosen)} of {len(rows)} rows")
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)
