"""Options of tracking: every setting with its default, its rule and what it costs, in one place.

A field added here becomes an argument of `TrackingOptions`, a flag of `elysium track` and `elysium evaluate` unless it
is made with ``flag=False``, and a default that a checkpoint may set (`tracking` in its processor's configuration). The
code that reads it is the only other change.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

Calibration = tuple[tuple[float, float], ...]
Weights = tuple[float, ...]

_KINDS: dict[Any, Any] = {
    bool: bool,
    int: Integral,
    float: Real,
    Calibration: (list, tuple),
    Weights: (list, tuple),
}


def _option(
    default: Any, text: str, rule: str, allows: Callable[[Any], bool], remedy: str, *, flag: bool = True
) -> Any:
    """Return a dataclass field that is unset (None) until `TrackingOptions.resolve`.

    Args:
        default: value where neither the user nor the checkpoint sets one.
        text: description of the field; it is also the help of its flag.
        rule: completes "NAME must be …".
        allows: whether a value of the field's type follows the rule.
        remedy: completes the error message.
        flag: whether the commands have a flag for it.
    """
    settings = {"default": default, "help": text, "rule": rule, "allows": allows, "remedy": remedy, "flag": flag}
    return dataclasses.field(default=None, metadata=settings)


def _is_calibration(pairs: Any) -> bool:
    """Return whether pairs of numbers in 0..1 rise strictly in both; none at all is allowed, one is not.

    >>> _is_calibration([[0.1, 0.2], [0.5, 0.9]]), _is_calibration([[0.1, 0.9], [0.5, 0.9]])
    (True, False)
    """
    are_pairs = all(
        isinstance(pair, list | tuple)
        and len(pair) == 2
        and all(isinstance(each, int | float) and not isinstance(each, bool) and 0 <= each <= 1 for each in pair)
        for pair in pairs
    )
    return are_pairs and len(pairs) != 1 and all(a < c and b < d for (a, b), (c, d) in pairwise(pairs))


def _are_doubt_weights(weights: Any) -> bool:
    """Return whether there are three finite numbers, of which the first two are 0 or more, or none at all.

    >>> _are_doubt_weights([2, 3.5, -4]), _are_doubt_weights([]), _are_doubt_weights([-2, 3.5, -4])
    (True, True, False)
    """
    numbers = all(isinstance(each, Real) and not isinstance(each, bool) and math.isfinite(each) for each in weights)
    return len(weights) == 0 or (numbers and len(weights) == 3 and min(weights[:2]) >= 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrackingOptions:
    """Options of tracking.

    A field that is not given takes the checkpoint's value (`tracking` of its processor), or else the default below.
    The texts show the defaults; `Tracker.options` gives the values of a checkpoint.

        tracker.track("video.mp4", text="the red car", options=TrackingOptions(zoom=0, window_frames=4))

    Raises:
        ValueError: a value that a field does not allow.
    """

    # A field is None until `resolve`; the annotations are the types that the code reads after it.
    window_frames: int = _option(
        8,
        "Number of frames in a window, which the model sees at once; windows overlap by one frame. Higher values give "
        "more context in fewer passes, but need more memory and fail beyond the number the model was trained on.",
        "2 or more",
        lambda value: value >= 2,
        "a window holds the frame handed on and at least one new frame",
    )
    text_frames: int = _option(
        8,
        "Number of frames in a window that is prompted by text, at most window_frames. 1 detects the object in one "
        "frame and tracks it from there; higher values compare frames, but the model must have learnt it.",
        "1 or more",
        lambda value: value >= 1,
        "1 detects the object in a single frame",
    )
    reask_after: int = _option(
        8,
        "Number of frames without a box after which an object that has a text prompt is detected again from it, and "
        "one that has none is searched for beyond crops around its last box, too. Lower values re-detect sooner but "
        "may switch objects.",
        "1 or more",
        lambda value: value >= 1,
        "at 1 the object is detected again as soon as the last frame of a window has no box",
    )
    reground: bool = _option(
        False,
        "Prompt every window by text instead of by the last box. It recovers from a wrong box, but may switch between "
        "objects that the text fits.",
        "true or false",
        lambda _: True,
        "true needs a text prompt",
    )
    zoom: float = _option(
        0.0,
        "Refine boxes in further passes on crops this many times the object size; 0 disables it, 2 is a good start. "
        "It takes about twice the time. Higher values tolerate faster motion, lower values give finer boxes.",
        "0 or a finite number of 1 or more",
        lambda value: value == 0 or 1 <= value < math.inf,
        "2 shows a square of twice the object's side, and 0 disables the refinement passes",
    )
    max_passes: int = _option(
        3,
        "Maximum number of passes over a window with zoom, the first one included. Higher values refine again where "
        "passes disagree, which costs a pass each.",
        "2 or more",
        lambda value: value >= 2,
        "zoom=0 gives a single pass",
    )
    agreement_iou: float = _option(
        0.5,
        "Minimum IoU between the boxes of two passes over a window; below it another pass follows, with zoom. Higher "
        "values refine more windows again, which is slower.",
        "between 0 and 1",
        lambda value: 0 <= value <= 1,
        "0 never repeats the refinement, 1 nearly always",
    )
    first_pass_crop: float = _option(
        3.0,
        "Side of the first pass's crop around a known box, with zoom, over the side of a refinement crop. Lower "
        "values show small objects larger; higher values keep fast objects inside the crop.",
        "a finite number of 1 or more",
        lambda value: 1 <= value < math.inf,
        "1 shows the first pass as little as the refinement passes",
    )
    crop_margin: float = _option(
        1.4,
        "Minimum side of a crop over the longer side of the box. Raise it where ends of long objects are cut off; "
        "lower values show long objects larger.",
        "a finite number of 1 or more",
        lambda value: 1 <= value < math.inf,
        "1 lets a crop end at the box",
    )
    min_crop_px: int = _option(
        16,
        "Minimum side of a crop in pixels. Raise it where tiny boxes lose the object; lower values show tiny objects "
        "larger.",
        "1 or more",
        lambda value: value >= 1,
        "a crop holds at least one pixel",
    )
    absent_log_odds: float = _option(
        0.0,
        "Bias of the answer 'none' (log odds) for an object that is tracked from a box. Higher values report more "
        "frames as absent; tune it on validation clips.",
        "a finite number",
        math.isfinite,
        "0 leaves the model's own probabilities",
    )
    text_absent_log_odds: float = _option(
        0.0,
        "Bias of the answer 'none' (log odds) for an object that is prompted by text. Higher values report more "
        "frames as absent; tune it on validation clips.",
        "a finite number",
        math.isfinite,
        "0 leaves the model's own probabilities",
    )
    windows_ahead: int = _option(
        3,
        "Number of coming windows of a file that are read in one pass with the current one. Higher values may be "
        "faster and hold more frames in memory; boxes do not change.",
        "0 or more",
        lambda value: value >= 0,
        "0 reads each window when it is prompted",
    )
    score_calibration: Calibration = _option(
        (),
        "Map from the raw score of a box, the probability of its coordinates, to its expected IoU, for an object that "
        "was given by a box: pairs of both, with straight lines between them. It holds for the model and the options "
        "that it was fitted with (`research/calibration.py`); boxes do not change. Empty gives raw scores.",
        "pairs [raw score, IoU] that rise in both within 0..1",
        _is_calibration,
        "such as [[0, 0], [0.4, 0.8], [1, 1]], and [] leaves scores as they are",
        flag=False,
    )
    text_score_calibration: Calibration = _option(
        (),
        "The same map for an object that is prompted by text alone.",
        "pairs [raw score, IoU] that rise in both within 0..1",
        _is_calibration,
        "such as [[0, 0], [0.4, 0.8], [1, 1]], and [] leaves scores as they are",
        flag=False,
    )
    doubt_weights: Weights = _option(
        (),
        "Weights of the doubt of a box, the probability that it is wrong, for an object that was given by a box: of "
        "the track's lowest score, of the change of colours, and the constant (`elysium.tracking.doubt`). They hold "
        "for the model and the options that they were fitted with (`research/doubt.py`); boxes do not change. Empty "
        "gives no doubt.",
        "three finite numbers, the first two 0 or more",
        _are_doubt_weights,
        "such as [2.5, 6, -4], and [] leaves doubt out",
        flag=False,
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, about = getattr(self, field.name), field.metadata
            if value is None:
                continue
            is_kind = isinstance(value, _KINDS[field.type]) and isinstance(value, bool) == (field.type is bool)
            if not is_kind or not about["allows"](value):
                raise ValueError(f"{field.name} must be {about['rule']}, got {value!r}; {about['remedy']}")
        for name in ("score_calibration", "text_score_calibration"):
            if getattr(self, name) is not None:  # a checkpoint's are lists
                object.__setattr__(self, name, tuple(map(tuple, getattr(self, name))))
        if self.doubt_weights is not None:
            object.__setattr__(self, "doubt_weights", tuple(self.doubt_weights))

    def resolve(self, checkpoint: Mapping[str, Any] | None = None) -> "TrackingOptions":
        """Return the options with every field set: the user's values, then the checkpoint's, then the defaults.

        Args:
            checkpoint: fields by name, as `tracking` of a processor holds them.

        Raises:
            ValueError: the checkpoint sets an unknown field, or one to a value that is not allowed.

        >>> options = TrackingOptions(window_frames=4).resolve({"zoom": 2.0, "window_frames": 6})
        >>> options.window_frames, options.zoom, options.max_passes
        (4, 2.0, 3)
        """
        defaults = {field.name: field.metadata["default"] for field in dataclasses.fields(self)}
        unknown = sorted(set(checkpoint or {}) - set(defaults))
        if unknown:
            raise ValueError(
                f"tracking in a processor's configuration must hold names among {', '.join(defaults)}, got "
                f"{', '.join(unknown)}; install a newer elysium-vlm, or remove them"
            )
        return TrackingOptions(**defaults | dict(checkpoint or {}) | self.explicit())

    def explicit(self) -> dict[str, Any]:
        """Return the fields that are set, by name.

        >>> TrackingOptions(zoom=0).explicit()
        {'zoom': 0}
        """
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


DEFAULTS = TrackingOptions().resolve()
