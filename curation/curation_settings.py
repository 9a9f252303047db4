"""Settings of a run: the settings of all steps, read from a recipe and overridden by name."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from elysium.processing.data_files import read_yaml

from .agree_step import AgreeSettings
from .curation_step import CurationError
from .decode_step import DecodeSettings
from .detect_step import DetectSettings
from .drift_step import DriftSettings
from .phrase_step import PhraseSettings
from .read_step import ReadSettings
from .track_step import TrackSettings
from .write_step import WriteSettings

PAPER = "paper"  # the recipe whose values are the defaults


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

    The thresholds are the paper's (arXiv 2403.16558, section on ElysiumTrack-1M). Its tracker, MixFormer, is not in
    transformers; CSRT needs no weights.

    Raises:
        CurationError: a value is out of its range.
    """

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the report; a function is given by its name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("detector", "tracker"):
            values[name] = part_name(values[name])
        return values


def part_name(part: Any) -> str:
    """Return the name of a detector or tracker given by name or as a function, the same in every process."""
    if isinstance(part, str):
        return part
    if isinstance(part, partial):
        given = [*map(str, part.args), *(f"{name}={value}" for name, value in sorted(part.keywords.items()))]
        return f"{part_name(part.func)}({', '.join(given)})"
    return f"{part.__module__}:{part.__qualname__}"


def load_settings(recipe: str | Path = PAPER, changes: Mapping[str, Any] | None = None) -> CurationSettings:
    """Return the settings of a recipe, those that it leaves out from the paper, with changes by name.

    Args:
        recipe: `paper`, or a YAML file with values by name.
        changes: Values by name, which override the recipe's; None keeps them.

    Raises:
        CurationError: an unknown name, or a value out of its range.
        DatasetError: the recipe is no YAML file.
    """
    given = {} if recipe == PAPER else _read_recipe(Path(recipe))
    given |= {name: value for name, value in (changes or {}).items() if value is not None}
    known = [field.name for field in fields(CurationSettings)]
    unknown = [str(name) for name in given if name not in known]
    if unknown:
        raise CurationError(f"a recipe must hold only {', '.join(known)}, got {', '.join(unknown)}; leave it out")
    try:
        return CurationSettings(**given)
    except TypeError as error:
        raise CurationError(f"the values of a recipe must be numbers, names and lists, got {error}") from error


def _read_recipe(path: Path) -> dict[str, Any]:
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise CurationError(f"a recipe must be NAME: VALUE a line, got {type(values).__name__} in {path}")
    return values
