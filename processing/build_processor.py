"""The processor that fits a model: what its configuration decides is set here, once."""

from typing import Any

from .image_processing_elysium import ElysiumImageProcessor
from .processing_elysium import ElysiumProcessor
from .prompts.chat_template import read_chat_template, space_after_bos
from .video_processing_elysium import ElysiumVideoProcessor


def build_processor(
    config: Any, tokenizer: Any, *, max_trained_frames: int | None = None, **pictures: Any
) -> ElysiumProcessor:
    """Processor whose pictures are squeezed to the model's square.

    Args:
        config (`ElysiumConfig`): of the model.
        tokenizer: with the tokens ``<image>`` and ``<video>``.
        max_trained_frames: most frames of a video that the weights were trained on; None where it is not known.
        pictures: further settings of the image and video processor, such as `image_mean` and `image_std`.
    """
    side = config.vision_config.image_size
    tokenizer.model_max_length = config.text_config.max_position_embeddings  # longer prompts are refused
    pictures = {"size": {"height": side, "width": side}} | pictures
    return ElysiumProcessor(
        image_processor=ElysiumImageProcessor(**pictures),
        video_processor=ElysiumVideoProcessor(max_trained_frames=max_trained_frames, **pictures),
        tokenizer=tokenizer,
        chat_template=read_chat_template(after_bos=space_after_bos(tokenizer)),
        num_kept_tokens=config.num_kept_tokens,
        box_rounding=config.box_rounding,
        allow_absent=config.allow_absent,
    )
