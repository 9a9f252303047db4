"""Read the texts and tables of a card from a recipe, with every figure from a file of results.

A recipe is YAML. Its texts and values are Jinja over the files that it names, so that it holds no figure itself:

    license: apache-2.0
    files: {scenes: ../research/results/eval_v1.json}      # relative to the recipe
    results:
      - title: Generated clips
        command: python -m research.eval_v1.run
        data: {type: elysium-synthetic, name: generated scenes}
        rows:
          - {task: find by text, metric: "IoU > 0.5", type: accuracy, value: scenes.rec.model.success_50}
    limits: ["Over long videos its mean IoU is {{ scenes.sot_64.model.mean_iou | figure }}."]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult
from huggingface_hub.repocard_data import model_index_to_eval_results
from jinja2 import Environment, StrictUndefined, TemplateError

from elysium.processing.data_files import DatasetError, read_json, read_yaml

VIDEO_TASK = "video-text-to-text"
_TABLE_KEYS = {"title", "command", "data", "note", "rows"}
_ROW_KEYS = {"task", "metric", "type", "value", "beside"}


class CardError(ValueError):
    """Raised for a card that cannot be written; the message says why and what to do."""


@dataclass(frozen=True)
class ResultRow:
    """One figure: as text, as the card's metadata has it, and the figures of baselines on the same task."""

    task: str
    metric: str
    result: EvalResult
    beside: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ResultTable:
    """Figures measured by one command."""

    title: str
    command: str
    rows: list[ResultRow]
    note: str = ""

    @property
    def beside(self) -> list[str]:
        """Return the names of the baselines, in order of first use."""
        return list(dict.fromkeys(name for row in self.rows for name in row.beside))


@dataclass(frozen=True, kw_only=True)
class MeasuredCard:
    """Texts of a recipe with their figures filled in.

    Attributes:
        title: the card's heading.
        license, language: for the metadata.
        limits: sentences on the model's limitations.
        training_data, training, compute: sentences.
        tables: of figures.
    """

    title: str = ""
    license: str | None = None
    language: str | None = None
    limits: Sequence[str] = ()
    training_data: str = ""
    training: str = ""
    compute: str = ""
    tables: Sequence[ResultTable] = ()


def read_recipe(path: Path, *, trained_on: str = "") -> MeasuredCard:
    """Read a recipe and fill in its figures.

    Args:
        path: of the YAML file.
        trained_on: of the checkpoint's configuration; results of a model trained on other data are refused.

    Raises:
        CardError: a recipe or file of results in another form, or results of another checkpoint.
    """
    try:
        recipe = read_yaml(path) or {}
    except DatasetError as error:
        raise CardError(f"a recipe must be a YAML file, got {path} ({error}); check the path") from error
    texts = {item.name for item in fields(MeasuredCard)} - {"tables"}
    _check_keys(recipe, texts | {"files", "results"}, f"the recipe {path}")
    files = recipe.pop("files", {})
    results = {name: _read_results(path.parent / file, trained_on) for name, file in files.items()}
    tables = [_table(table, results, path) for table in recipe.pop("results", [])]
    return MeasuredCard(tables=tables, **{name: _fill(value, results, path) for name, value in recipe.items()})


def read_report(folder: Path, *, model: str) -> ResultTable:
    """Read the figures of a model from a report of `elysium evaluate`.

    Args:
        folder: of the report.
        model: the checkpoint's name in it; ignored where the report has one model only.

    Raises:
        CardError: no report, or none of this model.
    """
    try:
        report = read_json(folder / "report.json")
        index = read_yaml(folder / "model_index.yaml")["model-index"]
    except (DatasetError, KeyError, TypeError) as error:
        raise CardError(
            f"a report must be a folder that elysium evaluate wrote about an Elysium model, got {folder} ({error}); "
            "evaluate the model first"
        ) from error
    entry = next((entry for entry in index if entry["name"] == model), index[0] if len(index) == 1 else None)
    if entry is None:
        names = ", ".join(entry["name"] for entry in index)
        raise CardError(f"a report must be of this model, got {folder} of {names}; rename the checkpoint's folder")
    _, found = model_index_to_eval_results([entry])
    data = ", ".join(f"{name}: {value}" for name, value in report["data"].items() if isinstance(value, str | int))
    rows = [ResultRow(str(result.task_name), str(result.metric_name), result) for result in found]
    return ResultTable(found[0].dataset_name, report["command"], rows, note=data)


def _fill(value: Any, results: Mapping[str, Any], path: Path) -> Any:
    """Return a value of a recipe with the figures filled into every text in it."""
    if isinstance(value, list):
        return [_fill(item, results, path) for item in value]
    if not isinstance(value, str):
        return value
    environment = Environment(undefined=StrictUndefined)
    environment.filters["figure"] = show_figure
    try:
        return environment.from_string(value).render(results).strip()
    except (TemplateError, TypeError) as error:
        raise CardError(
            f"a card's figures must stand in its files of results, got {error} in {value!r} of {path}; measure again, "
            "or fix the recipe"
        ) from error


def _number(expression: str, results: Mapping[str, Any], path: Path) -> float:
    """Return the figure that an expression of a recipe leads to."""
    text = _fill("{{ " + expression + " }}", results, path)
    try:
        return float(text) if "." in text or "e" in text else int(text)
    except ValueError as error:
        raise CardError(f"a value of {path} must be a number, got {expression} = {text!r}; fix the recipe") from error


def show_figure(value: float) -> str:
    """Format a figure for a card: three decimals, whole numbers with separators.

    >>> show_figure(0.95612), show_figure(12000)
    ('0.956', '12,000')
    """
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def fill_template(name: str, **values: Any) -> str:
    """Render one of the templates beside this file."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["figure"] = show_figure
    return environment.from_string(resources.files(__package__).joinpath(name).read_text("utf-8")).render(values)


def _read_results(path: Path, trained_on: str) -> Any:
    try:
        results = read_json(path, allow_nan=True)  # curves hold NaN
    except DatasetError as error:
        raise CardError(f"results must be a JSON file, got {path} ({error}); measure again") from error
    measured = results.get("trained_on") if isinstance(results, dict) else None
    if trained_on and measured and measured != trained_on:
        raise CardError(
            f"results must be of the checkpoint that the card describes, got {path} of a model {measured!r}, and a "
            f"checkpoint {trained_on!r}; measure again"
        )
    return results


def _table(table: dict[str, Any], results: Mapping[str, Any], path: Path) -> ResultTable:
    """Return a table of a recipe with its figures."""
    _check_keys(table, _TABLE_KEYS, f"the table {table.get('title')!r}")
    rows = []
    for row in table["rows"]:
        _check_keys(row, _ROW_KEYS, f"a row of {table['title']!r}")
        result = EvalResult(
            task_type=VIDEO_TASK,
            dataset_type=table["data"]["type"],
            dataset_name=table["data"]["name"],
            metric_type=row["type"],
            metric_name=f"{row['metric']}: {row['task']}",  # one dataset has one task in the metadata
            metric_value=round(_number(row["value"], results, path), 4),
        )
        beside = {name: _number(value, results, path) for name, value in row.get("beside", {}).items()}
        rows.append(ResultRow(row["task"], row["metric"], result, beside))
    return ResultTable(table["title"], table["command"], rows, note=_fill(table.get("note", ""), results, path))


def _check_keys(found: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(found) - known)
    if unknown:
        raise CardError(f"{where} must hold {', '.join(sorted(known))} alone, got {', '.join(unknown)}; fix it")
