"""Read RefCOCO and its siblings in the two Parquet forms that are common on the Hub, from files or streamed.

The columns alone decide how a box is read, since x,y,w,h and x1,y1,x2,y2 can look alike:

- `answer`, `image`, `bbox` (as `lmms-lab/RefCOCO`): `answer` lists the sentences, `image` holds the encoded image,
  `bbox` is x,y,w,h in pixels.
- `sentences`, `image_path`, `bbox` (as `jxu124/refcoco`): `sentences` lists texts or `{"sent", "raw"}`,
  `image_path` leads to an image below the folder of the Parquet files, `bbox` is x1,y1,x2,y2 in pixels.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from elysium.processing.data_files import DatasetError, is_number, parquet_batches, parquet_columns, parse_json

from .annotation_files import check_some
from .elysium_track import streamed_rows
from .referring_records import ReferredObject, checked_box, spoken

ENCODED_FORM = frozenset({"answer", "image", "bbox"})
PATH_FORM = frozenset({"sentences", "image_path", "bbox"})
_WANTED = ENCODED_FORM | PATH_FORM | {"split", "raw_image_info"}
_ROWS_AT_ONCE = 32  # encoded images in memory together
_PICTURE_FOLDERS = ("", "images", "images/train2014", "train2014")
Record = dict[str, Any]


def is_parquet_source(source: str | Path) -> bool:
    """Return whether a source is a Parquet file, a folder of them, or a dataset on the Hub."""
    path = Path(source)
    if os.path.isdir(path):
        return bool(_parquet_files(path))
    return path.suffix == ".parquet" or (not os.path.exists(path) and _hub_id(source) is not None)


def read_parquet_objects(source: str | Path, split: str) -> Iterator[ReferredObject]:
    """Yield the objects of one split with all their sentences, in the order of the rows.

    Args:
        source: a Parquet file; a folder that holds them, itself or in `data/`; or `owner/name`, also with `hf://`.
        split: of a folder the files named SPLIT.parquet or SPLIT-*.parquet; of files without such names the rows
            with that word in the column `split`; on the Hub a split of the dataset. A single file without a
            column `split` is read whole.

    Raises:
        DatasetError: no such split, columns of neither form above, or a row that does not match them.
    """
    path = Path(source)
    if os.path.exists(path):
        root = path if os.path.isdir(path) else path.parent
        yield from _objects(_file_rows(path, split), split, root)
    elif path.suffix == ".parquet":
        raise DatasetError(f"a Parquet file must be there, got {path}; check the path")
    else:
        yield from _objects(_streamed_rows(str(source), split), split, None)


def _hub_id(source: str | Path) -> str | None:
    """Return `owner/name` of a Hub id, with or without `hf://` and `datasets/` before it; else None.

    >>> _hub_id("hf://datasets/lmms-lab/RefCOCO"), _hub_id("./here/or/there")
    ('lmms-lab/RefCOCO', None)
    """
    name = str(source).removeprefix("hf://").removeprefix("datasets/")
    parts = name.split("/")
    return name if len(parts) == 2 and all(parts) and not name.startswith((".", "~")) else None


def _parquet_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet")) or sorted((folder / "data").glob("*.parquet"))


def _file_rows(path: Path, split: str) -> Iterator[Record]:
    """Yield the rows of a split from local files."""
    files = check_some(_parquet_files(path) if os.path.isdir(path) else [path], path, "DIR/SPLIT-*.parquet")
    named = [file for file in files if file.stem == split or file.name.startswith(f"{split}-")]
    for file in named or files:
        columns = parquet_columns(file)
        if not named and os.path.isdir(path) and "split" not in columns:
            raise DatasetError(
                f"Parquet files must be named SPLIT-*.parquet or have a column split, got {file.name} for the split "
                f"{split!r}; rename it, or give that file alone"
            )
        filtered = not named and "split" in columns
        for batch in parquet_batches(file, rows=_ROWS_AT_ONCE, columns=sorted(columns & _WANTED)):
            yield from (row for row in batch if not filtered or row["split"] == split)


def _streamed_rows(name: str, split: str) -> Iterator[Record]:
    """Yield the rows of a split of a dataset on the Hub, images undecoded."""
    try:
        yield from streamed_rows(_hub_id(name) or name, split)
    except (ValueError, OSError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DatasetError(
            f"a Hub id must name a dataset that can be reached and has the split {split!r}, got {name} "
            f"({first_line}); check both, or download its Parquet files and give their folder"
        ) from error


def _objects(rows: Iterable[Record], split: str, root: Path | None) -> Iterator[ReferredObject]:
    """Yield rows as objects; the columns of the first one decide the form."""
    encoded: bool | None = None
    for number, row in enumerate(rows):
        if encoded is None:
            encoded = _is_encoded_form(row)
        key = f"{split}/{number}"
        yield _encoded_object(row, key, split) if encoded else _path_object(row, key, split, root)
    if encoded is None:
        raise DatasetError(f"the split {split!r} must have rows, got none; check its name")


def _is_encoded_form(columns: Iterable[str]) -> bool:
    """Return whether columns are those of the form with encoded images; False for the form with paths.

    Raises:
        DatasetError: columns of neither form, or of both: how to read a box would be ambiguous.
    """
    found = set(columns)
    forms = [found >= ENCODED_FORM, found >= PATH_FORM]
    if sum(forms) != 1:
        raise DatasetError(
            f"Parquet files must have either the columns {', '.join(sorted(ENCODED_FORM))} (boxes x,y,w,h) or "
            f"{', '.join(sorted(PATH_FORM))} (boxes x1,y1,x2,y2), got {', '.join(sorted(found))}; rename or drop some"
        )
    return forms[0]


def _encoded_object(row: Record, key: str, split: str) -> ReferredObject:
    picture = row["image"].get("bytes") if isinstance(row["image"], dict) else None
    if not isinstance(picture, bytes):
        raise DatasetError(f"the column image must hold encoded images {{'bytes', 'path'}}, got none for {key}")
    return ReferredObject(
        key=key,
        split=row.get("split") or split,
        picture=picture,
        sentences=spoken(_texts(row["answer"], key)),
        box_xyxy_px=checked_box(row["bbox"], key, corners=False),
    )


def _path_object(row: Record, key: str, split: str, root: Path | None) -> ReferredObject:
    if root is None:
        raise DatasetError(
            f"a dataset without encoded images must be in a folder, got {key} with the path {row['image_path']}; "
            "download its Parquet files beside the images of COCO train2014 and give that folder"
        )
    return ReferredObject(
        key=key,
        split=row.get("split") or split,
        picture=_find_picture(root, str(row["image_path"])),
        sentences=spoken(_texts(row["sentences"], key)),
        box_xyxy_px=checked_box(row["bbox"], key, corners=True),
        size=_annotated_size(row.get("raw_image_info"), key),
    )


def _texts(values: Any, key: str) -> list[str | None]:
    """Return the sentences of a text, or of a list of texts or of `{"sent", "raw"}`."""
    listed = values if isinstance(values, list) else [values]
    texts = [value.get("sent") or value.get("raw") if isinstance(value, dict) else value for value in listed]
    if not all(text is None or isinstance(text, str) for text in texts):
        raise DatasetError(f"sentences must be texts or {{'sent', 'raw'}}, got {values!r} for {key}")
    return texts


def _find_picture(root: Path, path: str) -> Path:
    """Find the image of a path such as `coco/train2014/NAME.jpg`.

    It is below the root, or by its name in `images/train2014`, `train2014`, `images` or the root itself.

    Raises:
        DatasetError: it is in none of these places.
    """
    places: Sequence[Path] = [root / path, *(root / folder / Path(path).name for folder in _PICTURE_FOLDERS)]
    for place in places:
        if os.path.isfile(place):
            return place
    raise DatasetError(
        f"the image {path} must be below {root}, got no such file; extract COCO's train2014.zip into {root / 'images'}"
    )


def _annotated_size(info: Any, key: str) -> tuple[int, int] | None:
    """Return width and height from `raw_image_info`, COCO's record of the image as JSON; None if it has none."""
    record = parse_json(info, f"raw_image_info of {key}") if isinstance(info, str) else info
    if not isinstance(record, dict) or not record.get("width") or not record.get("height"):
        return None
    if not (is_number(record["width"]) and is_number(record["height"])):
        raise DatasetError(f"width and height of raw_image_info must be numbers, got others for {key}; get it again")
    return int(record["width"]), int(record["height"])
