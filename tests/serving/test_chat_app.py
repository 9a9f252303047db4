"""What a client of the server asks for is done."""

import json
import threading
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from elysium.serving.chat_app import build_app
from elysium.serving.generation_worker import GenerationWorker

SHAPES = {"type": "video_url", "video_url": {"url": str(Path(__file__).parents[1] / "fixtures/media/shapes.mp4")}}
TRACK = [SHAPES, {"type": "text", "text": "Track the red cross in the video."}]
URL = "/v1/chat/completions"


def text(answer) -> str:
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


def test_an_answer_is_cut_before_the_first_stop_string(ask) -> None:
    whole = text(ask(TRACK, max_tokens=60))
    answer = ask(TRACK, max_tokens=60, stop=["Frame 2", "nowhere"])
    assert "Frame 2" in whole and text(answer) == whole.partition("Frame 2")[0]
    assert answer.json()["choices"][0]["finish_reason"] == "stop"


def test_a_full_answer_says_length_and_counts_its_tokens(ask) -> None:
    answer = ask(TRACK, max_tokens=5).json()
    assert answer["choices"][0]["finish_reason"] == "length" and answer["usage"]["completion_tokens"] == 5
    assert answer["usage"]["prompt_tokens"] > 100


def test_the_same_seed_gives_the_same_answer_and_others_differ(ask) -> None:
    answers = [text(ask(temperature=5, seed=seed)) for seed in (1, 1, 2, 3)]
    assert answers[0] == answers[1] and len(set(answers)) == 3


@pytest.mark.parametrize("fields", [{}, {"stop": "Frame 2"}, {"temperature": 2, "seed": 7}])
def test_a_streamed_answer_is_the_answer(client, ask, fields) -> None:
    asked = {"messages": [{"role": "user", "content": TRACK}], "temperature": 0, "max_tokens": 40} | fields
    whole = client.post(URL, json=asked).json()
    options = {"stream": True, "stream_options": {"include_usage": True}}
    lines = [line for line in client.post(URL, json=asked | options).text.split("\n") if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert chunks.pop()["usage"] == whole["usage"]
    (choice,), pieces = whole["choices"], [each["choices"][0] for each in chunks]
    assert "".join(piece["delta"].get("content", "") for piece in pieces) == choice["message"]["content"]
    assert pieces[-1]["finish_reason"] == choice["finish_reason"]


def test_frames_of_a_request_count(ask) -> None:
    def prompt_tokens(**sampling) -> int:
        return ask(TRACK, chat_template_kwargs=sampling).json()["usage"]["prompt_tokens"]

    assert prompt_tokens(num_frames=2) == prompt_tokens() < prompt_tokens(num_frames=3)
    assert prompt_tokens(fps=0.5) in (prompt_tokens(num_frames=2), prompt_tokens(num_frames=3))


def test_what_a_client_sends_back_of_an_answer_is_taken(ask) -> None:
    earlier = ask(TRACK).json()["choices"][0]["message"] | {"tool_calls": None, "annotations": [], "audio": None}
    messages = [{"role": "user", "content": TRACK}, earlier, {"role": "user", "content": "And now?"}]
    text(ask(messages=messages, user="me", metadata={"a": "b"}, logprobs=None, response_format={"type": "text"}))
    text(ask(n=1, presence_penalty=0.0, tools=[], tool_choice="auto", logprobs=False, logit_bias={}))


def test_requests_at_once_are_batched_and_answered_as_alone(client, ask, monkeypatch) -> None:
    asked = [
        {"content": TRACK, "max_tokens": 30},
        {"content": "What is it?", "max_tokens": 7},
        {"content": TRACK, "max_tokens": 30, "stop": "Frame 2"},
        {"content": TRACK, "max_tokens": 30, "chat_template_kwargs": {"num_frames": 3}},
    ]
    alone = [text(ask(**each)) for each in asked]
    sizes: list[int] = []
    answer = GenerationWorker._answer

    def watched(self, jobs):
        sizes.append(len(jobs))
        answer(self, jobs)

    monkeypatch.setattr(GenerationWorker, "_answer", watched)
    together: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda i: together.__setitem__(i, text(ask(**asked[i % 4]))), args=[i])
        for i in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert [together[i] for i in range(12)] == alone * 3
    assert max(sizes) > 1 and sum(sizes) == 12


def test_an_api_key_is_asked_for_and_health_is_not_behind_it(tracker) -> None:
    with TestClient(build_app(tracker, "elysium-tiny", api_key="s3cret")) as client:
        assert client.get("/health").status_code == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer s3cret "[:-3]}):
            refused = client.get("/v1/models", headers=headers)
            assert refused.status_code == 401 and refused.json()["error"]["code"] == "invalid_api_key"
        assert client.get("/v1/models", headers={"Authorization": "Bearer s3cret"}).status_code == 200


def test_a_full_server_says_when_to_come_back(tracker, monkeypatch) -> None:
    wait, taken = threading.Event(), threading.Semaphore(0)
    prepare = GenerationWorker._prepare

    def slow(self, request, processor):
        taken.release()
        wait.wait(30)
        return prepare(self, request, processor)

    monkeypatch.setattr(GenerationWorker, "_prepare", slow)
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, "temperature": 0}
    with TestClient(build_app(tracker, "elysium-tiny", waiting=4)) as client:  # two of one client
        answers: list[int] = []
        threads = [
            threading.Thread(target=lambda: answers.append(client.post(URL, json=body).status_code)) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        assert all(taken.acquire(timeout=30) for _ in threads)
        refused = client.post(URL, json=body)
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) > 0 and refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert client.get("/health").status_code == 200
        wait.set()
        for thread in threads:
            thread.join(timeout=60)
        assert answers == [200, 200] and client.post(URL, json=body).status_code == 200


def test_an_unexpected_error_is_a_500_in_the_same_form_and_frees_its_place(tracker, monkeypatch) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    app = build_app(tracker, "elysium-tiny", waiting=2)
    with TestClient(app, raise_server_exceptions=False) as client, monkeypatch.context() as broken:
        broken.setattr(GenerationWorker, "_generate", lambda *args: 1 / 0)
        for _ in range(3):
            answer = client.post(URL, json=body)
            assert answer.status_code == 500 and answer.json()["error"]["type"] == "server_error"
            assert "zero" not in answer.text
        broken.undo()
        assert client.post(URL, json=body).status_code == 200
