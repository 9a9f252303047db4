"""Synthetic world: scenes, rendered images with exact boxes, and expressions for their objects."""

from .expressions import WORLD_WORDS, description, referring_expressions, scene_questions, simple_questions
from .render import RenderedClip, render_clip
from .scene import Scene, SceneConfig, World

__all__ = [
    "WORLD_WORDS",
    "RenderedClip",
    "Scene",
    "SceneConfig",
    "World",
    "description",
    "referring_expressions",
    "render_clip",
    "scene_questions",
    "simple_questions",
]
