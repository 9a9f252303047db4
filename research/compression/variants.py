"""The compressors that research/compression/run.py compares: the model's own, controls, and experiments.

A control shares the interface of the model's compressors (`CompressedFrames` of frames). What reaches the language
model may depend on a whole clip in an experiment, so `compress_clips` gives all of them one shape, `KeptClips`.

Letters: B clips, T frames, N patches, K kept a frame, M kept a clip, C vision width.
"""

from dataclasses import dataclass, replace

import torch
from torch import nn

from elysium.modeling_elysium import ElysiumConfig
from elysium.modeling_elysium.selector_elysium import CompressedFrames, ElysiumTSelector, build_compressor


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of the table.

    Args:
        name: of the row and of its files.
        compressor: `none`, `concat`, `cross_attention` or `t_selector` (the model's own); `random`, `stride`,
            `average` or `comb` (controls); `shared_budget` (an experiment).
        kept: tokens a frame, over a clip on average.
        supervised: the gate's scores also learn which patches show objects.
        merge: dropped patches are averaged into the kept ones that are like them.
        original_positions: a kept token has the position id that it would have if nothing were dropped (GAP, arXiv
            2506.21873).
    """

    name: str
    compressor: str
    kept: int
    supervised: bool = False
    merge: bool = False
    original_positions: bool = False


def variants(kept: int, num_patches: int) -> dict[str, Variant]:
    """Every variant by its name; `kept` is the K of controls and experiments, the others are the paper's shares."""
    main = {
        "concat": Variant(name="concat", compressor="concat", kept=kept),
        "cross-attention": Variant(name="cross-attention", compressor="cross_attention", kept=kept),
        "random": Variant(name="random", compressor="random", kept=kept),
        "stride": Variant(name="stride", compressor="stride", kept=kept),
        "average": Variant(name="average", compressor="average", kept=kept),
        "stride+positions": Variant(name="stride+positions", compressor="stride", kept=kept, original_positions=True),
        "comb": Variant(name="comb", compressor="comb", kept=kept),
        "selector": Variant(name="selector", compressor="t_selector", kept=kept),
    }
    plain = main["selector"]
    supervised = replace(plain, name="selector+gate", supervised=True)
    selectors = [
        supervised,
        replace(plain, name="selector+positions", original_positions=True),
        replace(plain, name="selector+shared", compressor="shared_budget"),
        replace(plain, name="selector+merge", merge=True),
        replace(supervised, name="selector+gate+positions", original_positions=True),
        replace(supervised, name="selector+gate+shared", compressor="shared_budget"),
        replace(supervised, name="selector+gate+merge", merge=True),
        replace(supervised, name="selector+gate+merge+positions", merge=True, original_positions=True),
    ]
    shares = [max(1, round(share / 576 * num_patches)) for share in (0, 36, 72, 108, 144, 256)]
    curve = [replace(plain, name=f"selector@{count}", kept=count) for count in shares if count != kept]
    none = Variant(name="none", compressor="none", kept=num_patches)
    return {variant.name: variant for variant in [none, *main.values(), *selectors, *curve]}


class RandomTokens(nn.Module):
    """K patches drawn anew for every frame, in raster order."""

    def __init__(self, config: ElysiumConfig) -> None:
        super().__init__()
        self.num_kept_tokens, self.output_size = config.num_kept_tokens, config.vision_config.hidden_size

    def forward(self, patches: torch.Tensor) -> CompressedFrames:
        """patches (sum T, N, C)"""
        noise = torch.rand(patches.shape[:2])
        indices = noise.topk(self.num_kept_tokens, dim=-1).indices.sort(dim=-1).values
        return CompressedFrames(_gather(patches, indices), indices)


class StridedTokens(nn.Module):
    """Every n-th patch in raster order: what the public code keeps, whatever the picture shows."""

    def __init__(self, config: ElysiumConfig) -> None:
        super().__init__()
        stride = config.num_patches // config.num_kept_tokens
        self.output_size = config.vision_config.hidden_size
        self.register_buffer("places", torch.arange(config.num_kept_tokens) * stride, persistent=False)

    def forward(self, patches: torch.Tensor) -> CompressedFrames:
        """patches (sum T, N, C)"""
        indices = self.places.expand(len(patches), -1)
        return CompressedFrames(_gather(patches, indices), indices)


class AveragePooling(nn.Module):
    """Means of square blocks of the grid.

    Raises:
        ValueError: a K that does not come from square blocks.
    """

    def __init__(self, config: ElysiumConfig) -> None:
        super().__init__()
        self.grid = round(config.num_patches**0.5)
        self.block = round((config.num_patches / config.num_kept_tokens) ** 0.5)
        if self.grid % self.block or (self.grid // self.block) ** 2 != config.num_kept_tokens:
            raise ValueError(
                f"average pooling needs square blocks of a {self.grid} x {self.grid} grid, got "
                f"{config.num_kept_tokens} kept tokens"
            )
        self.output_size = config.vision_config.hidden_size

    def forward(self, patches: torch.Tensor) -> CompressedFrames:
        """patches (sum T, N, C)"""
        blocks, block = self.grid // self.block, self.block
        tiles = patches.reshape(len(patches), blocks, block, blocks, block, -1)
        return CompressedFrames(tiles.mean((2, 4)).flatten(1, 2))


class LearnedComb(nn.Module):
    """K places that are learned but the same for every picture; the factor is the selector's, N * softmax."""

    def __init__(self, config: ElysiumConfig) -> None:
        super().__init__()
        self.num_kept_tokens, self.output_size = config.num_kept_tokens, config.vision_config.hidden_size
        self.place_scores = nn.Parameter(0.01 * torch.randn(config.num_patches))

    def forward(self, patches: torch.Tensor) -> CompressedFrames:
        """patches (sum T, N, C)"""
        indices = self.place_scores.topk(self.num_kept_tokens).indices.sort().values
        gate = self.place_scores.softmax(-1)[indices] * patches.shape[1]
        indices = indices.expand(len(patches), -1)
        kept = _gather(patches, indices)
        return CompressedFrames(kept * gate[:, None].to(kept.dtype), indices)


class SharedBudgetSelector(nn.Module):
    """The selector's scores over all frames of a clip compete for K * T tokens; each frame keeps one at least."""

    def __init__(self, config: ElysiumConfig) -> None:
        super().__init__()
        self.scorer = ElysiumTSelector(config)
        self.num_kept_tokens, self.output_size = config.num_kept_tokens, self.scorer.output_size

    def forward(self, clips: torch.Tensor) -> CompressedFrames:
        """clips (B, T, N, C); a clip stands where a frame does: tokens (B, T * K, C), indices into its T * N."""
        num_frames, num_patches = clips.shape[1:3]
        scores = self.scorer.score_mlp(clips).squeeze(-1).float()  # (B, T, N)
        best = nn.functional.one_hot(scores.argmax(-1), num_patches).bool()
        wanted = scores.masked_fill(best, torch.inf).flatten(1)
        indices = wanted.topk(num_frames * self.num_kept_tokens, dim=-1).indices.sort(dim=-1).values
        gate = scores.flatten(1).softmax(-1).gather(1, indices) * (num_frames * num_patches)
        kept = _gather(clips.flatten(1, 2), indices)
        return CompressedFrames(kept * gate.unsqueeze(-1).to(kept.dtype), indices, scores.flatten(1))


def merge_dropped(patches: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Means of each kept patch and the dropped ones that are nearer to it (cosine) than to any other kept one.

    Every patch of a frame counts once, in one mean of its own frame.

    Args:
        patches (`torch.Tensor` of shape `(sum T, N, C)`): features of whole frames.
        indices (`torch.LongTensor` of shape `(sum T, K)`): the kept patches.

    Returns:
        `torch.Tensor` of shape `(sum T, K, C)`, in the order of `indices`.
    """
    kept_count = indices.shape[1]
    directions = nn.functional.normalize(patches.detach().float(), dim=-1)
    kept = directions.gather(1, indices.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))
    group = (directions @ kept.transpose(1, 2)).argmax(dim=-1)  # (sum T, N), in 0..K-1
    own = torch.arange(kept_count, device=indices.device).expand_as(indices)
    group = group.scatter(1, indices, own)  # a kept patch stays itself, also where another is its twin
    member = nn.functional.one_hot(group, kept_count).to(patches.dtype).transpose(1, 2)  # (sum T, K, N)
    return (member / member.sum(dim=-1, keepdim=True)) @ patches


class MergingSelector(ElysiumTSelector):
    """The selector with each kept feature averaged first with the dropped ones that are most like it."""

    def forward(self, patches: torch.Tensor) -> CompressedFrames:
        """patches (sum T, N, C)"""
        plain = super().forward(patches)
        gate = plain.scores.softmax(dim=-1).gather(1, plain.indices) * patches.shape[1]
        merged = merge_dropped(patches, plain.indices)  # (sum T, K, C)
        return replace(plain, tokens=merged * gate.unsqueeze(-1).to(merged.dtype))


def _gather(patches: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    return patches.gather(1, indices.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))


_CONTROLS = {
    "random": RandomTokens,
    "stride": StridedTokens,
    "average": AveragePooling,
    "comb": LearnedComb,
    "shared_budget": SharedBudgetSelector,
}


def build_variant(variant: Variant, config: ElysiumConfig) -> nn.Module:
    """The module of a variant; `config` gives widths and patches, the variant the rest."""
    values = config.to_dict() | {"num_kept_tokens": variant.kept, "kept_position_embedding": False}
    own = variant.compressor not in _CONTROLS
    values |= {"compressor": variant.compressor if own else "t_selector"}
    config = ElysiumConfig(**values)
    if variant.merge:
        return MergingSelector(config)
    return build_compressor(config) if own else _CONTROLS[variant.compressor](config)


@dataclass(frozen=True, eq=False)
class KeptClips:
    """What a compressor leaves of clips.

    tokens (`torch.Tensor` of shape `(B, M, C')`): frame by frame.
    counts (`torch.LongTensor` of shape `(B, T)`): tokens of each frame; M in sum.
    places (`torch.LongTensor` of shape `(B, M)` or `None`): in 0..T*N-1, where tokens have a place.
    scores (`torch.Tensor` of shape `(B, T, N)` or `None`): of the gate.
    """

    tokens: torch.Tensor
    counts: torch.Tensor
    places: torch.Tensor | None
    scores: torch.Tensor | None


def compress_clips(compressor: nn.Module, clips: torch.Tensor) -> KeptClips:
    """Frame by frame, or all of a clip at once where the budget is shared.

    Args:
        clips (`torch.Tensor` of shape `(B, T, N, C)`): patch features.
    """
    count, num_frames, num_patches, _ = clips.shape
    if isinstance(compressor, SharedBudgetSelector):
        kept = compressor(clips)
        frames = kept.indices // num_patches
        counts = nn.functional.one_hot(frames, num_frames).sum(1)
        return KeptClips(kept.tokens, counts, kept.indices, kept.scores.view(count, num_frames, num_patches))
    kept = compressor(clips.flatten(0, 1))
    counts = torch.full((count, num_frames), kept.tokens.shape[1])
    tokens = kept.tokens.reshape(count, -1, kept.tokens.shape[-1])
    places = kept.indices
    if places is not None:
        places = places.view(count, num_frames, -1) + torch.arange(num_frames)[:, None] * num_patches
        places = places.flatten(1)
    scores = None if kept.scores is None else kept.scores.view(count, num_frames, num_patches)
    return KeptClips(tokens, counts, places, scores)
