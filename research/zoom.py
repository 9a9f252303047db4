"""What `--zoom` gives by the size of the object, and what it costs.

    python -m research.zoom sprites.npz --output research/results/zoom.json

Tracks held-out cut-outs of a sprite bank (part `seen_classes`, 640x480) from their true box in frame 1: in whole
frames, and in squares of 1.5, 2 and 3 times the object's side; with `--image-size S` also in whole frames that the
model sees at S pixels, its positions interpolated. Every clip goes through every way in turn, alone.

An object's size is the side of a square of its first box's area, over that of the picture's area. The renderer calls
what has fewer than 192 pixels out of sight, so that the smallest objects are 2.5% large. An object moves by 2% to 15%
of its own side a frame, as in videos of 25 or 30 frames a second. A clip counts by its mean IoU over the frames from 2
on in which the object can be seen; a frame without a box counts 0. Seconds are of tracking alone. The interval is the
bootstrap's over clips, of the paired difference to whole frames. The last line is JSON.
"""

import argparse
import inspect
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from benchmarks.bench import hardware, markdown_table, write_record
from elysium.processing.overlap import paired_iou
from elysium.processing.structures import VideoClip
from elysium.tracking.checkpoints import DEFAULT_MODEL
from elysium.tracking.options import DEFAULTS, TrackingOptions
from elysium.tracking.tracker import Tracker
from elysium.training.synthetic.render import RenderedClip, render_clip
from elysium.training.synthetic.scene import SceneConfig
from research.bootstrap import bootstrap_interval
from research.scenes.sprite_bank import SpriteBank
from research.scenes.sprite_world import SpriteWorld

WIDTH, HEIGHT, FPS = 640, 480, 25.0
# Of the made-up grounds and things, and the first scene; training uses others.
WORLD_SEED, FIRST_SCENE_SEED = 900_047, 940_000_000
SIZES = {"under 5%": (0.025, 0.05), "5-10%": (0.05, 0.1), "10-20%": (0.1, 0.2), "over 20%": (0.2, 0.4)}
ZOOMS = (1.5, 2.0, 3.0)
# Of the object's side, a frame.
PACE = (0.02, 0.15)
MIN_FIRST_FRACTION = 0.6
WHOLE, REPEATED = "whole frame", "first box repeated"


@dataclass(frozen=True, eq=False)
class SizedClip:
    """One clip and the object that is followed in it.

    Args:
        video: T frames.
        boxes_xyxy_px (`np.ndarray` of shape `(T, 4)`): true boxes, NaN where the object is out of sight.
    """

    video: VideoClip
    boxes_xyxy_px: NDArray[np.float64]

    def overlaps(self, boxes_xyxy_px: NDArray[np.float64]) -> NDArray[np.float64]:
        """IoU in the frames from 2 on in which the object can be seen."""
        seen = np.isfinite(self.boxes_xyxy_px[1:, 0])
        return paired_iou(boxes_xyxy_px, self.boxes_xyxy_px)[1:][seen]


@dataclass(frozen=True)
class Way:
    """One way to track: a model, and the factor of its squares, or 0 for one look."""

    name: str
    tracker: Tracker
    zoom: float = 0


@dataclass
class Figures:
    """What one way got for one size: a number for each clip."""

    ious: list[float] = field(default_factory=list)
    shares_above_half: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, overlaps: NDArray[np.float64], seconds: float) -> None:
        """One clip more."""
        self.ious.append(float(overlaps.mean()))
        self.shares_above_half.append(float((overlaps > 0.5).mean()))
        self.seconds.append(seconds)

    def record(self, before: "Figures", num_frames: int) -> dict[str, Any]:
        """Means, and the difference to ``before`` on the same clips."""
        difference = np.array(self.ious) - before.ious
        return {
            "mean_iou": round(float(np.mean(self.ious)), 4),
            "share_above_half": round(float(np.mean(self.shares_above_half)), 4),
            "ms_per_frame": round(1000 * float(np.mean(self.seconds)) / num_frames, 2),
            "gain": round(float(difference.mean()), 4),
            "gain_interval_95": bootstrap_interval(difference),
        }


def sized_clips(world: SpriteWorld, size: tuple[float, float], num_frames: int) -> Iterator[SizedClip]:
    """Clips without end that follow an object of a size; one in which the object does not come again is left out."""
    middle = math.sqrt(size[0] * size[1])
    config = SceneConfig(side=size, speed=(PACE[0] * middle, PACE[1] * middle), share_camera_motion=0.3)
    for seed in count(FIRST_SCENE_SEED):
        scene = world.sample(seed, config)
        target = find_target(render_clip(scene, 1, (WIDTH, HEIGHT)), size)
        if target is None:
            continue
        clip = render_clip(scene, num_frames, (WIDTH, HEIGHT))
        visible = clip.visible[:, target]
        if visible[1:].any():
            boxes = clip.boxes_xyxy_norm[:, target].astype(np.float64) * [WIDTH, HEIGHT, WIDTH, HEIGHT]
            boxes_px = np.where(visible[:, None], boxes.round(), np.nan)  # edges of pixels
            yield SizedClip(VideoClip.from_frames(clip.frames, fps=FPS), boxes_px)


def find_target(first: RenderedClip, size: tuple[float, float]) -> int | None:
    """The first object of a size of which enough can be seen, in a clip of one frame."""
    boxes = first.boxes_xyxy_norm[0]
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    fits = (size[0] <= sides) & (sides < size[1]) & (first.visible_fraction[0] >= MIN_FIRST_FRACTION)
    return int(fits.argmax()) if fits.any() else None


def set_image_size(tracker: Tracker, side: int) -> None:
    """Lets a model see frames at another size, with as many kept tokens; learned positions are interpolated.

    Raises:
        ValueError: the model cannot do it.
    """
    model, processor = tracker.model.model, tracker.processor
    patch = model.config.vision_config.patch_size
    if side % patch:
        raise ValueError(f"image_size must be a multiple of the patches' {patch}, got {side}")
    for part in (processor.image_processor, processor.video_processor):
        part.size = {"height": side, "width": side}
    tower = model.vision_tower
    if "interpolate_pos_encoding" in inspect.signature(tower.forward).parameters:
        tower.forward = partial(tower.forward, interpolate_pos_encoding=True)
    if model.config.kept_position_embedding:
        stretch_positions(model.kept_position_embedding, side // patch)
    blank = np.zeros((2, side, side, 3), np.uint8)
    try:
        tracker.track(blank, box_xyxy_px=(0, 0, side / 2, side / 2), fps=FPS)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ValueError(
            f"the model must take pictures of {side} pixels, got a {type(tower).__name__} that does not "
            f"({str(error).splitlines()[0]})"
        ) from error


@torch.no_grad()
def stretch_positions(embedding: torch.nn.Embedding, grid: int) -> None:
    """Gives an embedding of the places of a square grid (G * G, D) as many for a grid of another side."""
    before = math.isqrt(embedding.num_embeddings)
    table = embedding.weight.view(1, before, before, -1).permute(0, 3, 1, 2)  # (1, D, G, G)
    table = interpolate(table, size=(grid, grid), mode="bicubic", align_corners=False)
    embedding.weight = torch.nn.Parameter(table.flatten(2)[0].T.contiguous(), requires_grad=False)
    embedding.num_embeddings = grid * grid


def track_clips(ways: list[Way], clips: Iterator[SizedClip], options: TrackingOptions) -> dict[str, Figures]:
    """Every clip by every way, and the first box repeated."""
    found = {name: Figures() for name in (REPEATED, *(way.name for way in ways))}
    for clip in clips:
        box = tuple(clip.boxes_xyxy_px[0])
        found[REPEATED].add(clip.overlaps(np.tile(box, (len(clip.video), 1))), 0.0)
        for way in ways:
            start_s = time.perf_counter()
            result = way.tracker.track(clip.video, box_xyxy_px=box, zoom=way.zoom, options=options)
            seconds = time.perf_counter() - start_s
            found[way.name].add(clip.overlaps(result.tracks[0].boxes_xyxy_px), seconds)
    return found


def choose_ways(model: str, image_size: int | None) -> tuple[list[Way], str | None]:
    """What is compared, whole frames first, and why the other image size is not, where the model cannot see it."""
    tracker = Tracker.from_pretrained(model)
    ways = [Way(WHOLE, tracker), *(Way(f"zoom {zoom:g}", tracker, zoom) for zoom in ZOOMS)]
    if image_size is None:
        return ways, None
    larger = Tracker.from_pretrained(model)
    try:
        set_image_size(larger, image_size)
    except ValueError as error:
        return ways, str(error)
    return [*ways, Way(f"image size {image_size}", larger)], None


def table(sizes: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Return a table with a line for each size and way."""
    lines = []
    for size, ways in sizes.items():
        for way, row in ways.items():
            low, high = row["gain_interval_95"]
            iou = [f"{row['mean_iou']:.3f}", f"{row['share_above_half']:.3f}", f"{row['gain']:+.3f}"]
            lines.append([size, way, *iou, f"{low:+.3f} .. {high:+.3f}", f"{row['ms_per_frame']:.1f}"])
    return markdown_table(["object", "way", "mean IoU", "> 0.5", "gain", "95% interval", "ms/frame"], lines)


def headline(sizes: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The smallest objects before and after, and what it costs."""
    before, after = sizes["under 5%"][WHOLE], sizes["under 5%"]["zoom 2"]
    return (
        f"Zoom: mean IoU of objects under 5% of the side {before['mean_iou']:.3f} before, {after['mean_iou']:.3f} "
        f"after (zoom 2), in {after['ms_per_frame'] / before['ms_per_frame']:.2f} times the time"
    )


def main() -> None:
    """Measures, prints a table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bank", type=Path, help="sprites, as python -m research.scenes.fetch_sprites writes")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="checkpoint folder, shipped name or Hub id")
    parser.add_argument("--clips", type=int, default=40, help="of each size")
    parser.add_argument("--frames", type=int, default=24, help="of each clip")
    parser.add_argument(
        "--window-frames", type=int, default=DEFAULTS.window_frames, help="frames that the model sees at once"
    )
    parser.add_argument("--image-size", type=int, help="pixels a side, for whole frames seen larger")
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    if arguments.clips < 1 or arguments.frames < 2:
        parser.error(f"there must be 1 clip of 2 frames or more, got {arguments.clips} of {arguments.frames}")
    ways, refusal = choose_ways(arguments.model, arguments.image_size)
    world = SpriteWorld(SpriteBank.load(arguments.bank), WORLD_SEED, part="seen_classes")
    sizes: dict[str, dict[str, dict[str, Any]]] = {}
    for name, bounds in SIZES.items():
        clips = islice(sized_clips(world, bounds, arguments.frames), arguments.clips)
        found = track_clips(ways, clips, TrackingOptions(window_frames=arguments.window_frames))
        sizes[name] = {way: row.record(found[WHOLE], arguments.frames) for way, row in found.items()}
    print(table(sizes))
    print(headline(sizes))
    if refusal is not None:
        print(f"image size {arguments.image_size}: not measured: {refusal}")
    record = {
        "model": arguments.model,
        "clips_of_each_size": arguments.clips,
        "frames": arguments.frames,
        "window_frames": arguments.window_frames,
        "headline": headline(sizes),
        "sizes": sizes,
        "image_size_refused": refusal,
        "hardware": f"{hardware()}, {torch.get_num_threads()} threads",
    }
    write_record(record, arguments.output)


if __name__ == "__main__":
    main()
