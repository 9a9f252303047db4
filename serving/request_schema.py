"""Schema of a chat completion request, in OpenAI's format.

A value that the server does not support is refused by name, never ignored. Exceptions: `null` and the values of
`NEUTRAL`, which ask for nothing, count as absent; the fields of `LABELS` only label or route a request.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

MAX_TEXT = 100_000
MAX_FRAMES = 256
MAX_TOKENS = 32_768
LABELS = frozenset("user metadata store service_tier safety_identifier prompt_cache_key parallel_tool_calls".split())
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "tool_calls": ([],),
    "annotations": ([],),
}
_SHOWN = 80


class RequestError(ValueError):
    """A request is refused.

    Args:
        message: rule, value and remedy for the client, without paths of the server.
        status: HTTP status.
        param: path of the invalid field.
        code: OpenAI's error code.
        headers: headers of the response.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = "messages",
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.headers = status, param, code, headers


class _Strict(BaseModel):
    """Base of the JSON objects: no unknown fields, no type conversions, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_what_asks_for_nothing(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {
            name: value
            for name, value in data.items()
            if value is not None and (name in cls.model_fields or value not in NEUTRAL.get(name, ()))
        }


class TextPart(_Strict):
    """Part of a message: text."""

    type: Literal["text"]
    text: Annotated[str, Field(max_length=MAX_TEXT)]


class MediaUrl(_Strict):
    """Location of an image or video: a base64 `data:` URL, or a path or URL that the server allows."""

    url: Annotated[str, Field(min_length=1)]
    detail: Literal["auto", "low", "high"] = "auto"


class ImagePart(_Strict):
    """Part of a message: an image."""

    type: Literal["image_url"]
    image_url: MediaUrl


class VideoPart(_Strict):
    """Part of a message: a video."""

    type: Literal["video_url"]
    video_url: MediaUrl


def _as_parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


_Part = Annotated[TextPart | ImagePart | VideoPart, Field(discriminator="type")]
_Parts = Annotated[list[_Part], Field(min_length=1, max_length=64)]


class Message(_Strict):
    """Message of a conversation; `developer` is OpenAI's newer name for `system`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[_Parts, BeforeValidator(_as_parts, json_schema_input_type=_Parts | str)]

    @model_validator(mode="after")
    def _only_users_send_files(self) -> "Message":
        if self.role != "user" and not all(isinstance(part, TextPart) for part in self.content):
            raise ValueError(f"a message of the role {self.role!r} must have text alone; send files as the user")
        return self


class StreamOptions(_Strict):
    """Options of a streamed response."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class TemplateKwargs(_Strict):
    """Frame sampling of each video: a number of frames, or a rate."""

    num_frames: Annotated[int, Field(ge=1, le=MAX_FRAMES)] | None = None
    fps: Annotated[float, Field(ge=0.001, le=240)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "TemplateKwargs":
        if self.num_frames is not None and self.fps is not None:
            raise ValueError("only one of num_frames and fps may be given, got both; remove one")
        return self


def _as_list(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


_Stops = Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=4)]
_TokenCount = Annotated[int, Field(ge=1, le=MAX_TOKENS)]


class ChatRequest(_Strict):
    """Request for `/v1/chat/completions`."""

    model: Annotated[str, Field(max_length=1000)] | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=100)]
    temperature: Annotated[float, Field(ge=0, le=100, description="Values below 0.01 are greedy.")] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    max_tokens: _TokenCount | None = None
    max_completion_tokens: _TokenCount | None = None
    stop: Annotated[_Stops, BeforeValidator(_as_list, json_schema_input_type=_Stops | str)] = []
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    chat_template_kwargs: TemplateKwargs = TemplateKwargs()

    @model_validator(mode="before")
    @classmethod
    def _drop_labels(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if name not in LABELS}

    @model_validator(mode="after")
    def _order_of_roles(self) -> "ChatRequest":
        roles = [message.role for message in self.messages]
        if any(role in ("system", "developer") for role in roles[1:]):
            raise ValueError(f"roles must be system (first), user or assistant, got {', '.join(roles)[:200]}")
        if roles[-1] != "user":
            raise ValueError(f"the last message must have the role 'user', got {roles[-1]!r}; add a user message")
        return self


def parse_request(body: bytes | bytearray) -> ChatRequest:
    """Return the validated request of a JSON body.

    Raises:
        RequestError: the body is not JSON or not a supported request.
    """
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from None


def _refusal(error: ValidationError) -> RequestError:
    """Return the first error as a refusal, with the number of the others."""
    first, *others = error.errors(include_url=False)
    path, kind, message = _path(first["loc"]), first["type"], first["msg"]
    field = path or "the request"
    if kind == "json_invalid":
        message = f"the body must be JSON, got: {message.removeprefix('Invalid JSON: ')}"
    elif kind == "extra_forbidden":
        message = f"{field} is not supported by this server; remove it"
    elif kind == "missing":
        message = f"{field} is required, got nothing; add it"
    elif kind == "value_error":
        message = message.removeprefix("Value error, ")
    elif kind.startswith("union_tag"):
        message = f"{field}: {message}"
    else:
        message = f"{field}: {message}, got {_shorten(first['input'])}"
    more = f" (and {len(others)} more errors)" if others else ""
    return RequestError(message[:500] + more, param=path)


def _path(location: tuple[str | int, ...]) -> str | None:
    """Return the path of an error, without the type of a part, which pydantic puts behind its number."""
    kept = [
        str(part)
        for before, part in zip((None, *location), location, strict=False)
        if not (isinstance(before, int) and part in ("text", "image_url", "video_url"))
    ]
    return ".".join(kept) or None


def _shorten(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float | bool) else type(value).__name__
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
