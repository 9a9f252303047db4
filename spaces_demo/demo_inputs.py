"""The page's own components: uploads that stay files, boxes drawn by hand, frames as they come.

Gradio's own inputs open and convert an upload before a handler sees it; these hand on its path, and nothing more.
"""

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.component_meta import ComponentMeta
from gradio.data_classes import FileData, ImageData

HERE = Path(__file__).parent


class NoStubs(ComponentMeta):
    """For component classes: Gradio would write a `.pyi` file beside their source, also in an installed package."""

    def __new__(cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> Any:
        return super(ComponentMeta, cls).__new__(cls, name, bases, attrs)


def uploaded_path(payload: FileData | ImageData | None, cache: str) -> str | None:
    """The path of an uploaded file, None where there is none.

    Raises:
        gr.Error: a path outside the folder of uploads.
    """
    if payload is None:
        return None
    path = Path(payload.path or "").resolve()
    if Path(cache).resolve() not in path.parents:
        raise gr.Error("a file must be uploaded, got something else; upload it here", print_exception=False)
    return str(path)


class VideoInput(gr.Video, metaclass=NoStubs):
    """A video that was uploaded or recorded, as a path; nothing is converted."""

    def get_block_name(self) -> str:
        return "video"

    def preprocess(self, payload: FileData | None) -> str | None:
        return uploaded_path(payload, self.GRADIO_CACHE)

    def api_info(self) -> dict[str, Any]:
        return super().api_info() | {"additional_description": "an uploaded video"}


class PictureInput(gr.Image, metaclass=NoStubs):
    """A picture that was uploaded or photographed, as a path; it is not opened here."""

    def get_block_name(self) -> str:
        return "image"

    def preprocess(self, payload: ImageData | None) -> str | None:
        return uploaded_path(payload, self.GRADIO_CACHE)

    def api_info(self) -> dict[str, Any]:
        return super().api_info() | {"additional_description": "an uploaded picture"}


class BoxCanvas(gr.HTML, metaclass=NoStubs):
    """A picture to draw boxes on, with a mouse, a finger or a pen, or by typing numbers.

    The page sends it ``{"picture": data URL, "width", "height", "boxes"}``. What comes back is the boxes alone:
    ``[[x1, y1, x2, y2], …]`` in pixels of the original.
    """

    def get_block_name(self) -> str:
        return "html"

    def postprocess(self, value: Any) -> Any:
        return value

    def api_info(self) -> dict[str, Any]:
        return {
            "type": "array",
            "items": {"type": "array", "items": {"type": "number"}},
            "additional_description": "boxes in the first frame, x1,y1,x2,y2 in pixels of the original",
        }

    def example_payload(self) -> Any:
        return [[249, 146, 335, 233]]

    def example_value(self) -> Any:
        return [[249, 146, 335, 233]]


class LiveFrames(gr.HTML, metaclass=NoStubs):
    """Plays frames while they come.

    The page sends ``{"frames": [data URLs], "done", "total", "fps", "first"}``; a ``first`` of 0 begins anew.
    """

    def get_block_name(self) -> str:
        return "html"

    def postprocess(self, value: Any) -> Any:
        return value

    def api_info(self) -> dict[str, Any]:
        return {
            "type": "object",
            "additional_description": "frames finished by the last window, JPEGs as data URLs, and how many are done",
        }


def box_canvas(*, colors: list[str], most: int, **options: Any) -> BoxCanvas:
    """A `BoxCanvas`.

    Args:
        colors: of box 1, 2, 3, …, as CSS writes them.
        most: boxes that can be drawn.
        options: of `gr.HTML`.
    """
    return BoxCanvas(**_parts("box_canvas"), colors=colors, most=most, **options)


def live_frames(**options: Any) -> LiveFrames:
    """A `LiveFrames`, with options of `gr.HTML`."""
    return LiveFrames(**_parts("live_frames"), **options)


def _parts(name: str) -> dict[str, Any]:
    """The three files of a component."""
    html, css, script = ((HERE / f"{name}.{suffix}").read_text("utf-8") for suffix in ("html", "css", "js"))
    return {"html_template": html, "css_template": css, "js_on_load": script, "apply_default_css": False}
