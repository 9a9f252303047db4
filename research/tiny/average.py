"""The mean of a run's last saves, as a checkpoint: late weights wander about a better place than any of them.

    python -m research.tiny.average runs/tiny_held runs/tiny --start runs/tiny_lost --last 4

Weight averaging: Izmailov et al., UAI 2018, arXiv 1803.05407. With ``--last 1`` it writes one save, such as one from
the middle of a run (``--until 900``), as a checkpoint. ``--halfway`` keeps half of an earlier checkpoint, and what
it knew (weights of one run that were trained on: Wortsman et al., CVPR 2022, arXiv 2109.01903).
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import load_file

from elysium.modeling_elysium import ElysiumForConditionalGeneration
from elysium.processing.processing_elysium import ElysiumProcessor

from .checkpoint import TRAINED_ON, save_checkpoint


def choose_saves(run: Path, last: int, until: int | None = None) -> list[Path]:
    """The folders of a run's last saves, in the order of their steps.

    Raises:
        ValueError: fewer saves than are asked for.
    """
    steps = sorted(int(folder.name.split("-")[1]) for folder in run.glob("checkpoint-*"))
    wanted = [step for step in steps if until is None or step <= until][-last:]
    if len(wanted) < last:
        raise ValueError(f"a run must hold {last} saves named checkpoint-N, got {len(wanted)} in {run}")
    return [run / f"checkpoint-{step}" for step in wanted]


def average_weights(saves: list[Path]) -> dict[str, torch.Tensor]:
    """The mean of the model's weights over saves, in float32."""
    total: dict[str, torch.Tensor] = {}
    for save in saves:
        for name, value in load_file(save / "model.safetensors").items():
            total[name] = total[name] + value.float() if name in total else value.float()
    return {name: value / len(saves) for name, value in total.items()}


def main(
    run: Annotated[Path, typer.Argument(help="Run folder of a stage.")],
    output: Annotated[Path, typer.Argument(help="Checkpoint folder to write.")],
    start: Annotated[Path, typer.Option(help="Checkpoint with the run's configuration and processor.")],
    last: Annotated[int, typer.Option(min=1, help="How many saves.")] = 3,
    until: Annotated[int | None, typer.Option(help="No save of a later step.")] = None,
    absent_log_odds: Annotated[float, typer.Option(help="Of the processor: how readily it says `none`.")] = 0.0,
    halfway: Annotated[
        Path | None, typer.Option(help="A checkpoint; write what lies halfway between it and the mean.")
    ] = None,
    tracking_zoom: Annotated[
        float, typer.Option(help="Of the processor: the zoom to track with; 0 looks once.")
    ] = 0.0,
) -> None:
    """Averages saves into a checkpoint."""
    saves = choose_saves(run, last, until)
    model = ElysiumForConditionalGeneration.from_pretrained(start, dtype=torch.float32)
    weights = average_weights(saves)
    if halfway is not None:
        other = ElysiumForConditionalGeneration.from_pretrained(halfway, dtype=torch.float32).state_dict()
        weights = {name: (value + other[name]) / 2 for name, value in weights.items()}
    model.load_state_dict(weights)
    processor = ElysiumProcessor.from_pretrained(start)
    processor.tracking = {"zoom": tracking_zoom, "absent_log_odds": absent_log_odds}
    save_checkpoint(model, processor, output, half=True, trained_on=TRAINED_ON)
    mean = f"mean of {', '.join(save.name for save in saves)}"
    print(f"Checkpoint: {output} ({mean if halfway is None else f'halfway between {halfway} and the {mean}'})")


if __name__ == "__main__":
    typer.run(main)
