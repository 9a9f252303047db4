"""Draw a contact sheet: evenly spaced frames of a video with boxes, frame numbers and times, in one PNG."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from elysium.processing.atomic_files import atomic_path
from elysium.processing.structures import Track, TrackingResult, VideoClip
from elysium.processing.video_io import VideoReader, probe_video, read_video, uniform_indices

from .annotate import FrameAnnotator, Mark, marks_at, numbered_label, object_color
from .fonts import TextLine, readable_label

SHEET_WIDTH_PX = 1600
TALLEST_TILE_PX = 2000
GAP_PX = 14
TITLE_PX, CAPTION_PX = 22, 17
LINE_PX = round(1.6 * TITLE_PX)  # of the header
BACKGROUND, INK, FAINT_INK = "#FFFFFF", "#1B1F24", "#6B7480"


def contact_sheet(
    video: str | Path | VideoClip,
    result: TrackingResult,
    path: str | Path,
    *,
    num_frames: int = 12,
) -> None:
    """Write the sheet as PNG; the file is written completely or not at all.

    Args:
        video: the tracked video, as a path or in memory.
        result: its tracks; with an incomplete result only tracked frames are shown.
        path: output file ending in .png.
        num_frames: number of frames, evenly spaced from the first to the last.

    Raises:
        ValueError: another suffix, fewer than one frame, or the result is complete, and the video has another size or
            number of frames.
        VideoError: the video cannot be read.
        OutputError: the sheet cannot be written.
    """
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"a contact sheet must be saved as .png, got {str(path)!r}; change the suffix")
    clip = _choose_frames(video, result, num_frames)
    result.check_size(clip.width, clip.height)
    pixel_aspect = 1.0 if isinstance(video, VideoClip) else float(probe_video(video).pixel_aspect)
    sheet = _draw_sheet(clip, result, pixel_aspect)
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")


def _choose_frames(video: str | Path | VideoClip, result: TrackingResult, num_frames: int) -> VideoClip:
    reached = [int(track.frame_indices[-1]) + 1 for track in result.tracks if len(track)]
    if not isinstance(video, VideoClip):
        if not result.complete and reached:
            clip = read_video(video, frame_indices=uniform_indices(max(reached), num_frames))
        else:
            clip = read_video(video, num_frames=num_frames)
            if (length := int(clip.frame_indices[-1]) + 1) != result.num_frames:
                length = VideoReader(video).count()  # a read of few frames may miss damage, and one says no length
            result.check_length(length)
        if Path(video).is_dir():  # it has no timestamps
            clip = replace(clip, fps=result.fps, timestamps_s=clip.frame_indices / result.fps)
        return clip
    result.check_length(max(result.num_frames, int(video.frame_indices[-1]) + 1))
    length = len(video)
    if not result.complete and reached:
        length = max(1, int(np.searchsorted(video.frame_indices, max(reached))))
    chosen = uniform_indices(length, num_frames)
    return VideoClip(video.frames[chosen], video.fps, video.timestamps_s[chosen], video.frame_indices[chosen])


def _best_columns(count: int, aspect: float) -> int:
    """Return the number of columns for a grid near 16:10 with few empty cells.

    >>> _best_columns(12, 640 / 480)
    4
    """

    def cost(columns: int) -> float:
        rows = -(-count // columns)
        return abs(np.log(columns * aspect / rows / 1.6)) + (rows * columns - count) / count

    return min(range(1, count + 1), key=cost)


def _draw_sheet(clip: VideoClip, result: TrackingResult, pixel_aspect: float) -> Image.Image:
    columns = _best_columns(len(clip), pixel_aspect * clip.width / clip.height)
    rows = -(-len(clip) // columns)
    column_width = (SHEET_WIDTH_PX - GAP_PX * (columns + 1)) // columns
    scale = min(column_width / (clip.width * pixel_aspect), TALLEST_TILE_PX / clip.height)
    scale_xy = scale * pixel_aspect, scale
    tile_width, tile_height = max(1, round(clip.width * scale_xy[0])), max(1, round(clip.height * scale))
    legend = _legend(result)
    lines = 1 + (legend[-1][3] if legend else 1)
    top = GAP_PX + lines * LINE_PX + GAP_PX // 2
    row_height = tile_height + round(1.9 * CAPTION_PX) + GAP_PX // 2
    sheet = Image.new("RGB", (SHEET_WIDTH_PX, top + rows * row_height + GAP_PX // 2), BACKGROUND)
    _draw_header(sheet, result, legend)
    for i, image in enumerate(clip.frames):
        left = GAP_PX + (i % columns) * (column_width + GAP_PX)
        upper = top + (i // columns) * row_height
        small = Image.fromarray(image).resize((tile_width, tile_height), Image.Resampling.LANCZOS)
        marks = [_scaled(mark, scale_xy) for mark in marks_at(result.tracks, int(clip.frame_indices[i]))]
        drawn = FrameAnnotator(tile_width, tile_height, trail_frames=0).annotate(np.asarray(small), marks)
        sheet.paste(Image.fromarray(drawn), (left, upper))
        caption = f"frame {clip.frame_indices[i]} · {clip.timestamps_s[i]:.2f} s"
        TextLine(caption, CAPTION_PX).draw(sheet, (left, upper + tile_height + 5), FAINT_INK)
    return sheet


def _scaled(mark: Mark, scale_xy: tuple[float, float]) -> Mark:
    """Return the mark scaled to an image of another size."""
    if mark.box_xyxy_px is None:
        return mark
    return replace(mark, box_xyxy_px=[v * s for v, s in zip(mark.box_xyxy_px, scale_xy * 2, strict=True)])


def _legend(result: TrackingResult) -> list[tuple[Track, TextLine, int, int]]:
    """Return each track with its label, its place from the left in pixels and its line; lines are wrapped."""
    entries: list[tuple[Track, TextLine, int, int]] = []
    x, line = GAP_PX, 1
    for track in result.tracks:
        label = readable_label(track.label, track.track_id)
        label = numbered_label(label, track.track_id) if len(result.tracks) > 1 else label
        label = label if len(label) <= 60 else label[:59] + "…"
        text = TextLine(f"{label}, {track.warning}" if track.warning else label, CAPTION_PX)
        width = text.width_px + 4 * GAP_PX
        if x + width > SHEET_WIDTH_PX - GAP_PX and x > GAP_PX:
            x, line = GAP_PX, line + 1
        entries.append((track, text, x, line))
        x += width
    return entries


def _draw_header(sheet: Image.Image, result: TrackingResult, legend: list[tuple[Track, TextLine, int, int]]) -> None:
    """Draw the names of the video and the model, then a coloured square and label for every object."""
    draw = ImageDraw.Draw(sheet)
    title = TextLine(Path(result.video).name + ("" if result.complete else " (interrupted)"), TITLE_PX)
    title.draw(sheet, (GAP_PX, GAP_PX), INK)
    model = TextLine(result.model, CAPTION_PX)
    baseline = GAP_PX + title.ascent_px
    model.draw(sheet, (2 * GAP_PX + title.width_px, baseline - model.ascent_px), FAINT_INK)
    side = CAPTION_PX
    for track, text, x, line in legend:
        y = GAP_PX + line * LINE_PX
        color = object_color(track.track_id).as_hex()
        draw.rounded_rectangle((x, y + 2, x + side, y + 2 + side), radius=4, fill=color)
        text.draw(sheet, (x + side + 8, y + 2 + (side - text.height_px) // 2), INK)
