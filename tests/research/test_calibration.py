"""The fit of scores to IoU: the map, figures on other clips, and what is written into a checkpoint."""

import json

import numpy as np
import pytest

from elysium.evaluation.reliability import Reliability
from research.calibration import (
    ScoredTrack,
    auroc,
    calibrate,
    cross_validate,
    fit_calibration,
    main,
    write_options,
)


def test_a_map_rises_everywhere_and_keeps_the_order_of_scores():
    rng = np.random.default_rng(2)
    scores = rng.beta(4, 6, 2000)
    ious = np.clip(1.8 * scores - 0.1 + rng.normal(0, 0.2, 2000), 0, 1)
    fitted = fit_calibration(scores, ious)
    assert len(fitted) <= 12 and fitted[0] == (0, 0) and fitted[-1] == (1, 1)
    assert (np.diff(np.array(fitted), axis=0) > 0).all()
    after = calibrate(scores, fitted)
    reliability = Reliability()
    reliability.add(after, ious)
    assert reliability.expected_calibration_error < 0.02
    assert auroc(after, ious > 0.5) == auroc(scores, ious > 0.5)


@pytest.mark.parametrize("ious", [np.zeros(50), np.ones(50), np.linspace(1, 0, 50)], ids=["wrong", "right", "falling"])
def test_a_map_of_boxes_that_scores_say_nothing_about_is_still_a_map(ious):
    fitted = fit_calibration(np.linspace(0, 1, 50), ious)
    assert (np.diff(np.array(fitted), axis=0) > 0).all()


def test_figures_are_of_clips_that_the_map_was_not_fitted_on():
    # In one half IoU is twice the score, in the other half of it: a map fitted on its own half would be exact.
    scores = np.linspace(0.1, 0.4, 100)
    tracks = [ScoredTrack("seen", "box", fold, scores, ious) for fold, ious in enumerate((2 * scores, scores / 2))]
    tracks += [ScoredTrack("small", "text", fold, scores, scores) for fold in (0, 1)]
    found = cross_validate(tracks)
    assert set(found) == {"all", "box", "text", "seen", "small"}
    assert found["text"]["after"]["ece"] == pytest.approx(0, abs=0.01)  # a map of its own
    assert found["box"]["before"]["ece"] == pytest.approx(0.0625, abs=0.02)
    assert found["box"]["after"]["ece"] > 0.05  # scores / 2 where 2 * scores are true, and the reverse
    assert found["all"]["boxes"] == 400


def test_a_map_is_written_into_the_processors_tracking_and_nothing_else(tmp_path):
    path = tmp_path / "processor_config.json"
    path.write_text(json.dumps({"b": 1, "tracking": {"zoom": 2.0}}))
    write_options(tmp_path, {"score_calibration": ((0.0, 0.0), (0.3, 0.7), (1.0, 1.0))})
    written = {"zoom": 2.0, "score_calibration": [[0, 0], [0.3, 0.7], [1, 1]]}
    assert json.loads(path.read_text()) == {"b": 1, "tracking": written}
    with pytest.raises(ValueError, match="--model must be a checkpoint folder to be written to, got .*none"):
        write_options(tmp_path / "none", {})


def test_too_few_clips_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--bank", "sprites.npz", "--out", "out.json", "--clips", "2"])
    assert "3 clips of 2 frames or more, got 2 of 48" in capsys.readouterr().err
