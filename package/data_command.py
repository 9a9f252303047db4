"""`elysium data check`: reads every row of a data set, says what it holds and what of it is broken, and draws some."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from .console import check_folder, frame_progress, parse_pairs, require

RENDERED = "synthetic"  # has no folder to check


def run_data_check(
    folder: Path,
    *,
    source: str,
    options: Sequence[str],
    output: Path | None,
    limit: int | None,
    as_json: bool,
) -> int:
    """The whole command.

    Args:
        folder: of the data, or a file where the source takes one.
        source: name in the catalogue of sources.
        options: of the source, as ``NAME=VALUE``.
        output: folder for the overlays and the summary, or None.
        limit: only so many rows, from the first.
        as_json: print the summary as JSON.

    Returns:
        The exit code: 1 where a row is broken.

    Raises:
        typer.BadParameter: an unknown source, or an option that is no ``NAME=VALUE``.
        DatasetError: data that cannot be opened at all.
        OutputError: ``output`` cannot be written.
    """
    require("pyarrow", extra="train")
    from elysium.training.catalogue import SOURCES, open_source

    known = [name for name in SOURCES if name != RENDERED]
    if source not in known:
        raise typer.BadParameter(
            f"the source must be one of {', '.join(known)}, got {source!r}", param_hint="--source"
        )
    spec = {"source": source, "path": str(folder)} | parse_pairs(options, "--option")
    if output is not None:
        check_folder(output.absolute())
    from elysium.readers.check import SHEET, check_samples

    rows = open_source(spec)
    with frame_progress("Checking rows", len(rows)) as progress:
        summary = check_samples(rows, limit=limit, output=output, progress=progress)
    if as_json:
        print(json.dumps(summary, ensure_ascii=False))
    else:
        print("\n".join(_lines(summary)))
        if output is not None:
            print(f"Overlays: {output / SHEET}" if summary["good"] else f"Summary: {output}")
    return 1 if summary["broken"] else 0


def _lines(summary: dict[str, Any]) -> list[str]:
    """The summary for people."""
    frames, words = summary["frames"], summary["words"]
    lines = [f"{summary['source']}: {summary['good']} of {summary['checked']} rows can be read"]
    if summary["checked"] < summary["rows"]:
        lines[0] += f" (there are {summary['rows']})"
    lines += [f"left out when opened: {count} ({reason})" for reason, count in summary["skipped"].items()]
    lines += [f"rows: {_counts(summary['kinds'])}"] if summary["kinds"] else []
    lines.append(
        f"frames: {frames['boxed']} with a box, {frames['absent']} with the object absent, "
        f"{frames['without_boxes']} of rows without boxes"
    )
    if frames["boxed"]:
        sides = {name: count for name, count in summary["box_sides"].items() if count}
        lines.append(f"box sides, of the picture's: {_counts(sides)}")
    if summary["picture_sizes"]:
        lines.append(f"commonest picture sizes: {_counts(summary['picture_sizes'])}")
    lines.append(
        f"words: {words['all']} ({words['different']} different), {summary['rows_with_text']} rows with text, "
        f"{summary['turns']} turns"
    )
    for found in summary["errors"]:
        lines.append(f"broken: {found['count']} ({found['reason']})")
        lines.append(f"  first in row {found['first_row']}: {' '.join(found['first'].split())}")
    return lines


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items())
