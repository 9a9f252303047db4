"""Load a checkpoint, or say in one sentence why it cannot be loaded and what to do."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from safetensors import SafetensorError
from transformers import PreTrainedConfig

from elysium.modeling_elysium.configuration_elysium import ElysiumConfig
from elysium.modeling_elysium.hub_folder_elysium import derived_from
from elysium.modeling_elysium.modeling_elysium import ElysiumForConditionalGeneration
from elysium.processing.processing_elysium import ElysiumProcessor

ADAPTER = "adapter_config.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
# Beside this folder, both in the repository and in the installed package.
SHIPPED = Path(__file__).resolve().parent.parent / "checkpoints"
_LOADING_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError)


class CheckpointError(ValueError):
    """A checkpoint cannot be loaded; the message says why and what to do."""


def load_checkpoint(
    name: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    quantization_config: Any = None,
) -> tuple[ElysiumForConditionalGeneration, ElysiumProcessor]:
    """Return the model and processor of a folder or Hub repository, ready for inference.

    Args:
        name: folder with `config.json`, safetensors and the processor's files; folder of an adapter, which is put
            onto its base model and merged; the name of a checkpoint that comes with the package, as "elysium-tiny"; or
            a Hub id `owner/name`. They are looked for in this order.
        device: by default the first GPU where there is one, else the CPU.
        dtype: by default that of the checkpoint.
        quantization_config: of transformers, such as `BitsAndBytesConfig`; weights are quantized while loading.

    Raises:
        CheckpointError: unknown name, a folder that is no checkpoint, another kind of model, pickled weights, weights
            that are damaged or do not fit, or no processor.
        ValueError: no such device.
    """
    place = _check_device(device)
    name = resolve_checkpoint(name)
    if (Path(name) / ADAPTER).is_file():
        return _load_adapter(Path(name), device=place, dtype=dtype, quantization_config=quantization_config)
    _check_config(name)
    if Path(name).is_dir():
        _check_weights(Path(name))
    options: dict[str, Any] = {} if dtype is None else {"dtype": dtype}
    if quantization_config is not None:
        options |= {"quantization_config": quantization_config, "device_map": {"": place}}
    model = _load_model(name, options)
    try:
        processor = ElysiumProcessor.from_pretrained(name)
    except _LOADING_ERRORS as error:
        raise CheckpointError(
            f"a checkpoint must hold its processor (tokenizer, chat template, preprocessor configs), got {name} "
            f"({_first_line(error)}); save it beside the weights with processor.save_pretrained"
        ) from error
    # Quantized weights are in their place already, and some kinds may not be moved.
    return (model if quantization_config is not None else model.to(place)).eval(), processor


def _load_adapter(
    folder: Path, *, device: torch.device, dtype: str | torch.dtype | None, quantization_config: Any
) -> tuple[ElysiumForConditionalGeneration, ElysiumProcessor]:
    """Return the base model that an adapter names, with the adapter merged into it.

    Raises:
        CheckpointError: peft is missing, quantization is requested, or base or adapter cannot be loaded.
    """
    if quantization_config is not None:
        raise CheckpointError(
            f"an adapter must be merged before its model is quantized, got the adapter {folder}; save what this loads "
            "without quantization, and quantize that"
        )
    try:
        from peft import PeftModel
    except ImportError as error:
        raise CheckpointError(
            f"an adapter needs peft, got no such package for {folder}; pip install 'elysium-vlm[train]'"
        ) from error
    base = json.loads((folder / ADAPTER).read_text("utf-8")).get("base_model_name_or_path")
    if not base:
        raise CheckpointError(f"an adapter must name its base model, got none in {folder / ADAPTER}; write it there")
    try:
        model, processor = load_checkpoint(base, device=device, dtype=dtype)
    except CheckpointError as error:
        raise CheckpointError(
            f"an adapter must find its base model, got {base} in {folder / ADAPTER} ({error}); write the base's "
            "absolute path or Hub id there, as base_model_name_or_path"
        ) from error
    model.config.trained_on = (
        f"{derived_from(base, model.config.trained_on)}, with the adapter {folder.resolve().name}"
    )
    try:
        with warnings.catch_warnings():
            # peft asks transformers for it by its old name
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            merged = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    except _LOADING_ERRORS as error:
        raise CheckpointError(
            f"an adapter must fit its base model, got {folder} for {base} ({_first_line(error)}); check "
            "base_model_name_or_path"
        ) from error
    return merged.eval(), processor


def resolve_checkpoint(name: str | Path) -> str | Path:
    """Return the folder of a checkpoint that comes with the package; any other name as it is."""
    shipped = SHIPPED / name
    known = not Path(name).exists() and Path(name).name == str(name) and shipped.is_dir()
    return shipped if known else name


def _check_device(device: str | torch.device | None) -> torch.device:
    """Return the requested device, or the best there is."""
    has_gpu = torch.cuda.is_available()
    if device is None:
        return torch.device("cuda" if has_gpu else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device must be cpu, cuda, cuda:1 or the like, got {device!r}; leave it out") from error
    if place.type == "cuda" and not (has_gpu and (place.index or 0) < torch.cuda.device_count()):
        raise ValueError(
            f"device must be on this machine, which has {torch.cuda.device_count()} GPUs, got {device}; use cpu"
        )
    return place


def _check_config(name: str | Path) -> None:
    """Check that a name leads to the config of an Elysium model; a name that can be no Hub id is a mistyped path."""
    folder = Path(name)
    if folder.is_file():
        raise CheckpointError(
            f"model must be a folder or a Hub id, got the file {folder}; give the folder that it is in"
        )
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise CheckpointError(
            f"model must be a checkpoint with a config.json, got {folder} with {_content(folder)}; give the folder "
            "that save_pretrained wrote"
        )
    shipped = sorted(path.parent.name for path in SHIPPED.glob("*/config.json"))
    remedy = f"check the name ({', '.join(shipped)} comes with the package)" if shipped else "check the name"
    try:
        if not folder.exists():
            validate_repo_id(str(name))
        config, _ = PreTrainedConfig.get_config_dict(name)
    except HFValidationError as error:
        raise CheckpointError(
            f"model must be an existing folder or a Hub id owner/name, got {name}; {remedy}"
        ) from error
    except _LOADING_ERRORS as error:
        if folder.is_dir():
            raise CheckpointError(
                f"config.json must be the config of a model, got {folder / 'config.json'} ({_first_line(error)}); "
                "copy or download the checkpoint again"
            ) from error
        raise CheckpointError(
            f"model must be an existing folder or a Hub id that can be reached, got {name} ({_first_line(error)}); "
            f"{remedy}"
        ) from error
    if config.get("model_type") != ElysiumConfig.model_type:
        raise CheckpointError(
            f"model must be an Elysium checkpoint (model_type {ElysiumConfig.model_type!r}), got {name} with "
            f"{config.get('model_type')!r}; the weights of the public code have to be converted first"
        )


def _load_model(name: str | Path, options: dict[str, Any]) -> ElysiumForConditionalGeneration:
    """Return the model, with every parameter from the checkpoint."""
    try:
        model, info = ElysiumForConditionalGeneration.from_pretrained(
            name, use_safetensors=True, output_loading_info=True, **options
        )
    except _LOADING_ERRORS as error:
        raise CheckpointError(
            f"weights must be safetensors that fit the config, got {name} ({_first_line(error)}); "
            "copy or download the checkpoint again, or save pickled weights as safetensors where they are trusted"
        ) from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise CheckpointError(
            f"weights must hold every parameter, got {name} without {len(missing)} of them, such as {missing[0]}; "
            "copy or download the checkpoint again"
        )
    return model


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


def _first_line(error: BaseException) -> str:
    lines: list[Any] = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
