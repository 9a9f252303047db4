"""One of two processes that take steps with the settings of a launch file, which stand in its environment.

    torchrun --nproc_per_node 2 tests/sharded_steps.py REPORT.json

On a CPU, accelerate does not shard; what it shards with does, and is called here as it calls it.
"""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DeepSpeedPlugin, FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from tiny import tiny_model


def sample(model: Any, frames: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """So many frames of noise and a few words."""
    config = model.config
    visual = [config.video_token_id] * (config.num_kept_tokens * frames)
    ids = torch.tensor([[1, *visual, 50, 60, 70, 80]])
    side = config.vision_config.image_size
    pixels = torch.randn(frames, 3, side, side, generator=torch.Generator().manual_seed(frames))
    return {"input_ids": ids, "labels": ids.clone(), "pixel_values_videos": pixels.to(dtype)}


def mean(loss: torch.Tensor) -> float:
    """Of the two processes."""
    both = loss.detach().float().clone()
    torch.distributed.all_reduce(both)
    return float(both) / 2


def fsdp2_steps(model: Any, batch: dict[str, torch.Tensor], steps: int) -> tuple[list[float], dict[str, int]]:
    """Losses, and bytes of this process."""
    plugin = FullyShardedDataParallelPlugin()
    plugin.set_mixed_precision(os.environ["ACCELERATE_MIXED_PRECISION"])
    accelerator = SimpleNamespace(
        state=SimpleNamespace(fsdp_plugin=plugin),
        mixed_precision=os.environ["ACCELERATE_MIXED_PRECISION"],
        is_main_process=torch.distributed.get_rank() == 0,
        device=torch.device("cpu"),
    )
    model = fsdp2_prepare_model(accelerator, model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        losses.append(mean(loss))
    kept = {
        "weights": list(model.parameters()),
        "gradients": [weight.grad for weight in model.parameters()],
        "optimizer": [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")],
    }
    return losses, {kind: sum(tensor.to_local().nbytes for tensor in tensors) for kind, tensors in kept.items()}


def deepspeed_config(*, samples: int, accumulation: int, clipping: float) -> dict[str, Any]:
    """What accelerate makes of the settings for DeepSpeed, with what a recipe decides filled in."""
    plugin = DeepSpeedPlugin()
    plugin.set_mixed_precision(os.environ["ACCELERATE_MIXED_PRECISION"])
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    plugin.deepspeed_config_process(
        must_match=False,
        train_batch_size=samples * accumulation * processes,
        train_micro_batch_size_per_gpu=samples,
        gradient_accumulation_steps=accumulation,
        gradient_clipping=clipping,
    )
    return plugin.deepspeed_config


def deepspeed_steps(model: Any, batch: dict[str, torch.Tensor], steps: int) -> tuple[list[float], dict[str, int]]:
    """Losses, and bytes of this process (gradients are gone after a step)."""
    import deepspeed

    config = deepspeed_config(samples=1, accumulation=1, clipping=1.0)
    config["zero_allow_untested_optimizer"] = True  # torch's AdamW: DeepSpeed's own would be compiled
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    engine, sharded, _, _ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    losses = []
    for _ in range(steps):
        loss = engine(**batch).loss
        engine.backward(loss)
        engine.step()
        losses.append(mean(loss))
    weights = [getattr(weight, "ds_tensor", weight) for weight in engine.module.parameters()]
    copies = getattr(sharded, "fp32_partitioned_groups_flat", None) or [
        weight for group in sharded.optimizer.param_groups for weight in group["params"]
    ]
    moments = [s[name] for s in sharded.optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    return losses, {
        "weights": sum(tensor.nbytes for tensor in weights),
        "optimizer": sum(tensor.nbytes for tensor in (*copies, *moments)),
    }


def take_steps(report: Path) -> None:
    """Trains the tiny model for a few steps beside another process, with another number of frames."""
    PartialState(cpu=True)
    whole = tiny_model().to(torch.bfloat16)
    batch = sample(whole, 2 + torch.distributed.get_rank(), torch.bfloat16)
    with torch.no_grad():
        whole_model_loss = mean(whole(**batch).loss)
    model = tiny_model().train()
    steps = deepspeed_steps if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true" else fsdp2_steps
    losses, kept = steps(model, batch, 4)
    if torch.distributed.get_rank() == 0:
        parameters = sum(weight.numel() for weight in whole.parameters())
        found = {"losses": losses, "whole_model_loss": whole_model_loss, "bytes": kept, "parameters": parameters}
        report.write_text(json.dumps(found), "utf-8")
    torch.distributed.barrier()  # one that leaves early takes the threads of the other down
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    take_steps(Path(sys.argv[1]))
