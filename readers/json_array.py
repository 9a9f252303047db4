"""JSON files of hundreds of megabytes whose outermost value is a list: read by index, never held in memory whole."""

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from elysium.processing.data_files import DatasetError, parse_json, unreadable

from .rows import ListRows, Row

_CHUNK_BYTES = 1 << 22
_LONGEST_BYTES = 1 << 26  # of one element: what is longer is a file that broke off inside a string
_BLANKS = " \t\r\n"
_FOLLOWING = tuple(_BLANKS + ",]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class CountedRows(ListRows):
    """Rows of entries, of which some were left out when the file was opened.

    Attributes:
        skipped: how many entries are no rows, by reason.
    """

    def __init__(
        self, name: str, entries: Sequence[Any], make: Callable[[Any], Row], skipped: Counter[str] | None = None
    ) -> None:
        super().__init__(name, entries, make)
        self.skipped = skipped or Counter()


class JsonElements(Sequence[tuple[int, Any]]):
    """Elements of a JSON list by index, each with its number in the file; only places are held, 24 bytes for each.

    Args:
        path: of the file.
        places (`np.ndarray` of shape `(n, 3)`): for each element its first byte, the byte after it, and its number
            in the file's list, from 0; int64.
    """

    def __init__(self, path: Path, places: NDArray[np.int64]) -> None:
        self.path, self._places = path, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        start, stop, number = (int(place) for place in self._places[index])
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                return number, parse_json(file.read(stop - start), f"entry {number} of {self.path}")
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"an annotation must stay as it was when it was opened, got other bytes {start} to {stop} in "
                f"{self.path} ({error}); start again"
            ) from error


def scan_json_array(path: Path) -> Iterator[tuple[int, int, Any]]:
    """Every element of the list in order: its first byte, the byte after it, and its value.

    Raises:
        DatasetError: the file cannot be read, or is no JSON list.
    """
    try:
        with path.open("rb") as file:
            yield from _ArrayScanner(file, path).elements()
    except OSError as error:
        raise unreadable(path, error) from error


def open_json_array(
    path: Path, skip_reason: Callable[[Any], str | None] = lambda value: None
) -> tuple[JsonElements, Counter[str]]:
    """The elements of a list, without those for which ``skip_reason`` gives a reason, and how many those are.

    Raises:
        DatasetError: the file cannot be read, is no JSON list, or nothing of it is left.
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
    return JsonElements(path, np.array(places, dtype=np.int64).reshape(-1, 3)), skipped


class _ArrayScanner:
    """Reads a file piece by piece; a character of `text` is a byte of the file, so that places are bytes."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._text, self._begin = "", 0  # what is in memory, and the byte at which it begins
        self._at = 0  # in `text`
        self._ended = False
        self._decoder = json.JSONDecoder()

    def elements(self) -> Iterator[tuple[int, int, Any]]:
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
        """The next character that is no blank; empty at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANKS:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _expect(self, mark: str) -> None:
        if self._mark() != mark:
            self._fail(f"no {mark!r}")
        self._at += 1

    def _element(self) -> tuple[int, int, Any]:
        """The next value. What ends with the piece may go on in the next (`1.5e`, `3`), so a mark must follow it."""
        self._mark()
        while True:
            last_try = self._ended or len(self._text) - self._at > _LONGEST_BYTES
            try:
                _, stop = self._decoder.raw_decode(self._text, self._at)
                if last_try or self._text[stop : stop + 1] in _FOLLOWING:
                    break
            except RecursionError:
                self._fail("too many levels of nesting")
            except ValueError as error:
                if last_try:
                    self._fail(str(error))
            self._more()
        start, self._at = self._at, stop
        first = self._begin + start
        value = parse_json(self._text[start:stop].encode("latin-1"), f"byte {first} of {self._path}")
        return first, self._begin + stop, value

    def _more(self) -> bool:
        """Drops what was read and takes the next piece of the file, at least as long as what is kept."""
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
