"""Evaluate a model on a question benchmark, from the dataset's folder to the report's figures.

    FOLDER/settings.json                  settings that the answers depend on
    FOLDER/predictions/part-RANK.jsonl    a line for each answered item: {"key", "truth": {...}, "answer": {...}}
    FOLDER/judge.jsonl                    replies of the judge

A line holds the ground truth beside the answer, so that figures can be computed again from the folder alone.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from elysium.processing.overlap import paired_iou
from elysium.readers.refcoco import is_parquet_source
from elysium.tracking.checkpoints import weights_fingerprint
from elysium.tracking.tracker import Tracker

from .captioning import CaptionScorer
from .grounding import box_size, grounding_figures, iou_histogram
from .judge import SOURCE as JUDGE_SOURCE
from .judge import Exchange, Judge, verdict_figures
from .qa import qa_figures
from .question_benchmarks import QUESTION_BENCHMARKS, Answer, Item, QuestionBenchmark
from .resumable import ALONE, JsonLog, Processes, Progress, Row, RunError, check_failures, check_settings, run_items

Record = dict[str, Any]


def evaluate_questions(
    benchmark: str,
    *,
    data: str | Path,
    split: str | None = None,
    model: str,
    folder: Path,
    device: str | None = None,
    limit: int | None = None,
    batch_size: int = 8,
    judge: Judge | None = None,
    processes: Processes = ALONE,
    progress: Progress | None = None,
) -> Record | None:
    """Prompt a model with all questions of a benchmark, and score its answers.

    Answers are kept in ``folder`` batch by batch: the same call resumes a killed run, and several processes share the
    items. Figures come from the kept answers alone.

    Args:
        benchmark: one of `QUESTION_BENCHMARKS`.
        data: path or Hub id of the dataset, as its reader in `readers` takes it.
        split: of the dataset, for RefCOCO several with commas; by default the benchmark's `default_split`.
        model: folder, shipped name or Hub id.
        folder: for this model's answers to this benchmark alone.
        device: as `Tracker.from_pretrained` takes it.
        limit: maximum number of samples, the first ones.
        batch_size: maximum number of items that the model answers at once.
        judge: optional LLM judge of free-text answers.
        processes: the processes that share the items.
        progress: called after each batch, and after each of the judge's replies, with the number done and the total,
            or None where that is not known.

    Returns:
        On process 0 the report without command and version; None on the others.

    Raises:
        DatasetError: the data cannot be read.
        CheckpointError: the model cannot be loaded.
        UnfinishedError: some items cannot be read or answered; all others are answered and kept.
        RunError: the folder holds answers of other settings, or other processes have left items without an answer.
        JudgeError: the judge does not answer.
        ValueError: an unknown benchmark, a judge for another task than questions, or descriptions without WordNet.
    """
    plan = _check_plan(benchmark, judge, limit)
    split = split or plan.default_split
    scorer = CaptionScorer() if plan.task in ("reg", "video_reg") and processes.index == 0 else None
    check_settings(folder / "settings.json", _settings(benchmark, data, split, model))
    load = cache(lambda: Tracker.from_pretrained(model, device=device, batch_size=batch_size))
    items, total = _items(plan, data, split, limit)
    keys = answer_items(
        items,
        lambda batch: plan.answer(load(), batch),
        folder,
        batch_size=batch_size,
        processes=processes,
        total=total,
        prepare=load,
        progress=progress,
    )
    processes.wait()
    if processes.index != 0:
        return None
    if not keys:
        raise ValueError(f"a benchmark must have items, got none for {split} in {data}; check the split")
    rows = collect_answers(folder, keys)
    if judge is not None:
        asked = [Exchange(row["truth"]["question"], row["truth"]["answer"], row["answer"]["text"]) for row in rows]
        verdicts = judge.judge(asked, folder / "judge.jsonl", progress)
        rows = [row | {"verdict": verdict} for row, verdict in zip(rows, verdicts, strict=True)]
    name = Path(model).resolve().name if os.path.exists(Path(model)) else str(model)
    models = {name: {"origin": str(model), **score_rows(plan, rows, scorer)}}
    return _report_head(plan, split, len(rows), limit, judge) | {"models": models}


def answer_items(
    items: Iterable[Item], answer: Callable[[list[Item]], list[Answer]], folder: Path, **options: Any
) -> list[str]:
    """Answer the items of this process that have no answer yet; each batch is on disk before the next.

    Args:
        items: all of the benchmark's.
        answer: from a batch of items to an answer for each, as JSON holds it.
        folder: where answers are kept.
        **options: of `run_items`.

    Returns:
        The keys of all items, also of those due to other processes.

    Raises:
        UnfinishedError: some items cannot be answered; all others are.
        RunError: two items with one key, or another number of answers than items.
    """
    index = options.get("processes", ALONE).index
    part = JsonLog(folder / "predictions" / f"part-{index}.jsonl")

    def keep(batch: list[Item]) -> None:
        answers = answer(batch)
        if len(answers) != len(batch):
            raise RunError(f"a batch must get an answer for each item, got {len(answers)} for {len(batch)}")
        rows = zip(batch, answers, strict=True)
        part.append([{"key": item.key, "truth": item.truth, "answer": given} for item, given in rows])

    keys, errors = run_items(
        items, keep, noun="item", key=lambda item: item.key, done=set(read_answers(folder)), **options
    )
    check_failures("item", errors)
    return keys


def read_answers(folder: Path) -> dict[str, Row]:
    """Return all lines by key, from all logs of a folder.

    Raises:
        RunError: a key stands in more than one line, or a log cannot be read.
    """
    rows: dict[str, Row] = {}
    for path in sorted((folder / "predictions").glob("part-*.jsonl")):
        for row in JsonLog(path).read():
            if row["key"] in rows:
                raise RunError(
                    f"an item must be answered once, got {row['key']} twice in {path.parent}; remove one of the "
                    "lines, and let no two runs work in one folder at the same time"
                )
            rows[row["key"]] = row
    return rows


def collect_answers(folder: Path, keys: Sequence[str]) -> list[Row]:
    """Return the lines of these items, in their order.

    Raises:
        RunError: some are not answered yet.
    """
    rows = read_answers(folder)
    missing = [key for key in keys if key not in rows]
    if missing:
        raise RunError(
            f"all {len(keys)} items must be answered to be scored, got {len(missing)} without an answer, first "
            f"{missing[0]}; the same command resumes the run"
        )
    return [rows[key] for key in keys]


def score_rows(plan: QuestionBenchmark, rows: Sequence[Row], scorer: CaptionScorer | None = None) -> Record:
    """Return a model's part of the report: `metrics`, the same for `groups` of rows, and for boxes a `histogram`.

    Args:
        plan: the benchmark.
        rows: of the answers' logs, with the judge's `verdict` where there is one.
        scorer: for descriptions.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        for name in _group_names(plan.task, row["truth"]):
            groups.setdefault(name, []).append(row)
    record: Record = {
        "metrics": _figures(plan.task, rows, scorer),
        "groups": {
            name: {"samples": len(part)} | _figures(plan.task, part, scorer) for name, part in sorted(groups.items())
        },
    }
    if plan.task == "rec":
        record["histogram"] = iou_histogram(paired_iou(*_boxes(rows)))
    return record


def _group_names(task: str, truth: Record) -> list[str]:
    """Return the names of the groups that an item belongs to."""
    if task == "video_qa":
        return [f"type {truth['type']}"]
    return [f"split {truth['split']}", *([f"size {box_size(truth['box_xyxy_px'])}"] if task == "rec" else [])]


def _figures(task: str, rows: Sequence[Row], scorer: CaptionScorer | None) -> dict[str, float]:
    """Return the figures of some rows."""
    truths, answers = [row["truth"] for row in rows], [row["answer"] for row in rows]
    if task == "rec":
        return grounding_figures(*_boxes(rows), [answer["reason"] for answer in answers])
    texts = [answer["text"] for answer in answers]
    if scorer is not None:
        return scorer.score(texts, [truth["sentences"] for truth in truths])
    figures = qa_figures(texts, [truth["answer"] for truth in truths])
    verdicts = [row["verdict"] for row in rows if "verdict" in row]
    return figures | (verdict_figures(verdicts) if verdicts else {})


def _boxes(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Return predicted boxes, NaN where there is none, and true boxes of rows, each of shape `(N, 4)`."""
    predicted = [row["answer"]["box_xyxy_px"] or [np.nan] * 4 for row in rows]
    return np.array(predicted, dtype=np.float64), np.array([row["truth"]["box_xyxy_px"] for row in rows])


def _check_plan(benchmark: str, judge: Judge | None, limit: int | None) -> QuestionBenchmark:
    """Return the benchmark of a name, after checking the arguments that depend on it."""
    if benchmark not in QUESTION_BENCHMARKS:
        known = ", ".join(QUESTION_BENCHMARKS)
        raise ValueError(f"the benchmark must be one of {known}, got {benchmark!r}; check its name")
    plan = QUESTION_BENCHMARKS[benchmark]
    if judge is not None and plan.task != "video_qa":
        raise ValueError(f"a judge must be used with video questions, got {benchmark}; leave the judge out")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be 1 or more, got {limit}; leave it out for all samples")
    return plan


def _items(
    plan: QuestionBenchmark, data: str | Path, split: str, limit: int | None
) -> tuple[Iterable[Item], int | None]:
    """Return the items and their number: None where they hold their images and are streamed."""
    items = plan.items(data, split, limit)
    if not os.path.exists(Path(data)) or is_parquet_source(data):
        return items, limit
    listed = list(items)
    return listed, len(listed)


def _settings(benchmark: str, data: str | Path, split: str, model: str) -> Record:
    """Return the settings that answers depend on; limit and batch size are not among them."""
    place = str(Path(data).resolve()) if os.path.exists(Path(data)) else str(data)
    settings = {"benchmark": benchmark, "data": place, "split": split, "model": str(model)}
    return settings | {"weights": weights_fingerprint(str(model))}


def _report_head(plan: QuestionBenchmark, split: str, samples: int, limit: int | None, judge: Judge | None) -> Record:
    """Return what a report says about the benchmark and the data."""
    rules = [*plan.protocol["rules"], plan.prompt]
    if judge is not None:
        rules.append(
            f"judged by {judge.model} at {judge.base_url} ({JUDGE_SOURCE}): yes or no and 0 to 5; a reply that cannot "
            "be read counts as no and 0"
        )
    facts: Record = {"samples": samples, "split": split}
    if limit is not None:
        facts["limit"] = limit
        rules.append(f"only the first {samples} samples: no figure of the whole split")
    return {
        "benchmark": plan.name,
        "title": plan.title,
        "task": plan.task,
        "protocol": {"name": plan.protocol["name"], "source": plan.protocol["source"], "rules": rules},
        "data": facts,
    }
