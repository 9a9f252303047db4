"""Find a checkpoint and check its files, or say in one sentence why it cannot be loaded and what to do.

Neither torch nor transformers is imported, so that a mistyped name is answered at once.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

ADAPTER = "adapter_config.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
MODEL_TYPE = "elysium"
_MIB = 2**20
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
# Beside this folder, both in the repository and in the installed package.
SHIPPED = Path(__file__).resolve().parent.parent / "checkpoints"
DEFAULT_MODEL = "elysium-small"  # the checkpoint in the wheel


class CheckpointError(ValueError):
    """A checkpoint cannot be loaded; the message says why and what to do."""


def resolve_checkpoint(name: str | Path) -> str | Path:
    """Return the folder of a checkpoint that comes with the package; any other name as it is."""
    shipped = SHIPPED / name
    known = not Path(name).exists() and Path(name).name == str(name) and shipped.is_dir()
    return shipped if known else name


def check_checkpoint(name: str | Path) -> str | Path:
    """Check that a name leads to an Elysium checkpoint, of an adapter to that of its base model too.

    Args:
        name: as `load_checkpoint` takes it.

    Returns:
        What `resolve_checkpoint` gives.

    Raises:
        CheckpointError: unknown name, a folder that is no checkpoint, another kind of model, or no safetensors.
    """
    name = resolve_checkpoint(name)
    folder = Path(name)
    if (folder / ADAPTER).is_file():
        _check_adapter(folder)
        return name
    if folder.is_file():
        raise CheckpointError(
            f"model must be a folder or a Hub id, got the file {folder}; give the folder that it is in"
        )
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise CheckpointError(
            f"model must be a checkpoint with a config.json, got {folder} with {_content(folder)}; give the folder "
            "that save_pretrained wrote"
        )
    config = _read_config(folder / "config.json" if folder.is_dir() else _hub_config(str(name)))
    if config.get("model_type") != MODEL_TYPE:
        raise CheckpointError(
            f"model must be an Elysium checkpoint (model_type {MODEL_TYPE!r}), got {name} with "
            f"{config.get('model_type')!r}; the weights of the public code have to be converted first"
        )
    if folder.is_dir():
        _check_weights(folder)
    return name


def base_of_adapter(folder: Path) -> str:
    """Return the base model that an adapter names.

    Raises:
        CheckpointError: it names none.
    """
    base = _read_config(folder / ADAPTER).get("base_model_name_or_path")
    if not base:
        raise CheckpointError(f"an adapter must name its base model, got none in {folder / ADAPTER}; write it there")
    return str(base)


def weights_fingerprint(model: str) -> str | None:
    """Return a digest of a local checkpoint's configurations and of the size, first and last MiB of its weights.

    It tells a checkpoint from the same one trained further without reading 14 GB. None for a Hub id.
    """
    folder = Path(resolve_checkpoint(model))
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in (folder / "config.json", folder / "processor_config.json"):
        digest.update(path.read_bytes() if path.is_file() else b"")
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        with path.open("rb") as file:
            digest.update(f"{path.name} {size}".encode() + file.read(_MIB))
            file.seek(max(0, size - _MIB))
            digest.update(file.read(_MIB))
    return digest.hexdigest()[:16]


def first_line(error: BaseException) -> str:
    """Return the name of an error and the first line of its message.

    >>> first_line(ValueError("no header" + chr(10) + "at byte 8"))
    'ValueError: no header'
    """
    lines: list[Any] = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _check_adapter(folder: Path) -> None:
    """Check that an adapter's base model can be found."""
    base = base_of_adapter(folder)
    try:
        check_checkpoint(base)
    except CheckpointError as error:
        raise CheckpointError(
            f"an adapter must find its base model, got {base} in {folder / ADAPTER} ({error}); write the base's "
            "absolute path or Hub id there, as base_model_name_or_path"
        ) from error


def _hub_config(name: str) -> Path:
    """Return the config of a Hub repository, fetched or from the cache; a name that can be no Hub id is mistyped."""
    remedy = f"check the name ({DEFAULT_MODEL} comes with the package)"
    if not _HUB_ID.fullmatch(name):
        raise CheckpointError(f"model must be an existing folder or a Hub id owner/name, got {name}; {remedy}")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(hf_hub_download(name, "config.json"))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise CheckpointError(
            f"model must be an existing folder or a Hub id that can be reached, got {name} ({first_line(error)}); "
            f"{remedy}"
        ) from error


def _read_config(file: Path) -> dict[str, Any]:
    """Return what a JSON file of a checkpoint holds."""
    try:
        config = json.loads(file.read_text("utf-8"))
        if not isinstance(config, dict):
            raise ValueError(f"got {type(config).__name__}")
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{file.name} must be the config of a model, got {file} ({first_line(error)}); "
            "copy or download the checkpoint again"
        ) from error
    return config


def _check_weights(folder: Path) -> None:
    """Check that a folder holds safetensors: a pickle can run code when it is loaded."""
    if next(folder.glob("*.safetensors"), None) is not None:
        return
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLE_SUFFIXES)
    if pickles:
        raise CheckpointError(
            f"weights must be safetensors, got only {', '.join(pickles)} in {folder}: a pickle can run code when "
            "it is loaded; save the weights as safetensors, with save_pretrained, where they are trusted"
        )
    raise CheckpointError(
        f"a checkpoint must hold weights (*.safetensors), got {folder} with {_content(folder)}; copy them there too"
    )


def _content(folder: Path) -> str:
    """Return a short description of what a folder holds."""
    names = sorted(file.name for file in folder.iterdir())
    return (", ".join(names[:4]) + (", …" if len(names) > 4 else "")) or "nothing in it"
