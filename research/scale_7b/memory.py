"""Memory of training Elysium on one GPU, from its configuration alone: weights, gradients, Adam states, activations;
and what the GPUs send one another.

Bytes of weights and states are those that accelerate's FSDP2, DeepSpeed's ZeRO and DistributedDataParallel keep under
bfloat16 mixed precision; tests hold them against real steps. Activations are what transformers' layers save for the
backward pass with sdpa in bfloat16, counted on real layers by a test. Not counted: what a layer needs for a moment
while it works, the allocator's gaps, and the CUDA context (about 1 GB).
"""

from collections.abc import Collection
from dataclasses import dataclass

from benchmarks.training_flops import PARTS, ModelShape

BF16 = 2
# TRL's loss projects so many tokens at a time on the vocabulary (trl/kernels/chunked_logprob.py, trl 1.16).
HEAD_TOKENS = 4096
# DeepSpeed's own values (deepspeed/runtime/zero/config.py, 0.19): parameters in a bucket, and gathered at a time.
BUCKET, LIVE = 5 * 10**8, 10**9


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """What a way of distributing keeps for each parameter, in bytes, and what of it is shared out over the GPUs.

    Args:
        learning: of a weight that learns. DeepSpeed keeps its fp32 copy with the optimizer.
        gradient: of a gradient.
        optimizer: Adam's two moments in fp32, and the fp32 weight where `learning` is 2.
        shares: of "weights", "gradients" and "optimizer", what is shared out.
    """

    learning: int
    gradient: int
    optimizer: int
    shares: frozenset[str]


STRATEGIES = {
    "ddp": Strategy(learning=4, gradient=4, optimizer=8, shares=frozenset()),
    "zero2": Strategy(learning=2, gradient=2, optimizer=12, shares=frozenset({"gradients", "optimizer"})),
    "zero3": Strategy(learning=2, gradient=2, optimizer=12, shares=frozenset({"weights", "gradients", "optimizer"})),
    "fsdp2": Strategy(learning=4, gradient=4, optimizer=8, shares=frozenset({"weights", "gradients", "optimizer"})),
}


@dataclass(frozen=True, kw_only=True)
class ParameterCounts:
    """Parameters that learn, those that are frozen (kept in bfloat16), and those of FSDP2's largest units.

    Args:
        learning, frozen: of the whole model, adapters included.
        layer: of the largest layer, a unit of its own.
        kept_whole: of the head and of what stands in no layer; whole from its first use to the end of the step.
    """

    learning: int
    frozen: int
    layer: int
    kept_whole: int


def working_bytes(strategy: str, counts: ParameterCounts) -> int:
    """Buffers in which weights are gathered and gradients sent."""
    if strategy == "ddp":  # autocast's bf16 copies of what learns, and the buckets of its gradients
        return counts.learning * (BF16 + 4)
    bucket = BF16 * min(BUCKET, counts.learning)
    if strategy == "zero2":  # one bucket to reduce gradients, one to gather weights
        return 2 * bucket
    if strategy == "zero3":
        return bucket + BF16 * min(LIVE, counts.learning + counts.frozen)
    # The layer at work and the next one, whole, and gradients of a layer before they are shared out.
    return BF16 * (counts.kept_whole + 3 * counts.layer)


def state_bytes(strategy: str, counts: ParameterCounts, *, gpus: int) -> dict[str, float]:
    """Bytes on each of so many GPUs: `weights`, `gradients`, `optimizer`, `working`.

    >>> counts = ParameterCounts(learning=1000, frozen=0, layer=10, kept_whole=10)
    >>> state_bytes("zero2", counts, gpus=4)["optimizer"]
    3000.0
    """
    kind = STRATEGIES[strategy]
    whole = {
        "weights": counts.learning * kind.learning + counts.frozen * BF16,
        "gradients": counts.learning * kind.gradient,
        "optimizer": counts.learning * kind.optimizer,
    }
    kept = {name: size / (gpus if name in kind.shares else 1) for name, size in whole.items()}
    return kept | {"working": working_bytes(strategy, counts)}


def sent_bytes(strategy: str, counts: ParameterCounts, *, gpus: int) -> float:
    """Bytes that each of so many GPUs sends in a step of one micro-batch, in bfloat16 (fp32 with "ddp").

    Gathering or reducing a tensor in shares sends (gpus - 1) / gpus of it; reducing it whole sends twice that. ZeRO-3
    and FSDP2 gather all weights forward and again backward; ZeRO-2 gathers those that learn, once they have changed.
    """
    share = (gpus - 1) / gpus
    if strategy == "ddp":
        return 2 * share * 4 * counts.learning
    gathered = counts.learning if strategy == "zero2" else 2 * (counts.learning + counts.frozen)
    return share * BF16 * (gathered + counts.learning)


def text_layer_bytes(shape: ModelShape, *, learns: bool) -> int:
    """Saved by one layer of the language model for each token.

    Two RMSNorms keep their input in fp32 and its scale; attention keeps q, k, v, its output, and one fp32 number a
    head; the MLP its gate before and after SiLU and the other factor. Where weights learn, so do the norms' outputs,
    twice (before and after the norm's own weight), and the MLP's product.
    """
    width, queries = shape.text_width, shape.heads * shape.head_size
    fixed = 2 * (4 * width + 4) + 4 * queries * BF16 + 4 * shape.heads + 3 * shape.text_mlp * BF16
    return fixed + (2 * 2 * width * BF16 + shape.text_mlp * BF16 if learns else 0)


def vision_layer_bytes(shape: ModelShape, *, learns: bool) -> int:
    """Saved by one layer of the vision tower for each token, patches and class token alike.

    Two LayerNorms keep their input, mean and scale; attention as in `text_layer_bytes`; QuickGELU its input and its
    sigmoid. Where weights learn, so do the norms' outputs and the product of QuickGELU.
    """
    width = shape.vision_width
    fixed = 2 * (width + 2) * BF16 + 4 * width * BF16 + 4 * shape.vision_heads + 2 * shape.vision_mlp * BF16
    return fixed + (2 * width * BF16 + shape.vision_mlp * BF16 if learns else 0)


def activation_bytes(
    shape: ModelShape,
    *,
    frames: int,
    tokens: int,
    samples: int,
    learns: Collection[str] = PARTS,
    lora: bool = False,
    checkpointing: bool,
) -> dict[str, int]:
    """What a micro-batch keeps for its backward pass, in bytes, by part of the model.

    Args:
        shape: of the model.
        frames: T, frames of each sample.
        tokens: L, tokens of each sample.
        samples: B, of the micro-batch.
        learns: parts that learn.
        lora: an adapter on the language model; its layers keep their inputs as if they learnt.
        checkpointing: every layer keeps its input alone, and one layer at a time is computed again; with an adapter
            that makes gradients pass through the vision tower too (see `training_flops`).
    """
    vision, text = "vision_tower" in learns, "language_model" in learns
    in_text = any(part in learns for part in PARTS[:4]) or lora
    sequence, seen = samples * tokens, samples * frames * (shape.patches + shape.prefix)
    width, text_width = shape.vision_width, shape.text_width

    def stack(layers: int, rows: int, layer: int, carried: int) -> int:
        return rows * (layers * carried * BF16 + layer) if checkpointing else rows * layers * layer

    found = dict.fromkeys(("vision_tower", "connector", "language_model", "lm_head"), 0)
    if vision or (lora and checkpointing):
        layer = vision_layer_bytes(shape, learns=vision)
        before = width * BF16 + (shape.patches * shape.patch_values * BF16 * samples * frames) // seen
        found["vision_tower"] = seen * before + stack(shape.vision_layers, seen, layer, width)
    if vision or "selector" in learns or "multi_modal_projector" in learns:
        # Patches, the scoring MLP around its GELU, softmax; kept features before and after the gate, the projector.
        patch = width * BF16 + 2 * shape.selector_width * BF16 + 4
        kept = 2 * 8 + 2 * width * BF16 + 2 * text_width * BF16
        found["connector"] = samples * frames * (shape.patches * patch + shape.kept * kept)
    if in_text:
        layer = text_layer_bytes(shape, learns=text or lora)
        norm = 4 * text_width + 4 + (2 * text_width * BF16 if text else 0)
        found["language_model"] = sequence * norm + stack(shape.text_layers, sequence, layer, text_width)
    # Logits of one tile, and the head's fp32 gradient before it is shared out.
    head = 4 * shape.vocabulary * text_width if "lm_head" in learns else 0
    found["lm_head"] = head + min(sequence, HEAD_TOKENS) * shape.vocabulary * BF16
    return found
