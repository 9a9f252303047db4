"""LLaVA's conversations about pictures: https://github.com/haotian-liu/LLaVA (Liu et al., NeurIPS 2023, CVPR 2024).

    DIR/blip_laion_cc_sbu_558k.json    DIR/00453/004539375.jpg      (LLaVA-Pretrain, 558k captions)
    DIR/llava_v1_5_mix665k.json    DIR/{coco,gqa,ocr_vqa,textvqa,vg}/…    (LLaVA-Instruct, or llava_instruct_150k.json)

A file is a list of ``{"id", "image", "conversations": [{"from": "human" | "gpt", "value"}…]}``; in the value of a
question `<image>` stands for the picture. Entries without a picture (ShareGPT's in the
665k) are skipped.
"""

import os
from functools import partial
from pathlib import Path
from typing import Any

from .frame_sources import DatasetError, PictureFrames
from .indexed_json import index_json_array
from .media_files import fields_of, first_file
from .rows import ListRows, Row, Turn

PRETRAIN_FILES = ("blip_laion_cc_sbu_558k.json",)
INSTRUCT_FILES = ("llava_v1_5_mix665k.json", "llava_instruct_150k.json")
NO_PICTURE = "an entry has no picture"
_PLACEHOLDER = "<image>"


def llava_pretrain_rows(path: str, *, images: str | None = None) -> ListRows:
    """LLaVA-558K: a row for each picture with its caption as one turn.

    Args:
        path: the JSON file, or the folder that holds it.
        images: the folder that the paths of pictures are relative to; by default `images` beside the JSON file, or
            the folder of the JSON file where there is no such folder.

    Raises:
        DatasetError: no such file, or no JSON list of entries with pictures.
    """
    return _llava_rows("llava-pretrain", path, PRETRAIN_FILES, images)


def llava_instruct_rows(path: str, *, images: str | None = None) -> ListRows:
    """LLaVA-Instruct: a row for each conversation about a picture.

    Args:
        path: the JSON file, or the folder that holds it: the mixture of 665k, else the 150k.
        images: as of `llava_pretrain_rows`; for the 150k the pictures of COCO's train2017.

    Raises:
        DatasetError: no such file, or no JSON list of entries with pictures.
    """
    return _llava_rows("llava-instruct", path, INSTRUCT_FILES, images)


def _llava_rows(name: str, path: str, files: tuple[str, ...], images: str | None) -> ListRows:
    file = first_file(Path(path), files, ("",)) if os.path.isdir(Path(path)) else Path(path)
    folder = Path(images) if images else file.parent / "images"
    if not images and not os.path.isdir(folder):
        folder = file.parent
    entries, skipped = index_json_array(file, _skip_reason)
    return ListRows(name, entries, partial(_row, name=name, file=file, images=folder), skipped)


def _skip_reason(entry: Any) -> str | None:
    return NO_PICTURE if isinstance(entry, dict) and not entry.get("image") else None


def _row(numbered: tuple[int, Any], *, name: str, file: Path, images: Path) -> Row:
    """An entry as a row.

    Raises:
        DatasetError: the entry is not as the module says.
    """
    number, entry = numbered
    where = f"entry {number} of {file}"
    entry_id, image, conversation = fields_of(entry, ("id", "image", "conversations"), where)
    if not isinstance(image, str):
        raise DatasetError(f"image must be one path, got {image!r} in {where}; leave the entry out")
    return Row(
        source=name,
        key=f"{number}-{entry_id}",
        frames=PictureFrames([images / image]),
        turns=_turns(conversation, where),
    )


def _turns(conversation: Any, where: str) -> tuple[Turn, ...]:
    """Questions with their answers, without the places of pictures."""
    if not isinstance(conversation, list) or not conversation or len(conversation) % 2:
        raise DatasetError(
            f"conversations must be a list of questions, each with its answer, got "
            f"{len(conversation) if isinstance(conversation, list) else type(conversation).__name__} in {where}"
        )
    texts = []
    for place, part in enumerate(conversation):
        speaker, value = fields_of(part, ("from", "value"), where)
        wanted = ("human", "gpt")[place % 2]
        if not isinstance(value, str):
            raise DatasetError(f"a turn must have words, got {type(value).__name__} of {speaker!r} in {where}")
        if speaker != wanted:
            raise DatasetError(f"human and gpt must take turns, got {speaker!r} for {wanted!r} in {where}")
        text = without_placeholder(value)
        if not text:
            raise DatasetError(f"a turn must have words, got {value!r} of {speaker} in {where}; leave the entry out")
        texts.append(text)
    return tuple(zip(texts[::2], texts[1::2], strict=True))


def without_placeholder(text: str) -> str:
    """The text without `<image>`, and without the line that it had to itself.

    >>> without_placeholder("<image>\\nWhat is this?"), without_placeholder("Is <image> red?")
    ('What is this?', 'Is red?')
    """
    lines = []
    for line in text.split("\n"):
        rest = " ".join(line.replace(_PLACEHOLDER, " ").split()) if _PLACEHOLDER in line else line
        if rest or _PLACEHOLDER not in line:
            lines.append(rest)
    return "\n".join(lines).strip()
