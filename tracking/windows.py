"""Planning of windows: the frames that go into the next one, without images and without a model.

Positions count the frames of the stream from 0. A window holds at most ``window_frames`` frames. It opens with a frame
that is finished already (the frame handed on, whose box is known), or it holds unseen frames only, with a text prompt.
Every window takes in at least one unseen frame, so every video ends.
"""

from dataclasses import dataclass
from typing import Literal

from .options import TrackingOptions

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


def plan_window(
    options: TrackingOptions,
    *,
    next_unseen: int,
    num_waiting: int,
    final: bool,
    last_seen: int | None,
    has_box: bool,
    has_text: bool,
) -> WindowPlan | None:
    """Return the next window of one object, or None while it has to wait for frames.

    Args:
        options: resolved options.
        next_unseen: position of the first frame that no window has taken yet.
        num_waiting: how many frames have come from there on.
        final: the stream has ended, so that a shorter window is taken.
        last_seen: position of the last finished frame that has a box, or None.
        has_box: whether the object's box in the stream's first frame was given.
        has_text: whether the object has a text prompt.
    """
    handed_on, ask = _opening(options, next_unseen, last_seen, has_box, has_text)
    wanted = options.window_frames - (handed_on is not None)
    num_unseen = min(wanted, num_waiting)
    if num_unseen == 0 or (num_unseen < wanted and not final):
        return None
    return WindowPlan(ask, handed_on, next_unseen, num_unseen)


def _opening(
    options: TrackingOptions, next_unseen: int, last_seen: int | None, has_box: bool, has_text: bool
) -> tuple[int | None, Ask]:
    """Return the finished frame that opens the window, if any, and the kind of its prompt."""
    if has_text and options.reground:
        return (next_unseen - 1 if next_unseen else None), "text"
    if last_seen is None:  # the first window, or a text prompt not found yet
        return None, "box" if has_box else "text"
    if has_text and next_unseen - last_seen > options.reask_after:
        return None, "text"
    return last_seen, "box"
