"""Put pretrained semantic encoders into a checkpoint, as the start of training elysium-small.

python -m research.semantic.assemble elysium-tiny runs/encoders.safetensors runs/small_start
"""

import shutil
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from safetensors.torch import load_file, save_file

from elysium.modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from elysium.processing.atomic_files import atomic_folder, atomic_path
from elysium.processing.build_processor import build_processor
from elysium.processing.processing_elysium import ElysiumProcessor
from elysium.tracking.loading import load_checkpoint
from elysium.training.objective import HEADS_FILE
from research.semantic.class_names import load_class_names, phrases, plural
from research.tiny.checkpoint import save_checkpoint


def name_tokens(tokenizer: Any) -> list[dict[int, float]]:
    """Return for each class the tokens of what it is called, each with its weight."""
    rows = []
    for entry in load_class_names():
        row: dict[int, float] = {}
        for phrase, weight in phrases(entry, narrower=True).items():
            tokens = tokenizer.encode(f" {phrase}", add_special_tokens=False)
            for token in tokens:
                row[token] = row.get(token, 0.0) + weight / len(tokens)
        rows.append(row)
    return rows


# Made anew, of class_names.tsv and the processor's prompts.
_TABLES = (".name_ids", ".name_weights", ".phrase_ids", ".continues_word", ".opening", ".number_of_id")
KEPT_HEADS = Path(__file__).with_name(HEADS_FILE)  # of what elysium-small was trained with
# Phrases of prompts that name no class, and the one behind which the answer stands.
NOT_CLASSES = ("bounding box", "bounding boxes", "its box", "a box", "boxes", "the box at", "a single box")
END_OF_QUESTION = " ASSISTANT"
_MARK_DEVIATION = 8.0  # of the numbers of a mark; those of trained visual tokens deviate by 12
_BOX_GAIN = 4.0  # of the box of what is named, over that of any detection


def phrase_tokens(tokenizer: Any) -> list[list[list[int]]]:
    """Return for each class the tokens of its phrases, usual ones first; see `set_phrases` for what follows."""
    encode = partial(tokenizer.encode, add_special_tokens=False)
    rows = []
    for entry in load_class_names():
        weights = phrases(entry, narrower=True)
        usual = sorted(weights, key=lambda phrase: -weights[phrase])
        rows.append([encode(f" {word}") for word in dict.fromkeys([*usual, *map(plural, usual)])])
    return [*rows, [encode(f" {phrase}") for phrase in NOT_CLASSES], [encode(END_OF_QUESTION)]]


def continuations(tokenizer: Any) -> list[int]:
    """Return the tokens that continue a word."""
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    return [token for token, text in enumerate(texts) if text[:1].isalpha()]


def set_tables(model: ElysiumForConditionalGeneration, processor: ElysiumProcessor) -> None:
    """Set the names and phrases of the classes, and how a prompt that describes an object begins."""
    projector, tokenizer = model.model.semantic_projector, processor.tokenizer
    projector.set_names(name_tokens(tokenizer))
    projector.set_phrases(phrase_tokens(tokenizer), continuations(tokenizer))
    opening = "\n" + processor.task_prompts["reg"].split("{box}")[0] + "["
    model.model.semantic_names.set_prompt(
        tokenizer.encode(opening, add_special_tokens=False),
        tokenizer.convert_tokens_to_ids([str(number) for number in range(100)]),
    )


@torch.no_grad()
def initialise_projector(model: ElysiumForConditionalGeneration) -> None:
    """Let names pass as they are, and everything else that evidence adds begin at nothing."""
    projector = model.model.semantic_projector
    torch.nn.init.eye_(projector.names.weight)
    torch.nn.init.normal_(projector.matches.weight, std=_MARK_DEVIATION)
    projector.matched_box.weight.copy_(projector.box.weight * _BOX_GAIN)
    for parameter in (projector.names.bias, projector.classes.weight, *projector.to_patches.parameters()):
        torch.nn.init.zeros_(parameter)


def add_encoders(
    model: ElysiumForConditionalGeneration, processor: ElysiumProcessor, encoders: Path
) -> tuple[ElysiumForConditionalGeneration, ElysiumProcessor]:
    """Return a model with the encoders in it, and its processor."""
    own = processor.video_processor
    config = ElysiumConfig.from_dict(model.config.to_dict())
    config.semantic_config = {"image_mean": own.image_mean, "image_std": own.image_std}
    config = ElysiumConfig.from_dict(config.to_dict())
    larger = ElysiumForConditionalGeneration(config)
    missing, unexpected = larger.load_state_dict(model.state_dict(), strict=False)
    assert not unexpected and all("semantic" in name for name in missing)
    larger.model.semantic_encoders.load_state_dict(
        {name: value.float() for name, value in load_file(encoders).items()}
    )
    initialise_projector(larger)
    set_tables(larger, processor)
    larger.generation_config = model.generation_config
    built = build_processor(
        config,
        processor.tokenizer,
        max_trained_frames=own.max_trained_frames,
        image_mean=own.image_mean,
        image_std=own.image_std,
    )
    built.tracking = processor.tracking
    return larger, built


def halfway_between(weights: dict[str, torch.Tensor], earlier: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the mean of two sets of trained weights, with the semantic projector of the first.

    It keeps what the earlier ones knew (Wortsman et al., CVPR 2022, arXiv 2109.01903).
    """
    return {
        name: value
        if ".semantic_projector." in name
        else ((value.float() + earlier[name].float()) / 2).to(value.dtype)
        for name, value in weights.items()
    }


@torch.no_grad()
def load_trained(model: ElysiumForConditionalGeneration, weights: dict[str, torch.Tensor]) -> None:
    """Load trained weights, those of earlier stages too, which had no marks, or marks of two numbers and no box."""
    projector, prefix = model.model.semantic_projector, "model.semantic_projector."
    marks = weights.get(f"{prefix}matches.weight")
    if marks is not None and marks.shape[1] == 2:
        weights[f"{prefix}matches.weight"] = torch.cat([marks / 2, marks], 1)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    kept = (".semantic_encoders.", ".semantic_names.gate.", *_TABLES, ".matches.weight", ".matched_box.weight")
    assert not unexpected and all(any(part in name for part in kept) for name in missing)
    if f"{prefix}matched_box.weight" in missing:
        projector.matched_box.weight.copy_(projector.box.weight * _BOX_GAIN)


def extract_trained(checkpoint: Path, output: Path) -> None:
    """Write the trained weights of a checkpoint, all but the encoders' and the tables of names, in half precision."""
    weights = load_file(checkpoint / "model.safetensors")
    kept = {
        name: value.half() if value.is_floating_point() else value
        for name, value in weights.items()
        if ".semantic_encoders." not in name and not name.endswith(_TABLES)
    }
    with atomic_path(output) as temporary:
        save_file(kept, temporary)
    shutil.copy(checkpoint / HEADS_FILE, output.with_name(HEADS_FILE))


def main(
    checkpoint: Annotated[str, typer.Argument(help="Checkpoint to start from; with --extract, the one to take from.")],
    encoders: Annotated[Path, typer.Argument(help="Weights of fetch_encoders; with --extract, the file to write.")],
    output: Annotated[Path | None, typer.Argument(help="Folder to write.")] = None,
    trained: Annotated[Path | None, typer.Option(help="Trained weights that --extract wrote.")] = None,
    halfway: Annotated[
        Path | None, typer.Option(help="Earlier trained weights; all but the projector's lie halfway to them.")
    ] = None,
    extract: Annotated[bool, typer.Option("--extract", help="Write the trained weights of a checkpoint.")] = False,
) -> None:
    """Write a checkpoint with semantic encoders, or the trained weights of one."""
    if extract:
        extract_trained(Path(checkpoint), encoders)
        print(f"Trained weights: {encoders}")
        return
    if output is None:
        raise typer.BadParameter("output must be a folder, got none; name where the checkpoint goes")
    torch.manual_seed(0)
    model, processor = add_encoders(*load_checkpoint(checkpoint, device="cpu"), encoders)
    if trained is not None:
        weights = load_file(trained)
        load_trained(model, weights if halfway is None else halfway_between(weights, load_file(halfway)))
        set_tables(model, processor)  # they may have changed
    with atomic_folder(output) as folder:
        save_checkpoint(model, processor, folder)
        if trained is not None:
            beside = trained.with_name(HEADS_FILE)
            shutil.copy(beside if beside.is_file() else KEPT_HEADS, folder)
    print(f"Checkpoint: {output}")


if __name__ == "__main__":
    typer.run(main)
