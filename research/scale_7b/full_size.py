"""Elysium at its full size on a CPU: parameters by part, and what loading a folder `elysium-7b` takes.

    python -m research.scale_7b.full_size count                    # on the meta device, no weights
    python -m research.scale_7b.full_size write elysium-7b         # random bfloat16 weights, 14.1 GB in shards
    python -m research.scale_7b.full_size load elysium-7b          # AutoModel.from_pretrained, then one frame
    python -m research.scale_7b.full_size quantize elysium-7b nf4  # or int8: writes elysium-7b-nf4; then load that

`load` and `quantize` run in a process of their own. `load` compares its largest resident memory, after one frame went
through (the files are mapped: loading alone reads next to nothing), with the size of its weights. The last line is
JSON.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import elysium  # noqa: F401  (registers the Auto classes)
from benchmarks.bench import hardware
from elysium.modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from elysium.processing.atomic_files import atomic_folder

SHARD_BYTES = 2 * 10**9


def build_on_meta() -> ElysiumForConditionalGeneration:
    """The default configuration, which is the 7B model, without memory for its weights."""
    with torch.device("meta"):
        return ElysiumForConditionalGeneration(ElysiumConfig(dtype=torch.bfloat16))


def count() -> dict[str, int]:
    """Parameters of each part, and of all of it."""
    model = build_on_meta()
    parts = dict(model.model.named_children()) | {"lm_head": model.lm_head}
    numbers = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    return numbers | {"total": sum(p.numel() for p in model.parameters())}


def write(out: Path) -> dict[str, int]:
    """A whole checkpoint folder of random weights, normal with deviation 0.02, one shard in memory at a time."""
    model = build_on_meta()
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    shards: list[list[str]] = [[]]
    size = 0
    for name, shape in shapes.items():
        if size + shape.numel() * 2 > SHARD_BYTES and shards[-1]:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += shape.numel() * 2
    generator = torch.Generator().manual_seed(0)
    total = sum(shape.numel() for shape in shapes.values()) * 2
    with atomic_folder(out) as folder:
        weight_map: dict[str, str] = {}
        for number, names in enumerate(shards, start=1):
            file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            tensors = {
                name: torch.empty(shapes[name], dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)
                for name in names
            }
            save_file(tensors, folder / file, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(names, file)
            print(f"{file}: {len(names)} weights", file=sys.stderr)
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
        model.save_code_and_config(folder)
    return {"num_shards": len(shards), "weight_bytes": total}


def quantize_here(name: str, precision: str) -> dict[str, float]:
    """Loads the language model quantized, what sees as it is, and saves that beside the folder."""
    from transformers import AutoModel, BitsAndBytesConfig

    kinds: dict[str, dict[str, Any]] = {
        "int8": {"load_in_8bit": True},
        "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16},
    }
    eyes = [rf"(model\.)?{part}" for part in ("vision_tower", "selector", "multi_modal_projector")]
    config = BitsAndBytesConfig(**kinds[precision], llm_int8_skip_modules=eyes)
    start = time.perf_counter()
    model = AutoModel.from_pretrained(name, dtype=torch.bfloat16, quantization_config=config, device_map="cpu")
    loaded = time.perf_counter()
    with atomic_folder(f"{name}-{precision}") as folder:
        model.save_pretrained(folder)
        disk = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"disk_bytes": disk, "peak_bytes": peak, "quantize_s": loaded - start}


def load_here(name: str) -> dict[str, float]:
    """What a user types, and one frame; for a process of its own."""
    from transformers import AutoModel

    start = time.perf_counter()
    model = AutoModel.from_pretrained(name, dtype=torch.bfloat16, device_map="cpu")
    loaded = time.perf_counter()
    peak_loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    config = model.config
    ids = torch.tensor([[1, *[config.video_token_id] * config.num_kept_tokens, 29871]])
    side = config.vision_config.image_size
    with torch.no_grad():
        pixels = torch.zeros(1, 3, side, side, dtype=torch.bfloat16)
        out = model(input_ids=ids, pixel_values_videos=pixels).last_hidden_state
    if out.shape != (1, ids.shape[1], config.text_config.hidden_size) or not torch.isfinite(out).all():
        raise ValueError(f"a forward pass must give finite states, got {tuple(out.shape)}")
    return {
        "weight_bytes": sum(p.nbytes for p in model.parameters()),
        "peak_bytes": peak_loaded,
        "peak_with_forward_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "load_s": loaded - start,
        "forward_s": time.perf_counter() - loaded,
    }


def in_a_fresh_process(action: str, folder: Path, *options: str) -> dict[str, float]:
    """From the folder's parent, so that the name is all that is typed."""
    command = [sys.executable, "-m", __spec__.name, action, folder.name, *options]
    done = subprocess.run(
        command, cwd=folder.resolve().parent, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def load(folder: Path) -> dict[str, float]:
    """`load_here` in a fresh process."""
    found = in_a_fresh_process("load-here", folder)
    return found | {"peak_over_weights": found["peak_with_forward_bytes"] / found["weight_bytes"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("count", "write", "load", "load-here", "quantize", "quantize-here"))
    parser.add_argument("folder", nargs="?", type=Path, default=Path("elysium-7b"))
    parser.add_argument("precision", nargs="?", choices=("int8", "nf4"), default="nf4", help="of quantize")
    arguments = parser.parse_args()
    action, folder = arguments.action, arguments.folder
    if action.endswith("-here"):
        loading = action == "load-here"
        print(json.dumps(load_here(str(folder)) if loading else quantize_here(str(folder), arguments.precision)))
        return
    actions: dict[str, Callable[[], dict[str, Any]]] = {
        "count": count,
        "write": lambda: write(folder),
        "load": lambda: load(folder),
        "quantize": lambda: in_a_fresh_process("quantize-here", folder, arguments.precision),
    }
    found = actions[action]()
    for name, value in found.items():
        print(f"{name:<26}{value:>16,.2f}" if isinstance(value, float) else f"{name:<26}{value:>16,}")
    print(json.dumps(found | {"hardware": hardware()}))


if __name__ == "__main__":
    main()
