"""Frames that are sought from keyframes are those of a read from the start."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from elysium.processing.containers_elysium import ContainerSource
from elysium.processing.structures import VideoClip
from elysium.processing.video_io import VideoReader, read_video

FIXTURES = Path(__file__).parent.parent / "fixtures"
CLIPS = sorted(path for path in FIXTURES.glob("*/*") if path.suffix in (".mp4", ".avi", ".mkv", ".h264"))
LENGTH = 150


def write_video(path: Path, options: dict[str, str], times: Sequence[int] = range(LENGTH)) -> Path:
    """Write noise that moves, by x264, each frame at its time in 1/25 s."""
    noise = np.random.default_rng(0).integers(0, 255, (48, 64 + LENGTH, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(noise[:, number : number + 64]), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def assert_equal_clips(one: VideoClip, other: VideoClip) -> None:
    """Compare frames, times and indices."""
    np.testing.assert_array_equal(one.frames, other.frames)
    np.testing.assert_array_equal(one.timestamps_s, other.timestamps_s)
    np.testing.assert_array_equal(one.frame_indices, other.frame_indices)


@pytest.fixture
def sequential(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return `read_video` without seeks."""

    def read(path: Path, **choice: Any) -> VideoClip:
        with monkeypatch.context() as patch:
            patch.setattr(ContainerSource, "decode_at", lambda self, wanted: None)
            return read_video(path, **choice)

    return read


@pytest.mark.parametrize("path", CLIPS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_few_frames_of_a_clip_are_those_of_a_read_from_the_start(path: Path, sequential: Any) -> None:
    length = VideoReader(path).count()
    for choice in ({"num_frames": 3}, {"frame_indices": [length - 1]}, {"frame_indices": [length // 2]}):
        assert_equal_clips(read_video(path, **choice), sequential(path, **choice))


@pytest.mark.parametrize(
    ("options", "sought"),
    [
        ({"g": "12", "bf": "0"}, True),
        ({"g": "12", "bf": "3"}, True),
        ({"g": "10", "bf": "3", "x264-params": "open-gop=1:keyint=10:min-keyint=10"}, True),
        ({"g": "1000"}, False),
    ],
    ids=["plain", "reordered", "open groups", "one keyframe"],
)
def test_frames_are_sought_where_keyframes_are_near(
    tmp_path: Path, sequential: Any, options: dict[str, str], sought: bool
) -> None:
    path = write_video(tmp_path / "video.mp4", options)
    assert (ContainerSource(VideoReader(path)._source.file).decode_at([140]) is not None) == sought
    for wanted in ([140], [90, 91, 149], [0, 75, 148], *([number] for number in range(100, 125))):
        assert_equal_clips(read_video(path, frame_indices=wanted), sequential(path, frame_indices=wanted))
    with VideoReader(path) as reader:
        (frame,) = reader.frames([120])
        assert (reader.num_decoded, reader.warnings, frame.duration_s) == (121, [], pytest.approx(0.04))


def test_uneven_times_are_kept(tmp_path: Path, sequential: Any) -> None:
    times = np.cumsum(np.random.default_rng(1).integers(1, 9, LENGTH)).tolist()
    path = write_video(tmp_path / "video.mp4", {"g": "12"}, times)
    for wanted in ([100, 101], [3, 149]):
        assert_equal_clips(read_video(path, frame_indices=wanted), sequential(path, frame_indices=wanted))
        with VideoReader(path) as reader:
            durations = [frame.duration_s for frame in reader.frames(wanted)]
            everything = [frame.duration_s for frame in reader]
        assert durations == [everything[index] for index in wanted]


def test_a_video_that_is_damaged_where_it_is_wanted_is_read_from_the_start(tmp_path: Path, sequential: Any) -> None:
    path = write_video(tmp_path / "video.mp4", {"g": "12"})
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for start, size in places[86:90]:
        content[start : start + size] = bytes(size)
    path.write_bytes(content)
    assert ContainerSource(VideoReader(path)._source.file).decode_at([90]) is None
    assert_equal_clips(read_video(path, frame_indices=[90]), sequential(path, frame_indices=[90]))


def test_an_index_beyond_the_end_is_refused_with_the_count(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mp4", {"g": "12"})
    with pytest.raises(ValueError, match="give indices from 0 to 149"):
        read_video(path, frame_indices=[100, 150])
