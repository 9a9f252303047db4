"""Fine-tune Elysium on images and videos with TRL: Model -> Dataset -> Training.

    elysium train cpu
    python -m elysium.training.sft --config training/recipes/cpu.yaml
    accelerate launch --config_file training/launch/fsdp2.yaml -m elysium.training.sft \\
        --config training/recipes/stage2a_instruct.yaml --output_dir runs/stage2a

A recipe is YAML; options on the command line override it. Fields: `ModelArguments` (TRL's `ModelConfig` and more) and
`DataArguments` (sft_arguments.py), and all of TRL's `SFTConfig`. `objective` trains on data and losses of one's own
(objective.py). A stopped run that is started again with the same
command resumes from its last checkpoint with the same batches and the same losses.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from elysium.processing.extras import missing_extra

try:
    from transformers import TrainerCallback, set_seed
    from trl import TrlParser, get_peft_config
except ImportError as error:
    missing_extra(error, __name__, extra="train")

from elysium.modeling_elysium import ElysiumForConditionalGeneration
from elysium.modeling_elysium.hub_folder_elysium import derived_from
from elysium.processing.processing_elysium import ElysiumProcessor
from elysium.readers.frame_sources import DatasetError
from elysium.tracking.checkpoints import resolve_checkpoint
from elysium.tracking.loading import load_checkpoint
from elysium.training.catalogue import open_source

from .collator import ElysiumCollator
from .held_out import HeldOutBoxes
from .mixture import Mixture, mix, stream
from .model_parts import freeze
from .objective import IndexedItems, build_objective, load_heads
from .run_record import RunRecorder
from .sft_arguments import DataArguments, ElysiumSFTConfig, ModelArguments, as_mapping
from .sft_trainer import ElysiumSFTTrainer
from .whole_checkpoints import last_whole_checkpoint

USAGE = "elysium train [RECIPE|FILE] [--FIELD VALUE ...], or %(prog)s [--config FILE] [--FIELD VALUE ...]"


def train(
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: ElysiumSFTConfig,
    *,
    callbacks: Sequence[TrainerCallback] = (),
) -> None:
    """Run training from its arguments to a checkpoint, its curves and its card in `output_dir`."""
    # Model
    model, processor = load_model(model_args, training_args)
    model.config.trained_on = model_args.trained_on or fine_tuned_on(model, data_args)
    model._loaded_trained_on = ""  # the sentence is of this run, also where the checkpoint has the same

    # Dataset
    objective = None
    if data_args.objective:
        set_seed(training_args.seed)
        arguments = as_mapping(data_args.objective_args, "objective_args")
        objective = build_objective(data_args.objective, arguments, model, processor, training_args)
        if objective.heads is not None:
            load_heads(objective.heads, Path(model.name_or_path))
    else:
        processor.state_trained_frames(data_args.max_frames)
        mixture = training_mixture(data_args, training_args)
    held_out = mix([open_source(spec) for spec in data_args.eval_sources]) if data_args.eval_data else None
    collate = partial(
        ElysiumCollator,
        processor=processor,
        plan=data_args,
        seed=training_args.seed,
        max_length=training_args.max_length,
        patches=round(model.config.num_patches**0.5),
    )
    boxes = None
    if held_out is not None and data_args.eval_boxes:
        batch_size = training_args.per_device_eval_batch_size
        boxes = HeldOutBoxes(held_out, processor, data_args, training_args.seed, data_args.eval_boxes, batch_size)

    collator: ElysiumCollator | IndexedItems
    if objective is None:
        collator, dataset = collate(mixture), mixture.dataset
    else:
        collator = IndexedItems(objective)
        dataset = collator.indices()

    # Training
    training_args.remove_unused_columns = False  # the collator takes whole items
    training_args.dataset_kwargs = {"skip_prepare_dataset": True}
    trainer = ElysiumSFTTrainer(
        model=model,
        args=training_args,
        train_dataset=dataset,
        eval_dataset=None if held_out is None else held_out.dataset,
        processing_class=processor,
        peft_config=get_peft_config(model_args),
        callbacks=list(callbacks),
        collator=collator,
        eval_collator=None if held_out is None else collate(held_out),
        learning_rates=model_args.learning_rates,
        max_broken_in_row=data_args.max_broken_in_row,
        held_out=boxes,
        objective=objective,
    )
    freeze(trainer.model, model_args.train_parts)
    recorder = RunRecorder(model_args, data_args, training_args, trainer)
    trainer.add_callback(recorder)
    resume = training_args.resume_from_checkpoint or last_whole_checkpoint(training_args.output_dir)
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_model()
    recorder.write_card()


def load_model(
    model_args: ModelArguments, training_args: ElysiumSFTConfig
) -> tuple[ElysiumForConditionalGeneration, ElysiumProcessor]:
    """Load model and processor on the CPU; the trainer moves the model."""
    name = model_args.model_name_or_path
    model, processor = load_checkpoint(name, device="cpu", dtype=model_args.dtype)
    model.set_attn_implementation(model_args.attn_implementation)
    if training_args.selector_loss > 0 and model.config.compressor != "t_selector":
        raise ValueError(
            f"selector_loss needs a model that selects tokens, got the compressor {model.config.compressor!r}; "
            "set it to 0"
        )
    # peft writes this name into an adapter as that of its base, which must be found from any folder.
    base = resolve_checkpoint(name)
    model.name_or_path = str(Path(base).resolve() if Path(base).is_dir() else base)
    return model.train(), processor


def fine_tuned_on(model: ElysiumForConditionalGeneration, data_args: DataArguments) -> str:
    """Return the `trained_on` sentence of the run's checkpoint: where it started, and the names of its data."""
    data = [Path(spec["path"]).name if "path" in spec else spec["source"] for spec in data_args.sources]
    names = ", ".join(dict.fromkeys(data or data_args.stream or [str(data_args.objective)]))
    return f"{derived_from(model.name_or_path, model.config.trained_on)}, fine-tuned on {names}"


def training_mixture(data_args: DataArguments, training_args: ElysiumSFTConfig) -> Mixture:
    """Return the mixture of training data.

    Raises:
        DatasetError: a source that cannot be opened, or weights in some of them only.
        ValueError: a stream without max_steps.
    """
    if data_args.stream:
        if training_args.max_steps <= 0:
            raise ValueError(
                "max_steps must be above 0 for a stream, which has no end, got none; set the number of steps"
            )
        return stream(
            data_args.stream,
            data_args.stream_weights or None,
            split=data_args.stream_split,
            seed=training_args.seed,
            buffer=data_args.stream_buffer,
        )
    specs = data_args.sources
    weights = [spec.get("weight") for spec in specs]
    if len({weight is None for weight in weights}) > 1:
        raise DatasetError(f"all sources or none must have a weight, got {weights}; add the missing ones")
    sources = [open_source({key: value for key, value in spec.items() if key != "weight"}) for spec in specs]
    step = training_args.train_batch_size * training_args.world_size * training_args.gradient_accumulation_steps
    return mix(sources, None if weights[0] is None else weights, seed=training_args.seed, at_least=step)


def main(arguments: list[str] | None = None, *, callbacks: Sequence[TrainerCallback] = ()) -> None:
    """Read the recipe and the command line, and train."""
    # Without a usage argparse lists all fields once more, also before an error.
    parser = TrlParser((ModelArguments, DataArguments, ElysiumSFTConfig), usage=USAGE)
    try:
        train(*parser.parse_args_and_config(arguments), callbacks=callbacks)
    except (ValueError, OSError) as error:  # what the package raises is written for users
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
