"""Readers of the tracking data sets on miniatures in their official layouts, and what they say of broken ones."""

import io
import json

import numpy as np
import pytest
from miniatures import (
    HEIGHT,
    LENGTH,
    WIDTH,
    build_elysium_track,
    build_got10k,
    build_lasot,
    build_nfs,
    build_otb,
    build_tnl2k,
    build_trackingnet,
    build_uav123,
    elysium_rows,
    pictures_and_boxes,
)
from PIL import Image

from elysium.processing.video_io import VideoWriter
from elysium.readers.annotation_files import read_boxes, read_flags
from elysium.readers.elysium_track import read_elysium_track, sequence_of_row
from elysium.readers.frame_sources import DatasetError, ImageFrames, VideoFrames
from elysium.readers.tracking_benchmarks import LASOT_TEST, LAYOUTS, UAV_PARTS, read_tracking

RED = pictures_and_boxes()[1]


def by_name(sequences):
    return {sequence.name: sequence for sequence in sequences}


def test_lasot_gives_boxes_words_classes_and_where_the_object_is_out_of_view(tmp_path):
    found = by_name(read_tracking("lasot", build_lasot(tmp_path)))
    assert list(found) == ["airplane-1", "airplane-2", "cup-7"]
    assert found["airplane-1"].boxes_xywh_px == pytest.approx(RED)
    assert found["airplane-2"].visible.tolist() == [True, True, True, False, False, *[True] * 5]
    assert (found["cup-7"].text, found["cup-7"].object_class) == ("the red square", "cup")
    assert (len(found["cup-7"].frames), found["cup-7"].image_size) == (LENGTH, (WIDTH, HEIGHT))
    assert found["cup-7"].frames.read([2, 9]).shape == (2, HEIGHT, WIDTH, 3)


def test_lasot_needs_neither_pictures_nor_flags_nor_folders_of_classes_to_be_scored(tmp_path):
    (tmp_path / "car-9").mkdir()
    (tmp_path / "car-9" / "groundtruth.txt").write_text("1\t2\t3\t4\n1 2 3 5\n")
    (sequence,) = read_tracking("lasot", tmp_path)
    assert sequence.boxes_xywh_px.tolist() == [[1, 2, 3, 4], [1, 2, 3, 5]]
    assert sequence.visible.all()
    with pytest.raises(DatasetError, match="frames of a sequence must be in .*img.*extract"):
        len(sequence.frames)


def test_lasot_s_splits_are_the_official_280_or_those_that_the_folder_names(tmp_path):
    assert len(LASOT_TEST) == 280
    assert len({name.rpartition("-")[0] for name in LASOT_TEST}) == 70
    build_lasot(tmp_path)
    assert list(by_name(read_tracking("lasot", tmp_path, "test"))) == ["airplane-1", "cup-7"]
    assert list(by_name(read_tracking("lasot", tmp_path, "train"))) == ["airplane-2"]
    (tmp_path / "testing_set.txt").write_text("airplane-2\n")
    assert list(by_name(read_tracking("lasot", tmp_path, "test"))) == ["airplane-2"]
    with pytest.raises(DatasetError, match="must be one of all, test, train, got 'val'"):
        list(read_tracking("lasot", tmp_path, "val"))


def test_got10k_gives_class_size_and_visibility_by_cover_and_keeps_the_list_s_order(tmp_path):
    build_got10k(tmp_path, names=("GOT-10k_Val_000002", "GOT-10k_Val_000001"))
    first, second = read_tracking("got10k", tmp_path, "val")
    assert (first.name, first.object_class, first.size) == ("GOT-10k_Val_000002", "car", (WIDTH, HEIGHT))
    assert second.visible.tolist() == [*[True] * 5, False, *[True] * 4]
    (tmp_path / "val" / second.name / "cover.label").unlink()
    assert not list(read_tracking("got10k", tmp_path, "val"))[1].visible[5]  # absence.label says so too


def test_got10k_s_test_split_has_the_first_box_alone(tmp_path):
    build_got10k(tmp_path, "test", names=("GOT-10k_Test_000001",))
    (sequence,) = read_tracking("got10k", tmp_path, "test")
    assert sequence.truth_is_withheld and len(sequence.frames) == LENGTH
    sequence.check_length()


def test_otb_reads_every_separator_two_objects_and_parts_of_the_frames(tmp_path):
    found = by_name(read_tracking("otb", build_otb(tmp_path)))
    assert sorted(found) == ["Boy", "Coke", "David", "Human4", "Jogging-1", "Jogging-2"]
    for name in ("Boy", "Coke", "David", "Human4", "Jogging-1"):
        assert found[name].boxes_xywh_px == pytest.approx(RED)
    assert len(found["David"].frames) == LENGTH
    assert found["David"].frames.files[0].name == "0300.jpg"


def test_uav123_gives_parts_of_sequences_and_nan_where_there_is_no_box(tmp_path):
    assert len(UAV_PARTS) == 51
    whole, part = read_tracking("uav123", build_uav123(tmp_path))
    assert whole.visible.tolist() == [True, True, False, *[True] * 7]
    assert (part.name, part.frames.files[0].name, len(part.frames)) == ("bird1_3", "001573.jpg", LENGTH)


def test_nfs_takes_every_eighth_line_for_30_fps_and_drops_one_too_many(tmp_path):
    for sequence in read_tracking("nfs", build_nfs(tmp_path)):
        sequence.check_length()
        assert sequence.boxes_xywh_px == pytest.approx(RED)


def test_trackingnet_reads_both_splits_with_frames_in_order_of_their_numbers(tmp_path):
    build_trackingnet(tmp_path)
    (test,) = read_tracking("trackingnet", tmp_path)
    (train,) = read_tracking("trackingnet", tmp_path, "train")
    assert test.truth_is_withheld and not train.truth_is_withheld
    assert [path.stem for path in train.frames.files] == [str(number) for number in range(LENGTH)]


def test_tnl2k_gives_words_and_counts_a_box_without_area_as_absent(tmp_path):
    (sequence,) = read_tracking("tnl2k", build_tnl2k(tmp_path))
    assert sequence.text == "the blue square"
    assert np.flatnonzero(~sequence.visible).tolist() == [6]


def test_elysium_track_scales_boxes_and_reads_frames_beside_its_file(tmp_path):
    build_elysium_track(tmp_path)
    for source in (tmp_path, tmp_path / "rows.jsonl"):
        first, second = read_elysium_track(source)
        assert (first.name, first.text) == ("part_a", "the red square")
        assert first.boxes_xywh_px[0] == pytest.approx(RED[0])
        assert np.flatnonzero(~second.visible).tolist() == [4]
        assert first.frames.read([0]).shape == (1, HEIGHT, WIDTH, 3)


def test_a_row_may_hold_its_pictures_or_its_video_as_bytes(tmp_path):
    (row, _) = elysium_rows(tmp_path)
    encoded = [{"bytes": (tmp_path / path).read_bytes(), "path": path} for path in row["frames"]]
    frames = sequence_of_row(row | {"frames": encoded}).frames
    assert frames.read([1, 3]) == pytest.approx(sequence_of_row(row, tmp_path).frames.read([1, 3]))
    with VideoWriter(tmp_path / "a.mp4", 10, WIDTH, HEIGHT) as writer:
        for picture in frames:
            writer.write(picture)
    video = sequence_of_row(row | {"frames": None, "video": {"bytes": (tmp_path / "a.mp4").read_bytes()}}).frames
    assert (len(video), video.size, video.read([2, 5]).shape) == (LENGTH, (WIDTH, HEIGHT), (2, HEIGHT, WIDTH, 3))
    assert len(list(VideoFrames(tmp_path / "a.mp4"))) == LENGTH


def test_rows_are_streamed_from_a_data_set_with_undecoded_pictures(tmp_path, monkeypatch):
    import datasets

    rows = elysium_rows(tmp_path)
    for row in rows:
        row["frames"] = [{"bytes": (tmp_path / path).read_bytes(), "path": path} for path in row["frames"]]
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "frames": datasets.List(datasets.Image()),
            "box": datasets.List(datasets.List(datasets.Value("float64"))),
            "frame_size": datasets.List(datasets.Value("int64")),
            "object_description": datasets.Value("string"),
        }
    )
    stored = datasets.Dataset.from_list([{key: row[key] for key in features} for row in rows], features=features)
    stored.to_parquet(tmp_path / "hub" / "validation.parquet")
    files = {"validation": str(tmp_path / "hub" / "validation.parquet")}
    load = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda name, **options: load("parquet", data_files=files, **options))
    first, _ = read_elysium_track("owner/tracks", "validation")
    assert first.frames.read([0]).shape == (1, HEIGHT, WIDTH, 3)
    assert isinstance(first.frames.files[0], bytes)
    assert np.flatnonzero(~first.visible).tolist() == [4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"box": None}, "without box"),
        ({"box": [[1, 2, 30, 40]] * LENGTH}, "in 0..1, got .* 40 .*divide pixels"),
        ({"box": [[0.1, 0.2]] * LENGTH}, "four numbers or null"),
        ({"frames": None}, "must have frames or video"),
        ({"frames": [7]}, "must be a path"),
    ],
    ids=["no boxes", "pixels", "two numbers", "no frames", "a number"],
)
def test_a_row_that_is_not_as_it_must_be_is_refused_by_name(change, message, tmp_path):
    row = elysium_rows(tmp_path)[0] | change
    with pytest.raises(DatasetError, match=message):
        sequence_of_row(row, tmp_path)


def test_a_broken_line_of_rows_is_named(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"id": "a"\n')
    with pytest.raises(DatasetError, match="must be JSON.*line 1 of"):
        list(read_elysium_track(tmp_path / "rows.jsonl"))
    with pytest.raises(DatasetError, match="existing JSONL file, a folder or a Hub id"):
        list(read_elysium_track(tmp_path / "no.jsonl"))


@pytest.mark.parametrize(
    "name",
    LAYOUTS,
)
def test_a_folder_without_the_layout_is_refused_with_the_layout(name, tmp_path):
    with pytest.raises(DatasetError, match="existing folder"):
        list(read_tracking(name, tmp_path / "nothing"))
    with pytest.raises(DatasetError, match="laid out as DIR/"):
        list(read_tracking(name, tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3,4\n1,2,3\n", "4 numbers, got '1,2,3' in line 2"),
        ("1,2,3,4\n1,2,x,4\n", "in line 2"),
        ("1,2,3\n1,2,3,4,5\n", "in line 1"),
        ("", "a line for each frame, got none"),
    ],
    ids=["too few", "no number", "ragged", "empty"],
)
def test_a_file_of_boxes_is_refused_with_the_line(text, message, tmp_path):
    (tmp_path / "boxes.txt").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_boxes(tmp_path / "boxes.txt")


def test_boxes_are_read_with_blank_lines_a_byte_order_mark_windows_lines_and_nan(tmp_path):
    (tmp_path / "boxes.txt").write_bytes("\ufeff1;2;3;4\r\n\r\nNaN,NaN,NaN,NaN\r\n".encode())
    boxes = read_boxes(tmp_path / "boxes.txt")
    assert boxes[0].tolist() == [1, 2, 3, 4] and np.isnan(boxes[1]).all()
    (tmp_path / "flags.txt").write_text("0,1,0")
    assert read_flags(tmp_path / "flags.txt", 3).tolist() == [0, 1, 0]


def test_lengths_of_flags_boxes_and_frames_must_agree(tmp_path):
    build_lasot(tmp_path)
    place = tmp_path / "airplane" / "airplane-1"
    (place / "img" / "00000003.jpg").unlink()
    with pytest.raises(DatasetError, match="got 10 boxes and 9 frames for airplane-1"):
        next(read_tracking("lasot", tmp_path)).check_length()
    (place / "out_of_view.txt").write_text("0,0")
    with pytest.raises(DatasetError, match="must have 10 flags, one a frame, got 2"):
        next(read_tracking("lasot", tmp_path))


def test_pictures_that_do_not_open_or_differ_in_size_are_refused_by_name(tmp_path):
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    small = io.BytesIO()
    Image.new("RGB", (4, 8)).save(small, "PNG")
    with pytest.raises(DatasetError, match="an image that opens, got .*cut.jpg"):
        ImageFrames([tmp_path / "cut.jpg"]).read([0])
    with pytest.raises(DatasetError, match="one size, got 4x8, 8x8"):
        ImageFrames([buffer.getvalue(), small.getvalue()]).read([0, 1])


def test_a_sequence_that_starts_without_a_box_cannot_be_tracked_by_box(tmp_path):
    row = elysium_rows(tmp_path, hidden=(0,))[0]
    with pytest.raises(DatasetError, match="the first frame must have a box.*part_a; leave .* out or use a text"):
        sequence_of_row(json.loads(json.dumps(row)), tmp_path).first_box_xyxy_px()


def test_labels_that_are_no_numbers_are_refused(tmp_path):
    (tmp_path / "flags.txt").write_text("0,yes,0")
    with pytest.raises(DatasetError, match="labels must hold numbers.*flags.txt"):
        read_flags(tmp_path / "flags.txt", 3)
