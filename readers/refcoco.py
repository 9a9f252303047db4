"""Read RefCOCO, RefCOCO+ (Kazemzadeh et al. 2014, Yu et al. 2016) and RefCOCOg (Mao et al. 2016), on COCO train2014.

The official layout, as https://github.com/lichengunc/refer lays it out:

    DIR/refcoco/{instances.json, refs(unc).p}    DIR/refcoco+/…    DIR/refcocog/{instances.json, refs(umd).p}
    DIR/images/train2014/COCO_train2014_000000000009.jpg     (or DIR/images/mscoco/images/train2014/…)

or a Parquet form of it (`refcoco_parquet`). Boxes of `instances.json` are x,y,w,h in pixels.
"""

import os
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from elysium.processing.data_files import DatasetError, is_number, read_json

from .annotation_files import check_present, fields_of
from .frame_sources import PictureFrames
from .plain_pickle import load_plain_pickle
from .refcoco_parquet import is_parquet_source, read_parquet_objects
from .referring_records import ReferredObject, ReferringExpression, checked_box, expressions_of, spoken
from .samples import Sample, SampleList

# The partition into splits that papers report; another one is named before the split, as in "google:val".
PARTITIONS = {"refcoco": "unc", "refcoco+": "unc", "refcocog": "umd"}
PICTURE_FOLDERS = ("images/train2014", "images/mscoco/images/train2014")


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
    if is_parquet_source(source):
        found = (row for name in split.split(",") for row in read_parquet_objects(source, name.strip()))
        yield from islice(found, limit)
        return
    folder = Path(source)
    if not os.path.isdir(folder / dataset):
        raise DatasetError(
            f"RefCOCO must be a folder with {dataset}/instances.json, Parquet files, or a Hub id owner/name, got "
            f"{source}; give the folder that holds {dataset}/ and images/"
        )
    targets = [target for name in split.split(",") for target in _official(folder, dataset, name.strip())][:limit]
    pictures = [target.picture for target in targets if isinstance(target.picture, Path)]
    missing = [str(picture) for picture in dict.fromkeys(pictures) if not os.path.isfile(picture)]
    remedy = f"extract COCO's train2014.zip into {folder / PICTURE_FOLDERS[0]}"
    check_present(missing, len(set(pictures)), "images", remedy)
    yield from targets


def refcoco_samples(path: str, *, dataset: str = "refcoco", split: str = "train") -> SampleList:
    """Return a training sample for each sentence of a split: to find the object by, and to describe it with.

    Args:
        path: folder in the official layout, or Parquet files with paths of images.
        dataset: "refcoco", "refcoco+" or "refcocog".
        split: "train", or several with commas; "google:train" for Google's partition.

    Raises:
        DatasetError: another layout or split, missing images, or images inside Parquet files, which would fill the
            memory.
    """
    if not os.path.exists(Path(path)):
        raise DatasetError(f"{dataset} must be an existing folder or parquet file, got {path}; check the path")
    expressions: list[ReferringExpression] = []
    for target in read_referred_objects(path, dataset, split):
        if isinstance(target.picture, bytes):
            raise DatasetError(
                f"images to train with must be files, got encoded ones in {path}; use the official layout with "
                "COCO's train2014"
            )
        expressions.extend(expressions_of(target))
    return SampleList(dataset, expressions, partial(_sample, name=dataset))


def _sample(expression: ReferringExpression, *, name: str) -> Sample:
    """Return a sentence as a training sample.

    Raises:
        DatasetError: nothing of the box is inside the image, or the image does not open.
    """
    target: ReferredObject = expression.target
    frames = PictureFrames([target.picture])
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


def _official(root: Path, dataset: str, split: str) -> list[ReferredObject]:
    """Return the objects of one split of the official layout."""
    partition, colon, name = split.rpartition(":")
    references = _references(root / dataset, partition if colon else PARTITIONS[dataset])
    chosen = [row for row in references if row["split"] == name or (name == "test" and row["split"].startswith(name))]
    if not chosen:
        known = ", ".join(sorted({row["split"] for row in references}))
        raise DatasetError(f"the split must be one of {known} in {root / dataset}, got {split!r}")
    images, annotations = _instances(root / dataset / "instances.json")
    folders = [root / place for place in PICTURE_FOLDERS]
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


def _form_of(sentence: dict[str, Any], key: str) -> list[str]:
    """Return the field of a sentence that holds its text: `sent`, else `raw`; none where both are empty."""
    for form in ("sent", "raw"):
        text = sentence.get(form)
        if text is not None and not isinstance(text, str):
            raise DatasetError(f"a sentence must be text, got {type(text).__name__} for {key}; get it again")
        if text and text.strip():
            return [form]
    return []


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
    texts = [sentence.get(form) for sentence in row["sentences"] for form in _form_of(sentence, key)]
    return ReferredObject(
        key=key,
        split=row["split"],
        picture=folder / file_name,
        sentences=spoken(texts),
        box_xyxy_px=checked_box(box, key, corners=False),
        size=(int(width), int(height)),
    )
