"""Base of the pipeline's steps: checked settings, the error, and the one adapter to datatrove."""

import importlib
import math
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import field, fields
from functools import partial
from typing import Any

from datatrove.pipeline.base import PipelineStep

from elysium.processing.data_files import DatasetError

from .video_records import Candidate, Drop, VideoRecord

Rule = Callable[[Candidate, VideoRecord], Candidate | Drop]


class CurationError(DatasetError):
    """Raised when curation cannot run as requested; the message says why and what to do."""


def number(default: float | None, low: float, high: float = math.inf) -> Any:
    """Return a field of `StepSettings` with a range; whole if its default is, and optional if that is None."""
    return field(default=default, metadata={"range": (low, high)})


class StepSettings:
    """Base of the dataclasses that hold the settings of one step.

    Raises:
        CurationError: a `number` is out of its range.
    """

    def __post_init__(self) -> None:
        for one in fields(self):  # type: ignore[arg-type]
            value = getattr(self, one.name)
            if "range" in one.metadata and (value is not None or one.default is not None):
                _check(one.name, value, *one.metadata["range"], whole=isinstance(one.default, int))


def _check(name: str, value: Any, low: float, high: float, *, whole: bool) -> None:
    kind = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        bounds = f"{low:g} or more" if math.isinf(high) else f"in {low:g}..{high:g}"
        raise CurationError(f"{name} must be a {'whole ' if whole else ''}number {bounds}, got {value!r}")


class Step(PipelineStep):
    """Run a function over the videos of a task; count videos, phrases and drops in datatrove's statistics.

    Args:
        name: Name of the step in logs, reports and exclusions.
        process: Function from a batch of videos to the changed videos, in the same order.
        batches: Function that groups the videos of a task; by default each is a batch of its own.
    """

    type = "Curation"

    def __init__(
        self,
        name: str,
        process: Callable[[list[VideoRecord]], Iterable[VideoRecord]],
        batches: Callable[[Iterable[VideoRecord]], Iterator[list[VideoRecord]]] | None = None,
    ) -> None:
        self.name = name
        super().__init__()
        self._process, self._batches = process, batches or one_by_one

    @classmethod
    def of_rule(cls, name: str, rule: Rule) -> "Step":
        """Return a step that applies a rule to each candidate: keep it (with measures) or drop it with a reason."""
        return cls(name, partial(_apply, name, rule))

    def run(self, data: Iterable[VideoRecord] | None, rank: int = 0, world_size: int = 1) -> Iterator[VideoRecord]:
        """Yield every video in order, after this step."""
        for records in self._batches(data or ()):
            with self.track_time():
                changed = list(self._process(records))
            for before, after in zip(records, changed, strict=True):
                self.stat_update("videos")
                self.stat_update("phrases", value=len(after.candidates))
                for drop in after.drops[len(before.drops) :]:
                    self.stat_update(f"dropped_{drop.reason}")
                yield after


def _apply(name: str, rule: Rule, records: list[VideoRecord]) -> list[VideoRecord]:
    return [record.judge(name, rule) for record in records]


def one_by_one(records: Iterable[VideoRecord]) -> Iterator[list[VideoRecord]]:
    """Yield each video as a batch of its own."""
    return ([record] for record in records)


def is_function_name(name: object) -> bool:
    """Return whether a detector or tracker is given as ``package.module:function``.

    >>> is_function_name("mine.detectors:make"), is_function_name("IDEA-Research/grounding-dino-base")
    (True, False)
    """
    module, colon, function = str(name).partition(":")
    return bool(colon) and all(part.isidentifier() for part in [*module.split("."), function])


def made_by_function(name: str) -> Any:
    """Return what ``package.module:function`` returns.

    Raises:
        CurationError: no such module or function.
    """
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)()
    except (ImportError, AttributeError) as error:
        raise CurationError(
            f"a detector or tracker of your own must be package.module:function, got {name} ({error}); check the "
            "name, and that Python finds the package"
        ) from error


def check_model(name: str, known: Container[str], refused: Callable[[str, str], CurationError]) -> None:
    """Check the model type of a checkpoint, without loading its weights.

    Args:
        name: Hub id or folder.
        known: Model types that can be used.
        refused: Function from the name and a reason to the error.

    Raises:
        CurationError: no such checkpoint, or one of another type.
    """
    from transformers import AutoConfig

    try:
        kind = str(AutoConfig.from_pretrained(name).model_type)
    except (OSError, ValueError) as error:
        raise refused(name, str(error).splitlines()[0]) from error
    if kind not in known:
        raise refused(name, f"its kind is {kind}")
