"""Read conversations about images and videos from JSON lists: LLaVA's and VideoChat's.

    DIR/blip_laion_cc_sbu_558k.json    DIR/00453/004539375.jpg      (LLaVA-Pretrain, 558k captions)
    DIR/llava_v1_5_mix665k.json    DIR/{coco,gqa,ocr_vqa,textvqa,vg}/…    (LLaVA-Instruct, or llava_instruct_150k.json)
    DIR/videochat_instruct_11k.json    DIR/videos/…/1.mp4    (VideoChat)

LLaVA (https://github.com/haotian-liu/LLaVA, Liu et al., NeurIPS 2023, CVPR 2024) lists ``{"id", "image",
"conversations": [{"from": "human" | "gpt", "value"}…]}``; `<image>` in the value of a question stands for the image.
VideoChat (https://github.com/OpenGVLab/InternVideo, Li et al., arXiv 2305.06355) and VideoChat2 list ``{"video": PATH,
"QA": [{"i", "q", "a"}…]}``: `q` is the question, `a` the answer, and `i` an instruction before the first question; `i`
or `q` may be missing. Entries without an image (ShareGPT's in the 665k) or video are skipped.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from elysium.processing.data_files import DatasetError

from .annotation_files import VIDEO_SUFFIXES, check_some, fields_of, first_file
from .frame_sources import ImageFrames, VideoFrames
from .indexed_json import index_json_array
from .samples import Sample, SampleList, Turn

PRETRAIN_FILES = ("blip_laion_cc_sbu_558k.json",)
INSTRUCT_FILES = ("llava_v1_5_mix665k.json", "llava_instruct_150k.json")
SUFFIXES = (".mp4", ".webm", ".mkv")
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
    return _samples("llava-pretrain", "image", _llava_file(path, PRETRAIN_FILES), images, _llava_sample)


def llava_instruct_samples(path: str, *, images: str | None = None) -> SampleList:
    """Return a sample for each conversation about an image of LLaVA-Instruct.

    Args:
        path: the JSON file, or the folder that holds it: the mixture of 665k, else the 150k.
        images: as in `llava_pretrain_samples`; for the 150k the images of COCO's train2017.

    Raises:
        DatasetError: no such file, or not a JSON list of entries with images.
    """
    return _samples("llava-instruct", "image", _llava_file(path, INSTRUCT_FILES), images, _llava_sample)


def videochat_samples(path: str, *, videos: str | None = None) -> SampleList:
    """Return a sample for each video, its questions as one conversation.

    Args:
        path: the JSON file, or a folder that holds one.
        videos: folder that video paths are relative to; by default as in `llava_pretrain_samples`. A video may have
            another suffix of .mp4, .webm and .mkv than the entry says.

    Raises:
        DatasetError: no such file, several in the folder, or no JSON list of entries with videos.
    """
    file = Path(path)
    if os.path.isdir(file):
        found = check_some(sorted(file.glob("*.json")), file, "DIR/QUESTIONS.json")
        if len(found) > 1:
            names = ", ".join(one.name for one in found)
            raise DatasetError(f"a folder must hold one JSON file of questions, got {names} in {file}; give its path")
        file = found[0]
    return _samples("videochat", "video", file, videos, _videochat_sample)


def _llava_file(path: str, names: tuple[str, ...]) -> Path:
    return first_file(Path(path), names, ("",)) if os.path.isdir(path) else Path(path)


def _samples(name: str, kind: str, file: Path, media: str | None, make: Callable[..., Sample]) -> SampleList:
    """Return the entries of a file that have an image or video (``kind``) as samples."""
    folder = Path(media) if media else file.parent / f"{kind}s"
    if not media and not os.path.isdir(folder):
        folder = file.parent

    def skip_reason(entry: Any) -> str | None:
        return f"an entry has no {kind}" if isinstance(entry, dict) and not entry.get(kind) else None

    entries, skipped = index_json_array(file, skip_reason)
    return SampleList(name, entries, partial(make, name=name, file=file, media=folder), skipped)


def _llava_sample(numbered: tuple[int, Any], *, name: str, file: Path, media: Path) -> Sample:
    """Return an entry as a sample.

    Raises:
        DatasetError: the entry has another form.
    """
    number, entry = numbered
    where = f"entry {number} of {file}"
    entry_id, image, conversation = fields_of(entry, ("id", "image", "conversations"), where)
    if not isinstance(image, str):
        raise DatasetError(f"image must be one path, got {image!r} in {where}; leave the entry out")
    turns = _llava_turns(conversation, where)
    return Sample(source=name, key=f"{number}-{entry_id}", frames=ImageFrames([media / image]), turns=turns)


def _llava_turns(conversation: Any, where: str) -> tuple[Turn, ...]:
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


def _videochat_sample(numbered: tuple[int, Any], *, name: str, file: Path, media: Path) -> Sample:
    """Return an entry as a sample.

    Raises:
        DatasetError: the entry has another form, is about a part of a video, or its video is missing.
    """
    number, entry = numbered
    where = f"entry {number} of {file}"
    video, parts = fields_of(entry, ("video", "QA"), where)
    if entry.get("start") is not None or entry.get("end") is not None:
        raise DatasetError(
            f"an entry must be about a whole video, got one from {entry.get('start')} to {entry.get('end')} s in "
            f"{where}; cut that part out of the video and remove start and end"
        )
    frames = VideoFrames(_find_video(media / str(video), where))
    return Sample(source=name, key=f"{number}/{video}", frames=frames, turns=_videochat_turns(parts, where))


def _videochat_turns(parts: Any, where: str) -> tuple[Turn, ...]:
    if not isinstance(parts, list) or not parts:
        raise DatasetError(f"QA must be a list of questions with answers, got {parts!r} in {where}")
    turns = []
    for place, part in enumerate(parts):
        (answer,) = fields_of(part, ("a",), where)
        fields = ("i", "q") if place == 0 else ("q",)
        if any(not isinstance(part.get(name), str | int | float | None) for name in ("a", *fields)):
            raise DatasetError(f"a question and its answer must be text, got {part!r} in {where}")
        texts = [str(part.get(name) or "").strip() for name in fields]
        question, answer = " ".join(filter(None, texts)), str(answer).strip()
        if not question or not answer:
            raise DatasetError(f"a question and its answer must be text, got {question!r} and {answer!r} in {where}")
        turns.append((question, answer))
    return tuple(turns)


def _find_video(video: Path, where: str) -> Path:
    """Return the file of a video, which may have another suffix."""
    stem = video.stem if video.suffix.lower() in VIDEO_SUFFIXES else video.name
    places = [video, *(video.with_name(stem + suffix) for suffix in SUFFIXES)]
    for place in places:
        if os.path.isfile(place):
            return place
    raise DatasetError(
        f"a video must be there as {', '.join(SUFFIXES)}, got no {video} for {where}; give the folder of the videos"
    )
