"""The video processor: every way of giving a video, the size of what comes out, and how frames are sampled."""

import base64
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_processor
from transformers.video_utils import VideoMetadata

from elysium.processing.video_processing_elysium import ElysiumVideoProcessor

CUP = Path(__file__).parent.parent / "fixtures" / "media" / "cup.mp4"
VIDEO = np.random.default_rng(0).integers(0, 256, (3, 24, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def processor() -> ElysiumVideoProcessor:
    return ElysiumVideoProcessor(size={"height": 32, "width": 32})


def pixels(processor: ElysiumVideoProcessor, videos, **options) -> torch.Tensor:
    return processor(videos, return_tensors="pt", **options)["pixel_values_videos"]


@pytest.mark.parametrize(
    "given",
    [
        VIDEO,
        list(VIDEO),
        torch.from_numpy(VIDEO),
        [Image.fromarray(frame) for frame in VIDEO],
        [VIDEO],
        [list(VIDEO)],
        [Image.fromarray(frame).convert("RGBA") for frame in VIDEO],
    ],
    ids=["array", "list of arrays", "tensor", "pictures", "batch of one", "batch of one list", "with alpha"],
)
def test_every_way_of_giving_a_video_gives_the_same_pixels(processor, given) -> None:
    torch.testing.assert_close(pixels(processor, given), pixels(processor, VIDEO))


def test_grey_pictures_become_rgb(processor) -> None:
    grey = [Image.fromarray(frame).convert("L") for frame in VIDEO]
    torch.testing.assert_close(pixels(processor, grey), pixels(processor, [frame.convert("RGB") for frame in grey]))


def test_a_frame_is_squeezed_to_the_square_and_normalised(processor) -> None:
    flat = np.full((1, 10, 30, 3), (255, 0, 127), np.uint8)
    result = pixels(processor, flat)
    assert result.shape == (1, 3, 32, 32)
    mean, std = np.array(processor.image_mean), np.array(processor.image_std)
    expected = (np.array([255, 0, 127]) / 255 - mean) / std
    assert result.std(dim=(0, 2, 3)).max() < 1e-5
    np.testing.assert_allclose(result.mean(dim=(0, 2, 3)).numpy(), expected, atol=1e-5)


def test_the_whole_picture_is_seen_not_its_middle(processor) -> None:
    halves = np.zeros((1, 20, 80, 3), np.uint8)
    halves[:, :, 40:] = 255
    result = pixels(processor, halves)[0, 0]
    assert (result[:, :14] < result[:, 18:]).all()


def test_videos_of_several_lengths_and_sizes_are_one_flat_batch(processor) -> None:
    other = np.zeros((5, 50, 18, 3), np.uint8)
    result = processor([VIDEO, other], return_tensors="pt")
    assert result["pixel_values_videos"].shape == (8, 3, 32, 32)
    assert torch.as_tensor(result["video_num_frames"]).tolist() == [3, 5]
    torch.testing.assert_close(result["pixel_values_videos"][:3], pixels(processor, VIDEO))


def test_a_path_is_decoded_and_sampled(processor) -> None:
    result = processor(str(CUP), num_frames=4, do_sample_frames=True, return_tensors="pt", return_metadata=True)
    assert result["pixel_values_videos"].shape == (4, 3, 32, 32)
    (metadata,) = result["video_metadata"]
    assert metadata.total_num_frames == 217
    assert len(metadata.frames_indices) == 4


def test_a_message_may_hold_a_path() -> None:
    processor = tiny_processor()
    batch = processor.apply_chat_template(
        processor.build_messages("video_qa", video=str(CUP), question="What is it?"),
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"num_frames": 3, "do_sample_frames": True},
    )
    assert batch["pixel_values_videos"].shape == (3, 3, 32, 32)
    assert (batch["input_ids"] == processor.video_token_id).sum() == 15


@pytest.mark.parametrize(("wanted", "given"), [(2, 2), (10, 10), (32, 10), (10_000, 10)])
def test_sampling_clamps_to_the_frames_that_there_are(processor, wanted: int, given: int) -> None:
    metadata = VideoMetadata(total_num_frames=10, fps=5.0)
    indices = processor.sample_frames(metadata, num_frames=wanted)
    assert len(indices) == given
    assert (np.diff(indices) > 0).all()
    assert indices[0] >= 0 and indices[-1] < 10


def test_sampling_by_rate_follows_the_videos_own(processor) -> None:
    indices = processor.sample_frames(VideoMetadata(total_num_frames=20, fps=10.0), fps=5.0)
    assert len(indices) == 10


def test_an_array_is_sampled_where_asked_for(processor) -> None:
    clip = np.stack([np.full((8, 8, 3), 10 * i, np.uint8) for i in range(12)])
    metadata = [VideoMetadata(total_num_frames=12, fps=4.0)]
    result = pixels(processor, clip, video_metadata=metadata, do_sample_frames=True, num_frames=3)
    assert result.shape == (3, 3, 32, 32)
    assert (result.mean(dim=(1, 2, 3)).diff() > 0).all()


@pytest.fixture(scope="module")
def trained() -> ElysiumVideoProcessor:
    return ElysiumVideoProcessor(size={"height": 32, "width": 32}, max_trained_frames=4)


def test_a_file_is_sampled_to_the_frames_that_the_checkpoint_was_trained_on(trained) -> None:
    result = trained(str(CUP), return_tensors="pt", return_metadata=True)
    assert len(result["pixel_values_videos"]) == 4
    assert list(result["video_metadata"][0].frames_indices) == [0, 72, 144, 216]
    assert len(pixels(trained, str(CUP), num_frames=6)) == 6
    assert len(pixels(trained, str(CUP), do_sample_frames=False)) == 217


@pytest.mark.parametrize("clip", [np.zeros((6, 8, 8, 3), np.uint8), [np.zeros((8, 8, 3), np.uint8)] * 6])
def test_frames_that_are_given_are_not_sampled_unless_asked(trained, clip) -> None:
    assert len(pixels(trained, clip)) == 6
    assert len(pixels(trained, clip, do_sample_frames=True)) == 4
    assert len(pixels(trained, clip, num_frames=3)) == 3


def test_the_trained_frames_are_saved(trained, tmp_path) -> None:
    trained.save_pretrained(tmp_path)
    assert ElysiumVideoProcessor.from_pretrained(tmp_path).max_trained_frames == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": 0}, "num_frames must be an integer of 1 or more, got 0"),
        ({"num_frames": -1}, "num_frames must be an integer of 1 or more, got -1"),
        ({"num_frames": 2.5}, "num_frames must be an integer of 1 or more, got 2.5"),
        ({"num_frames": True}, "num_frames must be an integer of 1 or more, got True"),
        ({"fps": 0}, "fps must be a number above 0, got 0"),
        ({"fps": -2.0}, "fps must be a number above 0, got -2.0"),
        ({"fps": float("nan")}, "fps must be a number above 0, got nan"),
        ({"fps": 2, "num_frames": 2}, "give num_frames or fps, not both, got num_frames=2 and fps=2"),
    ],
)
def test_a_number_of_frames_that_is_none_is_refused(processor, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        pixels(processor, str(CUP), **options)


def test_saving_and_loading_keeps_the_size(processor, tmp_path) -> None:
    processor.save_pretrained(tmp_path)
    loaded = ElysiumVideoProcessor.from_pretrained(tmp_path)
    assert loaded.size == processor.size
    torch.testing.assert_close(pixels(loaded, VIDEO), pixels(processor, VIDEO))


def write_frames(path: Path, codec: str, num_frames: int) -> Path:
    """A small video whose frames get lighter."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options={"lossless": "1"} if "vp9" in codec else {})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 20, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "h264"), ("webm", "libvpx-vp9"), ("ts", "mpeg2video")])
@pytest.mark.parametrize(
    ("options", "indices"),
    [
        ({}, range(12)),
        ({"num_frames": 3}, (0, 6, 11)),
        ({"num_frames": 32}, range(12)),
        ({"fps": 5}, range(0, 12, 2)),
        ({"fps": 1000}, range(12)),
    ],
    ids=["all", "three", "more than there are", "by rate", "by a rate above the file's"],
)
def test_frames_are_sampled_whether_or_not_the_file_tells_its_length(
    processor, tmp_path, suffix, codec, options, indices
) -> None:
    path = write_frames(tmp_path / f"video.{suffix}", codec, 12)
    result = pixels(processor, str(path), do_sample_frames=True, **options)
    brightness = result.mean(dim=(1, 2, 3))
    every = pixels(processor, str(path)).mean(dim=(1, 2, 3))
    assert len(every) == 12 and (every.diff() > 0).all()
    torch.testing.assert_close(brightness, every[list(indices)])


def test_a_video_in_a_data_url_is_the_file(processor) -> None:
    url = "data:video/mp4;base64," + base64.b64encode(CUP.read_bytes()).decode()
    options = {"do_sample_frames": True, "num_frames": 2}
    torch.testing.assert_close(pixels(processor, url, **options), pixels(processor, str(CUP), **options))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere.mp4", "a video or image must be an existing file or folder, got nowhere.mp4"),
        ("data:video/mp4;base64,#", "a video or image in a data: URL must be base64 after the comma"),
    ],
)
def test_a_video_that_cannot_be_read_is_said(processor, given, message) -> None:
    with pytest.raises((OSError, ValueError), match=message):
        pixels(processor, given)
