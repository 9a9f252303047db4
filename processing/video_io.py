"""Video in and out: the names that everything else imports, and `read_video`, which puts frames into a `VideoClip`."""

import warnings
from collections.abc import Sequence
from io import IOBase
from pathlib import Path

import numpy as np

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
    frames, reader = read_frames(path, frame_indices=frame_indices, num_frames=num_frames, max_frames=max_frames)
    for message in reader.warnings:
        warnings.warn(message, stacklevel=2)
    return VideoClip(
        frames=np.stack([frame.image for frame in frames]),
        fps=reader.info.fps,
        timestamps_s=np.array([frame.timestamp_s for frame in frames]),
        frame_indices=np.array([frame.index for frame in frames]),
    )
