"""Writes the README of a Space: what the page is, its models, what they reach, and how it is run.

    python -m elysium.cards.render_space_card spaces_demo --recipe cards/elysium_tiny.yaml

The head of the README that is there, which tells the Hub how to run the Space, is kept; where there is none it gets
one for Gradio.
"""

import argparse
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub import SpaceCard, SpaceCardData

from elysium.modeling_elysium.configuration_elysium import ElysiumConfig
from elysium.spaces_demo.demo_limits import Limits
from elysium.tracking.loading import SHIPPED

from .measured_results import CardError, MeasuredCard, fill_template, read_recipe, write_card

DEFAULT_MODEL = "elysium-tiny"
HEAD = {
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


def render_space_card(folder: Path, *, recipe: Path | None = None, models: Sequence[str] = ()) -> SpaceCard:
    """The README of a Space.

    Args:
        folder: of the Space.
        recipe: YAML of what there is to say about elysium-tiny, as in `measured_results.py`.
        models: Hub ids of the models that it offers; by default those that the README names.

    Raises:
        CardError: no Space, or a recipe that cannot be used.
    """
    if not (folder / "app.py").is_file():
        raise CardError(f"a Space must hold an app.py, got {folder} without one; check the path")
    trained_on = ElysiumConfig.from_pretrained(SHIPPED / DEFAULT_MODEL).trained_on or ""
    measured = read_recipe(recipe, trained_on=trained_on) if recipe else MeasuredCard()
    place = folder / "README.md"
    older: dict[str, Any] = SpaceCard.load(place).data.to_dict() if place.is_file() else {}
    head = HEAD | {"sdk_version": version("gradio")} | older
    if models:
        head["models"] = list(models)
    data = SpaceCardData(**head)
    text = fill_template(
        "space_card.md.jinja",
        title=data.title,
        models=data.models or [],
        trained_on=trained_on,
        card=measured,
        license=data.license,
        takes=Limits().sentence(),
    )
    return SpaceCard(f"---\n{data.to_yaml()}\n---\n\n{text}")


def main(argv: Sequence[str] | None = None) -> None:
    """Writes README.md into the Space's folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the Space")
    parser.add_argument("--recipe", type=Path, help="YAML of what to say, with the files of its figures")
    parser.add_argument("--model", action="append", default=[], metavar="OWNER/NAME", help="once for each")
    asked = parser.parse_args(argv)
    write_card(
        asked.folder,
        lambda: render_space_card(asked.folder, recipe=asked.recipe, models=asked.model),
    )


if __name__ == "__main__":
    main()
