"""One visitor with many requests does not hold up another; what nobody listens for does not run."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from gradio import queueing

from elysium.spaces_demo.limits import Limits
from elysium.spaces_demo.server import serve_demo
from elysium.spaces_demo.visitor_queue import Listeners, VisitorQueue, with_reason


class Everyone(Listeners):
    """Listens for all, but for the requests of sessions that are gone."""

    def __init__(self, *gone: str) -> None:
        super().__init__()
        self.gone = gone

    def wait_for(self, event: queueing.Event) -> bool:
        return event.session_hash not in self.gone


def queue_of(*requests: tuple[str, str], listeners: Listeners | None = None, limits: Limits | None = None) -> Any:
    """A queue with requests, each by its address and session, of a function that runs one at a time."""
    queue = VisitorQueue(
        limits or Limits(),
        listeners or Everyone(),
        live_updates=False,
        concurrency_count=40,
        update_intervals=1,
        max_size=40,
        blocks=None,
        default_concurrency_limit=1,
    )
    function = SimpleNamespace(concurrency_id="model", concurrency_limit=1, batch=False, connection="sse")
    queue.create_event_queue_for_fn(function)
    for address, session in requests:
        request = SimpleNamespace(client=SimpleNamespace(host=address))
        queue.event_queue_per_concurrency_id["model"].queue.append(queueing.Event(session, function, request, None))
    return queue


def order(queue: Any) -> list[str]:
    """The sessions in the order in which their requests run."""
    sessions = []
    while (found := queue.get_events()) is not None:
        sessions.append(found[0][0].session_hash)
    return sessions


def test_sessions_take_turns() -> None:
    assert order(queue_of(*[("1.1.1.1", "a")] * 3, ("1.1.1.1", "b"))) == ["a", "b", "a", "a"]


def test_addresses_take_turns_however_many_sessions_each_has() -> None:
    many = [("1.1.1.1", name) for name in "abcd"]
    assert order(queue_of(*many, ("2.2.2.2", "x"), ("2.2.2.2", "y"))) == ["a", "x", "b", "y", "c", "d"]


def test_what_nobody_listens_for_waits_for_all_others_and_is_dropped_in_the_end() -> None:
    queue = queue_of(("1.1.1.1", "gone"), ("2.2.2.2", "b"), listeners=Everyone("gone"), limits=Limits(listen_s=0.2))
    left = queue.event_queue_per_concurrency_id["model"].queue
    queue.pending_messages_per_session["gone"] = SimpleNamespace(put_nowait=(told := []).append)
    assert order(queue) == ["b"] and [event.session_hash for event in left] == ["gone"]
    time.sleep(0.3)
    assert order(queue) == [] and left == []
    assert "dropped when nobody listens" in told[0].output["error"]


def test_a_refusal_of_the_page_is_left_as_it_is_and_others_name_no_folder() -> None:
    ours = {"error": "a box must lie in the picture", "duration": 10}
    assert with_reason(ours) == ours
    told = with_reason({"error": "cannot read '/srv/app/secret/a.mp4' (<b>)"})["error"]
    assert "a.mp4" in told and "/srv" not in told and "<b>" not in told
    assert "could not be read" in with_reason({"error": None})["error"]


@pytest.fixture(scope="module")
def page() -> Iterator[httpx.Client]:
    limits = Limits(waiting_of_session=3, waiting_of_address=6, listen_s=2)
    with serve_demo(["elysium-tiny"], limits=limits) as address:
        yield httpx.Client(base_url=address, timeout=120)


def ask(page: httpx.Client, **session: str) -> httpx.Response:
    body = {"data": [None, None, "What?", "elysium-tiny"]} | session
    return page.post("/gradio_api/call/ask", json=body)


def answer_of(page: httpx.Client, event_id: str) -> str:
    return page.get(f"/gradio_api/call/ask/{event_id}").text


def test_a_visitor_is_answered_at_once_beside_a_client_that_submits_much_and_leaves(page) -> None:
    statuses = [ask(page).status_code for _ in range(20)]
    assert statuses.count(200) == 6 and statuses.count(503) == 14
    refused = ask(page)
    assert "may have at most 6 requests waiting, got 6 already" in refused.json()["detail"]
    time.sleep(2.2)
    start_s = time.perf_counter()
    said = answer_of(page, ask(page).json()["event_id"])
    assert "event: error" in said and "upload" in said
    assert time.perf_counter() - start_s < 10


@pytest.mark.parametrize(
    "data", [[], [1, 2], ["a", "b", "c", "d", "e", "f"], [{"path": "/etc/passwd"}, None, "a", "x"]]
)
def test_every_refusal_of_the_api_says_a_reason(page, data) -> None:
    reply = page.post("/gradio_api/call/ask", json={"data": data})
    said = answer_of(page, reply.json()["event_id"]) if reply.status_code == 200 else reply.text
    assert '"error": null' not in said and "/etc" not in said and len(said) > 30


def test_one_who_comes_for_a_dropped_answer_finds_the_reason(page) -> None:
    abandoned = ask(page).json()["event_id"]
    time.sleep(2.5)
    ask(page)  # looks through the queue
    said = answer_of(page, abandoned)
    assert "event: error" in said and "dropped when nobody listens" in said
