"""Chat template of a processor: Vicuna's form, with marks for the assistant's tokens."""

from importlib import resources
from typing import Any

SYSTEM_SENTENCE = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


def read_chat_template(system_sentence: str = SYSTEM_SENTENCE, *, after_bos: str = "") -> str:
    """Return the Jinja text.

    Args:
        system_sentence: stands before every conversation that has no system message.
        after_bos: text after the BOS token; see `space_after_bos`.
    """
    template = resources.files(__package__).joinpath("chat_template.jinja").read_text(encoding="utf-8")
    template = template.replace("'@SYSTEM@'", repr(system_sentence))
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
