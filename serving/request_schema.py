"""Schema of a chat completion request, in OpenAI's format.

A value that the server does not support is a validation error, never ignored. Two exceptions: `null` counts as absent,
and fields that only label or route a request (`user`, `metadata`, `store`, `service_tier`, `safety_identifier`,
`prompt_cache_key`, `parallel_tool_calls`) have no effect.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

MAX_MESSAGES = 100
MAX_PARTS = 64
MAX_TEXT = 100_000
MAX_FRAMES = 256
MAX_CHOICES = 4
MAX_TOKENS = 32_768
_SEED_RANGE = 2**63
_SHOWN = 80


class _Strict(BaseModel):
    """Base of the JSON objects: no unknown fields, no type conversions, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


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


_Part = Annotated[TextPart | ImagePart | VideoPart, Field(discriminator="type")]
_Text = Annotated[str, Field(max_length=MAX_TEXT), Tag("string")]


def _content_shape(value: Any) -> str:
    return "string" if isinstance(value, str) else "list"


_Content = Annotated[
    _Text | Annotated[list[_Part], Field(min_length=1, max_length=MAX_PARTS), Tag("list")],
    Discriminator(_content_shape),
]
_TextContent = Annotated[
    _Text | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_PARTS), Tag("list")],
    Discriminator(_content_shape),
]


class SystemMessage(_Strict):
    """System message; `developer` is OpenAI's newer name for `system`."""

    role: Literal["system", "developer"]
    content: _TextContent


class UserMessage(_Strict):
    """User message, which may contain images and videos."""

    role: Literal["user"]
    content: _Content


class AssistantMessage(_Strict):
    """Earlier answer of this or another server."""

    role: Literal["assistant"]
    content: _TextContent
    tool_calls: Annotated[list[Any], Field(max_length=0)] = []
    annotations: Annotated[list[Any], Field(max_length=0)] = []


_Message = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]


class TextFormat(_Strict):
    """The only response format: text."""

    type: Literal["text"]


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


_StopString = Annotated[str, Field(min_length=1, max_length=200)]
_Stop = Annotated[
    Annotated[_StopString, Tag("string")] | Annotated[list[_StopString], Field(max_length=4), Tag("list")],
    Discriminator(_content_shape),
]
_Zero = Annotated[float, Field(ge=0, le=0)]
_Label = Annotated[str, Field(max_length=1000)]


class ChatRequest(_Strict):
    """Request for `/v1/chat/completions`."""

    model: Annotated[str, Field(max_length=1000)] | None = None
    messages: Annotated[list[_Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    temperature: (
        Annotated[
            float,
            Field(ge=0, le=100, description="Values below 0.01 are greedy. Defaults to the checkpoint's setting."),
        ]
        | None
    ) = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-_SEED_RANGE, le=_SEED_RANGE - 1)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    stop: _Stop = []
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    chat_template_kwargs: TemplateKwargs = TemplateKwargs()

    # Unsupported features: only the neutral value is accepted.
    logprobs: Literal[False] = False
    top_logprobs: Literal[0] = 0
    response_format: TextFormat = TextFormat(type="text")
    modalities: list[Literal["text"]] = ["text"]
    presence_penalty: _Zero = 0.0
    frequency_penalty: _Zero = 0.0
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] = {}
    tools: Annotated[list[Any], Field(max_length=0)] = []
    functions: Annotated[list[Any], Field(max_length=0)] = []
    tool_choice: Literal["none", "auto"] = "none"
    function_call: Literal["none", "auto"] = "none"

    # Labels without effect.
    user: _Label = ""
    metadata: dict[str, Any] = {}
    store: bool = False
    service_tier: _Label = ""
    safety_identifier: _Label = ""
    prompt_cache_key: _Label = ""
    parallel_tool_calls: bool = True

    @property
    def max_new_tokens(self) -> int | None:
        """Maximum number of new tokens; `max_completion_tokens`, the newer name, takes precedence."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def stop_strings(self) -> list[str]:
        """Strings that end an answer; it is cut before the first of them."""
        return [self.stop] if isinstance(self.stop, str) else list(self.stop)

    @property
    def is_greedy(self) -> bool:
        """Return whether decoding is greedy."""
        return self.top_p is None if self.temperature is None else self.temperature < 0.01

    @model_validator(mode="after")
    def _order_of_roles(self) -> "ChatRequest":
        roles = [message.role for message in self.messages]
        if any(isinstance(message, SystemMessage) for message in self.messages[1:]):
            raise ValueError(f"roles must be system (first), user or assistant, got {', '.join(roles)[:200]}")
        if roles[-1] != "user":
            raise ValueError(f"the last message must have the role 'user', got {roles[-1]!r}; add a user message")
        return self


def parse_request(body: bytes) -> ChatRequest:
    """Return the validated request of a JSON body.

    Raises:
        ValidationError: the body is not JSON or not a supported request (see `describe_errors`).
    """
    return ChatRequest.model_validate_json(body)


def describe_errors(error: ValidationError) -> tuple[str, str | None]:
    """Return an error message for the client, and the path of the field."""
    first, *others = error.errors(include_url=False)
    path, kind = _path(first["loc"]), first["type"]
    field = path or "the request"
    if kind == "json_invalid":
        message = f"the body must be JSON, got: {first['msg'].removeprefix('Invalid JSON: ')}"
    elif kind == "extra_forbidden":
        message = f"{field} is not supported by this server; remove it"
    elif kind == "missing":
        message = f"{field} is required, got nothing; add it"
    elif kind == "union_tag_not_found":
        message = f"{field} must have a {first['ctx']['discriminator']}, got none"
    elif kind == "union_tag_invalid":
        name, tag, expected = (first["ctx"][key] for key in ("discriminator", "tag", "expected_tags"))
        rule = (
            "roles must be system (first), user or assistant"
            if name == "'role'"
            else f"{name} must be one of {expected}"
        )
        message = f"{field}: {rule}, got {_shorten(tag)}"
    elif kind == "value_error":
        message = first["msg"].removeprefix("Value error, ")
    else:
        message = f"{field}: {first['msg']}, got {_shorten(first['input'])}"
        if path is not None and path.split(".")[0] in _ONLY_NEUTRAL:
            message += "; this server does not support it, remove it"
    return message + (f" (and {len(others)} more errors)" if others else ""), path


def _path(location: tuple[str | int, ...]) -> str | None:
    """Return the path of an error, without pydantic's names of union members."""
    kept = [
        str(part)
        for before, part in zip((None, *location), location, strict=False)
        if part not in ("string", "list") and not (isinstance(before, int) and part in _TAGS)
    ]
    return ".".join(kept) or None


_TAGS = ("text", "image_url", "video_url", "system", "developer", "user", "assistant")
_ONLY_NEUTRAL = (
    "logprobs",
    "top_logprobs",
    "response_format",
    "modalities",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "tools",
    "functions",
    "tool_choice",
    "function_call",
)


def _shorten(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float | bool) else type(value).__name__
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
