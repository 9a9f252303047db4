"""elysium-tiny before training: configuration, tokenizer, processor and initial weights.

python -m research.tiny.checkpoint runs/tiny_start --tower runs/tower.safetensors
"""

import math
import os
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from safetensors.torch import load_file
from torch import nn
from transformers import GenerationConfig, PreTrainedTokenizerFast

from elysium.modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from elysium.processing.atomic_files import atomic_folder
from elysium.processing.build_processor import build_processor
from elysium.processing.processing_elysium import ElysiumProcessor
from elysium.tracking.checkpoints import SHIPPED

TRAINED_ON = (
    "trained on synthetic scenes (emoji, cut-out photographs and coloured shapes that move over pictures); words work "
    "for the things that are in them"
)
# Mean and deviation of the pictures that the pretrained tower is used to.
TOWER_MEAN, TOWER_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Load elysium-tiny's tokenizer, byte-level BPE of 4,096 pieces, which is kept as data in the shipped checkpoint.

    It has no unknown token; 0..100 are single tokens; `[`, `,`, `]`, `:` and the frame label never merge with their
    neighbours, so that a box is always the same 9 tokens whatever stands around it.
    """
    return PreTrainedTokenizerFast.from_pretrained(SHIPPED / "elysium-tiny")


def build_config(model: dict[str, Any], tokenizer: Any) -> ElysiumConfig:
    """The configuration of a small Elysium.

    Args:
        model: the recipe's ``model`` section: image_size, num_kept_tokens, text_width, text_layers; vision_width,
            vision_layers and patch_size of a tower that learns from nothing, or tower, a pretrained one's weights.
    """
    text_width = model["text_width"]
    return ElysiumConfig(
        vision_config=_vision_config(model),
        vision_prefix_tokens=0 if "tower" in model else 1,
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": text_width,
            "intermediate_size": text_width * 8 // 3 // 32 * 32,
            "num_hidden_layers": model["text_layers"],
            "num_attention_heads": text_width // 32,
            "num_key_value_heads": text_width // 32,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        num_kept_tokens=model["num_kept_tokens"],
        vision_feature_layer=-1,
        vision_feature_norm=True,
        kept_position_embedding=True,
        trained_on=TRAINED_ON,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _vision_config(model: dict[str, Any]) -> dict[str, Any]:
    if "tower" in model:
        return {"model_type": "elysium_tiny_vit", "image_size": model["image_size"]}
    return {
        "model_type": "clip_vision_model",
        "hidden_size": model["vision_width"],
        "intermediate_size": 4 * model["vision_width"],
        "num_hidden_layers": model["vision_layers"],
        "num_attention_heads": model["vision_width"] // 32,
        "image_size": model["image_size"],
        "patch_size": model["patch_size"],
        "hidden_act": "gelu_pytorch_tanh",
        "projection_dim": model["vision_width"],
    }


def grid_waves(side: int, width: int) -> torch.Tensor:
    """(side * side, width): sines and cosines of a patch's column and row, as a start for learned positions."""
    frequency = torch.exp(torch.linspace(math.log(0.5), math.log(12), width // 4)) * 2 * math.pi
    place = (torch.arange(side) + 0.5) / side
    waves = torch.cat([(place[:, None] * frequency).sin(), (place[:, None] * frequency).cos()], dim=1)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.cat([waves[columns.flatten()], waves[rows.flatten()]], dim=1)


@torch.no_grad()
def initialise(model: ElysiumForConditionalGeneration, tokenizer: Any) -> None:
    """Weights to start from when nothing is pretrained.

    transformers' default (normal, 0.02) makes a network this narrow learn slowly: linear layers start at
    1/sqrt(fan-in) with the residual branches at 0.3 of that, places and integers start as waves, so that near places
    and near integers are alike from the first step.
    """
    config, core = model.config, model.model
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for layer in core.language_model.layers:
        layer.self_attn.o_proj.weight.mul_(0.3)
        layer.mlp.down_proj.weight.mul_(0.3)
    model.lm_head.weight.mul_(0.3)
    side = config.vision_config.image_size // config.vision_config.patch_size
    if config.vision_config.model_type == "clip_vision_model":
        _initialise_clip(core.vision_tower, side)
    text_width = config.text_config.hidden_size
    core.kept_position_embedding.weight.copy_(grid_waves(side, text_width) * 0.4)
    table = core.language_model.embed_tokens.weight
    nn.init.normal_(table, std=0.3)
    number = torch.arange(100) / 100
    frequency = torch.exp(torch.linspace(math.log(0.5), math.log(12), text_width // 4)) * 2 * math.pi
    waves = torch.cat([(number[:, None] * frequency).sin(), (number[:, None] * frequency).cos()], dim=1)
    ids = [tokenizer.convert_tokens_to_ids(str(n)) for n in range(100)]
    table[ids, : waves.shape[1]] = waves * 0.4


@torch.no_grad()
def _initialise_clip(tower: nn.Module, side: int) -> None:
    for layer in tower.encoder.layers:
        layer.self_attn.out_proj.weight.mul_(0.3)
        layer.mlp.fc2.weight.mul_(0.3)
    embeddings = tower.embeddings
    nn.init.normal_(embeddings.patch_embedding.weight, std=embeddings.patch_embedding.weight[0].numel() ** -0.5)
    width = embeddings.embed_dim
    embeddings.position_embedding.weight[1:, : width // 4 * 4] = grid_waves(side, width) * 0.5


def load_tower(network: ElysiumForConditionalGeneration, path: str | os.PathLike) -> None:
    """Puts a pretrained tower (see `fetch_tower`) into the model.

    Raises:
        ValueError: no such file, or weights of another tower.
    """
    tower = network.model.vision_tower
    if not Path(path).is_file():
        raise ValueError(f"tower must be a file of fetch_tower, got {path}; run python -m research.tiny.fetch_tower")
    tower.load_state_dict(load_file(path))


def build_tiny(model: dict[str, Any]) -> tuple[ElysiumForConditionalGeneration, ElysiumProcessor]:
    """Untrained model and processor.

    Args:
        model: the recipe's ``model`` section, see `build_config`.
    """
    tokenizer = load_tiny_tokenizer()
    config = build_config(model, tokenizer)
    network = ElysiumForConditionalGeneration(config)
    initialise(network, tokenizer)
    if "tower" in model:
        load_tower(network, model["tower"])
    network.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=512,
    )
    pictures = {"image_mean": TOWER_MEAN, "image_std": TOWER_STD} if "tower" in model else {}
    return network, build_processor(config, tokenizer, **pictures)


def save_checkpoint(
    model: ElysiumForConditionalGeneration,
    processor: ElysiumProcessor,
    folder: str | os.PathLike,
    *,
    half: bool = False,
    trained_on: str | None = None,
) -> None:
    """Writes weights (safetensors), configuration, processor and tokenizer.

    Args:
        half: stores the weights in half precision, in half the space; the configuration goes on to say float32, and
            as that they load.
        trained_on: sentence on the training data of these weights, see `ElysiumPreTrainedModel.save_pretrained`.
    """
    weights = model.state_dict().items()
    halves = {name: value.half() if value.is_floating_point() else value for name, value in weights} if half else None
    model.save_pretrained(folder, trained_on=trained_on, **({"state_dict": halves} if half else {}))
    processor.save_pretrained(folder)


def main(
    output: Annotated[Path, typer.Argument(help="Checkpoint folder to write.")],
    tower: Annotated[Path, typer.Option(help="Weights of the vision tower, of fetch_tower.")],
    image_size: Annotated[int, typer.Option(help="Side of the pictures in pixels.")] = 160,
    num_kept_tokens: Annotated[int, typer.Option(help="Tokens kept of a frame.")] = 25,
    text_width: Annotated[int, typer.Option(help="Width of the language model.")] = 192,
    text_layers: Annotated[int, typer.Option(help="Layers of the language model.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the initial weights.")] = 1,
) -> None:
    """Writes elysium-tiny as it is before its first stage."""
    torch.manual_seed(seed)
    sizes = {"image_size": image_size, "num_kept_tokens": num_kept_tokens}
    network, processor = build_tiny({"tower": tower, "text_width": text_width, "text_layers": text_layers} | sizes)
    with atomic_folder(output) as folder:
        save_checkpoint(network, processor, folder)


if __name__ == "__main__":
    typer.run(main)
