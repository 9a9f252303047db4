# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Chat messages as the chat template takes them: nothing is dropped in silence, special tokens are text.

A special token that somebody types, such as `<image>` or `</s>`, is ordinary text: a mark is put into it, so that it
is no longer the token, and the tokenizer drops the mark before it splits the text into pieces (`hide_marks`).
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import normalizers

# A noncharacter of Unicode, which no text holds.
MARK = "\ufdd0"
_SOURCES = {"image": ("image", "url", "path", "base64"), "video": ("video", "url", "path")}
_KINDS = "text, image, video, image_url or video_url"
_ROLES = ("system", "user", "assistant")


class PlainText:
    """Mark texts so that no special token of a tokenizer can come of them.

    Args:
        tokenizer: whose special tokens are meant; it is made to drop the mark where it can.
        tokens: further special tokens.
    """

    def __init__(self, tokenizer: Any, tokens: Sequence[str] = ()) -> None:
        added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
        special = {*tokenizer.all_special_tokens, *added, *tokens}
        longest_first = sorted(special, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)))
        hide_marks(tokenizer, [self(token) for token in longest_first])

    def __call__(self, text: str) -> str:
        """Return the text with a mark behind the first character of each special token."""
        return self._special.sub(lambda match: match[0][0] + MARK + match[0][1:], text.replace(MARK, ""))


def hide_marks(tokenizer: Any, marked: Sequence[str]) -> None:
    """Make a tokenizer drop marks after it has searched for special tokens, before it splits a text into pieces.

    A tokenizer of another kind, or one in which special tokens would come of marked texts again, is left as it is: the
    marks then are tokens of their own.

    Args:
        tokenizer: of transformers; its normalizer is changed, and saved with it.
        marked: marked special tokens, to try it with.
    """
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if not hasattr(backend, "normalizer"):
        return
    before = backend.normalizer
    if before is not None and json.dumps(MARK)[1:-1] in json.dumps(json.loads(before.__getstate__())):
        return
    drop = normalizers.Replace(MARK, "")
    backend.normalizer = drop if before is None else normalizers.Sequence([drop, before])
    special = set(tokenizer.all_special_ids) | {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    unknown = {tokenizer.unk_token_id}  # what a vocabulary cannot write is unknown with a mark and without
    found = tokenizer(list(marked), add_special_tokens=False)["input_ids"]
    if any(special.difference(unknown).intersection(ids) for ids in found):
        backend.normalizer = before


def plain_conversation(messages: Any, plain: PlainText) -> list[dict[str, Any]]:
    """Return one conversation as the chat template takes it.

    Parts of type `image_url` and `video_url` become images and videos, neighbouring texts one text, and special tokens
    in texts ordinary text. Keys that are None are left out.

    Args:
        messages: dictionaries with `role` and `content`, a string or a list of parts.
        plain: of the tokenizer.

    Raises:
        ValueError: a role, a part or a key of a part that nothing reads, content that is missing, or two sources in
            one part.
    """
    if isinstance(messages, Mapping | str) or not isinstance(messages, Sequence) or not messages:
        raise ValueError(f"a conversation must be a list of messages, got {_shown(messages)}")
    return [_plain_message(message, number, plain) for number, message in enumerate(messages)]


def _plain_message(message: Any, number: int, plain: PlainText) -> dict[str, Any]:
    where = f"message {number + 1}"
    if not isinstance(message, Mapping) or message.get("role") not in _ROLES:
        got = message.get("role") if isinstance(message, Mapping) else message
        raise ValueError(f"roles must be system (first), user or assistant, got {_shown(got)} in {where}")
    role, content = message["role"], message.get("content")
    if role == "system" and number:
        raise ValueError(f"a system message must be the first of a conversation, got one as {where}; put it first")
    for key in ("tool_calls", "function_call"):
        if message.get(key):
            raise ValueError(f"{key} is not supported, got it in {where} ({role}); give what was said as content")
    if isinstance(content, str):
        return {"role": role, "content": plain(content)}
    if isinstance(content, Mapping | bytes) or not isinstance(content, Sequence):
        raise ValueError(f"content must be a text or a list of parts, got {_shown(content)} in {where} ({role})")
    parts: list[dict[str, Any]] = []
    for each in content:
        part = _part(each, where)
        if part["type"] != "text" and role != "user":
            raise ValueError(f"a message of the role {role!r} must hold text, got a part of type {part['type']!r}")
        if part["type"] == "text" and parts and parts[-1]["type"] == "text":
            parts[-1]["text"] += part["text"]
        else:
            parts.append(part)
    return {"role": role, "content": [p | {"text": plain(p["text"])} if p["type"] == "text" else p for p in parts]}


def _part(part: Any, where: str) -> dict[str, Any]:
    """Return one part with the keys that are read; one without a source is a placeholder for an input given apart."""
    if not isinstance(part, Mapping) or "type" not in part:
        raise ValueError(f"a part of a message must be a dictionary with a type ({_KINDS}), got {_shown(part)}")
    held = {key: value for key, value in part.items() if value is not None}
    kind = held.get("type")
    if kind in ("image_url", "video_url"):
        address = held.pop(kind, None)
        address = address.get("url") if isinstance(address, Mapping) else address
        if not isinstance(address, str) or not address:
            raise ValueError(f'{kind} must be {{"url": "…"}} or an address, got {_shown(part.get(kind))} in {where}')
        kind = kind.removesuffix("_url")
        held |= {"type": kind, "url": address}
    if kind == "text":
        if not isinstance(held.get("text"), str):
            raise ValueError(f"the text of a part must be a string, got {_shown(held.get('text'))} in {where}")
    elif kind not in _SOURCES:
        raise ValueError(f"parts of a message must be of type {_KINDS}, got {_shown(kind)} in {where}; leave it out")
    known = ("text",) if kind == "text" else _SOURCES[kind]
    unknown = sorted(set(held) - {"type", *known})
    if unknown:
        raise ValueError(
            f"a part of type {kind!r} must have no keys but {', '.join(known)}, got {', '.join(unknown)} in {where}; "
            "settings such as num_frames go into processor_kwargs"
        )
    given = [key for key in known if key in held]
    if len(given) > 1:
        raise ValueError(f"a part of type {kind!r} must have one source, got {' and '.join(given)} in {where}")
    return {key: str(value) if isinstance(value, Path) else value for key, value in held.items()}


def _shown(value: Any) -> str:
    """Return a value for an error, shortened."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


__all__ = ["MARK", "PlainText", "hide_marks", "plain_conversation"]
