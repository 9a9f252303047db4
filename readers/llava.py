"""Read LLaVA's conversations about images: https://github.com/haotian-liu/LLaVA (Liu et al., NeurIPS 2023, CVPR 2024).

    DIR/blip_laion_cc_sbu_558k.json    DIR/00453/004539375.jpg      (LLaVA-Pretrain, 558k captions)
    DIR/llava_v1_5_mix665k.json    DIR/{coco,gqa,ocr_vqa,textvqa,vg}/…    (LLaVA-Instruct, or llava_instruct_150k.json)

A file is a list of ``{"id", "image", "conversations": [{"from": "human" | "gpt", "value"}…]}``; in the value of a
question `<image>` stands for the image. Entries without an image (ShareGPT's in the
665k) are skipped.
"""

import os
from functools import partial
from pathlib import Path
from typing import Any

from .frame_sources import DatasetError, PictureFrames
from .indexed_json import index_json_array
from .media_files import fields_of, first_file
from .samples import Sample, SampleList, Turn

PRETRAIN_FILES = ("blip_laion_cc_sbu_558k.json",)
INSTRUCT_FILES = ("llava_v1_5_mix665k.json", "llava_instruct_150k.json")
NO_IMAGE = "an entry has no image"
_PLACEHOLDER = "<image>"


def llava_pretrain_samples(path: str, *, images: str | None = None) -> SampleList:
    """Return a sample for each image of LLaVA-558K, with its caption as one turn.

    Args:
        path: the JSON file, or the folder that holds it.
        images: folder that image paths are relative to; by default `images` beside the JSON file, or
            the folder of the JSON file where that does not exist.

    Raises:
        DatasetError: no such file, or not a JSON list of entries with images.
    """
    return _llava_samples("llava-pretrain", path, PRETRAIN_FILES, images)


def llava_instruct_samples(path: str, *, images: str | None = None) -> SampleList:
    """Return a sample for each conversation about an image of LLaVA-Instruct.

    Args:
        path: the JSON file, or the folder that holds it: the mixture of 665k, else the 150k.
        images: as in `llava_pretrain_samples`; for the 150k the images of COCO's train2017.

    Raises:
        DatasetError: no such file, or not a JSON list of entries with images.
    """
    return _llava_samples("llava-instruct", path, INSTRUCT_FILES, images)


def _llava_samples(name: str, path: str, files: tuple[str, ...], images: str | None) -> SampleList:
    file = first_file(Path(path), files, ("",)) if os.path.isdir(Path(path)) else Path(path)
    folder = Path(images) if images else file.parent / "images"
    if not images and not os.path.isdir(folder):
        folder = file.parent
    entries, skipped = index_json_array(file, _skip_reason)
    return SampleList(name, entries, partial(_row, name=name, file=file, images=folder), skipped)


def _skip_reason(entry: Any) -> str | None:
    return NO_IMAGE if isinstance(entry, dict) and not entry.get("image") else None


def _row(numbered: tuple[int, Any], *, name: str, file: Path, images: Path) -> Sample:
    """Return an entry as a sample.

    Raises:
        DatasetError: the entry has another form.
    """
    number, entry = numbered
    where = f"entry {number} of {file}"
    entry_id, image, conversation = fields_of(entry, ("id", "image", "conversations"), where)
    if not isinstance(image, str):
        raise DatasetError(f"image must be one path, got {image!r} in {where}; leave the entry out")
    return Sample(
        source=name,
        key=f"{number}-{entry_id}",
        frames=PictureFrames([images / image]),
        turns=_turns(conversation, where),
    )


def _turns(conversation: Any, where: str) -> tuple[Turn, ...]:
    """Return questions with their answers, without placeholders of images."""
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
            raise DatasetError(f"a turn must have text, got {type(value).__name__} of {speaker!r} in {where}")
        if speaker != wanted:
            raise DatasetError(f"human and gpt must take turns, got {speaker!r} for {wanted!r} in {where}")
        text = without_placeholder(value)
        if not text:
            raise DatasetError(f"a turn must have text, got {value!r} of {speaker} in {where}; leave the entry out")
        texts.append(text)
    return tuple(zip(texts[::2], texts[1::2], strict=True))


def without_placeholder(text: str) -> str:
    """Return the text without `<image>`, and without a line that held nothing else.

    >>> without_placeholder("<image>\\nWhat is this?"), without_placeholder("Is <image> red?")
    ('What is this?', 'Is red?')
    """
    lines = []
    for line in text.split("\n"):
        rest = " ".join(line.replace(_PLACEHOLDER, " ").split()) if _PLACEHOLDER in line else line
        if rest or _PLACEHOLDER not in line:
            lines.append(rest)
    return "\n".join(lines).strip()
