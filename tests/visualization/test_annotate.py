"""What is drawn, checked on pixels."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from elysium.processing.structures import Track, TrackingResult, VideoClip
from elysium.processing.video_io import VideoReader, VideoWriter, read_video
from elysium.visualization.annotate import (
    FrameAnnotator,
    Mark,
    annotate_frame,
    annotate_video,
    font_size,
    marks_at,
    object_color,
)
from elysium.visualization.contact_sheet import SHEET_WIDTH_PX, _legend, contact_sheet

GREY = np.full((240, 320, 3), 128, np.uint8)


def has_color(image, track_id):
    """How many pixels have exactly the colour of an object."""
    return int((image == object_color(track_id).as_rgb()).all(axis=-1).sum())


def make_track(track_id, valid, *, width=320, height=240, text="a ball"):
    valid = np.array(valid)
    steps = np.arange(len(valid))
    boxes = np.stack([40 + 5 * steps, 60 + 0 * steps, 120 + 5 * steps, 160 + 0 * steps], axis=1).astype(float)
    boxes[~valid] = np.nan
    return Track(
        frame_indices=steps,
        timestamps_s=steps / 10,
        boxes_xyxy_px=boxes,
        valid=valid,
        scores=np.where(valid, 0.9, np.nan),
        reasons=[None if seen else "absent" for seen in valid],
        track_id=track_id,
        text=text,
        width=width,
        height=height,
    )


def make_result(*tracks, complete=True, video="clip.mp4", size=(320, 240)):
    return TrackingResult(video, 10, *size, "elysium-tiny", complete, list(tracks))


@pytest.fixture
def grey_video(tmp_path):
    path = tmp_path / "grey.mp4"
    with VideoWriter(path, 10, 320, 240) as writer:
        for i in range(12):
            writer.write(GREY, timestamp_s=i / 10 + (0.5 if i > 5 else 0))
    return path


def test_a_box_is_drawn_in_the_colour_of_its_object_on_its_edges_only():
    drawn = annotate_frame(GREY, [(100, 100, 200, 180)], ["cup"])
    color = object_color(1).as_rgb()
    assert tuple(drawn[180, 150]) == color
    assert tuple(drawn[140, 100]) == color
    assert tuple(drawn[140, 150]) == (128, 128, 128)
    assert has_color(GREY, 1) == 0


def test_a_doubted_box_is_dashed_and_the_others_stay_whole():
    drawn = {
        doubted: FrameAnnotator(320, 240, trail_frames=0).annotate(
            GREY, [Mark(1, "a", (20, 100, 120, 200), doubted=doubted), Mark(2, "b", (160, 100, 260, 200))]
        )
        for doubted in (False, True)
    }
    edges = {
        doubted: (image[200, 20:120] == object_color(1).as_rgb()).all(axis=-1) for doubted, image in drawn.items()
    }
    assert edges[False].all()
    assert 40 <= edges[True].sum() <= 60 and (np.diff(edges[True].astype(int)) != 0).sum() >= 8
    assert has_color(drawn[True], 2) == has_color(drawn[False], 2)


def test_a_box_is_doubted_from_a_doubt_of_one_half():
    track = replace(make_track(1, [True] * 3), doubt=np.array([0.49, 0.5, np.nan]))
    assert [marks_at([track], frame)[0].doubted for frame in range(3)] == [False, True, False]


def test_every_object_has_its_own_colour_and_keeps_it_without_the_others():
    both = annotate_frame(GREY, [(10, 60, 90, 150), (150, 60, 260, 150)], ["a", "b"])
    second = annotate_frame(GREY, [(150, 60, 260, 150)], ["b"], track_ids=[2])
    assert has_color(both, 1) > 100
    assert has_color(both, 2) > 100
    assert has_color(second, 1) == 0
    np.testing.assert_array_equal(both[60:, 140:], second[60:, 140:])  # below the label, which has its number


def test_ten_objects_have_ten_colours():
    assert len({object_color(track_id).as_hex() for track_id in range(1, 11)}) == 10


def test_an_object_out_of_sight_is_noted_in_the_lower_left_corner_and_has_no_box():
    drawn = annotate_frame(GREY, [None, None], ["cup", "hand"])
    changed = np.argwhere((drawn != GREY).any(axis=-1))
    assert has_color(drawn, 1) > 100
    assert has_color(drawn, 2) > 100
    assert changed[:, 0].min() > 150


def test_labels_stay_inside_the_picture_at_every_corner():
    for box in [(0, 0, 60, 60), (260, 0, 320, 60), (0, 180, 60, 240), (260, 180, 320, 240)]:
        with_label = annotate_frame(GREY, [box], ["a label of some length"])
        ink = (with_label == 0x11).all(axis=-1)
        assert ink.sum() > 20
        assert not ink[:, 0].any()
        assert not ink[:, -1].any()


def test_words_beyond_the_picture_are_shortened_and_other_alphabets_are_drawn():
    long = annotate_frame(GREY, [(10, 60, 200, 200)], ["word " * 100])
    latin, cyrillic = (annotate_frame(GREY, [(10, 60, 200, 200)], [text]) for text in ("????", "чашк"))
    assert long.shape == GREY.shape
    assert (latin != cyrillic).any()


def test_letters_grow_with_the_picture():
    assert font_size(1920, 1080) > font_size(640, 480) >= font_size(64, 64) == 13


def test_the_picture_that_is_drawn_on_is_not_changed():
    image = GREY.copy()
    annotate_frame(image, [(100, 100, 200, 180)], ["cup"])
    np.testing.assert_array_equal(image, GREY)


def test_without_opencv_the_same_box_is_drawn_and_nothing_is_warned_of():
    code = (
        "import sys; sys.modules['cv2'] = None\n"
        "import numpy as np\n"
        "from elysium.visualization.annotate import annotate_frame\n"
        "image = np.full((240, 320, 3), 128, np.uint8)\n"
        "print(annotate_frame(image, [(100, 100, 200, 180)], ['cup'])[180, 150].tolist())"
    )
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(list(object_color(1).as_rgb()))


def test_lists_of_different_length_are_refused_with_the_counts():
    with pytest.raises(ValueError, match="got 2, 1, 2 and 2"):
        annotate_frame(GREY, [None, None], ["cup"])


def test_a_trail_follows_the_centre_of_the_box_and_can_be_left_out():
    def after_three_frames(trail_frames):
        annotator = FrameAnnotator(320, 240, trail_frames=trail_frames)
        for x in (0, 60, 120):
            drawn = annotator.annotate(GREY, [Mark(1, "cup", (x, 100, x + 80, 180))])
        return drawn

    assert tuple(after_three_frames(30)[140, 70]) == object_color(1).as_rgb()
    assert tuple(after_three_frames(0)[140, 70]) == (128, 128, 128)


def test_marks_of_a_frame_say_box_score_or_reason_and_skip_frames_that_no_track_reaches():
    tracks = [make_track(1, [True, False]), make_track(2, [True])]
    assert [(mark.track_id, mark.score, mark.reason) for mark in marks_at(tracks, 0)] == [
        (1, 0.9, None),
        (2, 0.9, None),
    ]
    assert marks_at(tracks, 1) == [Mark(1, "a ball", None, None, "absent")]
    assert marks_at(tracks, 2) == []


def test_a_given_box_is_drawn_without_a_percentage():
    track = replace(make_track(1, [True] * 3), init_box_xyxy_px=(40, 60, 120, 160))
    assert [marks_at([track], frame)[0].score for frame in range(3)] == [None, 0.9, 0.9]


def test_an_annotated_video_has_every_frame_at_its_time_with_its_box(grey_video, tmp_path):
    result = make_result(make_track(1, [True] * 12))
    seen = []
    assert annotate_video(grey_video, result, tmp_path / "out.mp4", trail_frames=0, on_frame=seen.append) == 12
    source, copy = read_video(grey_video), read_video(tmp_path / "out.mp4")
    assert seen == list(range(1, 13))
    np.testing.assert_allclose(copy.timestamps_s, source.timestamps_s, atol=1e-3)
    changed = np.abs(copy.frames.astype(int) - source.frames).max(axis=-1) > 60  # (T, H, W)
    assert all(changed[i, 158:162, 50 + 5 * i : 110 + 5 * i].any(axis=0).all() for i in range(12))
    assert not changed[:, 200:].any()


def test_the_copy_of_an_interrupted_result_ends_where_the_tracks_end(grey_video, tmp_path):
    result = make_result(make_track(1, [True] * 5), complete=False)
    annotate_video(grey_video, result, tmp_path / "out.mp4")
    assert len(list(VideoReader(tmp_path / "out.mp4"))) == 5


@pytest.mark.parametrize("from_path", [True, False], ids=["path", "clip"])
def test_a_contact_sheet_shows_every_chosen_frame_with_the_colours_of_its_objects(grey_video, tmp_path, from_path):
    result = make_result(make_track(1, [True] * 12), make_track(2, [False] * 12))
    video = grey_video if from_path else read_video(grey_video)
    contact_sheet(video, result, tmp_path / "sheet.png", num_frames=6)
    sheet = np.array(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[1] == SHEET_WIDTH_PX
    for row in range(2):
        for column in range(3):
            height = (len(sheet) - 100) // 2
            tile = sheet[100 + row * height :, column * 533 : column * 533 + 533][:height]
            assert has_color(tile, 1) > 200
            assert has_color(tile, 2) > 200


def test_a_contact_sheet_of_one_small_frame_and_many_objects_is_whole(tmp_path):
    clip = VideoClip.from_frames(np.zeros((1, 20, 30, 3), np.uint8), fps=1)
    tracks = [make_track(i, [True], width=320, text=f"object number {i} with many words") for i in range(1, 13)]
    contact_sheet(clip, make_result(*tracks, size=(30, 20)), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] == SHEET_WIDTH_PX


@pytest.mark.parametrize("draw", [annotate_video, contact_sheet])
def test_the_video_of_another_result_is_refused_and_leaves_no_file(grey_video, tmp_path, draw):
    out = tmp_path / ("out.mp4" if draw is annotate_video else "out.png")
    for length in (11, 13):
        with pytest.raises(ValueError, match=f"clip.mp4 of {length} frames, got one of 12; give the video"):
            draw(grey_video, make_result(make_track(1, [True] * length)), out)
    with pytest.raises(ValueError, match="clip.mp4 of 640x240, got one of 320x240; give the video"):
        draw(grey_video, make_result(make_track(1, [True] * 12), size=(640, 240)), out)
    assert list(tmp_path.iterdir()) == [grey_video]


def test_a_part_of_a_video_that_was_tracked_in_memory_is_drawn_on_all_of_it(grey_video, tmp_path):
    result = make_result(make_track(1, [True] * 5), video="clip")
    assert annotate_video(grey_video, result, tmp_path / "out.mp4") == 12
    contact_sheet(grey_video, result, tmp_path / "out.png")


def test_a_part_in_memory_of_the_tracked_video_has_a_contact_sheet_and_one_frame_more_has_none(grey_video, tmp_path):
    clip, result = read_video(grey_video), make_result(make_track(1, [True] * 11))
    contact_sheet(clip[4:8], result, tmp_path / "out.png", num_frames=1)
    with pytest.raises(ValueError, match="of 11 frames, got one of 12"):
        contact_sheet(clip[4:], result, tmp_path / "out.png")


def test_the_legend_of_a_contact_sheet_says_that_a_track_may_have_switched():
    track = make_track(1, [True] * 6, text="the cup")
    legends = [_legend(make_result(replace(track, doubt=np.full(6, doubt)))) for doubt in (0.1, 0.9)]
    lines = ["".join(run.text for run in text.runs) for ((_, text, *_),) in legends]
    assert lines == ["the cup", "the cup, may have switched at 0.0 s"]


def test_a_contact_sheet_refuses_other_suffixes(tmp_path):
    clip = VideoClip.from_frames(GREY[None], fps=1)
    with pytest.raises(ValueError, match="change the suffix"):
        contact_sheet(clip, make_result(), tmp_path / "sheet.jpg")
    assert list(tmp_path.iterdir()) == []
