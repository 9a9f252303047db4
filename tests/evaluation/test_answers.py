"""The loop over questions: killed and gone on with, shared out, and never asked twice."""

import json
import os
import time

import pytest
from forked import Child

from elysium.evaluation.answer_benchmark import answer_items, collect_answers, read_answers
from elysium.evaluation.question_benchmarks import Item
from elysium.evaluation.resumable import MAX_CONSECUTIVE_FAILURES as MAX
from elysium.evaluation.resumable import (
    JsonLog,
    Processes,
    RunError,
    UnfinishedError,
    check_settings,
)

ITEMS = [Item(f"k{number}", number, {"true": number}) for number in range(11)]


class Model:
    """Answers with the square of the question, and remembers what it was asked."""

    def __init__(self, stop_after=None):
        self.asked, self.stop_after = [], stop_after

    def __call__(self, batch):
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked += [item.key for item in batch]
        return [{"square": item.question**2} for item in batch]


def run(folder, model, items=ITEMS, **options):
    return answer_items(iter(items), model, folder, **{"batch_size": 2, **options})


def squares(folder, keys):
    return [row["answer"]["square"] for row in collect_answers(folder, keys)]


def test_every_item_is_answered_once_and_kept_with_its_truth(tmp_path):
    model = Model()
    keys = run(tmp_path, model)
    assert model.asked == keys == [item.key for item in ITEMS]
    assert squares(tmp_path, keys) == [number**2 for number in range(11)]
    first = json.loads((tmp_path / "predictions" / "part-0.jsonl").read_text().splitlines()[0])
    assert first == {"key": "k0", "truth": {"true": 0}, "answer": {"square": 0}}


def test_a_run_that_was_interrupted_goes_on_and_asks_nothing_twice(tmp_path):
    first, second = Model(stop_after=4), Model()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, first)
    keys = run(tmp_path, second)
    assert first.asked + second.asked == keys
    assert squares(tmp_path, keys) == [number**2 for number in range(11)]


@pytest.mark.parametrize("cut", [1, 10, 25])
def test_a_last_line_that_is_torn_is_cut_and_its_item_asked_again(cut, tmp_path):
    run(tmp_path, Model())
    part = tmp_path / "predictions" / "part-0.jsonl"
    part.write_bytes(part.read_bytes()[:-cut])
    model = Model()
    keys = run(tmp_path, model)
    assert model.asked == ["k10"]
    assert squares(tmp_path, keys) == [number**2 for number in range(11)]
    assert len(part.read_text().splitlines()) == 11


def slow_run(folder) -> None:
    """Ask 200 questions, in batches of 2 that take 0.02 s."""

    def slow(batch):
        time.sleep(0.02)
        return [{"square": item.question**2} for item in batch]

    items = (Item(f"k{number}", number, {"true": number}) for number in range(200))
    answer_items(items, slow, folder, batch_size=2)


@pytest.mark.skipif(os.name != "posix", reason="kills a process by a signal")
def test_a_process_that_is_killed_loses_no_batch_that_was_finished(tmp_path):
    part = tmp_path / "predictions" / "part-0.jsonl"
    child = Child(lambda: slow_run(tmp_path), tmp_path / "child.log")
    child.kill_when(lambda: part.exists() and part.read_bytes().count(b"\n") >= 6)
    before = [row["key"] for row in JsonLog(part).read()]
    items = [Item(f"k{number}", number, {"true": number}) for number in range(200)]
    assert 6 <= len(before) < len(items)
    model = Model()
    keys = run(tmp_path, model, items)
    assert before + model.asked == keys
    assert squares(tmp_path, keys) == [number**2 for number in range(200)]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_several_processes_share_the_items_and_give_what_one_gives(order, tmp_path):
    asked = {}
    for rank in order:
        model = asked[rank] = Model()
        keys = run(tmp_path / "three", model, processes=Processes(rank, 3))
    assert asked[1].asked == ["k1", "k4", "k7", "k10"]
    assert sorted(key for model in asked.values() for key in model.asked) == sorted(keys)
    assert keys == run(tmp_path / "one", Model())
    assert collect_answers(tmp_path / "three", keys) == collect_answers(tmp_path / "one", keys)


def test_a_run_of_three_processes_is_finished_by_one(tmp_path):
    for rank in (0, 2):
        run(tmp_path, Model(), processes=Processes(rank, 3))
    model = Model()
    with pytest.raises(
        RunError, match="all 11 items must be answered to be scored, got 4 without an answer, first k1"
    ):
        collect_answers(tmp_path, [item.key for item in ITEMS])
    keys = run(tmp_path, model)
    assert model.asked == ["k1", "k4", "k7", "k10"]
    assert squares(tmp_path, keys) == [number**2 for number in range(11)]


def test_a_folder_of_other_settings_is_refused_and_both_are_named(tmp_path):
    check_settings(tmp_path / "settings.json", {"model": "m", "split": "s"})
    with pytest.raises(RunError, match="model: 'm' before, 'other' now"):
        check_settings(tmp_path / "settings.json", {"model": "other", "split": "s"})


def test_items_with_one_key_are_refused(tmp_path):
    with pytest.raises(RunError, match="different keys, got k0 twice"):
        run(tmp_path, Model(), [*ITEMS[:3], ITEMS[0]])


def test_an_item_that_two_parts_answer_is_refused(tmp_path):
    run(tmp_path, Model())
    part = tmp_path / "predictions" / "part-0.jsonl"
    part.with_name("part-1.jsonl").write_text(part.read_text().splitlines()[0] + "\n")
    with pytest.raises(RunError, match="answered once, got k0 twice"):
        run(tmp_path, Model())


def test_progress_counts_the_items_that_are_due_to_this_process(tmp_path):
    seen = []
    run(tmp_path, Model(), processes=Processes(1, 3), total=11, progress=lambda *args: seen.append(args))
    assert seen == [(2, 4), (4, 4)]


def test_another_number_of_answers_than_questions_is_refused(tmp_path):
    with pytest.raises(RunError, match="got 1 for 2"):
        run(tmp_path, lambda batch: [{}])


# --- the log ---
def test_a_line_that_is_damaged_in_the_middle_is_an_error_that_names_it(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
    with pytest.raises(RunError, match=r"line 2 of \S+a\.jsonl"):
        JsonLog(tmp_path / "a.jsonl").read()


@pytest.mark.parametrize("tail", [b"\x00\x00\x00", b'{"a": {"b": 2}', b'{"a": "\xc3', b"{}"])
def test_whatever_is_torn_at_the_end_is_left_out_and_replaced(tail, tmp_path):
    log = JsonLog(tmp_path / "a.jsonl")
    log.append([{"a": 1}])
    with log.path.open("ab") as file:
        file.write(tail)
    assert log.read() == [{"a": 1}]
    log.append([{"a": "ü"}, {"a": 3}])
    assert log.read() == [{"a": 1}, {"a": "ü"}, {"a": 3}]


# --- items that fail ---
def test_an_item_that_fails_costs_none_of_the_others_and_is_asked_again_by_the_next_run(tmp_path):
    def model(batch):
        if any(item.key == "k3" for item in batch):
            raise OSError("image file is truncated")
        return [{"square": item.question**2} for item in batch]

    with pytest.raises(UnfinishedError, match=r"got 1 that failed \(k3: image file is truncated\).*resumes the run"):
        run(tmp_path, model)
    keys = run(tmp_path, Model())
    assert set(read_answers(tmp_path)) == set(keys)


def test_many_failures_one_behind_the_other_end_the_run(tmp_path):
    asked = []

    def model(batch):
        asked.extend(batch)
        raise RuntimeError("out of memory")

    with pytest.raises(UnfinishedError, match=f"got {MAX} that failed.*and {MAX - 5} more"):
        run(tmp_path, model, [Item(f"k{n}", n, {}) for n in range(500)])
    assert len(asked) <= 2 * MAX + 2


def test_a_model_that_cannot_be_loaded_is_no_item_s_fault(tmp_path):
    def prepare():
        raise RuntimeError("no such model")

    with pytest.raises(RuntimeError, match="no such model"):
        run(tmp_path, Model(), prepare=prepare)
