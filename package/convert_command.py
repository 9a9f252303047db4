"""What `elysium convert` and `elysium assemble` do: folders of weights in, a folder of ours out."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from .console import check_new_folder, frame_progress, quiet_transformers, stderr

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")


def _dtype(name: str | None) -> "torch.dtype | None":
    """The torch dtype of a name.

    Raises:
        ValueError: none of `DTYPES`.
    """
    import torch

    if name is not None and name not in DTYPES:
        raise ValueError(f"--dtype must be one of {', '.join(DTYPES)}, got {name!r}")
    return getattr(torch, name) if name else None


def run_convert(released: Path, out: Path, *, tokenizer: Path | None, dtype: str | None, as_json: bool) -> None:
    """Converts a release and says what came of it."""
    check_new_folder(out)
    quiet_transformers()
    from elysium.modeling_elysium.convert_elysium_weights import convert

    with frame_progress("Converting shards", None) as progress:
        report = convert(released, out, tokenizer=tokenizer, dtype=_dtype(dtype), progress=progress)
    if as_json:
        print(json.dumps(asdict(report) | {"folder": str(report.folder)}))
        return
    gate = "was trained" if report.gate_was_trained else "was never trained: it keeps the same places of every frame"
    shards = f"{report.num_shards} shard{'s' if report.num_shards > 1 else ''}"
    print(f"Checkpoint: {report.folder} ({report.num_parameters:,} parameters, {report.dtype}, {shards})")
    print(f"The release's gate {gate}.")
    if not report.has_processor:
        print("No tokenizer was found and no processor written; convert again with --tokenizer DIR to ask it things.")


def run_assemble(
    vision: str, llm: str, out: Path, *, kept: int | None, projector: str, dtype: str | None, seed: int
) -> None:
    """Joins two pretrained parts and says what is new."""
    check_new_folder(out)
    quiet_transformers()
    from transformers.utils import logging

    from elysium.modeling_elysium.assemble_elysium_weights import assemble

    logging.disable_progress_bar()
    with stderr.status("Assembling"):
        report = assemble(vision, llm, out, num_kept_tokens=kept, projector=projector, dtype=_dtype(dtype), seed=seed)
    total = sum(report.parameters.values())
    print(f"Checkpoint: {report.folder} ({total:,} parameters, of which {report.num_new:,} are new and untrained)")
    for name, count in report.parameters.items():
        print(f"  {name}: {count:,}")
