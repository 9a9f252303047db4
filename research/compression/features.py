"""Scenes of the sprite world as features of a frozen vision tower, computed once and kept in a file.

Single frames carry words that single out an object (grounding, REC); clips carry objects to be followed from a box
(SOT). The bank has one picture for most names, so held-out frames show taught things in new scenes over unseen
grounds; what is followed in held-out clips, and what lies behind it, was never shown in training.

Letters: B clips, T frames, O objects, N patches, C vision width.
"""

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from elysium.modeling_elysium.configuration_elysium import ElysiumTinyViTConfig
from elysium.modeling_elysium.tiny_vit_elysium import ElysiumTinyViT
from elysium.processing.atomic_files import atomic_path
from elysium.training.synthetic import RenderedClip, Scene, referring_expressions
from research.scenes.sprite_bank import SpriteBank
from research.scenes.sprite_world import SpriteMix, SpriteWorld
from research.scenes.views import render_view
from research.scenes.world import StudyConfig, StudyWorld
from research.tiny.checkpoint import TOWER_MEAN, TOWER_STD

SIDE_PX, PATCH_PX, CLIP_FRAMES, MAX_OBJECTS = 160, 16, 4, 8
NUM_PATCHES = (SIDE_PX // PATCH_PX) ** 2
# Few enough that a small model learns them in minutes.
NUM_NAMES = 64
EXAMPLES = 12
_CHUNK = 500
_QUESTIONS = {"rec": 3, "sot": 3}
_SCENES = {
    "rec": StudyConfig(num_objects=(2, 5), side=(0.16, 0.5), share_leaving=0.0, share_occluded=0.15),
    "sot": StudyConfig(
        num_objects=(2, 5), side=(0.16, 0.5), speed=(0.01, 0.06), share_leaving=0.0, frame_steps=(1, 2, 3)
    ),
}


@dataclass(frozen=True)
class Asked:
    """What is asked about a clip: the object, and words for it (REC) or none (SOT: its box in frame 1)."""

    object_index: int
    words: str | None = None


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Clips as a frozen tower sees them.

    features (`torch.Tensor` of shape `(B, T, N, C)`): bfloat16.
    coverage (`torch.Tensor` of shape `(B, T, O, N)`): uint8, which part of a patch an object covers, in 255ths.
    boxes_xyxy_norm (`torch.Tensor` of shape `(B, T, O, 4)`): of the visible part.
    asked: B lists of questions, at least one each.
    """

    features: torch.Tensor
    coverage: torch.Tensor
    boxes_xyxy_norm: torch.Tensor
    asked: list[list[Asked]]

    def __len__(self) -> int:
        return len(self.features)

    @property
    def num_frames(self) -> int:
        """T"""
        return self.features.shape[1]

    def select(self, places: torch.Tensor) -> "FeatureSet":
        """The clips at these places, in their order."""
        chosen = [self.asked[place] for place in places.tolist()]
        return FeatureSet(self.features[places], self.coverage[places], self.boxes_xyxy_norm[places], chosen)


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one chunk of a set is made from; `held_out` changes world and grounds, see the module's docstring."""

    task: str
    held_out: bool
    bank: str
    tower: str
    first: int
    count: int


def few_names(bank: SpriteBank, count: int) -> SpriteBank:
    """The bank with all its nameless cut-outs and those of `count` names, evenly taken from the alphabet."""
    taught = sorted({bank.names[place] for place in bank.chosen("train")} - {""})
    kept = {taught[number * len(taught) // count] for number in range(min(count, len(taught)))} | {""}
    places = [place for place, name in enumerate(bank.names) if name in kept]
    return replace(
        bank,
        sprites=bank.sprites[places],
        names=[bank.names[place] for place in places],
        keys=[bank.keys[place] for place in places],
    )


def build_world(part: Part) -> StudyWorld:
    """The world of a part: unseen made-up grounds for held-out frames, unseen cut-outs and photographs for clips."""
    bank = few_names(SpriteBank.load(part.bank), NUM_NAMES)
    if part.task == "rec":
        mix = SpriteMix(share_named=0.8, share_same_class=0.15, share_photos=0.0 if part.held_out else 0.5)
        return SpriteWorld(bank, 900 if part.held_out else 1, mix=mix)
    return SpriteWorld(bank, 901 if part.held_out else 2, part="seen_classes" if part.held_out else "train")


def questions(task: str, scene: Scene, clip: RenderedClip, rng: np.random.Generator) -> list[Asked]:
    """Up to three objects that words single out, or that stay in sight from the first frame to the last."""
    found = []
    for index in rng.permutation(clip.visible.shape[1]).tolist():
        if not clip.visible[:, index].all():
            continue
        if task == "sot":
            found.append(Asked(index))
            continue
        words = referring_expressions(scene, index, clip.boxes_xyxy_norm, clip.visible)
        if words:
            found.append(Asked(index, words[rng.integers(len(words))]))
    return found[: _QUESTIONS[task]]


def sample_clips(part: Part) -> Iterator[tuple[RenderedClip, list[Asked]]]:
    """Clips of a part that something can be asked about; where nothing can, the next seed's is taken."""
    world, num_frames = build_world(part), CLIP_FRAMES if part.task == "sot" else 1
    for number in range(part.first, part.first + part.count):
        rng, asked, attempt = np.random.default_rng((world.seed, number)), list[Asked](), 0
        while not asked:
            scene = world.sample(number * 100 + attempt, _SCENES[part.task])
            clip = render_view(scene, num_frames, (SIDE_PX, SIDE_PX), first_frame=int(rng.integers(0, 40)))
            asked, attempt = questions(part.task, scene, clip, rng), attempt + 1
        yield clip, asked


def load_frozen_tower(path: str) -> ElysiumTinyViT:
    """The tower of `fetch_tower`.

    Raises:
        ValueError: no such file.
    """
    if not Path(path).is_file():
        raise ValueError(f"tower must be a file of fetch_tower, got {path}; run python -m research.tiny.fetch_tower")
    tower = ElysiumTinyViT(ElysiumTinyViTConfig(image_size=SIDE_PX)).eval().requires_grad_(False)
    tower.load_state_dict(load_file(path))
    return tower


@torch.no_grad()
def see(tower: ElysiumTinyViT, frames: torch.Tensor) -> torch.Tensor:
    """Patch features (F, N, C) in bfloat16 of pictures (F, H, W, 3) uint8."""
    mean, std = torch.tensor(TOWER_MEAN) * 255, torch.tensor(TOWER_STD) * 255
    pixels = ((frames.float() - mean) / std).permute(0, 3, 1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        return tower(pixels).last_hidden_state.to(torch.bfloat16)


def covered(clip: RenderedClip) -> torch.Tensor:
    """(T, O, N) uint8: which part of each patch each object covers."""
    grid = SIDE_PX // PATCH_PX
    tiles = clip.owners.reshape(len(clip.owners), grid, PATCH_PX, grid, PATCH_PX)
    parts = [(tiles == index).mean((2, 4)).reshape(len(tiles), -1) for index in range(MAX_OBJECTS)]
    return torch.from_numpy(np.round(255 * np.stack(parts, axis=1)).astype(np.uint8))


def build_part(part: Part) -> dict[str, Any]:
    """One chunk of a set, as it is kept in the file; the first held-out clips keep their frames, to be looked at."""
    torch.set_num_threads(1)
    tower = load_frozen_tower(part.tower)
    features, coverage, boxes, asked = [], [], [], []
    frames: list[torch.Tensor] = []
    for clip, about in sample_clips(part):
        pictures = torch.from_numpy(clip.frames)
        features.append(see(tower, pictures))
        coverage.append(covered(clip))
        padded = torch.zeros(len(pictures), MAX_OBJECTS, 4)
        padded[:, : clip.visible.shape[1]] = torch.from_numpy(clip.boxes_xyxy_norm)
        boxes.append(padded)
        asked.append([(item.object_index, item.words) for item in about])
        if part.held_out and part.first == 0 and len(frames) < EXAMPLES:
            frames.append(pictures)
    return {
        "features": torch.stack(features),
        "coverage": torch.stack(coverage),
        "boxes_xyxy_norm": torch.stack(boxes),
        "asked": asked,
        "frames": torch.stack(frames) if frames else torch.zeros(0),
    }


def build_features(
    path: Path, pool: Executor, *, bank: str, tower: str, sizes: dict[str, int], held_out: dict[str, int]
) -> None:
    """Renders all clips, runs the tower on them and writes the file.

    Args:
        sizes, held_out: clips of the tasks `rec` and `sot`, to learn from and to be judged by.
    """
    stored: dict[str, Any] = {}
    for name, counts in (("train", sizes), ("held_out", held_out)):
        for task, total in counts.items():
            chunks = [
                Part(task=task, held_out=name == "held_out", bank=bank, tower=tower, first=first, count=count)
                for first in range(0, total, _CHUNK)
                for count in [min(_CHUNK, total - first)]
            ]
            built = list(pool.map(build_part, chunks))
            tensors = ("features", "coverage", "boxes_xyxy_norm")
            stored[f"{name}_{task}"] = {key: torch.cat([chunk[key] for chunk in built]) for key in tensors} | {
                "asked": [about for chunk in built for about in chunk["asked"]],
                "frames": built[0]["frames"],
            }
    with atomic_path(path) as unfinished:
        torch.save(stored, unfinished)


def load_features(path: Path) -> dict[str, FeatureSet]:
    """The sets `train_rec`, `train_sot`, `held_out_rec` and `held_out_sot`; pages of the file, read where needed."""
    stored = torch.load(path, mmap=True, weights_only=True)
    return {
        name: FeatureSet(
            values["features"],
            values["coverage"],
            values["boxes_xyxy_norm"],
            [[Asked(index, words) for index, words in about] for about in values["asked"]],
        )
        for name, values in stored.items()
    }


def example_frames(path: Path) -> torch.Tensor:
    """(EXAMPLES, T, H, W, 3) uint8: the first held-out clips."""
    return torch.load(path, mmap=True, weights_only=True)["held_out_sot"]["frames"]
