"""Read pickles of plain data, and refuse all others: a pickle can run code when it is loaded."""

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

from elysium.processing.data_files import DatasetError, read_bytes

_DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    MemoryError,
    OverflowError,
    RecursionError,
)


class _PlainUnpickler(pickle.Unpickler):
    """Unpickler of dictionaries, lists, tuples, sets, strings, numbers, booleans and None; no class, no function."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it refers to something outside the file")


def load_plain_pickle(path: Path) -> Any:
    """Return the plain data of a pickle of Python 2 or 3.

    Strings of Python 2 are bytes; they are decoded as UTF-8, or as Latin-1 where they are not UTF-8.

    Raises:
        DatasetError: the file cannot be read, is damaged, or holds other than plain data.
    """
    content = read_bytes(path)
    try:
        return _as_text(_PlainUnpickler(io.BytesIO(content), encoding="bytes").load())
    except _DAMAGE as error:
        raise DatasetError(
            f"a pickle must hold nothing but dictionaries, lists, text and numbers, got {path} ({error}); "
            "loading more would run code: get the file from the dataset's page"
        ) from error


def _as_text(value: Any) -> Any:
    """Return a value with all byte strings in it as text."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value.decode("latin-1")
    if isinstance(value, dict):
        return {_as_text(key): _as_text(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(_as_text(item) for item in value)
    return value
