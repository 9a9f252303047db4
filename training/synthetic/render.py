"""Render a scene: frames, the exact box of every object's visible part, and its visible fraction."""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from .scene import Scene, SceneObject, reflect
from .sprites import SPRITE_SIDE

NOBODY = 255
MIN_VISIBLE_FRACTION = 0.12
_VISIBLE_ALPHA = 127


@dataclass
class RenderedClip:
    """T frames of a scene with O tracked objects.

    frames: uint8 (T, H, W, 3) RGB.
    boxes_xyxy_norm: float32 (T, O, 4), 0..1; of the visible part; zeros where not visible (see `visible`).
    visible: bool (T, O): at least 12% of the object can be seen.
    visible_fraction: float32 (T, O), of the object's whole area, parts outside the picture counted as hidden.
    owners: uint8 (T, H, W): which tracked object a pixel shows, 255 for none.
    """

    frames: np.ndarray
    boxes_xyxy_norm: np.ndarray
    visible: np.ndarray
    visible_fraction: np.ndarray
    owners: np.ndarray


class ObjectPath(NamedTuple):
    """Path of an object over T frames.

    Centres (T, 2) in fractions of the image, sizes (T,) in scales, angles (T,) in radians, widths over heights (T,).
    """

    centre: np.ndarray
    size: np.ndarray
    angle: np.ndarray
    aspect: np.ndarray


@dataclass(frozen=True, eq=False)
class View:
    """Which part of each frame is drawn.

    Args:
        focus (`np.ndarray` of shape `(T, 2)`): of the scene's picture, what stands in the middle; in shares of it.
        magnification (`np.ndarray` of shape `(T,)`): 2 draws a square of half the side.
    """

    focus: np.ndarray
    magnification: np.ndarray

    def path(self, path: ObjectPath) -> ObjectPath:
        """A path as it is seen."""
        centre = 0.5 + (path.centre - self.focus) * self.magnification[:, None]
        return path._replace(centre=centre, size=path.size * self.magnification)


def _waves(parameters: np.ndarray, frames: np.ndarray) -> np.ndarray:
    amplitude, frequency, phase = parameters
    return amplitude * (np.sin(frequency * frames + phase) - np.sin(phase))


def object_path(item: SceneObject, scene: Scene, frames: np.ndarray) -> ObjectPath:
    """Return the path of an object in the scene's whole image."""
    wobble = np.stack([_waves(item.wobble[axis], frames) for axis in range(2)], axis=1)
    aspect = item.aspect * np.exp(_waves(np.array(item.squash), frames))
    if item.carrier is not None:
        carrier = object_path(item.carrier, scene, frames)
        turn, place = carrier.angle - item.carrier.angle, item.offset + wobble
        along = (place[:, 0] + 1j * place[:, 1]) * np.exp(1j * turn)  # turned with the carrier
        offset = np.stack([along.real, along.imag], axis=1) * carrier.size[:, None]
        size = item.side / item.carrier.side * carrier.size * np.exp(_waves(np.array(item.pulse), frames))
        return ObjectPath(carrier.centre + offset, size, item.angle + turn, aspect)
    centre = reflect(item.start + item.velocity * frames[:, None] + wobble, -item.reach, 1 + item.reach)
    pan = np.stack([_waves(scene.camera_pan[axis], frames) for axis in range(2)], axis=1)
    zoom = np.exp(_waves(scene.camera_zoom, frames))
    jitter = np.random.default_rng((scene.seed, 3)).standard_normal((int(frames.max()) + 1, 2))[frames.astype(int)]
    centre = 0.5 + (centre - 0.5) * zoom[:, None] + pan * item.depth + scene.shake * jitter
    size = item.side * np.exp(_waves(np.array(item.pulse), frames)) * zoom
    return ObjectPath(centre, size, item.angle + item.spin * frames, aspect)


def _draw_background(
    scene: Scene,
    frame: float,
    view_wh: np.ndarray,
    out_wh: tuple[int, int],
    focus: np.ndarray,
    magnification: float,
) -> np.ndarray:
    side = scene.background[0].shape[0]
    zoom = float(np.exp(_waves(scene.camera_zoom, np.array([frame]))[0]))
    pan = np.array([_waves(scene.camera_pan[axis], np.array([frame]))[0] for axis in range(2)])
    span = scene.background_zoom * side * view_wh / view_wh.max() / zoom  # source pixels across the view
    centre = span / 2 + scene.background_start * np.maximum(side - span, 1) - pan * span + (focus - 0.5) * span
    step = span / magnification / np.array(out_wh)
    level = int(np.clip(np.round(np.log2(step.max())), 0, 2))
    source, step, centre = scene.background[level], step / 2**level, centre / 2**level
    low = centre - step * np.array(out_wh) / 2
    matrix = np.array([[step[0], 0, low[0]], [0, step[1], low[1]]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    picture = cv2.warpAffine(source, matrix, out_wh, flags=flags, borderMode=cv2.BORDER_REFLECT)
    return np.clip(cv2.transform(picture.astype(np.float32), scene.colour_matrix), 0, 255)


def _draw_sprite(
    canvas: np.ndarray,
    item: SceneObject,
    centre_px: np.ndarray,
    size_px: float,
    angle: float,
    aspect: float,
    stretch: np.ndarray,
) -> tuple[tuple[slice, slice], np.ndarray, float] | None:
    """Pastes one cut-out; returns its region, its alpha there and its whole area in pixels, None if outside."""
    height, width = canvas.shape[:2]
    ratio = np.sqrt(aspect)
    sizes = np.array([size_px * ratio, size_px / ratio])
    level = int(np.clip(np.floor(np.log2(SPRITE_SIDE / max(sizes.max() * stretch.max(), 1))), 0, 2))
    sprite = item.sprite.levels[level]
    side = sprite.shape[0]
    cosine, sine = np.cos(angle), np.sin(angle)
    scale = np.diag(sizes / side * np.array([-1 if item.mirrored else 1, 1]))
    matrix = np.diag(stretch) @ np.array([[cosine, -sine], [sine, cosine]]) @ scale
    half = np.abs(matrix) @ np.array([side / 2, side / 2]) + 1
    low = np.floor(np.maximum(centre_px - half, 0)).astype(int)
    high = np.ceil(np.minimum(centre_px + half, (width, height))).astype(int)
    area = float((sprite[..., 3] > _VISIBLE_ALPHA).sum() * abs(np.linalg.det(matrix)))
    if (high - low).min() < 1:
        return None
    offset = centre_px - matrix @ np.array([(side - 1) / 2] * 2) - low
    warp = np.concatenate([matrix, offset[:, None]], axis=1)
    patch = cv2.warpAffine(sprite, warp, (int(high[0] - low[0]), int(high[1] - low[1])), flags=cv2.INTER_LINEAR)
    region = (slice(low[1], high[1]), slice(low[0], high[0]))
    view = canvas[region]
    view *= 1 - patch[..., 3:].astype(np.float32) / 255
    view += patch[..., :3]
    return region, patch[..., 3], area


def _box_of(mask: np.ndarray) -> np.ndarray:
    height, width = mask.shape
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return np.array(
        [columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height], np.float32
    )


def shown_frames(scene: Scene, num_frames: int, first_frame: int = 0, gap: int = 0) -> np.ndarray:
    """Numbers of the frames of a clip, `(T,)`; `gap` further ones are left out behind the first."""
    numbers = first_frame + np.arange(num_frames, dtype=np.float64) * scene.frame_step
    return np.where(np.arange(num_frames) > 0, numbers + gap, numbers)


def render_clip(
    scene: Scene,
    num_frames: int,
    out_wh: tuple[int, int],
    *,
    first_frame: int = 0,
    gap: int = 0,
    view_aspect: float | None = None,
    view: View | None = None,
) -> RenderedClip:
    """Render `num_frames` frames of a scene at `out_wh` pixels.

    Args:
        gap: frames left out behind the first.
        view_aspect: width / height of the picture that is squeezed into `out_wh` (training renders 4:3 and 16:9
            scenes straight into the square that the model sees); by default that of `out_wh`.
        view: the part of each frame that is drawn; by default all.
    """
    aspect = view_aspect or out_wh[0] / out_wh[1]
    view_wh = np.array([np.sqrt(aspect), 1 / np.sqrt(aspect)])  # in scales: area 1
    to_px = np.array(out_wh) / view_wh
    frame_numbers = shown_frames(scene, num_frames, first_frame, gap)
    paths = [object_path(item, scene, frame_numbers) for item in scene.objects]
    if view is None:
        view = View(np.full((num_frames, 2), 0.5), np.ones(num_frames))
    else:
        paths = [view.path(path) for path in paths]
    width, height = out_wh
    count = len(scene.tracked)
    slot = {index: position for position, index in enumerate(scene.tracked)}
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    owners = np.full((num_frames, height, width), NOBODY, np.uint8)
    areas = np.zeros((num_frames, count), np.float32)
    noise_rng = np.random.default_rng((scene.seed, 4, first_frame))
    unit = float(np.sqrt(to_px.prod()))
    for t in range(num_frames):
        canvas = _draw_background(
            scene, float(frame_numbers[t]), view_wh, out_wh, view.focus[t], view.magnification[t]
        )
        for index, item in enumerate(scene.objects):
            centre, size, angle, aspect = (values[t] for values in paths[index])
            centre_px = centre * np.array(out_wh)
            drawn = _draw_sprite(canvas, item, centre_px, size * unit, float(angle), float(aspect), to_px / unit)
            if drawn is None:
                continue
            region, alpha, area = drawn
            owners[t][region][alpha > _VISIBLE_ALPHA] = slot.get(index, NOBODY)
            if index in slot:
                areas[t, slot[index]] = area
        frames[t] = _finish(canvas, scene, float(frame_numbers[t]), noise_rng)
    return _measure(frames, owners, areas)


def _finish(canvas: np.ndarray, scene: Scene, frame: float, rng: np.random.Generator) -> np.ndarray:
    """Blur, light, sensor noise and the marks of compression."""
    if scene.blur:
        canvas = cv2.GaussianBlur(canvas, (3, 3), 0)
    canvas = canvas * (1 + _waves(scene.light, np.array([frame]))[0])
    if scene.noise:
        canvas = canvas + rng.standard_normal(canvas.shape, dtype=np.float32) * scene.noise
    picture = np.clip(canvas, 0, 255).astype(np.uint8)
    if scene.jpeg_quality is None:
        return picture
    _, packed = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, scene.jpeg_quality])
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR))


def _measure(frames: np.ndarray, owners: np.ndarray, areas: np.ndarray) -> RenderedClip:
    num_frames, count = areas.shape
    boxes = np.zeros((num_frames, count, 4), np.float32)
    fraction = np.zeros((num_frames, count), np.float32)
    min_pixels = max(6, owners[0].size // 1600)
    for t in range(num_frames):
        for position in range(count):
            mask = owners[t] == position
            pixels = int(mask.sum())
            if areas[t, position] < 1 or pixels < min_pixels:
                continue
            fraction[t, position] = min(1.0, pixels / areas[t, position])
            if fraction[t, position] >= MIN_VISIBLE_FRACTION:
                boxes[t, position] = _box_of(mask)
    return RenderedClip(frames, boxes, fraction >= MIN_VISIBLE_FRACTION, fraction, owners)
