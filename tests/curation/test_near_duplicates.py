"""The same images are found again after other coding and scaling, others are not."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from elysium.curation.near_duplicates import (
    VideoPrint,
    duplicate_videos,
    fingerprints,
    image_hash,
    leak_report,
)
from elysium.processing.video_io import read_video

MEDIA = Path(__file__).parent.parent / "fixtures" / "media"


def as_jpeg(image, quality=92, size=None):
    content = io.BytesIO()
    Image.fromarray(image).resize(size or image.shape[1::-1]).save(content, "JPEG", quality=quality)
    return content.getvalue()


def a_print(bits, vid="v"):
    found = np.zeros(192, np.uint8)
    found[list(bits)] = 1
    return VideoPrint(vid, found)


@pytest.fixture(scope="module")
def media_rows():
    """A row for each of the media folder's videos, with four frames inside."""
    rows = []
    for path in sorted(MEDIA.glob("*.mp4")):
        frames = read_video(path, num_frames=4).frames
        rows.append({"vid": path.stem, "frames": [{"bytes": as_jpeg(frame)} for frame in frames], "metadata": {}})
    return rows


def test_videos_that_were_coded_and_scaled_again_are_found_and_no_others(media_rows):
    again = []
    for row in media_rows:
        images = [np.asarray(Image.open(io.BytesIO(frame["bytes"]))) for frame in row["frames"]]
        half = (images[0].shape[1] // 2, images[0].shape[0] // 2)
        frames = [{"bytes": as_jpeg(image, 30, half)} for image in images]
        again.append(row | {"vid": f"{row['vid']} again", "frames": frames})
    found = duplicate_videos(list(fingerprints([*media_rows, *again], None)))
    assert found == [[place, place + len(media_rows)] for place in range(len(media_rows))]


def test_a_video_has_one_print_however_many_rows(media_rows):
    row = media_rows[0]
    (found,) = fingerprints([row, row | {"id": "another object"}], None)
    assert found.image_bits.shape == (192,)
    assert set(found.image_bits.tolist()) == {0, 1}


def test_a_print_is_the_same_after_it_was_written():
    bits = np.random.default_rng(0).integers(0, 2, 192).astype(np.uint8)
    written = VideoPrint("v", bits).hex()
    assert len(written) == 48 and (VideoPrint.of_hex("v", written).image_bits == bits).all()


def test_prints_up_to_the_given_distance_are_found_wherever_the_bits_differ():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2, 192).astype(np.uint8)
    for _ in range(20):
        near, far = base.copy(), base.copy()
        near[rng.permutation(192)[:11]] ^= 1
        far[rng.permutation(192)[:12]] ^= 1
        assert duplicate_videos([VideoPrint("a", base), VideoPrint("b", near)]) == [[0, 1]]
        assert duplicate_videos([VideoPrint("a", base), VideoPrint("b", far)]) == []


def test_groups_are_chained():
    chain = [a_print(()), a_print(range(10)), a_print(range(20)), a_print(range(100, 150))]
    assert duplicate_videos(chain) == [[0, 1, 2]]
    assert duplicate_videos([a_print(()), a_print(range(60)), a_print(())]) == [[0, 2]]
    assert duplicate_videos([]) == []


def test_a_leak_is_what_stands_on_both_sides():
    train = [a_print((), "a"), a_print(range(60), "b"), a_print(range(60), "c")]
    val = [a_print([5], "x"), a_print(range(90, 150), "y"), a_print(range(150, 192), "b")]
    assert leak_report(train, val) == {
        "train_videos": 3,
        "val_videos": 3,
        "same_videos": ["b"],
        "same_pictures": [{"train": ["a"], "val": ["x"]}],
        "leaked_val_videos": 2,
    }
    clean = leak_report(train, [])
    assert clean["leaked_val_videos"] == 0 and clean["same_pictures"] == []


def test_the_hash_of_a_mirrored_image_is_another():
    image = read_video(MEDIA / "cup.mp4", num_frames=1).frames[0]
    bits = image_hash(image)
    assert bits.shape == (64,) and (bits != image_hash(np.ascontiguousarray(image[:, ::-1]))).sum() > 16
