"""The public release: its numbers through direct loading, conversion and a save; bad releases are refused whole."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pretrained_parts import GOLDEN, RELEASES, plain_tokenizer
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

from elysium.modeling_elysium import ElysiumConfig, convert_elysium_weights
from elysium.modeling_elysium.convert_elysium_weights import ConversionError, convert, rename_released
from elysium.processing.atomic_files import OutputError

OLD_ROWS = 320


def load_directly(release: Path, folder: Path) -> torch.nn.Module:
    return AutoModelForImageTextToText.from_pretrained(release)


def load_converted(release: Path, folder: Path) -> torch.nn.Module:
    convert(release, folder / "converted")
    return AutoModelForCausalLM.from_pretrained(folder / "converted")


def load_saved_again(release: Path, folder: Path) -> torch.nn.Module:
    load_directly(release, folder).save_pretrained(folder / "saved")
    return AutoModelForImageTextToText.from_pretrained(folder / "saved")


@pytest.fixture(scope="module", params=RELEASES)
def release(request) -> str:
    return request.param


@pytest.fixture(scope="module", params=[load_directly, load_converted, load_saved_again], ids=lambda way: way.__name__)
def model(request, release, tmp_path_factory) -> torch.nn.Module:
    return request.param(GOLDEN / release, tmp_path_factory.mktemp("model")).eval()


@pytest.fixture(scope="module")
def reference(release) -> dict[str, Any]:
    values = json.loads((GOLDEN / release / "reference.json").read_text("utf-8"))
    return values | load_file(GOLDEN / release / "reference.safetensors")


def samples(model: torch.nn.Module, reference: dict[str, Any]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Token ids (1, L) with the placeholders of each frame, and its frames, of each sample."""
    kept, frames, result = model.config.num_kept_tokens, reference["frames"], []
    for sequence, count in zip(reference["sequences"], reference["n_frames"], strict=True):
        ids = [i for token in sequence for i in ([model.config.video_token_id] * kept if token == -200 else [token])]
        result.append((torch.tensor([ids]), frames[:count]))
        frames = frames[count:]
    return result


@torch.no_grad()
def test_the_release_keeps_its_features_tokens_and_indices(model, reference) -> None:
    vision = model.get_video_features(reference["frames"])
    assert torch.equal(vision.selector_indices, reference["selected_indices"])
    torch.testing.assert_close(vision.last_hidden_state, reference["vision_features"], atol=1e-4, rtol=0)
    tokens = torch.cat([reference[f"visual_tokens_{n}"] for n in range(len(reference["n_frames"]))])
    torch.testing.assert_close(vision.pooler_output, tokens, atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_release_keeps_its_logits_and_loss(model, reference) -> None:
    whole = samples(model, reference)
    length = max(ids.shape[1] for ids, _ in whole)
    ids = torch.zeros(len(whole), length, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, (tokens, _) in enumerate(whole):
        ids[row, : tokens.shape[1]], mask[row, : tokens.shape[1]] = tokens, 1
        frames = tokens[0] == model.config.video_token_id
        given = reference["labels"][row][reference["input_ids"][row] != -200][: int((~frames).sum())]
        labels[row, : tokens.shape[1]][~frames] = given
    out = model(input_ids=ids, attention_mask=mask, labels=labels, pixel_values_videos=reference["frames"])
    seen = mask.bool()
    torch.testing.assert_close(out.logits[..., :OLD_ROWS][seen], reference["logits"][seen], atol=1e-4, rtol=0)
    # The loss of the release is over its own rows alone; two more rows lower every probability.
    old = torch.nn.functional.cross_entropy(
        out.logits[:, :-1, :OLD_ROWS].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100
    )
    assert abs(float(old) - reference["loss"].item()) < 1e-5


def test_the_release_keeps_its_twelve_greedy_tokens(model, reference) -> None:
    for (ids, frames), wanted in zip(samples(model, reference), reference["greedy_12_tokens"], strict=True):
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values_videos=frames,
            max_new_tokens=12,
            do_sample=False,
        )
        assert out[0, ids.shape[1] :].tolist() == wanted[1:]


def test_what_is_saved_has_our_names_and_the_new_rows(release, tmp_path) -> None:
    load_saved_again(GOLDEN / release, tmp_path)
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    assert not [name for name in saved if name.startswith(("llm", "visual_encoder", "adapter"))]
    table = saved["model.language_model.embed_tokens.weight"]
    assert len(table) == len(saved["lm_head.weight"]) == OLD_ROWS + 2
    assert not torch.equal(table[-1], table[-2])
    config = ElysiumConfig.from_pretrained(tmp_path / "saved")
    assert (config.selector_gate, config.box_rounding, config.allow_absent) == ("public_affine", "round", False)


def test_the_model_without_its_head_loads_directly_too(release) -> None:
    whole = AutoModelForImageTextToText.from_pretrained(GOLDEN / release)
    core, info = AutoModel.from_pretrained(GOLDEN / release, output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert all(torch.equal(value, whole.model.state_dict()[name]) for name, value in core.state_dict().items())


def test_a_placeholder_is_never_the_likeliest_token(model, reference) -> None:
    ids, frames = samples(model, reference)[0]
    logits = model(input_ids=ids, pixel_values_videos=frames).logits
    assert (logits[..., OLD_ROWS:].amax(-1) < logits[..., :OLD_ROWS].amax(-1)).all()


@pytest.fixture
def copied(tmp_path) -> Path:
    """A release that may be spoilt."""
    return Path(shutil.copytree(GOLDEN / RELEASES[0], tmp_path / "release"))


def into_shards(folder: Path, kind: str) -> list[Path]:
    """Rewrites a release as three shards with an index."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    stem, suffix = ("model", "safetensors") if kind == "safetensors" else ("pytorch_model", "bin")
    names, weight_map = sorted(weights), {}
    for number in range(3):
        file = f"{stem}-{number + 1:05d}-of-00003.{suffix}"
        part = {name: weights[name] for name in names[number::3]}
        save_file(part, folder / file) if kind == "safetensors" else torch.save(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return sorted(folder.glob(f"{stem}-*.{suffix}"))


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_convert_to_the_same_weights(copied, tmp_path, kind: str) -> None:
    convert(copied, tmp_path / "one")
    into_shards(copied, kind)
    steps = []
    report = convert(copied, tmp_path / "three", progress=lambda done, count: steps.append((done, count)))
    assert steps == [(1, 3), (2, 3), (3, 3)] and report.num_shards == 3
    one = AutoModelForImageTextToText.from_pretrained(tmp_path / "one").state_dict()
    three = AutoModelForImageTextToText.from_pretrained(tmp_path / "three").state_dict()
    assert one.keys() == three.keys() and all(torch.equal(one[name], three[name]) for name in one)
    assert report.num_parameters == sum(value.numel() for value in three.values())


def test_the_weights_can_be_narrowed(copied, tmp_path) -> None:
    report = convert(copied, tmp_path / "out", dtype=torch.bfloat16)
    assert report.dtype == "bfloat16"
    assert {value.dtype for value in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.bfloat16}
    assert AutoModelForImageTextToText.from_pretrained(tmp_path / "out").dtype == torch.bfloat16


def test_the_report_says_whether_the_gate_was_ever_trained(copied, tmp_path) -> None:
    assert convert(copied, tmp_path / "trained").gate_was_trained
    weights = load_file(copied / "model.safetensors")
    weights["adapter.trans_weight"].zero_()
    save_file(weights, copied / "model.safetensors")
    assert not convert(copied, tmp_path / "untrained").gate_was_trained


def small_vocabulary_release(folder: Path, rows: int) -> None:
    """Gives a release as many rows as a tokenizer has tokens."""
    weights = load_file(folder / "model.safetensors")
    for name in ("llm.model.embed_tokens.weight", "llm.lm_head.weight"):
        weights[name] = torch.randn(rows, weights[name].shape[1], generator=torch.Generator().manual_seed(3))
    save_file(weights, folder / "model.safetensors")
    config = json.loads((folder / "llm" / "config.json").read_text())
    (folder / "llm" / "config.json").write_text(json.dumps(config | {"vocab_size": rows}))


@pytest.mark.parametrize("place", ["llm", "given"])
def test_a_release_with_a_tokenizer_gets_a_processor(copied, tmp_path, place: str) -> None:
    folder = copied / "llm" if place == "llm" else tmp_path / "words"
    rows = plain_tokenizer(folder)
    small_vocabulary_release(copied, rows)
    report = convert(copied, tmp_path / "out", tokenizer=folder if place == "given" else None)
    assert report.has_processor
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    assert (model.config.image_token_id, model.config.video_token_id) == (rows, rows + 1)
    assert (processor.image_token_id, processor.video_token_id) == (rows, rows + 1)
    assert processor.num_kept_tokens == model.config.num_kept_tokens and processor.box_rounding == "round"
    frames = torch.randint(0, 256, (2, 30, 40, 3), dtype=torch.uint8).numpy()
    inputs = processor.apply_chat_template(
        processor.build_messages("rsot", video=frames, text="the red circle"),
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
    )
    assert model.generate(**inputs, max_new_tokens=3).shape[1] > inputs["input_ids"].shape[1]


def test_a_tokenizer_that_is_too_large_is_refused(copied, tmp_path) -> None:
    plain_tokenizer(copied / "llm")
    with pytest.raises(ConversionError, match="must fit the release's vocabulary of 320"):
        convert(copied, tmp_path / "out")


def spoil(folder: Path, **changes: torch.Tensor | None) -> None:
    weights = load_file(folder / "model.safetensors")
    for name, value in changes.items():
        weights.pop(name) if value is None else weights.update({name: value})
    save_file(weights, folder / "model.safetensors")


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def ours(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "elysium", "text_config": {}}))


def no_tower(folder: Path) -> None:
    shutil.rmtree(folder / "vit")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def missing_shard(folder: Path) -> None:
    into_shards(folder, "bin")[1].unlink()


def torn_shard(folder: Path) -> None:
    path = into_shards(folder, "safetensors")[2]
    path.write_bytes(path.read_bytes()[:1000])


def code_in_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"llm.lm_head.weight": Path("/")}, folder / "pytorch_model.bin")


def unknown_key(folder: Path) -> None:
    spoil(folder, **{"llm.model.layers.9.extra": torch.zeros(2)})


def foreign_key(folder: Path) -> None:
    spoil(folder, extra=torch.zeros(2))


def missing_key(folder: Path) -> None:
    spoil(folder, **{"llm_proj.2.bias": None})


def wrong_shape(folder: Path) -> None:
    spoil(folder, **{"llm_proj.2.bias": torch.zeros(5)})


@pytest.mark.parametrize(
    ("spoiling", "message"),
    [
        (no_config, "must be a folder with a config.json"),
        (ours, "folder of ours already"),
        (no_tower, "visual_config of a released config.json must name"),
        (no_weights, "must hold model.safetensors"),
        (missing_shard, "missing pytorch_model-00002-of-00003.bin"),
        (torn_shard, "must be a whole file of weights"),
        (code_in_a_pickle, "must be a whole file of weights"),
        (unknown_key, "by a known name, got llm.model.layers.9.extra"),
        (foreign_key, "by a known name, got extra"),
        (missing_key, "missing 1: model.multi_modal_projector.linear_2.bias"),
        (wrong_shape, r"must have the shape \(96,\) by config.json, got \(5,\)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_bad_release_is_refused_and_leaves_nothing_behind(copied, tmp_path, spoiling, message: str) -> None:
    spoiling(copied)
    with pytest.raises(ValueError, match=message):
        convert(copied, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["release"]


def test_too_small_a_disk_is_noticed_before_anything_is_written(copied, tmp_path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(convert_elysium_weights.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ConversionError, match="the disk must have 0.00 GB free"):
        convert(copied, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["release"]


def test_an_output_with_something_in_it_is_left_alone(copied, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    with pytest.raises(OutputError, match="must be new or empty"):
        convert(copied, tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "kept"


def test_the_full_sized_release_needs_no_folders_of_its_towers(tmp_path) -> None:
    config = json.loads((GOLDEN / RELEASES[0] / "config.json").read_text())
    config["llm_config"]["pretrained_model_name_or_path"] = "lmsys/vicuna-7b-v1.5"
    config["visual_config"]["pretrained_model_name_or_path"] = "openai/clip-vit-large-patch14-336"
    config["adapter_config"] |= {"in_token_num": 576, "out_token_num": 108, "num_features": 1024}
    (tmp_path / "config.json").write_text(json.dumps(config))
    ours, published = ElysiumConfig.from_pretrained(tmp_path), ElysiumConfig()
    assert ours.text_config.to_dict() == published.text_config.to_dict()
    assert ours.vision_config.to_dict() == published.vision_config.to_dict()
    assert ours.num_kept_tokens == published.num_kept_tokens == 108


def test_names_that_are_not_the_releases_are_not_renamed() -> None:
    assert rename_released("model.language_model.norm.weight") is None
    assert rename_released("llm_proj.bias") == "model.multi_modal_projector.linear.bias"
