"""Check folders before they are published: each function returns the problems it finds, each in a few words.

A file that is missing or damaged would otherwise show only when the folder is loaded from the Hub.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import SpaceCard

from elysium.processing.data_files import DatasetError, parquet_batches, read_json, read_json_lines

from .folder_files import list_files
from .unsafe_files import texts_in

INDEX = "model.safetensors.index.json"
# Files that a checkpoint needs besides weights, code and card, with what writes them.
NEEDED = {
    "generation_config.json": "model.save_pretrained",
    "processor_config.json": "processor.save_pretrained",
    "tokenizer_config.json": "processor.save_pretrained",
    "tokenizer.json": "processor.save_pretrained",
    "chat_template.jinja": "processor.save_pretrained",
}
DATA = (".parquet", ".jsonl", ".csv", ".tsv", ".tar")


def checkpoint_problems(folder: Path) -> list[str]:
    """Return the problems of a folder with a `config.json`: configuration, weights, missing files."""
    missing = [f"no {name} ({writer} writes it)" for name, writer in NEEDED.items() if not (folder / name).is_file()]
    return [*_config_problems(folder), *_weight_problems(folder), *missing]


def _config_problems(folder: Path) -> list[str]:
    """Return the problems of config.json: another type of model, or code that it names and that is missing."""
    from transformers.dynamic_module_utils import get_relative_imports

    from elysium.modeling_elysium.configuration_elysium import ElysiumConfig

    try:
        config = read_json(folder / "config.json")
    except DatasetError as error:
        return [f"a config.json that is no JSON ({error})"]
    if not isinstance(config, dict):
        return [f"a config.json that holds no object but {type(config).__name__}"]
    if config.get("model_type") != ElysiumConfig.model_type:
        return [f"model_type {config.get('model_type')!r} in config.json (must be {ElysiumConfig.model_type!r})"]
    named = dict(config.get("auto_map") or {})
    if not named:
        return ["no auto_map in config.json (import elysium before save_pretrained)"]
    processor = folder / "processor_config.json"
    if processor.is_file():
        named |= read_json(processor).get("auto_map") or {}
    wanted, missing, seen = [target.split(".")[0] for target in named.values()], set(), set()
    while wanted:
        path = folder / f"{wanted.pop()}.py"
        if not path.is_file():
            missing.add(path.name)
        elif path not in seen:
            seen.add(path)
            wanted += get_relative_imports(path)
    return [f"no {name}, which the code needs" for name in sorted(missing)]


def _weight_problems(folder: Path) -> list[str]:
    """Return the problems of the weights: files that are missing, damaged, or hold other weights than the index."""
    from safetensors import SafetensorError, safe_open

    problems = []
    for file, weights in sorted(weight_files(folder).items()):
        if not (folder / file).is_file():
            problems.append(f"no {file}")
            continue
        try:
            with safe_open(folder / file, framework="pt") as opened:
                missing = weights - set(opened.keys())
        except SafetensorError as error:
            problems.append(f"a damaged {file} ({error})")
            continue
        if missing:
            problems.append(f"a {file} without {len(missing)} weights of the index, such as {min(missing)}")
    return problems


def weight_files(folder: Path) -> dict[str, set[str]]:
    """Return the files that hold a checkpoint's weights, each with the weights that the index names in it."""
    files: dict[str, set[str]] = {}
    if (folder / INDEX).is_file():
        for weight, file in read_json(folder / INDEX)["weight_map"].items():
            files.setdefault(file, set()).add(weight)
    return files or {"model.safetensors": set()}


def data_files(folder: Path) -> list[Path]:
    """Return the files with rows or packed samples, sorted by name.

    Raises:
        PublishError: a place or a size that `list_files` refuses.
    """
    return [path for path in list_files(folder) if path.suffix.lower() in DATA and path.is_file()]


def dataset_problems(folder: Path) -> list[str]:
    """Return the problems of a dataset: no data, damaged files, rows that name files of this machine."""
    files = data_files(folder)
    if not files:
        return [f"no data in it (it must hold {', '.join(DATA)})"]
    problems = []
    for path in files:
        name = path.relative_to(folder).as_posix()
        try:
            local = next((text for text in texts_in(first_row(path)) if _is_local(text)), None)
        except DatasetError as error:
            problems.append(damaged(name, error))
            continue
        if local is not None:
            problems.append(
                f"a {name} that names a file of this machine, {local} (write paths that are relative to the rows, or "
                "put the files into them: elysium synth --as trl --embed)"
            )
    return problems


def damaged(name: str, error: Exception) -> str:
    """Return the problem of a file that cannot be read."""
    return f"a damaged {name} ({str(error).splitlines()[0]})"


def first_row(path: Path) -> Any:
    """Return the first row of a JSONL or Parquet file; None for an empty file or another format."""
    if path.suffix.lower() == ".jsonl":
        return next((row for _, row in read_json_lines(path)), None)
    if path.suffix.lower() == ".parquet":
        return next((batch[0] for batch in parquet_batches(path, rows=1) if batch), None)
    return None


def _is_local(text: str) -> bool:
    return len(text) < 4096 and "\n" not in text and Path(text).is_absolute()


@dataclass(frozen=True)
class DatasetFacts:
    """Counts of a dataset's folder.

    Attributes:
        rows: of each file; None for archives.
        columns: of the first file with any.
        split: the one that the card's code loads.
    """

    rows: dict[str, int | None]
    columns: list[str]
    split: str


def count_dataset(folder: Path) -> DatasetFacts:
    """Count rows and columns.

    Raises:
        OSError, ValueError: a file cannot be read.
    """
    files = data_files(folder)
    stems = " ".join(path.stem for path in files)
    return DatasetFacts(
        rows={path.relative_to(folder).as_posix(): _count_rows(path) for path in files},
        columns=next((list(row) for row in map(first_row, files) if isinstance(row, dict)), []),
        split=next((name for name in ("train", "validation", "test") if name in stems), "train"),
    )


def _count_rows(path: Path) -> int | None:
    """Return the number of rows of a file; None for an archive."""
    if path.suffix == ".parquet":
        return sum(map(len, parquet_batches(path, rows=1 << 16, columns=())))
    if path.suffix == ".tar":
        return None
    with path.open(encoding="utf-8") as lines:
        count = sum(1 for line in lines if line.strip())
    return count if path.suffix == ".jsonl" else count - 1  # the first line names the columns


def space_problems(folder: Path) -> list[str]:
    """Return the problems of a Space besides those of its card: missing requirements, SDK or app."""
    problems = [] if (folder / "requirements.txt").is_file() else ["no requirements.txt"]
    try:
        data = SpaceCard.load(folder / "README.md").data
    except (OSError, ValueError):
        return problems  # the check of the card reports it
    if data.sdk is None:
        problems.append("no sdk in the head of README.md (such as sdk: gradio)")
    app = data.app_file or "app.py"
    if not (folder / app).is_file():
        problems.append(f"no {app}, which README.md names as app_file" if data.app_file else "no app.py")
    return problems
