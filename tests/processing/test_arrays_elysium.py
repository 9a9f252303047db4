"""Arrays of every usual kind: what is recognised gives the same pixels, what may be two things is refused."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from elysium.processing.image_processing_elysium import ElysiumImageProcessor
from elysium.processing.images_elysium import image_array, video_array
from elysium.processing.video_processing_elysium import ElysiumVideoProcessor
from elysium.tracking.streams import open_stream, read_image, sample_frames

CUP = Path(__file__).parent.parent / "fixtures" / "media" / "cup.mp4"
VIDEO = np.random.default_rng(0).integers(0, 256, (5, 24, 40, 3), dtype=np.uint8)
GREY = np.repeat(VIDEO[..., :1], 3, axis=-1)
BLACK_AND_WHITE = np.where(GREY > 127, 255, 0).astype(np.uint8)
OPAQUE = np.concatenate([VIDEO, np.full((*VIDEO.shape[:3], 1), 255, np.uint8)], axis=-1)

KINDS = {
    "uint8": (VIDEO, VIDEO),
    "floats of 0..1": (VIDEO / 255, VIDEO),
    "float32 of 0..1": ((VIDEO / 255).astype(np.float32), VIDEO),
    "floats of 0..255": (VIDEO.astype(np.float64), VIDEO),
    "int16": (VIDEO.astype(np.int16), VIDEO),
    "int64": (VIDEO.astype(np.int64), VIDEO),
    "booleans": (BLACK_AND_WHITE > 0, BLACK_AND_WHITE),
    "grey with a channel": (GREY[..., :1], GREY),
    "grey": (GREY[..., 0], GREY),
    "opaque RGBA": (OPAQUE, VIDEO),
    "clear RGBA": (OPAQUE * np.array([1, 1, 1, 0], np.uint8), np.full_like(VIDEO, 255)),
    "channels first": (VIDEO.transpose(0, 3, 1, 2), VIDEO),
    "a tensor": (torch.from_numpy(VIDEO), VIDEO),
    "a tensor of floats, channels first": (torch.from_numpy(VIDEO).permute(0, 3, 1, 2) / 255, VIDEO),
    "a tensor in half precision": (torch.from_numpy(BLACK_AND_WHITE).to(torch.bfloat16) / 255, BLACK_AND_WHITE),
}


@pytest.mark.parametrize(("given", "expected"), KINDS.values(), ids=KINDS)
def test_a_kind_that_is_recognised_gives_the_same_pixels(given, expected) -> None:
    for video in (given, list(given)):
        np.testing.assert_array_equal(video_array(video), expected)
    np.testing.assert_array_equal(image_array(given[0]), expected[0])


@pytest.mark.parametrize(("given", "expected"), KINDS.values(), ids=KINDS)
def test_chat_and_tracker_see_the_same(given, expected) -> None:
    processor = ElysiumVideoProcessor(size={"height": 24, "width": 40})
    seen = processor(given, return_tensors="pt")["pixel_values_videos"]
    torch.testing.assert_close(seen, processor(expected, return_tensors="pt")["pixel_values_videos"])
    images = ElysiumImageProcessor(size={"height": 24, "width": 40})
    torch.testing.assert_close(images(given[0], return_tensors="pt")["pixel_values"], seen[:1])
    tracked = [frame.image for frame in open_stream(given, fps=5)]
    np.testing.assert_array_equal(tracked, expected)
    np.testing.assert_array_equal(read_image(given[0]), expected[0])


def test_the_darkness_of_a_frame_does_not_change_the_range_of_its_video() -> None:
    floats = VIDEO.astype(np.float64)
    floats[0] = 1.0
    assert video_array(floats)[0].max() == video_array(list(floats))[0].max() == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (VIDEO.astype(np.float32) * 2, "0..255, or floats 0..1, got float32 from 0 to 510; undo a normalisation"),
        (VIDEO / 127.5 - 1, "got float64 from -1 to 1"),
        (np.full((2, 8, 8, 3), np.nan), "got float64 from nan to nan"),
        (VIDEO.astype(np.uint16) * 257, "got uint16 from 0 to 65535"),
        (VIDEO.astype(complex), "pixels must be numbers, got complex128"),
        (GREY[:3, ..., 0], r"got \(3, 24, 40\), which may be 3 grey frames or one image with channels first"),
        (np.zeros((2, 8, 8, 2), np.uint8), r"with 1, 3 or 4 channels C, got \(2, 8, 8, 2\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"at least one frame, got \(0, 8, 8, 3\)"),
        (np.zeros(8, np.uint8), r"at least one frame, got \(8,\)"),
        ([VIDEO[0], VIDEO[0, :20]], "every frame must be 40x24 like the first, got 40x20 at frame 1"),
    ],
)
def test_what_may_be_two_things_or_none_is_refused_by_name(given, message) -> None:
    with pytest.raises(ValueError, match=message):
        video_array(given)
    with pytest.raises(ValueError, match=message):
        ElysiumVideoProcessor()(given)


def test_floats_that_are_not_to_be_rescaled_stay_as_they_are() -> None:
    options = {"do_rescale": False, "do_normalize": False, "do_resize": False, "return_tensors": "pt"}
    seen = ElysiumVideoProcessor()(VIDEO / 255, **options)["pixel_values_videos"]
    torch.testing.assert_close(seen.permute(0, 2, 3, 1).double(), torch.from_numpy(VIDEO / 255))


@pytest.mark.parametrize("media", [str(CUP), CUP, CUP.read_bytes(), io.BytesIO(CUP.read_bytes())])
def test_a_file_may_be_a_path_or_its_bytes_or_a_file_object(media) -> None:
    processor = ElysiumVideoProcessor(size={"height": 32, "width": 32})
    seen = processor(media, num_frames=2, return_tensors="pt")["pixel_values_videos"]
    expected = processor(str(CUP), num_frames=2, return_tensors="pt")["pixel_values_videos"]
    assert torch.equal(seen, expected)


@pytest.mark.parametrize("media", [CUP, CUP.read_bytes()], ids=["path", "bytes"])
def test_the_tracker_takes_a_files_bytes(media) -> None:
    assert sample_frames(media, 3).shape == (3, 480, 640, 3)


@pytest.mark.parametrize(
    "videos",
    [
        [str(CUP), VIDEO],
        [VIDEO, str(CUP)],
        [list(VIDEO), CUP],
        [[Image.fromarray(frame) for frame in VIDEO], VIDEO],
        [[VIDEO, str(CUP)]],
        [[VIDEO], [list(VIDEO)]],
        [[], [VIDEO, CUP.read_bytes()]],
        np.stack([VIDEO, VIDEO]),
    ],
    ids=["path, array", "array, path", "list, path", "images, array", "nested", "batch", "none in the first", "five"],
)
def test_each_video_is_read_and_sampled_by_its_own_kind(videos) -> None:
    processor = ElysiumVideoProcessor(size={"height": 32, "width": 32}, max_trained_frames=3)
    assert processor(videos, num_frames=2)["video_num_frames"] == [2, 2]


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        ([], "a video must have at least one frame, got an empty list"),
        ([[[]]], "a video must have at least one frame, got an empty list"),
        (3, "a video must be a path, .* got int"),
        ([None], "a video must be a path, .* got NoneType"),
        ({"video": VIDEO}, "a video must be a path, .* got dict"),
    ],
)
def test_what_is_no_video_is_refused(videos, message) -> None:
    with pytest.raises(ValueError, match=message):
        ElysiumVideoProcessor()(videos)


def test_frame_indices_and_frames_in_different_numbers_are_refused() -> None:
    metadata = [{"total_num_frames": 30, "fps": 10.0, "frames_indices": [0, 5]}]
    with pytest.raises(ValueError, match="an index for each frame, got 2 frames_indices and 5 frames"):
        ElysiumVideoProcessor()(VIDEO, video_metadata=metadata)
