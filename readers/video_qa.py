"""Read questions about videos with short answers, in the official layouts of four datasets and as plain JSONL.

    msvd-qa         DIR/test_qa.json, DIR/youtube_mapping.txt    Xu et al. 2017: [{question, answer, video_id, id}]
    msrvtt-qa       DIR/test_qa.json                             Xu et al. 2017: the same; video 7010 is video7010
    tgif-qa         DIR/Test_frameqa_question.csv                Jang et al. 2017: tab-separated, FrameQA only:
                                                                 gif_name, question, answer, type, vid_id, key
    activitynet-qa  DIR/test_q.json, DIR/test_a.json             Yu et al. 2019: joined by question_id; video v_NAME
    video-qa        FILE.jsonl, or DIR/test.jsonl                {video, question, answer}, and type where it is known

"test" stands for the split. Annotations may also lie in DIR/annotations or DIR/dataset. Videos lie in DIR or in a
folder in it and are found by their names, with any suffix of `VIDEO_SUFFIXES`; a JSONL file names them by path, from
its own folder.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from elysium.processing.data_files import DatasetError, read_csv, read_json, read_json_lines, read_text

from .annotation_files import VIDEO_SUFFIXES, check_present, fields_of, first_file

_FOLDERS = ("", "annotations", "dataset")
_REMEDY = "put the videos into a folder beside the annotations, or ask for fewer questions"
# The types of MSVD-QA and MSRVTT-QA are the first words of their questions.
FIRST_WORDS = ("what", "who", "how", "when", "where")
# FrameQA was made with COCO-QA's question generator and keeps its numbers.
FRAME_QA_TYPES = {"0": "object", "1": "number", "2": "colour", "3": "location"}
ACTIVITYNET_TYPES = {
    "0": "motion",
    "1": "spatial relationship",
    "2": "temporal relationship",
    "3": "yes/no",
    "4": "colour",
    "5": "object",
    "6": "location",
    "7": "number",
    "8": "other",
}


@dataclass(frozen=True, kw_only=True)
class VideoQuestion:
    """One question about one video.

    Args:
        key: unique in its dataset, and the same whenever it is read.
        video: path of the video.
        question: text of the question.
        answer: true answer.
        question_type: as in the dataset, else the question's first word, or "other".
    """

    key: str
    video: Path
    question: str
    answer: str
    question_type: str


@dataclass(frozen=True)
class _Entry:
    """A question with names of its video; the first name that exists counts."""

    names: tuple[str, ...]
    question: str
    answer: str
    question_type: str


def read_video_questions(
    dataset: str, source: str | Path, split: str = "test", *, limit: int | None = None
) -> Iterator[VideoQuestion]:
    """Yield the questions of a split, in the order of their file.

    Args:
        dataset: one of `DATASETS`.
        source: folder in the dataset's official layout; for "video-qa" a JSONL file, or a folder with SPLIT.jsonl.
        split: "test", "val" or "train".
        limit: most questions; the videos of the others need not exist.

    Raises:
        DatasetError: another layout, a row without a required field, or missing videos.
    """
    if dataset not in DATASETS:
        raise DatasetError(f"the dataset must be one of {', '.join(DATASETS)}, got {dataset!r}")
    place = Path(source)
    if not os.path.exists(place):
        raise DatasetError(f"{dataset} must be in an existing folder or file, got {source}; check the path")
    entries = list(islice(DATASETS[dataset](place, split), limit))
    if dataset == "video-qa":
        root = place if os.path.isdir(place) else place.parent
        videos = [root / entry.names[0] for entry in entries]
        missing = [str(video) for video in videos if not os.path.exists(video)]
        check_present(missing, len(set(videos)), "videos", _REMEDY)
    else:
        videos = _found_videos(place, entries)
    for number, (entry, video) in enumerate(zip(entries, videos, strict=True)):
        yield VideoQuestion(
            key=f"{split}/{number}",
            video=video,
            question=entry.question,
            answer=entry.answer,
            question_type=entry.question_type,
        )


def first_word_type(question: str) -> str:
    """Return the type of a question by its first word.

    >>> first_word_type("What is a man doing?"), first_word_type("is it red?")
    ('what', 'other')
    """
    words = question.lower().split()
    return words[0] if words and words[0] in FIRST_WORDS else "other"


def _found_videos(root: Path, entries: list[_Entry]) -> list[Path]:
    """Return the video of each entry, found by its name in the folder or in one of its folders.

    Where a name occurs more than once, the order of `VIDEO_SUFFIXES` decides, then that of the paths.
    """
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")]
    files = [file for folder in folders for file in sorted(folder.iterdir()) if file.name[0] != "."]
    index: dict[str, Path] = {}
    for suffix in VIDEO_SUFFIXES:
        for file in files:
            if file.suffix.lower() == suffix:
                index.setdefault(file.stem, file)
    found = [next((index[name] for name in entry.names if name in index), None) for entry in entries]
    missing = [entry.names[0] for entry, video in zip(entries, found, strict=True) if video is None]
    check_present(missing, len({entry.names for entry in entries}), f"videos below {root}", _REMEDY)
    return [video for video in found if video is not None]


def _msvd_or_msrvtt(root: Path, split: str, *, prefix: str) -> Iterator[_Entry]:
    """Yield entries of `SPLIT_qa.json`: a video is named by `video` or by ``prefix`` and the number in `video_id`.

    MSVD-QA's `youtube_mapping.txt` has the file's name and `vidNUMBER` on each line.
    """
    mapping = root / "youtube_mapping.txt"
    text = read_text(mapping) if os.path.exists(mapping) else ""
    pairs = [line.split() for line in text.splitlines() if line.strip()]
    if any(len(pair) != 2 for pair in pairs):
        raise DatasetError(f"a line of youtube_mapping.txt must be NAME vidNUMBER, got another one in {mapping}")
    names = {number: name for name, number in pairs}
    for row, where in _listed(first_file(root, (f"{split}_qa.json",), _FOLDERS)):
        fields_of(row, ("question", "answer"), where)
        if row.get("video") is not None:
            video = Path(str(row["video"])).stem
        else:
            (number,) = fields_of(row, ("video_id",), where)
            video = f"{prefix}{number}" if str(number).isdigit() else str(number)
        yield _entry(row, where, (names[video], video) if video in names else (video,))


def _listed(path: Path) -> Iterator[tuple[Any, str]]:
    """Yield the entries of a JSON list, each with its place."""
    rows = read_json(path)
    if not isinstance(rows, list):
        raise DatasetError(f"{path} must hold a list of questions, got {type(rows).__name__}; get it again")
    yield from ((row, f"row {number} of {path}") for number, row in enumerate(rows))


def _tgif(root: Path, split: str) -> Iterator[_Entry]:
    path = first_file(root, (f"{split.capitalize()}_frameqa_question.csv",), _FOLDERS)
    for where, row in read_csv(path, delimiter="\t").rows():
        (name,) = fields_of(row, ("gif_name",), where)
        kind = str(row.get("type") or "other")
        yield _entry(row, where, (name,), FRAME_QA_TYPES.get(kind, kind))


def _activitynet(root: Path, split: str) -> Iterator[_Entry]:
    questions = first_file(root, (f"{split}_q.json",), _FOLDERS)
    answers = first_file(root, (f"{split}_a.json",), _FOLDERS)
    told = {str(fields_of(row, ("question_id",), where)[0]): row for row, where in _listed(answers)}
    for row, where in _listed(questions):
        question_id, name = fields_of(row, ("question_id", "video_name"), where)
        if not isinstance(name, str):
            raise DatasetError(f"video_name must be text, got {name!r} in {where}; get it again")
        question_id = str(question_id)
        if question_id not in told:
            raise DatasetError(f"{answers} must answer every question, got none for {question_id}; get both again")
        joined = told[question_id] | row
        number = "" if isinstance(joined.get("type"), bool) else str(joined.get("type"))
        if number not in ACTIVITYNET_TYPES:
            got = repr(joined.get("type"))
            raise DatasetError(f"a type must be a number from 0 to 8, got {got} in {where}; get it again")
        yield _entry(joined, where, (f"v_{name}", name), ACTIVITYNET_TYPES[number])


def _json_lines(place: Path, split: str) -> Iterator[_Entry]:
    path = first_file(place, (f"{split}.jsonl",), _FOLDERS[:1]) if os.path.isdir(place) else place
    for where, row in read_json_lines(path):
        (video,) = fields_of(row, ("video",), where)
        kind = row.get("type")
        if not isinstance(video, str) or not isinstance(kind, str | None):
            raise DatasetError(f"video and type must be text, got {video!r} and {kind!r} in {where}")
        yield _entry(row, where, (video,), kind)


def _entry(row: dict[str, Any], where: str, names: tuple[str, ...], question_type: str | None = None) -> _Entry:
    """Return a row's question and answer, after a check."""
    pair = fields_of(row, ("question", "answer"), where)
    question, answer = ("" if isinstance(value, bool | list | dict) else str(value).strip() for value in pair)
    if not question or not answer:
        raise DatasetError(f"a question and its answer must be text, got {question!r} and {answer!r} in {where}")
    return _Entry(names, question, answer, question_type or first_word_type(question))


DATASETS: dict[str, Callable[[Path, str], Iterator[_Entry]]] = {
    "msvd-qa": partial(_msvd_or_msrvtt, prefix="vid"),
    "msrvtt-qa": partial(_msvd_or_msrvtt, prefix="video"),
    "tgif-qa": _tgif,
    "activitynet-qa": _activitynet,
    "video-qa": _json_lines,
}
