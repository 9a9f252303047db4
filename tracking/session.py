"""Tracking of one object through a video: a state machine without a model.

Frames are fed in, windows come out as requests, answers are accepted, and every frame is finished exactly once and in
order. Whoever holds the model turns a `WindowRequest` into parsed boxes (`elysium.tracking.answering`); a test scripts
them. Windows are planned in `elysium.tracking.windows`, the passes over one in `elysium.tracking.refinement`.

What an object looks like is known from its template: the first frame and the box that the user gave, or else the frame
in which a text prompt was found, where it is asked for in one frame at a time (`text_frames` 1). Such a prompt is
asked for again in a crop around the box that was found; what the crop shows counts. Others have no template.

A lost object, absent or unreadable in the last frame, is searched for in every window until it has a box again. These
windows open with the template, or else with the last frame that has a box. With zoom and a template they show crops
around the last box, of the size of every first pass; where these have no box and the last one is more than
`reask_after` frames back, whole frames follow, or the text prompt is asked again where there is one. Only what was
found is refined.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from elysium.processing.boxes_elysium import Box, ParsedBox, norm_to_px, px_to_norm
from elysium.processing.media_elysium import Frame
from elysium.processing.pixel_boxes import check_box_xyxy_px
from elysium.processing.structures import Track

from .doubt import DoubtMeter
from .options import TrackingOptions
from .refinement import Crop, first_pass_crops, needs_refinement, plan_refinement
from .windows import WindowPlan, WindowRequest, plan_window

BoxLike = Sequence[float]
Reason = Literal["absent", "unreadable"]


def check_text(text: str, *, name: str = "text") -> str:
    """Return the text without blanks at its ends.

    Args:
        text: text prompt.
        name: what an error calls it.

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


def object_prompts(
    text: str | Sequence[str] | None = None, box_xyxy_px: BoxLike | Sequence[BoxLike] | None = None
) -> list[ObjectPrompt]:
    """Return one prompt for each object of texts, boxes, or both.

    Raises:
        ValueError: neither, an empty text, or texts and boxes in different numbers.

    >>> [prompt.text for prompt in object_prompts(["the cup", "the dog"])]
    ['the cup', 'the dog']
    >>> object_prompts("the cup", (8, 12, 40, 90))
    [ObjectPrompt(text='the cup', box_xyxy_px=(8.0, 12.0, 40.0, 90.0))]
    """
    texts: list[str | None] = [] if text is None else [text] if isinstance(text, str) else list(text)
    boxes: list[Any] = []
    if box_xyxy_px is not None:  # their values are checked where the video's size is known
        try:
            array = np.asarray(box_xyxy_px, dtype=np.float64)
        except (TypeError, ValueError):
            array = np.empty(0)
        if array.ndim not in (1, 2) or array.size == 0:
            raise ValueError(
                f"box_xyxy_px must be four numbers x1,y1,x2,y2 or a list of such boxes, got {box_xyxy_px!r}"
            )
        boxes = [tuple(box) for box in np.atleast_2d(array).tolist()]
    if not texts and not boxes:
        raise ValueError('track must get a text prompt or a box, got neither; give text="the red car" or box_xyxy_px')
    if texts and boxes and len(texts) != len(boxes):
        raise ValueError(
            f"texts and boxes given together must be of the same objects, got {len(texts)} and {len(boxes)}; "
            "give one text for each box, or track them in two calls"
        )
    count = max(len(texts), len(boxes))
    return [ObjectPrompt(*pair) for pair in zip(texts or [None] * count, boxes or [None] * count, strict=True)]


@dataclass(frozen=True)
class FrameResult:
    """Hold the result of one frame: a box with its score and doubt, or a reason why there is none."""

    frame_idx: int
    timestamp_s: float
    box_xyxy_px: Box | None
    score: float
    reason: Reason | None
    doubt: float

    @property
    def valid(self) -> bool:
        """Return whether the frame has a box."""
        return self.box_xyxy_px is not None


def to_pixels(
    parsed: ParsedBox, width: int, height: int, *, allow_absent: bool = True
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

    Only the frames of the next window, the last frame that has a box and the template's frame are held; results are a
    few numbers a frame.

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
        self._calibration = self.options.score_calibration if box else self.options.text_score_calibration
        self._doubt_meter = DoubtMeter(self.options.doubt_weights) if box and self.options.doubt_weights else None
        self._waiting: deque[Frame] = deque()
        self._fed = 0
        self._previous: Frame | None = None  # last finished frame, whether it has a box or not
        self._seen: tuple[int, Frame, Box] | None = None  # position, last finished frame that has a box, box (0..1)
        # Position, frame and box (0..1) that say what the object looks like: the user's, or what the text found.
        self._template: tuple[int, Frame, Box] | None = None
        self._request: WindowRequest | None = None
        # Between two passes over a window: the answer so far, boxes in shares of whole frames.
        self._last_pass: list[tuple[ParsedBox, float]] = []
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
        self.take(Frame(self._fed if frame_idx is None else frame_idx, timestamp_s, image))

    def take(self, frame: Frame) -> None:
        """Take the next frame like `feed`; objects that are given the same `Frame` share its visual tokens."""
        if frame.image.shape != (self.height, self.width, 3):
            raise ValueError(
                f"every frame must be {self.width}x{self.height} RGB like the first, got an array of shape "
                f"{frame.image.shape} at frame {self._fed}; track the part before and the part after on their own"
            )
        if self._fed == 0 and self.init_box_xyxy_px is not None:
            self._template = 0, frame, px_to_norm(self.init_box_xyxy_px, self.width, self.height)
        self._waiting.append(frame)
        self._fed += 1

    def next_window(self, *, final: bool = False) -> WindowRequest | None:
        """Return the next request, or None while frames are missing; the same one until `accept` answers it.

        Args:
            final: whether the stream has ended, so that a shorter window is requested.
        """
        if self._request is not None:
            return self._request
        plan = plan_window(
            self.options,
            next_unseen=self.num_finished,
            num_waiting=self.num_waiting,
            final=final,
            last_seen=None if self._seen is None else self._seen[0],
            template=None if self._template is None else self._template[0],
            has_text=self.text is not None,
        )
        if plan is None:
            return None
        self._request = self._first_pass(plan)
        return self._request

    def expected_windows(self, following: Iterable[Frame]) -> list[tuple[Frame, ...]]:
        """Return the frames of the windows after the requested one, should the object stay visible until then.

        Args:
            following: frames that will be fed next.

        Returns:
            Full windows only; none before there is a request, or with zoom.
        """
        request = self._request
        if request is None or self.options.zoom:
            return []
        frames = [request.frames[-1], *islice(self._waiting, request.plan.num_unseen, None), *following]
        step = self.options.window_frames - 1
        return [tuple(frames[start : start + step + 1]) for start in range(0, len(frames) - step, step)]

    def accept(self, parsed: Sequence[ParsedBox], scores: Sequence[float]) -> list[FrameResult]:
        """Take the answer to `next_window` and return the frames that it finishes, in order.

        A pass that is followed by another finishes none: `next_window` is then that one.
        The first frame of a window that was finished before keeps its box, and frame 0 keeps the user's exact box.

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
        whole = [
            box if crop is None else crop.parsed_in_image(box) for box, crop in zip(parsed, request.crops, strict=True)
        ]
        failed_search = (
            self._is_search(request.plan) and request.pass_number == 1 and not any(box.valid for box in whole[1:])
        )
        if failed_search and self._widens_search(request):
            self._request = self._first_pass(request.plan, whole_frames=True)
            return []
        answers = list(zip(whole, scores, strict=True))
        if request.pass_number > 1 and request.task == "sot":  # the box of the first frame was given
            answers = self._last_pass[: 1 - len(answers)] + answers[1:]
        elif request.pass_number > 1 and answers[0][0].status not in ("ok", "absent"):  # the find itself stays
            answers = self._last_pass
        previous, boxes = ([box.box_xyxy_norm for box, _ in each] for each in (self._last_pass, answers))
        if not failed_search and needs_refinement(request.pass_number, previous, boxes, self.options):
            refined = self._refinement(request, [box for box, _ in answers])
            if refined is not None:
                self._request, self._last_pass = refined, answers
                return []
        detected = request.plan.ask == "text" and self.options.text_frames == 1
        new = zip(self._waiting, answers[-request.plan.num_unseen :], strict=False)
        finished = [
            self._finish(position, frame, box, score, detected=detected)
            for position, (frame, (box, score)) in enumerate(new, start=self.num_finished)
        ]
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
            doubt=np.array([result.doubt for result in results], dtype=np.float64),
            reasons=[result.reason for result in results],
            track_id=self.track_id,
            text=self.text,
            init_box_xyxy_px=self.init_box_xyxy_px,
            width=self.width,
            height=self.height,
        )

    def _first_pass(self, plan: WindowPlan, *, whole_frames: bool = False) -> WindowRequest:
        """Return the first pass over a window: on crops around the last box where there is one, else in whole frames.

        Args:
            plan: of the window.
            whole_frames: whether to show whole frames all the same.
        """
        frames = self._frames_of(plan)
        box = self._opening_box(plan) if plan.ask == "box" else None
        crops: list[Crop] | None = None
        if box is not None and not whole_frames and (plan.box_is_new or self._template is not None):
            boxes = [box, *[self._known_box()] * (len(frames) - 1)]
            crops = first_pass_crops(boxes, self.options, self.width, self.height)
        return self._request_of(frames, crops or [None] * len(frames), plan, box, pass_number=1)

    def _is_search(self, plan: WindowPlan) -> bool:
        """Return whether a window searches for a lost object by its template."""
        return plan.is_search and self._template is not None

    def _widens_search(self, request: WindowRequest) -> bool:
        """Return whether a search on crops is followed by one in whole frames."""
        assert self._seen is not None  # the first frame has the user's box
        return request.crops[0] is not None and request.plan.first_unseen - self._seen[0] > self.options.reask_after

    def _refinement(self, request: WindowRequest, parsed: Sequence[ParsedBox]) -> WindowRequest | None:
        """Return the next pass over the same frames, on crops around the parsed boxes; None where there is none.

        A pass that follows one prompted by a box opens with the template: a box handed on may have moved to another
        object. One that follows a text prompt of a single frame asks for the text again.
        """
        boxes = [box.box_xyxy_norm if box.valid else None for box in parsed]
        opening, frames = None, self._frames_of(request.plan)
        if request.plan.ask == "text" and self.options.text_frames == 1 and boxes[0] is not None:
            closer = Crop.around([boxes[0]], self.options.zoom, self.width, self.height, self.options)
            if closer is None:
                return None
            return self._request_of(frames, closer, request.plan, None, pass_number=request.pass_number + 1)
        if request.plan.ask == "box":
            boxes[0] = self._known_box()
            opening = None if self._template is None else self._template[2]
        refinement = plan_refinement(boxes, self.options, self.width, self.height, opening=opening)
        if refinement is None:
            return None
        start, box, crops = refinement
        frames = frames[start:]
        if opening is not None and self._template is not None:
            frames[0] = self._template[1]
        return self._request_of(frames, crops, request.plan, box, pass_number=request.pass_number + 1)

    def _request_of(
        self,
        frames: Sequence[Frame],
        crops: Sequence[Crop | None],
        plan: WindowPlan,
        box: Box | None,
        pass_number: int,
    ) -> WindowRequest:
        """Return the request for frames as their crops show them; prompted by text where there is no box."""
        return WindowRequest(
            task="rsot" if box is None else "sot",
            frames=tuple(frames),
            text=self.text if box is None else None,
            box_xyxy_norm=box if crops[0] is None or box is None else crops[0].from_image(box),
            plan=plan,
            crops=tuple(crops),
            pass_number=pass_number,
            absent_log_odds=self.options.text_absent_log_odds if box is None else self.options.absent_log_odds,
        )

    def _frames_of(self, plan: WindowPlan) -> list[Frame]:
        unseen = list(islice(self._waiting, plan.num_unseen))
        if plan.handed_on is None:
            return unseen
        if self._is_search(plan) and self._template is not None:
            opening: Frame | None = self._template[1]
        else:
            opening = (
                self._previous if plan.handed_on == plan.first_unseen - 1 or self._seen is None else self._seen[1]
            )
        assert opening is not None  # a plan hands on the frame before, the first, or the last one that has a box
        return [opening, *unseen]

    def _opening_box(self, plan: WindowPlan) -> Box:
        """Return the box of the first frame of a window that is prompted by box."""
        return self._given_box() if self._is_search(plan) else self._known_box()

    def _known_box(self) -> Box:
        return self._given_box() if self._seen is None else self._seen[2]

    def _given_box(self) -> Box:
        """Return the template's box, 0..1."""
        assert self._template is not None  # a plan asks by box only where there is one
        return self._template[2]

    def _finish(self, position: int, frame: Frame, parsed: ParsedBox, score: float, *, detected: bool) -> FrameResult:
        """Return the result of one frame, and keep a frame that has a box for the next window."""
        box, reason = to_pixels(parsed, self.width, self.height, allow_absent=self.allow_absent)
        box_xyxy_norm = parsed.box_xyxy_norm
        is_given = position == 0 and self.init_box_xyxy_px is not None
        if is_given:
            box, reason, score, box_xyxy_norm = self.init_box_xyxy_px, None, 1.0, self._given_box()
        doubt = math.nan
        if self._doubt_meter is not None:
            doubt = self._doubt_meter.add(frame.image, box, score)
            doubt = 0.0 if is_given else doubt
        if self._calibration and not is_given:
            raw, expected = np.array(self._calibration).T
            score = float(np.interp(score, raw, expected))
        if box is None:
            score = math.nan
        elif box_xyxy_norm is not None:
            self._seen = position, frame, box_xyxy_norm
            if detected and self.init_box_xyxy_px is None and not self.options.reground:
                self._template = self._seen
        return FrameResult(frame.index, frame.timestamp_s, box, score, reason, doubt)
