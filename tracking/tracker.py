"""`Tracker`: track, ground and describe objects, and answer questions, with one model."""

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from elysium.processing.boxes_elysium import px_to_norm
from elysium.processing.pixel_boxes import check_box_xyxy_px
from elysium.processing.structures import Grounding, TrackingResult

from .answering import Answerer, Conversation, Decoding
from .loading import load_checkpoint
from .options import TrackingOptions
from .run import TrackingRun, finish_together, in_batches, keep_finished
from .session import BoxLike, ObjectPrompt, TrackingSession, check_text, object_prompts, to_pixels
from .streams import ASK_FRAMES, DESCRIBE_FRAMES, ImageLike, VideoLike, open_stream, read_image, sample_frames

_GROUND_TOKENS = 40

PromptLike = str | BoxLike | ObjectPrompt
Progress = Callable[[int, int | None], None]
_Item = TypeVar("_Item")


class Tracker:
    """Track, ground, describe and ask with one Elysium model.

        tracker = Tracker.from_pretrained("elysium-small")
        result = tracker.track("video.mp4", text="the red car")
        result.save("boxes.json")

    Boxes are pixels of the video after rotation, x1, y1, x2, y2.

    Args:
        model: `ElysiumForConditionalGeneration`, with adapters or not.
        processor: its `ElysiumProcessor`.
        name: name in results; by default the folder or Hub id that the model came from.
        batch_size: maximum number of windows or questions in one batch.
        decoding: how windows are answered: "fast"; "reference", the same tokens by transformers' `generate` under the
            same grammar; or "plain", `generate` without a grammar, whose answers may be unreadable. Where a model or a
            tokenizer cannot be decoded as requested, the next of the three is used, with a warning that says why.

    Raises:
        TypeError: the model has no `generate`, as what `AutoModel` gives.
        ValueError: model and processor differ in the tokens that they keep of a frame, or in the image size.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        name: str | None = None,
        batch_size: int = 8,
        decoding: Decoding = "fast",
    ) -> None:
        if not callable(getattr(model, "generate", None)):
            raise TypeError(
                f"model must have generate, got {type(model).__name__}, which has no language-modelling head; load it "
                "by ElysiumForConditionalGeneration or AutoModelForImageTextToText (AutoModel gives ElysiumModel)"
            )
        if model.config.num_kept_tokens != processor.num_kept_tokens:
            raise ValueError(
                "model and processor must keep as many tokens of a frame, got num_kept_tokens "
                f"{model.config.num_kept_tokens} and {processor.num_kept_tokens}; load both from one checkpoint"
            )
        side, size = model.config.image_size, processor.video_processor.size
        if (size["height"], size["width"]) != (side, side):
            raise ValueError(
                f"model and processor must have one image size, got {side}x{side} and "
                f"{size['width']}x{size['height']}; load both from one checkpoint"
            )
        self.model, self.processor = model, processor
        self.name = name or model.config.name_or_path or type(model).__name__
        self._answerer = Answerer(model, processor, batch_size=batch_size, decoding=decoding)
        if self._answerer.fallback is not None:
            warnings.warn(
                f"decoding must fit model and tokenizer, got {decoding!r} for {self._answerer.fallback}; windows are "
                f"answered by decoding={self._answerer.decoding!r}",
                stacklevel=2,
            )

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        quantization_config: Any = None,
        batch_size: int = 8,
        decoding: Decoding = "fast",
    ) -> "Tracker":
        """Load a checkpoint from a folder or the Hub.

        Args:
            model: folder; name of a checkpoint that comes with the package; or Hub id `owner/name`.
            device: by default the first GPU where there is one, else the CPU.
            dtype: by default that of the checkpoint.
            quantization_config: of transformers, such as `BitsAndBytesConfig`.
            batch_size: as in the constructor.
            decoding: as in the constructor.

        Raises:
            CheckpointError: what is there is no Elysium checkpoint with safetensors; the message says why.
        """
        loaded, processor = load_checkpoint(model, device=device, dtype=dtype, quantization_config=quantization_config)
        return cls(loaded, processor, name=str(model), batch_size=batch_size, decoding=decoding)

    @property
    def decoding(self) -> Decoding:
        """Return the decoding method of windows."""
        return self._answerer.decoding

    @property
    def options(self) -> TrackingOptions:
        """Return the options that are used where none are given: the checkpoint's, or else the defaults."""
        return TrackingOptions().resolve(self.processor.tracking)

    @property
    def trained_on(self) -> str:
        """Return the checkpoint's sentence about its training data, to be shown beside its results."""
        return self.model.config.trained_on

    def track(
        self,
        video: VideoLike,
        text: str | Sequence[str] | None = None,
        *,
        box_xyxy_px: BoxLike | Sequence[BoxLike] | None = None,
        fps: float | None = None,
        zoom: float | None = None,
        reground: bool | None = None,
        options: TrackingOptions | None = None,
        progress: Progress | None = None,
    ) -> TrackingResult:
        """Track one or several objects through a video, to its end.

        Args:
            video: path, `VideoClip`, or images in order. One frame is enough.
            text: text prompt of an object, or a list of them.
            box_xyxy_px: an object's box in the first frame, or a list of them. Texts given as well are of the same
                objects, in the same order, and detect them again after they were lost.
            fps: frames per second of bare images or of a folder of them; other videos carry their own. Without it a
                folder has 10, and bare images have 1: the time of a frame in seconds is its number.
            zoom: as in `TrackingOptions`; it wins over ``options``.
            reground: as in `TrackingOptions`; it wins over ``options``.
            options: how to track; what it leaves open is the checkpoint's choice (see `options` of the tracker).
            progress: called after each window with the frames that are finished for all objects and the frames that
                the video declares, or None.

        Raises:
            VideoError: the video cannot be read.
            ValueError: an empty text prompt, a box that is not inside the image, neither text nor box, or options that
                `TrackingOptions` refuses.
            BaseException: any other error, such as Ctrl-C or a damaged frame, carries the finished windows:
                ``error.finished`` is a `TrackingResult` with ``complete = False``.
        """
        prompts = object_prompts(text, box_xyxy_px)
        with self._open_run(video, prompts, self._resolve(options, zoom, reground), fps) as run:
            try:
                for _ in run:
                    if progress is not None:
                        progress(run.num_frames_finished, run.num_frames_total)
            except BaseException as error:
                keep_finished(error, run.result())
                raise
        return run.result()

    def iter_track(
        self,
        video: VideoLike,
        text: str | Sequence[str] | None = None,
        *,
        box_xyxy_px: BoxLike | Sequence[BoxLike] | None = None,
        fps: float | None = None,
        zoom: float | None = None,
        reground: bool | None = None,
        options: TrackingOptions | None = None,
    ) -> TrackingRun:
        """Track like `track`, but yield a `WindowResult` whenever a window is finished.

        The input is checked before anything is yielded. `TrackingRun.result` gives what is finished at any time, also
        after Ctrl-C or any other exception.
        """
        prompts = object_prompts(text, box_xyxy_px)
        return self._open_run(video, prompts, self._resolve(options, zoom, reground), fps)

    def track_many(
        self,
        items: Iterable[tuple[VideoLike, PromptLike]],
        *,
        fps: float | None = None,
        zoom: float | None = None,
        reground: bool | None = None,
        options: TrackingOptions | None = None,
        finished: Callable[[int, TrackingResult], object] | None = None,
    ) -> list[TrackingResult]:
        """Track one object in each of many videos, whose windows share the model's batches.

        Args:
            items: pairs of a video and a text, a box, or an `ObjectPrompt`; taken one by one, so that no more than
                ``batch_size`` videos are open.
            fps: as in `track`.
            zoom: as in `track`.
            reground: as in `track`.
            options: as in `track`.
            finished: called with the number of a pair (from 0) and its result when its video is tracked to the end.

        Returns:
            One result for each pair, in their order.

        Raises:
            BatchError: some videos could not be opened or read to their end; all others are finished, in its
                `finished`. The error of an only video is raised as it is.
            BaseException: whatever else stops the work; its `finished` is a list of the results so far.
        """
        resolved = self._resolve(options, zoom, reground)

        def open_run(video: VideoLike, prompt: PromptLike) -> TrackingRun:
            if isinstance(prompt, ObjectPrompt):
                prompts = [prompt]
            else:
                prompts = object_prompts(prompt) if isinstance(prompt, str) else object_prompts(box_xyxy_px=prompt)
            return self._open_run(video, prompts, resolved, fps)

        openers = (partial(open_run, video, prompt) for video, prompt in items)
        return finish_together(self._answerer, openers, at_once=self._answerer.batch_size, finished=finished)

    def ground(self, image: ImageLike, text: str) -> Grounding:
        """Return the box of a text prompt in one image.

        Args:
            image: path, PIL image or uint8 RGB array `(H, W, 3)`.
            text: text prompt such as "the red car".

        Raises:
            VideoError: the file cannot be read.
            ValueError: an empty text, or a video in place of an image.
        """
        return self.ground_many([(image, text)])[0]

    def ground_many(self, items: Iterable[tuple[ImageLike, str]]) -> list[Grounding]:
        """Ground many pairs of an image and a text, in batches.

        Raises:
            BatchError: some images or texts cannot be used; the others are answered, in its `finished`. The error of
                an only item is raised as it is.
        """

        def prepare(item: tuple[ImageLike, str]) -> tuple[Conversation, str, int, int]:
            text, image = check_text(item[1]), read_image(item[0])
            return self.processor.build_messages("rec", image=image, text=text), text, image.shape[1], image.shape[0]

        def answer(batch: list[tuple[Conversation, str, int, int]]) -> list[Grounding]:
            answers = self._answerer.answer((request for request, *_ in batch), max_new_tokens=_GROUND_TOKENS)
            found = []
            for (_, text, width, height), answer in zip(batch, answers, strict=True):
                parsed, score = self._answerer.read_box(answer)
                box, reason = to_pixels(parsed, width, height, allow_absent=self.model.config.allow_absent)
                found.append(Grounding(text, box, math.nan if box is None else score, reason, width, height))
            return found

        return in_batches(items, prepare, answer, batch_size=self._answerer.batch_size)

    def describe(self, video: VideoLike, box_xyxy_px: BoxLike, *, max_new_tokens: int = 64) -> str:
        """Return a description of the object in a box, without a full stop at the end.

        Args:
            video: image or video; of a video at most 8 frames are seen, spread evenly from the first;
                fewer where the checkpoint was trained on fewer.
            box_xyxy_px: the object's box in the first frame.
            max_new_tokens: the description is cut after as many tokens.

        Raises:
            VideoError: the file cannot be read.
            ValueError: the box is not inside the image.
        """
        return self.describe_many([(video, box_xyxy_px)], max_new_tokens=max_new_tokens)[0]

    def describe_many(self, items: Iterable[tuple[VideoLike, BoxLike]], *, max_new_tokens: int = 64) -> list[str]:
        """Describe many pairs of an image or video and a box, in batches; raises as `ground_many`."""

        def prepare(item: tuple[VideoLike, BoxLike]) -> Conversation:
            frames = sample_frames(item[0], min(DESCRIBE_FRAMES, self.processor.max_trained_frames or DESCRIBE_FRAMES))
            height, width = frames.shape[1:3]
            box_xyxy_norm = px_to_norm(check_box_xyxy_px(item[1], width, height), width, height)
            task = "reg" if len(frames) == 1 else "video_reg"
            return self.processor.build_messages(task, **_visual(frames), box_xyxy_norm=box_xyxy_norm)

        return [text.removesuffix(".") for text in self._texts(items, prepare, max_new_tokens)]

    def ask(self, video: VideoLike, question: str, *, max_new_tokens: int = 128) -> str:
        """Answer a question in free text.

        Args:
            video: image or video; of a video as many frames are seen as the checkpoint was trained on, spread
                evenly; 16 where it does not say.
            question: question to answer.
            max_new_tokens: the answer is cut after as many tokens.

        Raises:
            VideoError: the file cannot be read.
            ValueError: an empty question.
        """
        return self.ask_many([(video, question)], max_new_tokens=max_new_tokens)[0]

    def ask_many(self, items: Iterable[tuple[VideoLike, str]], *, max_new_tokens: int = 128) -> list[str]:
        """Answer many pairs of an image or video and a question, in batches; raises as `ground_many`."""

        def prepare(item: tuple[VideoLike, str]) -> Conversation:
            frames = sample_frames(item[0], self.processor.max_trained_frames or ASK_FRAMES)
            question = check_text(item[1], name="question")
            return self.processor.build_messages("video_qa", **_visual(frames), question=question)

        return self._texts(items, prepare, max_new_tokens)

    def _texts(
        self, items: Iterable[_Item], prepare: Callable[[_Item], Conversation], max_new_tokens: int
    ) -> list[str]:
        """Return a text about every item."""

        def answer(batch: list[Conversation]) -> list[str]:
            return [reply.text.strip() for reply in self._answerer.answer(batch, max_new_tokens=max_new_tokens)]

        return in_batches(items, prepare, answer, batch_size=self._answerer.batch_size)

    def _resolve(self, options: TrackingOptions | None, zoom: float | None, reground: bool | None) -> TrackingOptions:
        """Return the options with every field set, keywords first; warn about windows that are too long."""
        given = TrackingOptions(zoom=zoom, reground=reground).explicit()  # type: ignore[arg-type]
        options = dataclasses.replace(options or TrackingOptions(), **given).resolve(self.processor.tracking)
        trained = self.processor.max_trained_frames
        if trained is not None and options.window_frames > trained:
            warnings.warn(
                f"window_frames should be at most {trained}, the frames that this checkpoint was trained on, got "
                f"{options.window_frames}; boxes may be wrong: lower it",
                stacklevel=3,
            )
        return options

    def _open_run(
        self, video: VideoLike, prompts: list[ObjectPrompt], options: TrackingOptions, fps: float | None
    ) -> TrackingRun:
        """Open a video and check the prompts against its size."""
        stream = open_stream(video, fps=fps)
        try:
            longest = min(options.window_frames, stream.num_frames or options.window_frames)
            for text in {prompt.text for prompt in prompts}:
                self._answerer.check_window(text or "it", longest)
            sessions = [
                TrackingSession(
                    prompt,
                    width=stream.width,
                    height=stream.height,
                    track_id=track_id,
                    options=options,
                    allow_absent=self.model.config.allow_absent,
                )
                for track_id, prompt in enumerate(prompts, start=1)
            ]
        except ValueError:
            stream.close()
            raise
        # Frames of a camera are not waited for.
        ahead = options.windows_ahead if stream.is_file and self.decoding == "fast" else 0
        return TrackingRun(self._answerer, stream, sessions, model=self.name, windows_ahead=ahead)


def _visual(frames: Any) -> dict[str, Any]:
    """Return one frame as an image, several as a video."""
    return {"image": frames[0]} if len(frames) == 1 else {"video": frames}
