"""Measure the small vision tower and the semantic encoders against the same networks as torch computes them.

    OMP_NUM_THREADS=1 python -m benchmarks.vision_speed --rounds 5

Both compute the same features to float32 rounding; weights are random, with channels last in both. In turns in one
process; milliseconds of processor time for an image, median (and least) of the rounds. The last line is JSON.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from unittest.mock import patch

import torch
from torch import nn

from benchmarks.bench import hardware, markdown_table, write_record
from benchmarks.tracking_speed import plain_tower
from elysium.modeling_elysium import semantic_encoders_elysium
from elysium.modeling_elysium.configuration_elysium import ElysiumTinyViTConfig
from elysium.modeling_elysium.semantic_encoders_elysium import ElysiumSemanticEncoders, SameConv2d
from elysium.modeling_elysium.tiny_vit_elysium import ElysiumTinyViT

IMAGES = 8


def padded_convolution(layer: SameConv2d, images: torch.Tensor) -> torch.Tensor:
    """Return a convolution with "SAME" padding by torch's own, on a padded copy where the padding is uneven."""
    stride, side = layer.stride[0], layer.kernel_size[0]
    down, across = (max((-(-n // stride) - 1) * stride + side - n, 0) for n in images.shape[-2:])
    if down == across == 2 * layer.padding[0]:
        return nn.Conv2d.forward(layer, images)
    images = nn.functional.pad(images, (across // 2, across - across // 2, down // 2, down - down // 2))
    return nn.functional.conv2d(images, layer.weight, layer.bias, layer.stride, 0, 1, layer.groups)


@contextmanager
def plain_encoders() -> Iterator[None]:
    """Let the encoders compute their convolutions as torch has them, all images at once."""
    with (
        patch.object(SameConv2d, "forward", padded_convolution),
        patch.object(semantic_encoders_elysium, "_IMAGES_AT_ONCE", 10**6),
    ):
        yield


@torch.no_grad()
def measure(network: nn.Module, plain: Callable, side: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return the processor milliseconds for an image: median and least of both forms."""
    images = torch.rand(IMAGES, 3, side, side, generator=torch.Generator().manual_seed(0))
    spent: dict[str, list[float]] = {"plain": [], "ours": []}
    for number in range(rounds + 1):
        for form, times in spent.items():
            start = time.process_time()
            if form == "plain":
                with plain():
                    network(images)
            else:
                network(images)
            if number:  # the first is to warm up
                times.append(1000 * (time.process_time() - start) / IMAGES)
    return {form: {"median_ms": median(times), "min_ms": min(times)} for form, times in spent.items()}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="Runs of each form.")
    args = parser.parse_args()
    torch.manual_seed(0)
    config = ElysiumTinyViTConfig()
    found = {
        "tower": measure(ElysiumTinyViT(config).eval(), plain_tower, config.image_size, args.rounds),
        "semantic encoders": measure(ElysiumSemanticEncoders().eval(), plain_encoders, 320, args.rounds),
    }
    rows = []
    for name, forms in found.items():
        texts = [f"{each['median_ms']:.1f} ({each['min_ms']:.1f})" for each in forms.values()]
        ratios = [forms["plain"][key] / forms["ours"][key] for key in ("median_ms", "min_ms")]
        rows.append([name, *texts, f"{ratios[0]:.2f}x ({ratios[1]:.2f}x)"])
    print(markdown_table(["", "plain, ms/image", "ours, ms/image", "ratio"], rows))
    write_record({"hardware": hardware(), "images": IMAGES} | found, None)


if __name__ == "__main__":
    main()
