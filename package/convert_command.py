"""`elysium convert` and `elysium assemble`: make a checkpoint from folders of weights."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .arguments import DtypeOption, JsonOption, NewFolderArgument
from .console import check_new_folder, frame_progress, quiet_transformers, stderr


def convert(
    released: Annotated[Path, typer.Argument(metavar="RELEASED", help="Folder of the public release.")],
    out: NewFolderArgument,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Tokenizer of its language model, if RELEASED has none.")
    ] = None,
    dtype: DtypeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Convert weights of the public code's release, shard by shard."""
    check_new_folder(out)
    if not (released / "config.json").is_file():
        raise ValueError(f"a release must be a folder with a config.json, got {released}; check the path")
    quiet_transformers()
    import torch

    from elysium.modeling_elysium import convert_elysium_weights

    torch_dtype = getattr(torch, dtype) if dtype else None
    with frame_progress("Converting shards", None) as progress:
        report = convert_elysium_weights.convert(
            released, out, tokenizer=tokenizer, dtype=torch_dtype, progress=progress
        )
    if as_json:
        print(json.dumps(asdict(report) | {"folder": str(report.folder)}))
        return
    gate = "was trained" if report.gate_was_trained else "was never trained: it keeps the same places of every frame"
    shards = f"{report.num_shards} shard{'s' if report.num_shards > 1 else ''}"
    print(f"Checkpoint: {report.folder} ({report.num_parameters:,} parameters, {report.dtype}, {shards})")
    print(f"The release's gate {gate}.")
    if not report.has_processor:
        print("No tokenizer was found and no processor written; convert again with --tokenizer DIR to ask it things.")


def assemble(
    out: NewFolderArgument,
    vision: Annotated[
        str, typer.Option(metavar="DIR_OR_ID", help="Vision tower: CLIP, SigLIP, SigLIP 2, DINOv2 or DINOv3.")
    ],
    llm: Annotated[str, typer.Option(metavar="DIR_OR_ID", help="Causal language model with its tokenizer.")],
    kept: Annotated[
        int | None, typer.Option(metavar="K", help="Tokens kept per frame. Default: 0.1875 of the patches.", min=1)
    ] = None,
    projector: Annotated[
        str, typer.Option(metavar="NAME", help="Projector: mlp2x_gelu, linear or identity.")
    ] = "mlp2x_gelu",
    dtype: DtypeOption = None,
    seed: Annotated[int, typer.Option(help="Random seed of the new selector and projector.")] = 0,
) -> None:
    """Join a pretrained vision tower and language model to a fresh Elysium, ready to be trained."""
    check_new_folder(out)
    quiet_transformers()
    import torch

    from elysium.modeling_elysium import assemble_elysium_weights

    torch_dtype = getattr(torch, dtype) if dtype else None
    with stderr.status("Assembling"):
        report = assemble_elysium_weights.assemble(
            vision, llm, out, num_kept_tokens=kept, projector=projector, dtype=torch_dtype, seed=seed
        )
    total = sum(report.parameters.values())
    print(f"Checkpoint: {report.folder} ({total:,} parameters, of which {report.num_new:,} are new and untrained)")
    for name, count in report.parameters.items():
        print(f"  {name}: {count:,}")
