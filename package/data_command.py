"""`elysium data check`: read every sample of a dataset, report what it holds and what is broken, and draw some."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .arguments import Command, Group, JsonOption
from .console import check_folder, frame_progress, parse_pairs

RENDERED = "synthetic"  # has no folder to check

data_app = typer.Typer(help="Check data before training on it.", cls=Group)


@data_app.command("check", cls=Command)
def check(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Dataset, in the layout of its source.")],
    source: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Source of the dataset: folder (your own videos and boxes), elysium-track, lasot …"
        ),
    ] = "folder",
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Option of the source, such as split=train; repeat it for several."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="OVERLAYS", help="Folder to write images of some samples and a summary to.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Number of samples to read, the first ones. Default: all.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Read every sample of a dataset: report what it holds and what is broken, and draw some of its boxes.

    The exit code is 1 if a sample cannot be read.
    """
    from elysium.training.catalogue import SOURCES, open_source

    known = [name for name in SOURCES if name != RENDERED]
    if source not in known:
        raise typer.BadParameter(
            f"the source must be one of {', '.join(known)}, got {source!r}", param_hint="--source"
        )
    spec = {"source": source, "path": str(folder)} | parse_pairs(option or [], "--option")
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
    """Return the summary as lines of text."""
    frames = summary["frames"]
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
        lines.append(f"box sides, of the image's: {_counts(sides)}")
    if summary["image_sizes"]:
        lines.append(f"most common image sizes: {_counts(summary['image_sizes'])}")
    lines.append(f"texts: {summary['rows_with_text']} rows with text, {summary['turns']} turns")
    for found in summary["errors"]:
        lines.append(f"broken: {found['count']} ({found['reason']})")
        lines.append(f"  first in row {found['first_row']}: {' '.join(found['first'].split())}")
    return lines


def _counts(counts: dict[str, int]) -> str:
    """Return counts by name as one line."""
    return ", ".join(f"{name}: {count}" for name, count in counts.items())
