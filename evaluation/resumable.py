"""Run a long loop so that it can be killed and resumed: shared by processes, settings checked, failures set aside.

The results themselves are kept by the caller, as one file for each item or as lines of a `JsonLog`.
"""

import json
import os
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from elysium.processing.atomic_files import OutputError, atomic_path, full_disk_is_an_output_error
from elysium.processing.data_files import DatasetError, parse_json_object, read_bytes
from elysium.processing.track_files import json_text

MAX_CONSECUTIVE_FAILURES = 20  # more are no fault of the items
_NAMED = 5
Item = TypeVar("Item")
Row = dict[str, Any]
Progress = Callable[[int, int | None], None]


class RunError(ValueError):
    """Raised where items, kept results and settings do not fit together; the message says what to do."""


class UnfinishedError(ValueError):
    """Raised where items failed; all others are finished and kept, and the same command resumes the run."""


@dataclass(frozen=True)
class Processes:
    """The processes that share the work, seen from one of them; item i is due to process i modulo ``count``.

    Args:
        index: of this process, from 0.
        count: number of processes.
        wait: returns when all processes have called it.
    """

    index: int = 0
    count: int = 1
    wait: Callable[[], None] = lambda: None

    def share(self, total: int | None) -> int | None:
        """Return the number of items that are due to this process; None where the total is not known."""
        return None if total is None else len(range(self.index, total, self.count))


ALONE = Processes()


def check_settings(path: Path, settings: dict[str, object]) -> None:
    """Write the settings that results depend on beside them, or compare them with those of the interrupted run.

    Raises:
        RunError: the results are of other settings.
    """
    if not path.is_file():
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(settings, indent=1) + "\n", "utf-8")
        return
    before, now = parse_json_object(read_bytes(path), str(path)), json.loads(json.dumps(settings))
    other = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if other:
        shown = "; ".join(f"{key}: {before.get(key)!r} before, {now.get(key)!r} now" for key in other)
        raise RunError(
            f"a run must be resumed with the settings it began with, got others in {path} ({shown}); choose another "
            "--output, or remove that file and the results beside it"
        )


def check_failures(noun: str, errors: dict[str, Exception]) -> None:
    """Raise if items failed.

    Args:
        noun: an item's name in the error.
        errors: of the items that failed, by key.

    Raises:
        UnfinishedError: names them with their reasons.
    """
    if not errors:
        return
    named = [f"{name}: {error}" for name, error in list(errors.items())[:_NAMED]]
    more = [] if len(errors) <= _NAMED else [f"and {len(errors) - _NAMED} more"]
    raise UnfinishedError(
        f"every {noun} must be finished to be scored, got {len(errors)} that failed ({'; '.join(named + more)}); the "
        "others are kept: fix these, and the same command resumes the run"
    ) from next(iter(errors.values()))


def run_items(
    items: Iterable[Item],
    work: Callable[[list[Item]], None],
    *,
    noun: str,
    key: Callable[[Item], str],
    done: Container[str],
    batch_size: int = 1,
    processes: Processes = ALONE,
    total: int | None = None,
    prepare: Callable[[], object] = lambda: None,
    progress: Progress | None = None,
) -> tuple[list[str], dict[str, Exception]]:
    """Process the items of this process that have no result yet; one that fails costs none of the others.

    Where a batch fails, its items are processed one by one. A run may be resumed by another number of processes.

    Args:
        items: all of them, in the same order in every process; read lazily.
        work: processes a batch and keeps its results, on disk when it returns.
        noun: an item's name in errors.
        key: returns the unique name of an item, the same in every run.
        done: keys of the items that have a result.
        batch_size: maximum number of items in a batch.
        processes: the processes that share the items.
        total: number of items, if known.
        prepare: called once before the first batch, such as to load the model; its errors are no item's fault.
        progress: called with the number of this process's items that are done, and the number due to it, or None.

    Returns:
        The keys of all items, also of those due to other processes, and the errors of this process's items by key.

    Raises:
        UnfinishedError: `MAX_CONSECUTIVE_FAILURES` items in a row failed.
        RunError: two items have one key.
        OutputError: a result cannot be kept.
    """
    keys: dict[str, None] = {}
    errors: dict[str, Exception] = {}
    finished = consecutive = 0

    def waiting() -> Iterator[Item]:
        nonlocal finished
        for number, item in enumerate(items):
            if key(item) in keys:
                raise RunError(f"items must have different keys, got {key(item)} twice; check the dataset")
            keys[key(item)] = None
            if number % processes.count == processes.index:
                if key(item) not in done:
                    yield item
                else:
                    finished += 1

    queue = waiting()
    for number, batch in enumerate(iter(lambda: list(islice(queue, batch_size)), [])):
        if number == 0:
            prepare()
        for item, error in _attempt(batch, work):
            consecutive = 0 if error is None else consecutive + 1
            if error is not None:
                errors[key(item)] = error
            if consecutive >= MAX_CONSECUTIVE_FAILURES:
                check_failures(noun, errors)
        finished += len(batch)
        if progress is not None:
            progress(finished, processes.share(total))
    return list(keys), errors


def _attempt(batch: list[Item], work: Callable[[list[Item]], None]) -> Iterator[tuple[Item, Exception | None]]:
    """Process a batch, and where that fails its items one by one; yield each with its error.

    Raises:
        OutputError, RunError: no item's fault.
    """
    try:
        work(batch)
    except (OutputError, RunError):
        raise
    except Exception as error:
        if len(batch) == 1:
            yield batch[0], error
        else:
            for item in batch:
                yield from _attempt([item], work)
    else:
        for item in batch:
            yield item, None


class JsonLog:
    """Append-only file of JSON lines that survives being killed while it is written.

    A killed process can leave a last line without an end: reading leaves it out, and the next row replaces it. Any
    other line that cannot be read is an error.

    Args:
        path: of the file, made with its folder when the first rows are added.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Row]:
        """Return all complete rows.

        Raises:
            RunError: a line that has an end is no JSON object.
        """
        rows: list[Row] = []
        if not self.path.exists():
            return rows
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    rows.append(parse_json_object(line, ""))
                except DatasetError as error:
                    raise RunError(
                        f"a line must be a JSON object, got {line[:60]!r} in line {number} of {self.path}; remove "
                        "that line, and its item is run again"
                    ) from error
        return rows

    def append(self, rows: Sequence[Row]) -> None:
        """Append rows, and return when they are on disk.

        Raises:
            OutputError: the disk is full; a torn line is left out when the log is read.
            ValueError: a row holds NaN, or what JSON cannot hold.
        """
        text = "".join(json_text(row) + "\n" for row in rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with full_disk_is_an_output_error(self.path), self.path.open("a+b") as file:
            file.seek(max(0, file.tell() - 1))
            if file.read() not in (b"", b"\n"):
                file.truncate(self.path.read_bytes().rfind(b"\n") + 1)
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
