"""Against the got10k toolkit: equal where the protocols coincide, and a test for each point where they do not."""

import json

import numpy as np
import pytest
from got10k.experiments import ExperimentGOT10k, ExperimentOTB, ExperimentUAV123

from elysium.evaluation.benchmark_list import BENCHMARKS
from elysium.evaluation.evaluated_trackers import EvaluatedTracker
from elysium.evaluation.ope import headline, overall, score_sequence
from elysium.evaluation.protocols import GOT10K, LASOT, OTB, UAV123, ProtocolError
from elysium.evaluation.score_benchmark import score_benchmark

WIDTH, HEIGHT = 320, 240
SEEDS = range(50)


def random_truth(rng, length):
    """x,y,w,h that wander, some of them partly outside of the picture."""
    boxes = np.cumsum(rng.normal(0, 6, (length, 4)), axis=0)
    boxes[:, :2] += rng.uniform(-20, 200, 2)
    boxes[:, 2:] = np.abs(boxes[:, 2:]) + rng.uniform(5, 80, 2)
    return boxes.round(2)


def random_result(rng, truth):
    """Boxes about the truth, a tenth of them wild, a twentieth without area or with negative sides."""
    boxes = truth + rng.normal(0, rng.uniform(0, 15), truth.shape)
    wild = rng.random(len(truth)) < 0.1
    boxes[wild] = rng.uniform(-100, 400, (wild.sum(), 4))
    invalid = rng.random(len(truth)) < 0.05
    boxes[invalid, 2:] = rng.choice([0, -3, 7], (invalid.sum(), 2))
    return np.nan_to_num(boxes.round(3), nan=1.0)


def write_got10k(root, rng, names):
    """A val split in the official layout, some frames of which show nothing of the object."""
    for name in names:
        length = int(rng.integers(3, 60))
        place = root / "val" / name
        place.mkdir(parents=True)
        truth = random_truth(rng, length)
        np.savetxt(place / "groundtruth.txt", truth, fmt="%.4f", delimiter=",")
        cover = rng.integers(0, 9, length)
        for label, values in (("cover", cover), ("absence", cover == 0), ("cut_by_image", cover < 4)):
            np.savetxt(place / f"{label}.label", values, fmt="%d")
        meta = f"[METAINFO]\nobject_class: {rng.choice(['cat', 'car'])}\nresolution: ({WIDTH}, {HEIGHT})"
        (place / "meta_info.ini").write_text(meta)
        for frame in range(length):
            (place / f"{frame + 1:08d}.jpg").touch()  # counted by the toolkit, never opened
    (root / "val" / "list.txt").write_text("\n".join(names))


def write_results(folder, rng, sequences):
    """One run of a tracker in GOT-10k's layout, with times."""
    for sequence in sequences:
        place = folder / sequence.name
        place.mkdir(parents=True)
        boxes = random_result(rng, sequence.boxes_xywh_px)
        np.savetxt(place / f"{sequence.name}_001.txt", boxes, fmt="%.3f", delimiter=",")
        np.savetxt(place / f"{sequence.name}_time.txt", np.full((len(boxes), 1), 0.02), fmt="%.8f", delimiter=",")


@pytest.mark.parametrize("seed", SEEDS)
def test_got10k_gives_the_toolkit_s_ao_and_sr(seed, tmp_path, monkeypatch):
    monkeypatch.setattr(ExperimentGOT10k, "plot_curves", lambda *_: None)
    rng = np.random.default_rng(seed)
    write_got10k(tmp_path / "data", rng, [f"GOT-10k_Val_{number:06d}" for number in range(1, 4)])
    sequences = list(BENCHMARKS["got10k"].read(tmp_path / "data", "val"))
    write_results(tmp_path / "results" / "GOT-10k" / "ours", rng, sequences)
    toolkit = ExperimentGOT10k(tmp_path / "data", "val", tmp_path / "results", tmp_path / "reports")
    theirs = toolkit.report(["ours"])["ours"]

    tracker = EvaluatedTracker("ours", tmp_path / "results" / "GOT-10k" / "ours")
    ours = score_benchmark(BENCHMARKS["got10k"], sequences, [tracker], split="val")["trackers"]["ours"]

    assert ours["ao"] == pytest.approx(100 * theirs["overall"]["ao"], abs=1e-6)
    assert ours["sr50"] == pytest.approx(100 * theirs["overall"]["sr"], abs=1e-6)
    assert ours["frames_per_s"] == pytest.approx(theirs["overall"]["speed_fps"])
    for name, figures in theirs["seq_wise"].items():
        if not np.isnan(figures["ao"]):
            assert ours["sequences"][name]["ao"] == pytest.approx(100 * figures["ao"], abs=1e-6)
            assert ours["sequences"][name]["sr50"] == pytest.approx(100 * figures["sr"], abs=1e-6)


class Annotations:
    """What the toolkit's experiments take for a data set."""

    def __init__(self, truths):
        self.truths = truths
        self.seq_names = list(truths)

    def __len__(self):
        return len(self.truths)

    def __iter__(self):
        return iter([([], truth) for truth in self.truths.values()])


def toolkit_report(kind, truths, results, folder):
    """The toolkit's report on arrays; it asks the network for OTB's pictures, so that its constructor is passed by."""
    experiment = object.__new__(kind)
    experiment.dataset, experiment.nbins_iou, experiment.nbins_ce = Annotations(truths), 21, 51
    experiment.result_dir, experiment.report_dir = str(folder / "results"), str(folder / "reports")
    experiment.plot_curves = lambda *_: None
    (folder / "results" / "ours").mkdir(parents=True)
    for name, boxes in results.items():
        np.savetxt(folder / "results" / "ours" / f"{name}.txt", boxes, fmt="%.3f", delimiter=",")
    return experiment.report(["ours"])["ours"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("kind", "protocol"), [(ExperimentOTB, OTB), (ExperimentUAV123, UAV123)], ids=["otb", "uav123"]
)
def test_otb_and_uav123_give_the_toolkit_s_curves(kind, protocol, seed, tmp_path):
    rng = np.random.default_rng(1000 + seed)
    truths = {f"sequence_{number}": random_truth(rng, int(rng.integers(2, 80))) for number in range(3)}
    if protocol is UAV123:
        for truth in truths.values():
            truth[1:][rng.random(len(truth) - 1) < 0.1] = np.nan  # absent
    results = {name: random_result(rng, truth) for name, truth in truths.items()}
    theirs = toolkit_report(kind, truths, results, tmp_path)
    scores = {name: score_sequence(results[name], truth, protocol) for name, truth in truths.items()}
    total = overall(list(scores.values()), protocol)
    assert total.success == pytest.approx(np.array(theirs["overall"]["success_curve"]), abs=1e-6)
    assert total.precision == pytest.approx(np.array(theirs["overall"]["precision_curve"]), abs=1e-6)
    for name, figures in theirs["seq_wise"].items():
        ours = headline(scores[name], protocol)
        assert ours["success_auc"] == pytest.approx(100 * figures["success_score"], abs=1e-6)
        assert ours["precision"] == pytest.approx(100 * figures["precision_score"], abs=1e-6)


# The points where the protocols part.


def test_the_toolkit_counts_a_true_box_without_area_as_a_hit_of_precision_and_ours_does_not(tmp_path):
    # Frame 2's truth has no area: in OTB's toolkit the centres' distance still counts (2 of 2 frames), here 1 of 2.
    truth = np.array([[10, 10, 20, 20], [10, 10, 0, 0]], dtype=float)
    theirs = toolkit_report(ExperimentOTB, {"a": truth}, {"a": truth}, tmp_path)
    ours = headline(score_sequence(truth, truth, OTB), OTB)
    assert theirs["overall"]["precision_score"] == 1
    assert ours["precision"] == 50


def test_lasot_carries_a_box_over_a_frame_without_area_which_otb_s_toolkit_does_not(tmp_path):
    # IoU 1, then none (OTB) or the box before (LaSOT): 20 of the 21 thresholds are below 1.
    truth = np.full((2, 4), [10, 10, 20, 20], dtype=float)
    result = np.array([[10, 10, 20, 20], [0, 0, 0, 0]], dtype=float)
    theirs = toolkit_report(ExperimentOTB, {"a": truth}, {"a": result}, tmp_path)
    assert theirs["overall"]["success_score"] == pytest.approx(20 / 21 / 2)
    assert score_sequence(result, truth, LASOT).success.mean() == pytest.approx(20 / 21)


@pytest.mark.parametrize("extra", [-1, 1])
def test_the_toolkit_refuses_other_lengths_and_ours_cuts_a_longer_result(extra, tmp_path):
    truth = np.full((3, 4), [10, 10, 20, 20], dtype=float)
    result = np.full((3 + extra, 4), [10, 10, 20, 20], dtype=float)
    with pytest.raises(AssertionError):
        toolkit_report(ExperimentOTB, {"a": truth}, {"a": result}, tmp_path)
    if extra < 0:
        with pytest.raises(ProtocolError, match="a box for each of 3 frames, got 2"):
            score_sequence(result, truth, OTB)
    else:
        assert score_sequence(result, truth, OTB).success_50 == 1


def test_got10k_moves_a_corner_into_the_picture_and_keeps_the_sides_as_its_toolkit_does():
    # x = -10, w = 30 becomes x = 0, w = 30 (not 20): IoU with the true 0..20 is 20/30.
    truth = np.array([[0, 0, 20, 20]] * 2, dtype=float)
    result = np.array([[0, 0, 20, 20], [-10, 0, 30, 20]], dtype=float)
    assert score_sequence(result, truth, GOT10K, size=(WIDTH, HEIGHT)).average_overlap == pytest.approx(2 / 3)


def test_class_means_which_the_toolkit_leaves_to_the_server_count_each_class_once(tmp_path):
    # Two cats with AO 1 and 0, one car with AO 1: the mean over frames of sequences is 2/3, over classes (0.5 + 1)/2.
    rng = np.random.default_rng(0)
    names = ["a", "b", "c"]
    write_got10k(tmp_path, rng, names)
    for name, kind, far in zip(names, ("cat", "cat", "car"), (0, 1, 0), strict=True):
        place = tmp_path / "val" / name
        place.joinpath("meta_info.ini").write_text(f"[METAINFO]\nobject_class: {kind}\nresolution: (99, 99)")
        np.savetxt(place / "groundtruth.txt", [[1, 1, 9, 9]] * 3, delimiter=",")
        place.joinpath("cover.label").write_text("8\n8\n8\n")
        result = tmp_path / "results" / name
        result.mkdir(parents=True)
        np.savetxt(result / f"{name}_001.txt", [[1 + 50 * far, 1, 9, 9]] * 3, delimiter=",")
    tracker = EvaluatedTracker("ours", tmp_path / "results")
    report = score_benchmark(BENCHMARKS["got10k"], BENCHMARKS["got10k"].read(tmp_path, "val"), [tracker], split="val")
    figures = json.loads(json.dumps(report))["trackers"]["ours"]
    assert figures["ao"] == pytest.approx(200 / 3)
    assert (figures["mao"], figures["msr50"], figures["msr75"]) == pytest.approx((75, 75, 75))
