"""Find objects in real photographs by everyday words, and name them.

    python -m research.real_words.stills --split headline --out outputs/real_stills.json
    python -m research.real_words.stills --model runs/words/final --split selection

The photographs and their boxes, set by hand, stand in `tests/fixtures/real_stills`; four more come from
`python -m research.real_words.fetch_stills`, and are left out where they were not fetched.

- found: the model is given the phrase ("the cat") and answers with a box (task `rec`). Right at IoU >= 0.5, as in
  RefCOCO; without a box the IoU is 0. Beside it, what the box of the whole image would get: many objects fill it.
- named: the model describes the object in the true box (task `reg`), and the description's head noun is exact, a
  synonym, a hypernym, a hyponym or other by the rules of `research/real_words/naming.py`. "Named" is exact or synonym;
  "related" is any but other.

Every item counts. Intervals are the bootstrap's 95% over items. The last line is JSON.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.bench import ROOT, markdown_table, write_record
from elysium.evaluation.grounding import ACCURACY_IOU
from elysium.processing.atomic_files import atomic_path
from elysium.processing.overlap import paired_iou
from elysium.tracking.checkpoints import DEFAULT_MODEL
from research.bootstrap import bootstrap_interval
from research.real_words.naming import KINDS, head_noun, name_kind
from research.real_words.nouns import Nouns, find_wordnet

if TYPE_CHECKING:
    from elysium.tracking.tracker import Tracker

STILLS = ROOT / "tests" / "fixtures" / "real_stills"
FETCHED = ROOT / "outputs" / "real_stills"
SPLITS = ("selection", "headline")


@dataclass(frozen=True, kw_only=True)
class Item:
    """Hold one object of a photograph, and the word that fits it alone.

    Args:
        file: name of the photograph.
        word: everyday noun.
        phrase: the noun as the model is prompted by it.
        box_xyxy_px: box of the whole visible object.
        synset: sense of the word in WordNet.
        split: "selection" or "headline".
    """

    file: str
    word: str
    phrase: str
    box_xyxy_px: tuple[float, float, float, float]
    synset: str
    split: str


def read_items(split: str | None = None) -> list[Item]:
    """Return the items of a split, or of both, whether their photographs are there or not."""
    rows = json.loads((STILLS / "index.json").read_text("utf-8"))
    items = [Item(**row | {"box_xyxy_px": tuple(row["box_xyxy_px"])}) for row in rows]
    return [item for item in items if split in (None, item.split)]


def find_photo(name: str, fetched: Path) -> Path | None:
    """Return the path of a shipped or fetched photograph, None where it was not fetched."""
    return next((folder / name for folder in (STILLS, fetched) if (folder / name).is_file()), None)


def measure(tracker: "Tracker", items: Sequence[Item], photos: Sequence[Path], nouns: Nouns) -> list[dict[str, Any]]:
    """Return one row for each item: what the model found and how it named the object."""
    groundings = tracker.ground_many([(photo, item.phrase) for photo, item in zip(photos, items, strict=True)])
    descriptions = tracker.describe_many(
        [(photo, item.box_xyxy_px) for photo, item in zip(photos, items, strict=True)]
    )
    nowhere = (np.nan,) * 4
    found = np.array([grounding.box_xyxy_px or nowhere for grounding in groundings], dtype=np.float64)
    whole = np.array([(0, 0, grounding.width, grounding.height) for grounding in groundings], dtype=np.float64)
    true = np.array([item.box_xyxy_px for item in items], dtype=np.float64)
    rows = []
    for item, grounding, iou, whole_iou, description in zip(
        items, groundings, paired_iou(found, true), paired_iou(whole, true), descriptions, strict=True
    ):
        rows.append(
            asdict(item)
            | {
                "found_xyxy_px": grounding.box_xyxy_px and [round(float(side), 1) for side in grounding.box_xyxy_px],
                "iou": round(float(iou), 4),
                "whole_image_iou": round(float(whole_iou), 4),
                "description": description,
                "head_noun": head_noun(description, nouns),
                "named": name_kind(description, item.word, item.synset, nouns),
            }
        )
    return rows


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of some rows, shares and IoU in 0..1.

    >>> row = {"iou": 0.5, "whole_image_iou": 0.2, "named": "hypernym", "found_xyxy_px": [0, 0, 1, 1]}
    >>> figures = summarise([row])
    >>> figures["found"], figures["whole_image_found"], figures["named"], figures["related"]
    (1.0, 0.0, 0.0, 1.0)
    """
    shares = {kind: [row["named"] == kind for row in rows] for kind in KINDS}
    right = [row["named"] in ("exact", "synonym") for row in rows]
    hits = [row["iou"] >= ACCURACY_IOU for row in rows]
    means = {
        "found": hits,
        "mean_iou": [row["iou"] for row in rows],
        "without_box": [row["found_xyxy_px"] is None for row in rows],
        "whole_image_found": [row["whole_image_iou"] >= ACCURACY_IOU for row in rows],
        "whole_image_mean_iou": [row["whole_image_iou"] for row in rows],
        **shares,
        "named": right,
        "related": [row["named"] != "other" for row in rows],
    }
    figures: dict[str, Any] = {name: round(float(np.mean(values)), 4) for name, values in means.items()}
    intervals = {"found_95": bootstrap_interval(hits), "named_95": bootstrap_interval(right)}
    return {"items": len(rows)} | figures | intervals


def markdown(record: dict[str, Any]) -> str:
    """Return the tables of a record: figures of each split, then every item."""
    columns = ("found", "mean_iou", "whole_image_found", "whole_image_mean_iou", "named", *KINDS)
    header = ["split", "items", *(name.replace("_", " ") for name in columns)]
    figures = [
        [split, row["items"], *(f"{row[name]:.3f}" for name in columns)] for split, row in record["splits"].items()
    ]
    items = [
        [row["split"], row["file"], row["word"], f"{row['iou']:.2f}", row["description"], row["named"]]
        for row in record["rows"]
    ]
    missing = f" Not fetched: {', '.join(record['missing'])}." if record["missing"] else ""
    blocks = [
        "# Real photographs by everyday words",
        f"`{record['model']}`; {record['hardware']}.{missing}",
        markdown_table(header, figures),
        markdown_table(["split", "photograph", "word", "IoU", "description", "named"], items),
    ]
    return "\n\n".join(blocks)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return checked arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="Checkpoint folder, shipped name or Hub id.")
    parser.add_argument("--split", choices=SPLITS, help="Split to measure (default: both).")
    parser.add_argument("--wordnet", type=Path, metavar="DIR", help="Folder with WordNet's noun files.")
    parser.add_argument("--fetched", type=Path, default=FETCHED, metavar="DIR", help="Folder of fetched photographs.")
    parser.add_argument("--device", help="Such as cpu or cuda (default: the first GPU where there is one).")
    parser.add_argument("--out", type=Path, metavar="JSON", help="Record to write, and beside it the tables as .md.")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure a model, print the tables and write the record."""
    arguments = parse_arguments(argv)
    try:
        nouns = Nouns(find_wordnet(arguments.wordnet))
    except ValueError as error:
        sys.exit(f"error: {error}")
    pairs = [(item, find_photo(item.file, arguments.fetched)) for item in read_items(arguments.split)]
    present = [(item, photo) for item, photo in pairs if photo is not None]
    from elysium.tracking.tracker import Tracker  # slow to import, and the arguments are checked first
    from research.eval_v1.report import versions
    from research.eval_v1.run import device_name

    tracker = Tracker.from_pretrained(arguments.model, device=arguments.device)
    rows = measure(tracker, [item for item, _ in present], [photo for _, photo in present], nouns)
    splits = {split: [row for row in rows if row["split"] == split] for split in SPLITS}
    record = {
        "model": arguments.model,
        "hardware": device_name(tracker),
        "versions": versions(),
        "missing": sorted({item.file for item, photo in pairs if photo is None}),
        "splits": {split: summarise(chosen) for split, chosen in splits.items() if chosen},
        "rows": rows,
    }
    tables = markdown(record)
    print(tables)
    if arguments.out is not None:
        with atomic_path(arguments.out.with_suffix(".md")) as temporary:
            temporary.write_text(tables + "\n", "utf-8")
    write_record(record, arguments.out)


if __name__ == "__main__":
    main()
