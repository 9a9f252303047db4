"""Gradio components of the page: file inputs, a canvas to draw boxes, a live player; and the example videos.

Gradio's own inputs decode and convert an upload before a handler runs; these only pass its path.
"""

import filecmp
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.component_meta import ComponentMeta
from gradio.data_classes import FileData, ImageData

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Example:
    """Example video with a first box.

    Args:
        title: text of its button.
        path: video file.
        box_xyxy_px: box of an object in the first frame.
    """

    title: str
    path: Path
    box_xyxy_px: tuple[int, int, int, int]


EXAMPLES = (
    Example("coloured shapes", HERE / "examples" / "shapes.mp4", (249, 146, 335, 233)),
    Example("a cup", HERE / "examples" / "cup.mp4", (307, 124, 414, 383)),
)


def example_boxes(path: Path) -> list[list[int]]:
    """Return the boxes to draw on an example video; empty for other videos."""
    for example in EXAMPLES:
        if path.name == example.path.name and filecmp.cmp(path, example.path, shallow=False):
            return [list(example.box_xyxy_px)]
    return []


class NoStubs(ComponentMeta):
    """Metaclass that keeps Gradio from writing a `.pyi` file beside the source of a component."""

    def __new__(cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> Any:
        return super(ComponentMeta, cls).__new__(cls, name, bases, attrs)


def uploaded_path(payload: FileData | ImageData | None, cache: str) -> str | None:
    """Return the path of an uploaded file, None without one.

    Raises:
        gr.Error: the path is outside the folder of uploads.
    """
    if payload is None:
        return None
    path = Path(payload.path or "").resolve()
    if Path(cache).resolve() not in path.parents:
        raise gr.Error("a file must be uploaded, got something else; upload it here", print_exception=False)
    return str(path)


class VideoInput(gr.Video, metaclass=NoStubs):
    """Input for an uploaded or recorded video; the handler gets its path."""

    def get_block_name(self) -> str:
        return "video"

    def preprocess(self, payload: FileData | None) -> str | None:
        return uploaded_path(payload, self.GRADIO_CACHE)

    def api_info(self) -> dict[str, Any]:
        return super().api_info() | {"additional_description": "an uploaded video"}


class ImageInput(gr.Image, metaclass=NoStubs):
    """Input for an uploaded or photographed image; the handler gets its path."""

    def get_block_name(self) -> str:
        return "image"

    def preprocess(self, payload: ImageData | None) -> str | None:
        return uploaded_path(payload, self.GRADIO_CACHE)

    def api_info(self) -> dict[str, Any]:
        return super().api_info() | {"additional_description": "an uploaded image"}


class BoxCanvas(gr.HTML, metaclass=NoStubs):
    """Canvas to draw boxes on an image with a mouse, finger or pen, or by typing coordinates.

    The page sends ``{"image": data URL, "width", "height", "boxes"}``. The component returns only the boxes:
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
    """Player for frames as they arrive.

    The page sends ``{"frames": [data URLs], "done", "total", "fps", "first"}``; a ``first`` of 0 restarts it.
    """

    def get_block_name(self) -> str:
        return "html"

    def postprocess(self, value: Any) -> Any:
        return value

    def api_info(self) -> dict[str, Any]:
        return {
            "type": "object",
            "additional_description": "frames finished by the last window, as JPEG data URLs",
        }


def box_canvas(*, colors: list[str], most: int, **options: Any) -> BoxCanvas:
    """Build a `BoxCanvas`.

    Args:
        colors: CSS colors of box 1, 2, 3, …
        most: maximum number of boxes.
        options: options of `gr.HTML`.
    """
    return BoxCanvas(**_parts("box_canvas"), colors=colors, most=most, **options)


def live_frames(**options: Any) -> LiveFrames:
    """Build a `LiveFrames` with options of `gr.HTML`."""
    return LiveFrames(**_parts("live_frames"), **options)


def _parts(name: str) -> dict[str, Any]:
    """Return a component's template, style and script."""
    html, css, script = ((HERE / f"{name}.{suffix}").read_text("utf-8") for suffix in ("html", "css", "js"))
    return {"html_template": html, "css_template": css, "js_on_load": script, "apply_default_css": False}
