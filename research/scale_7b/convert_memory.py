"""Memory of `elysium convert` on a release of full size: 7B random weights in the public format, in shards.

    python -m research.scale_7b.convert_memory FOLDER [--kind bin]  # 14.1 GB there, and as much for ours

The conversion runs in a process of its own; its largest resident memory is compared with two shards and 1 GB. The last
line is JSON. The folder is emptied again at the end.
"""

import argparse
import json
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks.bench import hardware
from elysium.modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from elysium.modeling_elysium.convert_elysium_weights import EMBEDDING, HEAD, TABLES, convert
from elysium.modeling_elysium.released_elysium import NUM_PLACEHOLDERS

SHARD_BYTES = 2 * 10**9
CONFIG = {
    "model_type": "elysium",
    "architectures": ["ElysiumForCausalLM"],
    "hidden_size": 4096,
    "llm_config": {"pretrained_model_name_or_path": "lmsys/vicuna-7b-v1.5"},
    "visual_config": {"pretrained_model_name_or_path": "openai/clip-vit-large-patch14-336"},
    "adapter_config": {"in_token_num": 576, "out_token_num": 108, "num_features": 1024},
    "projector_config": {"type": "mlp2x_gelu"},
}
RELEASED = (
    (r"^model\.vision_tower\.", "visual_encoder.vision_model."),
    (r"^model\.selector\.", "adapter."),
    (r"^model\.multi_modal_projector\.linear_1\.", "llm_proj.0."),
    (r"^model\.multi_modal_projector\.linear_2\.", "llm_proj.2."),
    (r"^model\.language_model\.", "llm.model."),
)


def released_name(ours: str) -> str:
    """Name of a weight in the public format.

    >>> released_name("model.multi_modal_projector.linear_2.bias")
    'llm_proj.2.bias'
    """
    tables = {name: released for released, name in TABLES.items()}
    if ours in tables:
        return tables[ours]
    for pattern, released in RELEASED:
        ours = re.sub(pattern, released, ours)
    return ours


def write_release(folder: Path, kind: str) -> list[int]:
    """A release of random bfloat16 weights; the bytes of its shards."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    with torch.device("meta"):
        model = ElysiumForConditionalGeneration(ElysiumConfig.from_pretrained(folder))
    shards: list[dict[str, torch.Size]] = [{}]
    size = 0
    for name, tensor in model.state_dict().items():
        shape = tensor.shape
        if name in (EMBEDDING, HEAD):
            shape = torch.Size((shape[0] - NUM_PLACEHOLDERS, shape[1]))
        if size + shape.numel() * 2 > SHARD_BYTES and shards[-1]:
            shards.append({})
            size = 0
        shards[-1][released_name(name)] = shape
        size += shape.numel() * 2
    stem, suffix = ("model", "safetensors") if kind == "safetensors" else ("pytorch_model", "bin")
    weight_map: dict[str, str] = {}
    for number, shapes in enumerate(shards, start=1):
        file = f"{stem}-{number:05d}-of-{len(shards):05d}.{suffix}"
        tensors = {name: torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02) for name, shape in shapes.items()}
        if kind == "safetensors":
            save_file(tensors, folder / file, metadata={"format": "pt"})
        else:
            torch.save(tensors, folder / file)
        weight_map |= dict.fromkeys(tensors, file)
        print(f"{file}: {len(tensors)} weights", file=sys.stderr)
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return [(folder / file).stat().st_size for file in sorted(set(weight_map.values()))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=("safetensors", "bin"), default="safetensors")
    parser.add_argument("--convert-only", action="store_true", help=argparse.SUPPRESS)  # the process that is measured
    arguments = parser.parse_args()
    release, ours = arguments.folder / "elysium_7b", arguments.folder / "elysium-7b"
    if arguments.convert_only:
        report = convert(release, ours)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"num_parameters": report.num_parameters, "peak_bytes": peak}))
        return
    sizes = write_release(release, arguments.kind)
    start = time.perf_counter()
    command = [sys.executable, "-m", __spec__.name, str(arguments.folder), "--convert-only"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    found = json.loads(done.stdout.splitlines()[-1]) | {"convert_s": time.perf_counter() - start}
    limit = 2 * max(sizes) + 10**9
    found |= {"largest_shard_bytes": max(sizes), "limit_bytes": limit, "peak_over_limit": found["peak_bytes"] / limit}
    for name, value in found.items():
        print(f"{name:<22}{value:>16,.2f}" if isinstance(value, float) else f"{name:<22}{value:>16,}")
    shutil.rmtree(release)
    shutil.rmtree(ours)
    print(json.dumps(found | {"kind": arguments.kind, "hardware": hardware()}))


if __name__ == "__main__":
    main()
