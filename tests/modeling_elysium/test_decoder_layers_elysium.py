"""The plain loop over a language model's layers computes what its forward does, and is used where it may be."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import TEXT
from transformers import AutoConfig, AutoModel
from transformers.cache_utils import DynamicCache

from elysium.modeling_elysium.compat_elysium import cache_kwargs
from elysium.modeling_elysium.decoder_layers_elysium import has_plain_layers, run_layers
from elysium.modeling_elysium.packed_cache_elysium import PADDING, PackedCache, Prefix
from elysium.tracking.loading import load_checkpoint

GROUPED = TEXT | {"vocab_size": 50, "num_attention_heads": 4, "num_key_value_heads": 2}


def language_model(**changes):
    torch.manual_seed(0)
    values = GROUPED | changes
    return AutoModel.from_config(AutoConfig.for_model(values.pop("model_type"), **values)).eval()


def adapted():
    lora = LoraConfig(target_modules=["q_proj", "v_proj", "gate_proj"], init_lora_weights=False)
    return get_peft_model(language_model(), lora).get_base_model()


@pytest.mark.parametrize(
    "model",
    [language_model(), language_model(model_type="qwen2"), language_model(head_dim=8).bfloat16(), adapted()],
    ids=["llama", "qwen2", "bfloat16", "adapted"],
)
@torch.no_grad()
def test_hidden_states_keys_and_values_are_those_of_the_models_forward(model):
    dtype = model.dtype
    embeds = torch.randn(2, 9, 64, dtype=dtype)
    cache, states = DynamicCache(), []
    model(inputs_embeds=embeds[:, :5], use_cache=True, **cache_kwargs(cache))

    def collect(keys, values, level):
        states.append((keys, values))
        return keys, values

    assert has_plain_layers(model)
    assert run_layers(model, embeds[:, :5], torch.arange(5)[None], collect).shape == (0, 64)
    for layer, (keys, values) in zip(cache.layers, states, strict=True):
        torch.testing.assert_close((keys, values), (layer.keys, layer.values))

    own = PackedCache([Prefix([k[row] for k, _ in states], [v[row] for _, v in states]) for row in range(2)], 4)
    owners, positions = torch.zeros(2, 4, dtype=torch.long), torch.arange(5, 9).repeat(2, 1)
    own.open(owners, positions)
    wanted = torch.tensor([0, 1, 1]), torch.tensor([3, 0, 2])
    found = run_layers(model, embeds[:, 5:], positions, own.update, mask=own.mask(owners, positions), wanted=wanted)
    whole = model(inputs_embeds=embeds[:, 5:], use_cache=True, **cache_kwargs(cache)).last_hidden_state
    torch.testing.assert_close(found, whole[wanted])


def hooked(model):
    model.layers[1].register_forward_hook(lambda *args: None)


def replaced(model):
    model.layers[1].self_attn.forward = model.layers[0].self_attn.forward


def eager(model):
    model.set_attn_implementation("eager")


@pytest.mark.parametrize("change", [torch.nn.Module.train, eager, hooked, replaced])
def test_a_model_whose_forward_does_more_keeps_its_forward(change):
    model = language_model()
    assert has_plain_layers(model)
    change(model)
    assert not has_plain_layers(model)


def test_another_kind_of_model_keeps_its_forward():
    assert not has_plain_layers(language_model(model_type="mistral"))


def test_the_shipped_checkpoint_takes_the_plain_loop():
    model, _ = load_checkpoint("elysium-tiny", device="cpu")
    assert has_plain_layers(model.model.language_model)


def test_a_pass_over_tensors_of_a_device_reads_none_of_them_back():
    with torch.device("meta"):
        model = language_model()
        states = [[torch.empty(2, length, 16) for _ in model.layers] for length in (5, 7)]
    cache = PackedCache([Prefix(held, held) for held in states], 9)
    owners = torch.tensor([[0, 0, 1], [2, 2, PADDING]], device="meta")
    positions = torch.tensor([[5, 6, 5], [7, 8, 9]], device="meta")
    cache.open(owners, positions)
    mask, embeds = cache.mask(owners, positions), torch.empty(2, 3, 64, device="meta")
    wanted = torch.tensor([0, 1], device="meta"), torch.tensor([1, 1], device="meta")
    assert run_layers(model, embeds, positions, cache.update, mask=mask, wanted=wanted).shape == (2, 64)
    cache.keep([[0, 2], [0]])
    cache.select([1])
    assert cache.used == [8]
