"""Render a scene: frames, the exact box of every object's visible part, and its visible fraction."""

from dataclasses import dataclass

import cv2
import numpy as np

from .scene import ObjectPath, Scene, SceneObject, waves
from .sprites import SPRITE_SIDE

NOBODY = 255
MIN_VISIBLE_FRACTION = 0.12
_VISIBLE_ALPHA = 127


@dataclass
class RenderedClip:
    """T frames of a scene with O tracked objects.

    Args:
        frames: uint8 (T, H, W, 3) RGB.
        boxes_xyxy_norm: float32 (T, O, 4), 0..1; of the visible part; zeros where not visible (see `visible`).
        visible: bool (T, O): at least 12% of the object can be seen.
        visible_fraction: float32 (T, O), of the object's whole area, parts outside the image counted as hidden.
        owners: uint8 (T, H, W): tracked object that a pixel shows, 255 for none.
    """

    frames: np.ndarray
    boxes_xyxy_norm: np.ndarray
    visible: np.ndarray
    visible_fraction: np.ndarray
    owners: np.ndarray


def _draw_sprite(
    canvas: np.ndarray,
    item: SceneObject,
    centre_px: np.ndarray,
    size_px: float,
    angle: float,
    aspect: float,
    stretch: np.ndarray,
) -> tuple[tuple[slice, slice], np.ndarray, float] | None:
    """Paste a sprite; return its region, its alpha there and its whole area in pixels, None if it is outside."""
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
    view *= 1 - item.opacity * (patch[..., 3:].astype(np.float32) / 255)
    view += patch[..., :3] if item.opacity == 1 else item.opacity * patch[..., :3].astype(np.float32)
    return region, patch[..., 3], area


def _box_of(mask: np.ndarray) -> np.ndarray:
    """Return the box around the true pixels of a mask, x1, y1, x2, y2 in 0..1."""
    height, width = mask.shape
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return np.array(
        [columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height], np.float32
    )


class Renderer:
    """Draw a scene and measure what can be seen of its tracked objects.

    Args:
        scene: what is drawn.
        frames (`np.ndarray` of shape `(T,)`): numbers of the frames, counted from 0.
        out_wh: size of the images in pixels.
    """

    def __init__(self, scene: Scene, frames: np.ndarray, out_wh: tuple[int, int]) -> None:
        self.scene, self.frames, self.out_wh = scene, frames, out_wh
        aspect = out_wh[0] / out_wh[1]
        self.view_wh = np.array([np.sqrt(aspect), 1 / np.sqrt(aspect)])  # in scales: area 1
        self._noise_rng = np.random.default_rng((scene.seed, 4, int(frames[0])))

    def render(self) -> RenderedClip:
        """Return the clip."""
        scene, (width, height), num_frames = self.scene, self.out_wh, len(self.frames)
        to_px = np.array(self.out_wh) / self.view_wh
        unit = float(np.sqrt(to_px.prod()))
        paths = [self.path(item) for item in scene.objects]
        slot = {index: position for position, index in enumerate(scene.tracked)}
        images = np.empty((num_frames, height, width, 3), np.uint8)
        owners = np.full((num_frames, height, width), NOBODY, np.uint8)
        areas = np.zeros((num_frames, len(slot)), np.float32)
        for t in range(num_frames):
            canvas = self.draw_background(t)
            for index, item in enumerate(scene.objects):
                centre, size, angle, aspect = (values[t] for values in paths[index])
                centre_px = centre * np.array(self.out_wh)
                drawn = _draw_sprite(canvas, item, centre_px, size * unit, float(angle), float(aspect), to_px / unit)
                if drawn is None:
                    continue
                region, alpha, area = drawn
                shown = alpha > _VISIBLE_ALPHA
                if item.opacity < 0.5:
                    shown &= owners[t][region] == NOBODY
                owners[t][region][shown] = slot.get(index, NOBODY)
                if index in slot:
                    areas[t, slot[index]] = area
            images[t] = self.finish(canvas, t)
        return _measure(images, owners, areas)

    def path(self, item: SceneObject) -> ObjectPath:
        """Return the path of an object in the images."""
        return item.path(self.scene, self.frames)

    def draw_background(self, t: int) -> np.ndarray:
        """Return the background of a frame, (H, W, 3) in 0..255."""
        centre, span = self.background_window(t)
        step = span / np.array(self.out_wh)
        level = int(np.clip(np.round(np.log2(step.max())), 0, 2))
        source, step, centre = self.scene.background[level], step / 2**level, centre / 2**level
        low = centre - step * np.array(self.out_wh) / 2
        matrix = np.array([[step[0], 0, low[0]], [0, step[1], low[1]]], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        image = cv2.warpAffine(source, matrix, self.out_wh, flags=flags, borderMode=cv2.BORDER_REFLECT)
        return np.clip(cv2.transform(image.astype(np.float32), self.scene.colour_matrix), 0, 255)

    def background_window(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Return centre and size (2,) of the part of the background that a frame shows, in its pixels."""
        scene, frame = self.scene, self.frames[t : t + 1].astype(float)
        side = scene.background[0].shape[0]
        zoom = float(np.exp(waves(scene.camera_zoom, frame)[0]))
        pan = np.array([waves(scene.camera_pan[axis], frame)[0] for axis in range(2)])
        span = scene.background_zoom * side * self.view_wh / self.view_wh.max() / zoom
        return span / 2 + scene.background_start * np.maximum(side - span, 1) - pan * span, span

    def finish(self, canvas: np.ndarray, t: int) -> np.ndarray:
        """Return a drawn frame as uint8, with the scene's blur, light and sensor noise."""
        scene = self.scene
        if scene.blur:
            canvas = cv2.GaussianBlur(canvas, (3, 3), 0)
        canvas = canvas * (1 + waves(scene.light, self.frames[t : t + 1].astype(float))[0])
        if scene.noise:
            canvas = canvas + self._noise_rng.standard_normal(canvas.shape, dtype=np.float32) * scene.noise
        return np.clip(canvas, 0, 255).astype(np.uint8)


def render_clip(scene: Scene, num_frames: int, out_wh: tuple[int, int]) -> RenderedClip:
    """Render the first `num_frames` frames of a scene at `out_wh` pixels."""
    return Renderer(scene, np.arange(num_frames, dtype=np.float64), out_wh).render()


def _measure(frames: np.ndarray, owners: np.ndarray, areas: np.ndarray) -> RenderedClip:
    """Return the clip with the boxes and visible fractions of its objects, whose whole areas (T, O) are in pixels."""
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
