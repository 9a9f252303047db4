"""The judge against a server on this machine that stands in for OpenAI's API."""

import json

import pytest
from judge_stand_in import GOOD, StandIn

from elysium.evaluation import judge as judging
from elysium.evaluation.judge import Exchange, Judge, JudgeError, Verdict, parse_verdict, verdict_figures

EXCHANGES = [Exchange("what moves?", f"thing {number}", f"a thing {number}") for number in range(6)]


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = []

    def start(*replies):
        running.append(StandIn(replies))
        return running[-1]

    yield start
    for stand_in in running:
        stand_in.stop()


def ask(stand_in, tmp_path, exchanges=EXCHANGES, model="judge-1"):
    return Judge(stand_in.url, model).judge(exchanges, tmp_path / "judge.jsonl")


def test_the_request_is_a_chat_completion_at_temperature_0_with_the_key_of_the_environment(
    serve, tmp_path, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    stand_in = serve(GOOD)
    (verdict,) = ask(stand_in, tmp_path, EXCHANGES[:1])
    assert (verdict.correct, verdict.score) == (True, 4)
    ((path, headers, body),) = stand_in.requests
    assert (path, body["model"], body["temperature"]) == ("/v1/chat/completions", "judge-1", 0)
    assert headers["Authorization"] == "Bearer secret"
    asked = json.loads(body["messages"][1]["content"])
    assert asked == {"question": "what moves?", "reference answer": "thing 0", "candidate answer": "a thing 0"}
    assert "secret" not in (tmp_path / "judge.jsonl").read_text()


def test_without_a_key_in_the_environment_a_server_that_needs_none_is_asked_all_the_same(serve, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    stand_in = serve(GOOD)
    ask(stand_in, tmp_path, EXCHANGES[:1])
    assert stand_in.requests[0][1]["Authorization"] == "Bearer none"


def test_a_busy_server_is_asked_again(serve, tmp_path):
    stand_in = serve(500, 503, 429, 500, GOOD)
    (verdict,) = ask(stand_in, tmp_path, EXCHANGES[:1])
    assert verdict.correct
    assert len(stand_in.requests) == 5


def test_a_reply_that_is_no_chat_completion_is_an_error_that_names_the_server(serve, tmp_path):
    stand_in = serve(204)
    with pytest.raises(JudgeError, match=r"must reply with a chat completion, got .*; check base_url"):
        ask(stand_in, tmp_path, EXCHANGES[:1])


def test_after_all_attempts_what_was_said_so_far_is_kept_and_a_later_run_asks_only_for_the_rest(
    serve, tmp_path, monkeypatch
):
    monkeypatch.setattr(judging, "MAX_RETRIES", 2)
    monkeypatch.setattr(judging, "CONCURRENT_REQUESTS", 1)
    stand_in = serve(GOOD, GOOD, GOOD, 500)
    with pytest.raises(JudgeError, match="500 .*2 retries failed"):
        ask(stand_in, tmp_path)
    assert len((tmp_path / "judge.jsonl").read_text().splitlines()) == 3
    stand_in.replies = [GOOD]
    before = len(stand_in.requests)
    verdicts = ask(stand_in, tmp_path)
    assert len(stand_in.requests) - before == 3
    assert [verdict.score for verdict in verdicts] == [4] * 6


def test_a_torn_reply_at_the_end_of_the_kept_ones_is_asked_for_again(serve, tmp_path):
    stand_in = serve(GOOD)
    ask(stand_in, tmp_path, EXCHANGES[:2])
    path = tmp_path / "judge.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    assert len(ask(stand_in, tmp_path, EXCHANGES[:2])) == 2
    assert len(stand_in.requests) == 3
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 2


def test_another_judge_or_another_answer_is_not_taken_from_the_kept_replies(serve, tmp_path):
    stand_in = serve(GOOD)
    ask(stand_in, tmp_path, EXCHANGES[:1])
    ask(stand_in, tmp_path, EXCHANGES[:1], model="judge-2")
    ask(stand_in, tmp_path, [Exchange("what moves?", "thing 0", "another")])
    assert len(stand_in.requests) == 3


def test_a_refusal_is_not_repeated_and_says_what_to_do(serve, tmp_path):
    stand_in = serve(401)
    with pytest.raises(JudgeError, match=r"401 .* environment variable OPENAI_API_KEY"):
        ask(stand_in, tmp_path, EXCHANGES[:1])
    assert len(stand_in.requests) == 1


def test_a_server_that_is_not_there_is_an_error_that_names_it(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(judging, "MAX_RETRIES", 1)
    with pytest.raises(JudgeError, match=r"got .* from http://127.0.0.1:9/v1; 1 retries failed"):
        Judge("http://127.0.0.1:9/v1", "m").judge(EXCHANGES[:1], tmp_path / "j.jsonl")


def test_a_reply_with_half_a_character_is_kept_and_read(serve, tmp_path):
    stand_in = serve(GOOD + " \ud800")
    for _ in range(2):
        assert ask(stand_in, tmp_path, EXCHANGES[:1])[0].score == 4
    assert len(stand_in.requests) == 1


def test_equal_exchanges_are_asked_once(serve, tmp_path):
    stand_in = serve(GOOD)
    assert len(ask(stand_in, tmp_path, [EXCHANGES[0]] * 3)) == 3
    assert len(stand_in.requests) == 1


@pytest.mark.parametrize(
    ("reply", "correct", "score"),
    [
        ('{"correct": "yes", "score": 4}', True, 4),
        ('```json\n{"correct": "no", "score": 0}\n```', False, 0),
        ("{'pred': 'yes', 'score': 4.5}", True, 4.5),
        ("{'correct': True, 'score': 5}", True, 5),
        ('{"score": "3", "correct": "No"}', False, 3),
        ("Yes. Score: 4/5", True, 4),
        ('{"correct": true, "score": 4}', True, 4),
        ('{"a": 1} {"CORRECT": "no", "Score": 2}', False, 2),
        ("The answer is wrong, so no, with a score of 1.", False, 1),
        ('{"correct": "yes", "score": 5, "reason": "no contradiction"}', True, 5),
    ],
)
def test_replies_are_read_in_many_forms(reply, correct, score):
    verdict = parse_verdict(reply)
    assert (verdict.correct, verdict.score) == (correct, score)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "I cannot say.",
        "yes",
        "score: 3",
        '{"correct": "yes", "score": 9}',
        "yes or no? score 2",
        "yes, score -1",
        "{" * 9000,
        "{" + "[" * 9000 + "}",
    ],
)
def test_a_reply_without_a_clear_verdict_cannot_be_read(reply):
    assert parse_verdict(reply) == Verdict(None, None)


def test_a_reply_that_cannot_be_read_counts_as_no_and_0_and_is_counted():
    verdicts = [parse_verdict(GOOD), parse_verdict('{"correct": "no", "score": 1}'), parse_verdict("hm")]
    # correct 1 of 3, score (4 + 1 + 0) / 3, unreadable 1 of 3
    assert verdict_figures(verdicts) == pytest.approx(
        {"judged_correct": 100 / 3, "judge_score": 5 / 3, "judge_unreadable": 100 / 3}
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "localhost", "model": "m"}, "http://"),
        ({"base_url": "http://x", "model": " "}, "name it"),
    ],
)
def test_settings_are_checked_before_anything_is_asked(options, message):
    with pytest.raises(ValueError, match=message):
        Judge(**options)
