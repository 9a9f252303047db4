"""RefCOCO, RefCOCO+ and RefCOCOg to train with: a row for each sentence, from the reader that evaluation uses."""

import os
from functools import partial
from pathlib import Path

import numpy as np

from .frame_sources import DatasetError, PictureFrames
from .refcoco import read_referred_objects
from .referring_records import ReferredObject, ReferringExpression, expressions_of
from .rows import ListRows, Row


def refcoco_rows(path: str, *, dataset: str = "refcoco", split: str = "train") -> ListRows:
    """A row for each sentence of a split, both to find the object by and to describe it with.

    Args:
        path: the folder of the official layout (see `refcoco`), or parquet files with paths of pictures.
        dataset: "refcoco", "refcoco+" or "refcocog".
        split: "train", or several with commas; "google:train" for Google's partition.

    Raises:
        DatasetError: another layout or split, pictures that are missing, or pictures inside parquet files, which
            would fill the memory.
    """
    if not os.path.exists(Path(path)):
        raise DatasetError(f"{dataset} must be an existing folder or parquet file, got {path}; check the path")
    expressions: list[ReferringExpression] = []
    for target in read_referred_objects(path, dataset, split):
        if isinstance(target.picture, bytes):
            raise DatasetError(
                f"pictures to train with must be files, got encoded ones in {path}; use the official layout with "
                "COCO's train2014"
            )
        expressions.extend(expressions_of(target))
    return ListRows(dataset, expressions, partial(_row, name=dataset))


def _row(expression: ReferringExpression, *, name: str) -> Row:
    """A sentence as a row.

    Raises:
        DatasetError: nothing of the box is inside the picture, or its size is nowhere given and it does not open.
    """
    target: ReferredObject = expression.target
    frames = PictureFrames([target.picture])
    width, height = target.size or frames.size
    box = target.box_inside(width, height)
    return Row(
        source=name,
        key=expression.key,
        frames=frames,
        boxes_xyxy_norm=np.array([box]) / [width, height, width, height],
        text=expression.text,
        description=expression.text,
    )
