"""Construction of the processor that fits a model's configuration, with its chat template in Vicuna's form."""

from importlib import resources
from typing import Any

from .image_processing_elysium import ElysiumImageProcessor
from .processing_elysium import ElysiumProcessor
from .video_processing_elysium import ElysiumVideoProcessor

PLACEHOLDERS = ("<image>", "<video>")
SYSTEM_SENTENCE = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


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
    side = config.image_size
    tokenizer.model_max_length = config.text_config.max_position_embeddings  # longer prompts are refused
    image_settings = {"size": {"height": side, "width": side}} | image_settings
    return ElysiumProcessor(
        image_processor=ElysiumImageProcessor(**image_settings),
        video_processor=ElysiumVideoProcessor(max_trained_frames=max_trained_frames, **image_settings),
        tokenizer=tokenizer,
        chat_template=read_chat_template(space_after_bos(tokenizer)),
        num_kept_tokens=config.num_kept_tokens,
        box_rounding=config.box_rounding,
        allow_absent=config.allow_absent,
    )


def read_chat_template(after_bos: str = "") -> str:
    """Return the Jinja text, with text after the BOS token (see `space_after_bos`)."""
    template = resources.files(__package__).joinpath("prompts/chat_template.jinja").read_text(encoding="utf-8")
    template = template.replace("'@SYSTEM@'", repr(SYSTEM_SENTENCE))
    return template.replace("{{- bos_token -}}", f"{{{{- bos_token + {after_bos!r} -}}}}") if after_bos else template


def space_after_bos(tokenizer: Any) -> str:
    """Return the separator needed after the BOS token so that the first word is tokenized as at the start of a text.

    Llama's tokenizer reads the first word of a text with a space before it. After a ``<s>`` that the template writes,
    that word is no longer the first, and the space has to be written.
    """
    begin, word = tokenizer.bos_token, SYSTEM_SENTENCE.split()[0]
    if not begin:
        return ""
    expected = [tokenizer.bos_token_id, *tokenizer(word, add_special_tokens=False)["input_ids"]]
    spaces = ("", " ")
    return next(
        (s for s in spaces if tokenizer(begin + s + word, add_special_tokens=False)["input_ids"] == expected), ""
    )
