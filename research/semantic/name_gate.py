"""Fit the gate that says when a description copies the likeliest name of the encoders' evidence.

    python -m research.semantic.name_gate runs/small_last runs/sprites.npz runs/evidence_pool.npz runs/small_named

The questions are those of training, about objects whose evidence is simulated and about cut-outs and shapes that the
encoders themselves read. The gate learns from those where the copied name or the language model's answer is right and
not both. Nothing else is trained.
"""

import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import nn

from elysium.modeling_elysium import ElysiumForConditionalGeneration
from elysium.modeling_elysium.semantic_encoders_elysium import SemanticEvidence
from elysium.processing.atomic_files import atomic_folder
from elysium.processing.processing_elysium import ElysiumProcessor
from elysium.tracking.loading import load_checkpoint
from elysium.training.objective import HEADS_FILE
from research.scenes.world import StudyConfig
from research.semantic.class_names import fits, load_class_names
from research.tiny.checkpoint import save_checkpoint
from research.tiny.data import IGNORE, QUESTION_MIXES, BatchPlan, EvidencePlan, QuestionMix, Shown, TinyBatches

_REG = ("reg",) * 3
QUESTION_MIXES["names"] = QuestionMix(image=(*_REG, "rec"), frame=(*_REG, "rec"), clip=("video_reg", "sot"))
_SCENE = StudyConfig(num_objects=(2, 6), side=(0.08, 0.8), share_unnamed=0.35, share_twins=0.05)
_BATCH = 256


class _Batches(TinyBatches):
    """Keep the scenes of the last batch."""

    scenes: list[Shown]

    def _object_tensors(self, clips: list[Shown], num_frames: int) -> dict[str, torch.Tensor]:
        self.scenes = clips
        return super()._object_tensors(clips, num_frames)


def source_of(
    model: ElysiumForConditionalGeneration, processor: ElysiumProcessor, bank: Path, pool: Path, **how: Any
) -> _Batches:
    """Return batches of descriptions in single frames; ``how`` holds number, seed, share_real and shapes."""
    plan = BatchPlan(
        frames={1: 1.0},
        clips_per_batch={1: 12},
        scene=_SCENE,
        questions="names",
        share_other_phrasings=0.0,
        worlds={"sprites": 1 - how["shapes"], "shapes": how["shapes"]},
        bank=bank,
        everyday_names=True,
        evidence=EvidencePlan(
            pool=pool,
            share=1.0,
            share_real=how["share_real"],
            share_painted=0.85,
            share_faint=0.3,
            share_foreign=0.2,
        ),
    )
    vision = model.config.vision_config
    return _Batches(
        processor,
        plan,
        plan.build_worlds(how["seed"]),
        num_batches=how["number"],
        seed=how["seed"],
        ranks=1,
        image_size=vision.image_size,
        patch_size=vision.patch_size,
    )


def classes_of(shown: Shown, index: int) -> np.ndarray:
    """Return which classes a tracked object is of, a bool array (C,)."""
    known = shown.classes[index] if shown.classes else None
    if known is None:
        return fits(shown.scene.objects[shown.scene.tracked[index]].sprite.kind or "")
    columns = np.zeros(len(load_class_names()), dtype=bool)
    columns[[column for column in known.columns if column is not None]] = True
    return columns


@torch.no_grad()
def collect(model: ElysiumForConditionalGeneration, processor: ElysiumProcessor, source: _Batches) -> torch.Tensor:
    """Return rows (M, 8): what the gate reads, whether the copied name is right, and whether the own answer is."""
    core, own = model.model, processor.video_processor
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (own.image_mean, own.image_std))
    phrases, end = core.semantic_projector.phrases[:-2], model.config.text_config.eos_token_id
    goes_by = {each[0]: fits(entry.name) for each, entry in zip(phrases, load_class_names(), strict=True)}
    line_break = processor.tokenizer.encode("\n", add_special_tokens=False)
    rows = []
    for index in range(len(source)):
        batch = source[index]
        pixels = (batch["frames"].permute(0, 3, 1, 2).float() - mean) / std
        given = {"semantic_evidence": SemanticEvidence(*batch["evidence"])} if "evidence" in batch else {}
        vision, group = core.get_image_features(pixels, **given), batch["words_group"]
        per_clip = len(group["ids"]) // len(pixels)
        clip = torch.arange(len(group["ids"])) // per_clip
        found = core.semantic_names.find(
            SemanticEvidence(*(part[clip] for part in vision.semantic_evidence)),
            vision.selector_indices[clip],
            [line_break + ids for ids in group["ids"].tolist()],
            phrases,
        )
        if found is None or found.evidence is None:
            continue
        logits, right = own_answers(model, batch["prefix_ids"], vision.pooler_output[clip], group)
        features = core.semantic_names.gate_features(found.evidence, logits)
        for row, place in enumerate(group["object_index"].tolist()):
            ids = found.ids[row].tolist()
            if place >= 0 and end in ids:
                is_class = classes_of(source.scenes[row // per_clip], place)
                copied = bool((goes_by[tuple(ids[: ids.index(end)])] & is_class).any())
                rows.append(torch.cat([features[row], torch.tensor([float(copied), float(right[row])])]))
    return torch.stack(rows)


def own_answers(
    model: ElysiumForConditionalGeneration,
    prefix_ids: torch.Tensor,
    visual_tokens: torch.Tensor,
    group: dict[str, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits (Q, V) of the first tokens of answers, and which answers the language model writes right."""
    core = model.model
    embed, visual = core.get_input_embeddings(), (core.config.image_token_id, core.config.video_token_id)
    prefix = embed(prefix_ids).expand(len(visual_tokens), -1, -1)
    places = torch.isin(prefix_ids, torch.tensor(visual))
    prefix = prefix.masked_scatter(places[None, :, None].expand_as(prefix), visual_tokens)
    embeds = torch.cat([prefix, embed(group["ids"])], dim=1)
    hidden = core.language_model(inputs_embeds=embeds).last_hidden_state[:, prefix.shape[1] :]
    logits, wanted = model.lm_head(hidden), group["labels"] != IGNORE
    right = ((logits.argmax(-1) == group["labels"]) | ~wanted).all(1)
    return logits[torch.arange(len(logits)), wanted.float().argmax(1)], right


def fit(gate: nn.Sequential, rows: torch.Tensor, steps: int = 500) -> None:
    """Fit a gate to rows of `collect`, and fold the standardisation of its inputs into it."""
    first, _, last = gate
    nn.init.kaiming_normal_(first.weight)
    nn.init.normal_(last.weight, std=0.1)
    nn.init.zeros_(last.bias)
    mean, deviation = rows[:, :6].mean(0), rows[:, :6].std(0)
    inputs, target = (rows[:, :6] - mean) / deviation, rows[:, 6]
    decisive = (rows[:, 6] != rows[:, 7]).float()
    optimizer = torch.optim.AdamW(gate.parameters(), lr=2e-3, weight_decay=0.3)
    for _ in range(steps):
        chosen = torch.randint(len(rows), (_BATCH,))
        losses = F.binary_cross_entropy_with_logits(gate(inputs[chosen])[:, 0], target[chosen], reduction="none")
        (losses * decisive[chosen]).sum().div(decisive[chosen].sum().clamp(min=1)).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        first.weight /= deviation
        first.bias -= first.weight @ mean


def main(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint with semantic encoders.")],
    bank: Annotated[Path, typer.Argument(help="Cut-outs of fetch_sprites --photos.")],
    pool: Annotated[Path, typer.Argument(help="Evidence of evidence_pool.")],
    output: Annotated[Path, typer.Argument(help="Folder to write.")],
    number: Annotated[int, typer.Option(help="Batches with simulated evidence; half as many are read.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of scenes and fit.")] = 31,
) -> None:
    """Write the checkpoint with its gate fitted; print what is right on scenes that were left out."""
    torch.manual_seed(seed)
    model, processor = load_checkpoint(checkpoint, device="cpu")
    kinds = {"simulated": {"share_real": 0.0, "shapes": 0.2}, "read": {"share_real": 1.0, "shapes": 0.4}}
    parts = {}
    for place, (kind, how) in enumerate(kinds.items()):
        count = number // (place + 1)
        parts[kind] = collect(
            model, processor, source_of(model, processor, bank, pool, number=count, seed=seed + place, **how)
        )
    left_out = {kind: torch.arange(len(rows)) % 6 == 0 for kind, rows in parts.items()}
    gate = model.model.semantic_names.gate
    gate.requires_grad_(True)
    fit(gate, torch.cat([rows[~left_out[kind]] for kind, rows in parts.items()]))
    with torch.no_grad():
        for kind, rows in parts.items():
            rest = rows[left_out[kind]]
            copies = gate(rest[:, :6])[:, 0] > rest[:, 5]  # odds of copying over the likeliest own token's probability
            answers = torch.where(copies, rest[:, 6], rest[:, 7])
            print(
                f"{kind}: {len(rest)} questions, right own {rest[:, 7].mean():.3f}, copied {rest[:, 6].mean():.3f}, "
                f"gated {answers.mean():.3f}; copies in {copies.float().mean():.3f}"
            )
    with atomic_folder(output) as folder:
        save_checkpoint(model, processor, folder)
        if (checkpoint / HEADS_FILE).is_file():
            shutil.copy(checkpoint / HEADS_FILE, folder)
    print(f"Checkpoint: {output}")


if __name__ == "__main__":
    typer.run(main)
