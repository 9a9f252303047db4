"""Write clips as a dataset for `trl sft --dataset_name OUT`: conversations about images and videos, in Parquet.

    OUT/README.md    OUT/data/train.parquet    OUT/data/test.parquet    OUT/videos/000000.mp4

A sample has `images`, `messages` and `task`. A question about an image has it in `images`. TRL's collator knows no
videos, so a question about a video has no `images`, and names its video in the message: by the absolute path of a file
that holds exactly the frames that the answer lists, or as a `data:` URL with the file in it.
"""

import base64
import hashlib
import io
import itertools
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, Image, List, Value
from PIL import Image as PILImage

from elysium.processing.atomic_files import atomic_path
from elysium.processing.prompts_elysium import TASKS

from .dataset import JPEG_QUALITY, ClipShape, LabelledClip, Progress, synthetic_clips, task_examples, write_video

IMAGE_TASKS = tuple(name for name, task in TASKS.items() if task.visual == "image")
VIDEO_TASKS = tuple(name for name in TASKS if name not in IMAGE_TASKS)
FEATURES = Features(
    {
        "task": Value("string"),
        "images": List(Image()),
        "messages": List(
            {
                "role": Value("string"),
                "content": List({"type": Value("string"), "text": Value("string"), "video": Value("string")}),
            }
        ),
    }
)
TEST_SHARE = 0.1
# The samples of this many clips are shuffled and make one row group: streaming reads them in the file's order.
_CLIPS_PER_GROUP = 32
_CARD = """---
configs:
- config_name: mixed
  default: true
  data_dir: data
  description: rows {rows}
- config_name: images
  data_dir: data
  description: rows {rows}
  filters: [[task, in, [{images}]]]
- config_name: videos
  data_dir: data
  description: rows {rows}
  filters: [[task, in, [{videos}]]]
---

Conversations about generated images and videos, with boxes and descriptions of the objects in them, for `trl sft`.
Configurations: `mixed`, `images`, `videos`. Videos are {place}.
"""
Example = dict[str, Any]


def write_trl_dataset(
    out: str | Path,
    *,
    count: int,
    seed: int,
    shape: ClipShape | None = None,
    embed: bool = False,
    home: str | Path | None = None,
    progress: Progress | None = None,
) -> int:
    """Write `count` clips of the synthetic world as conversations; the last tenth of the clips is for testing.

    Args:
        out: a folder, created where missing.
        count: number of clips.
        seed: of the clips and of the order of the samples.
        shape: of a clip.
        embed: store videos inside the samples, so that the folder can be moved or uploaded; else they name files.
        home: where the folder will stand, if it is moved from `out` afterwards.
        progress: called after each clip with the number of clips written.

    Returns:
        Number of conversations.

    Raises:
        ValueError: fewer than two clips.
    """
    if count < 2:
        raise ValueError(f"a dataset for trl must have 2 clips or more, one to test on, got {count}; raise the count")
    shape = shape or ClipShape()
    clips = synthetic_clips(count, seed, shape, progress)
    writer = TrlWriter(out, fps=shape.fps, seed=seed, embed=embed, home=home)
    train = itertools.islice(clips, count - max(1, round(count * TEST_SHARE)))
    return writer.write("train", train) + writer.write("test", clips)


class TrlWriter:
    """Write the splits of a dataset, and its card.

    Args:
        out: a folder, created where missing.
        fps: frames per second of the videos.
        seed: of the order of the samples.
        embed, home: as in `write_trl_dataset`.
    """

    def __init__(
        self,
        out: str | Path,
        *,
        fps: float,
        seed: int,
        embed: bool = False,
        home: str | Path | None = None,
    ) -> None:
        self.folder, self.home = Path(out), Path(home or out).absolute()
        self.fps, self.embed = fps, embed
        self._rng = np.random.default_rng((seed, 21))
        (self.folder / "data").mkdir(parents=True, exist_ok=True)

    def write(self, split: str, clips: Iterable[LabelledClip]) -> int:
        """Write the conversations about some clips as a split and return their number."""
        count = 0
        waiting: list[Example] = []
        with (
            atomic_path(self.folder / "data" / f"{split}.parquet") as temporary,
            pq.ParquetWriter(temporary, FEATURES.arrow_schema) as writer,
        ):
            for number, clip in enumerate(clips, start=1):
                waiting += self.examples(clip)
                if number % _CLIPS_PER_GROUP == 0:
                    count += self._write_group(writer, waiting)
                    waiting = []
            count += self._write_group(writer, waiting)
        self._write_card()
        return count

    def _write_card(self) -> None:
        """Write README.md, which holds a hash of the data.

        `datasets` caches a folder and reuses the cache as long as the folder's name and the head of its README are the
        same: without the hash, a folder that was written again would be trained on as it was before.
        """
        rows = hashlib.sha256()
        for path in sorted((self.folder / "data").glob("*.parquet")):
            with path.open("rb") as file:
                rows.update(hashlib.file_digest(file, "sha256").digest())
        card = _CARD.format(
            rows=rows.hexdigest()[:16],
            images=", ".join(IMAGE_TASKS),
            videos=", ".join(VIDEO_TASKS),
            place="in the rows" if self.embed else "files beside the rows, named by absolute paths",
        )
        with atomic_path(self.folder / "README.md") as temporary:
            temporary.write_text(card, encoding="utf-8")

    def _write_group(self, writer: pq.ParquetWriter, examples: list[Example]) -> int:
        shuffled = [examples[index] for index in self._rng.permutation(len(examples))]
        writer.write_table(pa.Table.from_pylist(shuffled, schema=FEATURES.arrow_schema))
        return len(examples)

    def examples(self, clip: LabelledClip) -> Iterator[Example]:
        """Yield each question on a clip once: records of one clip share those on the whole scene."""
        video = self._write_video(clip)
        image = _jpeg(clip.frames[0])
        asked = set()
        for found in (example for row in clip.rows for example in task_examples(row)):
            (name, value), task = next(iter(found["values"].items())), found["task"]
            if (task, value) in asked:
                continue
            asked.add((task, value))
            is_image = task in IMAGE_TASKS
            visual = {"type": "image"} if is_image else {"type": "video", "video": video}
            question = TASKS[task].prompt.replace("{" + name + "}", value)
            yield {
                "task": task,
                "images": [{"bytes": image, "path": None}] if is_image else [],
                "messages": [
                    {"role": "user", "content": [visual, {"type": "text", "text": question}]},
                    {"role": "assistant", "content": [{"type": "text", "text": found["answer"]}]},
                ],
            }

    def _write_video(self, clip: LabelledClip) -> str:
        """Write the clip's video and return its path or `data:` URL."""
        name = f"{clip.name}.mp4"
        if not self.embed:
            write_video(self.folder / "videos" / name, clip.frames, self.fps)
            return str(self.home / "videos" / name)
        with tempfile.TemporaryDirectory() as folder:
            write_video(Path(folder) / name, clip.frames, self.fps)
            return "data:video/mp4;base64," + base64.b64encode((Path(folder) / name).read_bytes()).decode()


def _jpeg(frame: np.ndarray) -> bytes:
    """Return a frame as JPEG."""
    held = io.BytesIO()
    PILImage.fromarray(frame).save(held, "JPEG", quality=JPEG_QUALITY)
    return held.getvalue()
