"""Benchmarks of boxes in pictures, of descriptions and of answers, from the data set's folder to the report's figures.

report = evaluate_questions("refcoco", data="refer/data", split="val", model="elysium-tiny", folder=Path("out"))
"""

import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from elysium.readers.refcoco_parquet import is_parquet_source
from elysium.tracking.tracker import Tracker

from .answers import AnswerFolder, Item, Progress, answer_items
from .captioning import CaptionScorer, score_captions
from .grounding import GroundingAnswers, score_grounding
from .json_log import Row
from .judge import SOURCE as JUDGE_SOURCE
from .judge import Exchange, Judge, JudgeSession, verdict_figures
from .peers import weights_fingerprint
from .qa import score_answers
from .question_tasks import QUESTION_BENCHMARKS, QuestionBenchmark

Record = dict[str, Any]
__all__ = ["QUESTION_BENCHMARKS", "evaluate_questions", "score_rows"]


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
    process_index: int = 0,
    num_processes: int = 1,
    wait: Callable[[], None] = lambda: None,
    progress: Progress | None = None,
) -> Record | None:
    """Asks a model everything that a benchmark asks, and scores its answers.

    Answers are kept in ``folder`` as they come: the same call goes on where a run was killed, and several processes
    share the items out. Figures come from the kept answers alone.

    Args:
        benchmark: one of `QUESTION_BENCHMARKS`.
        data: where the data set is, as its reader in `readers` takes it.
        split: of the data set, for RefCOCO several with commas; by default the benchmark's `default_split`.
        model: folder, shipped name or Hub id.
        folder: for this model's answers to this benchmark alone.
        device: as `Tracker.from_pretrained` takes it.
        limit: only the first so many samples.
        batch_size: most items that the model answers at once.
        wordnet_dir: WordNet's folder, for descriptions; None takes what nltk's downloader has installed.
        judge: who also judges answers to questions; None asks nobody.
        process_index: which of ``num_processes`` this is.
        wait: returns when all processes have come to it.
        progress: called after each batch, and after each of the judge's replies, with what is done and the total, or
            None where that is not known.

    Returns:
        On process 0 the report, but for the command and version; None on the others.

    Raises:
        DatasetError: the data cannot be read.
        CheckpointError: the model cannot be loaded.
        ResultError: the folder holds answers to something else.
        UnfinishedError: some items cannot be read or answered; all others are answered and kept.
        AnswersError: other processes have left items without an answer.
        DictionaryError: descriptions cannot be scored without a dictionary.
        JudgeError: the judge does not answer.
        ValueError: an unknown benchmark, or a judge for what is no question.
    """
    plan = _check_plan(benchmark, judge, limit)
    split = split or plan.default_split
    scorer = CaptionScorer(wordnet_dir) if plan.task in ("reg", "video_reg") and process_index == 0 else None
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
        process_index=process_index,
        num_processes=num_processes,
        total=total,
        prepare=load,
        progress=progress,
    )
    wait()
    if process_index != 0:
        return None
    if not keys:
        raise ValueError(f"there must be something to ask, got no items for {split} in {data}; check the split")
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
    """A model's part of the report from its rows of answers: `metrics`, `groups`, and for boxes a `histogram`.

    Args:
        plan: the benchmark.
        rows: of the answers' files.
        scorer: for descriptions.
        judge: for questions; None where nobody judges.
        progress: called after each of the judge's replies.
    """
    if plan.task == "rec":
        return score_grounding(_grounding_answers(rows))
    said = [row["answer"]["text"] for row in rows]
    if plan.task == "video_qa":
        figures = score_answers(said, [row["truth"]["answer"] for row in rows], [row["truth"]["type"] for row in rows])
        return figures if judge is None else _judged(figures, rows, judge, progress)
    if scorer is None:
        raise ValueError("descriptions must be scored with a CaptionScorer, got none; give scorer")
    splits = [row["truth"]["split"] for row in rows]
    return score_captions(scorer, said, [row["truth"]["sentences"] for row in rows], {"split": splits})


def _check_plan(benchmark: str, judge: Judge | None, limit: int | None) -> QuestionBenchmark:
    """The benchmark of that name, if it is one and the rest suits it."""
    if benchmark not in QUESTION_BENCHMARKS:
        known = ", ".join(QUESTION_BENCHMARKS)
        raise ValueError(f"the benchmark must be one of {known}, got {benchmark!r}; check its name")
    plan = QUESTION_BENCHMARKS[benchmark]
    if judge is not None and plan.task != "video_qa":
        raise ValueError(f"a judge must have answers to questions, got {benchmark}; leave the judge out")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be 1 or more, got {limit}; leave it out for all samples")
    return plan


def _items(
    plan: QuestionBenchmark, data: str | Path, split: str, limit: int | None
) -> tuple[Iterable[Item], int | None]:
    """The items and how many there are: not known (None) where they bring their pictures along and so come one by
    one."""
    items = plan.items(data, split, limit)
    if not os.path.exists(Path(data)) or is_parquet_source(data):
        return items, limit
    listed = list(items)
    return listed, len(listed)


def _settings(benchmark: str, data: str | Path, split: str, model: str) -> Record:
    """What answers depend on; how many there are and how they are batched is not part of it."""
    place = str(Path(data).resolve()) if os.path.exists(Path(data)) else str(data)
    settings = {"benchmark": benchmark, "data": place, "split": split, "model": str(model)}
    return settings | {"weights": weights_fingerprint(str(model))}


def _grounding_answers(rows: list[Row]) -> GroundingAnswers:
    """The rows as arrays."""
    predicted = [row["answer"]["box_xyxy_px"] or [np.nan] * 4 for row in rows]
    return GroundingAnswers(
        predicted_xyxy_px=np.array(predicted, dtype=np.float64),
        true_xyxy_px=np.array([row["truth"]["box_xyxy_px"] for row in rows], dtype=np.float64),
        reasons=[row["answer"]["reason"] for row in rows],
        splits=[row["truth"]["split"] for row in rows],
    )


def _judged(figures: Record, rows: list[Row], judge: JudgeSession, progress: Progress | None) -> Record:
    """The figures with those of the judge, also for each type of question."""
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
    """The report around one model's figures."""
    rules = [*plan.protocol["rules"], plan.asked]
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
        "task": plan.task,
        "protocol": {"name": plan.protocol["name"], "source": plan.protocol["source"], "rules": rules},
        "data": facts,
        "models": {name: entry},
    }
