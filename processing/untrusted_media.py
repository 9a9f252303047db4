"""Check images and videos of strangers by their headers, before a frame is decoded."""

import warnings
from pathlib import Path

import av
from PIL import Image

from .images_elysium import open_image
from .media_elysium import probe_video
from .media_info_elysium import VideoError, VideoInfo, media_file

# Containers of libavformat that hold their own frames; playlists (HLS, DASH, concat, SDP) name other files.
_CONTAINERS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,ivf,h264,hevc,m4v,mjpeg"


def check_untrusted(path: Path, *, is_video: bool, max_pixels: int) -> VideoInfo:
    """Return size and length of a file that a stranger sent; no file that it names is opened.

    Args:
        path: the file.
        is_video: whether it must be a video or animation, rather than an image.
        max_pixels: maximum of width times height, both as declared and as decoded.

    Raises:
        VideoError: another kind of file, one that cannot be read, or one with more pixels.
    """
    what, kinds = ("a video", "MP4, MOV, WebM, MKV, AVI, GIF or TS") if is_video else ("an image", "PNG, JPEG or WebP")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels decides
        image = open_image(media_file(path))
    if image is not None:
        with image:
            sizes = [image.size]
    else:
        sizes = _declared_sizes(path) if is_video else []
    if not sizes:
        raise VideoError(f"{what} must be {kinds}, got {path}, which is another kind of file or broken; convert it")
    _check_pixels(sizes, what, max_pixels)
    info = probe_video(path)
    _check_pixels([(info.width, info.height)], what, max_pixels)
    return info


def _declared_sizes(path: Path) -> list[tuple[int, int]]:
    """Return width and height of each video stream of a container; nothing for another kind of file."""
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    try:
        with av.open(f"file:{path}", options=options) as container:
            return [(stream.codec_context.width, stream.codec_context.height) for stream in container.streams.video]
    except (av.FFmpegError, OSError, ValueError):
        return []


def _check_pixels(sizes: list[tuple[int, int]], what: str, max_pixels: int) -> None:
    for width, height in sizes:
        if width * height > max_pixels:
            raise VideoError(f"{what} must have at most {max_pixels} pixels, got {width}x{height}; make it smaller")
