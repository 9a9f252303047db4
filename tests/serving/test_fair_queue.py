"""Clients are served in turn, and none has more than its part."""

import threading

import pytest

from elysium.serving.fair_queue import BusyError, FairQueue


def filled(**clients: int) -> FairQueue[str]:
    queue: FairQueue[str] = FairQueue(100, 50)
    for client, count in clients.items():
        for number in range(count):
            queue.admit(client)
            queue.put(client, f"{client}{number}")
    return queue


def test_a_client_with_one_request_waits_for_one_of_the_others() -> None:
    queue = filled(a=4, b=1)
    assert [queue.take() for _ in range(5)] == ["a0", "b0", "a1", "a2", "a3"]


def test_clients_take_turns() -> None:
    queue = filled(a=2, b=3, c=1)
    assert [queue.take() for _ in range(6)] == ["a0", "b0", "c0", "a1", "b1", "b2"]


def test_one_client_cannot_take_all_places_nor_all_of_them_more_than_there_are() -> None:
    queue: FairQueue[str] = FairQueue(3, 2)
    queue.admit("a")
    queue.admit("a")
    with pytest.raises(BusyError, match="2 requests of yours"):
        queue.admit("a")
    queue.admit("b")
    with pytest.raises(BusyError, match="got 3 requests waiting"):
        queue.admit("c")
    queue.release("a")
    queue.admit("c")
    with pytest.raises(BusyError):
        queue.admit("d")


def test_closing_wakes_who_waits() -> None:
    queue: FairQueue[str] = FairQueue(1, 1)
    taken: list[str | None] = []
    thread = threading.Thread(target=lambda: taken.append(queue.take()))
    thread.start()
    queue.close()
    thread.join(10)
    assert taken == [None]
