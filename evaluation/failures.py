"""Items of a long loop that fail, without a loss for the others."""

from collections.abc import Iterator
from contextlib import contextmanager

from elysium.processing.atomic_files import OutputError

# So many failures one behind the other are no fault of the items: the loop ends.
MOST_IN_A_ROW = 20
_NAMED = 5


class UnfinishedError(ValueError):
    """Some items of a run failed; all others are finished and kept, and the same command resumes it."""


class Failures:
    """The items of one loop that failed.

        failures = Failures("sequence")
        for item in items:
            with failures.of(item.name):
                ...
        failures.check()

    Args:
        noun: what an item is, for the error.
    """

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self.errors: dict[str, Exception] = {}
        self._in_a_row = 0

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Take what an item fails with, and let the loop go to the next one.

        Raises:
            UnfinishedError: `MOST_IN_A_ROW` items failed one behind the other.
            OutputError: the disk is full, which the other items would find, too.
        """
        try:
            yield
        except OutputError:
            raise
        except Exception as error:
            self.errors[name] = error
            self._in_a_row += 1
            if self._in_a_row >= MOST_IN_A_ROW:
                self.check()
        else:
            self._in_a_row = 0

    def check(self) -> None:
        """Raise for the items that failed.

        Raises:
            UnfinishedError: some did; it names them with their reasons.
        """
        if not self.errors:
            return
        named = [f"{name}: {error}" for name, error in list(self.errors.items())[:_NAMED]]
        more = [] if len(self.errors) <= _NAMED else [f"and {len(self.errors) - _NAMED} more"]
        raise UnfinishedError(
            f"every {self.noun} must be finished to be scored, got {len(self.errors)} that failed "
            f"({'; '.join(named + more)}); the others are kept: fix these, and the same command resumes the run"
        ) from next(iter(self.errors.values()))
