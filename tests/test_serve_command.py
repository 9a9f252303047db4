"""`elysium serve`: chat requests with a video, over HTTP, answered by the shipped checkpoint."""

import base64
import json
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest
import torch
import uvicorn
from openai import APIStatusError, OpenAI

from elysium import cli
from elysium.serve_command import build_app
from elysium.tracking.tracker import Tracker

SHAPES = Path(__file__).parent / "fixtures" / "media" / "shapes.mp4"
QUESTION = "Track the red cross in the video."


@pytest.fixture(scope="module")
def tracker() -> Tracker:
    return Tracker.from_pretrained("elysium-tiny")


@pytest.fixture(scope="module")
def address(tracker) -> Iterator[str]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        app = build_app(tracker, "elysium-tiny", num_frames=4)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
        server.should_exit = True
        thread.join(timeout=10)


@pytest.fixture(scope="module")
def client(address) -> OpenAI:
    return OpenAI(base_url=address, api_key="none", max_retries=0)


def chat(url: str, text: str = QUESTION) -> list[dict]:
    return [
        {
            "role": "user",
            "content": [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": text}],
        }
    ]


def ask(client: OpenAI, url: str, **options) -> str:
    options = {"model": "elysium-tiny", "temperature": 0, "max_tokens": 200} | options
    return client.chat.completions.create(messages=chat(url), **options).choices[0].message.content


def ours(tracker: Tracker, num_frames: int) -> str:
    """The same question through the processor and `generate`."""
    messages = [
        {
            "role": "user",
            "content": [{"type": "video", "video": str(SHAPES)}, {"type": "text", "text": QUESTION}],
        }
    ]
    inputs = tracker.processor.apply_chat_template(
        messages,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"num_frames": num_frames, "do_sample_frames": True},
    )
    with torch.no_grad():
        tokens = tracker.model.generate(**inputs, max_new_tokens=200, do_sample=False)
    return tracker.processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_a_video_is_tracked_as_generate_does(client, tracker) -> None:
    answer = ask(client, str(SHAPES))
    assert answer == ours(tracker, 4) and answer.count("Frame") == 4


def test_a_video_may_be_sent_along_and_its_frames_counted(client, tracker) -> None:
    data = "data:video/mp4;base64," + base64.b64encode(SHAPES.read_bytes()).decode()
    answer = ask(client, data, extra_body={"chat_template_kwargs": {"num_frames": 2}})
    assert answer == ours(tracker, 2)


def test_an_answer_is_streamed_piece_by_piece(client) -> None:
    stream = client.chat.completions.create(
        model="elysium-tiny", messages=chat(str(SHAPES)), temperature=0, max_tokens=200, stream=True
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert len(pieces) > 4 and "".join(pieces) == ask(client, str(SHAPES))


def test_the_one_model_is_listed(client) -> None:
    assert [model.id for model in client.models.list()] == ["elysium-tiny"]


@pytest.mark.parametrize(
    ("url", "model", "message"),
    [
        ("/nowhere.mp4", "elysium-tiny", "a video must be a file, an http or a data: URL, got '/nowhere.mp4'"),
        ("data:video/mp4;base64,###", "elysium-tiny", "a video in a data: URL must be base64"),
        ("data:video/mp4;base64,AAAA", "elysium-tiny", "got the file, which is another kind of file"),
        (str(SHAPES), "another", "model must be 'elysium-tiny', got 'another'"),
    ],
    ids=["no such file", "not base64", "no video", "another model"],
)
def test_a_bad_request_is_refused_with_the_reason(client, url, model, message) -> None:
    with pytest.raises(APIStatusError) as refused:
        ask(client, url, model=model)
    assert message in refused.value.body["message"]


def test_roles_out_of_order_are_refused(address) -> None:
    body = {"messages": [{"role": "tool", "content": "hello"}]}
    request = urllib.request.Request(
        f"{address}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with pytest.raises(HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 400 and b"messages.0.role: Input should be" in refused.value.read()


def test_a_port_that_is_taken_is_said_before_a_model_is_loaded(capsys) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.run(["serve", "--port", str(port), "--model", "no-such-model"]) == 2
    assert f"host and port must be free on this machine, got 127.0.0.1:{port}" in capsys.readouterr().err


def test_an_unknown_model_is_said(capsys) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert cli.run(["serve", "--port", str(port), "--model", "no-such-model"]) == 1
    assert "no-such-model" in capsys.readouterr().err
