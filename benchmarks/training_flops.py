"""FLOPs of training Elysium, from its configuration alone, and the share of a machine's peak that a step reaches.

Counted are the multiplications and additions of matrix products (2 for each pair), forward and backward, as
`torch.utils.flop_counter` counts them and a test holds them together. Attention counts whole, not its causal half, and
what gradient checkpointing computes again does not count: the convention of PaLM (arXiv 2204.02311, appendix B), so
that figures compare with those of others.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

PARTS = ("vision_tower", "selector", "multi_modal_projector", "language_model", "lm_head")
# What LoRA adapts here: all linear layers of the language model, by (inputs, outputs) of each in `ModelShape.linears`.
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# Dense bfloat16 FLOP/s by a part of the card's name, from NVIDIA's data sheets.
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12}


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """The sizes that decide what training costs.

    Args:
        vision_layers, vision_width, vision_mlp, vision_heads: of the vision tower, as far as it is built.
        patches: N, patches of a frame.
        prefix: tokens of the tower before the patches.
        patch_values: numbers in a patch, 3 for each pixel.
        selector_width: hidden width of the scoring MLP.
        kept: K, tokens of a frame that reach the language model.
        text_layers, text_width, text_mlp: of the language model (D is the width).
        heads, key_heads, head_size: of its attention.
        vocabulary: rows of the embedding and of the head.
    """

    vision_layers: int
    vision_width: int
    vision_mlp: int
    vision_heads: int
    patches: int
    prefix: int
    patch_values: int
    selector_width: int
    kept: int
    text_layers: int
    text_width: int
    text_mlp: int
    heads: int
    key_heads: int
    head_size: int
    vocabulary: int

    @classmethod
    def of(cls, config: Any) -> "ModelShape":
        """Of an `ElysiumConfig`.

        Raises:
            ValueError: parts whose cost is not known here.
        """
        vision, text = config.vision_config, config.text_config
        built = (config.compressor, config.selector_gate, config.projector_type, vision.model_type, text.model_type)
        known = ("t_selector", "softmax_topk", "mlp2x_gelu", "clip_vision_model", "llama")
        if built != known:
            raise ValueError(f"the cost is known for {', '.join(known)} only, got {', '.join(built)}")
        return cls(
            vision_layers=vision.num_hidden_layers + config.vision_feature_layer + 1,
            vision_width=vision.hidden_size,
            vision_mlp=vision.intermediate_size,
            vision_heads=vision.num_attention_heads,
            patches=config.num_patches,
            prefix=config.vision_prefix_tokens,
            patch_values=3 * vision.patch_size**2,
            selector_width=config.selector_hidden_size,
            kept=config.num_kept_tokens,
            text_layers=text.num_hidden_layers,
            text_width=text.hidden_size,
            text_mlp=text.intermediate_size,
            heads=text.num_attention_heads,
            key_heads=text.num_key_value_heads,
            head_size=text.head_dim,
            vocabulary=text.vocab_size,
        )

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of the linear layers of one layer of the language model."""
        width, queries, keys = self.text_width, self.heads * self.head_size, self.key_heads * self.head_size
        return {
            "q_proj": (width, queries),
            "k_proj": (width, keys),
            "v_proj": (width, keys),
            "o_proj": (queries, width),
            "gate_proj": (width, self.text_mlp),
            "up_proj": (width, self.text_mlp),
            "down_proj": (self.text_mlp, width),
        }

    def lora_parameters(self, rank: int) -> int:
        """Parameters of an adapter of this rank on all of `LORA_TARGETS`."""
        return self.text_layers * sum(rank * sum(self.linears[name]) for name in LORA_TARGETS)


def forward_flops(shape: ModelShape, *, frames: int, tokens: int) -> dict[str, int]:
    """FLOPs of one sample through each kind of product.

    Args:
        shape: of the model.
        frames: T, frames or pictures of the sample.
        tokens: L, tokens of its sequence, visual ones included.
    """
    seen, width = shape.patches + shape.prefix, shape.vision_width
    inputs = shape.kept * frames
    linear = sum(inside * outside for inside, outside in shape.linears.values())
    return {
        "patches": 2 * frames * shape.patches * shape.patch_values * width,
        "vision_linear": 2 * frames * seen * shape.vision_layers * (4 * width**2 + 2 * width * shape.vision_mlp),
        "vision_attention": 4 * frames * seen**2 * width * shape.vision_layers,
        "score_1": 2 * frames * shape.patches * width * shape.selector_width,
        "score_2": 2 * frames * shape.patches * shape.selector_width,
        "project_1": 2 * inputs * width * shape.text_width,
        "project_2": 2 * inputs * shape.text_width**2,
        "text_linear": 2 * tokens * shape.text_layers * linear,
        "text_attention": 4 * tokens**2 * shape.heads * shape.head_size * shape.text_layers,
        "head": 2 * tokens * shape.text_width * shape.vocabulary,
    }


def training_flops(
    shape: ModelShape,
    *,
    frames: int,
    tokens: int,
    learns: Collection[str] = PARTS,
    lora_rank: int = 0,
    inputs_require_grad: bool = False,
) -> dict[str, int]:
    """FLOPs of one sample forward and backward, by part of the model.

    A product is done once more for the gradient of its weights where they learn, and once more for that of its input
    where something before it learns. What an adapter adds is counted under `lora`.

    Args:
        shape, frames, tokens: as in `forward_flops`.
        learns: parts that learn; with LoRA those beside the adapter.
        lora_rank: rank of the adapter; 0 for none.
        inputs_require_grad: whether embeddings, of words and of patches, are made to require a gradient, as TRL does
            with an adapter and gradient checkpointing: then gradients pass through the frozen vision tower too.
    """
    unknown = sorted(set(learns) - set(PARTS))
    if unknown:
        raise ValueError(f"learns must be of {', '.join(PARTS)}, got {', '.join(unknown)}")
    forward = forward_flops(shape, frames=frames, tokens=tokens)
    vision, selector, projector, text, head = (part in learns for part in PARTS)
    in_vision = vision or inputs_require_grad
    in_projector = in_vision or selector
    in_text = in_projector or projector or text or lora_rank > 0
    # How often each product is done again: for its weights, and for its input.
    again = {
        "patches": int(vision),
        "vision_linear": vision + in_vision,
        "vision_attention": 2 * in_vision,
        "score_1": selector + in_vision,
        "score_2": selector + in_projector,
        "project_1": projector + in_projector,
        "project_2": projector + (in_projector or projector),
        "text_linear": text + in_text,
        "text_attention": 2 * in_text,
        "head": head + in_text,
    }
    cost = {name: forward[name] * (1 + times) for name, times in again.items()}
    return {
        "vision_tower": cost["patches"] + cost["vision_linear"] + cost["vision_attention"],
        "selector": cost["score_1"] + cost["score_2"],
        "multi_modal_projector": cost["project_1"] + cost["project_2"],
        "language_model": cost["text_linear"] + cost["text_attention"],
        "lm_head": cost["head"],
        "lora": 3 * 2 * tokens * shape.lora_parameters(lora_rank),
    }


def sequence_tokens(kept: int, frames: int, *, answers_boxes: bool = True) -> int:
    """L of a sample: its visual tokens, their labels, the system sentence and question, and the answer.

    Counted with Llama's tokenizer (the npm package llama-tokenizer-js 1.2.2) on this package's prompt: 62 tokens
    around the frames, with a box in the question; 6 for a frame's label and comma; 18 for its box in the answer.
    Captions and replies to questions are taken to be 64 tokens long.
    """
    around, label, box, words = 64, 6, 18, 64
    answer = box * frames if answers_boxes else words
    return around + frames * (kept + label) + answer


def utilisation(flops: float, seconds: float, peak_flops: float) -> float:
    """Model FLOPs utilisation (MFU): the share of the peak that was used.

    >>> utilisation(flops=4e12, seconds=2, peak_flops=10e12)
    0.2
    """
    return flops / seconds / peak_flops
