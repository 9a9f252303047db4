"""Contact sheets of `tracking_table`: a clip with the true box and those of two trackers."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from elysium.processing.atomic_files import atomic_path
from elysium.processing.overlap import paired_iou
from elysium.processing.video_io import uniform_indices
from elysium.visualization.fonts import default_font
from research.tracking_table.clips import Clip
from research.tracking_table.scores import FollowedClip

TRUTH = "truth"
COLOURS = ("#FFFFFF", "#FF3D60", "#00AEEF", "#FFC21A")  # of the truth, and of tracks in their order
COLUMNS, NUM_FRAMES = 4, 16
TILE_WIDTH, GAP, TITLE, CAPTION = 400, 12, 24, 16
INK, FAINT_INK = "#1B1F24", "#57606A"


def save_sheet(clip: Clip, tracks: dict[str, FollowedClip], path: Path) -> None:
    """Writes 16 frames, spread evenly, as PNG; below each the IoU of each track.

    Args:
        clip: with true boxes.
        tracks: by the trackers' names, at most three.
        path: of the sheet.
    """
    indices = uniform_indices(len(clip.video), NUM_FRAMES)
    scale = TILE_WIDTH / clip.video.width
    tile_height = round(clip.video.height * scale)
    rows = -(-len(indices) // COLUMNS)
    row_height = tile_height + CAPTION + 2 * GAP
    top = 2 * GAP + TITLE
    sheet = Image.new("RGB", (GAP + COLUMNS * (TILE_WIDTH + GAP), top + GAP + rows * row_height), "white")
    draw = ImageDraw.Draw(sheet)
    boxes = {TRUTH: clip.boxes_xyxy_px} | {name: track.boxes_xyxy_px for name, track in tracks.items()}
    ious = {name: paired_iou(track.boxes_xyxy_px, clip.boxes_xyxy_px) for name, track in tracks.items()}
    _draw_legend(draw, clip, list(boxes), sheet.width)
    for place, index in enumerate(indices):
        left, upper = GAP + place % COLUMNS * (TILE_WIDTH + GAP), top + place // COLUMNS * row_height
        tile = Image.fromarray(clip.video.frames[index]).resize((TILE_WIDTH, tile_height), Image.Resampling.LANCZOS)
        for place_of_track in range(len(boxes) - 1, -1, -1):  # the truth last
            _draw_box(ImageDraw.Draw(tile), list(boxes.values())[place_of_track][index] * scale, place_of_track)
        sheet.paste(tile, (left, upper))
        said = "   ".join(f"{name} {values[index]:.2f}" for name, values in ious.items())
        caption = f"frame {index}   {said if clip.visible[index] else 'out of sight'}"
        draw.text((left, upper + tile_height + 4), caption, font=default_font().load(CAPTION), fill=FAINT_INK)
    with atomic_path(path) as unfinished:
        sheet.save(unfinished, format="PNG", optimize=True)


def _draw_legend(draw: ImageDraw.ImageDraw, clip: Clip, names: list[str], width: int) -> None:
    """The clip's name and words on the left, a coloured square for each track on the right."""
    draw.text((GAP, GAP), f"{clip.name}: {clip.words}", font=default_font().load(TITLE), fill=INK)
    x = float(width)
    for colour, name in reversed(list(zip(COLOURS, names, strict=False))):
        x -= draw.textlength(name, font=default_font().load(TITLE)) + TITLE + 3 * GAP
        draw.rectangle((x, GAP + 4, x + TITLE, GAP + 4 + TITLE), fill=colour, outline=INK)
        draw.text((x + TITLE + GAP // 2, GAP), name, font=default_font().load(TITLE), fill=INK)


def _draw_box(draw: ImageDraw.ImageDraw, box: np.ndarray, place: int) -> None:
    """The truth, 0, as a white line with a dark rim; tracks as lines outside of their boxes, one around the other, so
    that all show where they agree. Nothing for NaN."""
    if np.isfinite(box).all():
        x1, y1, x2, y2 = box.round().tolist()
        x2, y2 = max(x2 - 1, x1), max(y2 - 1, y1)
        if place:
            rim = 3 * place
            draw.rectangle((x1 - rim, y1 - rim, x2 + rim, y2 + rim), outline=COLOURS[place], width=3)
        else:
            draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline="#101010", width=4)
            draw.rectangle((x1, y1, x2, y2), outline=COLOURS[0], width=2)
