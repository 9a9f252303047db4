"""The synthetic world through a thermal camera: no colours, only hot and cold, in false colours, blurred and noisy.

A domain that `elysium-tiny` was not trained on, for `research/adapters/adapter_domain.py`.
"""

import dataclasses

import cv2
import numpy as np

from elysium.training.synthetic.dataset import ClipShape, LabelledClip, clip_rows
from elysium.training.synthetic.sprites import SHAPE_MASKS, SPRITE_SIDE, Sprite, make_levels
from research.scenes.views import render_view
from research.scenes.world import StudyConfig, StudyScene, StudyWorld

HEATS = ("hot", "cold")
# Grey values of an object's core and edge, and of everything else: the picture before false colours.
_CORE = {"hot": (175.0, 245.0), "cold": (0.0, 38.0)}
_EDGE = {"hot": (140.0, 165.0), "cold": (45.0, 68.0)}
_GROUND = (70.0, 135.0)
THERMAL_SCENE = StudyConfig(
    num_objects=(3, 5),
    side=(0.16, 0.42),
    speed=(0.02, 0.06),
    share_unnamed=0.2,
    share_leaving=0.15,
    share_occluded=0.3,
    share_camera_motion=1.0,
    frame_steps=(1, 2),
)


def thermal_clip(world: StudyWorld, seed: int, shape: ClipShape, config: StudyConfig = THERMAL_SCENE) -> LabelledClip:
    """The clip of a seed, as a thermal camera sees it: objects are "hot star", "cold ring" and the like.

    Questions on the scene are left out, since they are about colours.
    """
    rng = np.random.default_rng((world.seed, seed, 31))
    scene = _without_colours(world.sample(seed, config), rng)
    clip = render_view(scene, shape.num_frames, (shape.width, shape.height))
    clip.frames = _false_colours(clip.frames[..., 0], rng)
    rows = list(clip_rows(scene, clip, f"{seed:09d}"))
    for row in rows:
        row["metadata"]["questions"] = []
    return LabelledClip(f"{seed:09d}", clip.frames, rows)


def _without_colours(scene: StudyScene, rng: np.random.Generator) -> StudyScene:
    """The scene in grey values that stand for temperatures, before noise."""
    grey = np.full((3, 3), 1 / 3, np.float32)
    low, high = _GROUND
    background = [
        (low + (high - low) / 255 * level.mean(axis=2, keepdims=True)).repeat(3, axis=2).astype(np.uint8)
        for level in scene.background
    ]
    objects = [dataclasses.replace(item, sprite=_thermal_sprite(item.sprite, rng)) for item in scene.objects]
    return dataclasses.replace(scene, objects=objects, background=background, colour_matrix=grey, noise=0.0)


def _thermal_sprite(sprite: Sprite, rng: np.random.Generator) -> Sprite:
    """A named shape is hot or cold, most so at its core; a thing without a name is as warm as the ground."""
    if sprite.kind is None:
        full = sprite.levels[0].astype(np.float32)
        alpha = full[..., 3] / 255
        grey = full[..., :3].mean(axis=2) / np.maximum(alpha, 1 / 255)
        low, high = _GROUND
        warmth = low + (high - low) / 255 * np.clip(grey, 0, 255)
        return Sprite(make_levels(warmth[..., None].repeat(3, axis=2), alpha))
    heat = HEATS[int(rng.integers(len(HEATS)))]
    core, edge = rng.uniform(*_CORE[heat]), rng.uniform(*_EDGE[heat])
    axis = np.linspace(-1, 1, SPRITE_SIDE, dtype=np.float32)
    y, x = rng.uniform(-0.3, 0.3, 2)
    glow = np.exp(-((axis[None, :] - x) ** 2 + (axis[:, None] - y) ** 2) / rng.uniform(0.3, 0.9))
    warmth = edge + (core - edge) * glow
    return Sprite(make_levels(warmth[..., None].repeat(3, axis=2), SHAPE_MASKS[sprite.kind]), heat, sprite.kind)


def _false_colours(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Temperatures (T, H, W) as a cheap camera shows them: uint8 RGB (T, H, W, 3)."""
    num_frames, height, width = grey.shape
    blur = rng.uniform(0.8, 2.0) * height / 120
    columns = rng.normal(0, rng.uniform(4, 10), (1, width)) + rng.normal(0, 5, (height, 1))  # the sensor's own pattern
    noise = rng.uniform(8, 20)
    drift = rng.normal(0, 3, num_frames)
    shown = np.empty((num_frames, height, width, 3), np.uint8)
    for t in range(num_frames):
        picture = cv2.GaussianBlur(grey[t].astype(np.float32), (0, 0), blur)
        picture = picture + columns + drift[t] + rng.normal(0, noise, (height, width))
        levels = np.clip(picture, 0, 255).astype(np.uint8)
        shown[t] = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return shown
