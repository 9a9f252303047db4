"""RefCOCO and its siblings from miniatures in their official layout and in Parquet."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from question_miniatures import (
    HEIGHT,
    WIDTH,
    box_xyxy,
    build_refer,
    encoded_rows,
    instances,
    malicious_pickle,
    picture_name,
    picture_with,
    python2_pickle,
    reference_rows,
    write_parquet,
)

from elysium.readers.frame_sources import DatasetError
from elysium.readers.plain_pickle import load_plain_pickle
from elysium.readers.refcoco import read_refcoco, read_referred_objects


@pytest.fixture(scope="module")
def refer(tmp_path_factory):
    return build_refer(tmp_path_factory.mktemp("refer"))


def texts(source, dataset="refcoco", split="val", **options):
    return [expression.text for expression in read_refcoco(source, dataset, split, **options)]


# --- the official layout ---
@pytest.mark.parametrize("dataset", ["refcoco", "refcoco+", "refcocog"])
@pytest.mark.parametrize("pictures", ["images/train2014", "images/mscoco/images/train2014"])
def test_every_sentence_is_a_sample_with_the_corners_of_its_object(dataset, pictures, tmp_path):
    samples = list(read_refcoco(build_refer(tmp_path, pictures=pictures), dataset, "val"))
    assert [sample.text for sample in samples] == ["the green square", "green one", "the blue square"]
    assert [list(sample.target.box_xyxy_px) for sample in samples] == [
        box_xyxy(9, "green"),
        box_xyxy(9, "green"),
        box_xyxy(25, "blue"),
    ]
    # x,y,w,h of the annotation: 40,10,24,24
    assert samples[0].target.box_xyxy_px == (40, 10, 64, 34)
    assert np.abs(samples[2].target.load_image().astype(int) - picture_with(25)).mean() < 6  # JPEG
    assert len({sample.key for sample in samples}) == 3


@pytest.mark.parametrize(
    ("split", "numbers"),
    [
        ("train", [11]),
        ("val", [12, 13]),
        ("testA", [14]),
        ("testB", [15]),
        ("test", [14, 15]),
        ("testB,val", [15, 12, 13]),
    ],
)
def test_a_split_gives_its_own_objects_and_test_gives_both_parts(refer, split, numbers):
    keys = [target.key for target in read_referred_objects(refer, "refcoco", split)]
    assert [int(key.split("/")[-1]) for key in keys] == numbers


def test_another_partition_is_named_before_the_split(refer):
    assert texts(refer, "refcocog", "google:val") == ["the green square", "green one", "the blue square"] + [
        "the blue square"
    ]
    with pytest.raises(DatasetError, match=r"must hold refs\(google\).p, got refs\(unc\).p"):
        texts(refer, "refcoco", "google:val")


def test_an_unknown_split_names_those_that_are_there(refer):
    with pytest.raises(DatasetError, match="one of testA, testB, train, val"):
        texts(refer, split="minival")


def test_a_limit_counts_sentences_and_needs_no_pictures_beyond_them(refer, tmp_path):
    assert texts(refer, limit=1) == ["the green square"]
    folder = build_refer(tmp_path)
    (folder / "images/train2014" / picture_name(25)).unlink()
    assert texts(folder, limit=1) == ["the green square"]


def test_missing_pictures_are_counted_and_the_first_is_named(tmp_path):
    folder = build_refer(tmp_path)
    (folder / "images/train2014" / picture_name(25)).unlink()
    with pytest.raises(DatasetError, match=rf"all 2 images must be there, got 1 missing, first \S+{picture_name(25)}"):
        texts(folder)


def test_a_sentence_without_words_takes_the_raw_one_and_is_left_out_where_that_is_empty_too(tmp_path):
    folder, rows = build_refer(tmp_path), reference_rows()
    rows[1]["sentences"][0] |= {"sent": "", "raw": "Green!"}
    rows[1]["sentences"][1] |= {"sent": " ", "raw": ""}
    (folder / "refcoco" / "refs(unc).p").write_bytes(python2_pickle(rows))
    assert texts(folder) == ["Green!", "the blue square"]


def test_a_picture_of_another_size_than_annotated_is_refused(tmp_path):
    folder = build_refer(tmp_path)
    Image.new("RGB", (WIDTH // 2, HEIGHT // 2)).save(folder / "images/train2014" / picture_name(9))
    with pytest.raises(DatasetError, match="must have the annotated size 96x72, got 48x36"):
        next(read_refcoco(folder)).target.load_image()


def test_a_picture_is_taken_as_it_is_stored_whatever_its_exif_says(tmp_path):
    folder = build_refer(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to show it
    Image.fromarray(picture_with(9)).save(folder / "images/train2014" / picture_name(9), exif=exif, quality=95)
    assert next(read_refcoco(folder)).target.load_image().shape == (HEIGHT, WIDTH, 3)


def test_a_box_that_reaches_past_the_edge_is_kept_and_cut_only_to_be_asked_about(tmp_path):
    folder, content = build_refer(tmp_path), instances()
    content["annotations"][1]["bbox"] = [80.0, 10.0, 16.4, 20.0]
    (folder / "refcoco" / "instances.json").write_text(json.dumps(content))
    target = next(read_referred_objects(folder))
    assert target.box_xyxy_px == pytest.approx((80, 10, 96.4, 30))
    assert target.box_inside(WIDTH, HEIGHT) == (80, 10, 96, 30)


def test_a_folder_that_is_something_else_says_what_is_looked_for(tmp_path):
    with pytest.raises(DatasetError, match="must be a folder with refcoco/instances.json"):
        texts(tmp_path)


# --- pickles ---
def test_the_text_of_python_2_comes_out_whole_whether_it_was_bytes_or_unicode(tmp_path):
    rows = [{"sent": "café à gauche".encode(), "other": "café".encode("latin-1"), "wide": "café", "n": 3}]
    (tmp_path / "a.p").write_bytes(python2_pickle(rows))
    expected = [{"sent": "café à gauche", "other": "café", "wide": "café", "n": 3}]
    assert load_plain_pickle(tmp_path / "a.p") == expected


def test_the_binary_form_of_python_2_is_read_too(tmp_path):
    # protocol 2: a list with the byte string "abc" and the unicode "ü"
    (tmp_path / "a.p").write_bytes(b"\x80\x02]q\x00(U\x03abcq\x01X\x02\x00\x00\x00\xc3\xbcq\x02e.")
    assert load_plain_pickle(tmp_path / "a.p") == ["abc", "ü"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_of_every_protocol_of_today_are_read(protocol, tmp_path):
    value = [{"a": (1, 2.5, None, True), "ü": "ä", "big": 2**70}]
    (tmp_path / "a.p").write_bytes(pickle.dumps(value, protocol))
    assert load_plain_pickle(tmp_path / "a.p") == value


def test_a_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path):
    path = malicious_pickle(tmp_path / "refs.p", tmp_path / "ran")
    with pytest.raises(DatasetError, match="nothing but dictionaries, lists, text and numbers"):
        load_plain_pickle(path)
    assert not (tmp_path / "ran").exists()
    pickle.loads(path.read_bytes())  # it would have
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("opcode", [b"cbuiltins\nlist\n.", b"(ibuiltins\nlist\n.", b"\x82\x01.", b"Pid\n."])
def test_even_harmless_names_and_references_are_refused(opcode, tmp_path):
    (tmp_path / "a.p").write_bytes(opcode)
    with pytest.raises(DatasetError, match="nothing but"):
        load_plain_pickle(tmp_path / "a.p")


@pytest.mark.parametrize("length", [0, 1, 40, 200])
def test_a_pickle_that_is_cut_off_is_an_error_that_names_the_file(length, tmp_path):
    (tmp_path / "a.p").write_bytes(python2_pickle(reference_rows())[:length])
    with pytest.raises(DatasetError, match=r"a\.p"):
        load_plain_pickle(tmp_path / "a.p")


# --- parquet ---
def test_the_form_with_encoded_pictures_has_boxes_of_x_y_w_h(tmp_path):
    write_parquet(tmp_path / "data" / "val-00000-of-00001.parquet", encoded_rows())
    write_parquet(tmp_path / "data" / "testA-00000-of-00001.parquet", encoded_rows("testA"))
    samples = list(read_refcoco(tmp_path, "refcoco", "val"))
    assert [sample.text for sample in samples] == ["the green square", "green one", "the blue square"]
    assert list(samples[2].target.box_xyxy_px) == box_xyxy(25, "blue")
    assert np.array_equal(samples[2].target.load_image(), picture_with(25))
    assert texts(tmp_path, split="testA") == ["the red square", "red thing in the middle"]


def test_a_row_without_a_column_or_with_a_box_of_no_area_is_named(tmp_path):
    (row, *_) = encoded_rows()
    for change, message in (
        ({"answer": None}, "must have answer, image, bbox, got .* in row val/0"),
        ({"bbox": [40.0, 10.0, -1.0, 24.0]}, r"must be finite and have an area, .* val/0; is it x1,y1,x2,y2\?"),
        ({"image": {"bytes": None, "path": "a.jpg"}}, "must hold encoded images"),
    ):
        write_parquet(tmp_path / "val.parquet", [row | change])
        with pytest.raises(DatasetError, match=message):
            texts(tmp_path)


def test_a_file_that_tells_no_split_is_refused_in_a_folder_and_taken_whole_alone(tmp_path):
    write_parquet(tmp_path / "other.parquet", encoded_rows())
    with pytest.raises(DatasetError, match="named SPLIT"):
        texts(tmp_path)
    assert texts(tmp_path / "other.parquet") == ["the green square", "green one", "the blue square"]


def test_a_split_without_rows_is_an_error(tmp_path):
    write_parquet(tmp_path / "val.parquet", [])
    with pytest.raises(DatasetError, match="must have rows"):
        texts(tmp_path)


def test_a_data_set_of_the_hub_is_streamed_undecoded_by_its_id(tmp_path, monkeypatch):
    import datasets

    write_parquet(tmp_path / "val.parquet", encoded_rows())
    asked = []

    def stand_in(name, *, split, streaming):
        asked.append((name, split, streaming))
        rows = real("parquet", data_files=str(tmp_path / "val.parquet"), split="train", streaming=True)
        return rows.cast_column("image", datasets.Image())

    real = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", stand_in)
    samples = list(read_refcoco("hf://lmms-lab/RefCOCO", "refcoco", "val"))
    assert asked == [("lmms-lab/RefCOCO", "val", True)]
    assert [list(sample.target.box_xyxy_px) for sample in samples][1] == box_xyxy(9, "green")
    assert isinstance(samples[0].target.image, bytes)


def test_reading_loads_no_trainer():
    code = (
        "import sys, elysium.readers.refcoco, elysium.readers.video_qa;"
        "print([name for name in ('trl', 'peft', 'transformers', 'datasets') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_an_object_keeps_its_sentences_together_for_descriptions(refer):
    targets = list(read_referred_objects(refer, "refcoco", "val"))
    assert [target.sentences for target in targets] == [("the green square", "green one"), ("the blue square",)]
    assert all(isinstance(target.image, Path) for target in targets)
