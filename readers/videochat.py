"""Read VideoChat's instructions about videos: https://github.com/OpenGVLab/InternVideo (Li et al., arXiv 2305.06355).

    DIR/videochat_instruct_11k.json    DIR/videos/…/1.mp4

A file is a list of ``{"video": PATH, "QA": [{"i", "q", "a"}…]}``, also in the larger collection of VideoChat2: `q` is
the question, `a` the answer, and `i` an instruction before the first question; `i` or `q` may be missing.
"""

import os
from functools import partial
from pathlib import Path
from typing import Any

from .annotation_files import check_some
from .frame_sources import DatasetError, VideoFrames
from .indexed_json import index_json_array
from .media_files import VIDEO_SUFFIXES, fields_of
from .samples import Sample, SampleList, Turn

NAME = "videochat"
SUFFIXES = (".mp4", ".webm", ".mkv")
NO_VIDEO = "an entry has no video"


def videochat_samples(path: str, *, videos: str | None = None) -> SampleList:
    """Return a sample for each video, its questions as one conversation; entries without a video are skipped.

    Args:
        path: the JSON file, or a folder that holds one.
        videos: folder that video paths are relative to; by default `videos` beside the JSON file, or the
            folder of the JSON file where there is no such folder. A video may have another suffix of .mp4, .webm and
            .mkv than the entry says.

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
    folder = Path(videos) if videos else file.parent / "videos"
    if not videos and not os.path.isdir(folder):
        folder = file.parent
    entries, skipped = index_json_array(file, _skip_reason)
    return SampleList(NAME, entries, partial(_row, file=file, videos=folder), skipped)


def _skip_reason(entry: Any) -> str | None:
    return NO_VIDEO if isinstance(entry, dict) and not entry.get("video") else None


def _row(numbered: tuple[int, Any], *, file: Path, videos: Path) -> Sample:
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
    return Sample(
        source=NAME,
        key=f"{number}/{video}",
        frames=VideoFrames(_find(videos / str(video), where)),
        turns=_turns(parts, where),
    )


def _turns(parts: Any, where: str) -> tuple[Turn, ...]:
    if not isinstance(parts, list) or not parts:
        raise DatasetError(f"QA must be a list of questions with answers, got {parts!r} in {where}")
    turns = []
    for place, part in enumerate(parts):
        (answer,) = fields_of(part, ("a",), where)
        fields = ("i", "q") if place == 0 else ("q",)
        if any(not isinstance(part.get(name), str | int | float | None) for name in ("a", *fields)):
            raise DatasetError(f"a question and its answer must be text, got {part!r} in {where}")
        asked = [str(part.get(name) or "").strip() for name in fields]
        question, answer = " ".join(text for text in asked if text), str(answer).strip()
        if not question or not answer:
            raise DatasetError(f"a question and its answer must be text, got {question!r} and {answer!r} in {where}")
        turns.append((question, answer))
    return tuple(turns)


def _find(video: Path, where: str) -> Path:
    """Return the file of a video, which may have another suffix."""
    stem = video.stem if video.suffix.lower() in VIDEO_SUFFIXES else video.name
    places = [video, *(video.with_name(stem + suffix) for suffix in SUFFIXES)]
    for place in places:
        if os.path.isfile(place):
            return place
    raise DatasetError(
        f"a video must be there as {', '.join(SUFFIXES)}, got no {video} for {where}; give the folder of the videos"
    )
