"""What is true about the files that the pages' examples run on, and whether an answer of the model says it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from elysium.processing.overlap import paired_iou
from elysium.processing.structures import Grounding, TrackingResult
from elysium.readers.elysium_track import sequence_of_row
from elysium.tracking.run import TrackingRun
from elysium.tracking.tracker import Tracker

FIXTURES = Path(__file__).parent / "fixtures"
FITS_IOU = 0.5
# Words for what the files show, in descriptions that are right.
NAMES = {"cup.mp4": ("cup", "mug", "bottle"), "cockatoo.mp4": ("bird", "parrot", "cockatoo")}
# Right answers to the questions of the pages.
ANSWERS = {
    ("shapes.mp4", "Is the white square on the left or on the right?"): "left",
    ("000000.mp4", "Is there a green circle?"): "yes",
}


@dataclass(frozen=True)
class Call:
    """One answer of the model.

    Attributes:
        file: that it is about.
        prompt: text, question or box; None of a tracking result, which holds its own.
        answer: the answer.
    """

    file: Path
    prompt: Any
    answer: Any

    def check(self) -> None:
        """Fail where it is not true."""
        if isinstance(self.answer, TrackingResult):
            for track in self.answer.tracks:
                thing = prompted(self.file, track.text, track.init_box_xyxy_px)
                truth = thing.boxes_xyxy_px[track.frame_indices]
                seen = np.isfinite(truth[:, 0])
                iou = np.nan_to_num(paired_iou(track.boxes_xyxy_px[seen], truth[seen]))
                assert iou.mean() >= FITS_IOU, f"{self.file}: {track.label} is tracked with a mean IoU of {iou.mean()}"
        elif isinstance(self.answer, Grounding):
            assert self.answer.box_xyxy_px is not None, f"{self.file}: {self.prompt} is not found"
            truth = prompted(self.file, self.prompt).boxes_xyxy_px[:1]
            iou = paired_iou(np.array([self.answer.box_xyxy_px]), truth)[0]
            assert iou >= FITS_IOU, f"{self.file}: {self.prompt} is found with an IoU of {iou}"
        elif isinstance(self.prompt, str):
            assert self.answer == ANSWERS[self.file.name, self.prompt], f"{self.file}: {self.prompt} {self.answer}"
        else:
            names = prompted(self.file, None, self.prompt).names
            assert any(name in self.answer for name in names), f"{self.file}: {self.answer}, and not {names}"


@contextmanager
def answers_noted() -> Iterator[list[Call]]:
    """Note every answer about a file, by a command or by a call of Python."""
    calls: list[Call] = []

    def noting(method):
        def noted(self, items, **options):
            items = list(items)
            answers = method(self, items, **options)
            for (file, prompt), answer in zip(items, answers, strict=True):
                if isinstance(file, str | Path):
                    calls.append(Call(Path(file).resolve(), prompt, answer))
            return answers

        return noted

    def result(self, method=TrackingRun.result):
        tracked = method(self)
        if tracked.complete and Path(tracked.video).exists():  # not of frames in memory
            calls.append(Call(Path(tracked.video).resolve(), None, tracked))
        return tracked

    with pytest.MonkeyPatch.context() as patch:
        for name in ("ground_many", "describe_many", "ask_many"):
            patch.setattr(Tracker, name, noting(getattr(Tracker, name)))
        patch.setattr(TrackingRun, "result", result)
        yield calls


@dataclass(frozen=True)
class Thing:
    """One object that a file shows.

    Attributes:
        texts: prompts that fit it alone.
        names: words of which a right description has one.
        boxes_xyxy_px: `(T, 4)`, NaN where it is out of sight.
    """

    texts: tuple[str, ...]
    names: tuple[str, ...]
    boxes_xyxy_px: NDArray[np.float64]


def prompted(file: Path, text: str | None, box_xyxy_px: Any = None) -> Thing:
    """Return the object that a text prompt names, or else a box in frame 0."""
    if text is not None:
        found = [thing for thing in things(file) if text in thing.texts]
    else:
        first = np.array([box_xyxy_px], dtype=np.float64)
        found = [thing for thing in things(file) if paired_iou(first, thing.boxes_xyxy_px[:1])[0] >= FITS_IOU]
    assert len(found) == 1, (
        f"{text or box_xyxy_px} must name one of {[thing.texts for thing in things(file)]} in {file}"
    )
    return found[0]


@cache
def things(file: Path) -> list[Thing]:
    """Return the objects of a file whose boxes are known."""
    image = file.suffix == ".jpg"
    for rows in [FIXTURES / "media" / f"{file.stem}.rows.jsonl", *(folder / "rows.jsonl" for folder in file.parents)]:
        if rows.exists():  # of `elysium synth`
            clip, first = (file.parent.name, int(file.stem)) if image else (file.stem, 0)
            found = map(json.loads, rows.read_text("utf-8").splitlines())
            return [thing_of_row(row, first) for row in found if row["vid"] == clip]
    names = NAMES.get(file.name, ())
    for entry in json.loads((FIXTURES / "real_clips" / "index.json").read_text("utf-8"))["clips"]:
        if Path(entry["video"]).name == file.name:
            boxes = json.loads((FIXTURES / "real_clips" / entry["boxes"]).read_text("utf-8"))
            boxes = np.array([[np.nan] * 4 if box is None else box for box in boxes], dtype=np.float64)
            return [Thing((*entry["phrasings"], *(f"the {name}" for name in names)), names, boxes)]
    stills = json.loads((FIXTURES / "real_stills" / "index.json").read_text("utf-8"))
    return [
        Thing((still["phrase"],), (still["word"],), np.array([still["box_xyxy_px"]], dtype=np.float64))
        for still in stills
        if still["file"] == file.name
    ]


def thing_of_row(row: dict[str, Any], first: int = 0) -> Thing:
    """Return the object of a row of `elysium synth`, from a frame on."""
    corners = sequence_of_row(row, Path()).boxes_xywh_px[first:]
    boxes = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], axis=1)
    return Thing(tuple(row["metadata"]["expressions"]), (row["metadata"]["name"],), boxes)
