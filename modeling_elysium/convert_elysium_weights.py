"""Weights of the public release, read as ours: on the way through `from_pretrained`, or converted to a folder.

`released_conversions` is what transformers applies to weights as it loads them; `convert` writes a folder in our
format, shard by shard, so that it never holds more than one shard of the release in memory.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.core_model_loading import ConversionOps, WeightConverter, WeightRenaming, WeightTransform

from elysium.processing.atomic_files import atomic_folder
from elysium.processing.build_processor import add_placeholders, build_processor

from .configuration_elysium import ElysiumConfig
from .modeling_elysium import ElysiumForConditionalGeneration
from .released_elysium import NUM_PLACEHOLDERS, RELEASED_FRAMES, is_released_config

EMBEDDING, HEAD = "model.language_model.embed_tokens.weight", "lm_head.weight"
# Released name -> ours, in the order in which they are tried.
RENAMES = (
    (r"^visual_encoder\.vision_model\.", "model.vision_tower."),
    (r"^visual_encoder\.", "model.vision_tower."),
    (r"^adapter\.", "model.selector."),
    (r"^llm_proj\.0\.", "model.multi_modal_projector.linear_1."),
    (r"^llm_proj\.2\.", "model.multi_modal_projector.linear_2."),
    (r"^llm_proj\.(weight|bias)$", r"model.multi_modal_projector.linear.\1"),
    (r"^llm\.model\.(?!embed_tokens\.)", "model.language_model."),
)
# The two tables of the vocabulary, which get new rows.
TABLES = {"llm.model.embed_tokens.weight": EMBEDDING, "llm.lm_head.weight": HEAD}
# Weights of the release that no layer of ours reads: the tower's last layer and head, buffers of older transformers.
_NOT_USED = re.compile(r"(\.post_layernorm\.|\.position_ids$|\.rotary_emb\.inv_freq$)")
_SHARD = "model-{:05d}-of-{:05d}.safetensors"


class ConversionError(ValueError):
    """A release cannot be converted: something is missing, unknown, misshapen, or the disk is too small."""


def rename_released(name: str) -> str | None:
    """Return our name of a released weight, None where it is none of the release's.

    >>> rename_released("llm.model.layers.0.mlp.up_proj.weight")
    'model.language_model.layers.0.mlp.up_proj.weight'
    """
    if name in TABLES:
        return TABLES[name]
    for pattern, target in RENAMES:
        renamed, count = re.subn(pattern, target, name)
        if count:
            return renamed
    return None


def with_placeholder_rows(name: str, table: torch.Tensor, rows: int) -> torch.Tensor:
    """Return a vocabulary table (V, D) with new last rows, up to `rows`, for the placeholders.

    Rows of the head are the mean of the old ones: such a logit is the mean of the others and never the largest. Rows
    of the embedding are plus and minus the mean: they must differ, since with ``inputs_embeds`` a placeholder is known
    by its row.
    """
    missing = rows - table.shape[0]
    if missing == 0:
        return table
    new = table.float().mean(dim=0, keepdim=True).repeat(missing, 1)
    if name != HEAD:
        new[1::2] *= -1
    return torch.cat([table, new.to(table.dtype)])


class AddPlaceholderRows(ConversionOps):
    """Apply `with_placeholder_rows` while transformers loads, up to the rows that the model has."""

    def convert(
        self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> dict[str, Any]:
        rows = kwargs["model"].config.get_text_config().vocab_size
        (tensors,) = input_dict.values()
        table = tensors[0] if isinstance(tensors, list) else tensors
        return {target_patterns[0]: with_placeholder_rows(target_patterns[0], table, rows)}


def released_conversions() -> list[WeightTransform]:
    """Return the conversions that transformers applies to released weights; ours pass untouched."""
    tables = [
        WeightConverter(name, ours.removeprefix("model."), [AddPlaceholderRows()]) for name, ours in TABLES.items()
    ]
    return [WeightRenaming(pattern, target) for pattern, target in RENAMES] + tables


# --- conversion to a folder ---


@dataclass(frozen=True)
class ConversionReport:
    """Report of `convert`.

    gate_was_trained: whether the release's `trans_weight` differs from zero, its initial value; has_processor: whether
    a tokenizer was found, so that the folder answers prompts.
    """

    folder: Path
    num_parameters: int
    num_shards: int
    dtype: str
    gate_was_trained: bool
    has_processor: bool


def find_shards(folder: Path) -> list[Path]:
    """Return the weight files of a release: safetensors before .bin, an index before a single file.

    Raises:
        ConversionError: no weights; or the index names a file that is not there.
    """
    for name in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{name}.index.json"
        if index.is_file():
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            missing = [shard for shard in names if not (folder / shard).is_file()]
            if missing:
                raise ConversionError(
                    f"every shard that {index.name} names must be there, missing {', '.join(missing)}; download again"
                )
            return [folder / shard for shard in names]
        if (folder / name).is_file():
            return [folder / name]
    raise ConversionError(
        f"a release must hold model.safetensors, pytorch_model.bin or an index of shards, got none in {folder}"
    )


def read_shard(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield names and tensors of one file; the one place that opens a .bin, with `weights_only=True`."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118 (not a dictionary)
                    yield name, file.get_tensor(name)
        else:
            yield from torch.load(path, map_location="cpu", weights_only=True, mmap=True).items()
    except Exception as error:
        raise ConversionError(
            f"{path.name} must be a whole file of weights, got {type(error).__name__}: {error}; download it again"
        ) from error


def _check_space(out: Path, needed: int) -> None:
    existing = next(parent for parent in out.absolute().parents if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ConversionError(
            f"the disk must have {needed / 1e9:.2f} GB free for {out}, got {free / 1e9:.2f} GB; "
            "free some space, choose another folder, or convert with --dtype bfloat16"
        )


def find_tokenizer(folder: Path) -> Path | None:
    """Return the folder of the tokenizer: the release's or that of its language model; None without one."""
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    places = [folder, folder / str(values["llm_config"].get("pretrained_model_name_or_path", ""))]
    files = ("tokenizer.json", "tokenizer.model")
    return next((place for place in places if any((place / file).is_file() for file in files)), None)


def _load_tokenizer(path: Path, config: ElysiumConfig) -> PreTrainedTokenizerBase:
    """Load a tokenizer, add both placeholders, and set their ids in the configuration."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    vocabulary = config.text_config.vocab_size - NUM_PLACEHOLDERS
    if len(tokenizer) > vocabulary:
        raise ConversionError(
            f"a tokenizer must fit the release's vocabulary of {vocabulary}, got {len(tokenizer)} tokens in {path}; "
            "give that of the release's language model with --tokenizer"
        )
    config.image_token_id, config.video_token_id = add_placeholders(tokenizer)
    return tokenizer


class _ShardWriter:
    """Write shards of our weights and their index, and check that none is missing."""

    def __init__(self, config: ElysiumConfig, folder: Path, num_shards: int, dtype: torch.dtype | None):
        with torch.device("meta"):
            self.model = ElysiumForConditionalGeneration(config)
        self.missing = {name: tensor.shape for name, tensor in self.model.state_dict().items()}
        self.rows = config.text_config.vocab_size
        self.folder, self.num_shards, self.dtype = folder, num_shards, dtype
        self.weight_map: dict[str, str] = {}
        self.total_size = 0

    def write(self, shard: Path, number: int) -> dict[str, torch.Tensor]:
        """Convert one shard of the release and return its weights."""
        found: dict[str, torch.Tensor] = {}
        for name, tensor in read_shard(shard):
            ours = rename_released(name)
            if ours is not None and ours not in self.missing and self._is_unused(ours):
                continue
            if ours is None or ours not in self.missing:
                again = ours in self.weight_map
                raise ConversionError(
                    f"every weight must be one of the release's, {'once' if again else 'by a known name'}, "
                    f"got {name} in {shard.name}; is this a release of Hon-Wong/Elysium?"
                )
            tensor = tensor if self.dtype is None or not tensor.is_floating_point() else tensor.to(self.dtype)
            if ours in (EMBEDDING, HEAD):
                tensor = with_placeholder_rows(ours, tensor, self.rows)
            wanted = self.missing.pop(ours)
            if tensor.shape != wanted:
                raise ConversionError(
                    f"{name} must have the shape {tuple(wanted)} by config.json, got {tuple(tensor.shape)}; "
                    "do config and weights belong together?"
                )
            found[ours] = tensor.contiguous()
        file = "model.safetensors" if self.num_shards == 1 else _SHARD.format(number, self.num_shards)
        save_file(found, self.folder / file, metadata={"format": "pt"})
        self.weight_map |= dict.fromkeys(found, file)
        self.total_size += sum(tensor.nbytes for tensor in found.values())
        return found

    def _is_unused(self, name: str) -> bool:
        """Return whether a weight is of a tower layer after the last used one, or a buffer of older transformers."""
        layer = re.match(r"model\.vision_tower\.encoder\.layers\.(\d+)\.", name)
        behind = layer is not None and int(layer[1]) >= len(self.model.model.vision_tower.encoder.layers)
        return behind or _NOT_USED.search(name) is not None

    def finish(self) -> None:
        """Write the index, the configuration and the code.

        Raises:
            ConversionError: a weight never came.
        """
        if self.missing:
            names = sorted(self.missing)
            raise ConversionError(
                f"a release must hold every weight, missing {len(names)}: {', '.join(names[:3])}"
                f"{', …' if len(names) > 3 else ''}; is the download complete?"
            )
        if self.num_shards > 1:
            index = {"metadata": {"total_size": self.total_size}, "weight_map": self.weight_map}
            (self.folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True))
        self.model.save_code_and_config(self.folder)


def convert(
    released: str | os.PathLike,
    out: str | os.PathLike,
    *,
    tokenizer: str | os.PathLike | None = None,
    dtype: torch.dtype | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ConversionReport:
    """Convert a release of the public code to a folder of ours.

    Args:
        released: its folder.
        out: a folder that does not exist yet; it appears whole or not at all.
        tokenizer: folder of a tokenizer, where the release has none. Without any, no processor is written.
        dtype: of the weights; the release's own by default.
        progress: called with the shards done and their number.

    Raises:
        ConversionError: not a release; a shard is missing or broken; a weight is unknown, misshapen or missing; too
            little disk.
        OutputError: `out` exists or cannot be written.
    """
    source, target = Path(released), Path(out)
    _check_release(source)
    config = ElysiumConfig.from_pretrained(source)
    shards = find_shards(source)
    place = Path(tokenizer) if tokenizer is not None else find_tokenizer(source)
    text_tokenizer = None if place is None else _load_tokenizer(place, config)
    gate_was_trained, found_dtype = False, dtype
    with atomic_folder(target) as folder:
        writer = _ShardWriter(config, folder, len(shards), dtype)
        itemsize = dtype.itemsize if dtype is not None else None
        parameters = sum(shape.numel() for shape in writer.missing.values())
        _check_space(folder, parameters * itemsize if itemsize else sum(path.stat().st_size for path in shards))
        for number, shard in enumerate(shards, start=1):
            found = writer.write(shard, number)
            if "model.selector.trans_weight" in found:
                gate_was_trained = bool(found["model.selector.trans_weight"].any())
            found_dtype = found_dtype or next((tensor.dtype for tensor in found.values()), None)
            del found
            if progress is not None:
                progress(number, len(shards))
        config.dtype = found_dtype
        writer.finish()
        if text_tokenizer is not None:
            build_processor(config, text_tokenizer, max_trained_frames=RELEASED_FRAMES).save_pretrained(folder)
    return ConversionReport(
        folder=target,
        num_parameters=parameters,
        num_shards=len(shards),
        dtype=str(found_dtype).removeprefix("torch."),
        gate_was_trained=gate_was_trained,
        has_processor=text_tokenizer is not None,
    )


def _check_release(source: Path) -> None:
    file = source / "config.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConversionError(f"a release must be a folder with a config.json, got {source} ({error})") from error
    if not is_released_config(values):
        ours = "; it is a folder of ours already" if "text_config" in values else ""
        raise ConversionError(
            f"the config.json of a release must hold llm_config, visual_config and adapter_config, got {file}{ours}"
        )
