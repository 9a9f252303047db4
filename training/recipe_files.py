"""Recipes of training that come with the package, by name."""

from pathlib import Path

from elysium.processing.data_files import DatasetError, read_yaml

RECIPES = Path(__file__).resolve().parent / "recipes"


def list_recipes() -> dict[str, str]:
    """Return the names of the recipes with the sentence that each begins with.

    >>> list_recipes()["lora"]
    'A LoRA adapter for your own videos, on one GPU (or, with elysium-small, on a laptop).'
    """
    files = sorted(RECIPES.glob("*.yaml"))
    return {file.stem: file.read_text("utf-8").partition("\n")[0].lstrip("# ") for file in files}


def find_recipe(name: str) -> Path:
    """Return the file of a recipe.

    Args:
        name: of a recipe that comes with the package, or path of a file.

    Raises:
        DatasetError: neither.
    """
    shipped = RECIPES / f"{name}.yaml"
    if Path(name).is_file():
        return Path(name)
    if Path(name).name == name and shipped.is_file():
        return shipped
    raise DatasetError(
        f"a recipe must be a YAML file or one of {', '.join(list_recipes())}, got {name}; check the name"
    )


def is_grpo(recipe: Path) -> bool:
    """Return whether a recipe is for `elysium.training.grpo`: it names rewards.

    Raises:
        DatasetError: no YAML.
    """
    content = read_yaml(recipe)
    return isinstance(content, dict) and "rewards" in content
