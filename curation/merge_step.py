"""Last step, after all chunks are written: join their records, and write the report.

OUT/rows.jsonl    OUT/report/{exclusions.jsonl, summary.json}    OUT/README.md
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep
from huggingface_hub import DatasetCard, DatasetCardData

from .chunk_store import CHUNKS, EXCLUSIONS, REPORT, VIDEOS, ChunkStore
from .near_duplicates import VideoPrint, duplicate_videos, held_out_prints, leak_report
from .video_records import VideoRecord
from .write_step import FORMATS

STEPS = ("phrases", "decode", "detect", "track", "drift", "agree")
CARD = Path(__file__).with_name("curated_card.md.jinja")
# What `datasets` reads on the Hub; rows.jsonl names its frames by their paths.
DATA_FILES = {"jsonl": "rows.jsonl", "parquet": f"{CHUNKS}/*/rows.parquet"}
_COMMON = 20


class MergeChunks(PipelineStep):
    """Join the chunks in order of the input, and report on them.

    Args:
        store: Output.
        form: Format of the records.
        settings: Settings of the run, for the report.
        held_out: Validation records to compare with: JSONL file, folder with one, or Hub id.
    """

    type, name = "Curation", "merge"

    def __init__(self, store: ChunkStore, *, form: str, settings: dict[str, Any], held_out: str | None = None) -> None:
        super().__init__()
        self.store, self.form, self.settings, self.held_out = store, form, settings, held_out

    def run(self, data: Iterable[VideoRecord] | None, rank: int = 0, world_size: int = 1) -> Iterator[VideoRecord]:
        """Write the report; no video is yielded."""
        self.store.sweep()
        if self.form == "jsonl":
            self._join(FORMATS[self.form], FORMATS[self.form])
        self._join(EXCLUSIONS, f"{REPORT}/{EXCLUSIONS}")
        summary = self._summary()
        with self.store.file("README.md") as path:
            path.write_text(str(dataset_card(summary)), "utf-8")
        with self.store.file(f"{REPORT}/summary.json") as path:  # last: it marks the report as complete
            path.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", "utf-8")
        yield from ()

    def _join(self, name: str, whole: str) -> None:
        """Write the lines of a file of every chunk into one file."""
        with self.store.file(whole) as path, path.open("wb") as joined:
            for part in self.store.files(name):
                with self.store.folder.open(part, "rb") as file:
                    joined.writelines(file)

    def _summary(self) -> dict[str, Any]:
        of_videos, of_phrases = (
            drop_counts(line for line in self.store.lines(EXCLUSIONS) if (line["phrase"] is None) == whole)
            for whole in (True, False)
        )
        videos, classes, counts = 0, Counter[str](), Counter[str](with_rows=0, boxed=0, absent=0)
        prints = []
        for line in self.store.lines(VIDEOS):
            videos += 1
            if line["fingerprint"] is not None:
                prints.append(VideoPrint.of_hex(line["video_id"], line["fingerprint"]))
            classes.update(line["classes"])
            counts.update(with_rows=line["rows"] > 0, boxed=line["boxed"], absent=line["absent"])
        rows = classes.total()
        leaks = {}
        if self.held_out is not None:
            report = leak_report(prints, held_out_prints(self.held_out))
            leaks = {"leaks": {"held_out": self.held_out} | report}
        return {
            "videos": videos,
            "dropped_videos": of_videos,
            "rows": rows,
            "format": self.form,
            "steps": step_counts(of_phrases, rows),
            "settings": self.settings,
            "statistics": {
                "videos": counts["with_rows"],
                "frames": {"boxed": counts["boxed"], "absent": counts["absent"]},
                "classes": len(classes),
                "commonest_classes": dict(sorted(classes.items(), key=lambda item: (-item[1], item[0]))[:_COMMON]),
            },
            "near_duplicates": {
                "videos": len(prints),
                "same_pictures": [[prints[place].vid for place in group] for group in duplicate_videos(prints)],
            },
            **leaks,
        }


def drop_counts(drops: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Return the number of exclusions by step and reason; steps in order of appearance.

    >>> drop_counts([{"step": "agree", "reason": "iou_last_frame"}] * 2)
    {'agree': {'iou_last_frame': 2}}
    """
    counts: dict[str, Counter[str]] = {}
    for drop in drops:
        counts.setdefault(drop["step"], Counter())[drop["reason"]] += 1
    return {step: dict(reasons.most_common()) for step, reasons in counts.items()}


def step_counts(drops: dict[str, dict[str, int]], num_rows: int) -> list[dict[str, Any]]:
    """Return how many phrases entered each step, were dropped by each reason, and left it.

    >>> step_counts({"agree": {"iou_last": 2}}, 5)[-1]
    {'step': 'agree', 'in': 7, 'dropped': {'iou_last': 2}, 'out': 5}
    """
    counts: list[dict[str, Any]] = []
    out = num_rows
    for step in reversed(STEPS):
        dropped = drops.get(step, {})
        counts.append({"step": step, "in": out + sum(dropped.values()), "dropped": dropped, "out": out})
        out = counts[-1]["in"]
    return counts[::-1]


def dataset_card(summary: Mapping[str, Any]) -> DatasetCard:
    """Return a card: fields of the data, steps and settings that made them, and what was dropped.

    Args:
        summary: Content of `report/summary.json` of a finished run. Local folders among its settings are shown by
            their names only, to avoid leaking paths.
    """
    data = DatasetCardData(
        task_categories=["object-detection", "visual-question-answering"],
        tags=["video", "object-tracking", "referring-expressions", "elysium"],
        configs=[{"config_name": "default", "data_files": DATA_FILES[summary["format"]]}],
    )
    settings = {
        name: Path(value).name if isinstance(value, str) and Path(value).is_dir() else value
        for name, value in summary["settings"].items()
    }
    card: DatasetCard = DatasetCard.from_template(data, template_path=str(CARD), **{**summary, "settings": settings})
    return card
