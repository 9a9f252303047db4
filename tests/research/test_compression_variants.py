"""What each compressor of the ablation leaves of a clip."""

import pytest
import torch
from tiny import tiny_config, tiny_tokenizer

from elysium.modeling_elysium.selector_elysium import build_compressor
from research.compression.features import NUM_PATCHES
from research.compression.model import small_config
from research.compression.variants import (
    KeptClips,
    MergingSelector,
    build_variant,
    compress_clips,
    merge_dropped,
    variants,
)

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


# --- merging: frames of the tiny model, 5 of 16 patches kept ---
TINY_PATCHES, TINY_KEPT, TINY_WIDTH = 16, 5, 64


def patches(frames: int = 3) -> torch.Tensor:
    """Random patch features (frames, N, C)."""
    return torch.randn(frames, TINY_PATCHES, TINY_WIDTH, generator=torch.Generator().manual_seed(1))


def merging_selector() -> MergingSelector:
    torch.manual_seed(0)
    return MergingSelector(tiny_config())


def test_dropped_patches_are_averaged_into_the_kept_one_that_they_are_most_like() -> None:
    # Patches 1 and 3 are kept; 0 and 2 point where 1 does, 4 where 3 does, whatever their length.
    frame = torch.zeros(1, 5, 8)
    frame[0, [0, 1, 2], 0] = torch.tensor([6.0, 1.0, 2.0])
    frame[0, [3, 4], 1] = torch.tensor([1.0, 5.0])
    merged = merge_dropped(frame, torch.tensor([[1, 3]]))
    assert merged[0, 0].tolist() == [3.0] + [0.0] * 7
    assert merged[0, 1].tolist() == [0.0, 3.0] + [0.0] * 6


def test_every_patch_counts_once_in_one_mean() -> None:
    frames, indices = patches(), merging_selector()(patches()).indices
    similar = torch.nn.functional.normalize(frames, dim=-1)
    similar = similar @ similar.mT
    expected = torch.zeros(3, TINY_KEPT, TINY_WIDTH)
    for frame in range(3):
        kept = indices[frame].tolist()
        groups = {index: [index] for index in kept}
        for patch in set(range(TINY_PATCHES)) - set(kept):
            groups[max(kept, key=lambda index: similar[frame, patch, index])].append(patch)
        assert sorted(patch for group in groups.values() for patch in group) == list(range(TINY_PATCHES))
        expected[frame] = torch.stack([frames[frame, groups[index]].mean(0) for index in kept])
    torch.testing.assert_close(merge_dropped(frames, indices), expected)


def test_a_kept_patch_stays_itself_where_another_is_its_twin() -> None:
    frame = torch.ones(1, 4, 8)
    merged = merge_dropped(frame.clone(), torch.tensor([[1, 2]]))
    torch.testing.assert_close(merged, torch.ones(1, 2, 8))


def test_merging_leaves_choice_and_factor_as_they_are() -> None:
    plain, merging = build_compressor(tiny_config()), merging_selector()
    merging.load_state_dict(plain.state_dict())
    frames = patches()
    before, after = plain(frames), merging(frames)
    assert torch.equal(before.indices, after.indices)
    gate = before.scores.softmax(-1).gather(1, before.indices)[..., None] * TINY_PATCHES
    torch.testing.assert_close(after.tokens, merge_dropped(frames, after.indices) * gate)


def test_each_frame_is_merged_by_itself() -> None:
    selector, frames = merging_selector(), patches()
    torch.testing.assert_close(selector(frames).tokens[1:2], selector(frames[1:2]).tokens)


def test_a_gradient_reaches_the_gate_and_every_patch_through_the_means() -> None:
    selector, frames = merging_selector(), patches().requires_grad_()
    selector(frames).tokens.square().sum().backward()
    assert selector.score_mlp[0].weight.grad.abs().max() > 1e-6
    assert (frames.grad.abs().amax(-1) > 0).all()
