"""The page: a video or image, boxes on its first frame, and a tab for each task. Each button is an API endpoint.

The arguments of a handler (`picture`, `words`) name the endpoint's parameters, which programs use.
"""

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
from elysium.visualization.annotate import OBJECT_COLORS, annotate_frame, object_color

from .components import EXAMPLES, BoxCanvas, ImageInput, LiveFrames, example_boxes, parts
from .limits import (
    Limits,
    RefusedError,
    check_boxes,
    check_media,
    check_prompts,
    check_question,
    check_targets,
    naming,
)
from .models import ModelRegistry, Tasks
from .tracks import TIMELINES, FrameRecorder, small_jpeg, summary_html, timeline_rows, write_files

log = logging.getLogger(__name__)

TITLE = "Elysium"
CANVAS_SIDE_PX = 1280
SHOW, HIDE = gr.update(visible=True), gr.update(visible=False)
INTRODUCTION = """# Elysium
Name an object in a video, or draw a box around it, and get its box in every frame."""
HINTS = {
    "Track": "Draw a box around each object, or type a text prompt a line, or both: line 1 names box 1. "
    "Boxes are more accurate; of text prompts, everyday nouns and colours work best.",
    "Ground": "Find what each line describes in the image or the video's first frame. The checkpoints of the package "
    "draw coarse boxes, and sometimes one around something else.",
    "Describe": "Draw a box to get a noun or two for what is in it. The checkpoints of the package name coloured "
    "shapes; real objects they often mistake.",
    "Ask": "Ask whether something is there, or what colour it is. The checkpoints of the package are often mistaken "
    "and answer few other questions; no earlier question is remembered.",
}


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
            "something went wrong on the server; try again, or try another file",
            print_exception=False,
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
        check_targets(prompts, drawn)
        total = info.num_frames or 0
        live: dict[str, Any] = {"frames": [], "first": 0, "done": 0, "total": total, "fps": info.fps}
        skipped = [gr.skip()] * (len(TIMELINES) + 4)
        yield live, *skipped, SHOW, HIDE
        with tempfile.TemporaryDirectory(dir=self.work) as folder:
            annotated = Path(folder, f"{path.stem}.tracked.mp4")
            with naming(path), FrameRecorder(path, annotated) as recorder:
                for result in self.tasks.track(path, model, prompts, drawn):
                    first, frames = recorder.num_drawn, recorder.draw(result)
                    live |= {"frames": frames, "first": first, "done": recorder.num_drawn}
                    live["total"] = max(total, recorder.num_drawn)
                    if frames:
                        yield dict(live), *skipped, gr.skip(), gr.skip()
            live |= {"frames": [], "first": recorder.num_drawn}
            yield live, *self._results(path, result, annotated, total=live["total"]), HIDE, SHOW

    def _media(self, video: str | None, picture: str | None, model: str | None) -> tuple[Path, VideoInfo]:
        """Return the checked file of a request, after its model is loaded.

        The model is loaded in this process: a ZeroGPU call runs in a copy of it, without its threads.
        """
        media = check_media(video, picture, self.limits)
        self.registry.tracker(model)
        return media

    def _results(self, path: Path, result: TrackingResult, annotated: Path, *, total: int) -> tuple[Any, ...]:
        """Return the outputs shown in place of the live frames."""
        with naming(path):
            sheet, *files = write_files(path, result, annotated.parent)
        rows = pd.DataFrame(timeline_rows(result))
        colors = {str(track.track_id): object_color(track.track_id).as_hex() for track in result.tracks}
        plots = [gr.LinePlot(rows, color_map=colors) for _ in TIMELINES]
        summary = summary_html(result, num_frames=total, compute_s=self.limits.compute_s)
        return summary, str(annotated), str(sheet), *plots, list(map(str, files))

    @visible_errors()
    def ground(
        self, video: str | None = None, picture: str | None = None, words: str | None = None, model: str | None = None
    ) -> tuple[Any, list[dict[str, Any]], Any]:
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
        return annotate_frame(image, boxes, labels, scores=[one["score"] for one in found]), found, SHOW

    @visible_errors()
    def describe(
        self, video: str | None = None, picture: str | None = None, boxes: Any = None, model: str | None = None
    ) -> tuple[str, Any]:
        """Describe the object in the first box of an image or of a video's first frame."""
        path, info = self._media(video, picture, model)
        drawn = check_boxes(boxes, info, self.limits)
        if not drawn:
            raise RefusedError("there must be a box to describe, got none; draw one on the first frame")
        with naming(path):
            return self.tasks.call(model, "describe", path, drawn[0]), SHOW

    @visible_errors()
    def ask(
        self,
        video: str | None = None,
        picture: str | None = None,
        question: str | None = None,
        model: str | None = None,
    ) -> tuple[str, Any]:
        """Answer a question about a video or image. The model sees no earlier question."""
        path, _ = self._media(video, picture, model)
        question = check_question(question, self.limits)
        with naming(path):
            return self.tasks.call(model, "ask", path, question), SHOW

    @visible_errors()
    def show_first_frame(self, video: str | None, picture: str | None) -> tuple[dict[str, Any] | None, Any, Any]:
        """Return the first frame, with the boxes of an example, and show it in place of the upload."""
        if not video and not picture:
            return None, SHOW, HIDE
        path, info = check_media(video, picture, self.limits)
        with naming(path):
            shown = small_jpeg(_first_frame(path), side_px=CANVAS_SIDE_PX)
        frame = {"image": shown, "width": info.width, "height": info.height, "boxes": example_boxes(path)}
        return frame, HIDE, SHOW

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


def _first_frame(path: Path) -> Any:
    """Return the first frame of a video or image, uint8 RGB `(H, W, 3)`.

    Raises:
        VideoError: the file cannot be read.
    """
    with VideoReader(path) as reader:
        return next(iter(reader)).image


def build_page(page: Page) -> gr.Blocks:
    """Build the page with its events: the file on the left, a tab for each task on the right."""
    limits, names = page.limits, page.registry.names
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(limits.kept_s // 6, limits.kept_s)) as blocks:
        with gr.Row():
            gr.Markdown(INTRODUCTION)
            model = gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1, scale=0, min_width=220)
        state, timer = gr.HTML(), gr.Timer(1.0)
        with gr.Row():
            with gr.Column(min_width=340):
                video, image, boxes, upload, frame, another, examples = _build_inputs(page)
            with gr.Column(min_width=340):
                given = [video, image, boxes, model]
                tabs = [build(page, *given) for build in (_build_track, _build_ground, _build_describe, _build_ask)]
        texts = [text for text, _ in tabs if text]
        results = [column for _, columns in tabs for column in columns]
        _build_examples(examples, video, texts)
        private: dict[str, Any] = {"queue": False, "api_visibility": "private"}
        cleared = [None, None, None, SHOW, HIDE, *([""] * len(texts)), *([HIDE] * len(results))]
        another.click(lambda: cleared, None, [video, image, boxes, upload, frame, *texts, *results], **private)
        for event in (timer.tick, model.change, blocks.load):
            event(page.show_state, model, [state, timer], show_progress="hidden", **private)
    return blocks


def _build_inputs(page: Page) -> tuple[Any, ...]:
    """Build the upload, and the canvas for the first frame that takes its place."""
    camera = gr.WebcamOptions(mirror=False, constraints={"audio": False})
    with gr.Column() as upload:
        with gr.Tab("Video"):
            video = gr.Video(label="Video", elem_id="video", webcam_options=camera)
        with gr.Tab("Image"):
            image = ImageInput(label="Image", type="filepath", elem_id="image", webcam_options=camera)
        examples = gr.Row()
        gr.Markdown(page.limits.sentence(), visible=page.limits.public)
    with gr.Column(visible=False) as frame:
        colors = [color.as_hex() for color in OBJECT_COLORS.colors]
        boxes = BoxCanvas(**parts("box_canvas"), colors=colors, most=page.limits.objects, elem_id="boxes")
        another = gr.Button("Choose another file", size="sm", elem_id="another")
    private: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "first_frame", "concurrency_limit": 2}
    for source in (video, image):
        shown = [boxes, upload, frame]
        source.change(page.show_first_frame, [video, image], shown, show_progress_on=source, **private)
    return video, image, boxes, upload, frame, another, examples


def _build_examples(row: gr.Row, video: Any, texts: list[Any]) -> None:
    """Build a button for each example; it fills in the text fields, too."""
    with row:
        for example in EXAMPLES:
            filled = str(example.path), example.prompt, example.prompt, example.question
            button = gr.Button(f"Example: {example.title}", size="sm", min_width=90)
            button.click(lambda filled=filled: filled, None, [video, *texts], api_visibility="private")


def _build_track(page: Page, video: Any, image: Any, boxes: Any, model: Any) -> tuple[Any, list[Any]]:
    """Build the tab that tracks; return its text field and its results."""
    with gr.Tab("Track"):
        gr.Markdown(HINTS["Track"])
        prompts = _prompts(page)
        with gr.Row():
            run = gr.Button("Track", variant="primary", elem_id="track")
            stop = gr.Button("Stop", elem_id="stop", scale=0, min_width=90)
        gr.Markdown(page.limits.track_sentence(), visible=page.limits.public)
        with gr.Column(visible=False) as watching:
            live = LiveFrames(**parts("live_frames"), elem_id="live")
        with gr.Column(visible=False) as finished:
            summary = gr.HTML(elem_id="summary")
            with gr.Tab("Video"):
                annotated = gr.Video(show_label=False, interactive=False, autoplay=True, loop=True)
            with gr.Tab("Contact sheet"):
                sheet = gr.Image(show_label=False, type="filepath", interactive=False)
            with gr.Tab("Plots"), gr.Row():
                axes: dict[str, Any] = {"x": "time_s", "x_title": "s", "y_title": "px", "color": "object"}
                axes |= {"colors_in_legend": [], "height": 190, "min_width": 250}
                plots = [gr.LinePlot(y=value, title=title, **axes) for value, title in TIMELINES.items()]
            files = gr.File(label="Boxes, as elysium track writes them", file_count="multiple", interactive=False)
    results = [live, summary, annotated, sheet, *plots, files, watching, finished]
    tracking = _run(page.track, run, prompts, [video, image, prompts, boxes, model], results)
    stop.click(None, cancels=[tracking])
    return prompts, [watching, finished]


def _build_ground(page: Page, video: Any, image: Any, boxes: Any, model: Any) -> tuple[Any, list[Any]]:
    """Build the tab that grounds; return its text field and its result."""
    with gr.Tab("Ground"):
        gr.Markdown(HINTS["Ground"])
        prompts = _prompts(page)
        run = gr.Button("Ground", variant="primary", elem_id="ground")
        with gr.Column(visible=False) as result:
            drawn = gr.Image(show_label=False, interactive=False)
            found = gr.JSON(label="Boxes in pixels", elem_id="found")
    _run(page.ground, run, prompts, [video, image, prompts, model], [drawn, found, result])
    return prompts, [result]


def _build_describe(page: Page, video: Any, image: Any, boxes: Any, model: Any) -> tuple[None, list[Any]]:
    """Build the tab that describes; return its result."""
    with gr.Tab("Describe"):
        hint = gr.Markdown(HINTS["Describe"])
        run = gr.Button("Describe", variant="primary", elem_id="describe")
        with gr.Column(visible=False) as result:
            description = gr.Textbox(label="Description of box 1", interactive=False, elem_id="description")
    _run(page.describe, run, hint, [video, image, boxes, model], [description, result])
    return None, [result]


def _build_ask(page: Page, video: Any, image: Any, boxes: Any, model: Any) -> tuple[Any, list[Any]]:
    """Build the tab that answers questions; return its text field and its result."""
    with gr.Tab("Ask"):
        gr.Markdown(HINTS["Ask"])
        question = gr.Textbox(label="Question", placeholder="Is there a bird?", max_length=page.limits.question)
        run = gr.Button("Ask", variant="primary", elem_id="ask")
        with gr.Column(visible=False) as result:
            answer = gr.Textbox(label="Answer", interactive=False, elem_id="answer")
    _run(page.ask, run, question, [video, image, question, model], [answer, result])
    return question, [result]


def _prompts(page: Page) -> gr.Textbox:
    """Build a field for text prompts."""
    most = page.limits.objects
    return gr.Textbox(label="Text prompts", lines=2, max_lines=most, placeholder="the cup\nthe bird")


def _run(task: Any, button: gr.Button, field: Any, inputs: list[Any], outputs: list[Any]) -> Any:
    """Run a task by its button or by Enter in its text field, which shows the progress; one request at a time."""
    events = [button.click, *([field.submit] if isinstance(field, gr.Textbox) else [])]
    name = task.__name__
    return gr.on(
        events,
        task,
        inputs,
        outputs,
        api_name=name,
        concurrency_id="model",
        concurrency_limit=1,
        show_progress_on=field,
    )
