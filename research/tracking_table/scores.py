"""What `tracking_table` measures on clips: tracks of the model and of its peers, and the model's words.

Every track is scored alike: frame 1 is not counted, nor are frames in which the object is out of sight; a frame
without a box has IoU 0.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from elysium.evaluation.grounding import grounding_figures
from elysium.evaluation.ope import OVERLAP_THRESHOLDS
from elysium.evaluation.opencv_trackers import opencv_boxes
from elysium.evaluation.qa import normalised_answer, qa_figures
from elysium.processing.atomic_files import atomic_path
from elysium.processing.overlap import paired_iou
from elysium.tracking.options import TrackingOptions
from research.bootstrap import bootstrap_interval
from research.tracking_table.clips import Clip

if TYPE_CHECKING:
    from elysium.evaluation.captioning import CaptionScorer
    from elysium.tracking.tracker import PromptLike, Tracker

FIRST_BOX = "first box"
PEERS = {"csrt": "CSRT", "kcf": "KCF", "mil": "MIL", "medianflow": "MedianFlow"}
SOT, SOT_ZOOM, RSOT, RSOT_ZOOM = "ours, box", "ours, box, zoom 2", "ours, words", "ours, words, zoom 2"
BY_WORDS = (RSOT, RSOT_ZOOM)
ZOOM = 2.0
Figures = dict[str, Any]


@dataclass(frozen=True, eq=False)
class FollowedClip:
    """A track of one clip.

    Args:
        boxes_xyxy_px (`np.ndarray` of shape `(T, 4)`): NaN where there is none.
        reasons: for each frame None, "absent" or "unreadable"; None for trackers that give none.
    """

    boxes_xyxy_px: NDArray[np.float64]
    reasons: Sequence[str | None] | None = None


@dataclass(frozen=True)
class ClipScore:
    """What a track reached in one clip.

    Args:
        mean_iou, auc: over the counted frames; AUC is the mean over 21 thresholds of the share of frames above it.
        hidden, hidden_found: counted frames without the object, and those of them marked absent.
        seen, seen_missed: the other frames, and those of them marked absent.
    """

    mean_iou: float
    auc: float
    hidden: int
    hidden_found: int
    seen: int
    seen_missed: int


def score_track(clip: Clip, followed: FollowedClip) -> ClipScore:
    """Scores one track."""
    visible = clip.visible[1:]
    ious = paired_iou(followed.boxes_xyxy_px, clip.boxes_xyxy_px)[1:][visible]
    reasons = followed.reasons or [None] * len(clip.video)
    absent = np.array([reason == "absent" for reason in reasons[1:]], dtype=bool)
    return ClipScore(
        mean_iou=float(ious.mean()),
        auc=float((ious[:, None] > OVERLAP_THRESHOLDS).mean()),
        hidden=int((~visible).sum()),
        hidden_found=int((absent & ~visible).sum()),
        seen=int(visible.sum()),
        seen_missed=int((absent & visible).sum()),
    )


def summarise(scores: Sequence[ClipScore], *, marks_absent: bool) -> Figures:
    """Means over clips with their interval; shares of frames that were rightly and wrongly marked absent.

    Returns:
        Shares are None where there are no such frames; they are left out for trackers that do not mark frames absent.
    """
    ious = [score.mean_iou for score in scores]
    figures: Figures = {
        "clips": len(scores),
        "mean_iou": round(float(np.mean(ious)), 4),
        "interval_95": bootstrap_interval(ious) if len(ious) > 1 else None,
        "auc": round(float(np.mean([score.auc for score in scores])), 4),
    }
    if marks_absent:
        hidden, seen = sum(score.hidden for score in scores), sum(score.seen for score in scores)
        found, missed = sum(score.hidden_found for score in scores), sum(score.seen_missed for score in scores)
        figures["absent_found"] = round(found / hidden, 4) if hidden else None
        figures["falsely_absent"] = round(missed / seen, 4) if seen else None
    return figures


class PeerTracks:
    """Tracks of OpenCV's trackers, kept in a file, since they are the same for every checkpoint.

    Args:
        path: of the file, read where it exists; None keeps nothing.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._rows: dict[str, list[list[float] | None] | None] = {}
        if path is not None and path.is_file():
            self._rows = json.loads(path.read_text("utf-8"))

    def follow(self, tracker: str, clip: Clip) -> FollowedClip | None:
        """The track; None where OpenCV refuses to start, as MIL does on a box as high as the picture.

        Args:
            tracker: a key of `PEERS`.
            clip: followed at its own size.
        """
        pixels = hashlib.sha256(clip.video.frames.tobytes() + clip.boxes_xyxy_px[0].tobytes()).hexdigest()
        key = f"{tracker} {cv2.__version__} {pixels[:24]}"
        if key not in self._rows:
            self._rows[key] = self._track(tracker, clip)
        rows = self._rows[key]
        if rows is None:
            return None
        return FollowedClip(np.array([row or [np.nan] * 4 for row in rows], dtype=np.float64))

    def _track(self, tracker: str, clip: Clip) -> list[list[float] | None] | None:
        try:
            boxes = opencv_boxes(tracker, clip.video.frames, clip.first_box_xyxy_px)
        except cv2.error:
            return None
        return [np.round(box, 2).tolist() if np.isfinite(box).all() else None for box in boxes]

    def save(self) -> None:
        """Writes the file, where there is to be one."""
        if self._path is not None:
            with atomic_path(self._path) as unfinished:
                unfinished.write_text(json.dumps(self._rows) + "\n", encoding="utf-8")


def follow_ours(tracker: "Tracker", clips: Sequence[Clip], way: str, options: TrackingOptions) -> list[FollowedClip]:
    """The model's tracks.

    Args:
        way: `SOT`, `SOT_ZOOM`, or one of `BY_WORDS`, for which every clip must have words.
        options: how to track; `reground` holds for tracks from text alone.
    """
    by_words, zoom = way in BY_WORDS, ZOOM if way in (SOT_ZOOM, RSOT_ZOOM) else 0
    prompts: list[PromptLike] = [str(clip.words) if by_words else clip.first_box_xyxy_px for clip in clips]
    pairs = zip((clip.video for clip in clips), prompts, strict=True)
    results = tracker.track_many(pairs, zoom=zoom, reground=None if by_words else False, options=options)
    tracks = [result.tracks[0] for result in results]
    return [FollowedClip(track.boxes_xyxy_px, track.reasons) for track in tracks]


def follow_peer(peers: PeerTracks, name: str, clip: Clip) -> FollowedClip | None:
    """The track of one of `PEERS`, or the first box repeated."""
    if name == FIRST_BOX:
        return FollowedClip(np.tile(clip.boxes_xyxy_px[:1], (len(clip.video), 1)))
    return peers.follow(next(key for key, title in PEERS.items() if title == name), clip)


def word_figures(tracker: "Tracker", clips: Sequence[Clip], scorer: "CaptionScorer | None") -> Figures:
    """Grounding in frame 1, descriptions of a picture and of a video, and answers, in percent.

    Args:
        clips: with words and a target.
        scorer: for METEOR; None leaves it out.
    """
    groundings = tracker.ground_many((clip.video.frames[0], str(clip.words)) for clip in clips)
    boxes = np.array([found.box_xyxy_px or [np.nan] * 4 for found in groundings], dtype=np.float64)
    true = np.array([clip.boxes_xyxy_px[0] for clip in clips])
    rec = grounding_figures(boxes, true, [found.reason for found in groundings])
    pictures = tracker.describe_many((clip.video.frames[0], clip.first_box_xyxy_px) for clip in clips)
    videos = tracker.describe_many((clip.video, clip.first_box_xyxy_px) for clip in clips)
    figures: Figures = {
        "clips": len(clips),
        "names": len({clip.target for clip in clips}),
        "rec_at_0.5": round(rec["accuracy_at_0.5"], 2),
        "rec_mean_iou": round(rec["mean_iou"], 2),
    }
    targets = [str(clip.target) for clip in clips]
    for task, said in (("reg", pictures), ("video_reg", videos)):
        right = [normalised_answer(told) == normalised_answer(true) for told, true in zip(said, targets, strict=True)]
        figures[f"{task}_exact"] = round(100 * float(np.mean(right)), 2)
        if scorer is not None:
            meteor = scorer.meteor(said, [[target] for target in targets])
            figures[f"{task}_meteor"] = round(100 * float(np.mean(meteor)), 2)
    return figures | question_figures(tracker, clips)


def question_figures(tracker: "Tracker", clips: Sequence[Clip]) -> Figures:
    """Shares of right answers to the questions of clips in percent, and by a question's first word.

    Beside each stands what saying the most frequent answer to such questions would get. None without questions.
    """
    asked = [(clip.video, *pair) for clip in clips for pair in clip.questions]
    if not asked:
        return {"questions": 0, "qa": None}
    said = tracker.ask_many((video, question) for video, question, _ in asked)
    answers = [answer for *_, answer in asked]
    kinds = [question.split()[0].lower() for _, question, _ in asked]
    usual = {kind: Counter(a for a, k in zip(answers, kinds, strict=True) if k == kind) for kind in set(kinds)}
    usually = [usual[kind].most_common(1)[0][0] for kind in kinds]
    figures: Figures = {"questions": len(asked)}
    for part in ("", *sorted(usual)):
        rows = [row for row, kind in enumerate(kinds) if part in ("", kind)]
        for name, told in (("qa", said), ("qa_usual", usually)):
            right = qa_figures([told[row] for row in rows], [answers[row] for row in rows])["normalised_match"]
            figures[f"{name}_{part}".rstrip("_")] = round(right, 2)
    return figures
