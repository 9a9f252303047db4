"""Ask a model the items of a question benchmark, and keep its answers so that a run can be resumed.

    FOLDER/settings.json                  settings that the answers depend on
    FOLDER/predictions/part-RANK.jsonl    a line for each answered item: {"key", "truth": {...}, "answer": {...}}

A line holds the ground truth beside the answer, so that figures can be computed again from the folder alone.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .json_log import JsonLog, Row
from .resumable import ALONE, Processes, Progress, RunError, check_settings, run_items

Answer = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """One question to a model.

    Args:
        key: unique in the benchmark, and the same in every run.
        question: the input, such as an object of a dataset; images are opened when it is answered.
        truth: the ground truth, as JSON holds it.
    """

    key: str
    question: Any
    truth: dict[str, Any]


class AnswerFolder:
    """The folder of one model's answers to one benchmark.

    Args:
        folder: made where it is missing.
        settings: settings that answers depend on (benchmark, data, split, model …), as JSON holds it.

    Raises:
        SettingsError: the folder holds answers of other settings; both are named.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        check_settings(folder / "settings.json", settings)

    def part(self, process_index: int) -> JsonLog:
        """Return the log of one process."""
        return JsonLog(self.folder / "predictions" / f"part-{process_index}.jsonl")

    def answered(self) -> dict[str, Row]:
        """Return all lines by key, from all logs of the folder.

        Raises:
            RunError: a key stands in more than one line.
            LogError: a log cannot be read.
        """
        rows: dict[str, Row] = {}
        for path in sorted((self.folder / "predictions").glob("part-*.jsonl")):
            for row in JsonLog(path).read():
                if row["key"] in rows:
                    raise RunError(
                        f"an item must be answered once, got {row['key']} twice in {path.parent}; remove one of the "
                        "lines, and let no two runs work in one folder at the same time"
                    )
                rows[row["key"]] = row
        return rows

    def collect(self, keys: Sequence[str]) -> list[Row]:
        """Return the lines of these items, in their order.

        Raises:
            RunError: some are not answered yet.
        """
        rows = self.answered()
        missing = [key for key in keys if key not in rows]
        if missing:
            raise RunError(
                f"all {len(keys)} items must be answered to be scored, got {len(missing)} without an answer, first "
                f"{missing[0]}; the same command resumes the run"
            )
        return [rows[key] for key in keys]


def answer_items(
    items: Iterable[Item],
    answer: Callable[[list[Item]], list[Answer]],
    folder: AnswerFolder,
    *,
    batch_size: int = 8,
    processes: Processes = ALONE,
    total: int | None = None,
    prepare: Callable[[], object] = lambda: None,
    progress: Progress | None = None,
) -> list[str]:
    """Answer the items of this process that have no answer yet; each batch is on disk before the next.

    Args:
        items, batch_size, processes, total, prepare, progress: as in `run_items`.
        answer: from a batch of items to an answer for each, as JSON holds it.
        folder: where answers are kept.

    Returns:
        The keys of all items, also of those due to other processes.

    Raises:
        UnfinishedError: some items cannot be answered; all others are.
        RunError: two items with one key, or another number of answers than items.
    """
    part = folder.part(processes.index)

    def keep(batch: list[Item]) -> None:
        answers = answer(batch)
        if len(answers) != len(batch):
            raise RunError(f"a batch must get an answer for each item, got {len(answers)} for {len(batch)}")
        rows = zip(batch, answers, strict=True)
        part.append([{"key": item.key, "truth": item.truth, "answer": given} for item, given in rows])

    keys, failures = run_items(
        items,
        keep,
        noun="item",
        key=lambda item: item.key,
        done=set(folder.answered()),
        batch_size=batch_size,
        processes=processes,
        total=total,
        prepare=prepare,
        progress=progress,
    )
    failures.check()
    return keys
