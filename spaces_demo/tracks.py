"""Tracking results for the page: live frames, annotated video, contact sheet, timeline and files."""

import base64
import html
import io
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from elysium.processing.structures import TrackingResult
from elysium.processing.video_io import VideoReader, VideoWriter
from elysium.visualization.annotate import FrameAnnotator, marks_at, object_color
from elysium.visualization.contact_sheet import contact_sheet

LIVE_SIDE_PX = 480
JPEG_QUALITY = 75
TIMELINES = {"x": "Centre, x", "y": "Centre, y", "width": "Width", "height": "Height"}  # values plotted over time


class FrameRecorder:
    """Draw frames as they are finished, into the annotated video and as small JPEGs for the page.

    Args:
        video: the tracked video; it is decoded a second time, in step with the results.
        output: the annotated video; written completely or not at all.
    """

    def __init__(self, video: Path, output: Path) -> None:
        self._reader = VideoReader(video)
        info = self._reader.info
        self._frames = iter(self._reader)
        self._writer = VideoWriter(output, info.fps, info.width, info.height, pixel_aspect=info.pixel_aspect)
        self._annotator = FrameAnnotator(info.width, info.height)
        self.num_drawn = 0

    def __enter__(self) -> "FrameRecorder":
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writer.__exit__(kind, error, trace)
        finally:
            self._reader.close()

    def draw(self, result: TrackingResult) -> list[str]:
        """Draw the newly finished frames (those that all tracks have) and return them as data URLs of small JPEGs."""
        images = []
        finished = min(len(track) for track in result.tracks)
        while self.num_drawn < finished and (frame := next(self._frames, None)) is not None:
            drawn = self._annotator.annotate(frame.image, marks_at(result.tracks, frame.index))
            self._writer.write(drawn, timestamp_s=frame.timestamp_s, duration_s=frame.duration_s)
            images.append(small_jpeg(drawn))
            self.num_drawn += 1
        return images


def small_jpeg(image: NDArray[np.uint8], *, side_px: int = LIVE_SIDE_PX) -> str:
    """Return an image (uint8 RGB of shape `(H, W, 3)`) as a JPEG data URL with sides of at most ``side_px``."""
    small = Image.fromarray(image)
    small.thumbnail((side_px, side_px), Image.Resampling.BILINEAR, reducing_gap=2.0)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode("ascii")


def write_files(video: Path, result: TrackingResult, folder: Path) -> list[Path]:
    """Write the contact sheet, and the boxes as `elysium track` does; return the files: sheet, JSON, CSV."""
    files = [folder / f"{video.stem}.{ending}" for ending in ("sheet.png", "boxes.json", "boxes.csv")]
    contact_sheet(video, result, files[0])
    for path in files[1:]:
        result.save(path)
    return files


def timeline_rows(result: TrackingResult) -> list[dict[str, Any]]:
    """Return the plot rows: centre and size of every box over time in pixels, None where there is no box."""
    rows = []
    for track in result.tracks:
        x1, y1, x2, y2 = track.boxes_xyxy_px.T
        values = np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], axis=1)
        for time_s, of_frame in zip(track.timestamps_s, values, strict=True):
            shown = [None if np.isnan(value) else round(float(value), 1) for value in of_frame]
            row = {"object": str(track.track_id), "time_s": round(float(time_s), 3)}
            rows.append(row | dict(zip(TIMELINES, shown, strict=True)))
    return rows


def summary_html(result: TrackingResult, *, num_frames: int, compute_s: int) -> str:
    """Return a line for each object with its missing frames; text prompts are escaped."""
    lines = []
    for track in result.tracks:
        color = object_color(track.track_id).as_hex()
        lines.append(f'<li><span class="dot" style="background:{color}"></span>{html.escape(track.summary())}</li>')
    note = ""
    if not result.complete:
        done = min(len(track) for track in result.tracks)
        note = (
            f'<p class="note">Stopped after {done} of {num_frames} frames: a request gets {compute_s} s. '
            "Cut the video, or track fewer objects; elysium demo on your own machine has no such limit.</p>"
        )
    return f'<ul class="summary">{"".join(lines)}</ul>{note}'
