"""Answers of a run in a file, by which a stopped run is resumed with the boxes that it would have had.

The sessions of a run are a function of the video and of the model's answers. So only answers are kept: a resumed run
reads the video again and gets the answers of the file in place of the model's until they end.
"""

import json
import math
import warnings
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from elysium.processing.boxes_elysium import ParsedBox, parse_frames
from elysium.processing.media_elysium import Frame

from .answering import Answer, Answerer
from .windows import WindowRequest

# Calls of the model between two places where a run can be resumed. There what earlier windows left is dropped, in
# every run: from there on a resumed run encodes the same images together and drafts the same answers.
CALLS = 8

Reply = tuple[Answer, list[ParsedBox], list[float]]


class OtherSettingsError(ValueError):
    """A stopped run cannot be resumed with other settings than its own.

    Args:
        path: file of its answers.
        wanted: settings of the run that would resume it.
        found: settings of the stopped run.

    Attributes:
        fault: rule and values, without the remedy.
    """

    def __init__(self, path: Path, wanted: dict[str, Any], found: dict[str, Any]) -> None:
        other = [name for name in wanted if found.get(name) != wanted[name]]
        got, stopped = (", ".join(_words(name, of.get(name)) for name in other) for of in (wanted, found))
        self.fault = (
            f"a resumed run must have the settings of the stopped one in {path}, got {got} in place of {stopped}"
        )
        super().__init__(f"{self.fault}; give the same, or start anew with resume=False")


def _words(name: str, value: Any) -> str:
    """Return a setting in the words of its flag.

    >>> _words("window_frames", 8), _words("box", None)
    ('window frames 8', 'no box')
    """
    name = name.replace("_", " ")
    return f"no {name}" if value is None else f"{name} {value}"


class AnswerLog:
    """Answer windows like an `Answerer`: with the answers of a file as long as it has some, then by the model.

    Each line of the file is one call of the model; it is written before the answers are used. The first line holds the
    settings of the run.

    Args:
        answerer: the model.
        path: file of the answers; it is made with the first of them.
        settings: what the answers depend on, for JSON.
        resume: use the answers that the file has; else it is written anew.

    Attributes:
        num_replayed: calls that the file answers.

    Raises:
        ValueError: the file holds something else.
        OtherSettingsError: it was written by a run with other settings.
    """

    def __init__(self, answerer: Answerer, path: Path, settings: dict[str, Any], *, resume: bool) -> None:
        self.path, self._answerer = path, answerer
        self._header = json.dumps({"answers_of": settings}).encode() + b"\n"
        lines = self._read(settings, resume=resume)
        whole = len(lines) - len(lines) % CALLS
        self._kept = deque(lines[:whole] if resume else ())
        self.num_replayed = len(self._kept)
        self._calls, self._writes = 0, True
        self._size = len(self._header) + sum(map(len, self._kept))

    def answer_windows(
        self, requests: Sequence[WindowRequest], *, upcoming: Sequence[Sequence[Frame]] = ()
    ) -> list[Reply]:
        """Return answers, parsed boxes and scores as `Answerer.answer_windows`.

        Raises:
            ValueError: the file's answers are of other frames.
        """
        if self._kept:
            self._calls += 1
            return self._replay(json.loads(self._kept.popleft()), requests)
        if self._calls % CALLS == 0:
            self._answerer.forget()
        replies = self._answerer.answer_windows(requests, **({"upcoming": upcoming} if upcoming else {}))
        self._calls += 1
        if requests and self._writes:
            self._write(requests, replies)
        return replies

    def _read(self, settings: dict[str, Any], *, resume: bool) -> list[bytes]:
        """Return the whole lines of the file behind its settings; none where there is no file."""
        if not self.path.exists():
            return []
        header, *lines = self.path.read_bytes().splitlines(keepends=True) or [b""]
        try:
            found = json.loads(header)["answers_of"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.path} must hold the answers of a stopped run, got another file; move it elsewhere"
            ) from error
        wanted = json.loads(self._header)["answers_of"]
        if resume and any(found.get(name) != wanted[name] for name in wanted):
            raise OtherSettingsError(self.path, wanted, found)
        return [line for line in lines if line.endswith(b"\n")]

    def _replay(self, line: dict[str, Any], requests: Sequence[WindowRequest]) -> list[Reply]:
        """Return the answers of a line."""
        if line["frames"] != [list(request.frame_indices) for request in requests]:
            raise ValueError(f"{self.path} must be of this video, got answers about other frames; start anew")
        rounding = self._answerer.processor.box_rounding
        replies = []
        for text, scores, request in zip(line["texts"], line["scores"], requests, strict=True):
            parsed = parse_frames(text, len(request), rounding=rounding)
            known = [math.nan if score is None else score for score in scores]
            replies.append((Answer(text, (), np.empty(0)), parsed, known))
        return replies

    def _write(self, requests: Sequence[WindowRequest], replies: Sequence[Reply]) -> None:
        """Append the answers of one call; where that fails, warn and write no more."""
        record = {
            "frames": [request.frame_indices for request in requests],
            "texts": [answer.text for answer, _, _ in replies],
            "scores": [[None if math.isnan(score) else score for score in scores] for _, _, scores in replies],
        }
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("r+b" if self._calls > 1 else "ab") as file:
                file.truncate(self._size if self._calls > 1 else 0)
                file.seek(0, 2)
                file.write(line if self._calls > 1 else self._header + line)
        except OSError as error:
            self._writes = False
            warnings.warn(f"answers cannot be kept in {self.path} ({error.strerror}): no --resume", stacklevel=2)
            return
        self._size += len(line)
