"""Whether a checkpoint folder is complete: what is missing or damaged would only show when it is loaded from a hub."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers.dynamic_module_utils import get_relative_imports

from elysium.modeling_elysium.configuration_elysium import ElysiumConfig
from elysium.processing.data_files import DatasetError, read_json

INDEX = "model.safetensors.index.json"
# What a checkpoint needs besides weights, code and card, with what writes it.
NEEDED = {
    "generation_config.json": "model.save_pretrained",
    "processor_config.json": "processor.save_pretrained",
    "tokenizer_config.json": "processor.save_pretrained",
    "tokenizer.json": "processor.save_pretrained",
    "chat_template.jinja": "processor.save_pretrained",
}


def checkpoint_problems(folder: Path) -> list[str]:
    """Everything that is wrong with a folder with a `config.json`, each in a few words."""
    return [*_config_problems(folder), *_weight_problems(folder), *_missing_files(folder)]


def _config_problems(folder: Path) -> list[str]:
    """Another kind of model, or code that is named and not there."""
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
    """Shards that are missing, damaged, or hold other weights than the index says."""
    if not (folder / INDEX).is_file():
        expected: dict[str, set[str]] = {"model.safetensors": set()}
    else:
        expected = {}
        for weight, file in read_json(folder / INDEX)["weight_map"].items():
            expected.setdefault(file, set()).add(weight)
    problems = []
    for file, weights in sorted(expected.items()):
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


def _missing_files(folder: Path) -> list[str]:
    return [f"no {name} ({writer} writes it)" for name, writer in NEEDED.items() if not (folder / name).is_file()]
