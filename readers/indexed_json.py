"""Read entries of large JSON lists and JSONL files by index; only their places in the file are held in memory."""

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np

from elysium.processing.data_files import (
    CAREFUL_DECODER,
    DatasetError,
    is_plain_json,
    parse_json,
    parse_json_object,
    unreadable,
)

_CHUNK_BYTES = 1 << 22
_LONGEST_BYTES = 1 << 26  # of one element; a longer one is a file that was cut inside a string
_BLANKS = " \t\r\n"
_FOLLOWING = tuple(_BLANKS + ",]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class JsonEntries(Sequence[tuple[int, Any]]):
    """Entries of a JSON file by index, each with its number in the file; 24 bytes of memory for each.

    Args:
        path: of the file.
        places: for each entry its first byte, the byte after it, and its number, one after the other.
        lines: the entries are objects on lines that were not parsed yet; else an error means that the file changed.
    """

    def __init__(self, path: Path, places: array, *, lines: bool = False) -> None:
        self.path, self._lines = path, lines
        self._places = np.array(places, dtype=np.int64).reshape(-1, 3)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        start, stop, number = (int(place) for place in self._places[index])
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                data = file.read(stop - start)
            if self._lines:
                return number, parse_json_object(data, f"line {number} of {self.path}")
            return number, parse_json(data, f"entry {number} of {self.path}")
        except (OSError, DatasetError) as error:
            if self._lines:
                raise error if isinstance(error, DatasetError) else unreadable(self.path, error) from error
            raise DatasetError(
                f"an annotation must stay as it was when it was opened, got other bytes {start} to {stop} in "
                f"{self.path} ({error}); start again"
            ) from error


def index_json_lines(path: Path) -> JsonEntries:
    """Return the lines of a JSONL file that are not blank, numbered from 1; each is parsed when it is read.

    Raises:
        DatasetError: the file cannot be read or has no lines.
    """
    places, start = array("q"), 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    places.extend((start, start + len(line), number))
                start += len(line)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if not places:
        raise DatasetError(f"a JSONL file must hold at least one row, got none in {path}; get it again")
    return JsonEntries(path, places, lines=True)


def index_json_array(
    path: Path, skip_reason: Callable[[Any], str | None] = lambda value: None
) -> tuple[JsonEntries, Counter[str]]:
    """Return the elements of a JSON list that ``skip_reason`` gives no reason to skip, and how many were skipped.

    Raises:
        DatasetError: the file cannot be read, is not a JSON list, or nothing of it is left.
    """
    places, skipped = array("q"), Counter[str]()
    for number, (start, stop, value) in enumerate(scan_json_array(path)):
        reason = skip_reason(value)
        if reason is None:
            places.extend((start, stop, number))
        else:
            skipped[reason] += 1
    if not places:
        raise DatasetError(f"an annotation must hold entries to learn from, got none in {path}; get it again")
    return JsonEntries(path, places), skipped


def scan_json_array(path: Path) -> Iterator[tuple[int, int, Any]]:
    """Yield the first byte, the byte after the last, and the value of every element of a JSON list.

    Raises:
        DatasetError: the file cannot be read, or is not a JSON list.
    """
    try:
        with path.open("rb") as file:
            yield from _ArrayScanner(file, path).elements()
    except OSError as error:
        raise unreadable(path, error) from error


class _ArrayScanner:
    """Read a file in pieces, decoded as Latin-1: a character of `text` is a byte of the file, so places are bytes."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._text, self._begin = "", 0  # what is in memory, and the byte at which it begins
        self._at = 0  # in `text`
        self._ended = False

    def elements(self) -> Iterator[tuple[int, int, Any]]:
        """Yield as `scan_json_array` does."""
        if self._file.read(len(_BYTE_ORDER_MARK)) == _BYTE_ORDER_MARK:
            self._begin = len(_BYTE_ORDER_MARK)
        self._file.seek(self._begin)
        self._expect("[")
        if self._mark() == "]":
            return
        while True:
            yield self._element()
            if self._mark() == "]":
                return
            self._expect(",")

    def _mark(self) -> str:
        """Return the next character that is not blank; empty at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANKS:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _expect(self, mark: str) -> None:
        """Pass over the next character, which must be ``mark``."""
        if self._mark() != mark:
            self._fail(f"no {mark!r}")
        self._at += 1

    def _element(self) -> tuple[int, int, Any]:
        """Return the next value. A number at the end of a piece may go on in the next one: a mark must follow it."""
        self._mark()
        while True:
            last_try = self._ended or len(self._text) - self._at > _LONGEST_BYTES
            try:
                value, stop = CAREFUL_DECODER.raw_decode(self._text, self._at)
                if last_try or self._text[stop : stop + 1] in _FOLLOWING:
                    break
            except RecursionError:
                self._fail("too many levels of nesting")
            except ValueError as error:
                # A number that is too large may be one that was cut; with a whole piece in memory it is not.
                unfinished = isinstance(error, json.JSONDecodeError) or len(self._text) - self._at < _CHUNK_BYTES
                if last_try or not unfinished:
                    self._fail(str(error))
            self._more()
        start, self._at = self._at, stop
        first = self._begin + start
        data = self._text[start:stop].encode("latin-1")
        if not is_plain_json(data):
            value = parse_json(data, f"byte {first} of {self._path}")
        return first, self._begin + stop, value

    def _more(self) -> bool:
        """Append a piece of the file, at least as long as the rest, and drop what was read; False at the end."""
        kept = self._text[self._at :]
        data = self._file.read(max(_CHUNK_BYTES, len(kept)))
        self._begin, self._at = self._begin + self._at, 0
        self._text, self._ended = kept + data.decode("latin-1"), not data
        return bool(data)

    def _fail(self, reason: str) -> NoReturn:
        raise DatasetError(
            f"an annotation must be a JSON list, got {reason} near byte {self._begin + self._at} of {self._path}; "
            "get it again"
        ) from None
