"""Load a checkpoint: model and processor, ready for inference."""

import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from elysium.modeling_elysium.hub_folder_elysium import derived_from
from elysium.modeling_elysium.modeling_elysium import ElysiumForConditionalGeneration
from elysium.processing.extras import install_command
from elysium.processing.processing_elysium import ElysiumProcessor

from .checkpoints import ADAPTER, CheckpointError, base_of_adapter, check_checkpoint, first_line

_LOADING_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError)


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
            onto its base model and merged; the name of a checkpoint that comes with the package, "elysium-small"; or a
            Hub id `owner/name`. They are looked for in this order.
        device: by default the first GPU where there is one, else the CPU.
        dtype: by default that of the checkpoint.
        quantization_config: of transformers, such as `BitsAndBytesConfig`; weights are quantized while loading.

    Raises:
        CheckpointError: unknown name, a folder that is no checkpoint, another kind of model, pickled weights, weights
            that are damaged or do not fit, or no processor.
        ValueError: no such device.
    """
    place = _check_device(device)
    name = check_checkpoint(name)
    if (Path(name) / ADAPTER).is_file():
        return _load_adapter(Path(name), device=place, dtype=dtype, quantization_config=quantization_config)
    options: dict[str, Any] = {} if dtype is None else {"dtype": dtype}
    if quantization_config is not None:
        options |= {"quantization_config": quantization_config, "device_map": {"": place}}
    model = _load_model(name, options)
    try:
        processor = ElysiumProcessor.from_pretrained(name)
    except _LOADING_ERRORS as error:
        raise CheckpointError(
            f"a checkpoint must hold its processor (tokenizer, chat template, preprocessor configs), got {name} "
            f"({first_line(error)}); save it beside the weights with processor.save_pretrained"
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
            f"an adapter needs peft, got no such package for {folder}; {install_command('train')}"
        ) from error
    base = base_of_adapter(folder)
    model, processor = load_checkpoint(base, device=device, dtype=dtype)
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
            f"an adapter must fit its base model, got {folder} for {base} ({first_line(error)}); check "
            "base_model_name_or_path"
        ) from error
    return merged.eval(), processor


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


def _load_model(name: str | Path, options: dict[str, Any]) -> ElysiumForConditionalGeneration:
    """Return the model, with every parameter from the checkpoint."""
    try:
        model, info = ElysiumForConditionalGeneration.from_pretrained(
            name, use_safetensors=True, output_loading_info=True, **options
        )
    except _LOADING_ERRORS as error:
        raise CheckpointError(
            f"weights must be safetensors that fit the config, got {name} ({first_line(error)}); "
            "copy or download the checkpoint again, or save pickled weights as safetensors where they are trusted"
        ) from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise CheckpointError(
            f"weights must hold every parameter, got {name} without {len(missing)} of them, such as {missing[0]}; "
            "copy or download the checkpoint again"
        )
    return model
