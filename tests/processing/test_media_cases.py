"""Files as users have them: each is read as what it shows, and alike by chat, training and tracking."""

import base64
import io
import os
import struct
import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from elysium.processing.containers_elysium import ContainerSource
from elysium.processing.image_processing_elysium import fetch_images
from elysium.processing.images_elysium import open_image
from elysium.processing.media_elysium import VideoReader, load_image, probe_video, read_frames
from elysium.processing.media_info_elysium import VideoError, media_file
from elysium.processing.video_io import read_video
from elysium.processing.video_processing_elysium import ElysiumVideoProcessor
from elysium.readers.frame_sources import ImageFrames, VideoFrames
from elysium.tracking.streams import open_stream, read_image

FIXTURES = Path(__file__).parents[1] / "fixtures"
CASES = FIXTURES / "cases"
ALL_MEDIA = sorted(
    path
    for folder in ("cases", "media", "real_clips")
    for path in (FIXTURES / folder).iterdir()
    if path.suffix not in (".md", ".json", ".jsonl")
)
WHITE = [255, 255, 255]


def read(media):
    """All frames, and the reader with what it met."""
    with VideoReader(media) as reader:
        return list(reader), reader


def times_s(media) -> list[float]:
    return [frame.timestamp_s for frame in read(media)[0]]


def quadrants() -> np.ndarray:
    """Red, green above blue, white: every turn and mirror of it differs."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32], image[:24, 32:], image[24:, :32], image[24:, 32:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), 255
    return image


def corners(image: np.ndarray) -> str:
    names = {(1, 0, 0): "R", (0, 1, 0): "G", (0, 0, 1): "B", (1, 1, 1): "W"}
    height, width = image.shape[:2]
    places = ((4, 4), (4, width - 5), (height - 5, 4), (height - 5, width - 5))
    return "".join(names[tuple(int(value > 127) for value in image[place])] for place in places)


def clear_left() -> np.ndarray:
    """Red, its left half transparent."""
    image = np.full((48, 64, 4), 255, np.uint8)
    image[..., 1:3] = image[:, :32, 3] = 0
    return image


def write_video(path: Path, codec: str, pixels: str, images, *, rate=10, container=None, **options) -> Path:
    with av.open(str(path), "w", **(container or {})) as target:
        stream = target.add_stream(codec, rate=rate, options={key.replace("_", "-"): v for key, v in options.items()})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pixels
        for image in images:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24" if image.shape[2] == 3 else "rgba")
            target.mux(stream.encode(frame.reformat(format=pixels)))
        target.mux(stream.encode())
    return path


def write_png_16_bit(path: Path, pixels: str, values: list[int]) -> None:
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 64, 48, pixels, Fraction(1)
    frame = av.VideoFrame(64, 48, pixels)
    row = np.tile(np.array(values, ">u2"), 64).tobytes()
    frame.planes[0].update(row.ljust(frame.planes[0].line_size, b"\0") * 48)
    path.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]))


def mjpeg_avi(path: Path, count: int, *, declared: int | None = None, exif: Image.Exif | None = None) -> Path:
    """An AVI of JPEGs, whose header may declare another number of frames."""
    content = io.BytesIO()
    Image.fromarray(quadrants()).save(content, "JPEG", quality=95, **({} if exif is None else {"exif": exif}))
    with av.open(str(path), "w") as target:
        stream = target.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 64, 48, "yuvj420p", Fraction(1, 10)
        for number in range(count):
            packet = av.Packet(content.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 10)
            packet.is_keyframe = True
            target.mux(packet)
    if declared is not None:
        data = bytearray(path.read_bytes())
        struct.pack_into("<I", data, data.index(b"avih") + 24, declared)
        struct.pack_into("<I", data, data.index(b"strh") + 40, declared)
        path.write_bytes(data)
    return path


# -- Every reader sees the same arrays --


def through_chat(path: Path) -> tuple[np.ndarray, list[float]]:
    """Frames and times as the processor gets them for a chat, before they are resized."""
    processor = ElysiumVideoProcessor(size={"height": 8, "width": 8})
    (frames,), (metadata,) = processor.fetch_videos([str(path)])
    return frames, metadata.timestamps


@pytest.mark.parametrize("path", ALL_MEDIA, ids=lambda path: path.name)
def test_chat_training_and_tracking_see_the_same_frames_at_the_same_times(path: Path) -> None:
    stream = open_stream(path)
    tracked = list(stream)
    stream.close()
    chat, chat_times_s = through_chat(path)
    training = VideoFrames(path)
    assert len(tracked) == len(chat) == len(training)
    assert chat_times_s == [frame.timestamp_s for frame in tracked]
    for index, (frame, trained) in enumerate(zip(tracked, training, strict=True)):
        assert frame.index == index
        np.testing.assert_array_equal(frame.image, chat[index])
        np.testing.assert_array_equal(frame.image, trained)
    last = len(tracked) - 1
    np.testing.assert_array_equal(training.read([last])[0], tracked[last].image)
    for encoded in (path.read_bytes(), io.BytesIO(path.read_bytes())):
        np.testing.assert_array_equal(read_frames(encoded, max_frames=1)[0][0].image, tracked[0].image)


@pytest.mark.parametrize("name", ["deep_grey.png", "float_0_to_1.tif", "grid_2x2_192x128.avif"])
def test_an_image_is_the_same_array_for_chat_training_and_tracking(name: str) -> None:
    path = CASES / name
    url = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    tracked = read_image(path)
    with Image.open(path) as opened:
        (given,) = fetch_images([opened])
    for other in (*fetch_images([str(path), url, path.read_bytes()]), given, ImageFrames([path]).read([0])[0]):
        np.testing.assert_array_equal(other, tracked)


# -- What each file shows --


@pytest.mark.parametrize(
    ("name", "size", "count"),
    [
        ("exif.avi", (64, 48), 8),
        ("grid_2x2_192x128.avif", (192, 128), 1),
        ("circ90.mp4", (240, 320), 8),
        ("fragments.mp4", (96, 64), 30),
        ("second_stream_is_default.mkv", (96, 64), 20),
    ],
)
def test_size_and_number_of_frames(name: str, size: tuple[int, int], count: int) -> None:
    frames, reader = read(CASES / name)
    assert (reader.info.width, reader.info.height) == size
    assert len(frames) == count == reader.length()
    assert reader.warnings == []


@pytest.mark.parametrize(
    ("name", "expected", "fps"),
    [
        ("h264_bframes_25.avi", np.arange(50) / 25, 25),
        ("raw_2997.h264", np.arange(60) * 1001 / 30000, 30000 / 1001),
        ("delays_200_500_300_1000.webp", [0, 0.2, 0.7, 1.0], 2),
        ("apng_still_in_front.png", [0, 0.2, 0.7, 1.0], 2),
        ("one_frame_an_hour.mp4", [0, 3600, 7200, 10800], 4 / 10801),
    ],
)
def test_times_and_rate(name: str, expected, fps: float) -> None:
    assert times_s(CASES / name) == pytest.approx(list(expected), abs=1e-3)
    assert probe_video(CASES / name).fps == pytest.approx(fps)


def test_how_long_each_frame_stands_is_known_also_of_the_last() -> None:
    frames, _ = read(CASES / "last_frame_3s.gif")
    assert [frame.duration_s for frame in frames] == pytest.approx([0.1, 0.1, 0.1, 3.0])
    hours, _ = read(CASES / "one_frame_an_hour.mp4")
    assert [frame.duration_s for frame in hours] == pytest.approx([3600, 3600, 3600, 1])


def test_the_aspect_of_pixels_is_known_and_turns_with_the_image(tmp_path: Path) -> None:
    assert probe_video(CASES / "pixels_2_to_1.mp4").pixel_aspect == 2
    assert probe_video(CASES / "plain.mp4").pixel_aspect == 1
    with av.open(str(CASES / "pixels_2_to_1.mp4")) as source, av.open(str(tmp_path / "a.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(90)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert probe_video(tmp_path / "a.mp4").pixel_aspect == Fraction(1, 2)


@pytest.mark.parametrize("declared", [3, 60])
def test_a_header_that_declares_another_length_is_not_believed(tmp_path: Path, declared: int) -> None:
    path = mjpeg_avi(tmp_path / "a.avi", 40, declared=declared)
    assert read_video(path, num_frames=5).frame_indices.tolist() == [0, 10, 20, 29, 39]
    _, reader = read(path)
    assert (reader.info.num_frames, reader.info.duration_s, reader.warnings) == (40, 4.0, [])
    assert len(VideoFrames(path)) == 40


def test_chosen_frames_reach_the_true_end_of_a_file_without_an_index(tmp_path: Path) -> None:
    path = mjpeg_avi(tmp_path / "a.avi", 40, declared=3)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"idx1")])
    assert read_video(path, num_frames=5).frame_indices.tolist() == [0, 10, 20, 29, 39]


def test_fragments_are_sampled_to_the_end() -> None:
    assert read_video(CASES / "fragments.mp4", num_frames=5).frame_indices.tolist() == [0, 7, 14, 22, 29]


def test_an_honest_file_is_decoded_once_to_sample_it(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    decode = ContainerSource.decode
    monkeypatch.setattr(ContainerSource, "decode", lambda self, found: passes.append(1) or decode(self, found))
    for name in ("plain.mp4", "fragments.mp4", "second_stream_is_default.mkv", "raw_2997.h264"):
        read_video(CASES / name, num_frames=3)
    assert len(passes) == 4


def test_the_times_of_joined_streams_go_on(tmp_path: Path) -> None:
    images = [np.full((48, 64, 3), 10 * number, np.uint8) for number in range(20)]
    part = write_video(tmp_path / "part.ts", "mpeg2video", "yuv420p", images, rate=25).read_bytes()
    (tmp_path / "joined.ts").write_bytes(part + part)
    assert times_s(tmp_path / "joined.ts") == pytest.approx(list(np.arange(40) / 25), abs=1e-3)


@pytest.mark.parametrize("shift_s", [-1000, 1000])
def test_a_stream_goes_on_after_a_change_of_clock(tmp_path: Path, shift_s: int) -> None:
    images = [quadrants()] * 10
    parts = [tmp_path / "a.ts", tmp_path / "b.ts"]
    write_video(parts[0], "mpeg2video", "yuv420p", images, container={"options": {"output_ts_offset": "2000"}})
    write_video(
        parts[1], "mpeg2video", "yuv420p", images, container={"options": {"output_ts_offset": str(2000 + shift_s)}}
    )
    (tmp_path / "joined.ts").write_bytes(parts[0].read_bytes() + parts[1].read_bytes())
    assert times_s(tmp_path / "joined.ts") == pytest.approx(list(np.arange(20) / 10), abs=1e-3)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_frames_with_exif_are_read_and_turned(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    frames, _ = read(mjpeg_avi(tmp_path / "a.avi", 3, exif=exif))
    assert [corners(frame.image) for frame in frames] == [{3: "WBGR", 6: "BRWG", 8: "GWRB"}[orientation]] * 3


def test_sound_that_goes_on_after_the_video_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.webm"
    with av.open(str(path), "w") as target:
        video = target.add_stream("libvpx-vp9", rate=10, width=64, height=48, pix_fmt="yuv420p")
        sound = target.add_stream("libopus", rate=48000)
        for _ in range(10):
            target.mux(
                video.encode(av.VideoFrame.from_ndarray(quadrants(), format="rgb24").reformat(format="yuv420p"))
            )
        target.mux(video.encode())
        for number in range(300):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 960 * 2), np.int16), format="s16", layout="stereo")
            silence.sample_rate, silence.pts = 48000, number * 960
            target.mux(sound.encode(silence))
        target.mux(sound.encode())
    frames, reader = read(path)
    assert (len(frames), reader.warnings) == (10, [])


def test_tags_that_are_no_utf_8_do_not_matter(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as target:
        target.metadata["title"] = "TITLETITLE"
        stream = target.add_stream("mjpeg", rate=10, width=64, height=48, pix_fmt="yuvj420p")
        target.mux(stream.encode(av.VideoFrame.from_ndarray(quadrants(), format="rgb24").reformat(format="yuvj420p")))
        target.mux(stream.encode())
    data = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(data.replace(b"TITLETITLE", b"caf\xe9\xff\xfe\xe9\xe9\xe9\xe9"))
    assert corners(read(tmp_path / "a.mkv")[0][0].image) == "RGBW"


# -- Transparency and depth --


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "options"),
    [
        ("a.mov", "qtrle", "argb", {}),
        ("a.mov", "png", "rgba", {}),
        ("a.mov", "prores_ks", "yuva444p10le", {}),
        ("a.webm", "libvpx-vp9", "yuva420p", {"auto_alt_ref": "0"}),
        ("a.webm", "libvpx", "yuva420p", {"auto_alt_ref": "0"}),
    ],
    ids=["qtrle", "png", "prores", "vp9", "vp8"],
)
def test_transparent_pixels_of_a_video_are_white(tmp_path: Path, name, codec, pixels, options) -> None:
    path = write_video(tmp_path / name, codec, pixels, [clear_left()] * 3, **options)
    for frame in read(path)[0]:
        assert frame.image[32, 10].tolist() == WHITE
        assert frame.image[32, 50, 0] > 240 and frame.image[32, 50, 1] < 16


def test_frames_of_a_gif_are_cleared_as_browsers_do() -> None:
    frames, _ = read(CASES / "sticker.gif")
    assert [int((frame.image[..., 1] < 128).sum()) for frame in frames] == [231] * 4


def test_a_gif_may_bring_back_what_was_before_a_frame(tmp_path: Path) -> None:
    pages = [Image.new("P", (16, 16)) for _ in range(3)]
    for number, page in enumerate(pages):
        page.putpalette([255, 255, 255, 255, 0, 0, 0, 0, 255])
        if number:
            page.paste(number, (4 * number, 0, 4 * number + 4, 4))
    pages[0].save(tmp_path / "a.gif", save_all=True, append_images=pages[1:], disposal=[1, 3, 1], duration=100)
    frames, _ = read(tmp_path / "a.gif")
    assert [frame.image[0, 4].tolist() for frame in frames] == [WHITE, [255, 0, 0], WHITE]
    assert frames[2].image[0, 8].tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    ("pixels", "values", "expected"),
    [
        ("gray16be", [0x2020], [32, 32, 32]),
        ("rgb48be", [0x2020, 0x8080, 0xFFFF], [32, 128, 255]),
        ("rgba64be", [0x2020, 0x8080, 0xFFFF, 0xFFFF], [32, 128, 255]),
        ("rgba64be", [0x2020, 0x8080, 0xFFFF, 0], WHITE),
        ("ya16be", [0x2020, 0xFFFF], [32, 32, 32]),
        ("ya16be", [0x2020, 0], WHITE),
    ],
)
def test_16_bits_are_scaled_to_8(tmp_path: Path, pixels: str, values: list[int], expected: list[int]) -> None:
    write_png_16_bit(tmp_path / "a.png", pixels, values)
    assert load_image(tmp_path / "a.png")[20, 20].tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.full((8, 8), 0.5, np.float32), 128),
        (np.full((8, 8), 200, np.float32), 200),
        (np.full((8, 8), 200, np.int32), 200),
        (np.full((8, 8), 0x2020, np.int32), 32),
        (np.full((8, 8), 0x2020, np.uint16), 32),
    ],
    ids=["float to 1", "float to 255", "int32 to 255", "int32 to 65535", "uint16"],
)
def test_grey_of_a_tiff_is_scaled_by_its_range(tmp_path: Path, values: np.ndarray, expected: int) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert load_image(tmp_path / "a.tif")[4, 4].tolist() == [expected] * 3


@pytest.mark.parametrize("value", [np.nan, -1, 1e6])
def test_grey_of_no_known_range_is_refused_with_the_range(tmp_path: Path, value: float) -> None:
    Image.fromarray(np.full((8, 8), value, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(VideoError, match=r"must lie in 0..1, 0..255 or 0..65535, got .* scale them"):
        load_image(tmp_path / "a.tif")


def test_the_clear_colour_of_palettes_and_deep_grey_is_white(tmp_path: Path) -> None:
    palette = Image.fromarray(quadrants()).convert("P")
    palette.save(tmp_path / "p.png", transparency=palette.getpixel((0, 0)))
    Image.fromarray(np.full((8, 8), 0x2020, np.uint16)).save(tmp_path / "g.png", transparency=0x2020)
    assert corners(load_image(tmp_path / "p.png")) == "WGBW"
    assert load_image(tmp_path / "g.png")[4, 4].tolist() == WHITE


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "CMYK", "RGBA"])
def test_an_image_given_as_it_is_reads_like_its_file(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(quadrants()).convert(mode)
    image.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(load_image(image), load_image(tmp_path / "a.tif"))


# -- Names, metadata and damage --


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png", ".tif", ".avif"])
def test_exif_turns_every_kind_of_image_once(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(quadrants()).save(tmp_path / f"a{suffix}", exif=exif, quality=95)
    info = probe_video(tmp_path / f"a{suffix}")
    assert corners(load_image(tmp_path / f"a{suffix}")) == "BRWG"
    assert (info.width, info.height) == (48, 64)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"x" * 9,
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\x7f\x06\0\0\0",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abc\0\0\0\0\0",
    ],
    ids=["no directory", "too many values", "letters"],
)
def test_broken_exif_does_not_make_an_image_unreadable(tmp_path: Path, exif: bytes) -> None:
    Image.fromarray(quadrants()).save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert corners(load_image(tmp_path / "a.jpg")) == "RGBW"


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("deep_grey.png", "a.jpg"),
        ("plain.mp4", "a.gif"),
        ("plain.mp4", "a.png"),
        ("last_frame_3s.gif", "a.mp4"),
        ("delays_200_500_300_1000.webp", "a.PNG"),
        ("plain.mp4", "A.MP4"),
        ("plain.mp4", "no_suffix"),
        ("plain.mp4", os.fsdecode(b"caf\xe9.mp4")),
    ],
)
def test_the_content_decides_not_the_suffix(tmp_path: Path, name: str, new: str) -> None:
    (tmp_path / new).write_bytes((CASES / name).read_bytes())
    frames, renamed = read(CASES / name)[0], read(tmp_path / new)[0]
    assert [frame.timestamp_s for frame in renamed] == [frame.timestamp_s for frame in frames]
    np.testing.assert_array_equal(renamed[-1].image, frames[-1].image)


def test_images_one_after_the_other_in_a_file_are_a_video(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mjpeg", "mjpeg", "yuvj420p", [quadrants()] * 5, container={"format": "mjpeg"})
    assert len(read(tmp_path / "a.mjpeg")[0]) == 5


def test_further_pages_of_a_tiff_are_left_with_a_word(tmp_path: Path) -> None:
    pages = [Image.fromarray(quadrants())] * 3
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    frames, reader = read(tmp_path / "a.tif")
    assert len(frames) == 1
    assert any("has 3 pages, of which the first is read" in warning for warning in reader.warnings)


def test_tiles_that_are_not_joined_are_refused() -> None:
    with pytest.raises(VideoError, match="4 tiles, which FFmpeg does not join; convert it to JPEG or PNG"):
        ContainerSource(media_file(CASES / "grid_2x2_192x128.avif"))


def test_a_pipe_is_called_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(VideoError, match="the pipe or device .* save it to a file first"):
        VideoReader(tmp_path / "pipe")


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_a_cut_animation_gives_its_whole_frames_and_a_warning(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), dtype=np.uint8)
    first, *others = map(Image.fromarray, noise)
    first.save(tmp_path / "a", kind, save_all=True, append_images=others, duration=100)
    data = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(data[: len(data) * 2 // 3])
    frames, reader = read(tmp_path / "a")
    assert len(frames) == 2 == reader.info.num_frames
    assert any("cut short" in warning for warning in reader.warnings)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "GIF"])
def test_a_cut_image_is_refused_alike_everywhere(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png", kind)
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) * 2 // 3])
    for load in (read_image, fetch_images, lambda path: fetch_images(path.read_bytes())):
        with pytest.raises(VideoError, match="must decode whole|PIL can open|one frame that decodes"):
            load(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["plain.mp4", "exif.avi", "fragments.mp4"])
def test_a_cut_video_gives_chat_and_tracker_what_decodes(tmp_path: Path, name: str) -> None:
    data = (CASES / name).read_bytes()
    if name == "plain.mp4":
        data = with_index_first(CASES / name, tmp_path / "first.mp4")
    (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chat, _ = through_chat(tmp_path / name)
        five = read_video(tmp_path / name, num_frames=2).frame_indices.tolist()
    frames, reader = read(tmp_path / name)
    assert 1 < len(frames) == len(chat) < (reader.info.num_frames or 0)
    assert five == [0, len(frames) - 1]
    np.testing.assert_array_equal(chat[-1], frames[-1].image)
    assert any("cut short" in warning for warning in reader.warnings)


def with_index_first(path: Path, target: Path) -> bytes:
    with av.open(str(path)) as source, av.open(str(target), "w", options={"movflags": "+faststart"}) as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    return target.read_bytes()


def test_what_is_no_file_at_all_is_refused() -> None:
    for media, message in ((b"", "0 bytes"), (io.BytesIO(), "0 bytes"), ("data:video/mp4;base64,#", "base64")):
        with pytest.raises(VideoError, match=message):
            VideoReader(media)
    with pytest.raises(TypeError, match="must be a path, bytes, a binary file or a data: URL, got int"):
        VideoReader(3)


def test_a_video_is_no_image() -> None:
    assert open_image(media_file(CASES / "plain.mp4")) is None
    with pytest.raises(ValueError, match="an image must have one frame"):
        load_image(CASES / "plain.mp4")
