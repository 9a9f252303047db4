"""Render parts of a scene, from a later frame on, with frames left out and the marks of compression."""

from dataclasses import dataclass

import cv2
import numpy as np

from elysium.training.synthetic.render import RenderedClip, Renderer
from elysium.training.synthetic.scene import ObjectPath, SceneObject
from research.scenes.world import StudyScene


@dataclass(frozen=True, eq=False)
class View:
    """Which part of each frame is drawn.

    Args:
        focus (`np.ndarray` of shape `(T, 2)`): of the scene's image, what stands in the middle; in shares of it.
        magnification (`np.ndarray` of shape `(T,)`): 2 draws a square of half the side.
    """

    focus: np.ndarray
    magnification: np.ndarray

    def path(self, path: ObjectPath) -> ObjectPath:
        """A path as it is seen."""
        centre = 0.5 + (path.centre - self.focus) * self.magnification[:, None]
        return path._replace(centre=centre, size=path.size * self.magnification)


class ViewRenderer(Renderer):
    """Renders a view; compression where the scene has some."""

    scene: StudyScene
    view: View | None = None

    def path(self, item: SceneObject) -> ObjectPath:
        path = super().path(item)
        return path if self.view is None else self.view.path(path)

    def background_window(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        centre, span = super().background_window(t)
        if self.view is None:
            return centre, span
        return centre + (self.view.focus[t] - 0.5) * span, span / self.view.magnification[t]

    def finish(self, canvas: np.ndarray, t: int) -> np.ndarray:
        image = super().finish(canvas, t)
        if self.scene.jpeg_quality is None:
            return image
        _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self.scene.jpeg_quality])
        return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR))


def shown_frames(scene: StudyScene, num_frames: int, first_frame: int = 0, gap: int = 0) -> np.ndarray:
    """Numbers of the frames of a clip, `(T,)`; `gap` further ones are left out behind the first."""
    numbers = first_frame + np.arange(num_frames, dtype=np.float64) * scene.frame_step
    return np.where(np.arange(num_frames) > 0, numbers + gap, numbers)


def render_view(
    scene: StudyScene,
    num_frames: int,
    out_wh: tuple[int, int],
    *,
    first_frame: int = 0,
    gap: int = 0,
    aspect: float | None = None,
    view: View | None = None,
) -> RenderedClip:
    """Render `num_frames` frames of a scene at `out_wh` pixels.

    Args:
        gap: frames left out behind the first.
        aspect: width / height of the image that is squeezed into `out_wh` (training renders 4:3 and 16:9 scenes
            straight into the square that the model sees); by default that of `out_wh`.
        view: the part of each frame that is drawn; by default all.
    """
    renderer = ViewRenderer(scene, shown_frames(scene, num_frames, first_frame, gap), out_wh)
    renderer.view = view
    if aspect is not None:
        renderer.view_wh = np.array([np.sqrt(aspect), 1 / np.sqrt(aspect)])
    return renderer.render()
