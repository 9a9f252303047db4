"""Let the marks of what a prompt names say boxes in the way in which trained visual tokens say their own.

    python -m research.semantic.box_marks runs/small_crowds runs/sprites.npz runs/small_crowds_boxes

Tokens on objects of rendered scenes are regressed on the box of their object (ridge regression). The part that the box
explains, twice as large, becomes the box of a mark, so that the language model can read it before it was trained to:
it stands where a token's own box stands, and drowns it. Printed is the share of the tokens' variance that is
explained, on a fifth of them that was left out.
"""

import shutil
from pathlib import Path
from typing import Annotated

import torch
import typer

from elysium.modeling_elysium import ElysiumForConditionalGeneration
from elysium.modeling_elysium.semantic_projector_elysium import box_waves
from elysium.processing.atomic_files import atomic_folder
from elysium.processing.processing_elysium import ElysiumProcessor
from elysium.tracking.loading import load_checkpoint
from elysium.training.objective import HEADS_FILE
from research.scenes.world import StudyConfig
from research.tiny.checkpoint import save_checkpoint
from research.tiny.data import BatchPlan, TinyBatches

_GAIN = 2.0  # over the part of a token that its own box explains
_RIDGE = 1e-2
_ON_OBJECT = 0.5  # of a patch
_SCENE = StudyConfig(num_objects=(3, 7), side=(0.05, 0.8), stretch=0.25, share_unnamed=0.4)


@torch.no_grad()
def collect(
    model: ElysiumForConditionalGeneration, processor: ElysiumProcessor, bank: Path, number: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return waves (M, E) of boxes and the visual tokens (M, D) on their objects, in single frames."""
    plan = BatchPlan(
        frames={1: 1.0}, clips_per_batch={1: 32}, scene=_SCENE, worlds={"sprites": 0.75, "shapes": 0.25}, bank=bank
    )
    vision = model.config.vision_config
    source = TinyBatches(
        processor,
        plan,
        plan.build_worlds(seed),
        num_batches=number,
        seed=seed,
        ranks=1,
        image_size=vision.image_size,
        patch_size=vision.patch_size,
    )
    own = processor.video_processor
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (own.image_mean, own.image_std))
    waves, tokens = [], []
    for index in range(number):
        batch = source[index]
        output = model.get_video_features((batch["frames"].permute(0, 3, 1, 2).float() - mean) / std)
        coverage = batch["coverage"][:, 0]  # (B, O, N)
        kept = output.selector_indices.unsqueeze(1).expand(-1, coverage.shape[1], -1)
        most, owner = coverage.gather(2, kept).max(1)  # (B, K)
        on_object = most > _ON_OBJECT
        boxes = batch["boxes"][torch.arange(len(owner))[:, None], 0, owner][on_object]
        waves.append(box_waves(boxes, torch.ones(len(boxes))))
        tokens.append(output.pooler_output[on_object].float())
    return torch.cat(waves), torch.cat(tokens)


def ridge(waves: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return the (E, D) weights that give tokens from waves; the last wave is 1."""
    penalty = _RIDGE * len(waves) * torch.eye(waves.shape[1])
    return torch.linalg.solve(waves.T @ waves + penalty, waves.T @ tokens)


def main(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint with semantic encoders.")],
    bank: Annotated[Path, typer.Argument(help="Cut-outs of fetch_sprites.")],
    output: Annotated[Path, typer.Argument(help="Folder to write.")],
    number: Annotated[int, typer.Option(help="Batches of 32 scenes.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of the scenes.")] = 78,
) -> None:
    """Write the checkpoint with the boxes of its marks set."""
    model, processor = load_checkpoint(checkpoint, device="cpu")
    waves, tokens = collect(model, processor, bank, number, seed)
    left_out = torch.arange(len(waves)) % 5 == 0
    weights, mean = ridge(waves[~left_out], tokens[~left_out]), tokens.mean(0)
    rest = tokens[left_out] - waves[left_out] @ weights
    explained = 1 - rest.square().sum() / (tokens[left_out] - mean).square().sum()
    weights[-1] -= mean
    with torch.no_grad():
        model.model.semantic_projector.matched_box.weight.copy_(_GAIN * weights.T)
    with atomic_folder(output) as folder:
        save_checkpoint(model, processor, folder)
        shutil.copy(checkpoint / HEADS_FILE, folder)
    print(f"{len(tokens)} tokens, {explained:.3f} of the variance explained: {output}")


if __name__ == "__main__":
    typer.run(main)
