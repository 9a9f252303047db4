"""The frozen evaluation: its clips, its baselines, and a whole run with the tiny random model."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import save_tiny_checkpoint

from elysium.evaluation.opencv_trackers import opencv_boxes
from elysium.processing.overlap import paired_iou
from elysium.training.synthetic import Scene, World, render_clip
from research.eval_v1 import run as eval_v1
from research.eval_v1.report import TARGETS, check_targets, decile_table, figure_at, save_score_plot
from research.eval_v1.scenes import (
    FINGERPRINTS,
    SCENE,
    FrozenClips,
    eval_clips,
    find_target,
    fingerprint_lines,
)


@pytest.fixture(scope="module")
def world() -> World:
    return World(7, num_backgrounds=2, num_unnamed=3, num_variants=1)


def qualifying_scene(world: World) -> tuple[Scene, int]:
    for seed in range(50):
        scene = world.sample(seed, SCENE)
        target = find_target(scene, render_clip(scene, 1, (80, 60)))
        if target is not None:
            return scene, target
    raise AssertionError("no scene qualifies")


def test_a_target_has_seen_distractors_of_its_colour_and_of_its_kind(world: World) -> None:
    scene, target = qualifying_scene(world)
    first = render_clip(scene, 1, (80, 60))
    objects = [scene.objects[index] for index in scene.tracked]
    others = [item for i, item in enumerate(objects) if i != target and first.visible[0, i] and item.name]
    assert any(item.sprite.colour == objects[target].sprite.colour for item in others)
    assert any(item.sprite.kind == objects[target].sprite.kind for item in others)
    assert all(item.name != objects[target].name for item in others)


def test_a_scene_whose_objects_are_hidden_in_frame_1_does_not_qualify(world: World) -> None:
    scene, _ = qualifying_scene(world)
    first = render_clip(scene, 1, (80, 60))
    first.visible_fraction[:] = 0.5
    assert find_target(scene, first) is None
    first.visible_fraction[:] = 1.0
    first.visible[:] = False
    assert find_target(scene, first) is None


def test_the_fingerprints_in_the_repository_are_whole(tmp_path: Path) -> None:
    FrozenClips()
    damaged = tmp_path / "scenes.sha256"
    lines = FINGERPRINTS.read_text("utf-8").splitlines()
    lines[3] = "0" * 64 + lines[3][64:]
    damaged.write_text("\n".join(lines) + "\n", "utf-8")
    with pytest.raises(ValueError, match="restore it from the repository"):
        FrozenClips(damaged)


def test_the_sum_depends_on_every_clip_and_on_their_order() -> None:
    sums = {fingerprint_lines(prints)[-1] for prints in (["a" * 64, "b" * 64], ["b" * 64, "a" * 64], ["a" * 64])}
    assert len(sums) == 3


def test_more_clips_than_there_are_are_refused() -> None:
    with pytest.raises(ValueError, match="501"):
        next(eval_clips(501))


def test_csrt_follows_a_slow_square_and_starts_from_the_given_box() -> None:
    rng = np.random.default_rng(0)
    texture, ground = rng.integers(0, 255, (24, 24, 3)), rng.integers(90, 110, (60, 80, 3))
    true = np.array([[10 + t, 12 + t, 34 + t, 36 + t] for t in range(4)])
    frames = np.stack([ground] * 4).astype(np.uint8)
    for frame, (x1, y1, x2, y2) in zip(frames, true, strict=True):
        frame[y1:y2, x1:x2] = texture
    boxes = opencv_boxes("csrt", frames, true[0])
    assert boxes[0].tolist() == true[0].tolist()
    assert paired_iou(boxes, true.astype(float)).min() > 0.6


def test_a_target_that_was_not_measured_is_neither_met_nor_missed() -> None:
    checked = check_targets({"rec": {"model": {"success_50": 0.95}}, "sot_8": {"model": {"mean_iou": 0.79}}})
    verdicts = {item["target"]: item["met"] for item in checked}
    assert len(verdicts) == len(TARGETS)
    assert verdicts["REC accuracy at IoU 0.5"] is True
    assert verdicts["SOT, 8 frames: mean IoU"] is False
    assert verdicts["RSOT, 8 frames: mean IoU"] is None


@pytest.mark.parametrize(
    ("options", "rule"),
    [(["--clips", "0"], "--clips"), (["--clips", "2", "--long", "3"], "--long"), (["--jobs", "0"], "--jobs")],
)
def test_counts_that_do_not_fit_are_refused(options: list[str], rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        eval_v1.main(options)
    assert stopped.value.code == 2
    assert rule in capsys.readouterr().err.splitlines()[-1]


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a whole run, which checks the first clips against the frozen fingerprints on its way."""
    folder = tmp_path_factory.mktemp("eval_v1")
    model = save_tiny_checkpoint(folder / "model")
    output = folder / "trial.json"
    options = ["--model", str(model), "--clips", "4", "--long", "1", "--jobs", "1", "--device", "cpu"]
    assert eval_v1.main([*options, "--output", str(output)]) == 0
    return output


def test_a_whole_run_measures_every_target_and_says_that_it_is_partial(trial: Path) -> None:
    results = json.loads(trial.read_text("utf-8"))
    assert results["partial"] is True
    assert (results["clips"], results["long_clips"], results["csrt_long_clips"]) == (4, 1, 1)
    assert results["sha256"] == FrozenClips().sha256
    assert [item["target"] for item in results["targets"] if item["reached"] is None] == []
    assert not any(item["met"] for item in results["targets"] if item["target"].startswith(("SOT", "RSOT", "REG")))


def test_baselines_stand_on_the_same_frames_as_the_model(trial: Path) -> None:
    results = json.loads(trial.read_text("utf-8"))
    for task, clips in (("sot_8", 4), ("sot_64", 1)):
        counts = {(results[task][who]["clips"], results[task][who]["frames"]) for who in ("model", "repeated", "csrt")}
        assert len(counts) == 1
        assert counts.pop()[0] == clips
    assert results["sot_8"]["repeated"]["mean_iou"] == results["data"]["repeated_box_iou_8"]
    assert results["sot_8"]["csrt"]["mean_iou"] > results["sot_8"]["model"]["mean_iou"]


def test_a_random_gate_keeps_no_more_of_the_objects_than_its_share(trial: Path) -> None:
    gate = figure_at(json.loads(trial.read_text("utf-8")), ("gate",))
    assert isinstance(gate, dict)
    assert gate["share_kept"] == pytest.approx(5 / 16, abs=1e-4)
    assert 0.3 < gate["precision_ratio"] < 2.0


def test_measured_scores_become_a_table_and_a_picture(tmp_path: Path) -> None:
    deciles = [round(0.05 + n / 10, 2) for n in range(10)]
    tally = {"spearman": 0.5, "boxes": 50, "decile_mean_score": deciles, "decile_mean_iou": deciles}
    results = {"score_8": tally, "score_64": None}
    assert decile_table(results).row_count == 2
    assert save_score_plot(results, tmp_path / "scores.png")
    assert Image.open(tmp_path / "scores.png").width > 200
    assert not save_score_plot({"score_8": None}, tmp_path / "nothing.png")
    assert [path.name for path in tmp_path.iterdir()] == ["scores.png"]
