"""Read RefCOCO, RefCOCO+ (Kazemzadeh et al. 2014, Yu et al. 2016) and RefCOCOg (Mao et al. 2016), on COCO train2014.

The official layout, as https://github.com/lichengunc/refer lays it out:

    DIR/refcoco/{instances.json, refs(unc).p}    DIR/refcoco+/…    DIR/refcocog/{instances.json, refs(umd).p}
    DIR/images/train2014/COCO_train2014_000000000009.jpg     (or DIR/images/mscoco/images/train2014/…)

or Parquet as `lmms-lab/RefCOCO` has it, in files or streamed from the Hub: `answer` lists the sentences, `image` holds
the encoded image. All boxes (`bbox`) are x,y,w,h in pixels.
"""

import os
import re
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from elysium.processing.data_files import DatasetError, is_number, parquet_batches, read_json

from .annotation_files import check_present, fields_of
from .elysium_track import streamed_rows
from .frame_sources import ImageFrames
from .plain_pickle import load_plain_pickle
from .referring_records import ReferredObject, ReferringExpression, checked_box, expressions_of, spoken
from .samples import Sample, SampleList

# The partition into splits that papers report; another one is named before the split, as in "google:val".
PARTITIONS = {"refcoco": "unc", "refcoco+": "unc", "refcocog": "umd"}
IMAGE_FOLDERS = ("images/train2014", "images/mscoco/images/train2014")
COLUMNS = ("answer", "image", "bbox")
_ROWS_AT_ONCE = 32  # encoded images in memory together


def read_refcoco(
    source: str | Path, dataset: str = "refcoco", split: str = "val", *, limit: int | None = None
) -> Iterator[ReferringExpression]:
    """Yield each sentence of a split, as `read_referred_objects` yields objects; ``limit`` counts sentences."""
    targets = read_referred_objects(source, dataset, split, limit=limit)
    yield from islice((expression for target in targets for expression in expressions_of(target)), limit)


def read_referred_objects(
    source: str | Path, dataset: str = "refcoco", split: str = "val", *, limit: int | None = None
) -> Iterator[ReferredObject]:
    """Yield the objects of a split with all their sentences, in the order of the dataset.

    Args:
        source: folder in the official layout; a Parquet file or a folder of them; or a Hub id.
        dataset: "refcoco", "refcoco+" or "refcocog".
        split: "train", "val", "test", "testA" or "testB", or several with commas. "test" includes testA and testB,
            as in the official code. "google:val" means Google's partition instead of that in `PARTITIONS`.
        limit: most objects; images of the others need not exist.

    Raises:
        DatasetError: another layout, an unknown split, or missing images.
    """
    if dataset not in PARTITIONS:
        raise DatasetError(f"the dataset must be one of {', '.join(PARTITIONS)}, got {dataset!r}")
    folder, splits = Path(source), [name.strip() for name in split.split(",")]
    if is_parquet_source(source):
        found = chain.from_iterable(_parquet_objects(source, name) for name in splits)
        yield from islice(found, limit)
        return
    if not os.path.isdir(folder / dataset):
        raise DatasetError(
            f"RefCOCO must be a folder with {dataset}/instances.json, Parquet files, or a Hub id owner/name, got "
            f"{source}; give the folder that holds {dataset}/ and images/"
        )
    targets = [target for name in splits for target in _official(folder, dataset, name)][:limit]
    images = list(dict.fromkeys(target.image for target in targets))
    missing = [str(image) for image in images if not os.path.isfile(image)]
    remedy = f"extract COCO's train2014.zip into {folder / IMAGE_FOLDERS[0]}"
    check_present(missing, len(images), "images", remedy)
    yield from targets


def refcoco_samples(path: str, *, dataset: str = "refcoco", split: str = "train") -> SampleList:
    """Return a training sample for each sentence of a split: to find the object by, and to describe it with.

    Args:
        path: folder in the official layout; encoded images of Parquet files would fill the memory.
        dataset: "refcoco", "refcoco+" or "refcocog".
        split: "train", or several with commas; "google:train" for Google's partition.

    Raises:
        DatasetError: another layout or split, or missing images.
    """
    if is_parquet_source(path) or not os.path.exists(path):
        raise DatasetError(
            f"{dataset} to train with must be a folder in the official layout, got {path}; check the path"
        )
    expressions = [one for target in read_referred_objects(path, dataset, split) for one in expressions_of(target)]
    return SampleList(dataset, expressions, partial(_sample, name=dataset))


def _sample(expression: ReferringExpression, *, name: str) -> Sample:
    """Return a sentence as a training sample.

    Raises:
        DatasetError: nothing of the box is inside the image, or the image does not open.
    """
    target: ReferredObject = expression.target
    frames = ImageFrames([target.image])
    width, height = target.size or frames.size
    box = target.box_inside(width, height)
    return Sample(
        source=name,
        key=expression.key,
        frames=frames,
        boxes_xyxy_norm=np.array([box]) / [width, height, width, height],
        text=expression.text,
        description=expression.text,
    )


def is_parquet_source(source: str | Path) -> bool:
    """Return whether a source is a Parquet file, a folder of them, or a dataset on the Hub."""
    path = Path(source)
    if os.path.isdir(path):
        return bool(_parquet_files(path))
    return path.suffix == ".parquet" or (not os.path.exists(path) and _hub_id(source) is not None)


def _parquet_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet")) or sorted((folder / "data").glob("*.parquet"))


def _hub_id(source: str | Path) -> str | None:
    """Return `owner/name` of a Hub id, with or without `hf://datasets/` before it; else None.

    >>> _hub_id("hf://datasets/lmms-lab/RefCOCO"), _hub_id("./here/or/there")
    ('lmms-lab/RefCOCO', None)
    """
    found = re.fullmatch(r"(?:hf://)?(?:datasets/)?(\w[\w.-]*/[\w.-]+)", str(source))
    return found[1] if found else None


def _parquet_objects(source: str | Path, split: str) -> Iterator[ReferredObject]:
    """Yield the objects of one split in the order of the rows.

    Of a folder the files named SPLIT.parquet or SPLIT-*.parquet are read, a single file as a whole.
    """
    number = -1
    for number, row in enumerate(_parquet_rows(source, split)):
        key = f"{split}/{number}"
        answer, image, box = fields_of(row, COLUMNS, f"row {key} of {source}")
        content = image.get("bytes") if isinstance(image, dict) else None
        if not isinstance(content, bytes):
            raise DatasetError(f"the column image must hold encoded images {{'bytes', 'path'}}, got none for {key}")
        texts = answer if isinstance(answer, list) else [answer]
        if not all(text is None or isinstance(text, str) for text in texts):
            raise DatasetError(f"sentences must be texts, got {answer!r} for {key}")
        yield ReferredObject(
            key=key, split=split, image=content, sentences=spoken(texts), box_xyxy_px=checked_box(box, key)
        )
    if number < 0:
        raise DatasetError(f"the split {split!r} must have rows, got none; check its name")


def _parquet_rows(source: str | Path, split: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a split from local files, or streamed from the Hub with images undecoded."""
    path = Path(source)
    if not os.path.exists(path) and path.suffix != ".parquet":
        try:
            yield from streamed_rows(_hub_id(source) or str(source), split)
        except (ValueError, OSError) as error:
            first_line = (str(error).splitlines() or [type(error).__name__])[0]
            raise DatasetError(
                f"a Hub id must name a dataset that can be reached and has the split {split!r}, got {source} "
                f"({first_line}); check both, or download its Parquet files and give their folder"
            ) from error
        return
    files = [path]
    if os.path.isdir(path):
        found = _parquet_files(path)
        files = [file for file in found if file.stem == split or file.name.startswith(f"{split}-")]
        if not files:
            names = ", ".join(file.name for file in found)
            raise DatasetError(
                f"Parquet files of the split {split!r} must be named SPLIT-*.parquet, got {names}; rename one, or "
                "give that file alone"
            )
    for file in files:
        for batch in parquet_batches(file, rows=_ROWS_AT_ONCE, columns=COLUMNS):
            yield from batch


def _official(root: Path, dataset: str, split: str) -> list[ReferredObject]:
    """Return the objects of one split of the official layout."""
    partition, colon, name = split.rpartition(":")
    references = _references(root / dataset, partition if colon else PARTITIONS[dataset])
    chosen = [row for row in references if row["split"] == name or (name == "test" and row["split"].startswith(name))]
    if not chosen:
        known = ", ".join(sorted({row["split"] for row in references}))
        raise DatasetError(f"the split must be one of {known} in {root / dataset}, got {split!r}")
    images, annotations = _instances(root / dataset / "instances.json")
    folders = [root / place for place in IMAGE_FOLDERS]
    folder = next((folder for folder in folders if os.path.isdir(folder)), folders[0])
    return [_target(row, f"{dataset}/{split}", images, annotations, folder) for row in chosen]


def _references(folder: Path, partition: str) -> list[dict[str, Any]]:
    """Return the references of `refs(PARTITION).p`, after checking the fields that are used."""
    path = folder / f"refs({partition}).p"
    if not os.path.isfile(path):
        there = sorted(file.name for file in folder.glob("refs(*).p"))
        raise DatasetError(
            f"{folder} must hold {path.name}, got {', '.join(there) or 'no refs(…).p'}; get it, or name the partition "
            'that is there before the split, as in "google:val"'
        )
    rows = load_plain_pickle(path)
    if not isinstance(rows, list) or not rows:
        raise DatasetError(f"{path} must hold a list of references, got {type(rows).__name__}; get it again")
    for number, row in enumerate(rows):
        where = f"reference {number} of {path}"
        *ids, split, sentences = fields_of(row, ("ref_id", "ann_id", "image_id", "split", "sentences"), where)
        listed = isinstance(sentences, list | tuple) and all(isinstance(sentence, dict) for sentence in sentences)
        if not (listed and isinstance(split, str) and all(isinstance(one, int | str) for one in ids)):
            raise DatasetError(
                f"a reference must have numbers as ids, text as split and a list of sentences, got others in {where}"
            )
    return rows


def _instances(path: Path) -> tuple[dict[Any, dict[str, Any]], dict[Any, dict[str, Any]]]:
    """Return images and boxes of `instances.json` by their ids."""
    content = read_json(path)
    images, annotations = fields_of(content, ("images", "annotations"), str(path))
    return _by_id(images, "images", path), _by_id(annotations, "annotations", path)


def _by_id(rows: Any, name: str, path: Path) -> dict[Any, dict[str, Any]]:
    """Return the entries of a list of `instances.json` by their ids."""
    if not isinstance(rows, list):
        raise DatasetError(f"{name} must be a list, got {type(rows).__name__} in {path}; get it again")
    found = {}
    for number, row in enumerate(rows):
        (row_id,) = fields_of(row, ("id",), f"{name} {number} of {path}")
        if not isinstance(row_id, int | str):
            raise DatasetError(f"an id must be a number, got {type(row_id).__name__} in {name} {number} of {path}")
        found[row_id] = row
    return found


def _text_of(sentence: dict[str, Any], key: str) -> str | None:
    """Return the text of a sentence: `sent`, or `raw` where that is empty."""
    texts = [sentence.get(form) for form in ("sent", "raw")]
    if not all(text is None or isinstance(text, str) for text in texts):
        raise DatasetError(f"a sentence must be text, got {texts!r} for {key}; get it again")
    return next((text for text in texts if text and text.strip()), None)


def _target(
    row: dict[str, Any], place: str, images: dict[Any, Any], annotations: dict[Any, Any], folder: Path
) -> ReferredObject:
    """Return a reference with its image and its box."""
    key = f"{place}/{row['ref_id']}"
    if row["image_id"] not in images or row["ann_id"] not in annotations:
        raise DatasetError(
            f"instances.json must hold image {row['image_id']} and annotation {row['ann_id']} of {key}, got no such "
            "ids; take both files from one archive"
        )
    # A reference's own file_name ends in the annotation's number; the image's name is in instances.json.
    file_name, width, height = fields_of(images[row["image_id"]], ("file_name", "width", "height"), key)
    (box,) = fields_of(annotations[row["ann_id"]], ("bbox",), key)
    if not (isinstance(file_name, str) and is_number(width) and is_number(height)):
        raise DatasetError(f"an image must have a file_name, width and height, got others for {key}; get it again")
    return ReferredObject(
        key=key,
        split=row["split"],
        image=folder / file_name,
        sentences=spoken([_text_of(sentence, key) for sentence in row["sentences"]]),
        box_xyxy_px=checked_box(box, key),
        size=(int(width), int(height)),
    )
