"""Draw the synthetic world: scenes, images with exact boxes, and expressions for their objects."""

from .expressions import referring_expressions, simple_questions
from .render import RenderedClip, render_clip
from .scene import Scene, SceneConfig, World

__all__ = [
    "RenderedClip",
    "Scene",
    "SceneConfig",
    "World",
    "referring_expressions",
    "render_clip",
    "simple_questions",
]
