"""Writes the card of a data set: what its files hold, counted, how it was made and how it is read.

    python -m elysium.cards.render_dataset_card runs/hub --license apache-2.0 \\
        --made-by "elysium synth runs/hub --as trl --embed --count 100 --frames 8"

What the head of a card that is there says, such as its configurations, is kept.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from huggingface_hub import DatasetCard, DatasetCardData

from .dataset_check import DATA, data_files, first_row
from .folder_files import list_files
from .measured_results import CardError, fill_template, write_card
from .publish import PLACEHOLDER

_MEDIA = {".mp4": "videos", ".webm": "videos", ".jpg": "pictures", ".jpeg": "pictures", ".png": "pictures"}
_SIZES = {"n<1K": 1e3, "1K<n<10K": 1e4, "10K<n<100K": 1e5, "100K<n<1M": 1e6, "1M<n<10M": 1e7, "10M<n<100M": 1e8}
_SYNTHETIC_LIMITS = (
    "Scenes are generated: what is learned from them holds for such scenes, and is no measure of real videos.",
    "Boxes are exact, of the visible part of an object; words are made by rules, in English.",
)
_OTHER_LIMITS = ("Boxes and words are as good as what made them; look at some before you train.",)


@dataclass(frozen=True)
class DatasetFacts:
    """What is counted in a folder.

    Attributes:
        rows: of each file; None of archives.
        columns: of the first file with any.
        media: how many videos and pictures stand beside the rows.
        size_bytes: of all files but the card.
        split: the one that the card's code reads.
    """

    rows: dict[str, int | None]
    columns: list[str]
    media: list[tuple[int, str]]
    size_bytes: int
    split: str


def count_dataset(folder: Path) -> DatasetFacts:
    """Counts rows, columns and bytes.

    Raises:
        CardError: no data, or a file that cannot be read.
    """
    files = data_files(folder)
    if not files:
        raise CardError(f"a data set must hold {', '.join(DATA)}, got {folder} with none of them; check the path")
    try:
        rows = {path.relative_to(folder).as_posix(): _count_rows(path) for path in files}
        columns = next((list(row) for row in map(first_row, files) if isinstance(row, dict)), [])
    except (OSError, ValueError) as error:
        raise CardError(f"the files of a data set must be whole, got {error} in {folder}; write it again") from error
    others = [path for path in list_files(folder) if path.is_file() and path.name != "README.md"]
    media = Counter(_MEDIA[path.suffix.lower()] for path in others if path.suffix.lower() in _MEDIA)
    names = [path.stem for path in files]
    split = next((name for name in ("train", "validation", "test") if any(name in stem for stem in names)), "train")
    size = sum(path.stat().st_size for path in others)
    return DatasetFacts(rows, columns, [(count, kind) for kind, count in media.items()], size, split)


def render_dataset_card(
    folder: Path,
    *,
    title: str | None = None,
    license: str | None = None,
    made_by: str | None = None,
    repo_id: str | None = None,
) -> DatasetCard:
    """The card of a data set.

    Args:
        folder: of its files.
        title: by default the folder's name.
        license: for the metadata; by default what the card that is there says.
        made_by: the command that made it.
        repo_id: the name that the card's code loads.

    Raises:
        CardError: no data set.
    """
    facts = count_dataset(folder)
    place = folder / "README.md"
    head: dict[str, Any] = DatasetCard.load(place).data.to_dict() if place.is_file() else {}
    synthetic = "elysium synth" in (made_by or "")
    if "configs" not in head and any(name.endswith(".jsonl") for name in facts.rows):
        # Else the Hub takes a folder with more pictures than rows for one of pictures.
        head["configs"] = [{"config_name": "default", "data_files": [n for n in facts.rows if n.endswith(".jsonl")]}]
    ours = {
        "license": license,
        "pretty_name": title,
        "language": "en",
        "size_categories": _size_category(sum(count or 0 for count in facts.rows.values())),
        "task_categories": ["video-text-to-text", "image-text-to-text"],
        "tags": ["elysium", "object-tracking", "visual-grounding", *(["synthetic"] if synthetic else [])],
    }
    data = DatasetCardData(**(head | {name: value for name, value in ours.items() if value is not None}))
    text = fill_template(
        "dataset_card.md.jinja",
        title=title or head.get("pretty_name") or folder.resolve().name,
        about="Objects in generated videos and pictures, with boxes and words."
        if synthetic
        else "Objects in videos and pictures, with boxes and words.",
        facts=facts,
        repo_id=repo_id or PLACEHOLDER,
        made_by=made_by,
        limits=_SYNTHETIC_LIMITS if synthetic else _OTHER_LIMITS,
        license=data.license,
    )
    return DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{text}")


def _count_rows(path: Path) -> int | None:
    if path.suffix == ".parquet":
        return int(pq.ParquetFile(path).metadata.num_rows)
    if path.suffix == ".tar":
        return None
    with path.open(encoding="utf-8") as lines:
        count = sum(1 for line in lines if line.strip())
    return count if path.suffix == ".jsonl" else count - 1  # the first line names the columns


def _size_category(rows: int) -> str:
    """As the Hub names it.

    >>> _size_category(999), _size_category(1000)
    ('n<1K', '1K<n<10K')
    """
    return next((name for name, above in _SIZES.items() if rows < above), "100M<n<1B")


def main(argv: Sequence[str] | None = None) -> None:
    """Writes README.md into the data set's folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the data set")
    parser.add_argument("--title", help="by default the folder's name")
    parser.add_argument("--license", help="such as apache-2.0")
    parser.add_argument("--made-by", metavar="COMMAND", help="the command that made it")
    parser.add_argument("--repo-id", help="OWNER/NAME, for the code on the card")
    asked = parser.parse_args(argv)
    write_card(
        asked.folder,
        lambda: render_dataset_card(
            asked.folder, title=asked.title, license=asked.license, made_by=asked.made_by, repo_id=asked.repo_id
        ),
    )


if __name__ == "__main__":
    main()
