"""The synthetic world: scenes, their pictures with exact boxes, and words for what is in them."""

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
