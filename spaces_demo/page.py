"""The page: a video or image, boxes on its first frame, and a tab for each task. Each button is an API endpoint.

The arguments of a handler (`picture`, `words`) name the endpoint's parameters, which programs use.
"""

import functools
import html
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from elysium.processing.structures import TrackingResult
from elysium.processing.video_io import VideoInfo, VideoReader
from elysium.visualization.annotate import OBJECT_COLORS, annotate_frame

from .components import EXAMPLES, BoxCanvas, Example, ImageInput, LiveFrames, example_boxes, parts
from .limits import Limits, RefusedError, check_boxes, check_media, check_prompts, check_question, naming
from .models import ModelRegistry, Tasks
from .tracks import FrameRecorder, small_jpeg, summary_html, timeline_colors, timeline_rows, write_files

log = logging.getLogger(__name__)

TITLE = "Elysium"
CHAT_MESSAGES = 40  # questions and answers that stay visible
CANVAS_SIDE_PX = 1280
NO_RESULT = (None, None, None, None, None)
INTRODUCTION = """# Elysium
Select an object in a video by a box or a text prompt, and get its box in every frame. Or ground, describe and ask."""
HOW_TO_TRACK = (
    "Draw a box on the first frame for each object, or type text prompts, one per line. With both, line 1 names box 1."
)


@contextmanager
def visible_errors() -> Iterator[None]:
    """Replace errors by what a visitor may see: refusals as they are, others only in the log.

    It decorates handlers, too. Gradio renders messages as HTML.
    """
    try:
        yield
    except RefusedError as error:
        raise gr.Error(html.escape(str(error)), print_exception=False) from error
    except gr.Error:
        raise
    except Exception as error:
        log.error("a request failed", exc_info=error)
        raise gr.Error(
            "something went wrong on the server; try again, or try another file", print_exception=False
        ) from error


class Page:
    """Handlers of the page and the API; they check their inputs.

    Args:
        registry: the models.
        limits: limits of one request.
        work: folder for results until Gradio has copied them.
    """

    def __init__(self, registry: ModelRegistry, limits: Limits, work: Path) -> None:
        self.registry, self.limits, self.work = registry, limits, work
        self.tasks = Tasks(registry, limits)

    def track(
        self,
        video: str | None = None,
        picture: str | None = None,
        words: str | None = None,
        boxes: Any = None,
        model: str | None = None,
    ) -> Iterator[tuple[Any, ...]]:
        """Track objects through a video from text prompts, one per line, boxes in the first frame, or both.

        Yields after every window; the last result has the annotated video, the contact sheet and the files.
        """
        with visible_errors():
            yield from self._track(video, picture, words, boxes, model)

    def _track(
        self, video: str | None, picture: str | None, words: str | None, boxes: Any, model: str | None
    ) -> Iterator[tuple[Any, ...]]:
        path, info = self._media(video, picture, model)
        prompts, drawn = check_prompts(words, self.limits), check_boxes(boxes, info, self.limits)
        total = info.num_frames or 0
        live: dict[str, Any] = {"frames": [], "first": 0, "done": 0, "total": total, "fps": info.fps}
        yield live, "", *NO_RESULT
        with tempfile.TemporaryDirectory(dir=self.work) as folder:
            annotated = Path(folder, f"{path.stem}.tracked.mp4")
            with naming(path), FrameRecorder(path, annotated) as recorder:
                for result in self.tasks.track(path, model, prompts, drawn):
                    first, frames = recorder.num_drawn, recorder.draw(result)
                    live |= {"frames": frames, "first": first, "done": recorder.num_drawn}
                    live["total"] = max(total, recorder.num_drawn)
                    if frames:
                        yield dict(live), *(gr.skip() for _ in range(6))
            live |= {"frames": [], "first": recorder.num_drawn}
            yield live, *self._results(path, result, annotated, total=live["total"])

    def _media(self, video: str | None, picture: str | None, model: str | None) -> tuple[Path, VideoInfo]:
        """Return the checked file of a request, after its model is loaded.

        The model is loaded in this process: a ZeroGPU call runs in a copy of it, without its threads.
        """
        media = check_media(video, picture, self.limits)
        self.registry.tracker(model)
        return media

    def _results(self, path: Path, result: TrackingResult, annotated: Path, *, total: int) -> tuple[Any, ...]:
        """Return the outputs shown below the frames."""
        with naming(path):
            sheet, *files = write_files(path, result, annotated.parent)
        rows, colors = pd.DataFrame(timeline_rows(result)), timeline_colors(result)
        plots = [
            gr.LinePlot(rows[rows["plot"] == plot], color_map={line: colors[line] for line in lines})
            for plot, lines in rows.groupby("plot")["line"].unique().items()
        ]
        summary = summary_html(result, num_frames=total, compute_s=self.limits.compute_s)
        return summary, str(annotated), str(sheet), *plots, list(map(str, files))

    @visible_errors()
    def ground(
        self, video: str | None = None, picture: str | None = None, words: str | None = None, model: str | None = None
    ) -> tuple[Any, list[dict[str, Any]]]:
        """Ground text prompts, one per line, in an image or in the first frame of a video."""
        path, _ = self._media(video, picture, model)
        prompts = check_prompts(words, self.limits)
        if not prompts:
            raise RefusedError("there must be an object to find, got none; type text prompts, one per line")
        with naming(path):
            image = _first_frame(path)
            groundings = self.tasks.call(model, "ground_many", [(image, prompt) for prompt in prompts])
        found = [grounding.to_dict() for grounding in groundings]
        boxes, labels = [one["box_xyxy_px"] for one in found], [one["text"] for one in found]
        return annotate_frame(image, boxes, labels, scores=[one["score"] for one in found]), found

    @visible_errors()
    def describe(
        self, video: str | None = None, picture: str | None = None, boxes: Any = None, model: str | None = None
    ) -> str:
        """Describe the object in the first box of an image or of a video's first frame."""
        path, info = self._media(video, picture, model)
        drawn = check_boxes(boxes, info, self.limits)
        if not drawn:
            raise RefusedError("there must be a box to describe, got none; draw one on the first frame")
        with naming(path):
            return self.tasks.call(model, "describe", path, drawn[0])

    @visible_errors()
    def ask(
        self,
        video: str | None = None,
        picture: str | None = None,
        question: str | None = None,
        model: str | None = None,
    ) -> str:
        """Answer a question about a video or image. The model sees no earlier question."""
        path, _ = self._media(video, picture, model)
        question = check_question(question, self.limits)
        with naming(path):
            return self.tasks.call(model, "ask", path, question)

    @visible_errors()
    def show_first_frame(self, video: str | None, picture: str | None) -> dict[str, Any] | None:
        """Return the first frame for the canvas, with the box of an example; None without an upload."""
        if not video and not picture:
            return None
        path, info = check_media(video, picture, self.limits)
        with naming(path):
            shown = small_jpeg(_first_frame(path), side_px=CANVAS_SIDE_PX)
        return {"image": shown, "width": info.width, "height": info.height, "boxes": example_boxes(path)}

    @visible_errors()
    def show_state(self, model: str) -> tuple[str, gr.Timer]:
        """Return the model's state and training data; the timer stops once loading ends."""
        loading = self.registry.start(model)
        if not loading.done():
            state, text = "loading", f"{model} is loading. You can upload and draw meanwhile."
        elif loading.exception() is not None:
            state, text = "failed", f"{model} cannot be loaded here; choose another model."
        else:
            trained_on = loading.result().trained_on
            state, text = "ready", f"{model} is ready{f'; {trained_on}' if trained_on else ''}."
        return f'<p class="state {state}">{html.escape(text)}</p>', gr.Timer(active=state == "loading")

    @staticmethod
    def add_to_chat(chat: list[Any], question: str, answer: str) -> tuple[list[Any], str]:
        """Return the chat with a question and its answer, and an empty field; Gradio renders messages as HTML."""
        user = {"role": "user", "content": html.escape(question.strip(), quote=False)}
        assistant = {"role": "assistant", "content": html.escape(answer, quote=False) or "(empty answer)"}
        return [*chat, user, assistant][-CHAT_MESSAGES:], ""


def _first_frame(path: Path) -> Any:
    """Return the first frame of a video or image, uint8 RGB `(H, W, 3)`.

    Raises:
        VideoError: the file cannot be read.
    """
    with VideoReader(path) as reader:
        return next(iter(reader)).image


def build_page(page: Page) -> gr.Blocks:
    """Build the page with its events."""
    limits = page.limits
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(limits.kept_s // 6, limits.kept_s)) as blocks:
        with gr.Row():
            with gr.Column(scale=3, min_width=300):
                gr.Markdown(INTRODUCTION)
            with gr.Column(scale=1, min_width=220):
                model = gr.Dropdown(page.registry.names, value=page.registry.names[0], label="Model")
        state, timer = gr.HTML(), gr.Timer(1.0)
        video, image, boxes = _build_inputs(page)
        gr.Markdown(limits.sentence(), elem_classes="limits")
        with gr.Tab("Track"):
            _build_track(page, video, image, boxes, model)
        with gr.Tab("Ground"):
            _build_ground(page, video, image, model)
        with gr.Tab("Describe"):
            _build_describe(page, video, image, boxes, model)
        with gr.Tab("Ask"):
            _build_ask(page, video, image, model)
        hidden: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
        for event in (timer.tick, model.change, blocks.load):
            event(page.show_state, model, [state, timer], **hidden)
    return blocks


def _build_inputs(page: Page) -> tuple[gr.Video, ImageInput, BoxCanvas]:
    """Build the upload, the examples and the canvas for the first frame."""
    camera = gr.WebcamOptions(mirror=False, constraints={"audio": False})
    with gr.Row():
        with gr.Column(min_width=300):
            with gr.Tab("Video"):
                video = gr.Video(label="Video", elem_id="video", webcam_options=camera)
            with gr.Tab("Image"):
                image = ImageInput(label="Image", type="filepath", elem_id="image", webcam_options=camera)
            with gr.Row():
                buttons = [gr.Button(f"Example: {example.title}", size="sm", min_width=120) for example in EXAMPLES]
        with gr.Column(min_width=300):
            colors = [color.as_hex() for color in OBJECT_COLORS.colors]
            boxes = BoxCanvas(
                **parts("box_canvas"), colors=colors, most=page.limits.objects, label="Boxes", elem_id="boxes"
            )
    private: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "first_frame", "concurrency_limit": 2}
    for upload in (video, image):
        upload.change(page.show_first_frame, [video, image], boxes, show_progress="minimal", **private)
    for button, example in zip(buttons, EXAMPLES, strict=True):
        button.click(functools.partial(_use_example, example), None, [video, image], **private)
    return video, image, boxes


def _use_example(example: Example) -> tuple[str, None]:
    """Return the example as the video, and no image."""
    return str(example.path), None


def _build_track(page: Page, video: Any, image: Any, boxes: Any, model: Any) -> None:
    """Build the tab that tracks."""
    gr.Markdown(HOW_TO_TRACK)
    prompts = gr.Textbox(label="Text prompts", lines=2, max_lines=page.limits.objects, placeholder="the cup\nthe bird")
    with gr.Row():
        run = gr.Button("Track", variant="primary", elem_id="track")
        stop = gr.Button("Stop", elem_id="stop", scale=0, min_width=90)
    with gr.Row():
        with gr.Column(min_width=300):
            live = LiveFrames(**parts("live_frames"), label="Frames as they are finished", elem_id="live")
        with gr.Column(min_width=300):
            summary = gr.HTML(label="Summary", elem_id="summary")
            files = gr.File(label="Boxes, as elysium track writes them", file_count="multiple", interactive=False)
    with gr.Row():
        annotated = gr.Video(label="Annotated video", interactive=False, autoplay=True, loop=True, min_width=300)
        sheet = gr.Image(label="Contact sheet", type="filepath", interactive=False, min_width=300)
    axes: dict[str, Any] = {"x": "time_s", "y": "px", "color": "line", "x_title": "seconds", "color_title": "object"}
    axes |= {"show_label": False, "min_width": 300}
    with gr.Row():
        centre = gr.LinePlot(title="Centre of the box", label="Centre", y_title="centre, px", **axes)
        size = gr.LinePlot(title="Size of the box", label="Size", y_title="size, px", **axes)
    tracking = run.click(
        page.track,
        [video, image, prompts, boxes, model],
        [live, summary, annotated, sheet, centre, size, files],
        show_progress_on=summary,
        **_model_event("track"),
    )
    stop.click(None, cancels=[tracking])


def _build_ground(page: Page, video: Any, image: Any, model: Any) -> None:
    """Build the tab that grounds."""
    gr.Markdown(
        "Find the objects that text prompts describe, one per line, in the image or in the video's first frame."
    )
    prompts = gr.Textbox(label="Text prompts", lines=2, max_lines=page.limits.objects, placeholder="the cup")
    run = gr.Button("Ground", variant="primary", elem_id="ground")
    with gr.Row():
        drawn = gr.Image(label="Boxes", interactive=False, min_width=300)
        found = gr.JSON(label="Boxes in pixels", min_width=300)
    run.click(page.ground, [video, image, prompts, model], [drawn, found], **_model_event("ground"))


def _build_describe(page: Page, video: Any, image: Any, boxes: Any, model: Any) -> None:
    """Build the tab that describes."""
    gr.Markdown("Draw a box around an object on the first frame to get a description.")
    run = gr.Button("Describe", variant="primary", elem_id="describe")
    description = gr.Textbox(label="Description", interactive=False, elem_id="description")
    run.click(page.describe, [video, image, boxes, model], description, **_model_event("describe"))


def _build_ask(page: Page, video: Any, image: Any, model: Any) -> None:
    """Build the tab that answers questions."""
    gr.Markdown("Ask about the video or image. The model sees no earlier question.")
    chat = gr.Chatbot(label="Questions and answers", height=320, render_markdown=False, buttons=["copy"])
    question = gr.Textbox(label="Question", placeholder="What moves to the left?", max_length=page.limits.question)
    run = gr.Button("Ask", variant="primary", elem_id="ask")
    answer = gr.Textbox(label="Answer", visible=False)
    asking = gr.on(
        [run.click, question.submit],
        page.ask,
        [video, image, question, model],
        answer,
        show_progress_on=chat,
        **_model_event("ask"),
    )
    shown = [chat, question]
    asking.success(page.add_to_chat, [chat, question, answer], shown, queue=False, api_visibility="private")


def _model_event(api_name: str) -> dict[str, Any]:
    """Return the options of an event that uses the model: one request runs at a time."""
    return {"api_name": api_name, "concurrency_id": "model", "concurrency_limit": 1}
