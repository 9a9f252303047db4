"""The small tower: published weights give the published numbers, whatever the picture's size, and it is a tower like
any other."""

import pytest
import torch
from tiny import tiny_config
from torch import nn
from transformers import AutoConfig, AutoModel

from elysium.modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from elysium.modeling_elysium.configuration_elysium import ElysiumTinyViTConfig
from elysium.modeling_elysium.tiny_vit_elysium import ElysiumTinyViT, PointwiseConv2d, TinyViTAttention
from research.tiny.fetch_tower import convert_tower

SMALL = {
    "image_size": 64,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "attention_window": 4,
    "early_widths": [8, 16],
    "early_depths": [1, 1],
    "early_heads": 2,
    "early_window": 3,
}


class Published(nn.Module):
    """A convolution with the batch normalisation that the published weights have behind it."""

    def __init__(self, wide_in: int, wide_out: int, side: int = 1, stride: int = 1, groups: int = 1):
        super().__init__()
        self.c = nn.Conv2d(wide_in, wide_out, side, stride, side // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(wide_out)
        nn.init.uniform_(self.bn.running_mean, -0.5, 0.5)
        nn.init.uniform_(self.bn.running_var, 0.5, 2)
        nn.init.normal_(self.bn.weight)
        nn.init.normal_(self.bn.bias)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.bn(self.c(pictures))


def published_names(tower: ElysiumTinyViT) -> dict[str, nn.Module]:
    """For each part of the tower, by its published name, a random part as published."""
    stages = {"conv_blocks": "layers.0.blocks", "fine_blocks": "layers.1.blocks", "coarse_blocks": "layers.2.blocks"}
    parts = {"stem_in": "patch_embed.seq.0", "stem_out": "patch_embed.seq.2"}
    parts |= {"merge_in": "layers.0.downsample", "merge_out": "layers.1.downsample"}
    inner = {"expand": "conv1", "spread": "conv2", "shrink": "conv3", "enter": "conv1", "halve": "conv2"}
    inner |= {"leave": "conv3", "local": "local_conv", "attention": "attn", "mlp_norm": "mlp.norm"}
    inner |= {"fc1": "mlp.fc1", "fc2": "mlp.fc2"}
    found = {}
    for name, module in tower.named_modules():
        if not isinstance(module, nn.Conv2d | nn.Linear | nn.LayerNorm | TinyViTAttention):
            continue
        first, *rest = name.split(".")
        theirs = ".".join([(stages | parts)[first], *(inner.get(word, word) for word in rest)])
        found[theirs] = module
    return found


def test_published_weights_fit_with_each_normalisation_folded_in() -> None:
    torch.manual_seed(0)
    tower = ElysiumTinyViT(ElysiumTinyViTConfig(**SMALL)).eval()
    state, originals = {}, {}
    for name, module in published_names(tower).items():
        if isinstance(module, nn.Conv2d):
            part = Published(
                module.in_channels, module.out_channels, module.kernel_size[0], module.stride[0], module.groups
            ).eval()
            originals[module] = part
            state |= {f"{name}.{key}": value for key, value in part.state_dict().items()}
        elif isinstance(module, TinyViTAttention):
            state[f"{name}.attention_biases"] = torch.randn_like(module.attention_biases)
        else:
            state |= {f"{name}.{key}": torch.randn_like(value) for key, value in module.state_dict().items()}
    tower.load_state_dict(convert_tower(state, (1, 1, 2)))
    for ours, theirs in originals.items():
        pictures = torch.randn(2, ours.in_channels, 9, 9)
        torch.testing.assert_close(ours(pictures), theirs(pictures), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("side", [48, 64, 112])
def test_features_are_one_for_each_patch_whatever_the_size(side: int) -> None:
    torch.manual_seed(0)
    tower = ElysiumTinyViT(ElysiumTinyViTConfig(**SMALL)).eval()
    with torch.no_grad():
        features = tower(torch.randn(2, 3, side, side)).last_hidden_state
    assert features.shape == (2, (side // 16) ** 2, 24)


@torch.no_grad()
def test_a_window_sees_nothing_of_another() -> None:
    torch.manual_seed(0)
    block = ElysiumTinyViT(ElysiumTinyViTConfig(**SMALL)).eval().coarse_blocks[0]
    grid = torch.randn(1, 8, 8, 24)
    other = grid.clone()
    other[:, :, 4:] = torch.randn(1, 8, 4, 24)
    changed = (block._attend(grid) - block._attend(other)).abs().amax(-1)[0] > 1e-6
    assert not changed[:, :4].any() and changed[:, 4:].all()


@torch.no_grad()
def test_attention_biases_are_looked_up_by_distance() -> None:
    attention = TinyViTAttention(6, 1, 4)
    attention.attention_biases.copy_(torch.arange(16.0))
    bias = attention._bias(2, 3)[0]
    places = [(row, column) for row in range(2) for column in range(3)]
    expected = [[abs(a[0] - b[0]) * 4 + abs(a[1] - b[1]) for b in places] for a in places]
    assert bias.tolist() == expected


def test_it_is_a_vision_tower_of_elysium(tmp_path) -> None:
    config = ElysiumConfig(
        **(tiny_config().to_dict() | {"vision_config": {"model_type": "elysium_tiny_vit"} | SMALL}),
    )
    config.vision_prefix_tokens = 0
    assert type(AutoConfig.for_model("elysium_tiny_vit")) is ElysiumTinyViTConfig
    assert isinstance(AutoModel.from_config(config.vision_config), ElysiumTinyViT)
    torch.manual_seed(0)
    model = ElysiumForConditionalGeneration(config).eval()
    model.save_pretrained(tmp_path)
    again = ElysiumForConditionalGeneration.from_pretrained(tmp_path).eval()
    pictures = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        one, other = model.get_video_features(pictures), again.get_video_features(pictures)
    assert one.pooler_output.shape == (3, 5, 64)
    torch.testing.assert_close(one.pooler_output, other.pooler_output)
    assert config.num_patches == 16


@pytest.fixture
def tower() -> ElysiumTinyViT:
    """Return a small tower with random weights and attention biases."""
    torch.manual_seed(0)
    tower = ElysiumTinyViT(ElysiumTinyViTConfig(**SMALL)).eval()
    for module in tower.modules():
        if isinstance(module, TinyViTAttention):
            nn.init.normal_(module.attention_biases)
    return tower


@pytest.mark.parametrize("side", [48, 64, 112])
def test_inference_computes_what_training_computes(tower: ElysiumTinyViT, side: int) -> None:
    images = torch.randn(6, 3, side, side)  # more than go through the tower at once
    given = images.clone()
    expected = tower(images).last_hidden_state
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(tower(images).last_hidden_state, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(images, given)


def test_a_1x1_convolution_as_a_product_has_its_values_and_gradients() -> None:
    torch.manual_seed(0)
    product, plain = PointwiseConv2d(5, 7), nn.Conv2d(5, 7, 1)
    plain.load_state_dict(product.state_dict())
    images = torch.randn(2, 5, 6, 4, requires_grad=True)
    again = images.detach().clone().requires_grad_()
    torch.testing.assert_close(product(images), plain(again))
    for layer, held in ((product, images), (plain, again)):
        layer(held).square().sum().backward()
    torch.testing.assert_close(images.grad, again.grad)
    for ours, theirs in zip(product.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_gradients_equal_finite_differences(tower: ElysiumTinyViT) -> None:
    tower.double()
    images = torch.randn(1, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    direction = torch.randn_like(images)
    (gradient,) = torch.autograd.grad(tower(images).last_hidden_state.square().sum(), images)
    with torch.no_grad():
        step = 1e-6 * direction
        up, down = (tower(images + sign * step).last_hidden_state.square().sum() for sign in (1, -1))
    torch.testing.assert_close((up - down) / 2e-6, (gradient * direction).sum(), rtol=1e-5, atol=1e-5)
