"""Queue that serves clients in turn, with a maximum of open requests in total and for each client."""

import threading
from collections import Counter, OrderedDict, deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class BusyError(RuntimeError):
    """The server accepts no more requests at the moment."""


class FairQueue(Generic[Item]):
    """Queue of many clients' items, taken round robin, so that many requests of one do not delay another.

    Args:
        most: maximum number of open requests, from `admit` to `release`.
        most_of_one: maximum number of open requests of one client.
    """

    def __init__(self, most: int, most_of_one: int) -> None:
        if not 1 <= most_of_one <= most:
            raise ValueError(f"most_of_one must be from 1 to most, got {most_of_one} and {most}")
        self.most, self.most_of_one = most, most_of_one
        self._open: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[Item]] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False

    def admit(self, client: str) -> None:
        """Open a request of a client; `release` ends it.

        Raises:
            BusyError: the maximum in total, or of this client, is reached.
        """
        with self._changed:
            own, total = self._open[client], self._open.total()
            if own >= self.most_of_one or total >= self.most:
                whose = f"{own} requests of yours" if own >= self.most_of_one else f"{total} requests"
                raise BusyError(f"the server must have a free place, got {whose} waiting already; try again later")
            self._open[client] += 1

    def release(self, client: str) -> None:
        """End a request of a client."""
        with self._changed:
            self._open[client] -= 1
            self._open += Counter()  # forgets clients without requests

    def put(self, client: str, item: Item) -> None:
        """Queue an item after those of the same client."""
        with self._changed:
            self._waiting.setdefault(client, deque()).append(item)
            self._changed.notify()

    def take(self) -> Item | None:
        """Wait for the next item and return it; None once the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            client, items = self._waiting.popitem(last=False)
            item = items.popleft()
            if items:
                self._waiting[client] = items  # after the other clients
            return item

    def close(self) -> None:
        """Wake all callers of `take`; items that are still queued are dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
