"""Construction of the processor that fits a model's configuration."""

from typing import Any

from .image_processing_elysium import ElysiumImageProcessor
from .processing_elysium import ElysiumProcessor
from .prompts.chat_template import read_chat_template, space_after_bos
from .video_processing_elysium import ElysiumVideoProcessor

PLACEHOLDERS = ("<image>", "<video>")


def add_placeholders(tokenizer: Any) -> tuple[int, int]:
    """Add the tokens of images and video frames, and a padding token where there is none; return the first two ids."""
    tokenizer.add_special_tokens({"additional_special_tokens": list(PLACEHOLDERS)})
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    image_id, video_id = tokenizer.convert_tokens_to_ids(PLACEHOLDERS)
    return image_id, video_id


def build_processor(
    config: Any, tokenizer: Any, *, max_trained_frames: int | None = None, **image_settings: Any
) -> ElysiumProcessor:
    """Return a processor that resizes images and frames to the model's square.

    Args:
        config (`ElysiumConfig`): of the model.
        tokenizer: with the tokens ``<image>`` and ``<video>``.
        max_trained_frames: most frames of a video that the weights were trained on; None where it is not known.
        image_settings: further settings of the image and video processor, such as `image_mean` and `image_std`.
    """
    side = config.vision_config.image_size
    tokenizer.model_max_length = config.text_config.max_position_embeddings  # longer prompts are refused
    image_settings = {"size": {"height": side, "width": side}} | image_settings
    return ElysiumProcessor(
        image_processor=ElysiumImageProcessor(**image_settings),
        video_processor=ElysiumVideoProcessor(max_trained_frames=max_trained_frames, **image_settings),
        tokenizer=tokenizer,
        chat_template=read_chat_template(after_bos=space_after_bos(tokenizer)),
        num_kept_tokens=config.num_kept_tokens,
        box_rounding=config.box_rounding,
        allow_absent=config.allow_absent,
    )
