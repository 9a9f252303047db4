"""Views of a scene as tracking shows them in its second look: squares that follow an object, not quite exactly.

`elysium.tracking` cuts a square around the box that was first said of each frame, and asks again. A first box is off
by a little, by much, or lags behind; what is shown then was often small in the video, hence soft.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from .render import RenderedClip, View, object_path
from .scene import Scene

# Of the squares' middles, in sides of the object: one for each clip.
_DEVIATIONS = (0.02, 0.08, 0.2)
_SCALE_DEVIATION = 0.15
_SHARE_LAGGING = 0.25
_SHARE_SOFT = 0.7


@dataclass(frozen=True, kw_only=True)
class LookConfig:
    """How training shows clips.

    Args:
        share: of the clips, those that follow an object.
        side: of the object in them, over the picture's (a cut-out has a margin: its box is a little smaller).
        share_gaps: of all clips with two frames or more, those whose first frame lies further back.
        gap: frames between the first and the second of those, inclusive.
    """

    share: float = 0.0
    side: tuple[float, float] = (0.3, 0.65)
    share_gaps: float = 0.0
    gap: tuple[int, int] = (4, 60)


def following_view(
    scene: Scene, index: int, frame_numbers: np.ndarray, side: tuple[float, float], rng: np.random.Generator
) -> View:
    """A view of each frame around a tracked object; exact in the first frame, whose box is known.

    Args:
        scene: with the object.
        index: of the object among the tracked.
        frame_numbers: T of them.
        side: of the object, over the picture's.
        rng: draws how far the view is off.
    """
    item = scene.objects[scene.tracked[index]]
    path = object_path(item, scene, frame_numbers)
    centre, size = path.centre, path.size
    wanted, count = rng.uniform(*side), len(frame_numbers)
    lag = int(rng.integers(1, 4)) if rng.random() < _SHARE_LAGGING else 0
    behind = np.maximum(np.arange(count) - lag, min(1, count - 1))
    off = size[:, None] * rng.normal(0, rng.choice(_DEVIATIONS), (count, 2))
    focus, magnification = centre[behind] + off, np.full(count, wanted / np.median(size[1:] if count > 1 else size))
    magnification *= np.exp(rng.normal(0, _SCALE_DEVIATION))
    focus[0], magnification[0] = centre[0], wanted / size[0]
    return View(focus, magnification)


def soften(clip: RenderedClip, rng: np.random.Generator) -> None:
    """Takes fine detail out of the frames of most clips, as of a small part of a picture that is shown large."""
    if rng.random() >= _SHARE_SOFT:
        return
    height, width = clip.frames.shape[1:3]
    share = rng.uniform(0.25, 0.9)
    small = max(8, round(width * share)), max(8, round(height * share))
    for t, frame in enumerate(clip.frames):
        lower = cv2.resize(frame, small, interpolation=cv2.INTER_AREA)
        clip.frames[t] = cv2.resize(lower, (width, height), interpolation=cv2.INTER_LINEAR)
