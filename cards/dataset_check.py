"""Whether a data set's folder can be read by others: it holds data, and its rows name no file of this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from elysium.processing.data_files import DatasetError, parquet_batches, read_json_lines

from .folder_files import list_files

DATA = (".parquet", ".jsonl", ".csv", ".tsv", ".tar")


def data_files(folder: Path) -> list[Path]:
    """The files that hold rows, or packed examples, in the order of their names.

    Raises:
        PublishError: a place or a size that `list_files` refuses.
    """
    return [path for path in list_files(folder) if path.suffix.lower() in DATA and path.is_file()]


def dataset_problems(folder: Path) -> list[str]:
    """Everything that is wrong with a data set, each in a few words."""
    files = data_files(folder)
    if not files:
        return [f"no data in it (it must hold {', '.join(DATA)})"]
    problems = []
    for path in files:
        name = path.relative_to(folder).as_posix()
        try:
            local = next((text for text in _texts(first_row(path)) if _is_local(text)), None)
        except DatasetError as error:
            problems.append(f"a damaged {name} ({str(error).splitlines()[0]})")
            continue
        if local is not None:
            problems.append(
                f"a {name} that names a file of this machine, {local} (write paths that are relative to the rows, or "
                "put the files into them: elysium synth --as trl --embed)"
            )
    return problems


def first_row(path: Path) -> Any:
    """The first row of a file; None where it is empty or of another kind."""
    if path.suffix.lower() == ".jsonl":
        return next((row for _, row in read_json_lines(path)), None)
    if path.suffix.lower() == ".parquet":
        return next((batch[0] for batch in parquet_batches(path, rows=1) if batch), None)
    return None


def _texts(value: Any) -> Iterator[str]:
    """All strings of a row, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _is_local(text: str) -> bool:
    return len(text) < 4096 and "\n" not in text and Path(text).is_absolute()
