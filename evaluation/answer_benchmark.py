"""Evaluate a model on a question benchmark, from the dataset's folder to the report's figures.

report = evaluate_questions("refcoco", data="refer/data", split="val", model="elysium-tiny", folder=Path("out"))
"""

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from elysium.readers.refcoco_parquet import is_parquet_source
from elysium.tracking.tracker import Tracker

from .answers import AnswerFolder, Item, answer_items
from .captioning import CaptionScorer, score_captions
from .evaluated_trackers import weights_fingerprint
from .grounding import GroundingAnswers, score_grounding
from .json_log import Row
from .judge import SOURCE as JUDGE_SOURCE
from .judge import Exchange, Judge, JudgeSession, verdict_figures
from .qa import score_answers
from .question_benchmarks import QUESTION_BENCHMARKS, QuestionBenchmark
from .resumable import ALONE, Processes, Progress

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
    wordnet_dir: str | Path | None = None,
    judge: Judge | None = None,
    processes: Processes = ALONE,
    progress: Progress | None = None,
) -> Record | None:
    """Ask a model all questions of a benchmark, and score its answers.

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
        wordnet_dir: WordNet's folder, for descriptions; None takes what nltk's downloader has installed.
        judge: optional LLM judge of free-text answers.
        processes: the processes that share the items.
        progress: called after each batch, and after each of the judge's replies, with the number done and the total,
            or None where that is not known.

    Returns:
        On process 0 the report without command and version; None on the others.

    Raises:
        DatasetError: the data cannot be read.
        CheckpointError: the model cannot be loaded.
        SettingsError: the folder holds answers of other settings.
        UnfinishedError: some items cannot be read or answered; all others are answered and kept.
        RunError: other processes have left items without an answer.
        DictionaryError: descriptions cannot be scored without a dictionary.
        JudgeError: the judge does not answer.
        ValueError: an unknown benchmark, or a judge for another task than questions.
    """
    plan = _check_plan(benchmark, judge, limit)
    split = split or plan.default_split
    scorer = CaptionScorer(wordnet_dir) if plan.task in ("reg", "video_reg") and processes.index == 0 else None
    answers = AnswerFolder(folder, _settings(benchmark, data, split, model))
    load = cache(lambda: Tracker.from_pretrained(model, device=device, batch_size=batch_size))

    def answer(batch: list[Item]) -> list[dict[str, Any]]:
        return plan.answer(load(), batch)

    items, total = _items(plan, data, split, limit)
    keys = answer_items(
        items,
        answer,
        answers,
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
    rows = answers.collect(keys)
    verdicts = JudgeSession(judge, folder / "judge.jsonl") if judge is not None else None
    figures = score_rows(plan, rows, scorer=scorer, judge=verdicts, progress=progress)
    entry = {"origin": str(model), **figures}
    return _report(plan, entry, model=str(model), split=split, samples=len(rows), limit=limit, judge=judge)


def score_rows(
    plan: QuestionBenchmark,
    rows: list[Row],
    *,
    scorer: CaptionScorer | None = None,
    judge: JudgeSession | None = None,
    progress: Progress | None = None,
) -> Record:
    """Return a model's part of the report from its rows of answers: `metrics`, `groups`, and for boxes a `histogram`.

    Args:
        plan: the benchmark.
        rows: of the answers' logs.
        scorer: for descriptions.
        judge: optional, for questions.
        progress: called after each of the judge's replies.
    """
    if plan.task == "rec":
        return score_grounding(_grounding_answers(rows))
    predicted = [row["answer"]["text"] for row in rows]
    if plan.task == "video_qa":
        figures = score_answers(
            predicted, [row["truth"]["answer"] for row in rows], [row["truth"]["type"] for row in rows]
        )
        return figures if judge is None else _judged(figures, rows, judge, progress)
    if scorer is None:
        raise ValueError("descriptions must be scored with a CaptionScorer, got none; give scorer")
    splits = [row["truth"]["split"] for row in rows]
    return score_captions(scorer, predicted, [row["truth"]["sentences"] for row in rows], {"split": splits})


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


def _grounding_answers(rows: list[Row]) -> GroundingAnswers:
    """Return the rows as arrays."""
    predicted = [row["answer"]["box_xyxy_px"] or [np.nan] * 4 for row in rows]
    return GroundingAnswers(
        predicted_xyxy_px=np.array(predicted, dtype=np.float64),
        true_xyxy_px=np.array([row["truth"]["box_xyxy_px"] for row in rows], dtype=np.float64),
        reasons=[row["answer"]["reason"] for row in rows],
        splits=[row["truth"]["split"] for row in rows],
    )


def _judged(figures: Record, rows: list[Row], judge: JudgeSession, progress: Progress | None) -> Record:
    """Return the figures with those of the judge, also for each type of question."""
    exchanges = [Exchange(row["truth"]["question"], row["truth"]["answer"], row["answer"]["text"]) for row in rows]
    verdicts = judge.judge(exchanges, progress)
    groups = {}
    for name, part in figures["groups"].items():
        own = [each for each, row in zip(verdicts, rows, strict=True) if f"type {row['truth']['type']}" == name]
        groups[name] = part | verdict_figures(own)
    return figures | {"metrics": figures["metrics"] | verdict_figures(verdicts), "groups": groups}


def _report(
    plan: QuestionBenchmark,
    entry: Record,
    *,
    model: str,
    split: str,
    samples: int,
    limit: int | None,
    judge: Judge | None,
) -> Record:
    """Return the report around one model's figures."""
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
    name = Path(model).resolve().name if os.path.exists(Path(model)) else model
    return {
        "benchmark": plan.name,
        "title": plan.title,
        "task": plan.task,
        "protocol": {"name": plan.protocol["name"], "source": plan.protocol["source"], "rules": rules},
        "data": facts,
        "models": {name: entry},
    }
