# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Processor of Elysium: chat messages with videos, images and boxes in, tensors out; answers in, boxes out."""

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from transformers import BatchFeature, ProcessorMixin
from transformers.image_processing_utils import ImageProcessingMixin
from transformers.image_utils import make_flat_list_of_images
from transformers.processing_utils import MultiModalData
from transformers.video_processing_utils import VideoProcessorMixin

from .boxes_elysium import bin_to_norm, format_box, format_frames, parse_box, parse_frames
from .image_processing_elysium import ElysiumImageProcessor
from .messages_elysium import PlainText, plain_conversation
from .video_processing_elysium import ElysiumVideoProcessor, flat_videos

FRAME_LABELS = ("index", "seconds")
# The one phrasing of each task that is asked at inference; it is saved with the processor.
DEFAULT_TASK_PROMPTS = {
    "rec": "Where is {text}? Give its box.",
    "reg": "Describe the object at {box}.",
    "sot": "Track the object at {box} in Frame 1.",
    "rsot": "Track {text} in the video.",
    "video_reg": "Describe the object at {box} in Frame 1.",
    "video_qa": "{question}",
}
_NEEDS = {"rec": "text", "reg": "box", "sot": "box", "rsot": "text", "video_reg": "box", "video_qa": "question"}
_IMAGE_TASKS = ("rec", "reg")
_ANSWERED = re.compile(r"\[(\d+),(\d+),(\d+),(\d+)\]|none")


class ElysiumProcessor(ProcessorMixin):
    r"""
    Joins an image processor, a video processor and a tokenizer.

    Args:
        num_kept_tokens (`int`): K, placeholders per frame; the model's config has the same field and leads.
        box_rounding (`str`): `floor` or `round`, how boxes are written as integers (see `boxes_elysium`).
        allow_absent (`bool`): whether the model was taught the answer `none`.
        tracking (`dict[str, Any]`): the checkpoint's defaults for tracking, fields of `TrackingOptions` by name, such
            as `{"zoom": 2.0, "absent_log_odds": 0.75}`. What a user sets explicitly wins.
        frame_label (`str`): what stands before a frame's tokens: `index` (`Frame 3: `) or `seconds` (`<1.2s>: `, from
            the video's metadata).
        task_prompts (`dict[str, str]`): the phrasing of each task's question at inference.
    """

    return_mm_token_type_ids = False
    videos_kwargs = {"return_metadata": True}

    def __init__(
        self,
        image_processor: Any = None,
        video_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        num_kept_tokens: int = 108,
        box_rounding: str = "floor",
        allow_absent: bool = True,
        tracking: dict[str, Any] | None = None,
        frame_label: str = "index",
        task_prompts: dict[str, str] | None = None,
        absent_log_odds: float | None = None,  # these two are `tracking` in older checkpoints
        tracking_zoom: float | None = None,
        **kwargs: Any,
    ):
        if frame_label not in FRAME_LABELS:
            raise ValueError(f"frame_label must be one of {FRAME_LABELS}, got {frame_label!r}.")
        self.num_kept_tokens = num_kept_tokens
        self.box_rounding = box_rounding
        self.allow_absent = allow_absent
        older = {"zoom": tracking_zoom, "absent_log_odds": absent_log_odds}
        self.tracking = {name: value for name, value in older.items() if value is not None} | dict(tracking or {})
        self.frame_label = frame_label
        self.task_prompts = dict(DEFAULT_TASK_PROMPTS) | dict(task_prompts or {})
        self.image_token, self.video_token = "<image>", "<video>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        self._plain = PlainText(tokenizer, (self.image_token, self.video_token))
        super().__init__(image_processor, video_processor, tokenizer, chat_template=chat_template)

    # --- loading: transformers' own lookup of a video processor needs torchvision ---
    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> type:
        if argument_name == "tokenizer":
            return super().check_argument_for_proper_class(argument_name, argument)
        base = VideoProcessorMixin if argument_name == "video_processor" else ImageProcessingMixin
        if not isinstance(argument, base):
            raise TypeError(f"{argument_name} must be a {base.__name__}, got {type(argument).__name__}.")
        return base

    @classmethod
    def _get_arguments_from_pretrained(
        cls, pretrained_model_name_or_path: Any, processor_dict: dict | None = None, **kwargs: Any
    ) -> list[Any]:
        subfolder = kwargs.pop("subfolder", "")
        own = {name: value for name, value in kwargs.items() if name != "trust_remote_code"} | {"subfolder": subfolder}
        image_processor = ElysiumImageProcessor.from_pretrained(pretrained_model_name_or_path, **own)
        video_processor = ElysiumVideoProcessor.from_pretrained(pretrained_model_name_or_path, **own)
        tokenizer = cls._load_tokenizer_from_pretrained(
            "tokenizer", pretrained_model_name_or_path, subfolder=subfolder, **kwargs
        )
        return [image_processor, video_processor, tokenizer]

    # --- from placeholders to kept tokens ---
    def validate_inputs(self, images: Any = None, text: Any = None, videos: Any = None, **kwargs: Any) -> None:
        """Refuse placeholders and visuals in different numbers, with both.

        Raises:
            ValueError: those, a text that is no string, or nothing at all.
        """
        if images is None and text is None and videos is None:
            raise ValueError("a processor must get text, images or videos, got none of them")
        if text is None:
            return
        texts = [text] if isinstance(text, str) else list(text)
        if not all(isinstance(each, str) for each in texts):
            raise ValueError(f"text must be a string or a list of strings, got {text!r}")
        num_images = 0 if images is None else len(make_flat_list_of_images(images))
        num_videos = 0 if videos is None else len(flat_videos(videos))
        counts = (("image", self.image_token, num_images), ("video", self.video_token, num_videos))
        for kind, token, count in counts:
            found = sum(each.count(token) for each in texts)
            if found != count:
                raise ValueError(  # in the words of transformers, which callers look for
                    f"{token} tokens in the prompts should be the same as the number of {kind}s, got {found} and "
                    f"{count}; give one {kind} for each"
                )

    def _process_videos(self, videos: Any, **kwargs: Any) -> tuple[BatchFeature, list[str]]:
        processed = self.video_processor(videos, **kwargs)
        counts = [int(count) for count in processed["video_num_frames"]]
        self._warn_beyond_training(max(counts))
        return processed, [self.replace_video_token(processed, number, **kwargs) for number in range(len(counts))]

    def _warn_beyond_training(self, num_frames: int) -> None:
        """Warn where a video has more frames than the model was trained on (Python shows the same warning once)."""
        most = self.max_trained_frames
        if most is not None and num_frames > most:
            warnings.warn(
                f"a video should have at most {most} frames, on which this checkpoint was trained, got {num_frames}; "
                f"boxes and answers may be wrong: pass num_frames={most}, or track long videos with elysium's Tracker",
                stacklevel=3,
            )

    def replace_image_token(self, image_inputs: dict, image_idx: int, **kwargs: Any) -> str:
        return self.image_token * self.num_kept_tokens

    def replace_video_token(self, video_inputs: dict, video_idx: int, **kwargs: Any) -> str:
        num_frames = int(video_inputs["video_num_frames"][video_idx])
        metadata = (video_inputs.get("video_metadata") or [None] * (video_idx + 1))[video_idx]
        return self.expand_frames(num_frames, self._timestamps_s(num_frames, metadata))

    def expand_frames(self, num_frames: int, timestamps_s: Sequence[float] | None = None) -> str:
        """`Frame 1: <video>…<video>, Frame 2: …`, K placeholders a frame; seconds where they are asked for."""
        labels = [f"Frame {number}" for number in range(1, num_frames + 1)]
        if self.frame_label == "seconds":
            if timestamps_s is None:
                raise ValueError("frame_label 'seconds' needs each video's frame rate, got none; pass video_metadata.")
            labels = [f"<{second:.1f}s>" for second in timestamps_s]
        return ", ".join(f"{label}: {self.video_token * self.num_kept_tokens}" for label in labels)

    @property
    def max_trained_frames(self) -> int | None:
        """Most frames of a video that the checkpoint was trained on; None where it does not say."""
        return self.video_processor.max_trained_frames

    def state_trained_frames(self, num_frames: int) -> None:
        """Record that the model is trained on videos of up to ``num_frames`` frames; what it had seen is kept."""
        self.video_processor.max_trained_frames = max(num_frames, self.max_trained_frames or 0)

    def _timestamps_s(self, num_frames: int, metadata: Any) -> list[float] | None:
        if self.frame_label == "index" or metadata is None or metadata.fps is None:
            return None
        if metadata.frames_indices is None:
            return [index / metadata.fps for index in range(num_frames)]
        return [float(second) for second in metadata.timestamps]

    @property
    def unused_input_names(self) -> list[str]:
        return ["video_num_frames"]

    def _get_num_multimodal_tokens(
        self, image_sizes: Any = None, video_sizes: Any = None, **kwargs: Any
    ) -> MultiModalData:
        """Return how many tokens images (H, W) and videos (T, H, W) take: K for each image and frame."""
        counts: dict[str, list[int]] = {}
        if image_sizes is not None:
            counts["num_image_tokens"] = [self.num_kept_tokens] * len(image_sizes)
            counts["num_image_patches"] = [1] * len(image_sizes)
        if video_sizes is not None:
            counts["num_video_tokens"] = [int(size[0]) * self.num_kept_tokens for size in video_sizes]
        return MultiModalData(**counts)

    # --- the one place where prompts are built ---
    def build_question(
        self,
        task: str,
        *,
        text: str | None = None,
        box_xyxy_norm: Sequence[float] | None = None,
        question: str | None = None,
    ) -> str:
        """The question of a task in this processor's phrasing."""
        if task not in self.task_prompts:
            raise ValueError(f"task must be one of {', '.join(self.task_prompts)}, got {task!r}.")
        given = {"text": text, "box": box_xyxy_norm, "question": question}
        needed = _NEEDS[task]
        if given[needed] is None or (needed != "box" and not str(given[needed]).strip()):
            raise ValueError(f"task {task!r} needs {needed}, got {given[needed]!r}.")
        values = {needed: given[needed]}
        if box_xyxy_norm is not None:
            values["box"] = format_box(box_xyxy_norm, rounding=self.box_rounding)
        # Plain replacement: a user's text may hold braces of its own.
        return self.task_prompts[task].replace("{" + needed + "}", str(values[needed]).strip())

    def build_messages(
        self,
        task: str,
        *,
        video: Any = None,
        image: Any = None,
        text: str | None = None,
        box_xyxy_norm: Sequence[float] | None = None,
        question: str | None = None,
        answer: str | None = None,
    ) -> list[dict]:
        """One conversation for `apply_chat_template`.

        Args:
            task: `rec`, `reg` (one image), `sot`, `rsot`, `video_reg` (a video) or `video_qa` (either).
            video: frames (T, H, W, 3) uint8, a list of frames, or a path. A frame list is a video of its own.
            image: one picture.
            text: the expression of `rec` and `rsot`, such as "the red car".
            box_xyxy_norm: the box of `reg`, `sot` and `video_reg`, x1,y1,x2,y2 in 0..1.
            question: the question of `video_qa`.
            answer: adds the assistant's turn (training).

        Raises:
            ValueError: where the task's own inputs are missing.
        """
        if (video is None) == (image is None):
            raise ValueError(f"give exactly one of video and image for task {task!r}.")
        if task in _IMAGE_TASKS and image is None or task not in (*_IMAGE_TASKS, "video_qa") and video is None:
            raise ValueError(f"task {task!r} takes {'an image' if task in _IMAGE_TASKS else 'a video'}.")
        words = self.build_question(task, text=text, box_xyxy_norm=box_xyxy_norm, question=question)
        visual = {"type": "video", "video": video} if image is None else {"type": "image", "image": image}
        messages = [{"role": "user", "content": [visual, {"type": "text", "text": words}]}]
        if answer is not None:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        return messages

    # --- answers ---
    def answer_template(self, num_frames: int) -> dict[str, Any]:
        """The canonical answer of a tracking task as tokens: what `BoxAnswerGrammar` is built from.

        Answers that hold every number, with and without absent frames, are written by the box codec, rendered by the
        chat template and tokenized in their place; each token must belong to one number or to what is between two.

        Args:
            num_frames: T.

        Returns:
            `numbers`: the tokens of 0, 1, 2, ... to 99 (`box_rounding="floor"`) or 100; `comma`: the tokens between
            the numbers of a box; `joints`: T + 1 mappings from (what a frame holds, what the next one holds) to the
            tokens between them, where `start`, `box`, `none` and `end` are held; `min_extent`: the least x2 - x1 and
            y2 - y1 that reads as a box; `absent_log_odds`: as in `tracking`, 0 by default.

        Raises:
            ValueError: ``num_frames`` below 1, or a tokenizer that joins numbers with their neighbours, writes them
                differently from place to place, or does not say which characters a token covers.
        """
        if num_frames < 1:
            raise ValueError(f"num_frames must be 1 or more, got {num_frames}; a window has at least one frame.")
        pieces: dict[tuple, tuple[int, ...]] = {}
        for boxes_bin in self._canonical_answers(num_frames):
            self._cut_answer(boxes_bin, pieces)
        return {
            "numbers": [ids for key, ids in sorted(pieces.items()) if key[0] == "number"],
            "comma": pieces["comma",],
            "joints": [
                {key[2:]: ids for key, ids in pieces.items() if key[:2] == ("joint", frame)}
                for frame in range(num_frames + 1)
            ],
            "min_extent": 0 if self.box_rounding == "floor" else 1,
            "absent_log_odds": self.tracking.get("absent_log_odds", 0.0),
        }

    def _canonical_answers(self, num_frames: int) -> Iterator[list[list[int] | None]]:
        """Boxes of answers in which every number stands, and every order of a box and `none`."""
        top, size = (99 if self.box_rounding == "floor" else 100), 4 * num_frames
        for start in range(0, top + 1, size):
            numbers = [min(start + place, top) for place in range(size)]
            boxes = [numbers[place : place + 4] for place in range(0, size, 4)]
            yield [*boxes]
            if start == 0 and self.allow_absent:
                yield [None] * num_frames
                yield from ([box if frame % 2 == odd else None for frame, box in enumerate(boxes)] for odd in (0, 1))

    def _cut_answer(self, boxes_bin: Sequence[Sequence[int] | None], pieces: dict[tuple, tuple[int, ...]]) -> None:
        """Writes an answer in its place; files its tokens under the number, or what is between two, they belong to."""
        boxes = [None if box is None else bin_to_norm(box, self.box_rounding) for box in boxes_bin]
        answer = format_frames(boxes, rounding=self.box_rounding)
        question: list[dict] = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]
        turn = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
        text = self.apply_chat_template([*question, turn], tokenize=False)
        start = len(self.apply_chat_template(question, add_generation_prompt=True, tokenize=False))
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        spans = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        tokens = [(max(first, start), last, token) for token, (first, last) in spans if last > start]
        for stop, key in _answer_cuts(text, start):
            held = tuple(token for first, _, token in tokens if start <= first < stop)
            split = any(start <= first < stop < last for first, last, _ in tokens)
            if split or pieces.setdefault(key, held) != held:
                raise ValueError(
                    "the tokenizer must write numbers and what stands between them apart and always alike, got "
                    f"{text[start:stop]!r} as {self.tokenizer.convert_ids_to_tokens(held)}; decode without a grammar."
                )
            start = stop

    def post_process_boxes(self, texts: str | Sequence[str], num_frames: int | None = None) -> list[list[dict]]:
        """Reads boxes out of answers.

        Args:
            texts: one decoded answer, or a batch of them.
            num_frames: T for tracking answers; None for an answer of one box (grounding).

        Returns:
            For each answer a list of plain dicts (the fields of `boxes_elysium.BoxReading`), one a frame; a frame
            whose box could not be read has `box_xyxy_norm` None and says why in `status`.
        """
        batch = [texts] if isinstance(texts, str) else list(texts)
        if num_frames is None:
            return [[asdict(parse_box(text, rounding=self.box_rounding))] for text in batch]
        return [
            [asdict(reading) for reading in parse_frames(text, num_frames, rounding=self.box_rounding)]
            for text in batch
        ]

    # --- messages in, tensors out ---
    def apply_chat_template(self, conversation: Any, *args: Any, **kwargs: Any) -> Any:
        """As `ProcessorMixin.apply_chat_template`, with messages checked first: what nothing would read is refused.

        Special tokens in a message, such as `<image>`, are ordinary text (see `messages_elysium`).

        Raises:
            ValueError: see `plain_conversation`.
        """
        batched = isinstance(conversation, list | tuple) and bool(conversation)
        batched = batched and isinstance(conversation[0], list | tuple)
        chats = conversation if batched else [conversation]
        plain = [plain_conversation(messages, self._plain) for messages in chats]
        return super().apply_chat_template(plain if batched else plain[0], *args, **kwargs)

    def __call__(self, images: Any = None, text: Any = None, videos: Any = None, **kwargs: Any) -> BatchFeature:
        """As `ProcessorMixin.__call__`: `text` holds one `<image>` or `<video>` for each image or video.

        Raises:
            ValueError: placeholders and images or videos in different numbers, or a prompt longer than the context.
        """
        inputs = super().__call__(images=images, text=text, videos=videos, **kwargs)
        self._check_context(inputs.get("input_ids", ()))
        return inputs

    def _check_context(self, input_ids: Any) -> None:
        """Refuse a prompt of more tokens than the model has positions, as the tokenizer states them."""
        longest = max(map(len, input_ids), default=0)
        if longest > self.tokenizer.model_max_length:
            raise ValueError(
                f"a prompt must have at most {self.tokenizer.model_max_length} tokens, the model's context, got "
                f"{longest}; shorten the text, or give fewer frames"
            )


def _answer_cuts(text: str, start: int) -> Iterator[tuple[int, tuple]]:
    """Ends of the pieces of the answer that stands in a text from an offset on, and what each piece is."""
    before, frame = "start", 0
    for match in _ANSWERED.finditer(text, start):
        now = "none" if match[1] is None else "box"
        joint = ("joint", frame, before, now)
        if now == "none":
            yield match.end(), joint
        for group in range(1, 5) if now == "box" else ():
            yield match.start(group), joint if group == 1 else ("comma",)
            yield match.end(group), ("number", int(match[group]))
        before, frame = now, frame + 1
    yield len(text), ("joint", frame, before, "end")


__all__ = ["ElysiumProcessor"]
