"""Batches of which one item may fail without a loss for the others."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Result = TypeVar("Result")

_NAMED = 5


class BatchError(ValueError):
    """Some items of a batch failed; all others are finished.

    Attributes:
        finished: the result of each item in their order; of one that failed None, or what was finished of it.
        errors: by the number of the item (from 0) what it failed with.
    """

    def __init__(self, finished: Sequence[Any], errors: Mapping[int, Exception]) -> None:
        self.finished, self.errors = list(finished), dict(errors)
        named = [f"item {number}: {error}" for number, error in itertools.islice(sorted(self.errors.items()), _NAMED)]
        more = [] if len(self.errors) <= _NAMED else [f"and {len(self.errors) - _NAMED} more"]
        super().__init__(
            f"every item must be usable, got {len(self.errors)} of {len(self.finished)} that failed ("
            f"{'; '.join(named + more)}); the others are finished, in `finished` of this error"
        )


def keep_finished(error: BaseException, finished: Any) -> None:
    """Let an error carry what was finished before it, as ``error.finished``."""
    error.finished = finished  # type: ignore[attr-defined]
    error.add_note("What was finished before is in `finished` of this error.")


def results_in_order(results: Mapping[int, Any], errors: Mapping[int, Exception]) -> list[Any]:
    """Return the results of all items, once every item has a result or an error.

    Raises:
        BatchError: some items failed. The error of an only item is raised as it is.
    """
    finished = [results.get(number) for number in range(max([*results, *errors, -1]) + 1)]
    if errors and len(finished) == 1:
        raise errors[0]
    if errors:
        raise BatchError(finished, errors)
    return finished


def in_batches(
    items: Iterable[Item],
    prepare: Callable[[Item], Prepared],
    answer: Callable[[list[Prepared]], Sequence[Result]],
    *,
    batch_size: int,
) -> list[Result]:
    """Answer items batch by batch; an item that cannot be prepared is left out until the others are answered.

    Args:
        items: taken one by one, so that the images of one batch are held.
        prepare: from an item to what is asked, such as by opening a file.
        answer: from a batch of it to as many results.
        batch_size: most items in a batch.

    Raises:
        BatchError: some items could not be prepared.
        BaseException: what ``answer`` or an interrupt raises; its `finished` is a list of the results so far.
    """
    results: dict[int, Result] = {}
    errors: dict[int, Exception] = {}
    numbered = enumerate(items)
    try:
        while taken := list(itertools.islice(numbered, batch_size)):
            prepared: dict[int, Prepared] = {}
            for number, item in taken:
                try:
                    prepared[number] = prepare(item)
                except Exception as error:
                    errors[number] = error
            if prepared:
                results.update(zip(prepared, answer(list(prepared.values())), strict=True))
    except BaseException as error:
        keep_finished(error, [results.get(number) for number in range(max(results, default=-1) + 1)])
        raise
    return results_in_order(results, errors)
