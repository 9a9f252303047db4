"""Requests that are wrong or meant ill: each is refused with a 4xx in OpenAI's form, and the server goes on."""

import base64
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

MEDIA = Path(__file__).parents[1] / "fixtures" / "media"
URL = "/v1/chat/completions"


def body(**fields: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4} | fields).encode()


def parts(*content: Any) -> bytes:
    return body(messages=[{"role": "user", "content": list(content)}])


def video(url: Any) -> bytes:
    return parts({"type": "video_url", "video_url": {"url": url}})


def image(url: Any) -> bytes:
    return parts({"type": "image_url", "image_url": {"url": url}})


def data(content: bytes, kind: str = "video/mp4") -> str:
    return f"data:{kind};base64," + base64.b64encode(content).decode()


def png_header(side: int) -> bytes:
    """A PNG that claims to be of side x side pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 99) + b"IDAT" + bytes(99)


def broken_png() -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 99, 199)).save(written, "PNG")
    return written.getvalue()[:60] + b"\0" * 40


PLAYLIST = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"
DASH = b'FLV\x01AA<?xml?><MPD profiles="urn:mpeg:dash:profile:isoff-live:2011"><BaseURL>file:///etc/</BaseURL></MPD>'
MP4 = (MEDIA / "shapes.mp4").read_bytes()

HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty body": (b"", "the body must be JSON"),
    "broken JSON": (b'{"messages": [', "the body must be JSON"),
    "not UTF-8": (b'{"messages": "\xff\xfe"}', "the body must be JSON"),
    "JSON nested 100,000 deep": (b"[" * 100_000, "recursion limit exceeded"),
    "nested metadata": (body()[:-1] + b', "metadata": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001, "recursion limit"),
    "an integer of 5,000 digits": (body()[:-1] + b', "seed": ' + b"9" * 5000 + b"}", "number out of range"),
    "a seed beyond 64 bits": (body()[:-1] + b', "seed": 18446744073709551616}', "seed"),
    "NaN": (body()[:-1] + b', "temperature": NaN}', "temperature: Input should be a finite number"),
    "infinity": (body()[:-1] + b', "temperature": 1e999}', "temperature: Input should be a finite number"),
    "half a surrogate pair": (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "the body must be JSON"),
    "a list as the body": (b"[1, 2]", "the request: Input should be an object"),
    "null as the body": (b"null", "the request: Input should be an object"),
    "messages a number": (body(messages=3), "messages: Input should be a valid array"),
    "101 messages": (
        body(messages=[{"role": "user", "content": "a"}] * 101),
        "messages: List should have at most 100",
    ),
    "content a number": (body(messages=[{"role": "user", "content": 3}]), "messages.0.content"),
    "content null": (body(messages=[{"role": "user", "content": None}]), "messages.0.content is required"),
    "no parts": (parts(), "messages.0.content: List should have at least 1"),
    "an unknown part": (parts({"type": "input_audio", "input_audio": {}}), "Input tag 'input_audio'"),
    "a raw path as a part": (parts({"type": "video", "video": "/etc/passwd"}), "Input tag 'video'"),
    "a part that is a string": (parts("hi"), "messages.0.content.0"),
    "a tool's role": (
        body(messages=[{"role": "tool", "content": "a"}]),
        "messages.0.role: Input should be 'system', 'dev",
    ),
    "system last": (
        body(messages=[{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]),
        "roles must be system (first)",
    ),
    "assistant last": (
        body(messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]),
        "the last message must have the role 'user'",
    ),
    "a longer text than the context": (body(messages=[{"role": "user", "content": "a b " * 20_000}]), "a prompt"),
    "tools": (body(tools=[{"type": "function"}]), "tools is not supported by this server"),
    "JSON as the format": (body(response_format={"type": "json_object"}), "response_format is not"),
    "logit_bias": (body(logit_bias={"1": 100}), "logit_bias is not"),
    "a presence penalty": (body(presence_penalty=0.5), "presence_penalty is not"),
    "a generation_config": (body(generation_config='{"max_new_tokens": 9}'), "generation_config is not supported"),
    "two choices": (body(n=2), "n is not supported by this server"),
    "an image of the system": (
        body(messages=[{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "a"}}]}]),
        "a message of the role 'system' must have text alone",
    ),
    "an empty stop string": (body(stop=""), "stop"),
    "frames as text": (body(chat_template_kwargs={"num_frames": "8"}), "chat_template_kwargs.num_frames"),
    "frames and fps": (body(chat_template_kwargs={"num_frames": 2, "fps": 1}), "only one of num_frames and fps"),
    "a template of one's own": (body(chat_template_kwargs={"chat_template": "{{ 1 }}"}), "chat_template is not"),
    "a path outside": (video("/etc/passwd"), "a path must lie in a folder given as --allow-path"),
    "a path upwards": (video(f"{MEDIA}/../../../README.md"), "a path must not contain '..'"),
    "a folder": (video(str(MEDIA)), "a video must be a file"),
    "a device": (video("/dev/zero"), "a path must lie in a folder"),
    "a null byte": (video("a\0.mp4"), "a path must not contain"),
    "a path of 5,000 letters": (video(f"{MEDIA}/{'a' * 5000}"), "a video must be a file"),
    "an address of this machine": (image("http://127.0.0.1:1/a.png"), "host '127.0.0.1' is not allowed here"),
    "another scheme": (video("ftp://example.org/a.mp4"), "a path must lie in"),
    "a data: URL without base64": (video("data:video/mp4,abc"), "a data: URL must be"),
    "a data: URL of nonsense": (video("data:video/mp4;base64,###"), "must be base64 after the comma"),
    "a playlist": (video(data(PLAYLIST)), "which is another kind of file"),
    "a DASH manifest in disguise": (video(data(DASH)), "which is another kind of file"),
    "a list of files": (video(data(b"ffconcat version 1.0\nfile /etc/passwd\n")), "which is another kind of file"),
    "a video of noise": (video(data(MP4[:32] + bytes(range(256)) * 99)), "a video"),
    "an SVG": (image(data(b'<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml")), "another kind"),
    "PostScript": (image(data(b"%!PS-Adobe-3.0 EPSF-3.0\n", "image/png")), "another kind"),
    "an image of 60,000 px": (image(data(png_header(60_000), "image/png")), "an image"),
    "an image of 9,000 px": (image(data(png_header(9_000), "image/png")), "must have at most"),
    "a broken image": (image(data(broken_png(), "image/png")), ""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_request_is_refused_with_the_reason(client, name) -> None:
    sent, reason = HOSTILE[name]
    answer = client.post(URL, content=sent, headers={"Content-Type": "application/json"})
    error = answer.json()["error"]
    assert answer.status_code == 400, answer.text
    assert error["type"] == "invalid_request_error" and reason in error["message"], error
    assert len(error["message"]) < 1000 and "elysium-serve-" not in error["message"]
    assert client.get("/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("method", "route", "options", "status"),
    [
        ("POST", "/reset", {}, 404),
        ("POST", "/load_model", {"json": {"model": "gpt2"}}, 404),
        ("POST", "/v1/completions", {"json": {}}, 404),
        ("POST", "/v1/responses", {"json": {}}, 404),
        ("GET", URL, {}, 405),
        ("GET", "/v1/models/another", {}, 404),
        ("POST", URL, {"content": body()}, 415),
        ("POST", URL, {"content": body(), "headers": {"Content-Type": "text/plain"}}, 415),
        ("POST", URL, {"json": {"model": "another", "messages": [{"role": "user", "content": "a"}]}}, 404),
        ("POST", URL, {"content": b" " * 32_000_001, "headers": {"Content-Type": "application/json"}}, 413),
        (
            "POST",
            URL,
            {"content": (b" " * 1_000_000 for _ in range(33)), "headers": {"Content-Type": "application/json"}},
            413,
        ),
    ],
)
def test_other_refusals_have_the_same_form(client, method, route, options, status) -> None:
    answer = client.request(method, route, **options)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
