"""Copies keep length, rate, times and shape of what was tracked, on files of odd metadata."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from elysium.processing.structures import Track, TrackingResult
from elysium.processing.video_io import VideoReader, VideoWriter
from elysium.visualization.annotate import annotate_video
from elysium.visualization.contact_sheet import SHEET_WIDTH_PX, contact_sheet

CASES = Path(__file__).parents[1] / "fixtures" / "cases"


def tracked(path, *, fps=None):
    """A result whose box covers the middle of every frame."""
    with VideoReader(path, folder_fps=fps or 10.0) as reader:
        times_s, info = [frame.timestamp_s for frame in reader], reader.info
    count = len(times_s)
    box = [0.2 * info.width, 0.2 * info.height, 0.8 * info.width, 0.8 * info.height]
    track = Track(
        frame_indices=np.arange(count),
        timestamps_s=times_s,
        boxes_xyxy_px=np.tile(box, (count, 1)),
        valid=[True] * count,
        scores=[0.5] * count,
        reasons=[None] * count,
        track_id=1,
        text="it",
        width=info.width,
        height=info.height,
    )
    return TrackingResult(str(path), info.fps, info.width, info.height, "none", True, [track])


def copy_of(path, folder, **options):
    """Times of the copy's frames, its length in seconds, and its shape as shown (width over height)."""
    annotate_video(path, tracked(path, **options), folder / "copy.mp4")
    with av.open(str(folder / "copy.mp4")) as container:
        stream = container.streams.video[0]
        times_s = [float(frame.time) for frame in container.decode(stream)]
        aspect = stream.sample_aspect_ratio or Fraction(1)
        return times_s, container.duration / av.time_base, float(aspect * stream.width / stream.height)


@pytest.fixture
def folder_of_images(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(12):
        Image.new("RGB", (96, 64), (20 * i, 0, 0)).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize(
    ("name", "times_s", "length_s", "shape"),
    [
        ("last_frame_3s.gif", [0, 0.1, 0.2, 0.3], 3.3, None),
        ("one_frame_an_hour.mp4", [0, 3600, 7200, 10800], 10801, None),
        ("pixels_2_to_1.mp4", None, None, 3.0),
    ],
)
def test_a_copy_keeps_length_times_and_shape(tmp_path, name, times_s, length_s, shape):
    found_s, found_length_s, found_shape = copy_of(CASES / name, tmp_path)
    assert found_s == pytest.approx([f.timestamp_s for f in VideoReader(CASES / name)], abs=1e-3)
    assert times_s is None or found_s == pytest.approx(times_s, abs=1e-3)
    assert length_s is None or found_length_s == pytest.approx(length_s, rel=1e-3)
    assert shape is None or found_shape == pytest.approx(shape, rel=0.01)


def test_a_copy_wider_than_the_encoder_allows_is_scaled_down_with_a_warning(tmp_path):
    Image.new("RGB", (20000, 16)).save(tmp_path / "wide.png")
    with pytest.warns(UserWarning, match="is 16384x14: frames of 20000x16 are above the 16384"):
        shape = copy_of(tmp_path / "wide.png", tmp_path)[2]
    assert shape == pytest.approx(20000 / 16, rel=0.01)


def test_a_folder_is_copied_at_the_rate_that_it_was_tracked_at(folder_of_images, tmp_path):
    times_s, length_s, _ = copy_of(folder_of_images, tmp_path, fps=25)
    assert times_s == pytest.approx([i / 25 for i in range(12)], abs=1e-3)
    assert length_s == pytest.approx(0.48, abs=1e-3)


def test_a_variable_frame_rate_is_kept_to_the_end_of_the_last_frame(tmp_path):
    given_s = [0, 0.03, 0.2, 0.24, 1.7]
    with VideoWriter(tmp_path / "source.mp4", 30, 64, 48) as writer:
        for time_s in given_s:
            writer.write(np.zeros((48, 64, 3), np.uint8), timestamp_s=time_s, duration_s=0.8)
    times_s, length_s, _ = copy_of(tmp_path / "source.mp4", tmp_path)
    assert times_s == pytest.approx(given_s, abs=1e-3)
    assert length_s == pytest.approx(2.5, abs=1e-2)


def test_a_contact_sheet_of_a_folder_gives_the_times_at_which_it_was_tracked(folder_of_images, tmp_path):
    sheets = []
    for fps in (10, 25):
        contact_sheet(folder_of_images, tracked(folder_of_images, fps=fps), tmp_path / "sheet.png", num_frames=4)
        sheets.append(np.array(Image.open(tmp_path / "sheet.png")))
    assert (sheets[0] != sheets[1]).any()


def test_a_contact_sheet_of_very_tall_images_has_a_bounded_height(tmp_path):
    Image.new("RGB", (16, 20000)).save(tmp_path / "tall.png")
    contact_sheet(tmp_path / "tall.png", tracked(tmp_path / "tall.png"), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == SHEET_WIDTH_PX
        assert sheet.height < 2500


def test_a_contact_sheet_shows_the_shape_of_pixels(tmp_path):
    path = CASES / "pixels_2_to_1.mp4"
    contact_sheet(path, tracked(path), tmp_path / "sheet.png", num_frames=1)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height == pytest.approx(1572 / 3 + 120, abs=40)
