"""One application for the tests of the server: the shipped checkpoint, with a folder that requests may name."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from elysium.serving.chat_app import build_app
from elysium.tracking.tracker import Tracker

MEDIA = Path(__file__).parents[1] / "fixtures" / "media"


@pytest.fixture(scope="session")
def tracker() -> Tracker:
    return Tracker.from_pretrained("elysium-tiny")


@pytest.fixture(scope="session")
def client(tracker) -> Iterator[TestClient]:
    app = build_app(tracker, "elysium-tiny", num_frames=2, allow_paths=[MEDIA])
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def ask(client) -> Callable[..., Any]:
    def post(content: Any = "What is it?", **fields: Any) -> Any:
        body = {"temperature": 0, "max_tokens": 12, "messages": [{"role": "user", "content": content}]} | fields
        return client.post("/v1/chat/completions", json=body)

    return post
