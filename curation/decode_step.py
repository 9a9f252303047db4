"""Step 3: decode the frames of each video that has phrases, once for all later steps."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from elysium.processing.structures import VideoClip
from elysium.processing.video_io import VideoError, VideoReader

from .curation_step import Step, StepSettings, number
from .video_records import VideoRecord

STEP = "decode"
MIN_FRAMES = 3  # first, middle and last must differ


@dataclass(frozen=True, kw_only=True)
class DecodeSettings(StepSettings):
    """Hold the settings of step 3.

    Args:
        frame_interval: Distance of the decoded frames; 2 decodes every second one.
        max_frames: Maximum number of decoded frames, from the first; with `max_side_px` it bounds memory.
        max_side_px: Maximum width and height; larger frames are scaled down.
    """

    frame_interval: int = number(1, 1)
    max_frames: int = number(300, MIN_FRAMES)
    max_side_px: int = number(768, 16)


def decode_step(settings: DecodeSettings) -> Step:
    """Return the step."""
    return Step(STEP, partial(_decode_all, settings=settings))


def _decode_all(records: Iterable[VideoRecord], *, settings: DecodeSettings) -> Iterator[VideoRecord]:
    return (decode(record, settings) if record.candidates else record for record in records)


def decode(record: VideoRecord, settings: DecodeSettings) -> VideoRecord:
    """Return the video with its frames; drop it if it is missing, unreadable or too short."""
    source = record.video.source
    if isinstance(source, Path) and not source.exists():
        return record.drop_video(STEP, "video_missing")
    try:
        clip = _clip(source, settings)
    except (VideoError, OSError, ValueError):
        return record.drop_video(STEP, "video_unreadable")
    if len(clip) < MIN_FRAMES:
        return record.drop_video(STEP, "video_short", len(clip))
    return replace(record, clip=clip)


def _clip(source: Path | bytes, settings: DecodeSettings) -> VideoClip:
    wanted = range(0, settings.frame_interval * settings.max_frames, settings.frame_interval)
    frames, times_s, indices = np.empty((0, 1, 1, 3), np.uint8), [], []
    with VideoReader(source) as reader:
        for place, frame in enumerate(reader.frames(wanted)):
            image = _at_most(frame.image, settings.max_side_px)
            if place == 0:
                frames = np.empty((settings.max_frames, *image.shape), np.uint8)  # uses memory only as it is filled
            frames[place] = image
            times_s.append(frame.timestamp_s)
            indices.append(frame.index)
        return VideoClip(frames[: len(indices)], reader.info.fps, np.array(times_s), np.array(indices))


def _at_most(image: NDArray[np.uint8], max_side_px: int) -> NDArray[np.uint8]:
    """Return the image `(H, W, 3)`, scaled down if a side exceeds ``max_side_px``."""
    height, width = image.shape[:2]
    scale = max_side_px / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
