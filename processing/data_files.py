"""Guarded loaders of the files that others bring: text, JSON, JSON lines, CSV, YAML and Parquet.

Whatever stands in a file, these raise `DatasetError` and nothing else. What they return can be relied on: text has no
NUL and no lone surrogate, numbers are finite, whole numbers fit 64 bits, nesting is bounded.
"""

import csv
import io
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

MAX_DEPTH = 100  # of nested lists and objects; Python's recursion, also in what reads the values, ends near 1000
_WHOLE = range(-(2**63), 2**63)  # what arrays and tables can hold
_BLANK = b" \t\r\n"
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# What may be a number beyond a float or 64 bits, or half of a surrogate pair; such text is looked at again.
_SUSPECT = re.compile(rb"[eE]\+?[0-9]{2}|[0-9]{19}|\\u[dD][89a-fA-F]")
_DELIMITERS = ",;\t"


class DatasetError(ValueError):
    """A dataset breaks its official layout; the message says what, where, and what to do."""


def broken_rule(error: BaseException) -> str:
    """Return the rule that an error message begins with, before ", got"; else the name of the error's class.

    >>> broken_rule(DatasetError("a box must be finite, got nan in row 3; get it again")), broken_rule(KeyError("id"))
    ('a box must be finite', 'KeyError')
    """
    rule, got, _ = str(error).partition(", got ")
    return rule if got else type(error).__name__


def read_bytes(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        DatasetError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: NUL or a lone surrogate in the name
        raise unreadable(path, error) from error


def read_text(path: Path) -> str:
    """Return the text of a file, without a byte order mark.

    Raises:
        DatasetError: it cannot be read, or is not plain UTF-8.
    """
    return _decode(read_bytes(path), str(path))


def read_json(path: Path, *, allow_nan: bool = False, byte_names: bool = False) -> Any:
    """Return the value that a JSON file holds.

    Args:
        path: of the file.
        allow_nan: NaN and Infinity are let through, as logs of a training run hold them.
        byte_names: \\udc80 to \\udcff are let through, as names of files that are no UTF-8 hold them.

    Raises:
        DatasetError: it cannot be read, or is not JSON as `parse_json` takes it.
    """
    return parse_json(read_bytes(path), str(path), allow_nan=allow_nan, byte_names=byte_names)


def parse_json(text: str | bytes, where: str, *, allow_nan: bool = False, byte_names: bool = False) -> Any:
    """Return the value of a JSON text.

    Args:
        text: UTF-8 where it is bytes; a byte order mark is passed over.
        where: place of the text, for messages.
        allow_nan: as of `read_json`.
        byte_names: as of `read_json`.

    Raises:
        DatasetError: the text is no JSON, is nested more than `MAX_DEPTH` levels deep, or holds a number that is not
            finite, a whole number beyond 64 bits, or half of a surrogate pair.
    """
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    shown = _decode(raw, where)
    brackets = _STRINGS.sub(b"", raw).translate(None, _NO_BRACKETS) if not is_shallow(raw) else b""
    depths = itertools.accumulate(1 if mark in b"[{" else -1 for mark in brackets)
    if max(depths, default=0) > MAX_DEPTH:
        _refuse(f"more than {MAX_DEPTH} levels of nesting", where)
    suspect = _SUSPECT.search(raw) is not None
    try:
        value = (_LOG_DECODER if allow_nan else CAREFUL_DECODER if suspect else _DECODER).decode(shown)
        if suspect:
            json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape" if byte_names else "strict")
    except UnicodeEncodeError:
        _refuse("half of a surrogate pair (\\ud800 to \\udfff)", where)
    except RecursionError:
        _refuse("too many levels of nesting", where)
    except (ValueError, OverflowError) as error:
        _refuse(str(error), where)
    return value


def is_shallow(data: bytes) -> bool:
    """Return whether a JSON text has too few brackets to be nested more than `MAX_DEPTH` levels deep."""
    return data.count(b"[") + data.count(b"{") <= MAX_DEPTH


def is_plain_json(data: bytes) -> bool:
    """Return whether `CAREFUL_DECODER` reads a text as `parse_json` does: shallow, ASCII, no escaped surrogates."""
    return is_shallow(data) and data.isascii() and b"\\ud" not in data and b"\\uD" not in data


def parse_json_object(text: str | bytes, where: str) -> dict[str, Any]:
    """Return the object of a JSON text.

    Raises:
        DatasetError: as `parse_json`, or the value is no object.
    """
    value = parse_json(text, where)
    if not isinstance(value, dict):
        raise DatasetError(f"a row must be a JSON object, got {type(value).__name__} in {where}; get the file again")
    return value


def json_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield each line of a file that is not blank, with its number from 1, for `parse_json_object`.

    Raises:
        DatasetError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip(_BLANK):
                    yield number, line
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def read_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a JSON lines file, one by one, each with its place for messages.

    Raises:
        DatasetError: the file cannot be read, or a line is no JSON object.
    """
    for number, line in json_lines(path):
        where = f"line {number} of {path}"
        yield where, parse_json_object(line, where)


@dataclass(frozen=True)
class CsvTable:
    """The records of a CSV file.

    Args:
        path: of the file.
        delimiter: comma, semicolon or tab.
        columns: names of the first line, without blanks at their ends.
        records: number of the last line of each record, and its cells.
    """

    path: Path
    delimiter: str
    columns: list[str]
    records: Iterator[tuple[int, list[str]]]

    def rows(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield each record by column, with its place for messages.

        Raises:
            DatasetError: a record has other than as many cells as the first line.
        """
        for line, cells in self.records:
            yield f"line {line} of {self.path}", self.row(line, cells)

    def row(self, line: int, cells: list[str]) -> dict[str, str]:
        """Return the cells of a record by column.

        Raises:
            DatasetError: other than as many cells as the first line.
        """
        if len(cells) != len(self.columns):
            raise DatasetError(
                f"a line must have as many cells as the header, {len(self.columns)}, got {len(cells)} in line {line} "
                f"of {self.path}; put texts with commas in quotes, and write decimal points, not decimal commas"
            )
        return dict(zip(self.columns, cells, strict=True))


def read_csv(path: Path, *, delimiter: str | None = None) -> CsvTable:
    """Read a CSV file whose first line names the columns.

    Args:
        path: of the file.
        delimiter: by default that of comma, semicolon and tab which makes the most columns of the first line.

    Raises:
        DatasetError: it cannot be read or is not plain UTF-8; while records are drawn also that a cell is too long.
    """
    text = read_text(path)
    if delimiter is None:
        first = text.lstrip("\r\n").partition("\n")[0]
        delimiter = max(_DELIMITERS, key=lambda mark: len(next(_records(path, first, mark), (0, []))[1]))
    records = _records(path, text, delimiter)
    _, columns = next(records, (0, []))
    return CsvTable(path, delimiter, [name.strip() for name in columns], records)


def _records(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield number of the last line and cells of each record that is not blank."""
    table = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        yield from ((table.line_num, cells) for cells in table if cells)
    except csv.Error as error:
        raise DatasetError(
            f"a CSV file must have cells of at most {csv.field_size_limit()} characters, and quotes that are closed, "
            f"got {error} in line {table.line_num} of {path}; save it again"
        ) from error


def read_yaml(path: Path) -> Any:
    """Return the value that a YAML file holds.

    Raises:
        DatasetError: it cannot be read, or is no plain YAML.
    """
    import yaml

    text = read_text(path)
    odd = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, *odd) as error:  # odd: PyYAML's constructors of numbers and dates raise what Python does
        raise DatasetError(f"a YAML file must be plain YAML, got {path} ({_first_line(error)}); correct it") from error


def parquet_batches(path: Path, *, rows: int, columns: Sequence[str] | None = None) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a Parquet file, some at a time.

    Args:
        path: of the file.
        rows: of a batch.
        columns: those of them that the file has are read; all by default.

    Raises:
        DatasetError: it cannot be read, or is no Parquet file.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        from .extras import install_command

        raise DatasetError(
            f"a Parquet file needs pyarrow, got no such package for {path}; {install_command('train')}"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            names = table.schema_arrow.names
            wanted = None if columns is None else [name for name in names if name in set(columns)]
            for batch in table.iter_batches(batch_size=rows, columns=wanted):
                yield batch.to_pylist()
    except (OSError, ValueError, OverflowError, MemoryError, pyarrow.ArrowException) as error:
        raise DatasetError(
            f"a Parquet file must be one that can be read, got {path} ({_first_line(error)}); get it again"
        ) from error


def is_number(value: Any) -> bool:
    """Return whether a value of JSON is a number: true and false are none.

    >>> is_number(1.5), is_number(True), is_number("1")
    (True, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool)


@contextmanager
def in_place(where: str) -> Iterator[None]:
    """Add the place of a record to the message of a `DatasetError` that is raised within, if it does not say it."""
    try:
        yield
    except DatasetError as error:
        raise error if where in str(error) else DatasetError(f"{error} ({where})") from error.__cause__


def unreadable(path: Path, error: Exception) -> DatasetError:
    """Return the error that says why a file cannot be read."""
    reason = getattr(error, "strerror", None) or _first_line(error)
    return DatasetError(f"the data must be a file that can be read, got {_short(path)} ({reason}); check the path")


def _decode(raw: bytes, where: str) -> str:
    """Return the text of bytes, if it is plain UTF-8."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        utf_16 = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
        found = "UTF-16" if utf_16 else f"byte 0x{raw[error.start]:02x} at {error.start}"
        raise DatasetError(
            f"the data must be text in UTF-8, got {found} in {where}: it is not UTF-8; save it again as UTF-8"
        ) from error
    if "\0" in text:
        raise DatasetError(
            f"the data must be text in UTF-8, got a NUL byte in {where}; is it UTF-16 or no text? Save it as UTF-8"
        )
    return text.lstrip("\ufeff")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:24]}, beyond 1.8e308")
    return value


def _whole(text: str) -> int:
    if len(text) > 20 or int(text) not in _WHOLE:
        raise ValueError(f"the whole number {text[:24]}{'…' * (len(text) > 24)}, beyond 64 bits")
    return int(text)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name}, which is no JSON: null stands for what is not known")


def _refuse(reason: str, where: str) -> NoReturn:
    raise DatasetError(f"the data must be JSON, got {reason} in {where}; get the file again") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _short(path: Path) -> str:
    """Return a path for messages; of a very long name its beginning."""
    shown = str(path).encode("utf-8", "backslashreplace").decode()
    return shown if len(shown) <= 200 else f"{shown[:80]}… ({len(shown)} characters)"


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
CAREFUL_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite, parse_int=_whole)
_LOG_DECODER = json.JSONDecoder()
