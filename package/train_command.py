"""`elysium train`: train by a recipe, with the trainers of `elysium.training`."""

from typing import Annotated

import typer

from .console import collection_paused, quiet_transformers, require

FIELDS = {"ignore_unknown_options": True, "allow_interspersed_args": False}  # fields of a recipe are the trainer's


def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RECIPE|FILE",
            help="Recipe by its name or its YAML file, and after it --FIELD VALUE of fields to override.",
        ),
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List the recipes that come with the package.")] = False,
    help_all: Annotated[bool, typer.Option("--help-all", help="Show every field of a recipe.")] = False,
) -> None:
    """Train or fine-tune a checkpoint by a recipe.

    Needs the extra `train`.

    elysium train lora --data '{"source": "folder", "path": "my_videos"}' --output_dir runs/mine

    Common fields: model_name_or_path, data, eval_data, tasks, output_dir, max_steps, learning_rate,
    per_device_train_batch_size, use_peft, lora_r, train_parts. The same command resumes a stopped run. On several
    GPUs: accelerate launch -m elysium train RECIPE …
    """
    from elysium.training.recipe_files import RECIPES, find_recipe, is_grpo, list_recipes

    given = list(arguments or [])
    if list_all:
        print("\n".join(f"{name:<18}{about}" for name, about in list_recipes().items()))
        print(f"Files: {RECIPES}")
        return
    named = bool(given) and not given[0].startswith("-")
    if not given and not help_all:
        raise typer.BadParameter(
            "there must be a recipe or fields, got neither; elysium train --list shows the recipes",
            param_hint="RECIPE",
        )
    recipe = find_recipe(given.pop(0)) if named else None
    for module in ("trl", "peft", "datasets", "accelerate"):
        require(module, extra="train")
    quiet_transformers()
    with collection_paused():
        if recipe is not None and is_grpo(recipe):
            from elysium.training.grpo import main
        else:
            from elysium.training.sft import main
    main([*(["--config", str(recipe)] if recipe else []), *given, *(["--help"] if help_all else [])])
