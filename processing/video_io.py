"""Video in and out: the names that everything else imports, and `read_video`, which puts frames into a `VideoClip`."""

import warnings
from collections.abc import Sequence
from io import IOBase
from pathlib import Path

from .atomic_files import OutputError
from .media_elysium import Frame, VideoReader, probe_video, read_frames, uniform_indices
from .media_info_elysium import VideoError, VideoInfo
from .structures import VideoClip
from .video_writer import VideoWriter

__all__ = [
    "Frame",
    "OutputError",
    "VideoError",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "probe_video",
    "read_video",
    "uniform_indices",
]


def read_video(
    path: str | Path | bytes | IOBase,
    *,
    frame_indices: Sequence[int] | None = None,
    num_frames: int | None = None,
    max_frames: int | None = None,
) -> VideoClip:
    """Read frames into memory; for whole long videos iterate over `VideoReader` instead.

    Args:
        path: video, image, animated image or folder of frames; or a file's bytes.
        frame_indices: exactly these 0-based frames, strictly rising.
        num_frames: this many, spread evenly from the first frame to the last; fewer where the video has fewer.
        max_frames: only the first ones. At most one of the three may be given; none means all frames.

    Raises:
        ValueError: more than one of the three, or an index that the video does not have.
        VideoError: the file cannot be read.
    """
    batch = read_frames(path, frame_indices=frame_indices, num_frames=num_frames, max_frames=max_frames)
    for message in batch.warnings:
        warnings.warn(message, stacklevel=2)
    return VideoClip(frames=batch.frames, fps=batch.fps, timestamps_s=batch.timestamps_s, frame_indices=batch.indices)
