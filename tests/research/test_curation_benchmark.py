"""The faults are what they are said to be, labels follow the truth, and the tables hold what was counted."""

import json

import numpy as np
import pytest

from elysium.curation.detect_step import Query
from elysium.curation.video_records import Trajectory
from elysium.processing.overlap import paired_iou
from elysium.training.synthetic.dataset import ClipShape
from research.curation_study.faults import Faults, FaultyPair, FaultyWorld, TrueVideo, true_videos
from research.curation_study.filters import (
    Bench,
    Outcome,
    by_fault,
    filters_in_order,
    main,
    of_whole,
    parse_arguments,
)
from research.scenes.world import StudyWorld

LENGTH = 12


def a_video(name="v"):
    """A red ring that moves to the right, and a blue star that stands below it."""
    ring = np.array([0.1, 0.1, 0.3, 0.3]) + np.arange(LENGTH)[:, None] * [0.02, 0, 0.02, 0]
    star = np.tile([0.5, 0.6, 0.8, 0.9], (LENGTH, 1))
    return TrueVideo(name, "A red ring", {"red ring": 0}, frozenset({"green cross"}), np.stack([ring, star], axis=1))


def pair(fault, text="red ring"):
    return FaultyPair(a_video(), text, Faults(**{name: float(name == fault) for name in vars(Faults())}), seed=0)


def overlaps(boxes, index):
    return paired_iou(np.array(boxes), a_video().boxes_xyxy_norm[: len(boxes), index])


def exact_track():
    return Trajectory(np.arange(LENGTH), a_video().boxes_xyxy_norm[:, 0].copy(), np.ones(LENGTH))


@pytest.mark.parametrize(
    ("fault", "wrong"),
    [
        ("none", [False, False, False]),
        ("wrong_first", [True, False, False]),
        ("wrong_late", [False, True, True]),
        ("wrong_always", [True, True, True]),
        ("swap", [False, False, False]),
    ],
)
def test_the_oracle_takes_the_other_object_where_its_fault_says_so(fault, wrong):
    found = [pair(fault).detect(frame).box_xyxy_norm for frame in range(3)]
    assert ((overlaps(found, 0) > 0.6) == ~np.array(wrong)).all()
    assert ((overlaps(found, 1) > 0.6) == wrong).all()


def test_words_of_nothing_have_boxes_of_something_else():
    found = pair("none", "green cross")
    assert found.fault == "absent" and found.target is None
    assert overlaps([found.detect(0).box_xyxy_norm], 1) > 0.6 or overlaps([found.detect(0).box_xyxy_norm], 0) > 0.6


def test_right_detections_score_higher_than_wrong_ones():
    right = [pair("none").detect(frame).score for frame in range(LENGTH)]
    wrong = [pair("wrong_always").detect(frame).score for frame in range(LENGTH)]
    assert np.mean(right) > 0.75 > 0.68 > np.mean(wrong)


def test_faults_of_the_tracker_are_in_its_trajectory():
    good = pair("none").spoil(exact_track())
    assert overlaps(good.boxes_xyxy_norm, 0) == pytest.approx(1)
    slid = overlaps(pair("drift").spoil(exact_track()).boxes_xyxy_norm, 0)
    assert slid[0] == pytest.approx(1) and slid[-1] == 0 and (np.diff(slid) <= 1e-6).all()
    swapped = pair("swap").spoil(exact_track()).boxes_xyxy_norm
    assert overlaps(swapped, 0)[0] == pytest.approx(1) and overlaps(swapped, 1)[-1] > 0.6
    lost = pair("lost").spoil(exact_track())
    assert lost.lost[-1] and not lost.lost[0] and (lost.scores == ~lost.lost).all()


def test_faults_come_as_often_as_asked():
    drawn = [Faults().draw(np.random.default_rng(seed)) for seed in range(2000)]
    shares = {name: drawn.count(name) / len(drawn) for name in [*vars(Faults()), "none"]}
    assert shares == pytest.approx(vars(Faults()) | {"none": 0.54}, abs=0.03)


class StandingTracker:
    """Repeats the first box."""

    calls = 0

    def follow(self, frames, boxes_xyxy_norm):
        self.calls += 1
        return [
            Trajectory(np.arange(len(frames)), np.tile(box, (len(frames), 1)), np.ones(len(frames)))
            for box in boxes_xyxy_norm
        ]


def test_the_tracker_knows_a_pair_by_its_first_box_and_tracks_it_once():
    tracker = StandingTracker()
    faults = Faults(wrong_first=0, wrong_late=0, wrong_always=0, drift=0, swap=0, lost=1.0)
    world = FaultyWorld({"v": a_video()}, tracker, faults, seed=0)
    frames = np.zeros((LENGTH, 8, 8, 3), np.uint8)
    ((found,),) = world.detect([Query("v", 0, "Red ring", frames[0])])
    first, again = (world.follow(frames, [found.box_xyxy_norm])[0] for _ in range(2))
    assert first is again and first.lost[-1] and tracker.calls == 1
    (other,) = world.follow(frames, [(0.1, 0.1, 0.2, 0.2)])
    assert not other.lost.any() and tracker.calls == 2


def test_captions_name_what_is_there_and_can_be_seen():
    videos = [
        video for video, _ in true_videos(StudyWorld(3, num_backgrounds=2, num_unnamed=4), 12, ClipShape(num_frames=8))
    ]
    again = [
        video for video, _ in true_videos(StudyWorld(3, num_backgrounds=2, num_unnamed=4), 2, ClipShape(num_frames=8))
    ]
    assert [video.caption for video in again] == [video.caption for video in videos[:2]]
    assert any(video.objects for video in videos)
    for video in videos:
        assert "{" not in video.caption
        assert all(name in video.caption.lower() for name in [*video.objects, *video.absent])
        assert not set(video.objects) & video.absent
        first = video.boxes_xyxy_norm[0, list(video.objects.values())]
        assert np.isfinite(first).all()


def bench_of_four():
    """Pairs v0 and v1 good, v2 and v3 bad."""
    videos = {f"v{number}": a_video(f"v{number}") for number in range(4)}
    faults = Faults(**dict.fromkeys(vars(Faults()), 0.0))
    world = FaultyWorld(videos, StandingTracker(), faults, seed=0)
    for number, name in enumerate(videos):
        world.detect([Query(name, 0, "red ring", np.zeros((8, 8, 3), np.uint8))])
        track = exact_track()
        track.boxes_xyxy_norm[:, [1, 3]] += 0.5 * (number >= 2)
        world.trajectories[name, "red ring"] = track
    bench = Bench(None, videos, world)
    bench.judge()
    return bench


def test_labels_filters_and_rows_are_as_worked_by_hand():
    bench = bench_of_four()
    assert bench.bad == {("v2", "red ring"), ("v3", "red ring")}
    assert bench.mean_iou(("v0", "green cross"), bench.videos["v0"].boxes_xyxy_norm[:, 0]) == 0
    kept = {("v0", "red ring"): 1.0, ("v3", "red ring"): 0.2}
    outcome = Outcome(kept, {("v1", "red ring"): "drift", ("v2", "red ring"): "agree"}, 1.0)
    found = filters_in_order(outcome, bench.bad)
    assert found["detect"]["seen"] == 4 and found["detect"]["precision"] is None and found["detect"]["recall"] == 0
    assert (found["drift"]["precision"], found["drift"]["good_dropped"]) == (0, 0.5)
    assert (found["agree"]["seen"], found["agree"]["precision"], found["agree"]["recall"]) == (3, 1, 0.5)
    assert (found["all"]["dropped"], found["all"]["precision"], found["all"]["recall"]) == (2, 0.5, 0.5)
    rows = of_whole(kept, bench)
    assert rows == {"rows": 2, "precision": 0.5, "recall": 0.5, "mean_iou": 0.6, "rows_under_0.3": 0.5}
    assert by_fault(bench, outcome)["none"] == {
        **{"pairs": 4, "bad": 2, "detect": 0, "track": 0, "drift": 1, "agree": 1, "kept": 2, "bad_kept": 1}
    }


def test_a_small_measurement_goes_through_the_pipeline(tmp_path, capsys):
    options = ["--videos", "8", "--frames", "8", "--size", "96", "72", "--tracker", "kcf", "--seed", "5"]
    main([*options, "--output", str(tmp_path / "found.json")])
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record == json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert record["pairs"] == record["filters_in_order"]["all"]["seen"] == record["rows"]["no filter"]["rows"] > 0
    assert record["rows"]["paper"]["rows"] <= record["pairs"]
    faults = record["by_fault"].values()
    assert sum(row["pairs"] for row in faults) == record["pairs"]
    assert sum(row["kept"] for row in faults) == record["rows"]["paper"]["rows"]
    lines = (tmp_path / "found.md").read_text("utf-8").splitlines()
    assert sum(line.startswith("| paper ") for line in lines) == 1


def test_too_few_frames_are_refused(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["--frames", "4"])
    assert "--frames must be 8 or more, got 4" in capsys.readouterr().err
