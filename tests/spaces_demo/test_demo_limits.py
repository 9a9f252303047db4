"""What the page lets through, and what it says of the rest."""

import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from elysium.processing.video_io import VideoInfo, VideoWriter
from elysium.spaces_demo.limits import (
    OWN_MACHINE,
    Limits,
    RefusedError,
    check_boxes,
    check_media,
    check_prompts,
    check_question,
)

LIMITS = Limits()
INFO = VideoInfo("clip.mp4", 64, 48, 10.0, 4, 0.4)


def write_video(path: Path, *, frames: int = 4, width: int = 64, height: int = 48, fps: float = 10) -> Path:
    with VideoWriter(path, fps, width, height) as writer:
        for number in range(frames):
            writer.write(np.full((height, width, 3), number % 256, np.uint8))
    return path


def huge_png(path: Path, side: int) -> Path:
    """A PNG whose header declares a side that its few bytes of content do not have."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(b"\0" * 100), b"IEND"]
    framed = b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + framed)
    return path


# --- files ---
def test_a_video_within_the_limits_passes_with_its_size(tmp_path):
    path, info = check_media(str(write_video(tmp_path / "a.mp4")), None, LIMITS)
    assert (path.name, info.width, info.height, info.num_frames) == ("a.mp4", 64, 48, 4)


def test_a_picture_passes(tmp_path):
    Image.new("RGB", (32, 24)).save(tmp_path / "a.png")
    path, info = check_media(None, str(tmp_path / "a.png"), LIMITS)
    assert (path.name, info.width, info.height) == ("a.png", 32, 24)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(video_frames=3), "at most 3 frames, got 4 in a.mp4"),
        (Limits(video_s=0.2), "at most 0.2 s, got 0.4 in a.mp4"),
        (Limits(video_pixels=3000), "at most 3000 pixels, got 64x48"),
    ],
    ids=["frames", "seconds", "pixels"],
)
def test_a_video_beyond_a_limit_is_refused_with_the_limit(tmp_path, limits, message):
    with pytest.raises(RefusedError, match=message):
        check_media(str(write_video(tmp_path / "a.mp4")), None, limits)


def test_on_the_own_machine_a_video_may_be_long(tmp_path):
    video = str(write_video(tmp_path / "a.mp4", frames=LIMITS.video_frames + 1, width=16, height=16))
    with pytest.raises(RefusedError, match="at most 900 frames, got 901"):
        check_media(video, None, LIMITS)
    assert check_media(video, None, OWN_MACHINE)[1].num_frames == 901
    assert LIMITS.public and not OWN_MACHINE.public


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.mp4", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"),
        ("a.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n"),
        ("a.mp4", b"<html><script>alert(1)</script></html>"),
        ("a.mp4", b"\x7fELF" + bytes(100)),
        ("a.mp4", b""),
        ("a.m3u8", b"\0\0\0\x18ftypisom" + bytes(100)),
        ("a.mp4", b"\0\0\0\x18ftypisom" + bytes(100)),
    ],
    ids=["playlist", "list of files", "web page", "program", "empty", "another suffix", "broken"],
)
def test_what_is_no_video_is_refused_without_its_path(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RefusedError) as refused:
        check_media(str(path), None, LIMITS)
    assert name in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


def test_a_playlist_is_refused_before_a_decoder_opens_what_it_names(tmp_path, monkeypatch):
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("the decoder was reached")

    monkeypatch.setattr("elysium.processing.untrusted_media.probe_video", opened)
    write_video(tmp_path / "named.mp4")
    path = tmp_path / "a.mp4"
    path.write_text("ffconcat version 1.0\nfile named.mp4\n")
    with av.open(str(path)) as followed:  # as FFmpeg does by itself
        assert followed.streams.video
    with pytest.raises(RefusedError, match="another kind"):
        check_media(str(path), None, LIMITS)


def test_a_picture_that_declares_a_huge_size_is_refused_undecoded(tmp_path):
    with pytest.raises(RefusedError, match="at most 16777216 pixels, got 9000x9000"):
        check_media(None, str(huge_png(tmp_path / "a.png", 9000)), LIMITS)
    with pytest.raises(RefusedError, match="must have a usual size, got b.png"):
        check_media(None, str(huge_png(tmp_path / "b.png", 60_000)), LIMITS)


def test_a_picture_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    with pytest.raises(RefusedError, match="an image must be PNG, JPEG or WebP, got a.png, which is"):
        check_media(None, str(tmp_path / "a.png"), LIMITS)


def test_one_file_must_be_given(tmp_path):
    with pytest.raises(RefusedError, match="got none"):
        check_media(None, None, LIMITS)
    with pytest.raises(RefusedError, match="got both"):
        check_media("a.mp4", "b.png", LIMITS)
    with pytest.raises(RefusedError, match="was removed; upload it again"):
        check_media(str(tmp_path / "gone.mp4"), None, LIMITS)


# --- words, questions and boxes ---
def test_words_are_lines_without_control_characters():
    assert check_prompts("a\x00cup\r\n\n  dog ", LIMITS) == ["a cup", "dog"]
    assert check_prompts(None, LIMITS) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("a\n" * 6, "at most 5 objects, got 6"),
        ("a" * 121, "at most 120 characters, got 121"),
        ("a" * 10**7, "characters"),
    ],
    ids=["lines", "letters", "endless"],
)
def test_too_many_words_are_refused(words, message):
    with pytest.raises(RefusedError, match=message):
        check_prompts(words, LIMITS)


@pytest.mark.parametrize("question", [None, "", " \x07 ", "a" * 301])
def test_an_empty_or_endless_question_is_refused(question):
    with pytest.raises(RefusedError, match="question"):
        check_question(question, LIMITS)


def test_boxes_pass_as_numbers():
    assert check_boxes([[1, 2, 30.5, 40]], INFO, LIMITS) == [(1.0, 2.0, 30.5, 40.0)]
    assert check_boxes(None, INFO, LIMITS) == []


@pytest.mark.parametrize(
    "boxes",
    [
        "1,2,3,4",
        {"picture": "x"},
        [[1, 2, 3]],
        [["1", 2, 3, 4]],
        [[True, 2, 3, 4]],
        [[1, 2, float("nan"), 4]],
        [[1, 2, 1e400, 4]],
        [[30, 2, 3, 40]],
        [[0, 0, 80, 48]],
        [[0, 0, 8, 8]] * 6,
        17,
    ],
)
def test_boxes_that_cannot_be_are_refused(boxes):
    with pytest.raises(RefusedError):
        check_boxes(boxes, INFO, LIMITS)


def test_the_limits_are_said_in_words():
    said = LIMITS.sentence()
    assert all(
        part in said for part in ("30 s", "900 frames", "50 MB", "3.7 megapixels", "5 objects", "60 s", "30 minutes")
    )
