# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Processor of Elysium: chat messages with videos, images and boxes to tensors, and answers to boxes."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from transformers import BatchFeature, ProcessorMixin
from transformers.image_processing_utils import ImageProcessingMixin
from transformers.image_utils import make_flat_list_of_images
from transformers.processing_utils import MultiModalData
from transformers.video_processing_utils import VideoProcessorMixin

from .answer_tokens_elysium import answer_template
from .boxes_elysium import parse_box, parse_frames
from .image_processing_elysium import ElysiumImageProcessor
from .messages_elysium import PlainText, plain_conversation
from .prompts_elysium import TASKS, TaskPromptsMixin
from .video_processing_elysium import ElysiumVideoProcessor, flat_videos


class ElysiumProcessor(TaskPromptsMixin, ProcessorMixin):
    r"""Join an image processor, a video processor and a tokenizer.

    Args:
        num_kept_tokens (`int`): K, placeholders per frame; the model's config has the same field and leads.
        box_rounding (`str`): `floor` or `round`, how boxes are written as integers (see `boxes_elysium`).
        allow_absent (`bool`): whether the model was trained on the answer `none`.
        tracking (`dict[str, Any]`): the checkpoint's defaults for tracking, fields of `TrackingOptions` by name, such
            as `{"zoom": 2.0, "absent_log_odds": 0.75}`; `score_calibration` maps raw scores of boxes to their expected
            IoU. What a user sets explicitly wins.
        task_prompts (`dict[str, str]`): prompts at inference by task, where they differ from those of `TASKS`.
    """

    return_mm_token_type_ids = False

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
        task_prompts: dict[str, str] | None = None,
        **kwargs: Any,
    ):
        unknown = sorted(set(task_prompts or {}) - set(TASKS))
        if unknown:
            raise ValueError(f"task_prompts must name tasks of {', '.join(TASKS)}, got {', '.join(unknown)}")
        self.num_kept_tokens = num_kept_tokens
        self.box_rounding = box_rounding
        self.allow_absent = allow_absent
        self.tracking = dict(tracking or {})
        self.task_prompts = {name: task.prompt for name, task in TASKS.items()} | dict(task_prompts or {})
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
            raise TypeError(f"{argument_name} must be a {base.__name__}, got {type(argument).__name__}")
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
        """Refuse placeholders and visual inputs in different numbers, and name both.

        Raises:
            ValueError: different numbers, a text that is no string, or no input.
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
        processed = self.video_processor(videos, **(kwargs | {"return_metadata": True}))
        counts = [int(count) for count in processed["video_num_frames"]]
        longest, most = max(counts), self.max_trained_frames
        if most is not None and longest > most:  # Python shows the same warning once
            warnings.warn(
                f"a video should have at most {most} frames, on which this checkpoint was trained, got {longest}; "
                f"boxes and answers may be wrong: pass num_frames={most}, or track long videos with elysium's Tracker",
                stacklevel=3,
            )
        return processed, [self.replace_video_token(processed, number, **kwargs) for number in range(len(counts))]

    def replace_image_token(self, image_inputs: dict, image_idx: int, **kwargs: Any) -> str:
        return self.image_token * self.num_kept_tokens

    def replace_video_token(self, video_inputs: dict, video_idx: int, **kwargs: Any) -> str:
        return self.expand_frames(int(video_inputs["video_num_frames"][video_idx]))

    def expand_frames(self, num_frames: int) -> str:
        """Return `Frame 1: <video>…<video>, Frame 2: …` with K placeholders a frame."""
        tokens = self.video_token * self.num_kept_tokens
        return ", ".join(f"Frame {number}: {tokens}" for number in range(1, num_frames + 1))

    @property
    def max_trained_frames(self) -> int | None:
        """Return the most frames of a video that the checkpoint was trained on, None where unknown."""
        return self.video_processor.max_trained_frames

    def state_trained_frames(self, num_frames: int) -> None:
        """Record that the model is trained on videos of up to ``num_frames`` frames; a larger record is kept."""
        self.video_processor.max_trained_frames = max(num_frames, self.max_trained_frames or 0)

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

    def to_dict(self) -> dict[str, Any]:
        """Return what is saved: of `task_prompts` only those that differ from the defaults."""
        saved = super().to_dict()
        prompts = saved.pop("task_prompts", {})
        changed = {task: prompt for task, prompt in prompts.items() if prompt != TASKS[task].prompt}
        return saved | ({"task_prompts": changed} if changed else {})

    # --- answers ---
    def answer_template(self, num_frames: int) -> dict[str, Any]:
        """Return the canonical answer of a tracking task as tokens; see `answer_tokens_elysium.answer_template`."""
        return answer_template(self, num_frames)

    def post_process_boxes(self, texts: str | Sequence[str], num_frames: int | None = None) -> list[list[dict]]:
        """Parse boxes from answers.

        Args:
            texts: one decoded answer, or a batch of them.
            num_frames: T for tracking answers; None for an answer of one box (grounding).

        Returns:
            For each answer a list of plain dicts (the fields of `boxes_elysium.ParsedBox`), one a frame; a frame
            whose box could not be read has `box_xyxy_norm` None and says why in `status`.
        """
        batch = [texts] if isinstance(texts, str) else list(texts)
        if num_frames is None:
            return [[asdict(parse_box(text, rounding=self.box_rounding))] for text in batch]
        return [[asdict(box) for box in parse_frames(text, num_frames, rounding=self.box_rounding)] for text in batch]

    # --- messages in, tensors out ---
    def apply_chat_template(self, conversation: Any, *args: Any, **kwargs: Any) -> Any:
        """Render or tokenize chats as `ProcessorMixin` does; unknown parts of messages are refused.

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
        """Process inputs as `ProcessorMixin` does; `text` holds one `<image>` or `<video>` for each image or video.

        Raises:
            ValueError: placeholders and images or videos in different numbers, or a prompt longer than the context.
        """
        inputs = super().__call__(images=images, text=text, videos=videos, **kwargs)
        longest, most = max(map(len, inputs.get("input_ids", ())), default=0), self.tokenizer.model_max_length
        if longest > most:
            raise ValueError(
                f"a prompt must have at most {most} tokens, the model's context, got {longest}; shorten the text, or "
                "give fewer frames"
            )
        return inputs


__all__ = ["ElysiumProcessor"]
