"""What each compressor of the ablation leaves of a clip."""

import pytest
import torch
from tiny import tiny_tokenizer

from elysium.benchmarks.compression_features import NUM_PATCHES
from elysium.benchmarks.compression_model import small_config
from elysium.benchmarks.compression_variants import KeptClips, build_variant, compress_clips, variants

CLIPS, FRAMES, WIDTH, KEPT = 2, 3, 160, 25
VARIANTS = variants(KEPT, NUM_PATCHES)


def clips(seed: int = 1) -> torch.Tensor:
    """Random patch features (B, T, N, C)."""
    return torch.randn(CLIPS, FRAMES, NUM_PATCHES, WIDTH, generator=torch.Generator().manual_seed(seed))


def built(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_variant(VARIANTS[name], small_config(tiny_tokenizer()))


def kept(name: str) -> KeptClips:
    return compress_clips(built(name), clips())


@pytest.mark.parametrize("name", list(VARIANTS))
def test_a_variant_leaves_k_tokens_a_frame_and_says_where_they_are_from(name: str) -> None:
    found, expected = kept(name), VARIANTS[name].kept
    assert found.tokens.shape[:2] == (CLIPS, FRAMES * expected)
    assert found.tokens.shape[2] == built(name).output_size
    assert found.counts.sum(1).tolist() == [FRAMES * expected] * CLIPS
    if found.places is None:
        assert VARIANTS[name].compressor in ("concat", "cross_attention", "average")
        return
    assert (found.places.diff(dim=1) > 0).all()
    for clip, places in enumerate(found.places):
        assert torch.bincount(places // NUM_PATCHES, minlength=FRAMES).tolist() == found.counts[clip].tolist()


def test_the_shares_of_the_paper_are_on_the_curve() -> None:
    assert sorted(v.kept for v in VARIANTS.values() if "@" in v.name) == [1, 6, 12, 19, 44]


def test_random_tokens_are_drawn_anew_for_every_frame() -> None:
    compressor = built("random")
    first, second = compressor(clips()[0]).indices, compressor(clips()[0]).indices
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, second)


def test_the_stride_keeps_every_fourth_patch_whatever_the_picture_shows() -> None:
    assert built("stride")(clips()[0]).indices.tolist() == [list(range(0, 100, 4))] * FRAMES


def test_average_pooling_takes_means_of_blocks_of_the_grid() -> None:
    grid = torch.arange(100.0).view(10, 10)
    pooled = built("average")(grid.reshape(1, 100, 1).expand(1, 100, WIDTH)).tokens
    assert pooled[0, :, 0].tolist() == grid.view(5, 2, 5, 2).mean((1, 3)).flatten().tolist()


def test_the_comb_keeps_the_same_places_everywhere_and_can_learn_them() -> None:
    comb = built("comb")
    found = comb(clips()[0])
    assert (found.indices == found.indices[0]).all()
    found.tokens.square().sum().backward()
    assert comb.place_scores.grad.abs().min() > 0


def test_a_shared_budget_goes_where_the_scores_are_high_but_leaves_a_token_everywhere() -> None:
    selector, frames = built("selector+shared").requires_grad_(False), clips()
    scores = selector.scorer.score_mlp(frames).squeeze(-1)
    frames[0, 1] = frames[0].flatten(0, 1)[scores[0].argmin()]  # a frame of nothing but the least wanted patch
    found = compress_clips(selector, frames)
    assert found.counts[0, 1] == 1
    assert found.counts.sum(1).tolist() == [FRAMES * KEPT] * CLIPS


def test_merging_changes_the_tokens_but_not_the_choice() -> None:
    plain, merged = kept("selector"), kept("selector+merge")
    assert torch.equal(plain.places, merged.places)
    assert not torch.allclose(plain.tokens, merged.tokens)
