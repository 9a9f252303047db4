"""Compare forms in which the semantic encoders' evidence may reach the language model, by short trainings alike.

    python -m research.semantic.ablation runs/encoders.safetensors runs/evidence_pool.npz runs/sprites.npz \
        --out research/results/evidence_forms.json

Every run starts from elysium-tiny and sees the same batches of single frames for its seed. Measured is what the
training is for: phrases on the selection part of the real photographs (`research.real_words`) and on frames of the
selection part of the real clips, share found at IoU 0.5 and mean IoU. A form that needs long training to be of use
shows as none here.

Raw features: the logs of all scores, standardised. A classifier's logits are a linear map of its features, and what
the projector learns on top is one, too; unlike features they can be simulated for classes that no cut-out shows.
Finished runs are kept in a log beside the output, and the same command resumes.
"""

import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image

from benchmarks.bench import hardware, markdown_table, write_record
from elysium.evaluation.grounding import ACCURACY_IOU
from elysium.evaluation.resumable import JsonLog, check_settings
from elysium.modeling_elysium import ElysiumForConditionalGeneration
from elysium.modeling_elysium.semantic_encoders_elysium import SemanticEvidence
from elysium.modeling_elysium.semantic_projector_elysium import ElysiumSemanticProjector, box_waves
from elysium.processing.overlap import paired_iou
from elysium.processing.processing_elysium import ElysiumProcessor
from elysium.tracking.loading import load_checkpoint
from elysium.tracking.tracker import Tracker
from elysium.training.model_parts import freeze
from research.real_clips import chosen_entries
from research.real_words.stills import FETCHED, find_photo, read_items
from research.scenes.world import StudyConfig
from research.semantic.assemble import add_encoders
from research.tiny.data import BatchPlan, EvidencePlan, TinyBatches
from research.tiny.losses import TinyTrainingModel
from research.tiny.optimizers import MuonWithAdamW, linear_decay
from research.tracking_table.clips import read_real_clip

_ADDED = ("names", "classes", "box", "to_patches", "matches", "matched_box")
# What each form lacks of what elysium-small has.
FORMS: dict[str, tuple[str, ...]] = {
    "no encoders": _ADDED,
    "raw features": ("names", "matches", "matched_box"),
    "posterior": ("names", "matches", "matched_box"),
    "posterior x name embeddings": ("matches", "matched_box"),
    "and marks": ("matched_box",),
    "and boxes in the marks": (),
    "all, old words": (),
}
RAW = "raw features"
OLD_WORDS = "all, old words"  # those of the named cut-outs alone
FIGURES = ("photos_found", "photos_mean_iou", "clips_found", "clips_mean_iou")
_FRAMES_OF_CLIP = 4
_LEAST_SCORE = 1e-3
TRAINED = ("vision_tower.coarse_blocks", "vision_feature_norm", "selector", "multi_modal_projector", "language_model")


@torch.no_grad()
def apply_form(model: ElysiumForConditionalGeneration, form: str) -> None:
    """Silence what a form lacks, and freeze it; without name embeddings each class begins with a random vector."""
    projector = model.model.semantic_projector
    if "classes" not in FORMS[form] and "names" in FORMS[form]:
        # Vectors of about the same length: a posterior sums to about 1, standardised logs have the length sqrt(C).
        deviation = projector.classes.in_features**-0.5 if form == RAW else 1.0
        torch.nn.init.normal_(projector.classes.weight, std=deviation)
    if form == RAW:
        projector.forward = partial(project_logits, projector)
    for name in FORMS[form]:
        for parameter in getattr(projector, name).parameters():
            parameter.zero_().requires_grad_(False)


def project_logits(
    projector: ElysiumSemanticProjector, evidence: SemanticEvidence, embed: torch.nn.Module
) -> torch.Tensor:
    """Return vectors (sum T, N, D) as the projector does, from the logs of the scores; `embed` is not used."""
    logits = (evidence.scores.float() + _LEAST_SCORE).log()
    logits = torch.nn.functional.layer_norm(logits, logits.shape[-1:]).to(projector.classes.weight.dtype)
    return projector.classes(logits) + projector.box(box_waves(evidence.boxes, evidence.box_scores))


def batch_plan(pool: Path, bank: Path, form: str, clips: int) -> BatchPlan:
    """Return the batches of a form: single frames with simulated evidence."""
    evidence = EvidencePlan(
        pool=pool,
        share=1.0,
        share_real=0.0,
        share_painted=0.0 if form == OLD_WORDS else 0.85,
        share_faint=0.5,
        share_foreign=0.2,
    )
    scene = StudyConfig(num_objects=(3, 6), side=(0.05, 0.8), share_unnamed=0.4, share_twins=0.05)
    return BatchPlan(
        frames={1: 1.0},
        clips_per_batch={1: clips},
        scene=scene,
        questions="finds",
        worlds={"sprites": 1.0},
        bank=bank,
        everyday_names=True,
        evidence=evidence,
    )


def train(
    model: ElysiumForConditionalGeneration,
    processor: ElysiumProcessor,
    plan: BatchPlan,
    form: str,
    *,
    steps: int,
    seed: int,
    rate: float,
) -> None:
    """Train a model by a plan, in bfloat16 where that is done in other stages."""
    torch.manual_seed(seed)
    worlds, vision = plan.build_worlds(seed), model.config.vision_config
    source = TinyBatches(
        processor,
        plan,
        worlds,
        num_batches=steps,
        seed=seed,
        ranks=1,
        image_size=vision.image_size,
        patch_size=vision.patch_size,
    )
    losses = {"gate": 0.3, "dense": 1.5, "boxes": 2.0, "colours": 0.5, "coordinates": 1.5, "tokens": 2.0}
    model.set_attn_implementation("eager")
    network = TinyTrainingModel(model, processor, losses, colours=source.colours, kinds=source.kinds)
    freeze(model, (*TRAINED, "lm_head"))
    apply_form(model, form)
    optimizer = MuonWithAdamW(network, lr=rate, weight_decay=0.02, pretrained="coarse_blocks", pretrained_rate=0.5)
    schedule = linear_decay(optimizer, steps=steps, warmup=steps // 10, hold=0.3, floor=0.01)
    network.train()
    for step in range(steps):
        with torch.autocast("cpu", torch.bfloat16):
            loss = network(**source[step])["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    model.eval()


def found_by_words(model: ElysiumForConditionalGeneration, processor: ElysiumProcessor) -> dict[str, float]:
    """Return the share of phrases that are found, and their mean IoU, on the selection photographs and clips."""
    pairs = [(item, find_photo(item.file, FETCHED)) for item in read_items("selection")]
    photos = [(photo, item.phrase, item.box_xyxy_px) for item, photo in pairs if photo is not None]
    frames = []
    for entry in chosen_entries("selection", None):
        clip = read_real_clip(entry)
        shown = np.flatnonzero(clip.visible)
        for t in shown[np.linspace(0, len(shown) - 1, _FRAMES_OF_CLIP).round().astype(int)]:
            image = Image.fromarray(clip.video.frames[t])
            frames += [(image, phrase, tuple(clip.boxes_xyxy_px[t])) for phrase in entry["phrasings"]]
    figures = {}
    for name, asked in (("photos", photos), ("clips", frames)):
        answers = Tracker(model, processor).ground_many([(image, phrase) for image, phrase, _ in asked])
        boxes = np.array([answer.box_xyxy_px or (np.nan,) * 4 for answer in answers], dtype=np.float64)
        ious = np.nan_to_num(paired_iou(boxes, np.array([box for *_, box in asked], dtype=np.float64)))
        figures[f"{name}_found"] = round(float((ious >= ACCURACY_IOU).mean()), 4)
        figures[f"{name}_mean_iou"] = round(float(ious.mean()), 4)
    return figures


def table(rows: list[dict[str, Any]], forms: list[str]) -> str:
    """Return the table of all forms, means over seeds and the range of the seeds."""
    lines = []
    for form in forms:
        chosen = [row for row in rows if row["form"] == form]
        cells = []
        for name in FIGURES:
            values = [row[name] for row in chosen]
            cells += [f"{np.mean(values):.3f}", f"{min(values):.3f} to {max(values):.3f}"]
        lines.append([form, len(chosen), *cells])
    return markdown_table(["form", "seeds", *(part for name in FIGURES for part in (name, "range"))], lines)


def main(
    encoders: Annotated[Path, typer.Argument(help="Weights of fetch_encoders.")],
    pool: Annotated[Path, typer.Argument(help="Evidence of evidence_pool.")],
    bank: Annotated[Path, typer.Argument(help="Cut-outs of fetch_sprites --photos.")],
    out: Annotated[Path, typer.Option(help="JSON to write.")],
    form: Annotated[list[str] | None, typer.Option(help="Only these forms.")] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each form.")] = 3,
    steps: Annotated[int, typer.Option(help="Steps of each run.")] = 200,
    clips: Annotated[int, typer.Option(help="Clips of a batch.")] = 12,
    rate: Annotated[float, typer.Option(help="Learning rate.")] = 1.4e-3,
) -> None:
    """Train every form with every seed, measure, and write the record."""
    forms = form or list(FORMS)
    unknown = sorted(set(forms) - set(FORMS))
    if unknown:
        raise typer.BadParameter(f"form must be one of {', '.join(FORMS)}, got {', '.join(unknown)}")
    plan = {"steps": steps, "clips_per_batch": clips, "learning_rate": rate, "start": "elysium-tiny"}
    check_settings(out.with_suffix(".settings.json"), plan)
    log = JsonLog(out.with_suffix(".runs.jsonl"))
    done = {(row["form"], row["seed"]) for row in log.read()}
    for seed in range(seeds):
        for name in forms:
            if (name, seed) in done:
                continue
            start_s = time.process_time()
            torch.manual_seed(seed)
            model, processor = add_encoders(*load_checkpoint("elysium-tiny", device="cpu"), encoders)
            train(model, processor, batch_plan(pool, bank, name, clips), name, steps=steps, seed=seed, rate=rate)
            row = {"form": name, "seed": seed, **found_by_words(model, processor)}
            log.append([row | {"processor_s": round(time.process_time() - start_s)}])
            print(row, flush=True)
    rows = log.read()
    print(table(rows, forms))
    write_record({"benchmark": "evidence_forms", **plan, "hardware": hardware(), "runs": rows}, out)


if __name__ == "__main__":
    typer.run(main)
