"""What the encoder is given to write at its limits: sizes, rates, times, disks that fill and folders that vanish."""

import shutil
import subprocess
import sys
import warnings
from fractions import Fraction

import av
import numpy as np
import pytest

from elysium.processing.video_io import OutputError, VideoWriter
from elysium.processing.video_writer import MAX_SIDE_PX, VideoFormat


def grey(width, height, shade=128):
    return np.full((height, width, 3), shade, np.uint8)


def write(path, times_s, *, fps=10.0, width=64, height=48, **options):
    """Writes a frame at each time (None: by the rate) and returns what PyAV reads."""
    with VideoWriter(path, fps, width, height, **options) as writer:
        for position, time_s in enumerate(times_s):
            writer.write(grey(width, height, 40 + position), timestamp_s=time_s)
    return decoded(path)


def decoded(path):
    """Times of the frames, length in seconds, encoded size and shape as shown (width over height)."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times_s = [float(frame.time) for frame in container.decode(stream)]
        aspect = stream.sample_aspect_ratio or Fraction(1)
        size = stream.width, stream.height
        return times_s, container.duration / av.time_base, size, float(aspect * size[0] / size[1])


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 2), (1, 99), (99, 1), (3, 5), (16384, 2), (2, 16384)])
def test_every_size_up_to_the_limit_is_written_with_even_sides(tmp_path, size):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        times_s, _, encoded, _ = write(tmp_path / "a.mp4", [None] * 2, width=size[0], height=size[1])
    assert len(times_s) == 2
    assert encoded == (size[0] + size[0] % 2, size[1] + size[1] % 2)


@pytest.mark.parametrize("size", [(20000, 16), (16, 16385), (17000, 3), (70000, 64)])
def test_frames_above_the_limit_are_scaled_down_in_their_shape_with_a_warning(tmp_path, size):
    width, height = size
    with pytest.warns(UserWarning, match=f"frames of {width}x{height} are above the 16384 pixels"):
        times_s, _, encoded, shape = write(tmp_path / "a.mp4", [None] * 2, width=width, height=height)
    assert len(times_s) == 2
    assert max(encoded) == MAX_SIDE_PX
    assert shape == pytest.approx(width / height, rel=0.01)


@pytest.mark.parametrize("aspect", [Fraction(2), Fraction(64, 45), Fraction(1, 3), Fraction(1001, 1000)])
def test_the_shape_of_a_pixel_is_kept(tmp_path, aspect):
    shape = write(tmp_path / "a.mp4", [None], pixel_aspect=aspect)[3]
    assert shape == pytest.approx(float(aspect) * 64 / 48, rel=1e-3)


@pytest.mark.parametrize("fps", [1 / 3600, 0.1, 7.5, 24000 / 1001, 59.94, 240, 1000, 99_999])
def test_frames_come_at_their_rate_from_one_an_hour_to_slow_motion(tmp_path, fps):
    times_s, length_s, _, _ = write(tmp_path / "a.mp4", [None] * 4, fps=fps)
    assert times_s == pytest.approx([i / fps for i in range(4)], rel=1e-3)
    assert length_s == pytest.approx(4 / fps, rel=1e-3, abs=1e-6)


def test_frames_that_are_hours_apart_keep_their_times(tmp_path):
    times_s = [0, 3600, 8 * 3600, 8 * 3600 + 0.04, 50 * 3600]
    found_s, length_s, _, _ = write(tmp_path / "a.mp4", times_s, fps=25)
    assert found_s == pytest.approx(times_s, abs=1e-3)
    assert length_s == pytest.approx(50 * 3600 + 1 / 25, abs=1e-2)


def test_frames_further_apart_than_an_mp4_can_say_are_refused_and_no_file_is_left(tmp_path):
    with pytest.raises(OutputError, match=r"at most 59\.7 hours apart.*cut the video there"):
        write(tmp_path / "a.mp4", [0, 100 * 3600])
    assert list(tmp_path.iterdir()) == []


def test_the_last_frame_stands_as_long_as_it_is_told_to(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 10, 64, 48) as writer:
        for time_s, duration_s in [(0, 5.0), (0.2, None), (0.3, 3.0)]:
            writer.write(grey(64, 48), timestamp_s=time_s, duration_s=duration_s)
    times_s, length_s, _, _ = decoded(tmp_path / "a.mp4")
    assert times_s == pytest.approx([0, 0.2, 0.3], abs=1e-3)
    assert length_s == pytest.approx(3.3, abs=1e-3)


def test_times_that_stand_still_are_written_one_after_the_other(tmp_path):
    times_s = write(tmp_path / "a.mp4", [0, 0.5, 0.5, 0.5, 0.6])[0]
    assert times_s == pytest.approx([0, 0.5, 0.5, 0.5, 0.6], abs=1e-3)
    assert times_s == sorted(set(times_s))


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e6])
def test_rates_that_no_video_has_are_refused_before_anything_is_written(fps):
    with pytest.raises(ValueError, match="fps"):
        VideoFormat(64, 48, fps)


def test_a_folder_that_vanishes_while_a_video_is_written_gives_an_output_error(tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(OutputError, match="choose another path"), VideoWriter(folder / "a.mp4", 10, 64, 48) as writer:
        writer.write(grey(64, 48))
        shutil.rmtree(folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX")
def test_a_disk_that_fills_gives_an_output_error_and_leaves_no_file(tmp_path):
    code = (
        "import resource, signal, numpy as np\n"
        "from elysium.processing.video_io import OutputError, VideoWriter\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "noise = np.random.default_rng(0)\n"
        "try:\n"
        "    with VideoWriter('a.mp4', 10, 320, 240) as writer:\n"
        "        for _ in range(100):\n"
        "            writer.write(noise.integers(0, 255, (240, 320, 3), dtype=np.uint8))\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "a.mp4 must be writable to its end, got: File too large" in done.stdout, done.stderr
    assert "Errno" not in done.stdout
    assert list(tmp_path.iterdir()) == []
