"""Tracking options: their rules, what wins over what, and one flag for each."""

import dataclasses
import math

import numpy as np
import pytest
from tiny import tiny_model, tiny_processor
from typer.main import get_command

from elysium.cli import app
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


def test_every_field_is_a_flag_of_track_and_evaluate_with_its_default_in_the_help():
    for command in ("track", "evaluate"):
        flags = {name: param for param in get_command(app).commands[command].params for name in param.opts}
        for field in FIELDS:
            flag = flags["--" + field.name.replace("_", "-")]
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
