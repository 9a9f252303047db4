"""Where the time of a training step of elysium-tiny goes, and what other ways to compute it cost.

    OMP_NUM_THREADS=1 python -m research.tiny.step_profile

One process, one thread, losses of the windows' recipe (5 clips of 8 frames, 10 questions each, coloured shapes). A
step is: data, vision forward, the rest of the forward (language model and losses), backward, optimizer. The step as it
is trained (bfloat16 autocast, plain attention) is the baseline; beside it stand float32 and fused attention (sdpa),
which gives no attention to look at: its step is without the attention loss, less work than the baseline's.
Then the vision tower alone, forward, on a window of 8 frames: float32, bfloat16, compiled; on the frames of a batch,
each once, and once for each of its 10 questions. All in turns; the fastest turn counts, since other work on a
machine only slows it. The last line is JSON.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.bench import hardware
from elysium.tracking.loading import load_checkpoint
from research.scenes.world import StudyConfig
from research.tiny.data import BatchPlan, TinyBatches
from research.tiny.losses import TinyTrainingModel
from research.tiny.optimizers import MuonWithAdamW

RECIPE = Path(__file__).parent / "recipes" / "tiny_windows.yaml"
FRAMES, CLIPS = 8, 5
PARTS = ("data", "vision", "language", "backward", "optimizer")
STEPS = {
    "as trained: bfloat16, plain attention": ("eager", True),
    "float32": ("eager", False),
    "fused attention (sdpa), no attention loss": ("sdpa", True),
}


class Step:
    """A training step whose parts can be timed.

    Args:
        checkpoint: folder or name of the model.
        batches: how many different batches are drawn; turns go round them.
    """

    def __init__(self, checkpoint: str, batches: int):
        self.model, processor = load_checkpoint(checkpoint, device="cpu")
        recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
        plan = BatchPlan(
            frames={FRAMES: 1.0},
            clips_per_batch={FRAMES: CLIPS},
            scene=StudyConfig(num_objects=(3, 6)),
            questions="glimpses",
        )
        vision: Any = self.model.config.vision_config
        sizes = {"image_size": vision.image_size, "patch_size": vision.patch_size}
        worlds = plan.build_worlds(seed=0)
        self.data = TinyBatches(processor, plan, worlds, num_batches=batches, seed=0, ranks=1, **sizes)
        words = {"colours": self.data.colours, "kinds": self.data.kinds}
        self.network = TinyTrainingModel(self.model, processor, recipe["losses"], **words).train()
        self.optimizer = MuonWithAdamW(self.network, lr=1e-5, weight_decay=0.0)

    def run(self, number: int, *, attention: str, half: bool) -> dict[str, float]:
        """Seconds of each part of one step."""
        self.model.set_attn_implementation(attention)
        marks = [time.perf_counter()]
        batch = self.data[number % len(self.data)]
        marks.append(time.perf_counter())
        vision_s = 0.0

        def before(*_: Any) -> None:
            nonlocal vision_s
            vision_s -= time.perf_counter()

        def after(*_: Any) -> None:
            nonlocal vision_s
            vision_s += time.perf_counter()

        tower = self.model.model.vision_tower
        hooks = [tower.register_forward_pre_hook(before), tower.register_forward_hook(after)]
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = self.network(**batch)["loss"]
        for hook in hooks:
            hook.remove()
        marks.append(time.perf_counter())
        loss.backward()
        marks.append(time.perf_counter())
        self.optimizer.step()
        self.optimizer.zero_grad()
        marks.append(time.perf_counter())
        data_s, forward_s, backward_s, optimizer_s = (
            end - start for start, end in zip(marks, marks[1:], strict=False)
        )
        return dict(zip(PARTS, (data_s, vision_s, forward_s - vision_s, backward_s, optimizer_s), strict=True))


def fastest(turns: int, ways: dict[str, Callable[[int], dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Each way's parts in its fastest turn; all take turns, and a first one that does not count."""
    best: dict[str, dict[str, float]] = {}
    for turn in range(turns + 1):
        for name, way in ways.items():
            parts = way(turn)
            if turn and (name not in best or sum(parts.values()) < sum(best[name].values())):
                best[name] = parts
    return best


def vision_ways(model: Any) -> dict[str, Callable[[int], dict[str, float]]]:
    """The vision tower alone: a window of 8 frames, and a batch of 5, each frame once and for each question."""
    size = model.config.vision_config.image_size
    tower = model.model.vision_tower
    compiled = torch.compile(tower)
    windows = torch.randn(CLIPS * FRAMES, 3, size, size)

    def timed(network: Callable, pixels: torch.Tensor, half: bool) -> dict[str, float]:
        start_s = time.perf_counter()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            network(pixels)
        return {"vision": time.perf_counter() - start_s}

    return {
        "tower: float32": lambda _: timed(tower, windows[:FRAMES], False),
        "tower: bfloat16": lambda _: timed(tower, windows[:FRAMES], True),
        "tower: compiled, float32": lambda _: timed(compiled, windows[:FRAMES], False),
        "tower: 5 windows, each frame once": lambda _: timed(tower, windows, False),
        "tower: 5 windows, each frame for 10 questions": lambda _: timed(tower, windows.repeat(10, 1, 1, 1), False),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="elysium-tiny")
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    step = Step(arguments.model, arguments.turns)
    ways: dict[str, Callable[[int], dict[str, float]]] = {
        name: partial(step.run, attention=attention, half=half) for name, (attention, half) in STEPS.items()
    }
    best = fastest(arguments.turns, ways)
    step.model.eval()
    best |= fastest(arguments.turns, vision_ways(step.model))
    base = sum(best[next(iter(STEPS))].values())
    print(f"{'way':<48}" + "".join(f"{part:>11}" for part in PARTS) + f"{'total':>9}{'ratio':>7}")
    for name, parts in best.items():
        total = sum(parts.values())
        ratio = f"{total / base:>7.2f}" if name in STEPS else ""
        cells = "".join(f"{parts[part]:>11.3f}" if part in parts else f"{'':>11}" for part in PARTS)
        print(f"{name:<48}{cells}{total:>9.3f}{ratio}")
    rounded = {name: {part: round(value, 4) for part, value in parts.items()} for name, parts in best.items()}
    print(json.dumps({"hardware": hardware(), "threads": torch.get_num_threads(), "seconds": rounded}))


if __name__ == "__main__":
    main()
