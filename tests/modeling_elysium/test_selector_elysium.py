"""Token compressors: which tokens are kept, in what order, with what factor, and what a gradient reaches."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_config, tiny_model

from elysium.modeling_elysium.selector_elysium import (
    ElysiumConcatCompressor,
    ElysiumCrossAttentionCompressor,
    ElysiumNoCompression,
    ElysiumPublicSelector,
    ElysiumTSelector,
    build_compressor,
)

GOLDEN = Path(__file__).parent.parent / "fixtures" / "golden"
PATCHES, KEPT, WIDTH = 16, 5, 64


def patches(frames: int = 3) -> torch.Tensor:
    """Random patch features (frames, N, C)."""
    return torch.randn(frames, PATCHES, WIDTH, generator=torch.Generator().manual_seed(1))


def compressor(**changes) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_compressor(tiny_config(**changes))


def test_the_gate_keeps_the_k_best_in_raster_order() -> None:
    kept = compressor()(patches())
    best = kept.scores.argsort(dim=1, descending=True)[:, :KEPT]
    assert kept.indices.shape == (3, KEPT)
    assert torch.equal(kept.indices, best.sort(dim=1).values)
    assert (kept.indices.diff(dim=1) > 0).all()


def test_a_kept_feature_is_multiplied_by_n_times_its_softmax_weight() -> None:
    frames = patches()
    kept = compressor()(frames)
    for frame in range(3):
        weight = PATCHES * torch.exp(kept.scores[frame]) / torch.exp(kept.scores[frame]).sum()
        for place, index in enumerate(kept.indices[frame].tolist()):
            torch.testing.assert_close(kept.tokens[frame, place], frames[frame, index] * weight[index])


def test_a_uniform_gate_is_the_identity() -> None:
    selector = compressor()
    torch.nn.init.zeros_(selector.score_mlp[2].weight)
    frames = patches()
    kept = selector(frames)
    torch.testing.assert_close(kept.tokens, frames.gather(1, kept.indices[..., None].expand(-1, -1, WIDTH)))


def test_each_frame_is_selected_by_itself() -> None:
    selector, frames = compressor(), patches()
    torch.testing.assert_close(selector(frames).tokens[1:2], selector(frames[1:2]).tokens)


def test_a_gradient_reaches_every_parameter_of_the_gate() -> None:
    selector = compressor()
    selector(patches()).tokens.square().sum().backward()
    # The last bias shifts all scores alike, which a softmax does not see: its gradient is there, and zero.
    for name, parameter in selector.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > (-1 if name == "score_mlp.2.bias" else 1e-6), name


def test_a_step_against_the_gradient_moves_the_choice_of_tokens() -> None:
    selector, frames = compressor(), patches(1)
    before = selector(frames)
    wanted = [i for i in range(PATCHES) if i not in before.indices[0].tolist()][0]
    for _ in range(20):
        loss = -selector(frames).scores.log_softmax(-1)[0, wanted]
        grads = torch.autograd.grad(loss, list(selector.parameters()))
        with torch.no_grad():
            for parameter, grad in zip(selector.parameters(), grads, strict=True):
                parameter -= 0.5 * grad
    assert wanted in selector(frames).indices[0].tolist()


def test_the_public_rule_receives_no_gradient() -> None:
    model = tiny_model(selector_gate="public_affine").model
    assert isinstance(model.selector, ElysiumPublicSelector)
    assert not any(p.requires_grad for p in model.selector.parameters())
    model.get_image_features(torch.randn(2, 3, 32, 32)).pooler_output.sum().backward()
    assert all(p.grad is None for p in model.selector.parameters())
    assert model.multi_modal_projector.linear_1.weight.grad is not None


def test_the_public_rule_starts_with_evenly_spread_tokens_whatever_the_picture_shows() -> None:
    vision = dict(tiny_config().to_dict()["vision_config"], image_size=192)  # 24 x 24 patches, as CLIP at 336
    model = tiny_model(selector_gate="public_affine", num_kept_tokens=108, vision_config=vision)
    kept = model.model.selector(torch.randn(4, 576, WIDTH))
    assert kept.indices.tolist() == [list(range(0, 540, 5))] * 4


@pytest.mark.parametrize("name", ["released-format-gated", "released-format-strided"])
def test_the_public_rule_keeps_the_tokens_that_the_public_code_kept(name: str) -> None:
    weights, reference = (
        load_file(GOLDEN / name / "model.safetensors"),
        load_file(GOLDEN / name / "reference.safetensors"),
    )
    features = reference["vision_features"]
    _, num_patches, width = features.shape
    vision = dict(tiny_config().to_dict()["vision_config"])
    vision |= {"image_size": 8 * int(num_patches**0.5), "hidden_size": width}
    kept_count = reference["selected_indices"].shape[1]
    config = tiny_config(selector_gate="public_affine", num_kept_tokens=kept_count, vision_config=vision)
    selector = build_compressor(config)
    adapter = {key.removeprefix("adapter."): value for key, value in weights.items() if key.startswith("adapter.")}
    selector.load_state_dict(adapter)
    kept = selector(features)
    assert torch.equal(kept.indices, reference["selected_indices"])
    places = reference["selected_indices"][..., None].expand(-1, -1, width)
    assert torch.equal(kept.tokens, features.gather(1, places))  # never multiplied by the score


def test_concatenation_joins_blocks_of_neighbours() -> None:
    # Patch i of a 4 x 4 grid carries the number i in every channel; four tokens of 2 x 2 blocks.
    frame = torch.arange(16.0)[None, :, None].expand(1, 16, WIDTH)
    joined = compressor(compressor="concat", num_kept_tokens=4, kept_position_embedding=False)(frame)
    assert joined.tokens.shape == (1, 4, 4 * WIDTH)
    blocks = joined.tokens.view(4, 4, WIDTH)[:, :, 0].tolist()
    assert blocks == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


def test_concatenation_of_groups_that_are_no_square_joins_runs() -> None:
    frame = torch.arange(16.0)[None, :, None].expand(1, 16, WIDTH)
    joined = compressor(compressor="concat", num_kept_tokens=8, kept_position_embedding=False)(frame)
    assert joined.tokens.view(8, 2, WIDTH)[:, :, 0].tolist() == [[2 * i, 2 * i + 1] for i in range(8)]


def test_cross_attention_gives_k_mixtures_of_its_own_frame() -> None:
    mixer = compressor(compressor="cross_attention", kept_position_embedding=False)
    torch.nn.init.normal_(mixer.queries)
    frames = patches()
    mixed = mixer(frames)
    assert mixed.tokens.shape == (3, KEPT, WIDTH)
    assert (mixed.indices, mixed.scores) == (None, None)
    torch.testing.assert_close(mixed.tokens[1:2], mixer(frames[1:2]).tokens)
    shuffled = frames[:, torch.randperm(PATCHES)]  # attention over a set
    torch.testing.assert_close(mixer(shuffled).tokens, mixed.tokens, atol=1e-5, rtol=1e-4)
    mixed.tokens.sum().backward()
    assert mixer.queries.grad.abs().max() > 0


def test_no_compression_keeps_every_token_in_its_place() -> None:
    frames = patches()
    kept = compressor(compressor="none", num_kept_tokens=PATCHES)(frames)
    assert torch.equal(kept.tokens, frames)
    assert kept.indices.tolist() == [list(range(PATCHES))] * 3


def test_the_configuration_names_the_compressor() -> None:
    plain = {"kept_position_embedding": False}
    assert type(compressor()) is ElysiumTSelector
    assert type(compressor(selector_gate="public_affine")) is ElysiumPublicSelector
    assert type(compressor(compressor="none", num_kept_tokens=16)) is ElysiumNoCompression
    assert type(compressor(compressor="concat", num_kept_tokens=4, **plain)) is ElysiumConcatCompressor
    assert type(compressor(compressor="cross_attention", **plain)) is ElysiumCrossAttentionCompressor
