"""Run a long loop so that it can be killed and resumed: shared by processes, settings checked, failures set aside.

The results themselves are kept by the caller, as one file for each item or as lines of a log (`json_log`).
"""

import json
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from elysium.processing.atomic_files import OutputError, atomic_path
from elysium.processing.data_files import parse_json_object, read_bytes

MAX_CONSECUTIVE_FAILURES = 20  # more are no fault of the items
_NAMED = 5
Item = TypeVar("Item")
Progress = Callable[[int, int | None], None]


class SettingsError(ValueError):
    """Raised where a folder holds results of other settings; the message names both."""


class RunError(ValueError):
    """Raised where items and results do not fit together; the message says what to do."""


class UnfinishedError(ValueError):
    """Raised where items failed; all others are finished and kept, and the same command resumes the run."""


@dataclass(frozen=True)
class Processes:
    """The processes that share the work, seen from one of them; item i is due to process i modulo ``count``.

    Args:
        index: of this process, from 0.
        count: number of processes.
        wait: returns when all processes have called it.

    Raises:
        ValueError: an index outside 0..count - 1.
    """

    index: int = 0
    count: int = 1
    wait: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"index must be in 0..{self.count - 1}, got {self.index}; count from 0")

    def share(self, total: int | None) -> int | None:
        """Return the number of items that are due to this process; None where the total is not known."""
        return None if total is None else len(range(self.index, total, self.count))


ALONE = Processes()


def check_settings(path: Path, settings: dict[str, object]) -> None:
    """Write the settings that results depend on beside them, or compare them with those of the interrupted run.

    Raises:
        SettingsError: the results are of other settings.
    """
    if not path.is_file():
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(settings, indent=1) + "\n", "utf-8")
        return
    before, now = parse_json_object(read_bytes(path), str(path)), json.loads(json.dumps(settings))
    other = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if other:
        shown = "; ".join(f"{key}: {before.get(key)!r} before, {now.get(key)!r} now" for key in other)
        raise SettingsError(
            f"a run must be resumed with the settings it began with, got others in {path} ({shown}); choose another "
            "--output, or remove that file and the results beside it"
        )


class Failures:
    """The items of one loop that failed.

        failures = Failures("sequence")
        for item in items:
            with failures.of(item.name):
                ...
        failures.check()

    Args:
        noun: an item's name in the error.
    """

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self.errors: dict[str, Exception] = {}
        self._consecutive = 0

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Record the exception of an item, so that the loop goes on with the next one.

        Raises:
            UnfinishedError: `MAX_CONSECUTIVE_FAILURES` items in a row failed.
            OutputError, RunError: no item's fault.
        """
        try:
            yield
        except (OutputError, RunError):
            raise
        except Exception as error:
            self.errors[name] = error
            self._consecutive += 1
            if self._consecutive >= MAX_CONSECUTIVE_FAILURES:
                self.check()
        else:
            self._consecutive = 0

    def check(self) -> None:
        """Raise if items failed.

        Raises:
            UnfinishedError: names them with their reasons.
        """
        if not self.errors:
            return
        named = [f"{name}: {error}" for name, error in list(self.errors.items())[:_NAMED]]
        more = [] if len(self.errors) <= _NAMED else [f"and {len(self.errors) - _NAMED} more"]
        raise UnfinishedError(
            f"every {self.noun} must be finished to be scored, got {len(self.errors)} that failed "
            f"({'; '.join(named + more)}); the others are kept: fix these, and the same command resumes the run"
        ) from next(iter(self.errors.values()))


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
) -> tuple[list[str], Failures]:
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
        The keys of all items, also of those due to other processes, and the items of this process that failed.

    Raises:
        UnfinishedError: many items in a row failed.
        RunError: two items have one key.
    """
    keys: dict[str, None] = {}
    failures, finished, ready = Failures(noun), 0, False

    def waiting() -> Iterator[Item]:
        nonlocal finished
        for number, item in enumerate(items):
            name = key(item)
            if name in keys:
                raise RunError(f"items must have different keys, got {name} twice; check the dataset")
            keys[name] = None
            if number % processes.count == processes.index:
                if name in done:
                    finished += 1
                else:
                    yield item

    queue = waiting()
    while batch := list(islice(queue, batch_size)):
        if not ready:
            prepare()
            ready = True
        _attempt(batch, work, key, failures)
        finished += len(batch)
        if progress is not None:
            progress(finished, processes.share(total))
    return list(keys), failures


def _attempt(
    batch: list[Item], work: Callable[[list[Item]], None], key: Callable[[Item], str], failures: Failures
) -> None:
    """Process a batch; where that fails, its items one by one."""
    if len(batch) > 1:
        try:
            return work(batch)
        except (OutputError, RunError):
            raise
        except Exception:
            pass
    for item in batch:
        with failures.of(key(item)):
            work([item])
