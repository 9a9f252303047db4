"""The groups of clips have the property that they are named for; tracks are scored as by hand."""

import dataclasses
import json
import re

import numpy as np
import pytest
from PIL import Image

from elysium.processing.structures import VideoClip
from elysium.processing.video_io import probe_video
from elysium.tracking.options import TrackingOptions
from elysium.training.synthetic import SceneConfig, render_clip
from elysium.training.synthetic.dataset import write_video
from research.scenes.sprite_bank import SpriteBank, is_held_out_class, normalise_sprite
from research.scenes.sprite_world import SpriteWorld
from research.tracking_table import scores as tracking_table_scores
from research.tracking_table.clips import (
    GROUPS,
    REAL_CLIPS,
    SMALL_SIDE,
    WORLD_SEEDS,
    Candidate,
    Clip,
    ClipMaker,
    as_clip,
    read_boxes,
    real_clips,
)
from research.tracking_table.run import markdown, parse_arguments
from research.tracking_table.scores import (
    RSOT,
    RSOT_ZOOM,
    SOT,
    SOT_ZOOM,
    FollowedClip,
    PeerTracks,
    follow_ours,
    score_track,
    summarise,
)
from research.tracking_table.sheets import save_sheet

SIZE = (128, 96)


def disc(colour):
    """A disc with alpha, on nothing."""
    y, x = np.mgrid[:200, :200] - 100
    inside = x**2 + y**2 < 80**2
    return np.dstack([*[np.full((200, 200), value, np.uint8) for value in colour], (inside * 255).astype(np.uint8)])


@pytest.fixture(scope="module")
def bank():
    """300 discs of 100 names, three of each, 60 without one, and 20 grounds."""
    rng = np.random.default_rng(0)
    names = [f"thing {chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(100)] * 3 + [""] * 60
    sprites = np.stack([normalise_sprite(disc(rng.integers(0, 255, 3))) for _ in names])
    grounds = [rng.integers(0, 255, (600, 800, 3), np.uint8) for _ in range(20)]
    return SpriteBank(sprites, names, [f"key {n}" for n in range(360)], grounds, [f"ground {n}" for n in range(20)])


@pytest.fixture(scope="module")
def maker(bank):
    return ClipMaker(bank, WORLD_SEEDS["headline"], num_frames=8, width=SIZE[0], height=SIZE[1])


def kind(candidate: Candidate) -> str:
    """The target's class, "" for none."""
    return candidate.scene.objects[candidate.scene.tracked[candidate.index]].sprite.kind or ""


@pytest.mark.parametrize("name", [name for name in GROUPS if name != "away"])  # which takes more than 8 frames
def test_a_target_is_seen_in_frame_1_and_has_words_where_the_group_asks_for_them(maker, name):
    for clip in maker.clips(name, 4):
        assert clip.video.frames.shape == (8, 96, 128, 3)
        assert clip.visible[0] and clip.visible[1:].mean() >= 0.5
        if GROUPS[name].needs_words:
            assert clip.target in clip.words or clip.words.endswith(clip.target.split()[-1])
            assert "moving" not in clip.words


def test_classes_are_taught_or_not_as_their_group_says(maker):
    taught = {maker.bank.names[place] for place in maker.bank.chosen("train")}
    assert {kind(found) for found in maker.candidates("seen", 6)} <= taught
    assert {kind(found) for found in maker.candidates("taught", 6)} <= taught
    assert all(is_held_out_class(kind(found)) for found in maker.candidates("unseen", 6))


def test_small_objects_stay_under_8_percent_of_the_picture(maker):
    for clip in maker.clips("small", 6):
        sides = np.sqrt((clip.boxes_xyxy_px[:, 2:] - clip.boxes_xyxy_px[:, :2]).prod(axis=1))[clip.visible]
        assert sides.max() < SMALL_SIDE * np.sqrt(SIZE[0] * SIZE[1])


def test_hidden_objects_are_hidden_by_others_and_not_by_the_edge(maker):
    for found in maker.candidates("occlusion", 4):
        gone = found.clip.visible_fraction[1:, found.index] <= 0.7
        assert gone.mean() >= 0.2
    world = SpriteWorld(maker.bank, 5, part="train", num_backgrounds=2, num_unnamed=4)
    scene = world.sample(0, SceneConfig(num_objects=(2, 2), side=(0.3, 0.3), share_camera_motion=0.0))
    still = {"velocity": np.zeros(2), "wobble": np.zeros((2, 3)), "pulse": (0.0, 0.1, 0.0), "aspect": 1.0}
    back, front = (dataclasses.replace(item, **still, start=np.array([0.5, 0.5])) for item in scene.objects[:2])

    def hidden(*objects):
        placed = dataclasses.replace(scene, objects=list(objects))
        return Candidate("", placed, render_clip(placed, 3, SIZE), 0, None, None).hidden

    assert (hidden(back, dataclasses.replace(front, side=0.6)) > 0.9).all()
    assert hidden(back) == pytest.approx(np.zeros(3))
    at_the_edge = dataclasses.replace(back, start=np.array([0.0, 0.5]), reach=0.35)
    assert hidden(at_the_edge) == pytest.approx(np.zeros(3))


def test_beside_a_distractor_another_of_the_class_is_seen_and_a_bare_name_will_not_do(maker):
    for found in maker.candidates("distractors", 6):
        others = [found.scene.objects[place].sprite.kind for place in found.scene.tracked]
        twins = [i for i, other in enumerate(others) if other == kind(found) and i != found.index]
        assert found.clip.visible[0, twins].any()
        assert as_clip(found).words != f"the {kind(found)}"


def test_away_objects_are_out_of_sight_for_a_while_and_come_back(bank):
    maker = ClipMaker(bank, WORLD_SEEDS["headline"], num_frames=40, width=64, height=48)
    for found in maker.candidates("away", 4):
        seen = "".join("#" if shown else "." for shown in found.clip.visible[:, found.index])
        assert seen[0] == "#" and re.search(r"#{5}\.{5,}#{5}", seen)


def test_the_same_seed_gives_the_same_clips_and_another_seed_others(maker):
    again, other = (
        ClipMaker(maker.bank, seed, num_frames=8, width=SIZE[0], height=SIZE[1]) for seed in WORLD_SEEDS.values()
    )
    first, second, third = (source.clips("seen", 2)[1] for source in (maker, again, other))
    assert (first.video.frames == second.video.frames).all() and first.questions == second.questions
    assert (first.video.frames != third.video.frames).any()


def test_a_track_is_scored_without_frame_1_and_without_frames_that_do_not_show_the_object():
    nothing = [np.nan] * 4
    true = np.array([[0, 0, 4, 4], [0, 0, 4, 4], nothing, nothing, [4, 4, 8, 8]], float)
    clip = Clip("clip", VideoClip.from_frames(np.zeros((5, 8, 8, 3), np.uint8), fps=10), true, None)
    boxes = np.array([nothing, [0, 0, 4, 2], nothing, [0, 0, 4, 4], nothing], float)
    score = score_track(clip, FollowedClip(boxes, ["absent", None, "absent", None, "absent"]))
    assert score.mean_iou == pytest.approx(0.25)
    # An IoU of 0.5 is above 0, 0.05 … 0.45; none at all is above nothing.
    assert score.auc == pytest.approx(10 / 21 / 2)
    assert (score.hidden, score.hidden_found, score.seen, score.seen_missed) == (2, 1, 2, 1)
    figures = summarise([score, dataclasses.replace(score, mean_iou=0.75)], marks_absent=True)
    assert figures["mean_iou"] == 0.5 and figures["interval_95"] == [0.25, 0.75]
    assert figures["absent_found"] == figures["falsely_absent"] == 0.5


def test_tracks_of_peers_are_kept_and_so_is_a_refusal(tmp_path, monkeypatch):
    frames = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), np.uint8)
    true = np.tile([8.0, 8, 32, 32], (3, 1))
    clip = Clip("clip", VideoClip.from_frames(frames, fps=10), true, None)
    whole = dataclasses.replace(clip, boxes_xyxy_px=np.tile([0.0, 0, 64, 64], (3, 1)))
    first = PeerTracks(tmp_path / "peers.json")
    before = first.follow("kcf", clip).boxes_xyxy_px
    assert first.follow("mil", whole) is None
    first.save()
    monkeypatch.setattr(tracking_table_scores, "opencv_boxes", lambda *_: pytest.fail("tracked again"))
    again = PeerTracks(tmp_path / "peers.json")
    assert again.follow("kcf", clip).boxes_xyxy_px == pytest.approx(before, abs=0.01, nan_ok=True)
    assert again.follow("mil", whole) is None


def test_words_alone_are_asked_for_in_every_window_where_that_is_wanted():
    asked = []

    class Listening:
        def track_many(self, pairs, **settings):
            given = settings["reground"]
            asked.append((settings["options"].reground if given is None else given, settings["zoom"]))
            return []

    for reground in (False, True):
        for way in (SOT, SOT_ZOOM, RSOT, RSOT_ZOOM):
            follow_ours(Listening(), [], way, TrackingOptions(reground=reground))
    by_box = [(False, 0), (False, 2.0)]
    assert asked == [*by_box, (False, 0), (False, 2.0), *by_box, (True, 0), (True, 2.0)]


def test_the_real_clips_have_a_box_or_null_for_each_frame_and_a_split():
    entries = json.loads((REAL_CLIPS / "index.json").read_text("utf-8"))["clips"]
    splits = [entry["split"] for entry in entries]
    assert len(splits) >= 14 and splits.count("headline") == splits.count("selection") == len(splits) / 2
    for entry in entries:
        info, boxes = probe_video(REAL_CLIPS / entry["video"]), read_boxes(REAL_CLIPS / entry["boxes"])
        assert len(boxes) == info.num_frames == entry["frames"] and [info.width, info.height] == entry["size"]
        assert (REAL_CLIPS / entry["video"]).stat().st_size < 1.5e6
        assert len(set(entry["phrasings"])) == 3 and entry["phrasings"][0] == entry["words"]
        seen = boxes[np.isfinite(boxes[:, 0])]
        assert np.isfinite(boxes[0]).all() and (seen[:, :2] < seen[:, 2:]).all()
        assert (seen[:, :2] >= 0).all() and (seen[:, 2:] <= [info.width, info.height]).all()


def test_a_real_clip_is_read_with_its_boxes_and_refused_with_too_few(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (3, 48, 64, 3), np.uint8)
    write_video(tmp_path / "a.mp4", frames, 10.0)
    entry = {"name": "a", "split": "selection", "video": "a.mp4", "boxes": "a.json"}
    entry |= {"words": "the cup", "phrasings": ["the cup", "the mug"]}
    (tmp_path / "index.json").write_text(json.dumps({"clips": [entry]}))
    (tmp_path / "a.json").write_text("[[1, 2, 30, 40], null, [1, 2, 30, 41]]")
    (clip,) = real_clips("selection", tmp_path)
    assert clip.visible.tolist() == [True, False, True] and clip.words == "the cup"
    assert clip.phrasings == ("the cup", "the mug")
    assert real_clips("headline", tmp_path) == []
    save_sheet(clip, {"ours": FollowedClip(clip.boxes_xyxy_px + 2)}, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.width > 3 * 400
    (tmp_path / "a.json").write_text("[[1, 2, 30, 40]]")
    with pytest.raises(ValueError, match="a box or null for each of its 3 frames, got 1"):
        real_clips("selection", tmp_path)


def test_the_tables_show_a_dash_where_a_tracker_has_no_figure():
    row = {"mean_iou": 0.5, "interval_95": [0.4, 0.6], "auc": 0.45}
    ours = row | {"absent_found": None, "falsely_absent": 0.02}
    words = {"clips": 1, "names": 1, "rec_at_0.5": 50.0, "reg_exact": 0.0, "video_reg_exact": 0.0, "questions": 0}
    record = {
        "model": "model",
        "clips_of_each_group": 2,
        "frames": 8,
        "window_frames": 8,
        "size": [128, 96],
        "cut_outs": 360,
        "hardware": "a machine",
        "groups": {
            name: {"ours, box": ours, "MIL": row} if name == "seen" else {"ours, box": ours} for name in GROUPS
        },
        "real": {
            "headline": {"cup": {"ours, box": row}, "mean": {"ours, box": row}},
            "selection": {"box": {"ours, box": row}, "mean": {"ours, box": row}},
        },
        "words": {"seen": words | {"qa": None}},
    }
    lines = [" ".join(line.split()) for line in markdown(record).splitlines()]
    assert "| MIL | 0.500 (0.40-0.60) | - | - | - | - | - | - | - |" in lines
    assert any(line.startswith("| ours, box | 0.450; - / 2% |") for line in lines)
    assert "| seen classes | 1 (1) | 50.0 | 0.0 | - | 0.0 | - | - | 0 |" in lines


def test_a_number_below_one_is_refused(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["--bank", "bank.npz", "--number", "0"])
    assert "--number must be 1 or more, got 0" in capsys.readouterr().err
