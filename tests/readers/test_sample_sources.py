"""Sources of training rows on miniatures in their official layouts, and what they say of broken data."""

import json
import pickle
import tracemalloc
from functools import partial

import numpy as np
import pytest
from miniatures import build_elysium_track, build_got10k, build_lasot, build_tnl2k, build_trackingnet
from PIL import Image
from question_miniatures import HEIGHT, WIDTH, box_xyxy, build_refer, encoded_rows, picture_with, write_parquet
from row_miniatures import (
    VIDEO_FRAMES,
    build_llava_instruct,
    build_llava_pretrain,
    build_user_folder,
    build_videochat,
    build_visual_genome,
    genome_entries,
    genome_region,
    instruct_entries,
    pretrain_entries,
    spoken,
    videochat_entries,
    write_picture,
)

import elysium.training.synthetic.synthetic_samples as synthetic_samples
from elysium.readers.conversations import llava_instruct_samples, llava_pretrain_samples, videochat_samples
from elysium.readers.frame_sources import DatasetError, ImageFrames, SomeFrames
from elysium.readers.refcoco import refcoco_samples
from elysium.readers.visual_genome import NO_AREA, NO_TEXT, visual_genome_samples
from elysium.training.catalogue import SOURCES, open_source
from elysium.training.synthetic import World

SIZES = [WIDTH, HEIGHT, WIDTH, HEIGHT]
SYNTHETIC = {"count": 4, "seed": 3, "frames": 3, "width": 64, "height": 48}


@pytest.fixture(autouse=True)
def small_worlds(monkeypatch):
    """Banks of pictures that are quickly drawn."""
    small = partial(World, num_backgrounds=2, num_unnamed=4, num_variants=1)
    monkeypatch.setattr(synthetic_samples, "World", small)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder for each source that has one."""
    builders = {
        "elysium-track": build_elysium_track,
        "llava-pretrain": build_llava_pretrain,
        "llava-instruct": build_llava_instruct,
        "refcoco": build_refer,
        "visual-genome": build_visual_genome,
        "videochat": build_videochat,
        "lasot": lambda root: build_lasot(root, ("airplane-1", "airplane-2")),
        "got10k": lambda root: build_got10k(root, "train"),
        "trackingnet": build_trackingnet,
        "tnl2k": build_tnl2k,
        "folder": build_user_folder,
    }
    found = {name: build(tmp_path_factory.mktemp(name.replace("-", "_"))) for name, build in builders.items()}
    return found | {"refcoco+": found["refcoco"], "refcocog": found["refcoco"]}


def all_rows(source):
    return [source[index] for index in range(len(source))]


# --- all sources ---
@pytest.mark.parametrize("name", SOURCES)
def test_every_source_gives_rows_of_its_name_with_keys_of_their_own_and_frames_that_decode(name, folders):
    spec = {"source": name} | (SYNTHETIC if name == "synthetic" else {"path": str(folders[name])})
    source = open_source(spec)
    rows = all_rows(source)
    assert rows and source.name == name
    assert {row.source for row in rows} == {name}
    keys = [row.key for row in rows]
    assert len(set(keys)) == len(keys)
    assert keys == [row.key for row in all_rows(open_source(spec))]
    for row in rows:
        last = len(row.frames) - 1
        width, height = row.frames.size
        assert row.frames.read([last]).shape == (1, height, width, 3)
        assert row.boxes_xyxy_norm is None or row.boxes_xyxy_norm.shape == (last + 1, 4)


def test_the_tracking_benchmarks_give_their_training_splits(folders):
    lasot = open_source({"source": "lasot", "path": str(folders["lasot"])})
    assert [row.key for row in all_rows(lasot)] == ["airplane-2"]  # airplane-1 is of the test set
    assert len(open_source({"source": "lasot", "path": str(folders["lasot"]), "split": "all"})) == 2
    (row,) = all_rows(open_source({"source": "trackingnet", "path": str(folders["trackingnet"])}))
    assert row.key == "abc_0" and row.visible.all()


def test_elysium_track_takes_its_file_or_a_folder_with_one(folders, tmp_path):
    file = folders["elysium-track"] / "rows.jsonl"
    row = open_source({"source": "elysium-track", "path": str(file)})[0]
    assert (row.text, row.visible.tolist().index(False)) == ("the red square", 4)
    for names in ((), ("a.jsonl", "b.jsonl")):
        for name in names:
            (tmp_path / name).write_text("{}\n")
        with pytest.raises(DatasetError, match=f"one JSONL file, got {', '.join(names) or 'none'} in"):
            open_source({"source": "elysium-track", "path": str(tmp_path)})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "a source must be one of elysium-track, .*folder, got None"),
        ({"source": "coco"}, "got 'coco'"),
        ({"source": ["lasot"]}, "must be one of"),
        ({"source": "lasot"}, "lasot must have the option path, got none"),
        (
            {"source": "lasot", "path": "x", "spilt": "train"},
            "an option of lasot must be one of path, split, got spilt",
        ),
        ({"source": "synthetic", "path": "x", "count": 1}, "must be one of count, seed.*got path"),
        ({"source": "synthetic", "count": "9"}, "the option count of synthetic must be int, got '9'"),
        ({"source": "synthetic", "count": True}, "must be int, got True"),
        ({"source": "llava-pretrain", "path": "x", "images": 3}, r"must be str \| None, got 3"),
        ({"source": "got10k", "path": "x", "split": "test"}, "must be train or val, got test"),
    ],
    ids=["nothing", "unknown", "a list", "no path", "typo", "no such option", "text", "bool", "number", "withheld"],
)
def test_an_unknown_source_or_option_is_refused_with_what_there_is(spec, message):
    with pytest.raises(DatasetError, match=message):
        open_source(spec)


# --- some frames ---
def test_some_frames_are_a_video_of_their_own(tmp_path):
    files = [write_picture(tmp_path / f"{number}.png", number) for number in (9, 25, 581857)]
    some = SomeFrames(ImageFrames(files), [0, 2])
    assert (len(some), some.size) == (2, (WIDTH, HEIGHT))
    assert np.array_equal(some.read([1])[0], picture_with(581857))
    assert [np.array_equal(*pair) for pair in zip(some, some.read([0, 1]), strict=True)] == [True, True]
    for indices in ([], [-1, 2], [2, 0], [1, 1]):
        with pytest.raises(DatasetError, match="0 or more and strictly increasing"):
            SomeFrames(ImageFrames(files), indices)


# --- LLaVA ---
@pytest.mark.parametrize("images", ["", "images"])
def test_llava_pretrain_gives_captions_without_the_placeholder(images, tmp_path):
    source = llava_pretrain_samples(str(build_llava_pretrain(tmp_path, images=images)))
    first, second = all_rows(source)
    assert first.turns == (("Render a clear and concise summary of the photo.", "squares on black"),)
    assert second.turns == (("Write a terse but informative summary.", "three squares – ünïcode"),)
    assert (first.key, first.boxes_xyxy_norm, source.skipped) == ("0-004539375", None, {})
    assert np.abs(first.frames.read([0])[0].astype(int) - picture_with(9)).mean() < 6  # JPEG


def test_llava_instruct_skips_entries_without_a_picture_and_counts_them(tmp_path):
    build_llava_instruct(tmp_path)
    source = llava_instruct_samples(str(tmp_path / "llava_v1_5_mix665k.json"))
    several, one = all_rows(source)
    assert source.skipped == {"an entry has no image": 1}
    assert several.turns == (("What is red?", "a square"), ("And what is blue?", "another square"))
    assert one.turns == (("How many squares are in here?", "three"),)
    assert [several.key, one.key] == ["0-000000033471", "2-000000033471"]


def test_llava_instruct_of_150k_reads_pictures_from_the_folder_that_is_named(tmp_path):
    entry = instruct_entries()[2] | {"image": "000000033471.jpg"}
    build_llava_instruct(tmp_path, [entry], name="llava_instruct_150k.json")
    source = open_source(
        {"source": "llava-instruct", "path": str(tmp_path), "images": str(tmp_path / "coco" / "train2017")}
    )
    assert source[0].frames.read([0]).shape == (1, HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conversations": None}, "must have id, image, conversations, got .* in entry 1 of"),
        ({"image": ["a.jpg", "b.jpg"]}, "image must be one path"),
        ({"conversations": []}, "each with its answer, got 0"),
        ({"conversations": "words"}, "each with its answer, got str"),
        ({"conversations": spoken("a", "b", "c")}, "each with its answer, got 3"),
        ({"conversations": spoken("a", "b")[::-1]}, "human and gpt must take turns, got 'gpt' for 'human'"),
        ({"conversations": spoken("<image>\n", "b")}, "a turn must have text, got '<image>"),
        ({"conversations": spoken("a", " ")}, "a turn must have text, got ' ' of gpt"),
        ({"conversations": [{"from": "human"}, {"from": "gpt"}]}, "must have from, value"),
    ],
    ids=["none", "two pictures", "empty", "text", "odd", "order", "no question", "no answer", "no value"],
)
def test_a_broken_llava_entry_is_refused_when_it_is_asked_for_and_not_before(change, message, tmp_path):
    good, bad = pretrain_entries()
    source = llava_pretrain_samples(str(build_llava_pretrain(tmp_path, [good, bad | change, good])))
    with pytest.raises(DatasetError, match=message):
        source[1]
    assert len(source) == 3 and source[0].turns == source[2].turns


def test_an_entry_that_is_no_object_is_a_broken_row(tmp_path):
    source = llava_pretrain_samples(str(build_llava_pretrain(tmp_path, ["words"])))
    with pytest.raises(DatasetError, match="must have id, image, conversations, got str in entry 0"):
        source[0]


def test_a_folder_without_the_json_file_is_refused_with_its_name(tmp_path):
    with pytest.raises(DatasetError, match="blip_laion_cc_sbu_558k.json in"):
        llava_pretrain_samples(str(tmp_path))


def test_reading_a_row_opens_no_picture(tmp_path):
    build_llava_pretrain(tmp_path)
    for picture in tmp_path.rglob("*.jpg"):
        picture.unlink()
    row = llava_pretrain_samples(str(tmp_path))[0]
    with pytest.raises(DatasetError, match="an image that opens, got .*004539375.jpg"):
        row.frames.read([0])


def test_an_entry_takes_less_than_a_hundred_bytes_of_memory(tmp_path):
    entries = [pretrain_entries()[0] | {"id": str(number)} for number in range(20_000)]
    build_llava_pretrain(tmp_path, entries)
    tracemalloc.start()
    source = llava_pretrain_samples(str(tmp_path))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(source) == 20_000
    assert held < 100 * 20_000  # an entry is about 300 bytes of JSON, and five times that as Python objects


def test_sources_of_json_lists_travel_to_the_workers_of_a_loader(folders):
    for name in ("llava-pretrain", "llava-instruct", "visual-genome", "videochat", "folder", "refcoco"):
        source = open_source({"source": name, "path": str(folders[name])})
        assert pickle.loads(pickle.dumps(source))[0].key == source[0].key


def test_a_picture_with_other_pixels_than_its_annotation_is_still_a_row(tmp_path):
    # LLaVA's pictures are of any size: only what is decoded tells it.
    build_llava_pretrain(tmp_path)
    Image.new("RGB", (7, 5)).save(tmp_path / "00453" / "004539375.jpg")
    assert llava_pretrain_samples(str(tmp_path))[0].frames.size == (7, 5)


# --- Visual Genome ---
def test_visual_genome_gives_a_row_for_each_region_with_its_box_cut_to_the_picture(tmp_path):
    source = visual_genome_samples(str(build_visual_genome(tmp_path)))
    rows = all_rows(source)
    assert [row.key for row in rows] == ["9/1382", "9/1383", "9/1387", "25/2001"]
    assert source.skipped == {NO_AREA: 2, NO_TEXT: 1}
    assert rows[0].boxes_xyxy_norm * SIZES == pytest.approx(np.array([box_xyxy(9, "red")]))
    assert rows[1].boxes_xyxy_norm * SIZES == pytest.approx(np.array([[0, 60, 20, HEIGHT]]))
    assert (rows[3].text, rows[3].description) == ("the blue square", "the blue square")
    assert rows[3].frames.files[0].parent.name == "VG_100K_2"
    assert source[-1].key == "25/2001"
    with pytest.raises(IndexError, match="out of bounds .* size 4"):
        source[4]


def test_pictures_of_visual_genome_may_stand_elsewhere(tmp_path):
    build_visual_genome(tmp_path / "annotations")
    (tmp_path / "annotations" / "VG_100K").rename(tmp_path / "VG_100K")
    source = visual_genome_samples(str(tmp_path / "annotations"), images=str(tmp_path))
    assert source[0].frames.size == (WIDTH, HEIGHT)
    with pytest.raises(DatasetError, match="got no 25.jpg in .*extract images.zip"):
        source[3]


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (genome_region(1, 9, "red", phrase=None), "must have region_id, .*phrase, got .* in entry 1"),
        (genome_region(1, 9, "red", x="left"), "four numbers and a phrase"),
        (genome_region(1, 9, "red", phrase=7), "four numbers and a phrase"),
        (genome_region(1, 25, "red") | {"image_id": 77}, "got none with image_id 77 of entry 1"),
        ("words", "got str"),
    ],
    ids=["no phrase", "no number", "no words", "unknown picture", "no object"],
)
def test_a_broken_region_is_refused_when_it_is_asked_for_and_not_before(region, message, tmp_path):
    first, last = genome_entries()
    source = visual_genome_samples(str(build_visual_genome(tmp_path, [first, {"id": 9, "regions": [region]}, last])))
    assert len(source) == 5
    with pytest.raises(DatasetError, match=message):
        source[3]
    assert source[4].key == "25/2001"


def test_an_entry_without_a_list_of_regions_is_one_broken_row(tmp_path):
    source = visual_genome_samples(str(build_visual_genome(tmp_path, [{"id": 9}, *genome_entries()])))
    with pytest.raises(DatasetError, match="must have region_id"):
        source[0]
    assert source[1].key == "9/1382"


def test_a_picture_whose_size_is_not_given_breaks_its_regions_alone(tmp_path):
    build_visual_genome(tmp_path)
    sizes = [{"image_id": 9, "width": 0, "height": 72}, "x", {"image_id": 25, "width": WIDTH, "height": HEIGHT}]
    (tmp_path / "image_data.json").write_text(json.dumps(sizes))
    source = visual_genome_samples(str(tmp_path))
    with pytest.raises(DatasetError, match="size of every image, got none with image_id 9"):
        source[0]
    assert source[len(source) - 1].key == "25/2001"


def test_visual_genome_without_regions_or_files_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="must hold image_data.json"):
        visual_genome_samples(str(tmp_path))
    build_visual_genome(tmp_path, [{"id": 9, "regions": []}])
    with pytest.raises(DatasetError, match="regions to learn from, got none"):
        visual_genome_samples(str(tmp_path))


# --- VideoChat ---
def test_videochat_gives_conversations_whose_first_question_has_the_instruction(tmp_path):
    source = videochat_samples(str(build_videochat(tmp_path)))
    talk, caption, plain = all_rows(source)
    assert talk.turns == (("Watch the video. How many squares move?", "three"), ("Is one red?", "yes"))
    assert caption.turns == (("Describe the video.", "Squares move."),)
    assert plain.turns == (("What moves?", "squares"),)
    assert source.skipped == {"an entry has no video": 1}
    assert (talk.key, plain.key) == ("0/webvid/001/1.mp4", "3/webvid/3.mkv")
    assert caption.frames.video.name == "2.5.webm"
    assert (len(plain.frames), plain.frames.size) == (VIDEO_FRAMES, (WIDTH, HEIGHT))


def test_videochat_finds_videos_beside_its_file_or_where_it_is_told(tmp_path):
    build_videochat(tmp_path / "a", videos="")
    assert videochat_samples(str(tmp_path / "a" / "videochat_instruct_11k.json"))[0].frames.size == (WIDTH, HEIGHT)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.json").write_text(json.dumps(videochat_entries()))
    assert len(videochat_samples(str(tmp_path / "b"), videos=str(tmp_path / "a"))[0].frames) == VIDEO_FRAMES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"QA": None}, "must have video, QA, got .* in entry 0"),
        ({"QA": []}, r"list of questions with answers, got \[\]"),
        ({"QA": [{"q": "What?"}]}, "must have a, got q"),
        ({"QA": [{"i": " ", "q": "", "a": "words"}]}, "must be text, got '' and 'words'"),
        ({"QA": [{"q": "What?", "a": " "}]}, "must be text, got 'What\\?' and ''"),
        ({"start": 1.5, "end": 4}, "a whole video, got one from 1.5 to 4 s"),
        ({"video": "webvid/9.mp4"}, "must be there as .mp4, .webm, .mkv, got no .*webvid/9.mp4 for entry 0"),
    ],
    ids=["none", "empty", "no answer", "no question", "blank answer", "a part", "missing"],
)
def test_a_broken_videochat_entry_is_refused_when_it_is_asked_for_and_not_before(change, message, tmp_path):
    first, *others = videochat_entries()
    source = videochat_samples(str(build_videochat(tmp_path, [first | change, *others])))
    with pytest.raises(DatasetError, match=message):
        source[0]
    assert source[1].turns


def test_a_folder_with_several_files_of_questions_is_refused(tmp_path):
    build_videochat(tmp_path)
    (tmp_path / "more.json").write_text("[]")
    with pytest.raises(DatasetError, match="one JSON file of questions, got more.json, videochat_instruct_11k.json"):
        videochat_samples(str(tmp_path))


# --- RefCOCO ---
def test_refcoco_gives_a_row_for_each_sentence_of_the_training_split(folders):
    (row,) = all_rows(open_source({"source": "refcoco", "path": str(folders["refcoco"])}))
    assert (row.text, row.description, row.key) == ("red square", "red square", "refcoco/train/11/0")
    assert row.boxes_xyxy_norm * SIZES == pytest.approx(np.array([box_xyxy(9, "red")]))
    google = open_source({"source": "refcocog", "path": str(folders["refcocog"]), "split": "google:train"})
    assert [row.text for row in all_rows(google)][1:] == ["the red square", "red thing in the middle"]


def test_refcoco_asks_the_picture_where_no_size_is_given_and_refuses_boxes_beside_it(tmp_path):
    root = build_refer(tmp_path)
    path = root / "refcoco" / "instances.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"] = [WIDTH, 0, 10, 10]
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="inside its 96x72 image, got"):
        refcoco_samples(str(root))[0]


def test_refcoco_refuses_pictures_inside_parquet_files_and_what_is_not_there(tmp_path):
    write_parquet(tmp_path / "train.parquet", encoded_rows("train"))
    with pytest.raises(DatasetError, match="a folder in the official layout, got .*/"):
        refcoco_samples(str(tmp_path))
    with pytest.raises(DatasetError, match="a folder in the official layout, got owner/name"):
        refcoco_samples("owner/name")


def test_a_broken_sequence_of_a_benchmark_breaks_its_own_row_alone_and_rows_go_to_other_processes(tmp_path):
    build_lasot(tmp_path, ["cat-1", "cat-2"])
    (tmp_path / "cat" / "cat-2" / "groundtruth.txt").write_text("1,2,3\n")
    rows = pickle.loads(pickle.dumps(open_source({"source": "lasot", "path": str(tmp_path), "split": "all"})))
    assert len(rows) == 2 and rows[0].frames.read([0]).shape[0] == 1
    with pytest.raises(DatasetError, match="4 numbers, got '1,2,3'"):
        rows[1]
