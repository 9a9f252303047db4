"""Settings of a run: the settings of all steps, read from a recipe and overridden by name."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from elysium.processing.data_files import DatasetError, read_yaml

from .agree_step import AgreeSettings
from .curation_step import CurationError
from .decode_step import DecodeSettings
from .detect_step import DetectSettings
from .drift_step import DriftSettings
from .phrase_step import PhraseSettings
from .read_step import ReadSettings
from .track_step import TrackSettings
from .write_step import WriteSettings

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, kw_only=True)
class CurationSettings(
    WriteSettings,
    AgreeSettings,
    DriftSettings,
    TrackSettings,
    DetectSettings,
    DecodeSettings,
    PhraseSettings,
    ReadSettings,
):
    """Hold the settings of all steps, each documented in the file of its step.

    Raises:
        CurationError: a value is out of its range.
    """

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the report; a function is given by its name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("detector", "tracker"):
            values[name] = part_name(values[name])
        values["other_trackers"] = [part_name(part) for part in self.other_trackers]
        return values


def part_name(part: Any) -> str:
    """Return the name of a detector or tracker given by name or as a function, the same in every process."""
    if isinstance(part, str):
        return part
    if isinstance(part, partial):
        given = [*map(str, part.args), *(f"{name}={value}" for name, value in sorted(part.keywords.items()))]
        return f"{part_name(part.func)}({', '.join(given)})"
    return f"{part.__module__}:{part.__qualname__}"


def load_settings(recipe: str | Path = "paper", changes: Mapping[str, Any] | None = None) -> CurationSettings:
    """Return the settings of a recipe with changes.

    Args:
        recipe: Name of a recipe of the package, or a YAML file.
        changes: Values by name; None keeps the recipe's.

    Raises:
        CurationError: no such recipe, an unknown name, or a value out of its range.
    """
    given = _read_recipe(recipe) | {name: value for name, value in (changes or {}).items() if value is not None}
    known = [field.name for field in fields(CurationSettings)]
    unknown = [str(name) for name in given if name not in known]
    if unknown:
        raise CurationError(f"a recipe must hold only {', '.join(known)}, got {', '.join(unknown)}; leave it out")
    try:
        return replace(CurationSettings(), **given)
    except TypeError as error:
        raise CurationError(f"the values of a recipe must be numbers, names and lists, got {error}") from error


def _read_recipe(recipe: str | Path) -> dict[str, Any]:
    path = Path(recipe)
    if path.suffix not in (".yaml", ".yml"):
        path = RECIPES / f"{recipe}.yaml"
    if not os.path.isfile(path):
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.yaml")))
        raise CurationError(f"a recipe must be one of {known}, or a YAML file, got {str(recipe)!r}")
    try:
        values = read_yaml(path)
    except DatasetError as error:
        raise CurationError(f"a recipe must be YAML: {error}") from error
    if not isinstance(values, dict):
        raise CurationError(f"a recipe must be NAME: VALUE a line, got {type(values).__name__} in {path}")
    return values
