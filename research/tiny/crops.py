"""Views of a scene as tracking shows them in its second look: squares that follow an object, not quite exactly.

`elysium.tracking` cuts a square around the box that was first said of each frame, and asks again. A first box is off
by a little, by much, or lags behind; what is shown then was often small in the video, hence soft.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from elysium.training.synthetic.render import RenderedClip
from elysium.training.synthetic.scene import ObjectPath, Scene
from research.scenes.views import View

# Of the squares' middles, in sides of the object: one for each clip.
_DEVIATIONS = (0.02, 0.08, 0.2)
_SCALE_DEVIATION = 0.15
_SHARE_LAGGING = 0.25
_SHARE_SOFT = 0.7
# Where squares are that lost their object: at the thing next to it, at any thing, or so many of its sides beside it.
_SHARE_NEXT, _SHARE_ANY = 0.5, 0.2
_BESIDE = (0.4, 1.5)


@dataclass(frozen=True, kw_only=True)
class LookConfig:
    """How training shows clips.

    Args:
        share: of the clips, those that follow an object.
        side: of the object in them, over the picture's (a cut-out has a margin: its box is a little smaller).
        share_gaps: of all clips with two frames or more, those whose first frame lies further back.
        gap: frames between the first and the second of those, inclusive.
        share_misled: of the clips that follow an object, those whose squares lose it at some frame: they pass to
            another thing, or stay beside it, so that what a thing looks like must say which one it is.
        misled_zoom: how many times as closely those show from then on; below 1 where the first look's box had grown,
            as over a cup and the hand that holds it.
    """

    share: float = 0.0
    side: tuple[float, float] = (0.3, 0.65)
    share_gaps: float = 0.0
    gap: tuple[int, int] = (4, 60)
    share_misled: float = 0.0
    misled_zoom: tuple[float, float] = (1.0, 1.0)


def following_view(
    scene: Scene, index: int, frame_numbers: np.ndarray, looks: LookConfig, rng: np.random.Generator
) -> View:
    """A view of each frame around a tracked object; exact in the first frame, whose box is known.

    Args:
        scene: with the object.
        index: of the object among the tracked.
        frame_numbers: T of them.
        looks: how large it is shown, and how often it is lost.
        rng: draws how far the view is off.
    """
    item = scene.objects[scene.tracked[index]]
    path = item.path(scene, frame_numbers)
    centre, size = path.centre, path.size
    wanted, count = rng.uniform(*looks.side), len(frame_numbers)
    lag = int(rng.integers(1, 4)) if rng.random() < _SHARE_LAGGING else 0
    behind = np.maximum(np.arange(count) - lag, min(1, count - 1))
    off = size[:, None] * rng.normal(0, rng.choice(_DEVIATIONS), (count, 2))
    focus, magnification = centre[behind] + off, np.full(count, wanted / np.median(size[1:] if count > 1 else size))
    magnification *= np.exp(rng.normal(0, _SCALE_DEVIATION))
    focus[0], magnification[0] = centre[0], wanted / size[0]
    if looks.share_misled and count > 1 and rng.random() < looks.share_misled:
        start = int(rng.integers(1, count))
        focus[start:] = _elsewhere(scene, index, path, frame_numbers, start, rng)[start:] + off[start:]
        if looks.misled_zoom != (1.0, 1.0):
            magnification[start:] *= np.exp(rng.uniform(*np.log(looks.misled_zoom)))
    return View(focus, magnification)


def _elsewhere(
    scene: Scene, index: int, path: ObjectPath, frame_numbers: np.ndarray, start: int, rng: np.random.Generator
) -> np.ndarray:
    """Middles `(T, 2)` of squares that lost a tracked object, on its path, at the frame `start`."""
    item, kind = scene.objects[scene.tracked[index]], rng.random()
    others = [other.path(scene, frame_numbers).centre for other in scene.objects if other is not item]
    if others and kind < _SHARE_NEXT:
        return min(others, key=lambda centre: float(np.hypot(*(centre[start] - path.centre[start]))))
    if others and kind < _SHARE_NEXT + _SHARE_ANY:
        return others[rng.integers(len(others))]
    direction, share = rng.uniform(0, 2 * np.pi), rng.uniform(*_BESIDE)
    return path.centre + share * path.size[:, None] * np.array([np.cos(direction), np.sin(direction)])


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
