"""Checks that a checkpoint folder is complete, lists what would go to the Hub, and uploads it."""

import json
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from safetensors import SafetensorError, safe_open
from transformers.dynamic_module_utils import get_relative_imports

from elysium.modeling_elysium.configuration_elysium import ElysiumConfig

INDEX = "model.safetensors.index.json"
# What a checkpoint needs besides weights and code, with what writes it.
NEEDED = {
    "generation_config.json": "model.save_pretrained",
    "processor_config.json": "processor.save_pretrained",
    "tokenizer_config.json": "processor.save_pretrained",
    "tokenizer.json": "processor.save_pretrained",
    "chat_template.jinja": "processor.save_pretrained",
    "README.md": "model.save_pretrained",
}
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
GOING = (".json", ".safetensors", ".py", ".jinja", ".md", ".txt", ".model", ".png", ".jpg", ".gif", ".mp4")


class PublishError(ValueError):
    """A folder cannot be published as it is; the message says why and what to do."""


@dataclass(frozen=True)
class PublishPlan:
    """What would go to the Hub.

    Attributes:
        folder: the checkpoint.
        repo_id: `owner/name`.
        files: names and sizes in bytes.
        left_out: names and why they stay.
        license: of the card's metadata, or None.
    """

    folder: Path
    repo_id: str
    files: dict[str, int]
    left_out: dict[str, str]
    license: str | None


def plan_publish(folder: str | Path, repo_id: str) -> PublishPlan:
    """Looks at a folder; nothing is asked of the network and nothing written.

    Raises:
        PublishError: no checkpoint, or one that would not load from the Hub; everything that is wrong is named.
    """
    folder = Path(folder)
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise PublishError(f"a repository must be named owner/name, got {repo_id!r}; {error}") from error
    if not (folder / "config.json").is_file():
        raise PublishError(
            f"what is published must be a checkpoint folder with a config.json, got {folder}; give the folder that "
            "save_pretrained wrote (an adapter goes to the Hub with peft's push_to_hub)"
        )
    problems = [*_config_problems(folder), *_weight_problems(folder), *_missing_files(folder)]
    if problems:
        raise PublishError(f"a published checkpoint must be complete, got {folder} with " + "; ".join(problems))
    going, staying = {}, {}
    for path in sorted(folder.iterdir()):
        reason = _reason_to_stay(path)
        if reason:
            staying[path.name] = reason
        else:
            going[path.name] = path.stat().st_size
    card = ModelCard.load(folder / "README.md")
    return PublishPlan(folder, repo_id, going, staying, card.data.license)


def publish(plan: PublishPlan, *, private: bool | None = None, message: str = "Upload Elysium checkpoint") -> str:
    """Uploads the files of a plan in one commit and returns the address of the repository.

    Raises:
        PublishError: the Hub refuses it, or cannot be reached.
    """
    api = HfApi()
    try:
        address = api.create_repo(plan.repo_id, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=plan.repo_id,
            folder_path=plan.folder,
            allow_patterns=[_literal(name) for name in plan.files],
            commit_message=message,
        )
    except (HfHubHTTPError, OSError) as error:
        raise PublishError(
            f"the Hub must take {plan.repo_id}, got {type(error).__name__}: {str(error).splitlines()[0]}; "
            "check the name, the network and `hf auth whoami`, and publish again: nothing is sent twice"
        ) from error
    return str(address)


def _literal(name: str) -> str:
    """A file name as a pattern that matches that name alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _reason_to_stay(path: Path) -> str | None:
    if path.name.startswith("."):
        return "hidden"
    if path.is_dir():
        return "a folder"
    if path.suffix in PICKLES:
        return "pickled: it can run code when it is loaded"
    if path.name.startswith("training_args") or path.suffix not in GOING:
        return "no part of a checkpoint"
    return None


def _config_problems(folder: Path) -> list[str]:
    """Another kind of model, or code that is named and not there."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except ValueError as error:
        return [f"a config.json that is no JSON ({error})"]
    if config.get("model_type") != ElysiumConfig.model_type:
        return [f"model_type {config.get('model_type')!r} in config.json (must be {ElysiumConfig.model_type!r})"]
    named = dict(config.get("auto_map") or {})
    if not named:
        return ["no auto_map in config.json (import elysium before save_pretrained)"]
    processor = folder / "processor_config.json"
    if processor.is_file():
        named |= json.loads(processor.read_text("utf-8")).get("auto_map") or {}
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
        for weight, file in json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].items():
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
