"""A contact sheet of finished rows: frames of each, with boxes and words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from elysium.processing.atomic_files import atomic_path
from elysium.readers.check import look_at
from elysium.readers.check_sheet import draw_strips, make_strip
from elysium.readers.samples import sample_of_record


def row_sheet(rows: Sequence[Mapping[str, Any]], root: str | Path, path: str | Path, *, of: int) -> None:
    """Draws rows as training reads them; the file is whole or not there.

    Args:
        rows: of the ElysiumTrack-1M layout.
        root: folder that their paths are relative to.
        path: of the sheet, ending in .png.
        of: how many rows there are, for the heading.

    Raises:
        ValueError: another suffix, or no row.
        DatasetError: a row, or a frame of it, cannot be read.
        OutputError: the sheet cannot be written.
    """
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"a contact sheet must be saved as .png, got {str(path)!r}; change the suffix")
    if not rows:
        raise ValueError("a contact sheet must have a row or more, got 0; keep some")
    strips = []
    for color, record in enumerate(rows, start=1):
        row = sample_of_record(dict(record), "curated", Path(root))
        places, pictures = look_at(row)
        strips.append(make_strip(row, places, pictures, color=color))
    sheet = draw_strips(strips, f"{len(rows)} of {of} rows")
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)
