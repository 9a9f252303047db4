"""Gradio components of the page: an image input, a canvas to draw boxes, a live player; and the example videos."""

import filecmp
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from gradio.component_meta import ComponentMeta
from gradio.data_classes import ImageData

HERE = Path(__file__).parent


class Example(NamedTuple):
    """Example video: text of its button, file, text prompt, question, and boxes in the first frame."""

    title: str
    name: str
    prompt: str
    question: str
    boxes_xyxy_px: list[list[int]]

    @property
    def path(self) -> Path:
        """Return the video's path."""
        return HERE / "examples" / self.name


EXAMPLES = (
    Example("a bird", "cockatoo.mp4", "the bird", "Is there a bird?", [[113, 0, 470, 360]]),
    Example("a cup", "cup.mp4", "the cup", "What colour is the cup?", []),
    Example("shapes", "shapes.mp4", "the red cross", "What colour is the cross?", [[249, 146, 335, 233]]),
)


def example_boxes(path: Path) -> list[list[int]]:
    """Return the boxes to draw on an example video; empty for other videos."""
    for example in EXAMPLES:
        if path.name == example.name and filecmp.cmp(path, example.path, shallow=False):
            return example.boxes_xyxy_px
    return []


class NoStubs(ComponentMeta):
    """Metaclass that keeps Gradio from writing a `.pyi` file beside the source of a component."""

    def __new__(cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> Any:
        return super(ComponentMeta, cls).__new__(cls, name, bases, attrs)


class ImageInput(gr.Image, metaclass=NoStubs):
    """Input for an image; the handler gets its path, and opens it after its checks."""

    def get_block_name(self) -> str:
        return "image"

    def preprocess(self, payload: ImageData | None) -> str | None:
        return payload.path if payload else None


class BoxCanvas(gr.HTML, metaclass=NoStubs):
    """Canvas to draw boxes on an image with a mouse, finger or pen, or by typing coordinates.

    The page sends ``{"image": data URL, "width", "height", "boxes"}``. The component returns only the boxes:
    ``[[x1, y1, x2, y2], …]`` in pixels of the original.
    """

    def api_info(self) -> dict[str, Any]:
        description = "boxes in the first frame, x1,y1,x2,y2 in pixels of the original"
        items = {"type": "array", "items": {"type": "number"}}
        return {"type": "array", "items": items, "additional_description": description}

    def example_payload(self) -> Any:
        return [[249, 146, 335, 233]]

    example_value = example_payload


class LiveFrames(gr.HTML, metaclass=NoStubs):
    """Player for frames as they arrive.

    The page sends ``{"frames": [data URLs], "done", "total", "fps", "first"}``; a ``first`` of 0 restarts it.
    """

    def api_info(self) -> dict[str, Any]:
        description = "frames finished by the last window, as JPEG data URLs"
        return {"type": "object", "additional_description": description}


def parts(name: str) -> dict[str, Any]:
    """Return the template, style and script of a component, as options of `gr.HTML`."""
    html, css, script = ((HERE / f"{name}.{suffix}").read_text("utf-8") for suffix in ("html", "css", "js"))
    return {"html_template": html, "css_template": css, "js_on_load": script, "apply_default_css": False}
