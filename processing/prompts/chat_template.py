"""The chat template that is saved with a processor: Vicuna's form, with marks for the assistant's tokens."""

from importlib import resources

SYSTEM_SENTENCE = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


def read_chat_template(system_sentence: str = SYSTEM_SENTENCE) -> str:
    """The Jinja text, with the sentence that stands before every conversation that has no system message."""
    template = resources.files(__package__).joinpath("chat_template.jinja").read_text(encoding="utf-8")
    return template.replace("'@SYSTEM@'", repr(system_sentence))
