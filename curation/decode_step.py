"""Step 3: the frames of a video that has phrases, decoded once for all steps after it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from elysium.processing.structures import VideoClip
from elysium.processing.video_io import VideoError, VideoReader

from .curation_settings import MIN_FRAMES
from .curation_step import CurationStep
from .video_records import VideoRecord

STEP = "decode"


class DecodeFrames(CurationStep):
    """Decodes some frames of each video, small enough to keep.

    Args:
        frame_interval: every so many frames, one is kept.
        max_frames: at most so many are.
        max_side_px: larger pictures are scaled down to it.
    """

    name = STEP

    def __init__(self, *, frame_interval: int, max_frames: int, max_side_px: int) -> None:
        super().__init__()
        self.frame_interval, self.max_frames, self.max_side_px = frame_interval, max_frames, max_side_px

    def process(self, record: VideoRecord) -> VideoRecord:
        """The video with its clip; dropped where it is missing, cannot be read, or has too few frames."""
        if not record.candidates:
            return record
        source = record.video.source
        if isinstance(source, Path) and not source.exists():
            return record.drop_video(STEP, "video_missing")
        try:
            with _as_file(source) as path:
                clip = self._decode(path)
        except (VideoError, OSError, ValueError):
            return record.drop_video(STEP, "video_unreadable")
        if len(clip) < MIN_FRAMES:
            return record.drop_video(STEP, "video_short", len(clip))
        return replace(record, clip=clip)

    def _decode(self, path: Path) -> VideoClip:
        wanted = range(0, self.frame_interval * self.max_frames, self.frame_interval)
        frames, times_s, indices = np.empty((0, 1, 1, 3), np.uint8), [], []
        with VideoReader(path) as reader:
            for place, frame in enumerate(reader.frames(wanted)):
                image = _at_most(frame.image, self.max_side_px)
                if place == 0:
                    frames = np.empty((self.max_frames, *image.shape), np.uint8)  # takes memory as it is filled
                frames[place] = image
                times_s.append(frame.timestamp_s)
                indices.append(frame.index)
            return VideoClip(frames[: len(indices)], reader.info.fps, np.array(times_s), np.array(indices))


@contextmanager
def _as_file(source: Path | bytes) -> Iterator[Path]:
    """A video as a file; bytes are written to a temporary one, since decoders seek."""
    if isinstance(source, Path):
        yield source
        return
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        file.write(source)
        file.flush()
        yield Path(file.name)


def _at_most(image: NDArray[np.uint8], max_side_px: int) -> NDArray[np.uint8]:
    """The picture `(H, W, 3)`, scaled down to ``max_side_px`` where it is larger."""
    height, width = image.shape[:2]
    scale = max_side_px / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
