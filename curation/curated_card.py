"""Write the card of a curated dataset, and upload the dataset to the Hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from .chunk_store import CHUNKS, ChunkStore
from .curation_step import CurationError

# What `datasets` reads on the Hub; rows.jsonl names its frames by their paths.
DATA_FILES = {"jsonl": "rows.jsonl", "parquet": f"{CHUNKS}/*/rows.parquet", "webdataset": f"{CHUNKS}/*/rows.tar"}
_SIZES = {10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M", 10**7: "1M<n<10M"}
_THRESHOLDS = (
    "detector",
    "min_detection_score",
    "tracker",
    "min_track_score",
    "min_forward_backward_iou",
    "other_trackers",
    "min_tracker_iou",
    "drift_false_alarm",
    "min_agreement_iou",
    "frame_interval",
    "max_frames",
    "max_side_px",
)


def dataset_card(summary: Mapping[str, Any]) -> DatasetCard:
    """Return a card: fields of the data, steps and settings that made them, and what was dropped.

    Args:
        summary: Content of `report/summary.json` of a finished run.
    """
    form = str(summary["format"])
    size = next((name for most, name in _SIZES.items() if summary["rows"] < most), "10M<n<100M")
    data = DatasetCardData(
        task_categories=["object-detection", "visual-question-answering"],
        tags=["video", "object-tracking", "referring-expressions", "elysium"],
        size_categories=[size],
        configs=[{"config_name": "default", "data_files": DATA_FILES[form]}],
    )
    statistics = summary["statistics"]
    frames = statistics["frames"]
    lines = [
        "---",
        data.to_yaml(),
        "---",
        "# Noun phrases with trajectories",
        "",
        f"{summary['rows']} rows from {summary['videos']} captioned videos, of which {statistics['videos']} gave any. "
        f"A row is one object: a noun phrase of the caption, and its box in every frame ({frames['boxed']} boxes; "
        f"{frames['absent']} frames in which the tracker had lost it).",
        "",
        "Boxes and words were made by models, and nobody has looked at each: see the steps below.",
        "",
        "## A row",
        "",
        "`source, id, vid, metadata, frames, object_class, box, object_description, frame_size`: the layout of "
        "ElysiumTrack-1M. `box` is x1, y1, x2, y2 in 0..1 for each frame, null where the object is lost; `metadata` "
        "holds the caption and the figures that the steps found.",
        *_reading(form),
        "",
        "## How they were made",
        "",
        "| step | in | dropped | out |",
        "|---|---|---|---|",
        *(_step_line(step) for step in summary["steps"]),
        "",
        f"Counted are noun phrases. Whole videos were dropped for: {_reasons(summary['dropped_videos'])}.",
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {name} | {_shown(summary['settings'][name])} |" for name in _THRESHOLDS),
        "",
        "## What they hold",
        "",
        *_histogram_lines(statistics["histograms"]),
        "",
        f"{statistics['classes']} classes; the commonest: "
        + ", ".join(f"{name} {count}" for name, count in statistics["commonest_classes"].items())
        + ".",
    ]
    return DatasetCard("\n".join(lines) + "\n")


def _reading(form: str) -> list[str]:
    """Return how to read the records."""
    if form == "jsonl":
        return ["", "Paths of frames are relative to `rows.jsonl`."]
    if form == "parquet":
        code = 'rows = load_dataset("OWNER/NAME", split="train", streaming=True)'
        return ["", "```python", "from datasets import load_dataset", "", code, "```"]
    return ["", "A sample is a video: `KEY.json` holds its `rows`, `KEY.mp4` its frames (Motion JPEG)."]


def _reasons(drops: Mapping[str, Mapping[str, int]]) -> str:
    counts = [f"{reason} {count}" for reasons in drops.values() for reason, count in reasons.items()]
    return ", ".join(counts) or "nothing"


def _step_line(step: Mapping[str, Any]) -> str:
    dropped = ", ".join(f"{reason} {count}" for reason, count in step["dropped"].items()) or "0"
    return f"| {step['step']} | {step['in']} | {dropped} | {step['out']} |"


def _histogram_lines(histograms: Mapping[str, Any]) -> list[str]:
    """Return a line for each histogram: its bins with their counts."""
    lines = ["| | rows by class |", "|---|---|"]
    for name, histogram in histograms.items():
        lows = histogram["edges"][:-1]
        counts = ", ".join(
            f"from {low:g}: {count}" for low, count in zip(lows, histogram["counts"], strict=True) if count
        )
        lines.append(f"| {name} ({histogram['of']}) | {counts or 'none'} |")
    return lines


def _shown(value: Any) -> str:
    """Return a setting; for local folders only the name, to avoid leaking paths."""
    values = value if isinstance(value, list | tuple) else [value]
    names = [Path(one).name if isinstance(one, str) and Path(one).is_dir() else one for one in values]
    return ", ".join("none" if name is None else str(name) for name in names) or "none"


def check_push(store: ChunkStore, repo_id: str, form: str) -> None:
    """Check, before the run, that its records can be uploaded.

    Raises:
        CurationError: a format with loose frames, a remote output, or an invalid name.
    """
    if form == "jsonl":
        raise CurationError(
            "rows for the Hub must hold their frames, since it takes no folder of so many files, got the format "
            "jsonl; curate with --set format=parquet or webdataset"
        )
    if not store.is_local:
        raise CurationError(f"what is pushed must be a local folder, got {store.out}; it is on a remote place already")
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise CurationError(f"a repository must be named owner/name, got {repo_id!r}; {error}") from error


def push_rows(folder: Path, repo_id: str, summary: Mapping[str, Any], *, private: bool = False) -> str:
    """Upload records, report and card of a finished run, and return the address.

    Raises:
        CurationError: the Hub refuses, or cannot be reached.
    """
    api = HfApi()
    try:
        address = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id,
            repo_type="dataset",
            folder_path=folder,
            allow_patterns=[DATA_FILES[str(summary["format"])], "report/*", "README.md"],
            commit_message="Upload curated rows",
        )
    except (HfHubHTTPError, OSError) as error:
        raise CurationError(
            f"the Hub must take {repo_id}, got {type(error).__name__}: {str(error).splitlines()[0]}; check the name, "
            "the network and `hf auth whoami`, and push again: nothing is sent twice"
        ) from error
    return str(address)
