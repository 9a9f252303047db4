"""Collect the semantic encoders' evidence of real backgrounds, for simulated evidence in training.

python -m research.semantic.evidence_pool runs/sprites.npz runs/encoders.safetensors runs/evidence_pool.npz
"""

from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import typer
from numpy.typing import NDArray
from safetensors.torch import load_file

from elysium.modeling_elysium.semantic_encoders_elysium import ElysiumSemanticEncoders
from elysium.processing.atomic_files import atomic_path
from research.scenes.sprite_bank import SpriteBank
from research.scenes.sprite_world import SpriteWorld
from research.scenes.views import render_view
from research.scenes.world import StudyConfig

_SIDE, _KEPT = 320, 16
_SHARE_PHOTOS = 0.6  # the others are drawn scenes of nameless things
_BATCH = 8


def load_encoders(path: Path) -> ElysiumSemanticEncoders:
    """Return the encoders with the weights of `fetch_encoders`."""
    encoders = ElysiumSemanticEncoders()
    encoders.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return encoders.eval()


def draw_images(bank: SpriteBank, number: int, seed: int) -> list[NDArray[np.uint8]]:
    """Return random parts of the bank's training photographs, and drawn scenes."""
    rng = np.random.default_rng((seed, 21))
    photos = [bank.backgrounds[place] for place in bank.chosen_backgrounds("train")]
    world = SpriteWorld(bank, seed, names=())
    images = []
    for index in range(number):
        if rng.random() < _SHARE_PHOTOS:
            photo = photos[rng.integers(len(photos))]
            side = int(min(photo.shape[:2]) * np.exp(rng.uniform(np.log(0.25), 0)))
            top, left = (int(rng.integers(0, extent - side + 1)) for extent in photo.shape[:2])
            part = photo[top : top + side, left : left + side]
            image = cv2.resize(part, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
            images.append(image[:, ::-1] if rng.random() < 0.5 else image)
        else:
            scene = world.sample(7_000_000 + index, StudyConfig(share_unnamed=1.0))
            images.append(render_view(scene, 1, (_SIDE, _SIDE)).frames[0])
    return images


def main(
    bank: Annotated[Path, typer.Argument(help="Cut-outs and photographs of fetch_sprites.")],
    encoders: Annotated[Path, typer.Argument(help="Weights of fetch_encoders.")],
    output: Annotated[Path, typer.Argument(help="File to write, .npz.")],
    number: Annotated[int, typer.Option(help="Images.")] = 1500,
    seed: Annotated[int, typer.Option(help="Seed of the images.")] = 5,
) -> None:
    """Write a pool of evidence."""
    network = load_encoders(encoders)
    images = draw_images(SpriteBank.load(bank), number, seed)
    parts: dict[str, list[NDArray]] = {"columns": [], "values": [], "boxes": [], "box_scores": []}
    for start in range(0, number, _BATCH):
        batch = np.stack(images[start : start + _BATCH])
        evidence = network(torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255)
        values, columns = evidence.scores.topk(_KEPT, dim=-1)
        parts["columns"].append(columns.numpy().astype(np.int16))
        parts["values"].append(values.numpy().astype(np.float16))
        parts["boxes"].append(evidence.boxes.numpy().astype(np.float16))
        parts["box_scores"].append(evidence.box_scores.numpy().astype(np.float16))
    weights = network.classifier.classify.weight.detach()
    weights = torch.nn.functional.normalize(weights - weights.mean(0), dim=1)
    likeness = (weights @ weights.T).numpy().astype(np.float16)
    with atomic_path(output) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, likeness=likeness, **{name: np.concatenate(part) for name, part in parts.items()})
    print(f"Evidence of {number} images: {output}")


if __name__ == "__main__":
    typer.run(main)
