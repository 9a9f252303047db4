"""One page for all tests of a process, with the shipped checkpoint behind it, and short clips to send to it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from gradio_client import Client  # noqa: E402  the line above must come first

from elysium.processing.video_io import VideoWriter, read_video  # noqa: E402
from elysium.spaces_demo.server import serve_demo  # noqa: E402

SHAPES = Path(__file__).parent.parent / "fixtures" / "media" / "shapes.mp4"


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Where the page is."""
    with serve_demo(["elysium-tiny"]) as url:
        yield url


@pytest.fixture(scope="session")
def client(address) -> Client:
    """A visitor who uses the API."""
    return Client(address, verbose=False, analytics_enabled=False)


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """The first 20 frames of shapes.mp4."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    found = read_video(SHAPES, max_frames=20)
    with VideoWriter(path, found.fps, found.width, found.height) as writer:
        for frame in found.frames:
            writer.write(frame)
    return path


@pytest.fixture(scope="session")
def picture(clip) -> Path:
    """The first frame of the clip."""
    from PIL import Image

    path = clip.with_name("picture.png")
    Image.fromarray(read_video(clip, max_frames=1).frames[0]).save(path)
    return path
