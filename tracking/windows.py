"""Windows: the plan of the frames that go into the next one, without a model, and the request to the model.

Positions count the frames of the stream from 0. A window holds at most ``window_frames`` frames. It opens with a frame
that is finished already (the frame handed on, whose box is known), or it holds unseen frames only, with a text prompt.
Every window takes in at least one unseen frame, so every video ends.

The frame handed on is the last one that has a box. Where frames without a box lie between, the object is lost, and its
last box may show it half covered, or what covered it: its template's frame, where it has one, is handed on instead.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from elysium.processing.boxes_elysium import Box
from elysium.processing.media_elysium import Frame

from .options import TrackingOptions
from .refinement import Crop

Ask = Literal["box", "text"]


@dataclass(frozen=True)
class WindowPlan:
    """Hold the frames of one window.

    Args:
        ask: "box" where the box of the window's first frame is given, "text" where a text prompt is.
        handed_on: position of the finished frame that opens the window, or None.
        first_unseen: position of the first unseen frame.
        num_unseen: how many unseen frames the window takes, 1 or more.
    """

    ask: Ask
    handed_on: int | None
    first_unseen: int
    num_unseen: int

    @property
    def positions(self) -> tuple[int, ...]:
        """Return the positions of the window's frames in the order in which the model sees them.

        >>> WindowPlan("box", handed_on=7, first_unseen=8, num_unseen=3).positions
        (7, 8, 9, 10)
        """
        unseen = tuple(range(self.first_unseen, self.first_unseen + self.num_unseen))
        return unseen if self.handed_on is None else (self.handed_on, *unseen)

    @property
    def box_is_new(self) -> bool:
        """Return whether a box is given and no frame was passed since: the object is still near it.

        >>> [WindowPlan("box", seen, first_unseen=8, num_unseen=7).box_is_new for seen in (7, 4)]
        [True, False]
        """
        return self.ask == "box" and self.handed_on in (None, self.first_unseen - 1)

    @property
    def is_search(self) -> bool:
        """Return whether a box is given and frames were passed since: the object was lost and may be anywhere.

        >>> [WindowPlan("box", seen, first_unseen=8, num_unseen=7).is_search for seen in (7, 0)]
        [False, True]
        """
        return self.ask == "box" and not self.box_is_new


@dataclass(frozen=True, eq=False)
class WindowRequest:
    """Hold one request to the model.

    Args:
        task: "sot" (the box of the first frame is given) or "rsot" (a text prompt is given).
        frames: T frames of the video.
        text: text prompt, for "rsot".
        box_xyxy_norm: box in the window's first image as it is shown, 0..1, for "sot".
        plan: which frames of the stream are finished by the window.
        crops: crop of each frame that is shown, None where it is the whole frame; answers are in shares of them.
        pass_number: number of the pass over its frames; from 2 on it is a refinement on crops.
        absent_log_odds: bias of the answer `none`; None takes the checkpoint's.
    """

    task: Literal["sot", "rsot"]
    frames: tuple[Frame, ...]
    text: str | None
    box_xyxy_norm: Box | None
    plan: WindowPlan
    crops: tuple[Crop | None, ...]
    pass_number: int = 1
    absent_log_odds: float | None = None

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def frame_indices(self) -> tuple[int, ...]:
        """Return the T indices in the video."""
        return tuple(frame.index for frame in self.frames)

    @property
    def semantic(self) -> bool:
        """Return whether the semantic encoders, where the model has them, read the frames: words are asked for."""
        return self.box_xyxy_norm is None

    @property
    def shown(self) -> tuple["Shown", ...]:
        """Return each frame with the crop of it that the model sees."""
        return tuple(zip(self.frames, self.crops, strict=True))

    @property
    def images(self) -> list[NDArray[np.uint8]]:
        """Return the T images that the model sees, uint8 RGB of shape `(H, W, 3)`."""
        return [image_of(each) for each in self.shown]


# A frame, which is told from others by identity, and the crop of it that the model sees, None for all of it.
Shown = tuple[Frame, Crop | None]


def image_of(shown: Shown) -> NDArray[np.uint8]:
    """Return what the model sees of a frame."""
    frame, crop = shown
    return frame.image if crop is None else crop.cut(frame.image)


def plan_window(
    options: TrackingOptions,
    *,
    next_unseen: int,
    num_waiting: int,
    final: bool,
    last_seen: int | None,
    template: int | None,
    has_text: bool,
) -> WindowPlan | None:
    """Return the next window of one object, or None while it has to wait for frames.

    Args:
        options: resolved options.
        next_unseen: position of the first frame that no window has taken yet.
        num_waiting: how many frames have come from there on.
        final: the stream has ended, so that a shorter window is taken.
        last_seen: position of the last finished frame that has a box, or None.
        template: position of the frame whose box is the object's template, or None.
        has_text: whether the object has a text prompt.
    """
    handed_on: int | None = last_seen
    ask: Ask = "box"
    if has_text and options.reground:
        handed_on, ask = (next_unseen - 1 if next_unseen else None), "text"
    elif last_seen is None:  # the first window, or a text prompt not found yet
        ask = "text" if template is None else "box"
    elif has_text and next_unseen - last_seen > options.reask_after:
        handed_on, ask = None, "text"
    elif template is not None and last_seen < next_unseen - 1:
        handed_on = template
    longest = options.window_frames if ask == "box" else min(options.text_frames, options.window_frames)
    if longest == 1:
        handed_on = None
    wanted = longest - (handed_on is not None)
    num_unseen = min(wanted, num_waiting)
    if num_unseen == 0 or (num_unseen < wanted and not final):
        return None
    return WindowPlan(ask, handed_on, next_unseen, num_unseen)
