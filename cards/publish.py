"""Check a folder (checkpoint, dataset or Space), list the files that would be uploaded to the Hub, and upload them."""

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from huggingface_hub import CommitOperationAdd, DatasetCard, HfApi, ModelCard, RepoCard, SpaceCard, metadata_load
from huggingface_hub.errors import HFValidationError

# Of the HTTP library that the client uses, which differs between its versions.
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # isort: skip
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from elysium.processing.data_files import DatasetError

from .folder_checks import (
    DATA,
    checkpoint_problems,
    damaged,
    data_files,
    dataset_problems,
    space_problems,
    weight_files,
)
from .folder_files import PublishError, check_place, list_files
from .unsafe_files import LEFTOVERS, find_pickle, find_secret

Kind = Literal["model", "dataset", "space"]
TITLES = {"model": "checkpoint", "dataset": "dataset", "space": "Space"}
_TEXTS = (".json", ".md", ".txt", ".png", ".jpg", ".jpeg", ".gif", ".mp4")
GOING = {
    "model": (*_TEXTS, ".py", ".jinja", ".model"),
    "dataset": (*_TEXTS, *DATA, ".yaml", ".yml", ".webp", ".webm", ".mkv", ".mov", ".avi"),
    "space": (*_TEXTS, ".py", ".js", ".css", ".html", ".yaml", ".yml", ".svg", ".webp", ".webm", ".whl"),
}
CARDS: dict[Kind, type[RepoCard]] = {"model": ModelCard, "dataset": DatasetCard, "space": SpaceCard}
_PROBLEMS = {"model": checkpoint_problems, "dataset": dataset_problems, "space": space_problems}
PLACEHOLDER = "FOLDER_OR_HUB_ID"


@dataclass(frozen=True)
class PublishPlan:
    """Files that would be uploaded, and what stays.

    Attributes:
        folder: the published folder.
        repo_id: `owner/name`.
        kind: model, dataset or space.
        files: paths in the folder and sizes in bytes.
        left_out: paths that are not uploaded, and why; a folder stays with everything in it.
        license: of the card's metadata, or None.
        sdk: of a Space.
        models: named by a Space's card; they become its variable ELYSIUM_MODELS, the models on offer.
    """

    folder: Path
    repo_id: str
    kind: Kind
    files: dict[str, int]
    left_out: dict[str, str]
    license: str | None
    sdk: str | None
    models: list[str]


def kind_of(folder: Path) -> Kind:
    """Return the kind of a folder, by its files.

    Raises:
        PublishError: neither a checkpoint, nor a Space, nor a dataset; or a place or size that `list_files` refuses.
    """
    check_place(folder)
    if (folder / "config.json").is_file():
        return "model"
    card = folder / "README.md"
    try:
        head = metadata_load(card) if card.is_file() else None
    except ValueError:
        head = None
    if (folder / "app.py").is_file() or (head or {}).get("sdk"):
        return "space"
    is_source = any((folder / name).is_file() for name in ("pyproject.toml", "setup.py"))
    if is_source:
        raise PublishError(
            f"what is published must be a checkpoint, a dataset or a Space alone, got {folder}, the source code of a "
            "package; give the folder inside it that is meant, or say --type"
        )
    if folder.is_dir() and data_files(folder):
        return "dataset"
    raise PublishError(
        f"what is published must be a checkpoint (with a config.json), a dataset ({', '.join(DATA)}) or a Space "
        f"(with an app.py), got {folder}; give the folder that save_pretrained or elysium synth wrote (an adapter "
        "goes to the Hub with peft's push_to_hub), or say --type"
    )


def plan_publish(folder: str | Path, repo_id: str, *, kind: Kind | None = None) -> PublishPlan:
    """Check a folder without using the network or writing anything.

    Args:
        folder: to be published; a Space as `stage_space` prepared it.
        repo_id: `owner/name`.
        kind: of the repository; by default detected from the folder.

    Raises:
        PublishError: the folder is incomplete or unsafe; every problem is named.
    """
    folder = Path(folder)
    check_repo_id(repo_id)
    kind = kind or kind_of(folder)
    problems = folder_problems(folder, kind)
    weights = weight_files(folder) if kind == "model" else {}  # a training run leaves other files of numbers there
    going: dict[str, int] = {}
    staying: dict[str, str] = {}
    for path in list_files(folder, staying, top_only=kind == "model"):
        name = path.relative_to(folder).as_posix()
        goes = path.suffix.lower() in GOING[kind] or name in weights
        if reason := _reason_to_stay(path):
            staying[name] = reason
        elif problem := _unsafe(path, name, has_texts=goes):
            problems.append(problem)
        elif not goes:
            staying[name] = f"no part of a {TITLES[kind]}"
        else:
            going[name] = path.stat().st_size
    if problems:
        raise PublishError(
            f"a published {TITLES[kind]} must be complete and safe, got {folder} with "
            + "; ".join(dict.fromkeys(problems))
        )
    data = CARDS[kind].load(folder / "README.md").data
    models = list(data.get("models") or []) if kind == "space" else []
    return PublishPlan(folder, repo_id, kind, going, staying, data.get("license"), data.get("sdk"), models)


def _unsafe(path: Path, name: str, *, has_texts: bool) -> str | None:
    """Return why a file must not be published, by its format and its texts; None for one that may be."""
    try:
        pickled = find_pickle(path)
        secret = find_secret(path) if has_texts and not pickled else None
    except DatasetError as error:
        return damaged(name, error)
    if pickled:
        return f"{name}, which {pickled} (it can run code when it is loaded: take it out)"
    return f"{secret} of {name} (take it out, and revoke it)" if secret else None


def check_repo_id(repo_id: str) -> None:
    """Raise `PublishError` for a name that the Hub does not allow."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise PublishError(f"a repository must be named owner/name, got {repo_id!r}; {error}") from error


def folder_problems(folder: Path, kind: Kind) -> list[str]:
    """Return the problems of a folder of this kind and of its card, each in a few words.

    Raises:
        PublishError: no folder of this kind, or a place or a size that `list_files` refuses.
    """
    if not folder.is_dir():
        raise PublishError(f"what is published must be a folder, got {folder}; check the path")
    list_files(folder, top_only=kind == "model")
    if kind == "model" and not (folder / "config.json").is_file():
        raise PublishError(
            f"a published checkpoint must be a checkpoint folder with a config.json, got {folder}; give the folder "
            "that save_pretrained wrote"
        )
    return _PROBLEMS[kind](folder) + _card_problems(folder, kind)


def publish(plan: PublishPlan, *, private: bool | None = None) -> str:
    """Upload the files of a plan and return the address of the repository.

    Exactly the files of the plan are sent. Resumable: files that the Hub already has are not sent again.

    Raises:
        PublishError: a file is not as it was when the plan was made, or the Hub refuses it, or cannot be reached.
    """
    _check_unchanged(plan)
    api = HfApi()
    try:
        address = api.create_repo(
            plan.repo_id, repo_type=plan.kind, private=private, exist_ok=True, space_sdk=plan.sdk
        )
        if plan.models:
            api.add_space_variable(plan.repo_id, "ELYSIUM_MODELS", ",".join(plan.models))
        api.create_commit(
            repo_id=plan.repo_id,
            repo_type=plan.kind,
            operations=[
                CommitOperationAdd(path_in_repo=name, path_or_fileobj=plan.folder / name) for name in plan.files
            ],
            commit_message=f"Upload {TITLES[plan.kind]} with elysium publish",
        )
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        raise PublishError(
            f"the Hub must take {plan.repo_id}, got {type(cause).__name__}: {' '.join(str(cause).split())}; check the "
            "name, the network and `hf auth whoami`, and publish again: nothing is sent twice"
        ) from error
    return str(address)


def _card_problems(folder: Path, kind: Kind) -> list[str]:
    """Return the problems of a card: missing, without text, or with a head that the Hub's client cannot read."""
    writer = f"python -m elysium.cards.render_card {kind}"
    if not (folder / "README.md").is_file():
        return [f"no README.md ({writer} writes it)"]
    try:
        card = CARDS[kind].load(folder / "README.md")
    except (ValueError, TypeError) as error:
        return [f"a README.md whose head is no metadata ({' '.join(str(error).split())})"]
    return [] if card.text.strip() else [f"a README.md without a text ({writer} writes one)"]


def _reason_to_stay(path: Path) -> str | None:
    """Return why a file is never uploaded; None for one that may be."""
    if path.name.startswith("."):
        return "hidden"
    if any(fnmatch(path.name, pattern) for pattern in LEFTOVERS):
        return "pickled, by a trainer: it can run code when it is loaded"
    if path.is_symlink() and not path.exists():
        return "a link that leads nowhere"
    return None if path.is_file() else "a pipe, a socket or a device"


def _check_unchanged(plan: PublishPlan) -> None:
    """Raise `PublishError` if a file that was checked is gone or has changed in size."""
    for name, size in plan.files.items():
        path = plan.folder / name
        now = path.stat().st_size if path.is_file() else None
        if now != size:
            raise PublishError(
                f"files must stay as they were checked, got {path} with {size:,} bytes then and "
                f"{'no such file' if now is None else f'{now:,}'} now; publish again when nothing writes there"
            )
