"""The formulas of what training costs, against FlopCounterMode, real saved tensors and a real step; and the tables."""

import argparse
import functools
import json
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import train_step_7b
from benchmarks.bench import ROOT
from benchmarks.training_flops import (
    LORA_TARGETS,
    PARTS,
    ModelShape,
    forward_flops,
    sequence_tokens,
    training_flops,
    utilisation,
)
from elysium.modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from research.scale_7b import tables as scale_7b
from research.scale_7b.memory import (
    STRATEGIES,
    ParameterCounts,
    activation_bytes,
    sent_bytes,
    state_bytes,
    text_layer_bytes,
    vision_layer_bytes,
)

FRAMES, TOKENS, SAMPLES = 5, 90, 2
# The 7B model's kinds of layers, few and narrow.
SMALL: dict[str, Any] = {
    "vision_config": {
        "model_type": "clip_vision_model",
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": 56,
        "patch_size": 14,
        "projection_dim": 32,
    },
    "text_config": {
        "model_type": "llama",
        "hidden_size": 128,
        "intermediate_size": 344,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "vocab_size": 4200,
    },
    "num_kept_tokens": 6,
    "selector_hidden_size": 16,
}
LEARNING = [PARTS, ("selector", "multi_modal_projector"), ("language_model", "lm_head"), ("vision_tower",)]


def small_config() -> ElysiumConfig:
    return ElysiumConfig(**SMALL, image_token_id=4198, video_token_id=4199)


def small_model(learns: Iterable[str] = PARTS, *, attention: str = "sdpa") -> ElysiumForConditionalGeneration:
    torch.manual_seed(0)
    model = ElysiumForConditionalGeneration(small_config()).train()
    model.set_attn_implementation(attention)
    for name, weight in model.named_parameters():
        weight.requires_grad_(bool(set(name.split(".")) & set(learns)))
    return model


def small_batch(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 4000, (SAMPLES, TOKENS))
    ids[:, 3 : 3 + FRAMES * 6] = 4199
    pixels = torch.randn(SAMPLES * FRAMES, 3, 56, 56, dtype=dtype)
    return {"input_ids": ids, "labels": ids.clone(), "pixel_values_videos": pixels}


# --- FLOPs ---
@pytest.mark.parametrize("learns", LEARNING, ids="-".join)
def test_flops_of_a_step_are_those_that_torch_counts(learns: tuple[str, ...]) -> None:
    model = small_model(learns, attention="eager")
    with FlopCounterMode(display=False) as counter:
        model(**small_batch()).loss.backward()
    expected = training_flops(ModelShape.of(model.config), frames=FRAMES, tokens=TOKENS, learns=learns)
    assert counter.get_total_flops() == SAMPLES * sum(expected.values())


def test_flops_of_an_adapter_are_those_that_torch_counts() -> None:
    model = small_model(attention="eager")
    targets = rf".*language_model.*\.({'|'.join(LORA_TARGETS)})"
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=targets))
    model.enable_input_require_grads()
    with FlopCounterMode(display=False) as counter:
        adapted(**small_batch()).loss.backward()
    expected = training_flops(
        ModelShape.of(model.config), frames=FRAMES, tokens=TOKENS, learns=(), lora_rank=4, inputs_require_grad=True
    )
    assert counter.get_total_flops() == SAMPLES * sum(expected.values())
    assert sum(w.numel() for w in adapted.parameters() if w.requires_grad) == ModelShape.of(
        model.config
    ).lora_parameters(4)


def test_an_adapter_that_makes_inputs_require_a_gradient_pays_for_the_frozen_tower() -> None:
    shape = ModelShape.of(small_config())
    free, paid = (
        training_flops(shape, frames=1, tokens=50, learns=(), lora_rank=4, inputs_require_grad=enters)["vision_tower"]
        for enters in (False, True)
    )
    assert free < paid < 3 * free


def test_the_flops_of_one_frame_worked_by_hand() -> None:
    shape = ModelShape(
        vision_layers=1,
        vision_width=2,
        vision_mlp=3,
        vision_heads=1,
        patches=4,
        prefix=1,
        patch_values=12,
        selector_width=2,
        kept=2,
        text_layers=1,
        text_width=2,
        text_mlp=3,
        heads=1,
        key_heads=1,
        head_size=2,
        vocabulary=10,
    )
    found = forward_flops(shape, frames=1, tokens=3)
    assert found["patches"] == 2 * 4 * 12 * 2
    assert found["vision_linear"] == 2 * 5 * (4 * 2 * 2 + 2 * 2 * 3)
    assert found["vision_attention"] == 2 * (5 * 5 * 2) * 2  # scores, and their product with the values
    assert found["text_linear"] == 2 * 3 * (4 * 2 * 2 + 3 * 2 * 3)
    assert found["head"] == 2 * 3 * 2 * 10


def test_a_part_that_is_not_one_is_refused_with_the_parts() -> None:
    with pytest.raises(ValueError, match="learns must be of vision_tower, .*, got projector"):
        training_flops(ModelShape.of(small_config()), frames=1, tokens=50, learns=("projector",))


def test_a_model_of_other_parts_is_refused() -> None:
    config = ElysiumConfig(**(SMALL | {"compressor": "concat", "num_kept_tokens": 4}))
    with pytest.raises(ValueError, match="the cost is known for t_selector, .* only, got concat"):
        ModelShape.of(config)


def test_utilisation_of_a_step_at_the_peak_is_one() -> None:
    assert utilisation(flops=3e12, seconds=1.5, peak_flops=2e12) == 1


def test_thirty_two_frames_with_boxes_are_longer_than_vicunas_positions() -> None:
    assert sequence_tokens(108, 8) == 64 + 8 * (108 + 6 + 18)
    assert sequence_tokens(108, 30) <= 4096 < sequence_tokens(108, 32)


# --- memory ---
def saved_bytes(model: ElysiumForConditionalGeneration) -> int:
    """Bytes that a forward pass up to the last hidden state keeps for the backward pass, weights left out."""
    weights = {weight.untyped_storage()._cdata for weight in model.parameters()}
    seen, held = {}, []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            seen[storage._cdata] = storage.nbytes()
        held.append(tensor)  # so that no storage is freed and its number given to another
        return tensor

    batch = small_batch(torch.bfloat16)
    del batch["labels"]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.model(**batch, use_cache=False)
    return sum(seen.values())


def computed_bytes(learns: tuple[str, ...], *, checkpointing: bool) -> int:
    shape = ModelShape.of(small_config())
    found = activation_bytes(
        shape, frames=FRAMES, tokens=TOKENS, samples=SAMPLES, learns=learns, checkpointing=checkpointing
    )
    return sum(found.values()) - found["lm_head"]


@pytest.mark.parametrize("learns", LEARNING, ids="-".join)
def test_activations_are_what_the_layers_save(learns: tuple[str, ...]) -> None:
    model = small_model(learns).to(torch.bfloat16)
    assert computed_bytes(learns, checkpointing=False) == pytest.approx(saved_bytes(model), rel=0.02)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable")
def test_checkpointing_saves_the_inputs_of_layers_and_one_layer_more() -> None:
    model = small_model().to(torch.bfloat16)
    # The kind that saves its inputs where they can be counted; the other keeps the same ones.
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    shape = ModelShape.of(model.config)
    one_layer = SAMPLES * TOKENS * text_layer_bytes(shape, learns=True)
    one_layer += SAMPLES * FRAMES * 17 * vision_layer_bytes(shape, learns=True)
    assert computed_bytes(PARTS, checkpointing=True) - one_layer == pytest.approx(saved_bytes(model), rel=0.05)


@pytest.mark.parametrize("learns", LEARNING[:2], ids="-".join)
def test_weights_gradients_and_adam_states_are_what_a_real_step_keeps(learns: tuple[str, ...]) -> None:
    model = small_model(learns)
    for weight in model.parameters():
        if not weight.requires_grad:
            weight.data = weight.data.bfloat16()
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learning)
    with torch.autocast("cpu", torch.bfloat16):
        model(**small_batch()).loss.backward()
    optimizer.step()
    counts = ParameterCounts(
        learning=sum(weight.numel() for weight in learning),
        frozen=sum(weight.numel() for weight in model.parameters() if not weight.requires_grad),
        layer=0,
        kept_whole=0,
    )
    expected = state_bytes("ddp", counts, gpus=1)
    assert expected["weights"] == sum(weight.nbytes for weight in model.parameters())
    assert expected["gradients"] == sum(weight.grad.nbytes for weight in learning)
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert expected["optimizer"] == sum(moment.nbytes for moment in moments)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_keeps_sixteen_bytes_a_learning_parameter_in_all(strategy: str) -> None:
    counts = ParameterCounts(learning=10**9, frozen=0, layer=10**7, kept_whole=10**7)
    found = state_bytes(strategy, counts, gpus=1)
    assert found["weights"] + found["gradients"] + found["optimizer"] == 16e9


def test_more_gpus_keep_less_each_and_two_bytes_of_weights_stay_with_zero_2() -> None:
    counts = ParameterCounts(learning=10**9, frozen=10**9, layer=10**7, kept_whole=10**7)
    assert state_bytes("zero2", counts, gpus=32)["weights"] == 4e9
    assert state_bytes("fsdp2", counts, gpus=32)["weights"] == (4e9 + 2e9) / 32
    assert state_bytes("zero3", counts, gpus=32)["optimizer"] == 12e9 / 32


def test_zero_2_sends_less_than_fsdp2_and_one_gpu_nothing() -> None:
    counts = ParameterCounts(learning=10**9, frozen=0, layer=10**7, kept_whole=10**7)
    assert sent_bytes("zero2", counts, gpus=8) == pytest.approx(2 / 3 * sent_bytes("fsdp2", counts, gpus=8))
    assert all(sent_bytes(strategy, counts, gpus=1) == 0 for strategy in STRATEGIES)


# --- the tables and the measured step ---
def test_the_kept_tables_are_those_that_the_command_prints_now() -> None:
    command = [sys.executable, "-m", "research.scale_7b.tables"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    kept = (ROOT / "research" / "results" / "scale_7b.txt").read_text("utf-8")
    command, _, tables = kept.partition("\n")
    assert done.stdout == tables, f"the recipes or formulas have changed: keep the output of `{command}` again"
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["learning"]["stage2a_instruct"] == 7_050_386_561
    assert {row["stage"] for row in found["stages"]} == set(scale_7b.STAGES)


def test_shares_of_a_recipes_samples_add_up_to_one() -> None:
    for name in scale_7b.STAGES:
        assert sum(kind.share for kind in scale_7b.kinds_of(scale_7b.read_recipe(name))) == pytest.approx(1)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing")
@pytest.mark.parametrize("case", ["full", "lora-checkpointing"])
def test_a_step_of_the_7b_shape_runs_and_keeps_eight_bytes_a_parameter(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_step_7b, "ElysiumConfig", functools.partial(ElysiumConfig, **SMALL))
    arguments = argparse.Namespace(shape="7b", dtype="bfloat16", device="cpu", samples=2, frames=3, steps=1)
    found = train_step_7b.run_case(case, arguments)
    total = sum(weight.numel() for weight in small_model().parameters())
    adapter = ModelShape.of(small_config()).lora_parameters(train_step_7b.LORA_RANK)
    lora = case.startswith("lora")
    assert found["learning"] == (adapter if lora else total)
    expected = 2 * total + 16 * adapter if lora else 8 * total
    assert found["state_mb"] == pytest.approx(expected / 1e6, rel=0.01)
    assert found["tokens"] > 2 * 3 * SMALL["num_kept_tokens"]
    assert found["step_s"] > 0
