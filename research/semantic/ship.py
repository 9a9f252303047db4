"""Write elysium-small as it ships: half-precision weights, the encoders in a shard of their own.

    python -m research.semantic.ship runs/small_faint runs/encoders.safetensors checkpoints/elysium-small

The encoders are stored as `fetch_encoders` wrote them, since the detectors see other things in half precision.
Training leaves them as they are, so that another training run changes the small shard alone.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from safetensors.torch import load_file, save_file

from elysium.processing.atomic_files import atomic_folder
from elysium.tracking.loading import load_checkpoint
from research.tiny.checkpoint import save_checkpoint

ENCODERS = "model.semantic_encoders."
TRAINED_ON = (
    "trained on synthetic scenes, with frozen encoders that learnt from ImageNet, COCO and Open Images; words work "
    "for about a thousand kinds of things"
)
TRACKING = {"zoom": 2.0, "text_frames": 1}


def write_shards(folder: Path, encoders: dict[str, torch.Tensor]) -> None:
    """Replace a folder's weights by two shards: the encoders as given, and all else.

    Args:
        folder: with `model.safetensors`.
        encoders: weights by their names in the encoders.
    """
    whole = folder / "model.safetensors"
    others = {name: value for name, value in load_file(whole).items() if not name.startswith(ENCODERS)}
    parts = [{ENCODERS + name: value for name, value in encoders.items()}, others]
    places: dict[str, str] = {}
    for number, part in enumerate(parts, start=1):
        file = f"model-{number:05}-of-{len(parts):05}.safetensors"
        save_file(part, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(part, file)
    size = sum(value.nbytes for part in parts for value in part.values())
    index: dict[str, Any] = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    whole.unlink()


def main(
    checkpoint: Annotated[str, typer.Argument(help="Folder of a training stage, or one of its saves.")],
    encoders: Annotated[Path, typer.Argument(help="Weights of fetch_encoders.")],
    output: Annotated[Path, typer.Argument(help="Checkpoint folder to write.")],
    absent_log_odds: Annotated[float, typer.Option(help="Bias of `none` for an object given by a box.")] = 0.75,
    text_absent_log_odds: Annotated[float, typer.Option(help="Bias of `none` for a text prompt.")] = 1.0,
) -> None:
    """Write elysium-small as it ships."""
    model, processor = load_checkpoint(checkpoint, device="cpu")
    biases = {"absent_log_odds": absent_log_odds, "text_absent_log_odds": text_absent_log_odds}
    processor.tracking = TRACKING | {name: value for name, value in biases.items() if value}
    with atomic_folder(output) as folder:
        save_checkpoint(model, processor, folder, half=True, trained_on=TRAINED_ON)
        write_shards(folder, load_file(encoders))
    print(f"Checkpoint: {output}")


if __name__ == "__main__":
    typer.run(main)
