"""One object on its way through a video: a state machine without a model.

Frames are fed in, windows come out as requests, answers are accepted, and every frame is finished exactly once and in
order. Whoever holds the model turns a `WindowRequest` into readings (`elysium.tracking.answering`); a test scripts
them.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from elysium.processing.boxes_elysium import Box, BoxReading, norm_to_px, px_to_norm
from elysium.processing.overlap import paired_iou
from elysium.processing.pixel_boxes import check_box_xyxy_px
from elysium.processing.structures import Track

from .crop import Crop
from .options import TrackingOptions
from .windows import WindowPlan, plan_window

Reason = Literal["absent", "unreadable"]


def check_text(text: str, *, name: str = "text") -> str:
    """The text without blanks at its ends.

    Raises:
        ValueError: not a string, nothing but blanks, or bytes of a terminal or file name that are no UTF-8.

    >>> check_text(" the red car ")
    'the red car'
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f'{name} must be words, got {text!r}; say what to look for, such as "the red car"')
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{name} must be text in UTF-8, got {text!r}; type it in a terminal that uses UTF-8"
        ) from None
    return text.strip()


@dataclass(frozen=True)
class ObjectPrompt:
    """What an object is pointed at by: words, its box in the first frame, or both.

    With both, the box starts the track and the words find the object again after it was lost.

    Args:
        text: words such as "the red car".
        box_xyxy_px: box in the video's first frame, pixels.

    Raises:
        ValueError: neither words nor box, or empty words.
    """

    text: str | None = None
    box_xyxy_px: Box | None = None

    def __post_init__(self) -> None:
        if self.text is None and self.box_xyxy_px is None:
            raise ValueError('an object must have words or a box, got neither; give text="the red car" or box_xyxy_px')
        if self.text is not None:
            object.__setattr__(self, "text", check_text(self.text))


@dataclass(frozen=True, eq=False)
class WindowRequest:
    """One question for the model.

    Args:
        task: "sot" (the box of the first frame is given) or "rsot" (words are given).
        frames: T pictures, uint8 RGB of shape `(H, W, 3)`; with crops, of their shape.
        frame_indices: T indices in the video.
        text: the words, for "rsot".
        box_xyxy_norm: the box in the window's first picture as it is shown, 0..1, for "sot".
        plan: which frames of the stream are finished by the window.
        crops: the square of each frame that is shown, None where it is the whole frame; answers are in shares of them.
        look: which question about its frames it is; from the second on in squares around the boxes of the one before.
        absent_log_odds: bias of the answer `none` where a box is given; None takes the checkpoint's.
    """

    task: Literal["sot", "rsot"]
    frames: tuple[NDArray[np.uint8], ...]
    frame_indices: tuple[int, ...]
    text: str | None
    box_xyxy_norm: Box | None
    plan: WindowPlan
    crops: tuple[Crop | None, ...]
    look: int = 1
    absent_log_odds: float | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def in_picture(self, readings: Sequence[BoxReading]) -> list[BoxReading]:
        """Readings of the answer, with boxes in shares of whole frames."""
        pairs = zip(readings, self.crops, strict=True)
        return [reading if crop is None else crop.reading_in_picture(reading) for reading, crop in pairs]


@dataclass(frozen=True)
class FrameResult:
    """Where the object is in one finished frame: a box with its score, or a reason why there is none."""

    frame_idx: int
    timestamp_s: float
    box_xyxy_px: Box | None
    score: float
    reason: Reason | None

    @property
    def valid(self) -> bool:
        """Whether the frame has a box."""
        return self.box_xyxy_px is not None


@dataclass(frozen=True, eq=False)
class _Held:
    """A frame whose picture is still needed."""

    position: int
    image: NDArray[np.uint8]
    frame_idx: int
    timestamp_s: float


def judge(
    reading: BoxReading, width: int, height: int, *, allow_absent: bool = True
) -> tuple[Box | None, Reason | None]:
    """What a reading means in a picture: a box in pixels, or the reason why there is none.

    Args:
        reading: of the model's answer.
        width: of the picture in pixels.
        height: of the picture in pixels.
        allow_absent: whether the model may say that it sees nothing; where it may not, that is unreadable.
    """
    if reading.valid and reading.box_xyxy_norm is not None:
        return norm_to_px(reading.box_xyxy_norm, width, height), None
    return None, "absent" if reading.status == "absent" and allow_absent else "unreadable"


def _agree(
    look: Sequence[tuple[BoxReading, float]], other: Sequence[tuple[BoxReading, float]], min_iou: float
) -> bool:
    """Whether two answers overlap in every frame in which both have a box."""
    pairs = [(one.box_xyxy_norm, two.box_xyxy_norm) for (one, _), (two, _) in zip(look, other, strict=True)]
    boxes = np.array([pair for pair in pairs if None not in pair], dtype=np.float64).reshape(-1, 2, 4)
    return bool(np.all(paired_iou(boxes[:, 0], boxes[:, 1]) >= min_iou))


class TrackingSession:
    """Follows one object: `feed` frames, answer each `next_window` by `accept`, read the `track`.

    Only the frames of the next window, the last frame that has a box and, for second looks, the first frame are held;
    results are a few numbers a frame.

    Args:
        prompt: what the object is pointed at by.
        width: of the video in pixels.
        height: of the video in pixels.
        track_id: 1 or more.
        options: how to track; fields that are not set take their defaults.
        allow_absent: whether the model may answer `none`; where it may not, a `none` is an unreadable answer.

    Raises:
        ValueError: the box is not inside the picture, or ``reground`` without words.
    """

    def __init__(
        self,
        prompt: ObjectPrompt,
        *,
        width: int,
        height: int,
        track_id: int = 1,
        options: TrackingOptions | None = None,
        allow_absent: bool = True,
    ) -> None:
        self.options = (options or TrackingOptions()).resolve()
        if self.options.reground and prompt.text is None:
            raise ValueError("reground must have words to ask by, got a box alone; give text, or leave reground out")
        box = prompt.box_xyxy_px
        self.init_box_xyxy_px: Box | None = None if box is None else check_box_xyxy_px(box, width, height)
        self.text, self.track_id, self.allow_absent = prompt.text, track_id, allow_absent
        self.width, self.height = width, height
        self._room = {"margin": self.options.crop_margin, "min_side_px": self.options.min_crop_px}
        self._waiting: deque[_Held] = deque()
        self._fed = 0
        self._previous: _Held | None = None  # last finished frame, whether it has a box or not
        self._seen: tuple[_Held, Box] | None = None  # last finished frame that has a box, with the box (0..1)
        self._given: tuple[_Held, Box] | None = None  # the first frame with the user's box (0..1), for second looks
        self._request: WindowRequest | None = None
        # Between two looks at a window: the answer so far, boxes in shares of whole frames.
        self._last_look: list[tuple[BoxReading, float]] = []
        self._results: list[FrameResult] = []
        self.num_windows = 0  # answered so far

    @property
    def num_waiting(self) -> int:
        """Frames that were fed and are not finished."""
        return len(self._waiting)

    @property
    def num_finished(self) -> int:
        """Frames that have a result."""
        return len(self._results)

    def feed(self, image: NDArray[np.uint8], *, timestamp_s: float, frame_idx: int | None = None) -> None:
        """Takes the next frame of the stream.

        Args:
            image (`np.ndarray` of shape `(H, W, 3)`): uint8 RGB, of the session's width and height.
            timestamp_s: seconds from the start of the video.
            frame_idx: index in the video; by default frames are counted from 0.

        Raises:
            ValueError: a picture of another size.
        """
        if image.shape != (self.height, self.width, 3):
            raise ValueError(
                f"every frame must be {self.width}x{self.height} RGB like the first, got an array of shape "
                f"{image.shape} at frame {self._fed}; track the part before and the part after on their own"
            )
        held = _Held(self._fed, image, self._fed if frame_idx is None else frame_idx, timestamp_s)
        if self._fed == 0 and self.init_box_xyxy_px is not None and self.options.zoom:
            self._given = held, px_to_norm(self.init_box_xyxy_px, self.width, self.height)
        self._waiting.append(held)
        self._fed += 1

    def next_window(self, *, final: bool = False) -> WindowRequest | None:
        """The next question, or None while frames are missing; the same one until it is answered by `accept`.

        Args:
            final: the stream has ended, so that a window shorter than the others is asked.
        """
        if self._request is None:
            plan = plan_window(
                self.options,
                next_unseen=self.num_finished,
                num_waiting=self.num_waiting,
                final=final,
                last_seen=None if self._seen is None else self._seen[0].position,
                has_box=self.init_box_xyxy_px is not None,
                has_text=self.text is not None,
            )
            self._request = None if plan is None else self._build(plan)
        return self._request

    def expected_windows(self, following: Sequence[NDArray[np.uint8]]) -> list[tuple[NDArray[np.uint8], ...]]:
        """Pictures of the windows behind the one that is asked, should the object stay in sight until then.

        Args:
            following: pictures that will be fed next.

        Returns:
            Full windows only; none before there is a question, or where each window is looked at twice.
        """
        request = self._request
        if request is None or self.options.zoom:
            return []
        waiting = [held.image for held in self._waiting][request.plan.num_unseen :]
        pictures = [request.frames[-1], *waiting, *following]
        step = self.options.window_frames - 1
        return [tuple(pictures[start : start + step + 1]) for start in range(0, len(pictures) - step, step)]

    def accept(self, readings: Sequence[BoxReading], scores: Sequence[float]) -> list[FrameResult]:
        """Takes the answer to `next_window` and returns the frames that it finishes, in order.

        A look that is followed by another finishes none: `next_window` is then that one.
        The first frame of a window that was finished before keeps its box, and frame 1 keeps the user's exact box.

        Args:
            readings: one for each frame of the window, with boxes in shares of the pictures that were shown.
            scores: one for each frame, 0..1; read where the reading has a box.

        Raises:
            ValueError: another count of readings or scores than the window has frames.
            RuntimeError: no window was asked for.
        """
        request = self._request
        if request is None:
            raise RuntimeError("accept must follow next_window, got an answer without a question; call next_window")
        if not len(readings) == len(scores) == len(request):
            raise ValueError(
                f"a window of {len(request)} frames must get as many readings and scores, "
                f"got {len(readings)} and {len(scores)}; parse with num_frames={len(request)}"
            )
        options = self.options
        answers = list(zip(request.in_picture(readings), scores, strict=True))
        if request.look > 1:  # the box of the first frame was given
            answers = self._last_look[: 1 - len(answers)] + answers[1:]
        if request.look == 1 or (
            request.look < options.max_passes and not _agree(self._last_look, answers, options.agreement_iou)
        ):
            closer = self._closer_look(request, [reading for reading, _ in answers])
            if closer is not None:
                self._request, self._last_look = closer, answers
                return []
        finished: list[FrameResult] = []
        for reading, score in answers[len(answers) - request.plan.num_unseen :]:
            held = self._waiting[len(finished)]
            result, box_xyxy_norm = self._finish(held, reading, score)
            finished.append(result)
            if box_xyxy_norm is not None:
                self._seen = held, box_xyxy_norm
        self._results.extend(finished)  # before the frames go: an interrupt between must not look like the end
        for _ in finished:
            self._previous = self._waiting.popleft()
        self._request, self._last_look = None, []
        self.num_windows += 1
        return finished

    def track(self) -> Track:
        """The finished frames, at any time."""
        results = self._results
        missing = (math.nan,) * 4
        return Track(
            frame_indices=np.array([result.frame_idx for result in results], dtype=np.int64),
            timestamps_s=np.array([result.timestamp_s for result in results], dtype=np.float64),
            boxes_xyxy_px=np.array([result.box_xyxy_px or missing for result in results], dtype=np.float64),
            valid=np.array([result.valid for result in results], dtype=np.bool_),
            scores=np.array([result.score for result in results], dtype=np.float64),
            reasons=[result.reason for result in results],
            track_id=self.track_id,
            text=self.text,
            init_box_xyxy_px=self.init_box_xyxy_px,
            width=self.width,
            height=self.height,
        )

    def _build(self, plan: WindowPlan) -> WindowRequest:
        held = self._frames_of(plan)
        by_box = plan.ask == "box"
        box = self._known_box() if by_box else None
        crop = None
        if self.options.zoom and box is not None and plan.box_is_new:
            wide = self.options.first_pass_crop * self.options.zoom
            crop = Crop.around(box, wide, self.width, self.height, **self._room)
        return self._request_of(held, [crop] * len(held), plan, box)

    def _closer_look(self, request: WindowRequest, found: Sequence[BoxReading]) -> WindowRequest | None:
        """The same frames once more, in squares around the boxes that were said; None where there are none.

        It opens with the first frame that has a box. Where the user gave a box and the first look was asked by one, it
        opens with the video's first frame and the user's box instead: a box handed on may have become another thing's.
        A frame without a box is shown where the object was last.
        """
        boxes = [reading.box_xyxy_norm if reading.valid else None for reading in found]
        by_box = request.plan.ask == "box"
        if by_box:
            boxes[0] = self._known_box()
        start = next((place for place, box in enumerate(boxes) if box is not None), None)
        if not self.options.zoom or start is None or start == len(boxes) - 1:
            return None
        followed: list[Box] = []
        for box in boxes[start:]:
            followed.append(box if box is not None else followed[-1])
        frames = self._frames_of(request.plan)[start:]
        if by_box and self._given is not None:
            frames[0], followed[0] = self._given
        crops = Crop.following(followed, self.options.zoom, self.width, self.height, **self._room)
        if crops is None:
            return None
        return self._request_of(frames, crops, request.plan, followed[0], look=request.look + 1)

    def _request_of(
        self,
        held: Sequence[_Held],
        crops: Sequence[Crop | None],
        plan: WindowPlan,
        box: Box | None,
        *,
        look: int = 1,
    ) -> WindowRequest:
        """A question about frames as their squares show them; by words where there is no box."""
        pairs = zip((frame.image for frame in held), crops, strict=True)
        return WindowRequest(
            task="rsot" if box is None else "sot",
            frames=tuple(image if crop is None else crop.cut(image) for image, crop in pairs),
            frame_indices=tuple(frame.frame_idx for frame in held),
            text=self.text if box is None else None,
            box_xyxy_norm=box if crops[0] is None or box is None else crops[0].from_picture(box),
            plan=plan,
            crops=tuple(crops),
            look=look,
            absent_log_odds=self.options.absent_log_odds,
        )

    def _frames_of(self, plan: WindowPlan) -> list[_Held]:
        unseen = list(self._waiting)[: plan.num_unseen]
        return unseen if plan.handed_on is None else [self._held_at(plan.handed_on), *unseen]

    def _held_at(self, position: int) -> _Held:
        candidates = (self._previous, self._seen[0] if self._seen else None)
        return next(held for held in candidates if held is not None and held.position == position)

    def _known_box(self) -> Box:
        if self._seen is not None:
            return self._seen[1]
        assert self.init_box_xyxy_px is not None  # a plan asks by box only where there is one
        return px_to_norm(self.init_box_xyxy_px, self.width, self.height)

    def _finish(self, held: _Held, reading: BoxReading, score: float) -> tuple[FrameResult, Box | None]:
        """The result of one frame, and the box (0..1) to hand on."""
        given = self.init_box_xyxy_px
        if held.position == 0 and given is not None:
            return self._result(held, given, 1.0, None), px_to_norm(given, self.width, self.height)
        box, reason = judge(reading, self.width, self.height, allow_absent=self.allow_absent)
        if box is None:
            return self._result(held, None, math.nan, reason), None
        return self._result(held, box, score, None), reading.box_xyxy_norm

    @staticmethod
    def _result(held: _Held, box: Box | None, score: float, reason: Reason | None) -> FrameResult:
        return FrameResult(held.frame_idx, held.timestamp_s, box, score, reason)
