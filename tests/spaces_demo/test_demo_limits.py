"""What the page lets through, and what it says of the rest."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from elysium.processing.video_io import VideoInfo, VideoWriter
from elysium.spaces_demo.limits import (
    Limits,
    RefusedError,
    check_boxes,
    check_image,
    check_media,
    check_prompts,
    check_question,
    check_video,
)

LIMITS = Limits()
INFO = VideoInfo("clip.mp4", 64, 48, 10.0, 4, 0.4)


def write_video(path: Path, *, frames: int = 4, width: int = 64, height: int = 48, fps: float = 10) -> Path:
    with VideoWriter(path, fps, width, height) as writer:
        for number in range(frames):
            writer.write(np.full((height, width, 3), number, np.uint8))
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
    media = check_video(write_video(tmp_path / "a.mp4"), LIMITS)
    assert (media.info.width, media.info.height, media.info.num_frames, media.is_video) == (64, 48, 4, True)


def test_a_picture_passes(tmp_path):
    Image.new("RGB", (32, 24)).save(tmp_path / "a.png")
    media = check_image(tmp_path / "a.png", LIMITS)
    assert (media.info.width, media.info.height, media.is_video) == (32, 24, False)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(video_frames=3), "at most 3 frames, got 4 in a.mp4"),
        (Limits(video_s=0.2), "at most 0.2 s, got 0.4 s in a.mp4"),
        (Limits(video_side_px=63), "at most 63 px, got 64x48"),
        (Limits(video_mb=0), "at most 0 MB, got 0.0 in a.mp4"),
    ],
    ids=["frames", "seconds", "side", "size"],
)
def test_a_video_beyond_a_limit_is_refused_with_the_limit(tmp_path, limits, message):
    with pytest.raises(RefusedError, match=message):
        check_video(write_video(tmp_path / "a.mp4"), limits)


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
        check_video(path, LIMITS)
    assert name in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


def test_a_playlist_is_refused_before_a_decoder_opens_what_it_names(tmp_path, monkeypatch):
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("the decoder was reached")

    monkeypatch.setattr("elysium.spaces_demo.limits.av.open", opened)
    monkeypatch.setattr("elysium.spaces_demo.limits.probe_video", opened)
    path = tmp_path / "a.mp4"
    path.write_bytes(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")
    with pytest.raises(RefusedError, match="another kind of file"):
        check_video(path, LIMITS)


def test_a_picture_that_declares_a_huge_size_is_refused_undecoded(tmp_path):
    with pytest.raises(RefusedError, match="at most 4096 px, got 9000x9000"):
        check_image(huge_png(tmp_path / "a.png", 9000), LIMITS)
    with pytest.raises(RefusedError, match="too large or broken"):
        check_image(huge_png(tmp_path / "b.png", 60_000), LIMITS)


def test_pictures_of_other_kinds_and_animations_are_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    with pytest.raises(RefusedError, match="another kind of file"):
        check_image(tmp_path / "a.png", LIMITS)
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "green")]
    frames[0].save(tmp_path / "b.webp", save_all=True, append_images=frames[1:])
    with pytest.raises(RefusedError, match="must have one frame, got 2 in b.webp"):
        check_image(tmp_path / "b.webp", LIMITS)


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
    assert all(part in said for part in ("30 s", "900 frames", "50 MB", "1920 px", "5 objects", "60 s", "30 minutes"))
