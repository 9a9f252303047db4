"""VideoClip, Track, TrackingResult and their files."""

import csv
import errno
import json
import os
import re
import sys

import numpy as np
import pytest

from elysium.processing.atomic_files import OutputError, atomic_folder, atomic_path, free_name
from elysium.processing.pixel_boxes import check_box_xyxy_px
from elysium.processing.structures import (
    Grounding,
    Track,
    TrackingResult,
    VideoClip,
    load_tracking_result,
)

NAN_BOX = [np.nan] * 4
DOUBT = [0.25, np.nan, 0.75]


def make_track(**changes):
    fields = {
        "frame_indices": [0, 1, 2],
        "timestamps_s": [0.0, 0.1, 0.2],
        "boxes_xyxy_px": [[10.25, 20, 30, 60], NAN_BOX, [12, 22, 32, 62.123456]],
        "valid": [True, False, True],
        "scores": [1.0, np.nan, 0.5],
        "reasons": [None, "absent", None],
        "track_id": 1,
        "text": "the red car",
        "width": 640,
        "height": 480,
    }
    return Track(**{**fields, **changes})


def make_result(*tracks, **changes):
    fields = {"video": "a.mp4", "fps": 10, "width": 640, "height": 480, "model": "elysium-tiny", "complete": True}
    return TrackingResult(**{**fields, **changes}, tracks=list(tracks or [make_track()]))


def test_a_clip_gives_its_length_and_size_and_slices_keep_indices_and_times():
    clip = VideoClip.from_frames(np.zeros((5, 4, 6, 3), np.uint8), fps=10)
    part = clip[2:4]
    assert (len(clip), clip.width, clip.height) == (5, 6, 4)
    assert part.frame_indices.tolist() == [2, 3]
    assert part.timestamps_s == pytest.approx([0.2, 0.3])
    assert np.shares_memory(part.frames, clip.frames)


@pytest.mark.parametrize(
    ("frames", "fps", "rule"),
    [
        (np.zeros((2, 4, 6, 3), np.float32), 10, "uint8"),
        (np.zeros((2, 4, 6), np.uint8), 10, r"\(T, H, W, 3\)"),
        (np.zeros((2, 4, 6, 3), np.uint8), 0.0, "above 0"),
    ],
    ids=["floats", "grey", "no rate"],
)
def test_a_clip_refuses_frames_that_are_not_rgb_bytes(frames, fps, rule):
    with pytest.raises(ValueError, match=rule):
        VideoClip(frames, fps, np.zeros(2), np.arange(2))


def test_a_clip_refuses_one_index_and_names_the_remedy():
    with pytest.raises(TypeError, match=r"clip\[i:i\+1\]"):
        VideoClip.from_frames(np.zeros((2, 4, 6, 3), np.uint8), fps=1)[0]


@pytest.mark.parametrize(
    ("box", "rule"),
    [
        ((40, 8, 12, 90), "is it x,y,w,h"),
        ((0, 0, 0, 0), "x1 < x2"),
        ((0, 0, 645, 10), r"inside the 640x480 image, got \(0, 0, 645, 10\), 5 px beyond its right edge"),
        ((0, 0, 10, 485), "5 px beyond its lower edge"),
        ((-12, 0, 10, 10), "12 px beyond its left edge"),
        ((0, -3, 10, 10), "3 px beyond its upper edge"),
        ((640.1, 0, 640.9, 10), "0.9 px beyond its right edge"),
        ((0.1, 0.1, 0.5, 0.5), "must be in pixels.*shares of the width and height, give 64,48,320,240"),
        ((0, 0, 1, 1), "must be in pixels"),
        ((0, 0, 10), "four finite"),
        ((0, 0, float("nan"), 10), "four finite"),
    ],
    ids=str,
)
def test_a_box_that_cannot_be_is_refused_with_the_rule(box, rule):
    with pytest.raises(ValueError, match=rule):
        check_box_xyxy_px(box, 640, 480)


def test_a_box_may_touch_every_edge_of_the_image():
    assert check_box_xyxy_px((0, 0, 640, 480), 640, 480) == (0, 0, 640, 480)
    assert check_box_xyxy_px((0, 0, 1, 1), 1, 1) == (0, 0, 1, 1)


@pytest.mark.parametrize("excess", [0.0005, 1, 3], ids=["rounding", "a pixel", "half a percent"])
def test_a_small_excess_is_cut_off(excess):
    assert check_box_xyxy_px((-min(excess, 2.4), 5, 640 + excess, 20), 640, 480) == (0, 5, 640, 20)
    cut = make_track(boxes_xyxy_px=[[0, 0, 640 + excess, 9], NAN_BOX, [1, 2, 3, 4]])
    assert cut.boxes_xyxy_px[0].tolist() == [0, 0, 640, 9]


def test_a_box_below_one_pixel_is_taken_with_a_warning():
    with pytest.warns(UserWarning, match=r"less than one pixel .* boxes are in pixels"):
        assert check_box_xyxy_px((7, 7, 7.5, 9), 640, 480) == (7, 7, 7.5, 9)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"boxes_xyxy_px": [[10, 20, 30, 60], [0, 0, 0, 0], [12, 22, 32, 62]]}, "NaN box"),
        ({"reasons": [None, None, None]}, "must have a reason"),
        ({"reasons": ["absent", "absent", None]}, "reason None"),
        ({"scores": [1.5, 0, 0.5]}, "in 0..1"),
        ({"scores": [np.nan, 0, 0.5]}, "in 0..1"),
        ({"doubt": [1.5, np.nan, 0.5]}, "doubt must be in 0..1"),
        ({"doubt": [0.5, 0.5, 0.5]}, "where there is a box, got 0.5 at frame 1"),
        ({"frame_indices": [0, 0, 1]}, "rise strictly"),
        ({"timestamps_s": [0.0, 0.2, 0.1]}, "never fall"),
        ({"valid": [True, False]}, "valid must have shape"),
        ({"track_id": 0}, "1 or more"),
        ({"width": 20}, "frame 0 of track 1"),
        ({"init_box_xyxy_px": (30, 20, 10, 60)}, "x1 < x2"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_track_refuses_what_contradicts_itself(changes, rule):
    with pytest.raises(ValueError, match=rule):
        make_track(**changes)


def test_json_has_the_documented_fields_and_null_boxes_have_a_reason(tmp_path):
    make_result(make_track(doubt=DOUBT)).save(tmp_path / "out.json")
    record = json.loads((tmp_path / "out.json").read_text())
    assert list(record) == ["video", "fps", "width", "height", "model", "complete", "tracks"]
    assert record["tracks"][0]["text"] == "the red car"
    assert record["tracks"][0]["frames"][:2] == [
        {"frame_idx": 0, "time_s": 0.0, "box_xyxy_px": [10.25, 20.0, 30.0, 60.0], "score": 1.0, "doubt": 0.25},
        {"frame_idx": 1, "time_s": 0.1, "box_xyxy_px": None, "score": None, "doubt": None, "reason": "absent"},
    ]


def test_json_comes_back_as_it_was(tmp_path):
    by_box = make_track(track_id=2, text=None, init_box_xyxy_px=(10, 20, 30, 60))
    make_result(make_track(doubt=DOUBT), by_box, complete=False).save(tmp_path / "out.json")
    loaded = load_tracking_result(tmp_path / "out.json")
    assert loaded.to_dict() == make_result(make_track(doubt=DOUBT), by_box, complete=False).to_dict()
    assert loaded.tracks[1].init_box_xyxy_px == (10, 20, 30, 60)
    np.testing.assert_array_equal(loaded.tracks[0].boxes_xyxy_px, make_track(doubt=DOUBT).boxes_xyxy_px)
    np.testing.assert_array_equal(loaded.tracks[0].doubt, make_track(doubt=DOUBT).doubt)


def test_json_from_before_doubt_has_none():
    record = make_track(doubt=DOUBT).to_dict()
    for frame in record["frames"]:
        del frame["doubt"]
    assert np.isnan(Track.from_dict(record, width=640, height=480).doubt).all()


@pytest.mark.parametrize(
    ("doubt", "valid", "at_s"),
    [
        ([0.5] * 3, [True] * 3, 0.0),
        ([0.5, 0.5, 0.49, 0.5], [True] * 4, None),
        ([0.9, 0.1, 0.9, 0.9, 0.9], [True] * 5, 0.2),
        ([0.9, 0.9, np.nan, 0.9], [True, True, False, True], 0.0),
        ([np.nan] * 6, [True] * 6, None),
    ],
    ids=["three", "two", "after one alone", "passes over frames without a box", "no doubt"],
)
def test_a_switch_is_three_doubted_boxes_in_a_row(doubt, valid, at_s):
    count, valid = len(doubt), np.array(valid)
    track = make_track(
        frame_indices=range(count),
        timestamps_s=np.arange(count) / 10,
        boxes_xyxy_px=np.where(valid[:, None], [1, 2, 3, 4], np.nan),
        valid=valid,
        scores=[0.5] * count,
        reasons=[None if seen else "absent" for seen in valid],
        doubt=doubt,
    )
    assert track.switched_at_s == at_s
    assert ("may have switched at" in track.summary()) == (at_s is not None)


def test_csv_has_a_row_for_every_frame_with_empty_cells_where_there_is_no_box(tmp_path):
    make_result(make_track(text='a "big", red car', doubt=DOUBT)).save(tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert rows[0]["text"] == 'a "big", red car'
    assert (rows[0]["x1"], rows[0]["y2"], rows[0]["reason"]) == ("10.25", "60.0", "")
    assert [row["doubt"] for row in rows] == ["0.25", "", "0.75"]
    assert (rows[1]["x1"], rows[1]["score"], rows[1]["reason"]) == ("", "", "absent")


def test_mot_counts_from_one_gives_width_and_height_and_leaves_absent_frames_out(tmp_path):
    make_result(make_track(), make_track(track_id=2)).save(tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text().splitlines() == [
        "1,1,11.250,21.000,19.750,40.000,1.0000,-1,-1,-1",
        "1,2,11.250,21.000,19.750,40.000,1.0000,-1,-1,-1",
        "3,1,13.000,23.000,20.000,40.123,0.5000,-1,-1,-1",
        "3,2,13.000,23.000,20.000,40.123,0.5000,-1,-1,-1",
    ]


def test_saving_refuses_an_unknown_suffix_and_a_result_refuses_twin_ids(tmp_path):
    with pytest.raises(ValueError, match=r"\.json, \.csv, \.txt"):
        make_result().save(tmp_path / "out.xml")
    with pytest.raises(ValueError, match="different ids"):
        make_result(make_track(), make_track())


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "out.json"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [file.name for file in tmp_path.iterdir()] == ["out.json"]
    assert target.read_text() == "old"


def test_saving_makes_missing_folders_and_refuses_a_file_in_the_way(tmp_path):
    make_result().save(tmp_path / "new" / "folder" / "out.csv")
    assert (tmp_path / "new" / "folder" / "out.csv").is_file()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another output path"):
        make_result().save(tmp_path / "file" / "out.csv")


FAR_FRAME = '{"frame_idx": 1e308, "time_s": 0, "box_xyxy_px": [0, 0, 1, 1], "score": 1}'


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[1]",
        '{"width": 1, "height": 1, "tracks": [{}]}',
        f'{{"width": 1, "height": 1, "tracks": [{{"id": 1, "frames": [{FAR_FRAME}]}}]}}',
    ],
    ids=["nothing", "no fields", "a list", "a track without frames", "a frame beyond 64 bits"],
)
def test_loading_refuses_what_is_no_result(tmp_path, content):
    (tmp_path / "in.json").write_text(content)
    with pytest.raises(ValueError, match=r"TrackingResult\.save"):
        load_tracking_result(tmp_path / "in.json")


def test_loading_refuses_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="existing"):
        load_tracking_result(tmp_path / "none.json")


# --- names ---
def test_a_temporary_name_is_short_so_that_the_longest_name_can_be_written(tmp_path):
    target = tmp_path / ("é" * 125 + ".json")  # 255 bytes
    make_result().save(target)
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_a_free_name_is_none_that_exists_and_fits_its_folder(tmp_path):
    assert free_name(tmp_path / "a.json") == tmp_path / "a.json"
    (tmp_path / "a.json").touch()
    (tmp_path / "a-2.json").symlink_to("nowhere")
    assert free_name(tmp_path / "a.json") == tmp_path / "a-3.json"
    longest = tmp_path / ("é" * 125 + ".json")
    longest.touch()
    free_name(longest).touch()
    assert len(list(tmp_path.iterdir())) == 4


def test_a_name_that_is_no_utf_8_is_escaped_in_json(tmp_path):
    video = os.fsdecode(b"caf\xe9.mp4")
    make_result(video=video).save(tmp_path / "a.json")
    assert load_tracking_result(tmp_path / "a.json").video == video
    assert b"caf\\udce9.mp4" in (tmp_path / "a.json").read_bytes()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_is_an_output_error_that_names_the_output_and_leaves_nothing(tmp_path, code):
    rule = r"a\.json must be writable to its end, got: .*; free disk space"
    with pytest.raises(OutputError, match=rule), atomic_path(tmp_path / "a.json"):
        raise OSError(code, os.strerror(code))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_below_an_unfinished_folder_names_the_folder_that_was_asked_for(tmp_path):
    rule = rf"^{re.escape(str(tmp_path / 'out'))} must be writable to its end, got: No space"
    with (
        pytest.raises(OutputError, match=rule),
        atomic_folder(tmp_path / "out") as folder,
        atomic_path(folder / "frames" / "0.jpg"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


# --- shown ---
def test_a_track_prints_as_one_line_with_its_spans():
    assert repr(make_track()) == "<Track 1 'the red car': a box in 2 of 3 frames (0, 2), 0-0.2 s, mean score 0.75>"
    empty = {name: [] for name in ("frame_indices", "timestamps_s", "boxes_xyxy_px", "valid", "scores", "reasons")}
    assert repr(make_track(**empty, text=None)) == "<Track 1: a box in 0 of 0 frames>"


def test_a_given_box_has_no_part_in_the_mean_score():
    given = (10.25, 20, 30, 60)
    track = make_track(text=None, init_box_xyxy_px=given)
    assert repr(track) == "<Track 1: a box in 2 of 3 frames (0, 2), 0-0.2 s, mean score 0.50>"
    assert track.summary() == "object 1: a box in 2 of 3 frames, mean score 0.50 (1 absent)"
    alone = make_track(
        frame_indices=[0], timestamps_s=[0], boxes_xyxy_px=[given], valid=[True], scores=[1], reasons=[None],
        text=None, init_box_xyxy_px=given,
    )  # fmt: skip
    assert (repr(alone), alone.summary()) == (
        "<Track 1: a box in 1 of 1 frames (0), 0-0 s>",
        "object 1: a box in 1 of 1 frames",
    )


def test_many_spans_are_cut():
    count = 9
    valid = [number % 2 == 0 for number in range(count)]
    track = make_track(
        frame_indices=range(count),
        timestamps_s=range(count),
        valid=valid,
        boxes_xyxy_px=[[1, 2, 3, 4] if here else NAN_BOX for here in valid],
        scores=[0.5] * count,
        reasons=[None if here else "absent" for here in valid],
    )
    assert "(0, 2, 4, …)" in repr(track)


def test_a_result_prints_a_line_for_each_track():
    shown = repr(make_result(make_track(), make_track(track_id=2), complete=False)).splitlines()
    assert len(shown) == 3 and "640x480" in shown[0] and "not complete: 2 tracks" in shown[0]
    assert max(map(len, shown)) < 120


def test_a_table_of_pandas_is_that_of_the_csv_file(tmp_path):
    pandas = pytest.importorskip("pandas")
    result = make_result(make_track(), make_track(track_id=2, text=None, init_box_xyxy_px=(1, 2, 3, 4)))
    result.save(tmp_path / "a.csv")
    table = result.to_pandas()
    pandas.testing.assert_frame_equal(table, pandas.read_csv(tmp_path / "a.csv"), check_dtype=False)
    assert table["x1"].isna().tolist() == [False, True, False] * 2 and table["score"].dtype == "float64"


def test_without_pandas_the_package_to_install_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        make_result(make_track()).to_pandas()


def test_the_box_of_a_grounding_is_rounded_as_in_files():
    found = Grounding("the cup", (1, 2, 411.00000000000006, 4), 0.5, None, 640, 480)
    assert found.box_xyxy_px == (1.0, 2.0, 411.0, 4.0)
    assert found.to_dict()["box_xyxy_px"] == [1.0, 2.0, 411.0, 4.0]
