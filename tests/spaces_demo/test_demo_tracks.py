"""What the page makes of tracks: drawn frames, lines over time, a summary."""

import base64
import io
import math

import numpy as np
from PIL import Image

from elysium.processing.structures import Track, TrackingResult
from elysium.processing.video_io import VideoWriter, read_video
from elysium.spaces_demo.tracks import (
    FrameRecorder,
    small_jpeg,
    summary_html,
    timeline_rows,
    write_files,
)
from elysium.visualization.annotate import annotate_video


def result_of(length: int, *, complete: bool = True, text: str | None = "the <b>cup</b>") -> TrackingResult:
    """A box that moves by 2 px a frame; absent in frame 1."""
    boxes = np.array([[8 + 2 * i, 10, 40 + 2 * i, 50] for i in range(length)], dtype=np.float64)
    valid = np.arange(length) != 1
    boxes[~valid] = math.nan
    track = Track(
        frame_indices=np.arange(length),
        timestamps_s=np.arange(length) / 12,
        boxes_xyxy_px=boxes,
        valid=valid,
        scores=np.where(valid, 0.5, math.nan),
        reasons=[None if seen else "absent" for seen in valid],
        track_id=1,
        text=text,
        width=480,
        height=360,
    )
    return TrackingResult("clip.mp4", 12.0, 480, 360, "a model", complete, [track])


def test_frames_are_drawn_once_and_as_the_command_line_draws_them(clip, tmp_path, monkeypatch):
    written: list[np.ndarray] = []
    write = VideoWriter.write

    def spy(self, image, **options):
        written.append(image.copy())
        write(self, image, **options)

    monkeypatch.setattr(VideoWriter, "write", spy)
    with FrameRecorder(clip, tmp_path / "ours.mp4") as recorder:
        counts = [len(recorder.draw(result_of(length))) for length in (8, 8, 15, 20)]
    assert counts == [8, 0, 7, 5] and recorder.num_drawn == 20
    annotate_video(clip, result_of(20), tmp_path / "theirs.mp4")
    assert np.array_equal(np.stack(written[:20]), np.stack(written[20:]))
    ours, theirs = (read_video(tmp_path / name) for name in ("ours.mp4", "theirs.mp4"))
    assert np.array_equal(ours.timestamps_s, theirs.timestamps_s)


def test_a_recording_that_is_left_early_leaves_no_file(clip, tmp_path):
    try:
        with FrameRecorder(clip, tmp_path / "ours.mp4") as recorder:
            recorder.draw(result_of(8))
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert not list(tmp_path.iterdir())


def test_small_pictures_keep_their_shape():
    data = small_jpeg(np.zeros((1080, 1920, 3), np.uint8)).removeprefix("data:image/jpeg;base64,")
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (480, 270)


def test_files_have_the_names_of_the_command_line(clip, tmp_path):
    files = write_files(clip, result_of(20), tmp_path)
    assert [path.name for path in files] == ["clip.sheet.png", "clip.boxes.json", "clip.boxes.csv"]
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_lines_hold_centre_and_size_with_gaps_where_there_is_no_box():
    assert timeline_rows(result_of(3)) == [
        {"object": "1", "time_s": 0.0, "x": 24.0, "y": 30.0, "width": 32.0, "height": 40.0},
        {"object": "1", "time_s": 0.083, "x": None, "y": None, "width": None, "height": None},
        {"object": "1", "time_s": 0.167, "x": 28.0, "y": 30.0, "width": 32.0, "height": 40.0},
    ]


def test_the_summary_escapes_words_and_counts_frames():
    said = summary_html(result_of(4), num_frames=4, compute_s=60)
    assert "the &lt;b&gt;cup&lt;/b&gt;: a box in 3 of 4 frames, mean score 0.50 (1 absent)" in said
    assert "Stopped" not in said


def test_the_summary_says_where_a_run_was_stopped():
    assert "Stopped after 4 of 9 frames" in summary_html(result_of(4, complete=False), num_frames=9, compute_s=60)
