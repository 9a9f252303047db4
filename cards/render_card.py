"""Write the card (README.md) of a checkpoint, a dataset or a Space.

    python -m elysium.cards.render_card model checkpoints/elysium-small --recipe cards/elysium_small.yaml
    python -m elysium.cards.render_card model runs/mine --report report --license apache-2.0 --repo-id OWNER/NAME
    python -m elysium.cards.render_card dataset runs/hub --made-by "elysium synth runs/hub --as trl --embed"
    python -m elysium.cards.render_card space spaces_demo --model OWNER/NAME

Figures come from files alone: those that a recipe names (`measured_results.py`), reports of `elysium evaluate`, and a
dataset's own files. An existing card keeps the metadata that is not set here, and a checkpoint's its section Training.
"""

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub import CardData, DatasetCardData, ModelCard, ModelCardData, RepoCard, SpaceCardData
from safetensors import safe_open

from elysium.modeling_elysium.configuration_elysium import ElysiumConfig
from elysium.modeling_elysium.hub_folder_elysium import model_card
from elysium.processing.atomic_files import atomic_path
from elysium.spaces_demo.limits import Limits
from elysium.tracking.checkpoints import DEFAULT_MODEL, SHIPPED

from .folder_checks import DATA, count_dataset, data_files, weight_files
from .measured_results import CardError, MeasuredCard, fill_template, read_recipe, read_report
from .publish import CARDS, PLACEHOLDER, Kind

CITATION = "## Citation"
SPACE_HEAD = {
    "title": "Elysium",
    "emoji": "🎯",
    "colorFrom": "indigo",
    "colorTo": "green",
    "sdk": "gradio",
    "app_file": "app.py",
    "license": "apache-2.0",
    "short_description": "Track, ground and describe objects in videos",
    "tags": ["object-tracking", "visual-grounding", "video"],
}
_SYNTHETIC_LIMITS = (
    "Scenes are generated: results on them do not carry over to real videos.",
    "Boxes are exact and cover the visible part of an object; texts are made by rules, in English.",
)
_OTHER_LIMITS = ("Boxes and texts are as good as their source; look at some before you train.",)


def render_model_card(
    checkpoint: Path,
    *,
    recipe: Path | None = None,
    reports: Sequence[Path] = (),
    license: str | None = None,
    repo_id: str | None = None,
) -> RepoCard:
    """Render the card of a checkpoint: its configuration, how to use it, and what was measured.

    Args:
        checkpoint: a folder that `save_pretrained` wrote.
        recipe: YAML of texts and figures, as in `measured_results.py`.
        reports: folders that `elysium evaluate` wrote.
        license: for the metadata; by default that of the recipe, then that of the existing card.
        repo_id: the name that the card's code loads.

    Raises:
        CardError: the folder, the recipe or a report cannot be used.
    """
    if not (checkpoint / "config.json").is_file():
        raise CardError(f"a card must be of a checkpoint with a config.json, got {checkpoint}; check the path")
    config = ElysiumConfig.from_pretrained(checkpoint)
    measured = read_recipe(recipe, trained_on=config.trained_on or "") if recipe else MeasuredCard()
    older = _older_card(checkpoint, "model")
    kept = older.data.to_dict()
    measured = replace(
        measured,
        title=measured.title or checkpoint.resolve().name,
        license=license or measured.license or kept.get("license"),
        training=measured.training or _section(older.text, "Training"),
        tables=[*measured.tables, *(read_report(report, model=checkpoint.resolve().name) for report in reports)],
    )
    for name in ("model-index", "model_name"):  # of figures that are no longer there
        kept.pop(name, None)
    base = ModelCard(model_card(config))
    ours = {"license": measured.license, "language": measured.language}
    data: dict[str, Any] = _merged(kept, base.data.to_dict(), ours)
    if results := [row.result for table in measured.tables for row in table.rows]:
        data |= {"model_name": measured.title, "eval_results": results}
    numbers, size = count_parameters(checkpoint)
    head, _, citation = base.text.partition(CITATION)
    head = re.sub(r"^# .*$", f"# {measured.title}", head, count=1, flags=re.MULTILINE).lstrip()
    head = head.replace("\n- Vision tower", f"\n- {numbers:,} parameters, {size / 1e6:.1f} MB.\n- Vision tower", 1)
    text = head + fill_template("model_card.md.jinja", card=measured) + CITATION + citation
    return _card("model", ModelCardData(**data), text.replace(PLACEHOLDER, repo_id or PLACEHOLDER))


def count_parameters(checkpoint: Path) -> tuple[int, int]:
    """Return the number of parameters of a checkpoint, and the size of the files that hold them in bytes."""
    numbers = 0
    files = [checkpoint / name for name in sorted(weight_files(checkpoint))]
    for file in files:
        with safe_open(file, framework="pt") as opened:
            numbers += sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118
    return numbers, sum(file.stat().st_size for file in files)


def render_dataset_card(
    folder: Path,
    *,
    license: str | None = None,
    made_by: str | None = None,
    repo_id: str | None = None,
) -> RepoCard:
    """Render the card of a dataset: counts of its files, how it was made and how to load it.

    Args:
        folder: of the dataset's files.
        license: for the metadata; by default that of the existing card.
        made_by: the command that made it.
        repo_id: the name that the card's code loads.

    Raises:
        CardError: no dataset, or a damaged file.
    """
    if not data_files(folder):
        raise CardError(f"a dataset must hold {', '.join(DATA)}, got {folder} with none of them; check the path")
    try:
        facts = count_dataset(folder)
    except (OSError, ValueError) as error:
        raise CardError(f"the files of a dataset must be whole, got {error} in {folder}; write it again") from error
    head = _older_card(folder, "dataset").data.to_dict()
    if "configs" not in head and any(name.endswith(".jsonl") for name in facts.rows):
        # Else the Hub takes a folder with more images than rows for one of images.
        head["configs"] = [{"config_name": "default", "data_files": [n for n in facts.rows if n.endswith(".jsonl")]}]
    synthetic = "elysium synth" in (made_by or "")
    ours = {
        "license": license,
        "language": "en",
        "task_categories": ["video-text-to-text", "image-text-to-text"],
        "tags": ["elysium", "object-tracking", "visual-grounding", *(["synthetic"] if synthetic else [])],
    }
    data = DatasetCardData(**_merged(head, ours))
    text = fill_template(
        "dataset_card.md.jinja",
        title=head.get("pretty_name") or folder.resolve().name,
        synthetic=synthetic,
        facts=facts,
        repo_id=repo_id or PLACEHOLDER,
        made_by=made_by,
        limits=_SYNTHETIC_LIMITS if synthetic else _OTHER_LIMITS,
        license=data.license,
    )
    return _card("dataset", data, text)


def render_space_card(folder: Path, *, recipe: Path | None = None, models: Sequence[str] = ()) -> RepoCard:
    """Render the README of a Space: what the app does, its models and their results.

    Args:
        folder: of the Space.
        recipe: YAML of texts and figures about the demo's model, as in `measured_results.py`.
        models: Hub ids of the models that it offers; by default those that the README names.

    Raises:
        CardError: no Space, or a recipe that cannot be used.
    """
    if not (folder / "app.py").is_file():
        raise CardError(f"a Space must hold an app.py, got {folder} without one; check the path")
    trained_on = ElysiumConfig.from_pretrained(SHIPPED / DEFAULT_MODEL).trained_on or ""
    measured = read_recipe(recipe, trained_on=trained_on) if recipe else MeasuredCard()
    head = SPACE_HEAD | {"sdk_version": version("gradio")} | _older_card(folder, "space").data.to_dict()
    data = SpaceCardData(**(head | ({"models": list(models)} if models else {})))
    text = fill_template(
        "space_card.md.jinja",
        title=data.title,
        models=data.models or [],
        default_model=DEFAULT_MODEL,
        trained_on=trained_on,
        card=measured,
        license=data.license,
        limits_of_use=Limits().sentence(),
    )
    return _card("space", data, text)


def _older_card(folder: Path, kind: Kind) -> RepoCard:
    """Return the card in a folder, an empty one where there is none."""
    place = folder / "README.md"
    text = place.read_text("utf-8") if place.is_file() else ""
    return CARDS[kind](text, ignore_metadata_errors=kind == "model")


def _merged(*heads: dict[str, Any]) -> dict[str, Any]:
    """Return metadata of which later values that are not None replace earlier ones."""
    return {name: value for head in heads for name, value in head.items() if value is not None}


def _card(kind: Kind, data: CardData, text: str) -> RepoCard:
    """Return a card, parsed again from its text: an unreadable one raises here."""
    return CARDS[kind](f"---\n{data.to_yaml()}\n---\n\n{text}")


def _section(text: str, title: str) -> str:
    """Return the text below a heading of the second level.

    >>> _section("## Use\\n\\na\\n\\n## Training\\n\\nb\\n\\n## Citation\\n\\nc", "Training")
    'b'
    """
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return found[1].strip() if found else ""


_ARGUMENTS: dict[str, dict[str, Any]] = {
    "--recipe": {"type": Path, "help": "YAML of texts, with the files of their figures"},
    "--report": {"type": Path, "action": "append", "dest": "reports", "help": "Folder of a report; repeatable"},
    "--model": {"action": "append", "dest": "models", "metavar": "OWNER/NAME", "help": "Model on offer; repeatable"},
    "--license": {"help": "Licence, such as apache-2.0"},
    "--made-by": {"metavar": "COMMAND", "help": "Command that made the dataset"},
    "--repo-id": {"help": "OWNER/NAME, for the code on the card"},
}
_COMMANDS: dict[Kind, tuple[Callable[..., RepoCard], tuple[str, ...]]] = {
    "model": (render_model_card, ("--recipe", "--report", "--license", "--repo-id")),
    "dataset": (render_dataset_card, ("--license", "--made-by", "--repo-id")),
    "space": (render_space_card, ("--recipe", "--model")),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Write README.md into the folder, or end with an error in one line and exit code 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind, (_, names) in _COMMANDS.items():
        command = kinds.add_parser(kind, argument_default=argparse.SUPPRESS)
        command.add_argument("folder", type=Path, help=f"Folder of the {kind}")
        for name in names:
            command.add_argument(name, **_ARGUMENTS[name])
    given = vars(parser.parse_args(argv))
    render, place = _COMMANDS[given.pop("kind")][0], given["folder"] / "README.md"
    try:
        card = render(given.pop("folder"), **given)
        with atomic_path(place) as temporary:
            temporary.write_text(str(card), encoding="utf-8")
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {error}")
    print(f"Card: {place}")


if __name__ == "__main__":
    main()
