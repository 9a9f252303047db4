"""Tracking options: their rules, what wins over what, and one flag for each."""

import dataclasses
import math

import numpy as np
import pytest
from tiny import save_tiny_checkpoint, tiny_model, tiny_processor
from typer.main import get_command

from elysium.cli import app
from elysium.processing.processing_elysium import ElysiumProcessor
from elysium.tracking.options import TrackingOptions
from elysium.tracking.tracker import Tracker

FIELDS = dataclasses.fields(TrackingOptions)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"window_frames": 1}, "window_frames must be 2 or more, got 1; a window holds"),
        ({"window_frames": 4.5}, "window_frames must be 2 or more, got 4.5"),
        ({"reask_after": 0}, "reask_after must be 1 or more, got 0"),
        ({"reground": 1}, "reground must be true or false, got 1"),
        ({"zoom": "2"}, "zoom must be 0 or a finite number of 1 or more, got '2'"),
        ({"zoom": True}, "zoom must be 0 or a finite number of 1 or more, got True"),
        ({"max_passes": 1}, "max_passes must be 2 or more, got 1; zoom=0 gives a single pass"),
        ({"agreement_iou": math.nan}, "agreement_iou must be between 0 and 1, got nan"),
        ({"first_pass_crop": 0.5}, "first_pass_crop must be a finite number of 1 or more, got 0.5"),
        ({"crop_margin": math.inf}, "crop_margin must be a finite number of 1 or more, got inf"),
        ({"min_crop_px": 0}, "min_crop_px must be 1 or more, got 0"),
        ({"absent_log_odds": math.inf}, "absent_log_odds must be a finite number, got inf"),
        ({"windows_ahead": -1}, "windows_ahead must be 0 or more, got -1"),
        (
            {"score_calibration": [[0, 0.9], [1, 0.1]]},
            "score_calibration must be pairs .*; such as",
        ),
        ({"score_calibration": [[0, 0.2], [1, 0.2]]}, r"rise in both within 0..1, got \[\[0, 0.2\], \[1, 0.2\]\]"),
        ({"score_calibration": [[0, 0], [1, 1.5]]}, "got .*1.5.*; such as"),
        ({"score_calibration": [[0, 0], [math.nan, 1]]}, "got .*nan.*; such as"),
        ({"score_calibration": [[0, 0], [0.5, 0.5, 1]]}, "got .*0.5, 1.*; such as"),
        ({"score_calibration": [[0, 0], [True, 1]]}, "got .*True"),
        ({"score_calibration": [[0.5, 0.5]]}, "leaves scores as they are"),
        ({"score_calibration": "identity"}, "got 'identity'"),
    ],
)
def test_a_value_beyond_its_rule_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        TrackingOptions(**given)


def test_every_default_follows_its_own_rule():
    assert all(getattr(TrackingOptions().resolve(), field.name) is not None for field in FIELDS)


def test_the_users_values_win_over_the_checkpoints_and_these_over_the_defaults():
    options = TrackingOptions(zoom=0, window_frames=4).resolve({"zoom": 2.0, "absent_log_odds": 0.75})
    assert (options.zoom, options.window_frames, options.absent_log_odds, options.reask_after) == (0, 4, 0.75, 8)
    assert options.resolve({"zoom": 3.0}) == options


def test_an_unknown_default_of_a_checkpoint_is_refused():
    with pytest.raises(ValueError, match="must hold names among window_frames, .*got focus; install a newer"):
        TrackingOptions().resolve({"focus": 1})


def test_every_field_but_fitted_ones_is_a_flag_of_track_and_evaluate_with_its_default_in_the_help():
    flagless = [field.name for field in FIELDS if not field.metadata["flag"]]
    assert flagless == ["score_calibration", "text_score_calibration", "doubt_weights"]
    for command in ("track", "evaluate"):
        flags = {name: param for param in get_command(app).commands[command].params for name in param.opts}
        for field in FIELDS:
            flag = flags.get("--" + field.name.replace("_", "-"))
            if not field.metadata["flag"]:
                assert flag is None
                continue
            assert field.metadata["help"] in flag.help and "Default: " in flag.help


def test_a_checkpoints_readiness_to_answer_none_and_a_users_reach_the_decoder():
    processor = tiny_processor()
    processor.tracking = {"absent_log_odds": 0.75}
    tracker = Tracker(tiny_model(), processor)
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    for given, expected in ((None, 0.75), (TrackingOptions(absent_log_odds=-3.0), -3.0)):
        run = tracker.iter_track(list(frames), box_xyxy_px=(2, 2, 12, 12), fps=10, options=given)
        ((_, request),) = run.pull()
        assert tracker._answerer.window_start(request).grammar.absent_log_odds == expected
    for given, expected in ((None, 0.0), (TrackingOptions(text_absent_log_odds=2.0), 2.0)):
        ((_, request),) = tracker.iter_track(list(frames), "the cup", fps=10, options=given).pull()
        start = tracker._answerer.window_start(request)
        assert (start.first_box, start.grammar.text_absent_log_odds) == (None, expected)


def test_a_checkpoints_calibration_is_saved_loaded_and_used_for_the_scores_of_tracks_alone(tmp_path):
    save_tiny_checkpoint(tmp_path)
    frames = list(np.random.default_rng(3).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8))
    calibration = ((0.0, 0.1), (0.02, 0.5), (1.0, 0.9))
    processor = ElysiumProcessor.from_pretrained(tmp_path)
    raw = Tracker.from_pretrained(str(tmp_path))
    processor.tracking = {"score_calibration": [list(pair) for pair in calibration]}
    processor.save_pretrained(tmp_path)
    calibrated = Tracker.from_pretrained(str(tmp_path))
    assert calibrated.options.score_calibration == calibration and raw.options.score_calibration == ()
    always_a_box = TrackingOptions(absent_log_odds=-50.0)  # random weights may well answer `none`
    (expected,), (track,), (without,) = (
        tracker.track(frames, box_xyxy_px=(2, 2, 12, 12), fps=10, options=options).tracks
        for tracker, options in (
            (raw, always_a_box),
            (calibrated, always_a_box),
            (calibrated, dataclasses.replace(always_a_box, score_calibration=())),
        )
    )
    assert track.boxes_xyxy_px.tobytes() == expected.boxes_xyxy_px.tobytes()
    assert without.scores.tobytes() == expected.scores.tobytes()
    assert track.scores[0] == expected.scores[0] == 1  # the given box
    seen = np.flatnonzero(expected.valid)[1:]
    assert len(seen)
    assert track.scores[seen] == pytest.approx(np.interp(expected.scores[seen], (0, 0.02, 1), (0.1, 0.5, 0.9)))
    grounded = [tracker.ground(frames[0], "the cup").score for tracker in (raw, calibrated)]
    assert grounded[0] == pytest.approx(grounded[1], nan_ok=True)
