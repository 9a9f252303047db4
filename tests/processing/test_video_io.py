"""Reading and writing video; every odd file is made here with PyAV or PIL."""

import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from elysium.processing.containers_elysium import orient
from elysium.processing.video_io import (
    OutputError,
    VideoError,
    VideoReader,
    VideoWriter,
    probe_video,
    read_video,
)

MEDIA = Path(__file__).parents[1] / "fixtures" / "media"
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quadrants(height=48, width=64):
    """Red, green above blue, white: every turn and mirror of it differs."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = RED, GREEN
    image[height // 2 :, : width // 2], image[height // 2 :, width // 2 :] = BLUE, WHITE
    return image


def corners(image):
    """The four corner colours, read in rows, as letters."""
    names = {RED: "R", GREEN: "G", BLUE: "B", WHITE: "W"}
    height, width = image.shape[:2]
    found = ""
    for y, x in ((4, 4), (4, width - 5), (height - 5, 4), (height - 5, width - 5)):
        found += names[tuple(int(v) for v in np.where(image[y, x] > 127, 255, 0))]
    return found


def write_raw(path, images, *, rate=10, pts=None, rotation=None, **options):
    """Encodes with PyAV itself, so that the reader is not tested by our own writer."""
    with av.open(str(path), "w", **options) as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv444p" if stream.width % 2 else "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if rotation is not None:
            stream.set_display_rotation(*rotation)
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = (i * 1000 // rate if pts is None else pts[i]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def noise(count, height=48, width=64):
    return list(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def test_frames_come_in_order_with_indices_and_times():
    with VideoReader(MEDIA / "cup.mp4") as reader:
        frames = [(frame.index, frame.timestamp_s, frame.image.shape) for frame in reader]
    assert [index for index, _, _ in frames] == list(range(217))
    assert frames[27][1] == pytest.approx(1.0)
    assert frames[0][2] == (480, 640, 3)
    assert (reader.num_decoded, reader.warnings) == (217, [])


def test_probe_gives_size_rate_and_length():
    info = probe_video(MEDIA / "cup.mp4")
    assert (info.width, info.height, info.fps, info.num_frames) == (640, 480, 27.0, 217)
    assert info.duration_s == pytest.approx(217 / 27)


def test_a_reader_starts_again_with_every_loop_and_may_be_left_early(tmp_path):
    write_raw(tmp_path / "a.mp4", noise(6))
    with VideoReader(tmp_path / "a.mp4") as reader:
        first = next(iter(reader)).image
        assert len(list(reader)) == 6
        np.testing.assert_array_equal(next(iter(reader)).image, first)


@pytest.mark.parametrize(
    ("rotation", "expected", "size"),
    [
        ((0, False), "RGBW", (64, 48)),
        ((90, False), "GWRB", (48, 64)),
        ((-90, False), "BRWG", (48, 64)),
        ((180, False), "WBGR", (64, 48)),
        ((0, True), "GRWB", (64, 48)),
        ((90, True), "WGBR", (48, 64)),
    ],
    ids=["upright", "90 left", "90 right", "upside down", "mirrored", "90 left and mirrored"],
)
def test_rotation_metadata_turns_the_picture_and_its_size(tmp_path, rotation, expected, size):
    write_raw(tmp_path / "a.mp4", [quadrants()] * 3, rotation=rotation)
    frame = next(iter(VideoReader(tmp_path / "a.mp4")))
    info = probe_video(tmp_path / "a.mp4")
    assert corners(frame.image) == expected
    assert (info.width, info.height) == size == frame.image.shape[1::-1]


def test_all_eight_orientations_move_pixels_by_the_display_matrix():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    for a, b, c, d in [(s, 0, 0, t) for s in (1, -1) for t in (1, -1)] + [
        (0, s, t, 0) for s in (1, -1) for t in (1, -1)
    ]:
        turned = orient(image, (a, b, c, d))
        for y in range(2):
            for x in range(2):
                # From the centre of the picture the matrix is a plain rotation or mirror.
                px, py = 2 * x - 1, 2 * y - 1
                to_x, to_y = (a * px + c * py + 1) // 2, (b * px + d * py + 1) // 2
                np.testing.assert_array_equal(turned[to_y, to_x], image[y, x])


def test_a_variable_frame_rate_keeps_the_times_of_the_frames(tmp_path):
    write_raw(tmp_path / "a.mp4", noise(5), pts=[0, 40, 500, 520, 2000])
    times_s = [frame.timestamp_s for frame in VideoReader(tmp_path / "a.mp4")]
    assert times_s == pytest.approx([0, 0.04, 0.5, 0.52, 2.0])


def test_times_start_at_zero_where_the_file_starts_later(tmp_path):
    write_raw(tmp_path / "a.mkv", noise(3), pts=[5000, 5100, 5200])
    assert [frame.timestamp_s for frame in VideoReader(tmp_path / "a.mkv")] == pytest.approx([0, 0.1, 0.2])


def test_odd_sizes_are_read_as_they_are(tmp_path):
    write_raw(tmp_path / "a.mp4", [quadrants(33, 65)] * 2)
    frame = next(iter(VideoReader(tmp_path / "a.mp4")))
    assert frame.image.shape == (33, 65, 3)
    assert corners(frame.image) == "RGBW"


def test_uniform_sampling_takes_the_first_and_last_frame_and_never_one_twice():
    assert read_video(MEDIA / "cup.mp4", num_frames=5).frame_indices.tolist() == [0, 54, 108, 162, 216]


def test_uniform_sampling_gives_all_frames_of_a_short_video(tmp_path):
    write_raw(tmp_path / "a.mp4", noise(3))
    assert len(read_video(tmp_path / "a.mp4", num_frames=16)) == 3


def test_chosen_frames_are_those_of_the_stream(tmp_path):
    write_raw(tmp_path / "a.mp4", noise(8))
    everything, chosen = read_video(tmp_path / "a.mp4"), read_video(tmp_path / "a.mp4", frame_indices=[1, 6])
    np.testing.assert_array_equal(chosen.frames, everything.frames[[1, 6]])
    assert read_video(tmp_path / "a.mp4", max_frames=2).frame_indices.tolist() == [0, 1]


@pytest.mark.parametrize("indices", [[0, 8], [3, 1], [2, 2], [-1]])
def test_frames_that_the_video_has_not_are_refused(tmp_path, indices):
    write_raw(tmp_path / "a.mp4", noise(8))
    with pytest.raises(ValueError, match="frame_indices must rise strictly"):
        read_video(tmp_path / "a.mp4", frame_indices=indices)


def test_two_ways_of_choosing_frames_at_once_are_refused(tmp_path):
    with pytest.raises(ValueError, match="keep one"):
        read_video(MEDIA / "cup.mp4", num_frames=2, max_frames=2)


def test_a_truncated_video_gives_what_decodes_and_a_warning_with_counts(tmp_path):
    write_raw(tmp_path / "a.mp4", noise(40), options={"movflags": "+faststart"})
    data = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with VideoReader(tmp_path / "cut.mp4") as reader:
        decoded = len(list(reader))
    assert 0 < decoded < 40
    assert any(f"decoded {decoded} of 40 frames" in warning for warning in reader.warnings)
    with pytest.warns(UserWarning, match=f"decoded {decoded} of 40"):
        clip = read_video(tmp_path / "cut.mp4", num_frames=4)
    assert len(clip) == 4
    assert clip.frame_indices[-1] == decoded - 1


def test_a_truncated_video_that_declares_only_a_duration_gives_a_warning_with_times(tmp_path):
    write_raw(tmp_path / "a.mkv", noise(40))
    data = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    whole, cut = VideoReader(tmp_path / "a.mkv"), VideoReader(tmp_path / "cut.mkv")
    assert 0 < len(list(cut)) < len(list(whole)) == 40
    assert whole.warnings == []
    assert any("of the 4.0 s" in warning for warning in cut.warnings)


def test_damage_in_the_middle_is_counted_and_the_frames_after_it_are_kept(tmp_path):
    write_raw(tmp_path / "a.mp4", noise(40), options={"movflags": "+faststart"})
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 8] = bytes(len(data) // 8)
    (tmp_path / "a.mp4").write_bytes(data)
    reader = VideoReader(tmp_path / "a.mp4")
    times_s = [frame.timestamp_s for frame in reader]
    assert times_s[-1] > 3.5
    assert any("is damaged in" in warning for warning in reader.warnings)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.webm", "libvpx-vp9"),
        ("a.avi", "mpeg4"),
        ("a.mkv", "libx264"),
        ("a.ts", "libx264"),
        ("a:b%03d.mp4", "libx264"),
    ],
)
def test_other_containers_and_odd_names_are_read_whole(tmp_path, name, codec):
    with av.open(f"file:{tmp_path / name}", "w") as container:
        stream = container.add_stream(codec, rate=10, width=64, height=48, pix_fmt="yuv420p")
        for image in noise(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    reader = VideoReader(tmp_path / name)
    assert len(list(reader)) == 5
    assert reader.warnings == []
    assert read_video(tmp_path / name, num_frames=2).frame_indices.tolist() == [0, 4]


def test_frames_that_change_size_are_scaled_to_the_first_and_counted(tmp_path):
    write_raw(tmp_path / "a.h264", [quadrants()] * 3)
    write_raw(tmp_path / "b.h264", [quadrants(96, 128)] * 2)
    (tmp_path / "both.h264").write_bytes((tmp_path / "a.h264").read_bytes() + (tmp_path / "b.h264").read_bytes())
    reader = VideoReader(tmp_path / "both.h264")
    assert [corners(frame.image) for frame in reader] == ["RGBW"] * 5
    assert any(warning.startswith("2 frames") for warning in reader.warnings)
    assert {frame.image.shape for frame in reader} == {(48, 64, 3)}


def test_a_song_with_a_cover_picture_is_audio_only(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=8000)
        cover = container.add_stream("mjpeg", rate=1, width=64, height=48, pix_fmt="yuvj420p")
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(quadrants(), format="rgb24").reformat(format="yuvj420p")
        container.mux(cover.encode(picture))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 8000
        container.mux(sound.encode(silence))
        container.mux(sound.encode())
    with pytest.raises(VideoError, match="only audio"):
        VideoReader(tmp_path / "a.mp4")


def test_frames_cut_away_by_an_edit_list_are_not_called_missing(tmp_path):
    write_raw(tmp_path / "a.mp4", noise(30))
    with av.open(str(tmp_path / "a.mp4")) as source, av.open(str(tmp_path / "b.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.pts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - 1000, packet.dts - 1000, stream
                target.mux(packet)
    reader = VideoReader(tmp_path / "b.mp4")
    assert len(list(reader)) == reader.info.num_frames < 30
    assert reader.warnings == []


def write_audio(path):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000)
        file.writeframes(b"\0" * 8000)


def no_index(path):
    write_raw(path, noise(10))
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("none.mp4", lambda path: None, "existing file"),
        ("empty.mp4", lambda path: path.write_bytes(b""), "0 bytes"),
        ("text.mp4", lambda path: path.write_text("hello, I am text\n" * 200), "renamed"),
        ("list.mp4", lambda path: path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nb.ts\n"), "original"),
        ("sound.mp4", write_audio, "only audio"),
        ("cut.mp4", no_index, "moov"),
        ("text.png", lambda path: path.write_text("no picture"), "PIL"),
        ("folder", lambda path: path.mkdir(), "must hold images"),
    ],
    ids=["missing", "zero bytes", "text", "playlist", "audio only", "no index", "text as png", "empty folder"],
)
def test_what_is_no_video_is_refused_with_the_reason(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(VideoError, match=message) as caught:
        VideoReader(tmp_path / name)
    assert name in str(caught.value)


def test_a_picture_is_a_video_of_one_frame(tmp_path):
    Image.fromarray(quadrants()).save(tmp_path / "a.png")
    clip = read_video(tmp_path / "a.png")
    np.testing.assert_array_equal(clip.frames[0], quadrants())
    assert len(clip) == 1


def test_a_photo_is_turned_by_its_exif_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right by 90 degrees to see it upright
    Image.fromarray(quadrants()).save(tmp_path / "a.jpg", exif=exif, quality=95)
    info = probe_video(tmp_path / "a.jpg")
    assert corners(read_video(tmp_path / "a.jpg").frames[0]) == "BRWG"
    assert (info.width, info.height) == (48, 64)


def test_transparency_becomes_white_and_deep_grey_keeps_its_shades(tmp_path):
    Image.fromarray(np.zeros((8, 8, 4), np.uint8), "RGBA").save(tmp_path / "clear.png")
    Image.fromarray(np.full((8, 8), 0x8000, np.uint16)).save(tmp_path / "deep.png")
    assert read_video(tmp_path / "clear.png").frames[0, 0, 0].tolist() == [255, 255, 255]
    assert read_video(tmp_path / "deep.png").frames[0, 0, 0].tolist() == [128, 128, 128]


def test_a_folder_is_read_in_natural_order_and_other_files_are_left(tmp_path):
    for number in (10, 2, 1):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    (tmp_path / ".hidden.png").write_text("not a frame")
    with VideoReader(tmp_path, folder_fps=4) as reader:
        frames = list(reader)
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [1, 2, 10]
    assert [frame.timestamp_s for frame in frames] == pytest.approx([0, 0.25, 0.5])


def test_a_folder_of_two_sizes_is_refused_with_both(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(VideoError, match="9x8 .* 8x8"):
        read_video(tmp_path)


def test_an_animated_gif_gives_every_frame_at_its_delay(tmp_path):
    pictures = [Image.fromarray(np.full((8, 8, 3), shade, np.uint8)) for shade in (0, 128, 255)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=[200, 500, 300])
    clip = read_video(tmp_path / "a.gif")
    assert [int(shade) for shade in clip.frames[:, 0, 0, 0]] == [0, 128, 255]
    assert clip.timestamps_s == pytest.approx([0, 0.2, 0.7])
    assert clip.fps == pytest.approx(3.0)


@pytest.mark.parametrize("size", [(48, 64), (47, 65)], ids=["even", "odd"])
def test_what_is_written_is_h264_yuv420p_with_the_index_first_and_the_same_colours(tmp_path, size):
    image = quadrants(*size)
    with VideoWriter(tmp_path / "out.mp4", 30000 / 1001, size[1], size[0]) as writer:
        for _ in range(5):
            writer.write(image)
    data = (tmp_path / "out.mp4").read_bytes()
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == Fraction(30000, 1001)
    assert data.index(b"moov") < data.index(b"mdat")
    clip = read_video(tmp_path / "out.mp4")
    assert clip.timestamps_s == pytest.approx([i * 1001 / 30000 for i in range(5)], abs=1e-4)
    assert np.abs(clip.frames[2][10, 10].astype(int) - RED).max() < 6
    assert corners(clip.frames[2]) == "RGBW"


def test_times_given_to_the_writer_are_read_back(tmp_path):
    times_s = [0.0, 0.04, 0.5, 0.52, 2.0]
    with VideoWriter(tmp_path / "out.mp4", 10, 64, 48) as writer:
        for time_s in times_s:
            writer.write(quadrants(), timestamp_s=time_s)
    assert read_video(tmp_path / "out.mp4").timestamps_s == pytest.approx(times_s, abs=1e-4)


def test_an_interrupted_write_leaves_no_file(tmp_path):
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "out.mp4", 10, 64, 48) as writer:
        writer.write(quadrants())
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_the_writer_refuses_other_sizes_no_frames_and_other_suffixes(tmp_path):
    with pytest.raises(ValueError, match=r"\(48, 64, 3\)"), VideoWriter(tmp_path / "a.mp4", 10, 64, 48) as writer:
        writer.write(quadrants(50, 64))
    with pytest.raises(ValueError, match="at least one frame"), VideoWriter(tmp_path / "a.mp4", 10, 64, 48):
        pass
    with pytest.raises(ValueError, match="change the suffix"):
        VideoWriter(tmp_path / "a.avi", 10, 64, 48)
    assert list(tmp_path.iterdir()) == []


def test_the_writer_refuses_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another"), VideoWriter(tmp_path / "file" / "a.mp4", 10, 64, 48):
        pass
