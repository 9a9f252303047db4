"""Video in and out: the names that everything else imports, and `read_video`, which puts frames into a `VideoClip`."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .atomic_files import OutputError
from .structures import VideoClip
from .video_info import VideoError, VideoInfo
from .video_reader import Frame, VideoReader, probe_video
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


def uniform_indices(length: int, count: int) -> list[int]:
    """``count`` frame indices spread evenly from the first to the last of ``length``; all where there are fewer.

    >>> uniform_indices(10, 4)
    [0, 3, 6, 9]
    >>> uniform_indices(3, 16)
    [0, 1, 2]
    """
    if count < 1:
        raise ValueError(f"the number of frames must be 1 or more, got {count}; ask for at least one frame")
    if count >= length:
        return list(range(length))
    return np.linspace(0, length - 1, count).round().astype(int).tolist()


def read_video(
    path: str | Path,
    *,
    frame_indices: Sequence[int] | None = None,
    num_frames: int | None = None,
    max_frames: int | None = None,
) -> VideoClip:
    """Reads frames into memory; for whole long videos iterate over `VideoReader` instead.

    Args:
        path: video, picture, animated GIF or folder of frames.
        frame_indices: exactly these 0-based frames, strictly rising.
        num_frames: this many, spread evenly from the first frame to the last; fewer where the video has fewer.
        max_frames: only the first ones. At most one of the three may be given; none means all frames.

    Raises:
        ValueError: more than one of the three, or an index that the video does not have.
        VideoError: the file cannot be read.
    """
    if sum(choice is not None for choice in (frame_indices, num_frames, max_frames)) > 1:
        raise ValueError(
            "at most one of frame_indices, num_frames and max_frames must be given, got several; keep one"
        )
    with VideoReader(path) as reader:
        if num_frames is not None:
            return _read_uniform(reader, num_frames)
        wanted = uniform_indices(max_frames, max_frames) if max_frames is not None else frame_indices
        frames = list(reader.frames(wanted))
        if frame_indices is not None and [frame.index for frame in frames] != list(frame_indices):
            found = reader.num_decoded
            raise ValueError(
                f"frame_indices must rise strictly and lie in the video, got {list(frame_indices)}; "
                f"{found} frames of {path} were decoded, so give indices from 0 to {found - 1}"
            )
        return _to_clip(reader, frames)


def _read_uniform(reader: VideoReader, count: int) -> VideoClip:
    """Trusts the declared length, and decodes once more where fewer frames decode than were declared."""
    length = reader.info.num_frames
    if length is not None:
        indices = uniform_indices(length, count)
        frames = list(reader.frames(indices))
        if len(frames) == len(indices):
            return _to_clip(reader, frames)
    length = reader.count()
    messages = reader.warnings
    frames = list(reader.frames(uniform_indices(length, count)))
    reader.warnings = messages
    return _to_clip(reader, frames)


def _to_clip(reader: VideoReader, frames: list[Frame]) -> VideoClip:
    """Stacks the frames; what the reader warned of becomes Python warnings."""
    for message in reader.warnings:
        warnings.warn(message, stacklevel=4)
    return VideoClip(
        frames=np.stack([frame.image for frame in frames]),
        fps=reader.info.fps,
        timestamps_s=np.array([frame.timestamp_s for frame in frames], dtype=np.float64),
        frame_indices=np.array([frame.index for frame in frames], dtype=np.int64),
    )
