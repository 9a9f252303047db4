"""The loop over questions: shared out over processes, kept as it goes, and gone on with after it was killed.

    FOLDER/settings.json                  what the answers depend on
    FOLDER/predictions/part-RANK.jsonl    a row for each answered item: {"key", "truth": {...}, "answer": {...}}

Rows hold the truth beside the answer, so that the figures can be computed again from the folder alone.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elysium.processing.atomic_files import OutputError

from .failures import Failures
from .json_log import JsonLog, Row
from .track_benchmark import check_settings

Answer = dict[str, Any]
Progress = Callable[[int, int | None], None]


class AnswersError(ValueError):
    """Answers are missing or do not fit the questions; the message says what to do."""


@dataclass(frozen=True)
class Item:
    """Something to be asked.

    Args:
        key: unique in the benchmark, and the same in every run.
        question: what the model is asked, such as an object of a data set; pictures are opened when it is answered.
        truth: what the answer is scored by, as JSON holds it.
    """

    key: str
    question: Any
    truth: dict[str, Any]


class AnswerFolder:
    """The folder of one model's answers to one benchmark.

    Args:
        folder: made where it is missing.
        settings: what answers depend on (benchmark, data, split, model …), as JSON holds it.

    Raises:
        ResultError: the folder holds answers that were given with other settings; both are named.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        check_settings(folder / "settings.json", settings)

    def part(self, process_index: int) -> JsonLog:
        """The file that one process adds its answers to."""
        return JsonLog(self.folder / "predictions" / f"part-{process_index}.jsonl")

    def answered(self) -> dict[str, Row]:
        """All rows by key, from the parts of any run that worked here.

        Raises:
            AnswersError: a key stands in more than one row.
            LogError: a part cannot be read.
        """
        rows: dict[str, Row] = {}
        for path in sorted((self.folder / "predictions").glob("part-*.jsonl")):
            for row in JsonLog(path).read():
                if row["key"] in rows:
                    raise AnswersError(
                        f"an item must be answered once, got {row['key']} twice in {path.parent}; remove one of the "
                        "rows, and let no two runs work in one folder at the same time"
                    )
                rows[row["key"]] = row
        return rows

    def collect(self, keys: Sequence[str]) -> list[Row]:
        """The rows of these items, in their order.

        Raises:
            AnswersError: some are not answered yet.
        """
        rows = self.answered()
        missing = [key for key in keys if key not in rows]
        if missing:
            raise AnswersError(
                f"all {len(keys)} items must be answered to be scored, got {len(missing)} without an answer, first "
                f"{missing[0]}; run the same command again, and it goes on from here"
            )
        return [rows[key] for key in keys]


def answer_items(
    items: Iterable[Item],
    answer: Callable[[list[Item]], list[Answer]],
    folder: AnswerFolder,
    *,
    batch_size: int = 8,
    process_index: int = 0,
    num_processes: int = 1,
    total: int | None = None,
    prepare: Callable[[], object] = lambda: None,
    progress: Progress | None = None,
) -> list[str]:
    """Answers what this process is due and nobody has answered yet; each batch is on the disk before the next.

    Item i is due to process i modulo ``num_processes``. A run may be resumed by another number of processes. Where
    a batch fails, its items are answered one by one, and those that fail are left out until the others are answered.

    Args:
        items: all of them, in the same order in every process; taken one by one.
        answer: from a batch of items to an answer for each, as JSON holds it.
        folder: where answers are kept.
        batch_size: most items in a batch.
        process_index: which of ``num_processes`` this is.
        total: how many items there are, where that is known.
        prepare: called once before the first batch, such as to load the model: what it raises is no item's fault.
        progress: called with how many of this process's items have an answer, and how many it is due, or None.

    Returns:
        The keys of all items, also of those that are due to other processes.

    Raises:
        UnfinishedError: some items cannot be answered; all others are.
        AnswersError: two items with one key, or another number of answers than items.
        ValueError: a process index outside ``num_processes``.
    """
    if not 0 <= process_index < num_processes:
        raise ValueError(f"process_index must be in 0..{num_processes - 1}, got {process_index}; count from 0")
    known, part = set(folder.answered()), folder.part(process_index)
    due = None if total is None else len(range(process_index, total, num_processes))
    keys: dict[str, None] = {}
    done = 0

    def waiting() -> Iterable[Item]:
        nonlocal done
        for number, item in enumerate(items):
            if item.key in keys:
                raise AnswersError(f"items must have different keys, got {item.key} twice; check the data set")
            keys[item.key] = None
            if number % num_processes == process_index:
                if item.key in known:
                    done += 1
                else:
                    yield item

    def keep(batch: list[Item]) -> None:
        answers = answer(batch)
        if len(answers) != len(batch):
            raise AnswersError(f"a batch must get an answer for each item, got {len(answers)} for {len(batch)}")
        rows = zip(batch, answers, strict=True)
        part.append([{"key": item.key, "truth": item.truth, "answer": told} for item, told in rows])

    queue, failures, ready = iter(waiting()), Failures("item"), False
    while batch := list(itertools.islice(queue, batch_size)):
        if not ready:
            prepare()
            ready = True
        _keep_what_can_be(batch, keep, failures)
        done += len(batch)
        if progress is not None:
            progress(done, due)
    failures.check()
    return list(keys)


def _keep_what_can_be(batch: list[Item], keep: Callable[[list[Item]], None], failures: Failures) -> None:
    """Answer a batch; where that fails, its items one by one."""
    try:
        keep(batch)
    except (AnswersError, OutputError):  # no item's fault
        raise
    except Exception:
        for item in batch:
            with failures.of(item.key):
                keep([item])
