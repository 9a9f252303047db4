"""Read entries of large JSON lists and JSONL files by index; only their places in the file are held in memory."""

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from elysium.processing.data_files import (
    CAREFUL_DECODER,
    DatasetError,
    is_plain_json,
    parse_json,
    parse_json_object,
    read_bytes,
    unreadable,
)

_BLANKS = re.compile(r"[ \t\r\n]*")
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

    The text of the file is in memory while it is scanned, decoded as Latin-1: a character is a byte of the file, so
    that places in it are bytes. The values are not kept.

    Raises:
        DatasetError: the file cannot be read, or is not a JSON list.
    """
    data = read_bytes(path)
    at = len(_BYTE_ORDER_MARK) if data.startswith(_BYTE_ORDER_MARK) else 0
    text = data.decode("latin-1")
    del data
    at = _after(text, at, "[", path)
    if text[at : at + 1] == "]":
        return
    while True:
        try:
            value, stop = CAREFUL_DECODER.raw_decode(text, at)
        except RecursionError:
            raise _no_list("too many levels of nesting", at, path) from None
        except ValueError as error:
            raise _no_list(str(error), at, path) from None
        element = text[at:stop].encode("latin-1")
        yield at, stop, value if is_plain_json(element) else parse_json(element, f"byte {at} of {path}")
        at = _blanks_end(text, stop)
        if text[at : at + 1] == "]":
            return
        at = _after(text, at, ",", path)


def _blanks_end(text: str, at: int) -> int:
    blanks = _BLANKS.match(text, at)
    assert blanks is not None
    return blanks.end()


def _after(text: str, at: int, mark: str, path: Path) -> int:
    """Return the place of the next character that is not blank after ``mark``, which must be the next one."""
    at = _blanks_end(text, at)
    if text[at : at + 1] != mark:
        raise _no_list(f"no {mark!r}", at, path)
    return _blanks_end(text, at + 1)


def _no_list(reason: str, at: int, path: Path) -> DatasetError:
    return DatasetError(f"an annotation must be a JSON list, got {reason} near byte {at} of {path}; get it again")
