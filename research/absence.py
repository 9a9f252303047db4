"""Report how well a checkpoint tells whether what words name is in sight: the ROC over the bias of the answer `none`.

    python -m research.absence --split selection --out runs/absence.json

Single frames of the real clips are asked for the clip's own phrasings, in frames that show the object and in frames
that do not, and for things that none of the clips shows (`NOT_SHOWN`). The log odds of `none` come from the answer's
first decision without a bias; `text_absent_log_odds` moves them all, so that each value is a point of the curve.

"Found" is the share of questions about what is in sight that get a box; "absent found" the share of the others that
get none. "Right" counts a box only where its IoU with the true one is 0.5 or more. The last line is JSON.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import hardware, markdown_table, write_record
from elysium.processing.boxes_elysium import ParsedBox, norm_to_px
from elysium.processing.overlap import paired_iou
from elysium.tracking.answering import Answer, Answerer
from elysium.tracking.checkpoints import DEFAULT_MODEL
from elysium.tracking.loading import load_checkpoint
from elysium.tracking.options import TrackingOptions
from elysium.tracking.session import ObjectPrompt, TrackingSession
from research.real_clips import chosen_entries
from research.tracking_table.clips import Clip, read_real_clip

NOT_SHOWN = (
    "the giraffe", "the airplane", "the pizza", "the elephant", "the boat", "the umbrella", "the clock", "the banana",
    "the train", "the guitar", "the piano", "the cow",
)  # fmt: skip
BIASES = tuple(range(-8, 9))
HIT_IOU = 0.5


@dataclass(frozen=True)
class Asked:
    """One question about a frame.

    Args:
        clip: name of the clip.
        text: what is asked for.
        in_sight: whether the frame shows it.
        log_odds: of `none` against a box.
        iou: of the box that the model would give with the true one; 0 where there is none.
    """

    clip: str
    text: str
    in_sight: bool
    log_odds: float
    iou: float


def none_log_odds(answer: Answer) -> float:
    """Return the log odds of `none` at the first decision of an answer; tokens that the grammar forces are certain."""
    total = 0.0
    for (start, stop), log_prob in zip(answer.token_spans, answer.token_log_probs.tolist(), strict=True):
        piece = answer.text[start:stop]
        total += log_prob
        if "[" in piece or "none" in piece:
            odds = total - float(np.log(max(-np.expm1(min(total, -1e-12)), 1e-12)))
            return odds if "none" in piece else -odds
    raise ValueError(f"an answer must hold a box or none, got {answer.text!r}")


def ask_frame(answerer: Answerer, clip: Clip, frame: int, text: str, bias: float) -> tuple[Answer, ParsedBox]:
    """Return the answer to a text prompt on one frame, and its parsed box."""
    options = TrackingOptions(text_frames=1, text_absent_log_odds=bias)
    session = TrackingSession(ObjectPrompt(text), width=clip.video.width, height=clip.video.height, options=options)
    session.feed(clip.video.frames[frame], timestamp_s=0.0)
    request = session.next_window(final=True)
    assert request is not None
    answer, parsed, _ = answerer.answer_windows([request])[0]
    return answer, parsed[0]


def ask_clip(answerer: Answerer, clip: Clip, texts: Sequence[str], num_frames: int) -> list[Asked]:
    """Return the questions about one clip, in frames evenly apart."""
    visible = clip.visible
    shown, hidden = (np.flatnonzero(which) for which in (visible, ~visible))
    questions = [(int(t), text, True) for t in _spread(shown, num_frames) for text in texts]
    questions += [(int(t), text, False) for t in _spread(hidden, num_frames) for text in texts]
    frames = _spread(shown, num_frames)
    questions += [(int(frames[n % len(frames)]), text, False) for n, text in enumerate(NOT_SHOWN)]
    asked = []
    for t, text, in_sight in questions:
        answer, parsed = ask_frame(answerer, clip, t, text, 0.0)
        log_odds, iou = none_log_odds(answer), 0.0
        if in_sight:
            if not parsed.valid:
                parsed = ask_frame(answerer, clip, t, text, -50.0)[1]
            box = norm_to_px(parsed.box_xyxy_norm, clip.video.width, clip.video.height)
            iou = float(paired_iou(np.array([box], dtype=np.float64), clip.boxes_xyxy_px[t : t + 1])[0])
        asked.append(Asked(clip.name, text, in_sight, log_odds, iou))
    return asked


def _spread(places: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    return places[np.unique(np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int))]


def area_under_roc(absent: Sequence[float], present: Sequence[float]) -> float:
    """Return the probability that a question about nothing in sight has higher log odds than one about something.

    >>> area_under_roc([2.0, 0.0], [-1.0, 0.0])
    0.875
    """
    higher = np.subtract.outer(np.array(absent), np.array(present))
    return float((higher > 0).mean() + 0.5 * (higher == 0).mean())


def curve(asked: Sequence[Asked]) -> list[dict[str, float]]:
    """Return a point of the curve for each bias."""
    present, absent = ([each for each in asked if each.in_sight is sight] for sight in (True, False))
    return [
        {
            "bias": bias,
            "found": _share([each.log_odds + bias <= 0 for each in present]),
            "right": _share([each.log_odds + bias <= 0 and each.iou >= HIT_IOU for each in present]),
            "absent_found": _share([each.log_odds + bias > 0 for each in absent]),
        }
        for bias in BIASES
    ]


def _share(values: Sequence[bool]) -> float:
    return round(float(np.mean(values)), 4)


def main(argv: Sequence[str] | None = None) -> None:
    """Ask, print the curve and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="checkpoint folder, shipped name or Hub id")
    parser.add_argument("--split", choices=("selection", "headline"), default="selection", help="of the clips")
    parser.add_argument("--frames", type=int, default=6, help="frames of a clip, of each kind (default: 6)")
    parser.add_argument("--out", type=Path, help="JSON to write")
    arguments = parser.parse_args(argv)
    answerer = Answerer(*load_checkpoint(arguments.model, device="cpu"))
    asked: list[Asked] = []
    for entry in chosen_entries(arguments.split, None):
        asked += ask_clip(answerer, read_real_clip(entry), entry["phrasings"], arguments.frames)
    by_clip = {name: [each for each in asked if each.clip == name] for name in dict.fromkeys(a.clip for a in asked)}
    area = {
        name: round(area_under_roc(*([a.log_odds for a in part if a.in_sight is sight] for sight in (False, True))), 4)
        for name, part in {"all": asked, **by_clip}.items()
    }
    points = curve(asked)
    print(markdown_table(["clip", "area under the ROC"], [[name, f"{value:.3f}"] for name, value in area.items()]))
    rows = [[f"{point['bias']}", *(f"{point[k]:.3f}" for k in ("found", "right", "absent_found"))] for point in points]
    print(markdown_table(["bias", "found", "right", "absent found"], rows))
    record = {"model": arguments.model, "split": arguments.split, "hardware": hardware(), "questions": len(asked)}
    write_record(record | {"area_under_roc": area, "curve": points}, arguments.out)


if __name__ == "__main__":
    main()
