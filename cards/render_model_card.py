"""Writes the card of a checkpoint: what its configuration says, how it is used, and what was measured.

    python -m elysium.cards.render_model_card checkpoints/elysium-tiny --recipe cards/elysium_tiny.yaml
    python -m elysium.cards.render_model_card runs/mine --report report --license apache-2.0 --repo-id OWNER/NAME

Figures come from files alone: those that a recipe names (`measured_results.py`), and reports of `elysium evaluate`.
What a training run wrote about itself into the card stays.
"""

import argparse
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from safetensors import safe_open

from elysium.modeling_elysium.configuration_elysium import ElysiumConfig
from elysium.modeling_elysium.model_card_elysium import model_card

from .measured_results import CardError, MeasuredCard, fill_template, read_recipe, read_report, write_card
from .publish import PLACEHOLDER

CITATION = "## Citation"


def render_model_card(
    checkpoint: Path,
    *,
    recipe: Path | None = None,
    reports: Sequence[Path] = (),
    license: str | None = None,
    repo_id: str | None = None,
) -> ModelCard:
    """The card of a checkpoint.

    Args:
        checkpoint: a folder that `save_pretrained` wrote.
        recipe: YAML of what there is to say, as in `measured_results.py`.
        reports: folders that `elysium evaluate` wrote.
        license: for the metadata; that of the recipe by default, and of the card that is there.
        repo_id: the name that the card's code loads.

    Raises:
        CardError: the folder, the recipe or a report cannot be used.
    """
    if not (checkpoint / "config.json").is_file():
        raise CardError(f"a card must be of a checkpoint with a config.json, got {checkpoint}; check the path")
    config = ElysiumConfig.from_pretrained(checkpoint)
    measured = read_recipe(recipe, trained_on=config.trained_on or "") if recipe else MeasuredCard()
    older = _older_card(checkpoint)
    tables = [*measured.tables, *(read_report(report, model=checkpoint.resolve().name) for report in reports)]
    measured = replace(
        measured,
        title=measured.title or checkpoint.resolve().name,
        license=license or measured.license or (older.data.get("license") if older else None),
        training=measured.training or (_section(older.text, "Training") if older else ""),
        tables=tables,
    )
    base = ModelCard(model_card(config))
    head, _, citation = base.text.partition(CITATION)
    text = _introduce(head, measured, checkpoint) + fill_template("model_card.md.jinja", card=measured)
    text += CITATION + citation
    card = ModelCard(f"---\n{_metadata(base, measured, older).to_yaml()}\n---\n{text}")
    if repo_id:
        card.text = card.text.replace(PLACEHOLDER, repo_id)
    return ModelCard(str(card))  # read once more: what cannot be read is no card


def count_parameters(checkpoint: Path) -> tuple[int, int]:
    """Numbers in all safetensors of a folder, and the bytes of those files."""
    numbers = 0
    files = sorted(checkpoint.glob("*.safetensors"))
    for file in files:
        with safe_open(file, framework="pt") as opened:
            numbers += sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118
    return numbers, sum(file.stat().st_size for file in files)


def _older_card(checkpoint: Path) -> ModelCard | None:
    place = checkpoint / "README.md"
    return ModelCard.load(place, ignore_metadata_errors=True) if place.is_file() else None


def _section(text: str, title: str) -> str:
    """What stands below a heading of the second level.

    >>> _section("## Use\\n\\na\\n\\n## Training\\n\\nb\\n\\n## Citation\\n\\nc", "Training")
    'b'
    """
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return found[1].strip() if found else ""


def _introduce(head: str, measured: MeasuredCard, checkpoint: Path) -> str:
    """The first part of the card, under the checkpoint's own name and with its size."""
    numbers, size = count_parameters(checkpoint)
    head = re.sub(r"^# .*$", f"# {measured.title}", head, count=1, flags=re.MULTILINE)
    return head.replace("\n- Vision tower", f"\n- {numbers:,} parameters, {size / 1e6:.1f} MB.\n- Vision tower", 1)


def _metadata(base: ModelCard, measured: MeasuredCard, older: ModelCard | None) -> ModelCardData:
    """What stands at the head of the card; what an older card says besides is kept."""
    results = [row.result for table in measured.tables for row in table.rows]
    ours = base.data.to_dict() | {
        "license": measured.license,
        "language": measured.language,
        "datasets": list(measured.datasets) or None,
        "base_model": measured.base_model,
    }
    kept = older.data.to_dict() if older else {}
    for name in ("model-index", "model_name"):  # of figures that are no longer there
        kept.pop(name, None)
    merged = kept | {name: value for name, value in ours.items() if value is not None}
    measures: dict[str, Any] = {"model_name": measured.title, "eval_results": results} if results else {}
    return ModelCardData(**merged, **measures)


def main(argv: Sequence[str] | None = None) -> None:
    """Writes README.md into the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="folder that save_pretrained wrote")
    parser.add_argument("--recipe", type=Path, help="YAML of what to say, with the files of its figures")
    parser.add_argument("--report", type=Path, action="append", default=[], help="of elysium evaluate; once for each")
    parser.add_argument("--license", help="such as apache-2.0")
    parser.add_argument("--repo-id", help="OWNER/NAME, for the code on the card")
    asked = parser.parse_args(argv)
    write_card(
        asked.checkpoint,
        lambda: render_model_card(
            asked.checkpoint, recipe=asked.recipe, reports=asked.report, license=asked.license, repo_id=asked.repo_id
        ),
    )


if __name__ == "__main__":
    main()
