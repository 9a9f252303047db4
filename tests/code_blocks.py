"""Code blocks of a page in Markdown, as a reader sees them."""

from dataclasses import dataclass

from markdown_it import MarkdownIt


@dataclass(frozen=True)
class CodeBlock:
    """One block.

    Attributes:
        language: the first word behind the fence.
        text: its code.
        line: of the page, from 1, where its code begins.
    """

    language: str
    text: str
    line: int


def code_blocks(page: str) -> list[CodeBlock]:
    """All fenced blocks of a page."""
    fences = [token for token in MarkdownIt().parse(page) if token.type == "fence"]
    return [CodeBlock((fence.info.split() or [""])[0], fence.content, (fence.map or [0])[0] + 2) for fence in fences]
