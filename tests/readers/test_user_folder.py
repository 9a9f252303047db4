"""A user's folder of videos and boxes: what a line may be, which frames a row has, and what is said of wrong lines."""

import json
import shutil

import numpy as np
import pytest
from question_miniatures import HEIGHT, WIDTH
from row_miniatures import (
    CSV_COLUMNS,
    VIDEO_FRAMES,
    build_user_folder,
    copy_video,
    square_box,
    user_lines,
    write_csv,
)

from elysium.processing.structures import Track, TrackingResult
from elysium.processing.video_io import VideoInfo, read_video
from elysium.readers import user_folder
from elysium.readers.frame_sources import DatasetError
from elysium.readers.user_folder import folder_rows

SIZES = [WIDTH, HEIGHT, WIDTH, HEIGHT]


def only_row(root, **options):
    source = folder_rows(str(root), **options)
    assert len(source) == 1
    return source[0]


def objects_of(lines):
    """The same lines as JSONL."""
    return [
        {name: None if value == "" else value for name, value in zip(CSV_COLUMNS, line, strict=True)} for line in lines
    ]


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def result_of(frames, boxes, reasons=None, *, size=(WIDTH, HEIGHT), video="elsewhere/cup.mp4", text="the red square"):
    """What `elysium track` has of one object."""
    reasons = reasons or [None] * len(frames)
    valid = np.array([reason is None for reason in reasons])
    track = Track(
        frame_indices=np.array(frames),
        timestamps_s=np.array(frames) / 10,
        boxes_xyxy_px=np.where(valid[:, None], np.array(boxes, float), np.nan),
        valid=valid,
        scores=np.where(valid, 0.9, np.nan),
        reasons=reasons,
        track_id=1,
        text=text,
        width=size[0],
        height=size[1],
    )
    return TrackingResult(video, 10.0, *size, "elysium-tiny", True, [track])


# --- rows and their frames ---
def test_a_row_is_one_object_of_one_video_with_the_listed_frames_alone(tmp_path):
    source = folder_rows(str(build_user_folder(tmp_path)))
    red, blue = source[0], source[1]
    assert (len(source), source.name, red.source) == (2, "folder", "folder")
    assert (red.key, red.text, red.description) == ("cup.mp4#red", "the red square", "the red square")
    assert red.boxes_xyxy_norm * SIZES == pytest.approx(np.array([square_box(frame) for frame in (0, 5, 10)]))
    assert (len(red.frames), red.frames.size) == (3, (WIDTH, HEIGHT))
    whole = read_video(tmp_path / "cup.mp4").frames
    assert np.array_equal(red.frames.read([0, 2]), whole[[0, 10]])
    assert all(np.array_equal(*pair) for pair in zip(red.frames, whole[[0, 5, 10]], strict=True))
    # four empty cells: the object is not in sight, which is known
    assert blue.visible.tolist() == [True, False]


def test_lines_may_come_in_any_order(tmp_path):
    row = only_row(build_user_folder(tmp_path, user_lines()[::-1]))
    assert row.frames.indices == [0, 5, 10]
    assert row.boxes_xyxy_norm[:, 0] * WIDTH == pytest.approx([4, 14, 24])


def test_object_and_text_may_be_left_out_and_other_columns_are_not_looked_at(tmp_path):
    lines = [[*line[:6], "0.93"] for line in user_lines()]
    row = only_row(build_user_folder(tmp_path, lines, (*CSV_COLUMNS[:6], "confidence")))
    assert (row.key, row.text, row.description) == ("cup.mp4", None, None)
    assert row.visible.all()


def test_a_text_on_one_line_is_the_text_of_the_object(tmp_path):
    lines = user_lines()
    lines[0][-1] = lines[2][-1] = ""
    assert only_row(build_user_folder(tmp_path, lines)).text == "the red square"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_may_have_commas_semicolons_or_tabs_and_a_byte_order_mark(delimiter, tmp_path):
    build_user_folder(tmp_path)
    path = write_csv(tmp_path / "boxes.csv", user_lines(text='red, "square"\nof two lines'), delimiter=delimiter)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    row = only_row(tmp_path)
    assert len(row.frames) == 3
    assert " ".join(row.text.split()) == 'red, "square" of two lines'


def test_jsonl_lines_have_the_same_columns_and_null_for_absence(tmp_path):
    build_user_folder(tmp_path)
    (tmp_path / "boxes.csv").unlink()
    write_lines(tmp_path / "boxes.jsonl", objects_of(user_lines(absent=(5,))))
    row = only_row(tmp_path)
    assert row.visible.tolist() == [True, False, True]
    assert row.key == "cup.mp4#red"


def test_frame_numbers_of_a_table_that_made_them_decimals_are_read(tmp_path):
    lines = user_lines()
    lines[1][1] = "5.0"
    assert only_row(build_user_folder(tmp_path, lines)).frames.indices == [0, 5, 10]


def test_videos_may_stand_in_folders_below(tmp_path):
    build_user_folder(tmp_path)
    copy_video(tmp_path, "walk/b.mp4")
    lines = [["walk/b.mp4", *line[1:]] for line in user_lines()]
    write_csv(tmp_path / "boxes.csv", lines)
    assert only_row(tmp_path).key == "walk/b.mp4#red"


def test_a_box_over_the_edge_is_cut(tmp_path):
    line = ["cup.mp4", 0, -8, 60, 48, 200, "a", "words"]
    row = only_row(build_user_folder(tmp_path, [line]))
    assert row.boxes_xyxy_norm * SIZES == pytest.approx(np.array([[0, 60, 48, HEIGHT]]))


# --- which file ---
def test_the_file_of_boxes_may_be_given_itself_or_by_name(tmp_path):
    build_user_folder(tmp_path / "videos")
    write_csv(tmp_path / "videos" / "other.csv", user_lines((1,)))
    write_csv(tmp_path / "far.csv", user_lines((2,)))
    with pytest.raises(DatasetError, match="one CSV or JSONL file of boxes, got boxes.csv, other.csv in"):
        folder_rows(str(tmp_path / "videos"))
    assert only_row(tmp_path / "videos", boxes="other.csv").frames.indices == [1]
    assert only_row(tmp_path / "videos", boxes=str(tmp_path / "far.csv")).frames.indices == [2]
    assert only_row(tmp_path / "videos" / "other.csv").frames.indices == [1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("boxes.csv", "cup.mp4,0,1,2,3,4\n", "first line must name the columns video, .*got 'cup.mp4,0,1,2,3,4'"),
        ("boxes.csv", "video,frame_idx,x1,y1,x2\n", "without y2 in .*add a header"),
        ("boxes.csv", "", "first line must name the columns"),
        ("boxes.csv", ",".join(CSV_COLUMNS) + "\n", "must hold lines, got none"),
        ("boxes.csv", "\xff\xfe", "it is not UTF-8"),
        ("boxes.jsonl", "\n", "must hold lines, got none"),
        ("boxes.json", "[[1, 2, 3, 4]]", "as TrackingResult.save writes it, got .*boxes.json"),
        ("boxes.json", '{"tracks": ', "must be JSON, got"),
    ],
    ids=["no header", "no y2", "empty", "header alone", "not text", "blank", "a list", "cut"],
)
def test_a_file_of_boxes_that_cannot_be_used_at_all_is_refused_when_it_is_opened(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(DatasetError, match=message):
        folder_rows(str(tmp_path))


def test_a_folder_that_is_missing_or_has_no_boxes_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="existing folder of videos, got .*/no;"):
        folder_rows(str(tmp_path / "no"))
    with pytest.raises(DatasetError, match=r"laid out as DIR/VIDEO.mp4 beside DIR/BOXES.csv"):
        folder_rows(str(tmp_path))
    with pytest.raises(DatasetError, match="must end in .csv, .jsonl, .json, got .*boxes.txt"):
        folder_rows(str(tmp_path), boxes="boxes.txt")
    with pytest.raises(DatasetError, match="file that can be read, got .*more.csv"):
        folder_rows(str(tmp_path), boxes="more.csv")


# --- lines that are wrong ---
def broken(**cells):
    """The second line of the red square with other cells."""
    return [cells.get(name, value) for name, value in zip(CSV_COLUMNS, user_lines()[1], strict=True)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (broken(frame_idx="five"), "frame_idx must be a whole number from 0, got 'five' in line 3 of .*boxes.csv"),
        (broken(frame_idx=-1), "got '-1' in line 3"),
        (broken(frame_idx=1.5), "got '1.5' in line 3"),
        (broken(frame_idx=""), "got '' in line 3"),
        (broken(x1="left"), "four numbers, got 'left,6,38,30' in line 3"),
        (broken(x1=""), "four numbers, got ',6,38,30' in line 3 .*leave all four empty"),
        (broken(x2=10), "x1 < x2 and y1 < y2, got '14,6,10,30' in line 3 .*is it x,y,w,h"),
        (broken(y2="nan"), "must be four numbers, got '14,6,38,nan'"),
        (broken(x1=600, x2=640), "inside the 96x72 image, got 600,6,640,30 in line 3 .*after rotation"),
        (broken(frame_idx=VIDEO_FRAMES), "below the video's 20 frames, got 20 in line 3 .*count from 0"),
        (broken(frame_idx=10), "two in frame 10 of cup.mp4, line 3 of .* and line 4; .*column object"),
        (broken(text="a cup"), "one text, got 'a cup' after 'the red square' in line 3"),
    ],
    ids=[
        "frame in words",
        "frame below 0",
        "half a frame",
        "no frame",
        "no number",
        "one empty",
        "width",
        "nan",
        "outside",
        "late",
        "twice",
        "two texts",
    ],
)
def test_a_wrong_line_breaks_the_row_of_its_object_alone_and_is_named(line, message, tmp_path):
    first, _, last = user_lines()
    source = folder_rows(str(build_user_folder(tmp_path, [first, line, last, *user_lines((0,), "blue")])))
    with pytest.raises(DatasetError, match=message):
        source[0]
    assert source[1].text == "the blue square"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["", *user_lines()[0][1:]], "must name its video, got none in line 3"),
        (user_lines()[0][:5], "as many cells as the header, 8, got 5 in line 3 .*in quotes"),
        ([*user_lines()[0], "more"], "got 9 in line 3"),
    ],
    ids=["no video", "too few cells", "too many cells"],
)
def test_a_line_that_belongs_to_no_object_is_a_broken_row_of_its_own(line, message, tmp_path):
    source = folder_rows(str(build_user_folder(tmp_path, [user_lines()[0], line, user_lines()[1]])))
    assert len(source[0].frames) == 2
    with pytest.raises(DatasetError, match=message):
        source[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be JSON, got .* in line 2 of .*boxes.jsonl"),
        ("[1]", "a JSON object, got list in line 2"),
        ('{"frame_idx": 1}', "must name its video, got none in line 2"),
        ('{"video": "cup.mp4", "frame_idx": 1, "x1": 1}', "must have x1, y1, x2 and y2, got none for y1 in line 2"),
        ('{"video": "cup.mp4", "frame_idx": true, "x1": 1}', "whole number from 0, got True in line 2"),
    ],
    ids=["no JSON", "a list", "no video", "no y1", "a bool"],
)
def test_a_wrong_object_of_jsonl_is_named_by_its_line(text, message, tmp_path):
    build_user_folder(tmp_path)
    (tmp_path / "boxes.jsonl").write_text(json.dumps(objects_of(user_lines())[0]) + "\n" + text + "\n")
    source = folder_rows(str(tmp_path), boxes="boxes.jsonl")
    assert source[0].key == "cup.mp4#red"
    with pytest.raises(DatasetError, match=message):
        source[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "in the folder, got no gone.mp4 in .*line 2 of"), (b"", "with 0 bytes"), (b"words" * 99, "video")],
    ids=["missing", "empty", "no video"],
)
def test_a_video_that_is_missing_or_does_not_open_breaks_its_row(content, message, tmp_path):
    build_user_folder(tmp_path, [["gone.mp4", *line[1:]] for line in user_lines()] + user_lines((0,), "blue"))
    if content is not None:
        (tmp_path / "gone.mp4").write_bytes(content)
    source = folder_rows(str(tmp_path))
    with pytest.raises(DatasetError, match=message):
        source[0]
    assert source[1].visible.all()


def test_a_declared_length_that_is_too_short_is_not_believed(tmp_path, monkeypatch):
    lines = user_lines((0, VIDEO_FRAMES - 1))
    source = folder_rows(str(build_user_folder(tmp_path, lines)))
    monkeypatch.setattr(user_folder, "probe_video", lambda path: VideoInfo(str(path), WIDTH, HEIGHT, 10.0, 5, 0.5))
    assert source[0].frames.read([1]).shape == (1, HEIGHT, WIDTH, 3)


def test_a_video_is_looked_at_once_however_many_objects_it_has(tmp_path, monkeypatch):
    source = folder_rows(str(build_user_folder(tmp_path)))
    looked_at = []
    probe = user_folder.probe_video
    monkeypatch.setattr(user_folder, "probe_video", lambda path: looked_at.append(path) or probe(path))
    for _ in range(3):
        assert source[0].key != source[1].key
    assert looked_at == [tmp_path / "cup.mp4"]


# --- what `elysium track` writes ---
def test_what_elysium_track_wrote_is_read_with_unreadable_frames_left_out(tmp_path):
    build_user_folder(tmp_path)
    (tmp_path / "boxes.csv").unlink()
    frames = [0, 1, 2, 3]
    reasons = [None, "absent", "unreadable", None]
    result_of(frames, [square_box(frame) for frame in frames], reasons).save(tmp_path / "cup.boxes.json")
    row = only_row(tmp_path)
    assert row.frames.indices == [0, 1, 3]  # of frame 2 nothing is known
    assert row.visible.tolist() == [True, False, True]
    assert row.boxes_xyxy_norm[2] * SIZES == pytest.approx(square_box(3))
    assert (row.text, row.key) == ("the red square", "elsewhere/cup.mp4#cup.boxes:1")


def test_each_video_may_have_a_file_of_its_own(tmp_path):
    build_user_folder(tmp_path)
    copy_video(tmp_path, "b.mp4")
    (tmp_path / "boxes.csv").unlink()
    results = [result_of([0, 4], [square_box(0), square_box(4)], video=name) for name in ("cup.mp4", "b.mp4")]
    for name, result in zip(("one.json", "two.json"), results, strict=True):
        result.save(tmp_path / name)
    source = folder_rows(str(tmp_path))
    assert [source[index].key for index in range(len(source))] == ["cup.mp4#one:1", "b.mp4#two:1"]
    # set out on several lines
    (tmp_path / "one.json").write_text(json.dumps(results[0].to_dict(), indent=2))
    assert only_row(tmp_path / "one.json").frames.indices == [0, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 640, "height": 480}, "the video's size 96x72, got 640x480 in .*track the video again"),
        ({"tracks": [{"id": 1}]}, r"as TrackingResult.save writes it, got .*cup.json \(KeyError: 'frames'\)"),
        ({"tracks": "none"}, "as TrackingResult.save writes it, got .*TypeError"),
        ({"width": 8}, "ValueError: box_xyxy_px must lie inside the 8x72 image"),
        ({"width": None}, "as TrackingResult.save writes it, got .*TypeError"),
    ],
    ids=["another size", "no frames", "no tracks", "outside", "no width"],
)
def test_a_broken_result_of_elysium_track_is_refused(change, message, tmp_path):
    build_user_folder(tmp_path)
    record = result_of([0], [square_box(0)]).to_dict() | change
    (tmp_path / "cup.json").write_text(json.dumps(record))
    with pytest.raises(DatasetError, match=message):
        folder_rows(str(tmp_path / "cup.json"))[0]


def test_a_track_without_any_known_frame_is_a_broken_row(tmp_path):
    build_user_folder(tmp_path)
    result_of([0], [[0, 0, 1, 1]], ["unreadable"]).save(tmp_path / "cup.json")
    with pytest.raises(DatasetError, match="an object must have frames, got none for elsewhere/cup.mp4"):
        folder_rows(str(tmp_path / "cup.json"))[0]


def test_the_same_data_gives_the_same_keys_wherever_it_stands(tmp_path):
    build_user_folder(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert folder_rows(str(tmp_path / "a"))[0].key == folder_rows(str(tmp_path / "b"))[0].key


@pytest.mark.parametrize(
    ("mark", "numbers"),
    [
        (";", "10,5 10,25 40,5 40,0"),
        ("\t", "10,5 10,25 40,5 40,0"),
        (";", "10,500 10,25 40,500 40"),
        (";", "10.5 10.25 40.5 40.0"),
        ("\t", "10.5 10.25 40.5 40.0"),
        (",", "10.5 10.25 40.5 40.0"),
        (",", '"10,5" "10,25" "40,5" "40,0"'),
        (",", '"10.5" "10.25" "40.5" "40.0"'),
        (";", "1,05e1 10,25 40,5 40"),
    ],
)
def test_numbers_are_read_with_a_decimal_point_or_a_decimal_comma(mark, numbers, tmp_path):
    build_user_folder(tmp_path)
    header = mark.join(("video", "frame_idx", "x1", "y1", "x2", "y2"))
    (tmp_path / "boxes.csv").write_text(f"{header}\n{mark.join(['cup.mp4', '0', *numbers.split()])}\n")
    np.testing.assert_allclose(only_row(tmp_path).boxes_xyxy_norm * SIZES, [[10.5, 10.25, 40.5, 40.0]])


@pytest.mark.parametrize(
    ("mark", "numbers", "message"),
    [
        (";", "1,234 10 1,240 40", "a comma may be a decimal comma or stand between thousands; write decimal points"),
        (";", "1.234,5 10 1.240,5 40", "four numbers, got '1.234,5;10;1.240,5;40' .*without marks between thousands"),
        (";", "1,234.5 10 1,240.5 40", "without marks between thousands"),
        (";", "1'234 10 1'240 40", "without marks between thousands"),
        (";", "1_0 10 40 40", "four numbers"),
        (";", "1e999 10 40 40", "four numbers"),
        (",", "10,5 10,25 40,5 40,0", "as many cells as the header, 6, got 10 in line 2 .*not decimal commas"),
    ],
)
def test_marks_between_thousands_are_refused(mark, numbers, message, tmp_path):
    build_user_folder(tmp_path)
    header = mark.join(("video", "frame_idx", "x1", "y1", "x2", "y2"))
    (tmp_path / "boxes.csv").write_text(f"{header}\n{mark.join(['cup.mp4', '0', *numbers.split()])}\n")
    with pytest.raises(DatasetError, match=message):
        only_row(tmp_path)


def test_boxes_in_shares_of_the_image_are_refused_with_the_size_to_multiply_by(tmp_path):
    build_user_folder(tmp_path)
    lines = ["video,frame_idx,x1,y1,x2,y2,object,text", "cup.mp4,0,0.1,0.1,0.5,0.5,1,the cup", "cup.mp4,1,,,,,1,"]
    (tmp_path / "shares.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DatasetError, match=r"must be in pixels, got 0\.1,0\.1,0\.5,0\.5 .* multiply .* 96 and 72"):
        folder_rows(str(tmp_path / "shares.csv"))[0]
