"""Write synthetic clips as a dataset: mp4 and JPEG frames, and one record per object in the ElysiumTrack-1M schema.

OUT/rows.jsonl    OUT/videos/000000.mp4    OUT/frames/000000/0000.jpg
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from elysium.processing.atomic_files import atomic_path
from elysium.processing.boxes_elysium import format_box, format_frames
from elysium.processing.data_files import DatasetError
from elysium.processing.video_io import VideoWriter

from .expressions import referring_expressions, simple_questions
from .render import RenderedClip, render_clip
from .scene import Scene, SceneConfig, World

SOURCE = "elysium-synthetic"
JPEG_QUALITY = 92
CLIP_SCENE = SceneConfig(num_objects=(3, 6), share_twins=0.1, share_leaving=0.2)
Row = dict[str, Any]
Progress = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class ClipShape:
    """Frames of a clip and their size in pixels."""

    num_frames: int = 16
    width: int = 320
    height: int = 240
    fps: float = 10.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise DatasetError(f"{name} must be above 0, got {value}")
        if min(self.width, self.height) < 32:
            raise DatasetError(f"a clip must be at least 32 pixels a side, got {self.width}x{self.height}")


@dataclass(frozen=True, eq=False)
class LabelledClip:
    """Name of a clip, its frames uint8 (T, H, W, 3), and one record for each object with an expression."""

    name: str
    frames: np.ndarray
    rows: list[Row]


def clip_rows(scene: Scene, clip: RenderedClip, name: str) -> Iterator[Row]:
    """Yield one record for each named object of a clip, in the ElysiumTrack-1M schema.

    Boxes are 0..1, of the visible part; null where the object is out of sight. `video` is the path of the mp4, and
    `metadata` holds all expressions that single the object out, the questions on the scene, and how much is visible.
    """
    num_frames, height, width, _ = clip.frames.shape
    for index in range(clip.visible.shape[1]):
        sprite = scene.objects[scene.tracked[index]].sprite
        expressions = referring_expressions(scene, index, clip.boxes_xyxy_norm, clip.visible)
        if not expressions:
            continue
        yield {
            "source": SOURCE,
            "id": f"{name}_{index}",
            "vid": name,
            "metadata": {
                "seed": scene.seed,
                "name": scene.objects[index].name,
                "colour": sprite.colour,
                "expressions": expressions,
                "questions": [{"question": asked, "answer": told} for asked, told in simple_questions(scene)],
                "visible_fraction": [round(float(part), 3) for part in clip.visible_fraction[:, index]],
            },
            "frames": [f"frames/{name}/{t:04d}.jpg" for t in range(num_frames)],
            "video": f"videos/{name}.mp4",
            "object_class": sprite.kind,
            "box": [
                [round(float(edge), 5) for edge in clip.boxes_xyxy_norm[t, index]] if clip.visible[t, index] else None
                for t in range(num_frames)
            ],
            "object_description": expressions[0],
            "frame_size": [width, height],
        }


def task_examples(row: Row, *, rounding: str = "floor") -> Iterator[dict[str, Any]]:
    """Yield the task examples of a record: the values for a task's prompt, and the answer.

    Yields:
        `{"task", "frame_indices", "values": {"text" | "box" | "question": …}, "answer"}`; image tasks name one frame.
    """
    frames, boxes = list(range(len(row["box"]))), row["box"]
    name, words = row["metadata"]["name"], row["object_description"]
    whole = format_frames(boxes, rounding=rounding)
    yield {"task": "rsot", "frame_indices": frames, "values": {"text": words}, "answer": whole}
    for pair in row["metadata"]["questions"]:
        values = {"question": pair["question"]}
        yield {"task": "video_qa", "frame_indices": frames, "values": values, "answer": pair["answer"]}
    if boxes[0] is None:
        return
    box = format_box(boxes[0], rounding=rounding)
    yield {"task": "sot", "frame_indices": frames, "values": {"box": box}, "answer": whole}
    yield {"task": "video_reg", "frame_indices": frames, "values": {"box": box}, "answer": name}
    yield {"task": "rec", "frame_indices": frames[:1], "values": {"text": words}, "answer": box}
    yield {"task": "reg", "frame_indices": frames[:1], "values": {"box": box}, "answer": name}


def write_dataset(
    out: str | Path, *, count: int, seed: int, shape: ClipShape | None = None, progress: Progress | None = None
) -> int:
    """Write `count` clips and their records into a folder, and return the number of records.

    The same seed gives the same clips; `progress` is called after each clip with the number of clips written.
    """
    folder, shape = Path(out), shape or ClipShape()
    folder.mkdir(parents=True, exist_ok=True)
    num_rows = 0
    with atomic_path(folder / "rows.jsonl") as temporary, temporary.open("w", encoding="utf-8") as rows:
        for clip in synthetic_clips(count, seed, shape, progress):
            write_video(folder / "videos" / f"{clip.name}.mp4", clip.frames, shape.fps)
            frame_folder = folder / "frames" / clip.name
            frame_folder.mkdir(parents=True, exist_ok=True)
            for t, frame in enumerate(clip.frames):
                with atomic_path(frame_folder / f"{t:04d}.jpg") as image:
                    Image.fromarray(frame).save(image, quality=JPEG_QUALITY)
            rows.writelines(json.dumps(row) + "\n" for row in clip.rows)
            num_rows += len(clip.rows)
    return num_rows


def synthetic_clips(
    count: int, seed: int, shape: ClipShape, progress: Progress | None = None
) -> Iterator[LabelledClip]:
    """Yield clips of the synthetic world with their records; the same seed gives the same clips."""
    world = World(seed)
    for number in range(count):
        scene, name = world.sample(number, CLIP_SCENE), f"{number:06d}"
        clip = render_clip(scene, shape.num_frames, (shape.width, shape.height))
        yield LabelledClip(name, clip.frames, list(clip_rows(scene, clip, name)))
        if progress is not None:
            progress(number + 1)


def write_video(path: Path, frames: np.ndarray, fps: float) -> None:
    """Write frames (T, H, W, 3) as mp4."""
    height, width = frames.shape[1:3]
    with VideoWriter(path, fps, width, height) as writer:
        for frame in frames:
            writer.write(frame)
