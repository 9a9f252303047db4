"""`elysium data check`: what it counts, what it draws, and what it says of broken rows."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from miniatures import build_elysium_track, build_lasot
from PIL import Image
from question_miniatures import CORNERS, HEIGHT, SIDE, WIDTH, write_video
from row_miniatures import (
    build_llava_instruct,
    build_user_folder,
    build_videochat,
    build_visual_genome,
    genome_entries,
    genome_region,
    instruct_entries,
    square_box,
    user_lines,
    write_picture,
)

import elysium.cli as cli
from elysium.readers.check import TILE_PX, check_samples, draw_sample, draw_sheet, look_at, reason_of
from elysium.readers.conversations import llava_instruct_samples, videochat_samples
from elysium.readers.frame_sources import DatasetError, ImageFrames, VideoFrames
from elysium.readers.samples import Sample, SampleList
from elysium.readers.user_folder import folder_rows
from elysium.readers.visual_genome import NO_AREA, NO_TEXT, visual_genome_samples
from elysium.training.synthetic.synthetic_samples import ArrayFrames
from elysium.visualization.contact_sheet import CAPTION_PX, GAP_PX


def pictures_row(files, *, visible=True, **fields):
    """A row about the red square of the first picture, in as many frames as there are files."""
    x, y = CORNERS[9]["red"]
    box = np.array([x, y, x + SIDE, y + SIDE]) / [WIDTH, HEIGHT, WIDTH, HEIGHT]
    boxes = np.array([box if visible else [np.nan] * 4] * len(files))
    known = {"source": "made", "key": "one", "frames": ImageFrames(files), "boxes_xyxy_norm": boxes}
    return Sample(**known | {"text": "the red square"} | fields)


@pytest.fixture
def files(tmp_path):
    return [write_picture(tmp_path / "frames" / f"{number}.png", 9) for number in range(4)]


# --- what is counted ---
def test_rows_frames_and_boxes_are_counted(tmp_path):
    lines = user_lines() + user_lines((0, 3), "blue", absent=(3,))
    summary = check_samples(folder_rows(str(build_user_folder(tmp_path, lines))))
    assert (summary["source"], summary["rows"], summary["checked"], summary["good"], summary["broken"]) == (
        "folder",
        2,
        2,
        2,
        0,
    )
    assert summary["kinds"] == {"a video with boxes": 2}
    assert summary["frames"] == {"boxed": 4, "absent": 1, "without_boxes": 0}
    # every square is 24 pixels of 96x72: the square root of 576 / 6912 is 0.2887
    assert summary["box_sides"]["20%-40%"] == sum(summary["box_sides"].values()) == 4
    assert summary["image_sizes"] == {"96x72": 2} and summary["rows_with_text"] == 2
    assert summary["errors"] == []


def test_box_sides_fall_into_the_class_that_they_end():
    sides = np.array([0.05, 0.051, 0.4, 1.0])
    boxes = np.stack([np.zeros(4), np.zeros(4), sides, sides], axis=1)
    summary = check_samples(SampleList("made", [None], lambda entry: _black_row(boxes)))
    assert summary["box_sides"] == {"0%-5%": 1, "5%-10%": 1, "10%-20%": 0, "20%-40%": 1, "40%-70%": 0, "70%-100%": 1}


def _black_row(boxes):
    frames = ArrayFrames(np.zeros((len(boxes), 8, 8, 3), np.uint8))
    return Sample(source="made", key="black", frames=frames, boxes_xyxy_norm=boxes)


def test_conversations_are_counted_by_turns(tmp_path):
    summary = check_samples(videochat_samples(str(build_videochat(tmp_path))))
    assert summary["kinds"] == {"a video with turns": 3}
    assert summary["frames"] == {"boxed": 0, "absent": 0, "without_boxes": 60}
    assert summary["turns"] == 4
    assert summary["skipped"] == {"an entry has no video": 1}


def test_what_was_left_out_at_opening_is_told_apart_from_what_is_broken(tmp_path):
    source = visual_genome_samples(str(build_visual_genome(tmp_path)))
    summary = check_samples(source)
    assert summary["skipped"] == {NO_AREA: 2, NO_TEXT: 1}
    assert (summary["rows"], summary["broken"]) == (4, 0)
    assert summary["kinds"] == {"an image with boxes": 4}


def test_a_limit_checks_the_first_rows_alone(tmp_path):
    seen = []
    summary = check_samples(
        folder_rows(str(build_user_folder(tmp_path))), limit=1, progress=lambda done, total: seen.append((done, total))
    )
    assert (summary["rows"], summary["checked"], seen) == (2, 1, [(1, 1)])


# --- what is broken ---
def test_errors_are_counted_by_reason_with_the_first_of_each(tmp_path):
    entries = genome_entries()
    entries.append({"id": 5, "regions": [genome_region(n, 9, "red") | {"image_id": 70 + n} for n in range(3)]})
    entries.append({"id": 6, "regions": ["words"]})
    summary = check_samples(visual_genome_samples(str(build_visual_genome(tmp_path, entries))))
    assert (summary["good"], summary["broken"]) == (4, 4)
    first, second = summary["errors"]
    assert (first["reason"], first["count"]) == ("image_data.json must hold the size of every image", 3)
    assert first["first_row"] == 4 and "image_id 70 of entry 2" in first["first"]
    assert (second["count"], second["first_row"]) == (1, 7)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DatasetError("a box must be below 640, got 700 in a/b.csv; is it x,y,w,h?"), "a box must be below N"),
        (DatasetError("frames must be in /data/x/img, got none; extract"), "frames must be in …"),
        (KeyError("question"), "KeyError"),
        (ValueError("words"), "ValueError"),
    ],
    ids=["number", "path", "another kind", "no rule"],
)
def test_a_reason_is_the_rule_without_what_differs_from_row_to_row(error, reason):
    assert reason_of(error) == reason


def test_an_error_that_nobody_thought_of_is_a_broken_row_too():
    def make(entry):
        raise ZeroDivisionError

    summary = check_samples(SampleList("made", [0, 1], make))
    assert summary["errors"] == [
        {"reason": "ZeroDivisionError", "count": 2, "first_row": 0, "first": "ZeroDivisionError"}
    ]


def test_a_row_must_have_a_box_for_each_frame(files):
    row = pictures_row(files)
    short = Sample(source="made", key="a", frames=row.frames, boxes_xyxy_norm=row.boxes_xyxy_norm[:3], text="x")
    with pytest.raises(DatasetError, match="a box for each frame, got 3 boxes and 4 frames in made/a"):
        look_at(short)


def test_a_row_must_have_something_to_learn(files):
    assert look_at(pictures_row(files, text=None))[0] == [0, 2, 3]  # tracking by box needs no words
    for row in (pictures_row(files, visible=False), pictures_row(files[:1], text=None)):
        with pytest.raises(DatasetError, match="something to learn, got (no visible box|an object without a text)"):
            look_at(row)


def test_the_size_of_every_picture_is_read_and_not_only_of_those_that_are_decoded(files):
    Image.new("RGB", (40, 30)).save(files[1])
    with pytest.raises(DatasetError, match="one size, got 40x30 after 96x72 in made/one"):
        look_at(pictures_row(files))
    files[1].write_bytes(b"words")
    with pytest.raises(DatasetError, match="an image that opens, got .*1.png"):
        look_at(pictures_row(files))


def test_a_picture_that_breaks_off_is_found_where_it_is_decoded(files):
    files[3].write_bytes(files[3].read_bytes()[:-40])
    with pytest.raises(DatasetError, match="decode whole, got .*3.png"):
        look_at(pictures_row(files))


def test_a_video_must_have_the_size_that_it_declares(tmp_path):
    class Boastful(VideoFrames):
        size = (640, 480)

    row = Sample(source="made", key="v", frames=Boastful(write_video(tmp_path / "a.mp4")), turns=(("q", "a"),))
    with pytest.raises(DatasetError, match="their file declares, got 96x72 after 640x480"):
        look_at(row)


# --- what is drawn ---
BLUE = np.array([0x00, 0xB8, 0xF5])


def tile_of(row, column=0):
    """The drawn frame of a sample in a column, as integers."""
    places, images = look_at(row)
    drawn = np.asarray(draw_sample(row, places, images, color=1)).astype(int)
    scale = TILE_PX / max(row.frames.size)
    width, height = (round(side * scale) for side in row.frames.size)
    top, left = round(1.4 * CAPTION_PX), column * (TILE_PX + GAP_PX)
    return drawn[top : top + height, left : left + width]


def test_the_sheet_shows_boxes_where_they_are(files):
    for column in (0, 2):
        tile = tile_of(pictures_row(files), column)
        scale = tile.shape[1] / WIDTH
        x1, y1, x2, y2 = (round(value * scale) for value in square_box(0))
        middle = (y1 + y2) // 2
        for x in (x1, x2 - 1):
            assert np.abs(tile[middle, x] - BLUE).max() < 3
        assert np.abs(tile[middle, (x1 + x2) // 2] - [255, 0, 0]).max() < 3  # nothing is written over the object


def test_a_box_narrower_than_a_pixel_of_the_sheet_is_drawn(files):
    tile = tile_of(pictures_row(files[:1], boxes_xyxy_norm=np.array([[0.5, 0.5, 0.5001, 0.5001]])))
    assert (tile[tile.shape[0] // 2, tile.shape[1] // 2] == BLUE).all()


def test_a_frame_without_the_object_has_no_box_and_another_caption(files):
    images = pictures_row(files).frames.read([0])
    there, gone = (
        np.asarray(draw_sample(pictures_row(files, visible=seen), [0], images, color=1)) for seen in (True, False)
    )
    below = round(1.4 * CAPTION_PX) + round(TILE_PX * HEIGHT / WIDTH)
    assert (there[:below] == BLUE).all(axis=-1).any() and not (gone[:below] == BLUE).all(axis=-1).any()
    assert (there[below:] != gone[below:]).any()


def test_the_sheet_holds_long_texts_portraits_and_single_images(tmp_path):
    tall = tmp_path / "tall.png"
    Image.new("RGB", (30, 400), "red").save(tall)
    talk = tuple((f"question {n} " * 30, "日本 " * 500) for n in range(9))
    rows = [
        Sample(source="made", key="long/" * 60, frames=ImageFrames([tall]), turns=talk),
        Sample(source="made", key="tall", frames=ImageFrames([tall] * 3), turns=talk),
        pictures_row([tall], description="a red thing"),
    ]
    drawn = [draw_sample(row, *look_at(row), color=n) for n, row in enumerate(rows, start=1)]
    assert len({image.width for image in drawn}) == 1 and all(image.height < 2 * TILE_PX for image in drawn)
    both, one = draw_sheet(drawn, "three rows"), draw_sheet(drawn[:1], "one row")
    assert both.height - one.height > drawn[1].height + drawn[2].height


def test_the_sample_is_the_same_for_the_same_seed_and_summary_and_sheet_are_written(tmp_path):
    source = folder_rows(str(build_user_folder(tmp_path / "data", user_lines() + user_lines((1,), "blue"))))
    sheets = []
    for place, seed in enumerate((0, 0, 1, 2, 3, 4, 5)):
        folder = tmp_path / str(place)
        summary = check_samples(source, output=folder, num_drawn=1, seed=seed)
        assert json.loads((folder / "summary.json").read_text()) == summary
        sheets.append((folder / "overlays.png").read_bytes())
    assert sheets[0] == sheets[1]
    assert len(set(sheets)) == 2  # one for each of the two rows


def test_no_sheet_is_written_where_no_row_can_be_read(tmp_path):
    lines = [["gone.mp4", *line[1:]] for line in user_lines()]
    check_samples(folder_rows(str(build_user_folder(tmp_path / "data", lines))), output=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["summary.json"]


# --- the command ---
def test_the_command_says_what_a_folder_holds_and_where_the_sheet_is(tmp_path, capsys):
    build_user_folder(tmp_path / "data")
    assert cli.run(["data", "check", str(tmp_path / "data"), "--output", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    assert shown.err == "Checking rows: 0 of 2\n"
    assert shown.out.splitlines()[0] == "folder: 2 of 2 rows can be read"
    assert "frames: 4 with a box, 1 with the object absent, 0 of rows without boxes" in shown.out
    assert f"Overlays: {tmp_path / 'out' / 'overlays.png'}" in shown.out
    assert (tmp_path / "out" / "overlays.png").is_file()


def test_the_command_fails_where_a_row_is_broken_and_shows_the_first_of_each_reason(tmp_path, capsys):
    lines = [*user_lines(), ["gone.mp4", 0, 1, 2, 3, 4, "", ""], ["lost.mp4", 0, 1, 2, 3, 4, "", ""]]
    build_user_folder(tmp_path, lines)
    assert cli.run(["data", "check", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "folder: 1 of 3 rows can be read" in shown
    assert "broken: 2 (a video must be in the folder)" in shown
    assert "first in row 1: a video must be in the folder, got no gone.mp4" in shown
    assert cli.run(["data", "check", str(tmp_path), "--limit", "1"]) == 0
    assert "1 of 1 rows can be read (there are 3)" in capsys.readouterr().out


def test_the_command_prints_json_for_other_programs(tmp_path, capsys):
    build_lasot(tmp_path, ("airplane-1", "airplane-2"))
    args = ["data", "check", str(tmp_path), "--source", "lasot", "--option", "split=all", "--json"]
    assert cli.run(args) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["source"], summary["good"]) == ("lasot", 2)
    assert summary["frames"] == {"boxed": 18, "absent": 2, "without_boxes": 0}


@pytest.mark.parametrize("source", ["elysium-track", "llava-instruct", "videochat", "visual-genome"])
def test_every_kind_of_source_is_checked_and_drawn(source, tmp_path, capsys):
    builders = {
        "elysium-track": build_elysium_track,
        "llava-instruct": build_llava_instruct,
        "videochat": build_videochat,
        "visual-genome": build_visual_genome,
    }
    folder = _built(builders[source], tmp_path)
    assert cli.run(["data", "check", str(folder), "--source", source, "--output", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out" / "overlays.png") as sheet:
        assert sheet.width > 3 * TILE_PX
    assert capsys.readouterr().out.startswith(f"{source}: ")


def _built(build, tmp_path):
    (tmp_path / "data").mkdir()
    return build(tmp_path / "data")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--source", "coco"], 2, "--source: the source must be one of elysium-track, .*folder, got 'coco'"),
        (["--source", "synthetic"], 2, "got 'synthetic'"),
        (["--option", "boxes"], 2, "--option must be NAME=VALUE, got 'boxes'"),
        (["--option", "bockses=a.csv"], 1, "an option of folder must be one of path, boxes, got bockses"),
        (["--option", "boxes=no.csv"], 1, "file that can be read"),
        (["--source", "lasot"], 1, "laid out as DIR/CLASS/SEQUENCE/groundtruth.txt"),
        (["--limit", "0"], 2, "--limit.*greater than or equal to 1"),
    ],
    ids=["source", "rendered", "no value", "option", "no file", "layout", "limit"],
)
def test_what_cannot_be_checked_is_said_in_one_line(args, code, message, tmp_path, capsys):
    build_user_folder(tmp_path)
    assert cli.run(["data", "check", str(tmp_path), *args]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("Error: ")
    assert re.search(message, line)


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_read(tmp_path, capsys):
    build_user_folder(tmp_path / "data")
    (tmp_path / "file").write_text("")
    assert cli.run(["data", "check", str(tmp_path / "data"), "--output", str(tmp_path / "file" / "out")]) == 1
    assert "the folder of an output must be writable" in capsys.readouterr().err


def test_the_check_needs_neither_torch_nor_transformers(tmp_path):
    build_user_folder(tmp_path)
    code = (
        "import sys; from elysium.cli import run; "
        f"code = run(['data', 'check', {str(tmp_path)!r}]); "
        "print('loaded', code, {'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1] == "loaded 0 set()"


def test_a_long_conversation_is_drawn(tmp_path):
    entry = instruct_entries()[0]
    entry["conversations"] = entry["conversations"] * 40
    folder = _built(lambda root: build_llava_instruct(root, [entry]), tmp_path)
    summary = check_samples(llava_instruct_samples(str(folder)), output=tmp_path / "out")
    assert (summary["good"], summary["turns"]) == (1, 80)
    with Image.open(tmp_path / "out" / "overlays.png") as sheet:
        assert sheet.height < 700


def test_records_of_another_schema_are_refused_with_the_source_that_reads_them(tmp_path, capsys):
    build_elysium_track(tmp_path)
    (rows,) = tmp_path.rglob("*.jsonl")
    assert cli.run(["data", "check", str(rows)]) == 1
    assert "read it as the source elysium-track (elysium data check --source elysium-track)" in capsys.readouterr().err
