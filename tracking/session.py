"""Tracking of one object through a video: a state machine without a model.

Frames are fed in, windows come out as requests, answers are accepted, and every frame is finished exactly once and in
order. Whoever holds the model turns a `WindowRequest` into parsed boxes (`elysium.tracking.answering`); a test scripts
them. The passes over a window are planned in `elysium.tracking.refinement`.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from elysium.processing.boxes_elysium import Box, BoxReading, norm_to_px, px_to_norm
from elysium.processing.pixel_boxes import check_box_xyxy_px
from elysium.processing.structures import Track

from .crop import Crop
from .options import TrackingOptions
from .refinement import first_pass_crop, needs_refinement, plan_refinement
from .windows import WindowPlan, plan_window

Reason = Literal["absent", "unreadable"]


def check_text(text: str, *, name: str = "text") -> str:
    """Return the text without blanks at its ends.

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
    """Prompt of an object: a text, its box in the first frame, or both.

    With both, the box starts the track and the text detects the object again after it was lost.

    Args:
        text: text prompt such as "the red car".
        box_xyxy_px: box in the video's first frame, in pixels.

    Raises:
        ValueError: neither text nor box, or an empty text.
    """

    text: str | None = None
    box_xyxy_px: Box | None = None

    def __post_init__(self) -> None:
        if self.text is None and self.box_xyxy_px is None:
            raise ValueError(
                'an object must have a text prompt or a box, got neither; give text="the red car" or box_xyxy_px'
            )
        if self.text is not None:
            object.__setattr__(self, "text", check_text(self.text))


@dataclass(frozen=True, eq=False)
class WindowRequest:
    """Hold one request to the model.

    Args:
        task: "sot" (the box of the first frame is given) or "rsot" (a text prompt is given).
        frames: T images, uint8 RGB of shape `(H, W, 3)`; with crops, of their shape.
        frame_indices: T indices in the video.
        text: text prompt, for "rsot".
        box_xyxy_norm: box in the window's first image as it is shown, 0..1, for "sot".
        plan: which frames of the stream are finished by the window.
        crops: crop of each frame that is shown, None where it is the whole frame; answers are in shares of them.
        pass_number: number of the pass over its frames; from 2 on it is a refinement on crops.
        absent_log_odds: bias of the answer `none` where a box is given; None takes the checkpoint's.
    """

    task: Literal["sot", "rsot"]
    frames: tuple[NDArray[np.uint8], ...]
    frame_indices: tuple[int, ...]
    text: str | None
    box_xyxy_norm: Box | None
    plan: WindowPlan
    crops: tuple[Crop | None, ...]
    pass_number: int = 1
    absent_log_odds: float | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def in_image(self, parsed: Sequence[BoxReading]) -> list[BoxReading]:
        """Return parsed boxes in shares of whole frames."""
        pairs = zip(parsed, self.crops, strict=True)
        return [box if crop is None else crop.parsed_in_image(box) for box, crop in pairs]


@dataclass(frozen=True)
class FrameResult:
    """Hold the result of one frame: a box with its score, or a reason why there is none."""

    frame_idx: int
    timestamp_s: float
    box_xyxy_px: Box | None
    score: float
    reason: Reason | None

    @property
    def valid(self) -> bool:
        """Return whether the frame has a box."""
        return self.box_xyxy_px is not None


@dataclass(frozen=True, eq=False)
class _Held:
    """Hold a frame whose image is still needed."""

    position: int
    image: NDArray[np.uint8]
    frame_idx: int
    timestamp_s: float


def to_pixels(
    parsed: BoxReading, width: int, height: int, *, allow_absent: bool = True
) -> tuple[Box | None, Reason | None]:
    """Return a parsed box in pixels, or the reason why there is none.

    Args:
        parsed: box of the model's answer.
        width: width of the image in pixels.
        height: height of the image in pixels.
        allow_absent: whether the model may answer `none`; where it may not, a `none` is unreadable.
    """
    if parsed.valid and parsed.box_xyxy_norm is not None:
        return norm_to_px(parsed.box_xyxy_norm, width, height), None
    return None, "absent" if parsed.status == "absent" and allow_absent else "unreadable"


class TrackingSession:
    """Track one object: `feed` frames, answer each `next_window` by `accept`, read the `track`.

    Only the frames of the next window, the last frame that has a box and, for refinement passes, the first frame are
    held; results are a few numbers a frame.

    Args:
        prompt: prompt of the object.
        width: width of the video in pixels.
        height: height of the video in pixels.
        track_id: 1 or more.
        options: how to track; fields that are not set take their defaults.
        allow_absent: whether the model may answer `none`; where it may not, a `none` is an unreadable answer.

    Raises:
        ValueError: the box is not inside the image, or ``reground`` without a text prompt.
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
            raise ValueError("reground must have a text prompt, got a box alone; give text, or leave reground out")
        box = prompt.box_xyxy_px
        self.init_box_xyxy_px: Box | None = None if box is None else check_box_xyxy_px(box, width, height)
        self.text, self.track_id, self.allow_absent = prompt.text, track_id, allow_absent
        self.width, self.height = width, height
        self._waiting: deque[_Held] = deque()
        self._fed = 0
        self._previous: _Held | None = None  # last finished frame, whether it has a box or not
        self._seen: tuple[_Held, Box] | None = None  # last finished frame that has a box, with the box (0..1)
        self._given: tuple[_Held, Box] | None = (
            None  # the first frame with the user's box (0..1), for refinement passes
        )
        self._request: WindowRequest | None = None
        # Between two passes over a window: the answer so far, boxes in shares of whole frames.
        self._last_pass: list[tuple[BoxReading, float]] = []
        self._results: list[FrameResult] = []
        self.num_windows = 0  # answered so far

    @property
    def num_waiting(self) -> int:
        """Return the number of frames that were fed and are not finished."""
        return len(self._waiting)

    @property
    def num_finished(self) -> int:
        """Return the number of frames that have a result."""
        return len(self._results)

    def feed(self, image: NDArray[np.uint8], *, timestamp_s: float, frame_idx: int | None = None) -> None:
        """Take the next frame of the stream.

        Args:
            image (`np.ndarray` of shape `(H, W, 3)`): uint8 RGB, of the session's width and height.
            timestamp_s: seconds from the start of the video.
            frame_idx: index in the video; by default frames are counted from 0.

        Raises:
            ValueError: an image of another size.
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
        """Return the next request, or None while frames are missing; the same one until `accept` answers it.

        Args:
            final: whether the stream has ended, so that a shorter window is requested.
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
        """Return the images of the windows after the requested one, should the object stay visible until then.

        Args:
            following: images that will be fed next.

        Returns:
            Full windows only; none before there is a request, or with zoom.
        """
        request = self._request
        if request is None or self.options.zoom:
            return []
        waiting = [held.image for held in self._waiting][request.plan.num_unseen :]
        images = [request.frames[-1], *waiting, *following]
        step = self.options.window_frames - 1
        return [tuple(images[start : start + step + 1]) for start in range(0, len(images) - step, step)]

    def accept(self, parsed: Sequence[BoxReading], scores: Sequence[float]) -> list[FrameResult]:
        """Take the answer to `next_window` and return the frames that it finishes, in order.

        A pass that is followed by another finishes none: `next_window` is then that one.
        The first frame of a window that was finished before keeps its box, and frame 1 keeps the user's exact box.

        Args:
            parsed: one parsed box for each frame of the window, in shares of the images that were shown.
            scores: one for each frame, 0..1; read where there is a box.

        Raises:
            ValueError: another count of boxes or scores than the window has frames.
            RuntimeError: no window was requested.
        """
        request = self._request
        if request is None:
            raise RuntimeError("accept must follow next_window, got an answer without a request; call next_window")
        if not len(parsed) == len(scores) == len(request):
            raise ValueError(
                f"a window of {len(request)} frames must get as many boxes and scores, "
                f"got {len(parsed)} and {len(scores)}; parse with num_frames={len(request)}"
            )
        answers = list(zip(request.in_image(parsed), scores, strict=True))
        if request.pass_number > 1:  # the box of the first frame was given
            answers = self._last_pass[: 1 - len(answers)] + answers[1:]
        previous, boxes = ([box.box_xyxy_norm for box, _ in each] for each in (self._last_pass, answers))
        if needs_refinement(request.pass_number, previous, boxes, self.options):
            refined = self._refinement(request, [box for box, _ in answers])
            if refined is not None:
                self._request, self._last_pass = refined, answers
                return []
        finished: list[FrameResult] = []
        for box, score in answers[len(answers) - request.plan.num_unseen :]:
            held = self._waiting[len(finished)]
            result, box_xyxy_norm = self._finish(held, box, score)
            finished.append(result)
            if box_xyxy_norm is not None:
                self._seen = held, box_xyxy_norm
        self._results.extend(finished)  # before the frames go: an interrupt between must not look like the end
        for _ in finished:
            self._previous = self._waiting.popleft()
        self._request, self._last_pass = None, []
        self.num_windows += 1
        return finished

    def track(self) -> Track:
        """Return the frames finished so far."""
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
        if box is not None and plan.box_is_new:
            crop = first_pass_crop(box, self.options, self.width, self.height)
        return self._request_of(held, [crop] * len(held), plan, box)

    def _refinement(self, request: WindowRequest, parsed: Sequence[BoxReading]) -> WindowRequest | None:
        """Return the next pass over the same frames, on crops around the parsed boxes; None where there is none.

        Where the user gave a box and the first pass was prompted by one, the pass opens with the video's first frame
        and the user's box: a box handed on may have moved to another object.
        """
        boxes = [box.box_xyxy_norm if box.valid else None for box in parsed]
        given = None
        if request.plan.ask == "box":
            boxes[0], given = self._known_box(), self._given
        opening = None if given is None else given[1]
        refinement = plan_refinement(boxes, self.options, self.width, self.height, opening=opening)
        if refinement is None:
            return None
        frames = self._frames_of(request.plan)[refinement.start :]
        if given is not None:
            frames[0] = given[0]
        return self._request_of(
            frames, refinement.crops, request.plan, refinement.box_xyxy_norm, pass_number=request.pass_number + 1
        )

    def _request_of(
        self,
        held: Sequence[_Held],
        crops: Sequence[Crop | None],
        plan: WindowPlan,
        box: Box | None,
        *,
        pass_number: int = 1,
    ) -> WindowRequest:
        """Return the request for frames as their crops show them; prompted by text where there is no box."""
        pairs = zip((frame.image for frame in held), crops, strict=True)
        return WindowRequest(
            task="rsot" if box is None else "sot",
            frames=tuple(image if crop is None else crop.cut(image) for image, crop in pairs),
            frame_indices=tuple(frame.frame_idx for frame in held),
            text=self.text if box is None else None,
            box_xyxy_norm=box if crops[0] is None or box is None else crops[0].from_image(box),
            plan=plan,
            crops=tuple(crops),
            pass_number=pass_number,
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

    def _finish(self, held: _Held, parsed: BoxReading, score: float) -> tuple[FrameResult, Box | None]:
        """Return the result of one frame, and the box (0..1) to hand on."""
        given = self.init_box_xyxy_px
        if held.position == 0 and given is not None:
            return self._result(held, given, 1.0, None), px_to_norm(given, self.width, self.height)
        box, reason = to_pixels(parsed, self.width, self.height, allow_absent=self.allow_absent)
        if box is None:
            return self._result(held, None, math.nan, reason), None
        return self._result(held, box, score, None), parsed.box_xyxy_norm

    @staticmethod
    def _result(held: _Held, box: Box | None, score: float, reason: Reason | None) -> FrameResult:
        return FrameResult(held.frame_idx, held.timestamp_s, box, score, reason)
