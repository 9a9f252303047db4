"""Training of elysium-tiny: what it reads is what inference asks, its shortcuts change no number, and it resumes."""

import copy
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
import yaml
from safetensors.torch import load_file
from tiny import save_tiny_checkpoint, tiny_model, tiny_processor, tiny_tokenizer
from torch import nn
from trl import TrlParser

from elysium.processing.boxes_elysium import format_box, format_frames
from elysium.processing.processing_elysium import ElysiumProcessor
from elysium.training import sft
from elysium.training.sft_arguments import DataArguments, ElysiumSFTConfig, ModelArguments
from elysium.training.synthetic import render_clip
from elysium.training.synthetic.sprites import COLOURS, KINDS
from research.scenes.world import StudyConfig, StudyWorld
from research.tiny import average as average_saves
from research.tiny import curves
from research.tiny import data as tiny_data
from research.tiny.checkpoint import TRAINED_ON
from research.tiny.crops import LookConfig
from research.tiny.data import IGNORE, BatchPlan, EvidencePlan, TinyBatches, wrong_history
from research.tiny.losses import TinyTrainingModel
from research.tiny.objective import build_plan
from research.tiny.optimizers import MuonWithAdamW, linear_decay

# Those of `make tiny`; the others are of TRL's trainers (test_sft.py, test_grpo.py).
STAGES = ("images", "look", "windows", "words", "tracks", "carried", "lost", "held")
RECIPES = [Path(__file__).parents[2] / "research" / "tiny" / "recipes" / f"tiny_{stage}.yaml" for stage in STAGES]
PLAN = BatchPlan(
    frames={1: 0.5, 3: 0.5},
    clips_per_batch={1: 2, 3: 2},
    scene=StudyConfig(num_objects=(3, 4), side=(0.3, 0.6), share_unnamed=0.2, share_leaving=0.6, speed=(0.05, 0.1)),
    share_other_phrasings=0.5,
)
Batch = dict[str, Any]
SMALL_RECIPES = sorted((Path(__file__).parents[2] / "research" / "semantic" / "recipes").glob("*.yaml"))


def small_world(seed: int) -> StudyWorld:
    return StudyWorld(seed, num_backgrounds=2, num_unnamed=4, num_variants=1)


def batches(seed: int = 3, ranks: int = 1, plan: BatchPlan = PLAN) -> TinyBatches:
    worlds = plan.build_worlds(seed)
    return TinyBatches(
        tiny_processor(), plan, worlds, num_batches=12, seed=seed, ranks=ranks, image_size=32, patch_size=8
    )


@pytest.fixture(scope="module", autouse=True)
def _small_worlds():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_data, "StudyWorld", small_world)
        yield


@pytest.fixture(scope="module")
def samples(_small_worlds) -> dict[str, Batch]:
    """One batch of images, one of single frames and one of clips."""
    source, found = batches(), {}
    image_id = source.processor.image_token_id
    for index in range(len(source)):
        batch = source[index]
        single = len(batch["frames"]) == len(batch["boxes"])
        name = "clips" if not single else "images" if (batch["prefix_ids"] == image_id).any() else "frames"
        found.setdefault(name, batch)
        if len(found) == 3:
            return found
    raise AssertionError(f"only {sorted(found)} in {len(source)} batches")


def rows(batch: Batch, group: str) -> list[tuple[list[int], str, str]]:
    """For each row: its tokens without padding, its question and its answer."""
    tokenizer, result = tiny_tokenizer(), []
    for ids, labels in zip(batch[group]["ids"], batch[group]["labels"], strict=True):
        places = (labels != IGNORE).nonzero().flatten()
        start, end = int(places[0]) + 1, int(places[-1]) + 2
        asked, answer = tokenizer.decode(ids[:start]), tokenizer.decode(ids[start:end])
        result.append((ids[:end].tolist(), asked.removesuffix(" ASSISTANT:"), answer.removesuffix("</s>")[1:]))
        assert asked.endswith(" ASSISTANT:") and answer.startswith(" ") and answer.endswith("</s>")
    return result


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, tuple):
        return all(map(equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return torch.equal(one, other)


def test_a_batch_depends_on_seed_and_index_alone() -> None:
    one, other = batches(), batches()
    first = {index: one[index] for index in (0, 4, 2)}
    assert all(equal(first[index], other[index]) for index in (4, 2, 0))
    assert not equal(first[0], first[4])
    assert not equal(first[0], batches(seed=4)[0])


def test_processes_that_train_together_see_clips_of_one_length() -> None:
    source = batches(ranks=2)
    lengths = [len(source[index]["frames"]) for index in range(8)]
    assert lengths[0::2] == lengths[1::2]
    assert not equal(source[0], source[1])


@pytest.mark.parametrize("group", ["boxes_group", "words_group"])
@pytest.mark.parametrize("kind", ["images", "frames", "clips"])
def test_training_reads_the_tokens_that_the_processor_writes(samples, kind: str, group: str) -> None:
    processor, batch = tiny_processor(), samples[kind]
    clips = batch["frames"].view(len(batch["boxes"]), -1, *batch["frames"].shape[1:]).numpy()
    per_clip = len(batch[group]["ids"]) // len(clips)
    for number, (ids, question, answer) in enumerate(rows(batch, group)):
        frames = clips[number // per_clip]
        visual = {"type": "image", "image": frames[0]} if kind == "images" else {"type": "video", "video": frames}
        messages = [
            {"role": "user", "content": [visual, {"type": "text", "text": question}]},
            {"role": "assistant", "content": [{"type": "text", "text": answer}]},
        ]
        whole = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")
        assert batch["prefix_ids"].tolist() + ids == whole["input_ids"][0].tolist()


def test_labels_are_the_answer_shifted_by_one(samples) -> None:
    for batch in samples.values():
        for group in ("boxes_group", "words_group"):
            ids, labels = batch[group]["ids"], batch[group]["labels"]
            wanted = labels[:, :-1] != IGNORE
            assert torch.equal(labels[:, :-1][wanted], ids[:, 1:][wanted])
            assert (labels[:, -1] == IGNORE).all()


@pytest.mark.parametrize("kind", ["images", "frames", "clips"])
def test_coordinates_are_marked_with_their_frame(samples, kind: str) -> None:
    processor, batch = tiny_processor(), samples[kind]
    group, num_frames = batch["boxes_group"], batch["boxes"].shape[1]
    marked_rows = 0
    for row, (_, _, answer) in enumerate(rows(batch, "boxes_group")):
        owner = int(group["object_index"][row])
        if owner < 0:
            assert (group["coordinate_frame"][row] == -1).all()
            continue
        (readings,) = processor.post_process_boxes(answer, None if kind == "images" else num_frames)
        expected = {r["frame"] - 1: [str(v) for v in r["box_xyxy_bin"]] for r in readings if r["status"] == "ok"}
        places = (group["coordinate_frame"][row] >= 0).nonzero().flatten()
        told: dict[int, list[str]] = {}
        for place in places.tolist():
            frame = int(group["coordinate_frame"][row, place])
            told.setdefault(frame, []).append(tiny_tokenizer().decode(group["ids"][row, place + 1]))
        assert told == expected
        clip = row // (len(group["ids"]) // len(batch["boxes"]))
        assert set(told) == set(batch["visible"][clip, :, owner].nonzero().flatten().tolist())
        marked_rows += 1
    assert marked_rows > 2


def test_a_wrong_history_is_read_while_the_labels_stay_true() -> None:
    source = batches(plan=replace(PLAN, frames={3: 1.0}, wrong_histories=1.0))
    tokenizer = tiny_tokenizer()
    single = set(tokenizer.convert_tokens_to_ids([str(number) for number in range(100)]))
    differing = 0
    for index in range(6):
        batch = source[index]
        group, words = batch["boxes_group"], batch["words_group"]
        assert torch.equal(
            words["ids"][:, 1:][words["labels"][:, :-1] != IGNORE], words["labels"][words["labels"] != IGNORE]
        )
        read, wanted = group["ids"][:, 1:], group["labels"][:, :-1]
        differs = (read != wanted) & (wanted != IGNORE)
        # Nothing but coordinates differs, and the labels are the true boxes.
        assert set(read[differs].tolist()) | set(wanted[differs].tolist()) <= single
        differing += int(differs.sum())
        per_clip = len(read) // len(batch["boxes"])
        for row, owner in enumerate(group["object_index"].tolist()):
            if owner < 0:
                continue
            answer = tokenizer.decode(wanted[row][wanted[row] != IGNORE]).removesuffix("</s>")[1:]
            visible = batch["visible"][row // per_clip, :, owner]
            boxes = batch["boxes"][row // per_clip, :, owner]
            assert answer == format_frames(
                [box if seen else None for box, seen in zip(boxes.numpy(), visible, strict=True)]
            )
    assert differing > 50


def test_a_wrong_history_keeps_absent_frames_and_is_sometimes_another_objects() -> None:
    clip = render_clip(small_world(1).sample(5, PLAN.scene), 8, (32, 32))
    rng = np.random.default_rng(0)
    boxes = [clip.boxes_xyxy_norm[t, 0] if t != 3 else None for t in range(8)]
    histories = [wrong_history(boxes, clip, 0, rng) for _ in range(60)]
    assert all((box is None) == (t == 3) for history in histories for t, box in enumerate(history))
    for box in (box for history in histories for box in history if box is not None):
        assert (box[2:] > box[:2]).all() and box.min() >= 0 and box.max() <= 1
    others = [clip.boxes_xyxy_norm[7, o] for o in range(1, clip.visible.shape[1]) if clip.visible[7, o]]
    last = [history[7] for history in histories]
    assert any(np.array_equal(box, other) for box in last for other in others)
    stale = [np.array_equal(history[7], history[6]) for history in histories]
    assert 0.1 < np.mean(stale) < 0.7


def test_a_glimpse_is_one_frames_box_without_those_before(_small_worlds) -> None:
    source = batches(plan=replace(PLAN, frames={3: 1.0}, questions="glimpses"))
    tokenizer, frames, absent = tiny_tokenizer(), set(), 0
    for index in range(8):
        batch = source[index]
        group = batch["glimpses_group"]
        per_clip = len(group["ids"]) // len(batch["boxes"])
        assert per_clip == 5
        for row, owner in enumerate(group["object_index"].tolist()):
            if owner < 0:
                continue
            learnt = group["labels"][row] != IGNORE
            end = int(learnt.nonzero()[-1]) + 2
            text = tokenizer.decode(group["ids"][row, :end])
            frame = int(re.search(r"ASSISTANT: Frame (\d): ", text)[1]) - 1
            seen = bool(batch["visible"][row // per_clip, frame, owner])
            box = format_box(batch["boxes"][row // per_clip, frame, owner].numpy()) if seen else "none"
            # The frame's number is given; learnt is what stands in it.
            assert tokenizer.decode(group["labels"][row][learnt]).strip() == box
            assert text.endswith(f"Frame {frame + 1}: {box}")
            marked = group["coordinate_frame"][row]
            assert marked[marked >= 0].tolist() == [frame] * (4 if seen else 0)
            frames.add(frame)
            absent += not seen
    assert frames == {0, 1, 2} and absent > 0


def test_a_mix_of_places_asks_mostly_by_words(_small_worlds) -> None:
    """Rows whose question names a thing and whose answer is a box, by the group that they stand in."""
    tokenizer = tiny_tokenizer()
    source = batches(plan=replace(PLAN, frames={3: 1.0}, questions="places"))
    for group, total, by_words in (("boxes_group", 2, 1), ("glimpses_group", 6, 4)):
        texts = [tokenizer.decode(ids) for ids in source[0][group]["ids"]]
        clips = len(source[0]["boxes"])
        assert len(texts) == total * clips
        # A scene in which no name singles out a thing has nothing to ask by words.
        asked = [text.split("ASSISTANT:")[0] for text in texts]
        assert 0 < sum("[" not in question for question in asked) <= by_words * clips


def test_a_mix_that_there_is_not_is_named(_small_worlds) -> None:
    with pytest.raises(ValueError, match="of even, glimpses, places, finds, finds_then_boxes, tracks, got 'words'"):
        batches(plan=replace(PLAN, questions="words"))


def test_glimpses_enter_the_losses(_small_worlds) -> None:
    batch = batches(plan=replace(PLAN, frames={3: 1.0}, questions="glimpses"))[0]
    network = training_model()
    torch.manual_seed(0)
    whole = network(**batch)
    torch.manual_seed(0)
    without = network(**{name: value for name, value in batch.items() if name != "glimpses_group"})
    changed = {name for name in whole if not torch.equal(whole[name], without[name])}
    assert {"coordinates", "expected", "attention", "presence"} <= changed
    assert not changed & {"gate", "dense", "boxes", "words", "tokens"}


def training_model() -> TinyTrainingModel:
    model = tiny_model()
    model.set_attn_implementation("eager")
    return TinyTrainingModel(model, tiny_processor(), {"gate": 0.3}, colours=list(COLOURS), kinds=list(KINDS))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["images", "clips"])
def test_questions_on_a_shared_prefix_give_the_logits_of_plain_conversations(samples, kind: str) -> None:
    batch, network = samples[kind], training_model()
    model, hidden = network.model, []
    hook = model.model.language_model.register_forward_hook(lambda *call: hidden.append(call[-1].last_hidden_state))
    network(**batch)
    hook.remove()
    packed = {"boxes_group": hidden[1], "words_group": hidden[2]}
    pixels = (batch["frames"].permute(0, 3, 1, 2).float() - network.pixel_mean) / network.pixel_std
    pixels = pixels.view(len(batch["boxes"]), -1, *pixels.shape[1:])
    name = "pixel_values" if kind == "images" else "pixel_values_videos"
    for group, states in packed.items():
        per_clip = len(states) // len(pixels)
        for row, (ids, _, _) in enumerate(rows(batch, group)):
            whole = torch.cat([batch["prefix_ids"], torch.tensor(ids)])[None]
            plain = model(input_ids=whole, **{name: pixels[row // per_clip]}).logits[0, -len(ids) :]
            torch.testing.assert_close(model.lm_head(states[row, : len(ids)]), plain, atol=1e-4, rtol=1e-4)


def test_every_loss_is_finite_and_teaches_every_part(samples) -> None:
    network = training_model().train()
    for batch in samples.values():
        losses = network(**batch)
        assert all(torch.isfinite(value).all() for value in losses.values())
        losses["loss"].backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert [name for name in without if not name.endswith(("class_embedding", "k_proj.bias"))] == []


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_names_only_what_the_trainer_reads(samples, recipe: Path) -> None:
    parser = TrlParser((ModelArguments, DataArguments, ElysiumSFTConfig))
    model_args, data_args, _ = parser.parse_args_and_config(["--config", str(recipe)], fail_with_unknown_args=True)
    assert model_args.trained_on == TRAINED_ON
    values = dict(data_args.objective_args)
    losses = {name for name in training_model()(**samples["clips"]) if name[0] != "_"} - {"loss"}
    assert set(values["losses"]) <= losses
    assert set(values["frames"]) <= set(values["clips_per_batch"])
    assert sum(values["frames"].values()) == pytest.approx(1.0)
    assert 0 < values.pop("hold") <= 1 and 0 < values.pop("floor") <= 1 and 0 < values.pop("tower_rate") <= 1
    del values["losses"]
    build_plan(**values).question_mix()


@pytest.mark.parametrize("recipe", SMALL_RECIPES, ids=lambda path: path.stem)
def test_a_recipe_of_elysium_small_names_only_what_the_trainer_reads(recipe: Path) -> None:
    parser = TrlParser((ModelArguments, DataArguments, ElysiumSFTConfig))
    _, data_args, _ = parser.parse_args_and_config(["--config", str(recipe)], fail_with_unknown_args=True)
    values = {k: v for k, v in data_args.objective_args.items() if k not in ("losses", "hold", "floor", "tower_rate")}
    build_plan(**values).question_mix()


def evidence_pool(path: Path) -> Path:
    """Write a pool of two backgrounds of 4x4 patches in which nothing is seen."""
    nothing = {"columns": (2, 16, 16), "values": (2, 16, 16), "boxes": (2, 16, 4), "box_scores": (2, 16)}
    arrays = {name: np.zeros(shape, np.int16 if name == "columns" else np.float16) for name, shape in nothing.items()}
    np.savez(path, likeness=np.eye(1000, dtype=np.float16), **arrays)
    return path


def test_foreign_pictures_show_another_scene_while_all_else_stays(tmp_path) -> None:
    plan = EvidencePlan(pool=evidence_pool(tmp_path / "pool.npz"), share=1.0, share_real=0.0)
    single = replace(PLAN, frames={1: 1.0}, clips_per_batch={1: 3}, questions="finds_then_boxes")
    own, foreign = (
        batches(plan=replace(single, evidence=replace(plan, share_foreign=share)))[0] for share in (0.0, 1.0)
    )
    assert torch.equal(foreign["frames"], own["frames"][[2, 0, 1]])
    assert equal(
        *({k: v for k, v in each.items() if k in ("evidence", "boxes", "coverage")} for each in (own, foreign))
    )
    scores, boxes, box_scores = own["evidence"]
    assert scores.shape == (3, 16, 1103) and ((boxes[..., 2] > 0) == (box_scores > 0)).all() and box_scores.any()


def test_glimpses_ask_tasks_that_whole_answers_do_not() -> None:
    source = batches(plan=replace(PLAN, frames={3: 1.0}, questions="finds_then_boxes"))
    questions = [tiny_tokenizer().decode(ids) for ids in source[0]["glimpses_group"]["ids"]]
    assert len(questions) == 7 * len(source[0]["boxes"])
    assert any("[" not in question.split("ASSISTANT:")[0] for question in questions)


def test_boxes_in_questions_are_as_far_off_as_the_plan_says_for_the_step() -> None:
    plan = replace(PLAN, frames={1: 1.0}, clips_per_batch={1: 8}, box_jitter={0: 0.0, 2: 0.3})
    exact = batches(plan=replace(plan, box_jitter={0: 0.0}), ranks=2)
    shifted = batches(plan=plan, ranks=2)
    same = [torch.equal(exact[i]["words_group"]["ids"], shifted[i]["words_group"]["ids"]) for i in range(8)]
    assert same[:4] == [True] * 4 and not any(same[4:])
    with pytest.raises(ValueError, match="box_jitter must hold from step 0, got {3: 0.1}; begin with `0: DEVIATION`"):
        replace(plan, box_jitter={3: 0.1}).box_jitter_at(2)


def test_clips_follow_an_object_and_ask_about_it() -> None:
    looks = LookConfig(share=1.0, side=(0.4, 0.6), share_gaps=0.5, gap=(5, 9))
    source = batches(plan=replace(PLAN, frames={3: 1.0}, looks=looks, questions="tracks"))
    scene = source.worlds[0].sample(4, PLAN.scene)
    rng = np.random.default_rng(0)
    followed = [source._render(scene, 3, rng) for _ in range(12)]
    assert len({index for _, index in followed}) > 1
    for clip, index in followed:
        first = clip.boxes_xyxy_norm[0, index]
        if clip.visible_fraction[0, index] > 0.9:
            assert np.abs((first[:2] + first[2:]) / 2 - 0.5).max() < 0.12
            assert 0.25 < np.sqrt((first[2:] - first[:2]).prod()) < 0.75
    clip, index = next(pair for pair in followed if pair[0].visible[0].sum() > 1 and pair[0].visible[0, pair[1]])
    shown = tiny_data.Shown(scene, clip, None, index)
    asked = [source._ask("sot", "{box}", turn, shown, rng).object_index for turn in range(200)]
    assert 0.7 < asked.count(index) / 200 < 0.95


def test_without_looks_the_batches_are_those_of_before() -> None:
    """A recipe without them draws the same numbers, so that it gives the checkpoint that it gave."""
    one, other = batches()[0], batches(plan=replace(PLAN, looks=LookConfig(side=(0.1, 0.2))))[0]
    assert torch.equal(one["frames"], other["frames"])
    assert torch.equal(one["boxes_group"]["ids"], other["boxes_group"]["ids"])


def train(folder: Path, *, plan: dict[str, Any] | None = None, **changes: Any) -> None:
    """A stage of four steps."""
    start = folder.parent / "start"
    if not start.exists():
        save_tiny_checkpoint(start)
    recipe = {
        "model_name_or_path": str(start),
        "attn_implementation": "eager",
        "trained_on": "trained on shapes",
        "objective": "research.tiny.objective:build",
        "objective_args": {
            "frames": {1: 0.5, 2: 0.5},
            "clips_per_batch": {1: 2, 2: 1},
            "scene": {"num_objects": [3, 4], "side": [0.3, 0.6]},
            "box_jitter": 0.1,
            "wrong_histories": 0.5,
            "questions": "glimpses",
            "worlds": {"shapes": 1.0},
            "share_fine": 0.3,
            "losses": {"gate": 0.3},
            "tower_rate": 1.0,
            "hold": 0.5,
            "floor": 0.1,
        }
        | (plan or {}),
        "output_dir": str(folder),
        "max_steps": 4,
        "learning_rate": 1e-3,
        "weight_decay": 0.01,
        "warmup_steps": 1,
        "per_device_train_batch_size": 1,
        "train_sampling_strategy": "sequential",
        "seed": 1,
        "use_cpu": True,
        "activation_checkpointing": False,
        "use_cache": True,
        "logging_steps": 1,
        "save_steps": 2,
        "save_total_limit": 2,
        "half_precision_output": True,
        "disable_tqdm": True,
        "report_to": "none",
    } | changes
    config = folder.parent / f"{folder.name}.yaml"
    config.write_text(yaml.safe_dump(recipe))
    sft.main(["--config", str(config)])


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path, monkeypatch) -> None:
    read, item = [], TinyBatches.__getitem__
    monkeypatch.setattr(TinyBatches, "__getitem__", lambda self, index: read.append(index) or item(self, index))
    train(tmp_path / "whole")
    stopped = tmp_path / "stopped"
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", stopped / "checkpoint-2")
    train(stopped)
    assert read == [0, 1, 2, 3, 2, 3]
    whole, resumed = (load_file(path / "model.safetensors") for path in (tmp_path / "whole", stopped))
    assert equal(whole, resumed)
    start = load_file(tmp_path / "whole" / "checkpoint-2" / "model.safetensors")
    assert any(not torch.equal(start[name].half(), value) for name, value in whole.items())


def test_a_run_is_compared_with_the_curves_of_another(tmp_path, capsys) -> None:
    run, kept = tmp_path / "tiny_images", tmp_path / "kept.png"
    train(run)
    curves.main([run], output=kept)
    assert kept.stat().st_size > 1000
    stopped, other = (tmp_path / name / "tiny_images" for name in ("stopped", "other"))
    shutil.copytree(run / "checkpoint-2", stopped / "checkpoint-2")
    train(other, seed=5)
    capsys.readouterr()
    curves.main([stopped], against=kept.with_suffix(".json"))
    curves.main([other], against=kept.with_suffix(".json"))
    same, differs = capsys.readouterr().out.splitlines()
    assert same == "images: equal to step 2" and differs.startswith("images: not equal at step 1: ")
    with pytest.raises(typer.BadParameter, match="give --output PNG or --against JSON"):
        curves.main([run])


def test_saves_are_averaged_into_a_checkpoint(tmp_path) -> None:
    run = tmp_path / "run"
    train(run, save_steps=1)
    saves = average_saves.choose_saves(run, 2)
    assert [save.name for save in saves] == ["checkpoint-3", "checkpoint-4"]
    assert average_saves.choose_saves(run, 1, until=3) == saves[:1]
    average_saves.main(run, tmp_path / "mean", start=run, last=2, absent_log_odds=1.5, tracking_zoom=2)
    written = ElysiumProcessor.from_pretrained(tmp_path / "mean")
    assert written.tracking == {"zoom": 2, "absent_log_odds": 1.5}
    one, other = (load_file(save / "model.safetensors") for save in saves)
    mean = load_file(tmp_path / "mean" / "model.safetensors")
    assert mean.keys() == load_file(run / "model.safetensors").keys()
    for name, value in mean.items():
        expected = (one[name] + other[name]) / 2
        assert value.dtype == torch.float16
        torch.testing.assert_close(value.float(), expected, atol=1e-3, rtol=1e-3)
    average_saves.main(run, tmp_path / "half", start=run, last=1, halfway=tmp_path / "mean")
    half = load_file(tmp_path / "half" / "model.safetensors")
    for name, value in half.items():
        torch.testing.assert_close(value.float(), (mean[name].float() + other[name]) / 2, atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match="must hold 5 saves named checkpoint-N, got 2"):
        average_saves.choose_saves(run, 5)


def small_network() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Module()
    network.layers = nn.ModuleList([nn.Linear(4, 4)])
    network.inner = nn.Module()
    network.inner.layers = nn.ModuleList([nn.Linear(4, 4)])
    network.head = nn.Linear(4, 2)
    return network


def step(network: nn.Module, optimizer: MuonWithAdamW, seed: int) -> None:
    inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))
    network.head(network.inner.layers[0](network.layers[0](inputs)).relu()).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_the_optimizers_state_survives_saving() -> None:
    build = partial(MuonWithAdamW, lr=0.02, weight_decay=0.01)
    network = small_network()
    optimizer = build(network)
    for seed in range(3):
        step(network, optimizer, seed)
    other = copy.deepcopy(network)
    resumed = build(other)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for seed in range(3, 6):
        step(network, optimizer, seed)
        step(other, resumed, seed)
    assert equal(dict(network.named_parameters()), dict(other.named_parameters()))


def test_every_parameter_is_trained_by_one_of_the_two_optimizers() -> None:
    network = small_network()
    optimizer = MuonWithAdamW(network, lr=0.02, weight_decay=0.0)
    groups = [[id(p) for group in part.param_groups for p in group["params"]] for part in optimizer.parts]
    assert groups[0] == [id(network.inner.layers[0].weight)]
    assert sorted(groups[0] + groups[1]) == sorted(id(p) for p in network.parameters())


def test_pretrained_weights_learn_at_a_rate_of_their_own() -> None:
    network = small_network()
    optimizer = MuonWithAdamW(network, lr=0.02, weight_decay=0.0, pretrained="head", pretrained_rate=0.25)
    rates = {id(p): group["lr"] for part in optimizer.parts for group in part.param_groups for p in group["params"]}
    assert rates.keys() == {id(p) for p in network.parameters()}
    assert rates[id(network.head.weight)] == rates[id(network.head.bias)] == 0.005
    assert rates[id(network.inner.layers[0].weight)] == 0.02
    by_muon = {id(p) for group in optimizer.parts[0].param_groups for p in group["params"]}
    assert id(network.head.weight) in by_muon and id(network.head.bias) not in by_muon


def test_the_schedule_reaches_both_optimizers_also_after_loading() -> None:
    optimizer = MuonWithAdamW(small_network(), lr=1.0, weight_decay=0.0)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    schedule = linear_decay(optimizer, steps=10, warmup=2, hold=0.5, floor=0.1)
    rates = []
    for _ in range(11):
        assert {group["lr"] for part in optimizer.parts for group in part.param_groups} == {schedule.get_last_lr()[0]}
        rates.append(round(schedule.get_last_lr()[0], 6))
        schedule.step()
    assert rates == [0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0.1]


def test_a_schedule_may_hold_its_rate_to_the_end() -> None:
    schedule = linear_decay(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), steps=4, warmup=0, hold=1.0)
    assert [schedule.lr_lambdas[0](step) for step in range(5)] == [1.0] * 5
